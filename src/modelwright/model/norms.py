"""Normalisation; statistics in at least fp32, whatever goes through."""

from collections.abc import Callable
from typing import Any

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
        self.normed: Normed = rms_normed

    def forward(self, x: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
        return self.normed(self, x)


class LayerNorm(nn.Module):
    """Subtract the mean, divide by the standard deviation, then scale (and shift) each channel.

    Source: Ba, Kiros & Hinton 2016, "Layer Normalization", equation 4.
    """

    def __init__(self, width: int, *, bias: bool, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if bias else None
        self.epsilon = epsilon
        self.normed: Normed = layer_normed

    def forward(self, x: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
        return self.normed(self, x)


Normed = Callable[[Any, Tensor], Tensor]  # of a norm, and what it is to normalise


def rms_normed(norm: RMSNorm, x: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
    """What an RMSNorm makes of a stream."""
    return rms_norm(x, norm.weight, norm.epsilon)


def layer_normed(norm: LayerNorm, x: Float[Tensor, "*axes width"]) -> Float[Tensor, "*axes width"]:
    """What a LayerNorm makes of a stream."""
    return layer_norm(x, norm.weight, norm.bias, norm.epsilon)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """See `RMSNorm`."""
    return functional.rms_norm(widened(x), weight.shape, weight, epsilon).to(x.dtype)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float) -> Tensor:
    """See `LayerNorm`."""
    return functional.layer_norm(widened(x), weight.shape, weight, bias, epsilon).to(x.dtype)


def widened(x: Tensor) -> Tensor:
    """The same numbers in fp32, or in fp64 if that is what they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def make_norm(kind: NormKind, width: int, *, bias: bool, epsilon: float) -> nn.Module:
    """The normalisation that a config names."""
    if kind == "layernorm":
        return LayerNorm(width, bias=bias, epsilon=epsilon)
    return RMSNorm(width, epsilon=epsilon) if kind == "rmsnorm" else nn.Identity()
