"""The bill of a run: what it will cost, found before it begins, and what it did cost, beside it.

Read `step.py` first: the trainer's own step, followed on tensors that hold no numbers. `plan.py`
makes a whole bill of it, and `ranks.py` one for several GPUs. `calibrating.py` measures a machine,
from which `timing.py` tells how long a step takes; `verify.py` compares with what came of it.
"""
