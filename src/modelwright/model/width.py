"""Maximal update parametrisation: a learning rate that was found narrow still fits when wider.

With the same learning rate, each step changes what a wider layer computes by more, because more
inputs move together. What follows here, for AdamW and for a model `ratio` times as wide as one
that was tuned (below 1 if it is wider: base width over width), leaves each layer's output and its
change per step as large as they were:

| parameters | standard deviation | learning rate |
| --- | --- | --- |
| matrices in the blocks | sqrt(ratio) times the base's | ratio times |
| embeddings, positions, gains and biases | the base's | once |
| an unembedding of its own | ratio times the base's | ratio times |
| gains before a shared unembedding | begin at ratio, not at 1 | ratio times |

There is no multiplier in the forward pass: one before the logits is the same as a smaller
unembedding that learns more slowly, and where that is the embedding itself, as a smaller gain of
the norm before it. Exported weights need nothing that other programs do not know.

Under Muon, whose updates have all singular values alike, the factor of the blocks' matrices is
sqrt(ratio). Weight decay, which takes its share times the learning rate, is divided by the factor
of the rate, so that as much is lost each step at every width.

The heads' width has to stay: attention divides by its root, where the rule would have it divide by
the width itself, which is the same up to a constant only while it does not change.

Source: Yang et al. 2021, "Tensor Programs V", table 3 (the form without multipliers) and appendix
B.1 for the heads; Yang, Simon & Bernstein 2023, "A Spectral Condition for Feature Learning", for
Muon; Wortsman et al. 2023, "Small-scale proxies for large-scale Transformer training
instabilities", section 3.2.2, for the decay.
"""

import math
from typing import Literal

Role = Literal["hidden", "constant", "output"]


def role_of(name: str, *, n_axes: int, is_tied: bool) -> Role:
    """What a parameter is to the rule.

    Args:
        is_tied: whether the unembedding is the embedding.
    """
    if name.startswith("blocks."):
        return "hidden" if n_axes == 2 else "constant"
    reads_out = ("norm.weight", "norm.bias") if is_tied else ("unembedding.weight",)
    return "output" if name in reads_out else "constant"


def initial_factor(role: Role, ratio: float) -> float:
    """By what a parameter's initial size differs from that of the model that was tuned."""
    return {"hidden": math.sqrt(ratio), "constant": 1.0, "output": ratio}[role]


def rate_factor(role: Role, ratio: float, rule: str) -> float:
    """By what a parameter's learning rate is multiplied under an update rule."""
    if role == "constant" or ratio == 1:
        return 1.0
    return math.sqrt(ratio) if rule == "muon" else ratio
