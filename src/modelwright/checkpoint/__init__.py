"""Models on disk: bundles that load on their own, and what resuming needs beside them.

Read `bundle.py` first. Other rooms use `bundle.save_bundle`, `bundle.load_bundle`,
`resume.save_checkpoint`, `resume.newest_checkpoint` and `resume.load_training_state`.
"""
