"""How good a model is: on known tasks, on any text, and beside another model.

Read `scoring.py`, then `running.py`. Training uses `perplexity.validation_loss`; the command line
uses `running.Evaluation`, and `harness` is loaded only where lm-evaluation-harness is asked for.
"""
