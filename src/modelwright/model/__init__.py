"""The network: one decoder-only Transformer whose parts are chosen in constructors.

Read `transformer.py` first, then `attention.py`. Other rooms use `config.ModelConfig`,
`transformer.Transformer`, `initialise.initialise`, `loss.next_token_loss` and, before training,
`attention.choose_attention` and `recompute.recompute`.
"""
