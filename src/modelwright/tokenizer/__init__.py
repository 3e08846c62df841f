"""Text to tokens and back: byte-level BPE, trained here or read from other programs' files.

Read `reference.py` first: it is the whole algorithm in plain Python, and the specification of the
compiled core in `native/`. Other rooms use `tokenizer.Tokenizer`, `tokenizer.END_OF_TEXT`,
`training.train_tokenizer` with its `TrainingProgress`, `inspection.inspect_tokenizer`, and the
readers and writers in `formats.py`, `rank_files.py` and `hub.py`.
"""
