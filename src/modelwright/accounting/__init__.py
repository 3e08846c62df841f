"""What things cost, in closed form, and how fast the hardware is at best.

Read `parameters.py` first, then `flops.py`; `hardware.py` knows or measures what a device can do.
Other rooms use `parameters.count_parameters`, `flops.forward_flops`, `flops.training_flops` and
`hardware.peak_flops`.
"""
