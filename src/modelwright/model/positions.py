"""How a token knows its place: a learned table on the stream, or rotated queries and keys."""

import math

import torch
from einops import rearrange
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional

Turns = tuple[Float[Tensor, "#batch 1 seq pair"], Float[Tensor, "#batch 1 seq pair"]]


class LearnedPositions(nn.Module):
    """Add one learned vector per position, as GPT-2 does."""

    def __init__(self, context: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(context, d_model))

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], positions: Int[Tensor, "batch seq"] | None
    ) -> Float[Tensor, "batch seq d_model"]:
        """Args:
        positions: of each token in its document; None counts from the first of each row.
        """
        if positions is None:
            return x + self.weight[: x.shape[1]].to(x.dtype)
        return x + functional.embedding(positions, self.weight).to(x.dtype)


class NoTable(nn.Module):
    """Nothing is added: positions come from elsewhere, or from nowhere."""

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], positions: Int[Tensor, "batch seq"] | None
    ) -> Float[Tensor, "batch seq d_model"]:
        return x


class Rotary(nn.Module):
    """The cosine and sine of the angle by which each pair of channels is turned at a position.

    Source: Su et al. 2021, "RoFormer", equation 34.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, context: int, frequencies: Float64[Tensor, " pair"]) -> None:
        """Args:
        frequencies: of each pair of channels, in radians a token.
        """
        super().__init__()
        angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
        # Not saved with the weights: they follow from the config.
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(
        self, n_tokens: int, positions: Int[Tensor, "batch seq"] | None, dtype: torch.dtype
    ) -> Turns:
        """Cosines and sines for every position of a batch, the same for all heads.

        Args:
            positions: of each token in its document; None counts from the first of each row.
        """
        if positions is None:
            cosines, sines = self.cosines[None, :n_tokens], self.sines[None, :n_tokens]
        else:
            cosines, sines = self.cosines[positions], self.sines[positions]
        return cosines[:, None].to(dtype), sines[:, None].to(dtype)


class NoTurns(nn.Module):
    """Queries and keys stay as they are."""

    def forward(
        self, n_tokens: int, positions: Int[Tensor, "batch seq"] | None, dtype: torch.dtype
    ) -> None:
        return None


def turned(
    x: Float[Tensor, "batch head seq d_head"], turns: Turns | None
) -> Float[Tensor, "batch head seq d_head"]:
    """Turn each pair of channels by its angle; None leaves them.

    The pair is channel i and channel i + d_head/2, as Llama's published weights have it.
    """
    if turns is None:
        return x
    cosines, sines = turns
    first, second = rearrange(x, "batch head seq (half pair) -> half batch head seq pair", half=2)
    return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)


def rotary_frequencies(d_head: int, *, theta: float) -> Float64[Tensor, " pair"]:
    """Radians a token, from 1 for the first pair of channels down to nearly 1 / theta."""
    return theta ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)


def stretched(
    frequencies: Float64[Tensor, " pair"],
    *,
    factor: float,
    low: float,
    high: float,
    original_context: int,
) -> Float64[Tensor, " pair"]:
    """Slow the low frequencies down by `factor`, as Llama 3.1 does for contexts beyond training.

    A pair that turns less than `low` times in the original context is slowed in full, one that
    turns more than `high` times not at all, and between them the share falls evenly.

    Source: Grattafiori et al. 2024, "The Llama 3 Herd of Models", section 3.4; the rule is that of
    the released code.
    """
    n_turns = original_context * frequencies / (2 * math.pi)
    kept = ((n_turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / factor)
