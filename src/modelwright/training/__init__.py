"""Making a model: the step, the loop around it, and what happens now and then.

Read `step.py` first, then `loop.py`, then `assembly.py`, which puts a run together from its
config. Other rooms use `config.RunConfig`, `assembly.train` and `metrics.read_metrics`.
"""
