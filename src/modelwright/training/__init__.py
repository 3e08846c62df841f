"""Making a model: the step, the loop around it, and what happens now and then.

Read `step.py` first, then `loop.py`, then `runs.py`, which carries a run through from its config
(`assembly.py` puts together what it is made of, `choices.py` settles what settings leave open).
Other rooms use `config.RunConfig`, `runs.train`, `runs.resume` and `metrics.read_metrics`.
"""
