"""Compiled editions of what a model does to each number, for a processor core a portion.

torch spreads each elementwise operation over all cores and makes several passes over memory. In a
lane of `training.lanes`, which has one core, a single pass that keeps the slope instead of the
input costs a fraction of that.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable

from modelwright._native import fill_gelu, fill_swiglu, turn_into_slope
from modelwright.model.cross_entropy import surprise_and_slope
from modelwright.model.mlp import Mlp, SwigluMlp, activations, gated_silu
from modelwright.model.transformer import Transformer


def use_core_kernels(model: Transformer) -> None:
    """Let a model compute its loss, tanh GELU and SwiGLU by the compiled core, in place.

    For one processor core a portion: the kernels use the thread that calls them and no other, so a
    model outside the lanes gets slower by them where it has several cores. Other activations, other
    dtypes than fp32 and bf16, and other devices than the processor are computed as before.
    """
    model.slope_of = core_surprise_and_slope
    for block in model.blocks:
        mlp = block.mlp
        if isinstance(mlp, Mlp) and mlp.activation is tanh_gelu:
            mlp.activation = core_gelu
        elif isinstance(mlp, SwigluMlp) and mlp.gated is gated_silu:
            mlp.gated = core_gated_silu


tanh_gelu = activations["gelu_tanh"]


def suits_core(*tensors: Tensor) -> bool:
    """Whether the compiled core computes with these."""
    return all(
        x.is_cpu and x.is_contiguous() and x.dtype in (torch.float32, torch.bfloat16)
        for x in tensors
    )


def core_surprise_and_slope(
    logits: Float[Tensor, "tokens rows"],
    targets: Int[Tensor, " tokens"],
    n_vocab: int,
    scale: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, "tokens rows"]]:
    """The compiled edition of `surprise_and_slope`; the logits become the slope in their place.

    Rows that do not count are not read, so that even logits that are no numbers have a slope of
    zero there.
    """
    if not suits_core(logits):
        return surprise_and_slope(logits, targets, n_vocab, scale)
    whole = targets.to(torch.int64).contiguous()
    if isinstance(logits, FakeTensor):
        return logits.new_empty((), dtype=torch.float32), logits
    return torch.tensor(turn_into_slope(logits, whole, n_vocab, scale)), logits


def core_gelu(x: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """The compiled edition of the tanh form of GELU."""
    return _Gelu.apply(x) if suits_core(x) else tanh_gelu(x)


def core_gated_silu(
    gate: Float[Tensor, "*axes"], up: Float[Tensor, "*axes"]
) -> Float[Tensor, "*axes"]:
    """The compiled edition of `gated_silu`."""
    if suits_core(gate, up) and gate.dtype == up.dtype:
        return _GatedSilu.apply(gate, up)
    return gated_silu(gate, up)


# Slopes go to memory of their own: recomputing blocks keep what a matrix product gave, and it has
# to stay as it was.
class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        value = torch.empty_like(x)
        slope = torch.empty_like(x) if any(ctx.needs_input_grad) else None
        if not isinstance(x, FakeTensor):  # which a plan traces, and which holds no numbers
            fill_gelu(x, value, slope)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope


class _GatedSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        value = torch.empty_like(gate)
        slopes = (
            (torch.empty_like(gate), torch.empty_like(gate))
            if any(ctx.needs_input_grad)
            else (None, None)
        )
        if not isinstance(gate, FakeTensor):
            fill_swiglu(gate, up, value, *slopes)
        ctx.save_for_backward(*slopes)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate_slope, up_slope = ctx.saved_tensors
        return gradients[0] * gate_slope, gradients[0] * up_slope
