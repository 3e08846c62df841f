"""What things cost: parameters, FLOPs, bytes, seconds, and what the hardware has of each.

Read `parameters.py` first, then `flops.py`; both are closed forms of a model's config, as are
`memory.py`, `inference.py` and the laws of `scaling.py`. `tracing.py` follows what a real step
allocates, and `allocator.py` what a GPU's memory comes to under it. `hardware.py` reads the table
of devices, `measured_peak.py` measures the one at hand, and `catalogue.py` holds the open models
that people compare.
"""
