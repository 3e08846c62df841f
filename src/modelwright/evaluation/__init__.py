"""How good a model is: on known tasks, on any text, beside another model, and around its weights.

Read `scoring.py`, then `running.py`. Training uses `perplexity.validation_loss`, and `asking.py`
for scores on tasks; the command line uses `running.Evaluation`, and `harness` is loaded only
where lm-evaluation-harness is asked for.
`landscape.survey` measures the loss around a model: `directions.py` moves its weights,
`landscape_map.py` says which points there are and what they tell, and `landscape_file.py` keeps
them.
"""
