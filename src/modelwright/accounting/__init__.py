"""What things cost: parameters, FLOPs, bytes, seconds, and what the hardware has of each.

Read `parameters.py` first, then `flops.py`; both are closed forms of a model's config, as are
`memory.py`, `inference.py` and the laws of `scaling.py`. `tracing.py` follows what a real step
allocates and `trace.py` is the record of it, `allocator.py` what a GPU's memory comes to under it,
and `rates.py` how long each operation takes on a machine that was measured; `sharing.py` divides it
all among ranks. `hardware.py` reads the table of devices, `measured_peak.py` measures the one at
hand, `catalogue.py` holds the open models that people compare, and `textbook.py` what texts say.
"""
