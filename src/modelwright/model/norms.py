"""Normalisation of the residual stream; statistics in fp32, whatever goes through."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from modelwright.model.config import NormKind


class RMSNorm(nn.Module):
    """Divide by the root mean square, then scale each channel.

    Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization", equation 4.
    """

    def __init__(self, d_model: int, *, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model))
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        scaled = functional.rms_norm(x.float(), self.weight.shape, self.weight, self.epsilon)
        return scaled.to(x.dtype)


class LayerNorm(nn.Module):
    """Subtract the mean, divide by the standard deviation, then scale (and shift) each channel.

    Source: Ba, Kiros & Hinton 2016, "Layer Normalization", equation 4.
    """

    def __init__(self, d_model: int, *, bias: bool, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model))
        self.bias = nn.Parameter(torch.empty(d_model)) if bias else None
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        scaled = functional.layer_norm(
            x.float(), self.weight.shape, self.weight, self.bias, self.epsilon
        )
        return scaled.to(x.dtype)


def make_norm(kind: NormKind, d_model: int, *, bias: bool) -> nn.Module:
    """The normalisation that a config names."""
    return LayerNorm(d_model, bias=bias) if kind == "layernorm" else RMSNorm(d_model)
