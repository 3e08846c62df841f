"""Documents, shards and batches: any text to checked token shards, in an order by seed.

Read `building.py` first, then `sampler.py`. Other rooms use `building.DataConfig`,
`building.build_data`, `building.open_data`, `sampler.batch_samples` and `loader.Chunks`; the
built-in corpus is `stories`.
"""
