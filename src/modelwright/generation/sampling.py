"""From logits to the next token.

Chance comes in as numbers from 0 to 1, one a row, each a function of its text's seed and the place
of the token: what a text becomes does not depend on which others are written beside it.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from modelwright.generation.config import SamplingConfig
from modelwright.runtime.seeding import stream_seed


def chance(seed: int, place: int) -> float:
    """The number from 0 up to, but not, 1 that decides the token at a place of a text."""
    bits = 53  # of a float's fraction, or else the largest numbers would round to 1
    return (stream_seed(seed, f"sampling/{place}") >> (63 - bits)) / 2**bits


def next_tokens(
    logits: Float[Tensor, "batch vocab"],
    config: SamplingConfig,
    chances: Float64[Tensor, " batch"],
    seen: Bool[Tensor, "batch vocab"] | None = None,
) -> Int[Tensor, " batch"]:
    """Choose one token a row.

    Args:
        chances: of each row, from 0 to below 1; greedy choice needs none.
        seen: which tokens each text holds; only a repetition penalty asks for it.
    """
    if seen is not None and config.repetition_penalty != 1:
        logits = penalised(logits, seen, config.repetition_penalty)
    if config.temperature == 0:
        return logits.argmax(-1)
    if logits.device.type == "cpu":
        # A row at a time stays in the processor's cache.
        rows = zip(logits.split(1), chances.split(1), strict=True)
        return torch.cat([drawn_from_survivors(row, config, number) for row, number in rows])
    return drawn(narrowed(logits.float(), config), chances)


def drawn_from_survivors(
    logits: Float[Tensor, "1 vocab"], config: SamplingConfig, chance: Float64[Tensor, " 1"]
) -> Int[Tensor, " 1"]:
    """`drawn` from `narrowed` logits of one row; what top_k leaves out is not looked at again."""
    if not 0 < config.top_k < logits.shape[1]:
        return drawn(narrowed(logits.float(), config), chance)
    least = logits.topk(config.top_k, dim=-1).values[:, -1:]
    ids = (~(logits < least)).nonzero()[:, 1]
    return ids[drawn(narrowed(logits[:, ids].float(), replace(config, top_k=0)), chance)]


def narrowed(
    logits: Float[Tensor, "batch vocab"], config: SamplingConfig
) -> Float[Tensor, "batch vocab"]:
    """Apply temperature, top_k, top_p and min_p, in this order."""
    logits = logits / config.temperature
    if config.top_k:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p < 1:
        logits = keep_top_p(logits, config.top_p)
    return keep_min_p(logits, config.min_p) if config.min_p else logits


def drawn(
    logits: Float[Tensor, "batch vocab"], chances: Float64[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """The token at which the sum of chances, in the order of the ids, passes a row's number."""
    sums = logits.softmax(-1).double().cumsum(-1)
    total = sums[:, -1]
    # The number may round up to the total, which no sum passes.
    below = torch.minimum(chances * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(sums, below[:, None], right=True).squeeze(-1)


def penalised(
    logits: Float[Tensor, "batch vocab"],
    seen: Bool[Tensor, "batch vocab"],
    penalty: float | Float[Tensor, "batch 1"],
) -> Float[Tensor, "batch vocab"]:
    """Make tokens that were seen less likely, whatever the sign of their logits.

    Source: Keskar et al. 2019, "CTRL", section 4.1; there a negative logit becomes likelier, here
    it is multiplied, as the usual implementations do.
    """
    changed = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, changed.to(logits.dtype), logits)


def keep_top_k(logits: Float[Tensor, "batch vocab"], top_k: int) -> Float[Tensor, "batch vocab"]:
    """Set all but the `top_k` largest logits of each row to minus infinity.

    What equals the last of them stays too.
    """
    least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Float[Tensor, "batch vocab"], top_p: float) -> Float[Tensor, "batch vocab"]:
    """Keep the smallest set of likeliest tokens with chances of at least `top_p` together.

    Of equally likely tokens those with the larger ids come first.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    if logits.device.type != "cpu" or logits.shape[1] <= n_bins:
        return keep_top_p_by_sorting(logits, top_p)
    rows = [row.masked_fill(~nucleus(row, top_p), -torch.inf) for row in logits]
    return torch.stack(rows) if rows else logits


def keep_top_p_by_sorting(
    logits: Float[Tensor, "batch vocab"], top_p: float | Float[Tensor, "batch 1"]
) -> Float[Tensor, "batch vocab"]:
    """The definition of `keep_top_p`: a token is left out if those up to it, the least likely ones
    first, have chances of no more than 1 - `top_p` together."""
    ordered, indices = logits.sort(dim=-1, stable=True)
    is_left_out = ordered.softmax(-1).cumsum(-1) <= 1 - top_p
    is_left_out[:, -1].fill_(False)
    return logits.masked_fill(is_left_out.scatter(-1, indices, is_left_out), -torch.inf)


n_bins, bins_a_nat = 4096, 128  # the last bin holds all that is e^-32 as likely as the best or less


def nucleus(logits: Float[Tensor, " vocab"], top_p: float) -> Bool[Tensor, " vocab"]:
    """The tokens that `keep_top_p` keeps, with only a few of them sorted.

    Tokens about equally likely share a bin. All in the bins before the one in which the chances
    reach `top_p` are kept, none after it, and those in it are looked at one by one.
    """
    chances = logits.softmax(-1).double()
    # Infinities end in the last bin; what is no number ends in the first.
    distance = (logits.max() - logits).mul_(bins_a_nat).clamp_(max=n_bins - 1)
    bins = distance.to(torch.int64).clamp_(min=0)
    sums = torch.bincount(bins, chances, n_bins).cumsum(0)
    last = min(int(torch.searchsorted(sums, top_p)), n_bins - 1)
    kept = bins < last
    members = (bins == last).nonzero()[:, 0]
    members = members[logits[members].sort(stable=True).indices.flip(0)]
    likelier = chances[members].cumsum(0) - chances[members]
    if last:
        likelier += sums[last - 1]
    kept[members[likelier < top_p]] = True
    return kept


def keep_min_p(
    logits: Float[Tensor, "batch vocab"], min_p: float | Float[Tensor, "batch 1"]
) -> Float[Tensor, "batch vocab"]:
    """Keep tokens with at least `min_p` of the likeliest one's chance.

    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3.
    """
    chances = logits.softmax(-1)
    least = min_p * chances.amax(-1, keepdim=True)
    return logits.masked_fill(chances < least, -torch.inf)
