"""What each position computes on its own, between two attentions."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from modelwright.model.config import MlpKind
from modelwright.model.linear import Linear


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)².

    Source: So et al. 2021, "Primer", section 4.
    """
    return functional.relu(x).square()


activations: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
    "relu2": squared_relu,
}


class Mlp(nn.Module):
    """down(f(up(x))); GPT-2's f is the tanh form of GELU.

    Source: Hendrycks & Gimpel 2016, "Gaussian Error Linear Units", section 2, for GELU and SiLU.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: Callable[[Tensor], Tensor],
        bias: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.up = Linear(d_model, d_ff, bias=bias, dtype=dtype)
        self.down = Linear(d_ff, d_model, bias=bias, dtype=dtype)
        self.activation = activation
        self.hidden_units: HiddenUnits = hidden_units

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        return self.down(self.hidden_units(self, x))


HiddenUnits = Callable[[Mlp, Tensor], Tensor]


def hidden_units(mlp: Mlp, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_ff"]:
    """What an MLP has between its two products."""
    return mlp.activation(mlp.up(x))


def gated_silu(gate: Tensor, up: Tensor) -> Tensor:
    """SiLU(gate) * up."""
    return functional.silu(gate) * up


class SwigluMlp(nn.Module):
    """down(SiLU(gate(x)) * up(x)).

    Source: Shazeer 2020, "GLU Variants Improve Transformer", equation 6.
    """

    def __init__(self, d_model: int, d_ff: int, *, bias: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.gate = Linear(d_model, d_ff, bias=bias, dtype=dtype)
        self.up = Linear(d_model, d_ff, bias=bias, dtype=dtype)
        self.down = Linear(d_ff, d_model, bias=bias, dtype=dtype)
        self.gated = gated_silu

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        return self.down(self.gated(self.gate(x), self.up(x)))


def make_mlp(
    kind: MlpKind, d_model: int, d_ff: int, *, bias: bool, dtype: torch.dtype
) -> nn.Module:
    """The MLP that a config names."""
    if kind == "swiglu":
        return SwigluMlp(d_model, d_ff, bias=bias, dtype=dtype)
    return Mlp(d_model, d_ff, activation=activations[kind], bias=bias, dtype=dtype)
