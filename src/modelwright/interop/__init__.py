"""Other people's model formats, in and out.

Read `name_maps.py` first: what each family calls its parameters and how it lays them out. For
settings, `families.py` tells which family a model of ours is one of, and `configs.py` reads theirs;
both refuse what the other side cannot express. On these stand `huggingface.py` (folders and
repositories that transformers and vLLM open; `hub.py` fetches, `foreign_weights.py` reads,
`agreement.py` has transformers load an export and compares) and `gguf.py` (one file for llama.cpp,
read back by `gguf_check.py`). `folders.py` puts a finished folder in its place, and `card.py`
describes a model.

Other rooms use `huggingface.import_model` and `export_model`, and `gguf.export_gguf`.
"""
