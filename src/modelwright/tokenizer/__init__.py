"""Text to tokens and back: byte-level BPE, trained here or read from GPT-2's files.

Read `reference.py` first: it is the whole algorithm in plain Python, and the specification of the
compiled core in `native/`. Other rooms use `tokenizer.Tokenizer`, `tokenizer.END_OF_TEXT`,
`training.train_tokenizer` with its `TrainingProgress`, and the readers and writers in `formats.py`.
"""
