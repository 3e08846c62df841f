"""How good a model is.

Read `perplexity.py`. Other rooms use `perplexity.validation_loss`.
"""
