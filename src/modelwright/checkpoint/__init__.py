"""Models on disk: bundles that load on their own, and what resuming needs beside them.

Read `bundle.py` first, then `resume.py`, which finds and reads the checkpoints of a run. They are
written by `snapshot.py`, which copies a run's tensors between two steps, and `writer.py`, which
brings the copy to the disk while training goes on; `keeping.py` knows which of them stay and how
much room they take.

Other rooms use `bundle.write_bundle`, `load_bundle`, `load_weights` and `distinct_weights`;
`snapshot.Buffers` and `take_snapshot`; `writer.Writer` and `write_checkpoint`; `keeping.Keep`,
`checkpoint_bytes`, `require_space`, `clear_unfinished` and `forget_checkpoints_after`; and
`resume.newest_checkpoint`, `checkpoint_at`, `load_state` and `load_optimizer_tensors`.
"""
