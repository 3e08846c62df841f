"""How a token knows its place: a learned table on the stream, or rotated queries and keys."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class LearnedPositions(nn.Module):
    """Add one learned vector per position, as GPT-2 does."""

    def __init__(self, context: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(context, d_model))

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        return x + self.weight[: x.shape[1]].to(x.dtype)


class Rotary(nn.Module):
    """Turn each pair of channels by an angle that grows with the position.

    The pair is channel i and channel i + d_head/2, as Llama's published weights have it.

    Source: Su et al. 2021, "RoFormer", equation 34.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, context: int, d_head: int, *, theta: float) -> None:
        super().__init__()
        frequencies = theta ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
        angles = torch.outer(torch.arange(context, dtype=torch.float64), frequencies)
        # Not saved with the weights: they follow from the config.
        self.register_buffer("cosines", angles.cos().float(), persistent=False)
        self.register_buffer("sines", angles.sin().float(), persistent=False)

    def forward(
        self, x: Float[Tensor, "batch head seq d_head"]
    ) -> Float[Tensor, "batch head seq d_head"]:
        first, second = rearrange(
            x, "batch head seq (half pair) -> half batch head seq pair", half=2
        )
        cosines = self.cosines[: x.shape[2]].to(x.dtype)
        sines = self.sines[: x.shape[2]].to(x.dtype)
        return torch.cat(
            (first * cosines - second * sines, second * cosines + first * sines), dim=-1
        )
