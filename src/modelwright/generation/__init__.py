"""Using a model: text in, text out.

Read `engine.py` first, then `cached_model.py`; what a GPU does instead is in `decode_step.py` and
`row_drawing.py`. Other rooms use `engine.generate`, `engine.Engine` with `requests.Request`,
`beam.beam_search` and `config.SamplingConfig`.
"""
