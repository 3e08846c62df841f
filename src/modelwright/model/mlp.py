"""What each position computes on its own, between two attentions."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from modelwright.model.config import MlpKind
from modelwright.model.linear import Linear


class GeluMlp(nn.Module):
    """down(GELU(up(x))), with the tanh form of GELU that GPT-2 was trained with.

    Source: Hendrycks & Gimpel 2016, "Gaussian Error Linear Units", section 2.
    """

    def __init__(self, d_model: int, d_ff: int, *, bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.up = Linear(d_model, d_ff, bias=bias, dtype=dtype)
        self.down = Linear(d_ff, d_model, bias=bias, dtype=dtype)

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        return self.down(functional.gelu(self.up(x), approximate="tanh"))


class SwigluMlp(nn.Module):
    """down(SiLU(gate(x)) * up(x)).

    Source: Shazeer 2020, "GLU Variants Improve Transformer", equation 6.
    """

    def __init__(self, d_model: int, d_ff: int, *, bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.gate = Linear(d_model, d_ff, bias=bias, dtype=dtype)
        self.up = Linear(d_model, d_ff, bias=bias, dtype=dtype)
        self.down = Linear(d_ff, d_model, bias=bias, dtype=dtype)

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


def make_mlp(
    kind: MlpKind, d_model: int, d_ff: int, *, bias: bool, dtype: torch.dtype
) -> nn.Module:
    """The MLP that a config names."""
    mlp = GeluMlp if kind == "gelu" else SwigluMlp
    return mlp(d_model, d_ff, bias=bias, dtype=dtype)
