"""Normalisation; statistics in at least fp32, whatever goes through."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from modelwright.model.config import NormKind


class RMSNorm(nn.Module):
    """Divide by the root mean square, then scale each channel.

    Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """

    def __init__(self, width: int, *, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
        scaled = functional.rms_norm(widened(x), self.weight.shape, self.weight, self.epsilon)
        return scaled.to(x.dtype)


class LayerNorm(nn.Module):
    """Subtract the mean, divide by the standard deviation, then scale (and shift) each channel.

    Source: Ba, Kiros & Hinton 2016, "Layer Normalization", equation 4.
    """

    def __init__(self, width: int, *, bias: bool, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if bias else None
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
        scaled = functional.layer_norm(
            widened(x), self.weight.shape, self.weight, self.bias, self.epsilon
        )
        return scaled.to(x.dtype)


def widened(x: Tensor) -> Tensor:
    """The same numbers in fp32, or in fp64 if that is what they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def make_norm(kind: NormKind, width: int, *, bias: bool, epsilon: float) -> nn.Module:
    """The normalisation that a config names."""
    if kind == "layernorm":
        return LayerNorm(width, bias=bias, epsilon=epsilon)
    return RMSNorm(width, epsilon=epsilon) if kind == "rmsnorm" else nn.Identity()
