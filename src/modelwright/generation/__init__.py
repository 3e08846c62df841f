"""Using a model: text in, text out.

Read `engine.py` first. Other rooms use `engine.generate` and `config.SamplingConfig`.
"""
