"""The matrix product with explicit precision: fp32 weights, cast where they are used."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

# Input in the dtype to multiply in, weight and bias as they are kept.
Multiply = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def plain_product(
    x: Float[Tensor, "*axes d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, " d_out"] | None,
) -> Float[Tensor, "*axes d_out"]:
    """x Wᵀ + b, multiplied in the dtype of x."""
    bias = None if bias is None else bias.to(x.dtype)
    return functional.linear(x, weight.to(x.dtype), bias)


class Linear(nn.Module):
    """y = x Wᵀ + b, multiplied in `dtype` whatever the dtype of the weights.

    The weights stay in fp32 for the optimizer; the cast is an operation like any other, so
    that what it costs can be counted.
    """

    def __init__(self, d_in: int, d_out: int, *, bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_out, d_in))
        self.bias = nn.Parameter(torch.empty(d_out)) if bias else None
        self.dtype = dtype
        self.multiply: Multiply = plain_product

    def forward(self, x: Float[Tensor, "*axes d_in"]) -> Float[Tensor, "*axes d_out"]:
        return self.multiply(x.to(self.dtype), self.weight, self.bias)


class Embedding(nn.Module):
    """One vector per token, in `dtype`; rows beyond the vocabulary are only there for the shape."""

    def __init__(self, n_rows: int, d_model: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_rows, d_model))
        self.dtype = dtype

    def forward(self, ids: Int[Tensor, "*axes"]) -> Float[Tensor, "*axes d_model"]:
        return functional.embedding(ids, self.weight).to(self.dtype)
