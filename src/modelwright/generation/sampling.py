"""From logits to the next token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelwright.generation.config import SamplingConfig


def next_token(
    logits: Float[Tensor, "batch vocab"], config: SamplingConfig, generator: torch.Generator
) -> Int[Tensor, " batch"]:
    """Draw one token a row.

    Source of top_p: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration",
    section 3.1.
    """
    if config.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / config.temperature
    if config.top_k:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p < 1:
        logits = keep_top_p(logits, config.top_p)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)


def keep_top_k(logits: Float[Tensor, "batch vocab"], top_k: int) -> Float[Tensor, "batch vocab"]:
    """Set all but the `top_k` largest logits of each row to minus infinity."""
    candidates = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
    kept = torch.full_like(logits, -torch.inf)
    return kept.scatter(-1, candidates.indices, candidates.values)


def keep_top_p(logits: Float[Tensor, "batch vocab"], top_p: float) -> Float[Tensor, "batch vocab"]:
    """Keep the smallest set of likeliest tokens with chances of at least `top_p` together."""
    ordered, indices = logits.sort(descending=True, dim=-1)
    chances = ordered.softmax(-1)
    before = chances.cumsum(-1) - chances  # what the likelier tokens hold already
    ordered = ordered.masked_fill(before >= top_p, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter(-1, indices, ordered)
