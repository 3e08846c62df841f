"""Documents, shards and batches: any text to checked token shards, in an order by seed.

Read `building.py` first, then `sampler.py`. Other rooms use `config.DataConfig`,
`building.build_data`, `folder.open_data`, `sampler.batch_samples`, the cuts `loader.Chunks` and
`packing.Packed`, and `loader.Loader`; the built-in corpus is `stories`.
"""
