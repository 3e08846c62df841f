"""The blocks' matrix products in eight bits, which newer GPUs multiply faster than sixteen.

Weights, inputs and results keep their formats; only the two factors of a product are rounded, each
in units of its own that are measured anew every time. What enters a product and its weights become
e4m3, with three bits after the leading one; gradients, whose sizes differ more, become e5m2 with
two. Rounding and measuring are ordinary operations, made for torch.compile to fuse: without it they
take longer than the faster product saves.

The units of an input come from all tokens that go through a layer at once, so that a token's result
differs in its rounding with the company it is in.

Source: Micikevicius et al. 2022, "FP8 Formats for Deep Learning", sections 3 and 4, for which
format is used where; there the units come from earlier steps or are searched for.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from modelwright.model.config import ModelConfig
from modelwright.model.linear import Linear, plain_product
from modelwright.model.transformer import Transformer

multiple = 16  # which the GPU wants of all sides of a product
least_capability = (8, 9)  # of an NVIDIA GPU that multiplies in fp8, as CUDA numbers it
# Taken as the largest number of a tensor that has only smaller ones, or else the division by its
# units would overflow.
least_measured = 1e-30


def fp8_obstacle(device: torch.device) -> str | None:
    """Why products in fp8 are not to be had on a device, to follow a "but"; None if they are."""
    if device.type != "cuda":
        return (
            f"the device is '{device.type}', and fp8 products need an NVIDIA GPU that has them, "
            "such as an H100"
        )
    name = torch.cuda.get_device_name(device)
    return obstacle_of_gpu(name, torch.cuda.get_device_capability(device))


def obstacle_of_gpu(name: str, capability: tuple[int, int]) -> str | None:
    """The same of a GPU that need not be here."""
    if capability >= least_capability:
        return None
    return (
        f"{name} is too old for fp8 products: its compute capability is "
        f"{'.'.join(map(str, capability))}, and they begin with "
        f"{'.'.join(map(str, least_capability))}"
    )


def use_fp8(model: Transformer) -> None:
    """Let the linear layers in a model's blocks multiply in fp8, in place.

    The embedding and the way back to the vocabulary stay as they are. Parameters keep their names
    and formats. Where the number of tokens at once is no multiple of `multiple`, as while
    sampling, a layer multiplies as before.

    Raises:
        ValueError: if a layer has a width that the GPU does not multiply.
    """
    layers = {
        f"blocks.{name}": module
        for name, module in model.blocks.named_modules()
        if isinstance(module, Linear)
    }
    for name, layer in layers.items():
        d_out, d_in = layer.weight.shape
        if d_in % multiple or d_out % multiple:
            raise ValueError(
                f"training.fp8 is true, but {name} takes {d_in} numbers to {d_out}, and a GPU "
                f"multiplies in fp8 only widths that are multiples of {multiple}; "
                f"{_widths_that_work(model.config)} would do, or leave training.fp8 out"
            )
    for layer in layers.values():
        layer.multiply = fp8_product


def _widths_that_work(config: ModelConfig) -> str:
    """The nearest larger widths that all layers can multiply, as settings."""
    n_qkv = config.n_heads + 2 * config.key_heads
    head_step = multiple // math.gcd(multiple, config.n_heads, n_qkv)
    steps = {"d_ff": multiple}
    if config.d_head is None:
        steps["d_model"] = config.n_heads * head_step
    else:
        steps |= {"d_model": multiple, "d_head": head_step}
    widths = {name: (getattr(config, name), step) for name, step in sorted(steps.items())}
    return ", ".join(
        f"model.{name} = {math.ceil(width / step) * step}"
        for name, (width, step) in widths.items()
        if width is not None and width % step
    )


def fp8_product(
    x: Float[Tensor, "*axes d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, " d_out"] | None,
) -> Float[Tensor, "*axes d_out"]:
    """x Wᵀ + b with the product in fp8 and the sum in the dtype of x."""
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) % multiple:
        return plain_product(x, weight, bias)
    y = Fp8Product.apply(rows, weight).reshape(*x.shape[:-1], len(weight))
    return y if bias is None else y + bias.to(y.dtype)


class Fp8Product(torch.autograd.Function):
    """x Wᵀ and its gradients: three products of numbers in fp8.

    The GPU wants the rows of a product's first factor one after the other in memory and the columns
    of its second, so that on the way back factors are copied in the other order.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "tokens d_in"], weight: Float[Tensor, "d_out d_in"]
    ) -> Float[Tensor, "tokens d_out"]:
        x_unit = unit_of(x, torch.float8_e4m3fn)
        weight_unit = unit_of(weight, torch.float8_e4m3fn)
        x8 = in_units(x, x_unit, torch.float8_e4m3fn)
        weight8 = in_units(weight, weight_unit, torch.float8_e4m3fn)
        # The weights are there anyway, and rounding them again costs less than keeping them twice.
        ctx.save_for_backward(x8, x_unit, weight, weight_unit)
        return _multiplied(x8, x_unit, weight8.t(), weight_unit, x.dtype, short_cut=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        x8, x_unit, weight, weight_unit = ctx.saved_tensors
        unit = unit_of(gradient, torch.float8_e5m2)
        gradient8 = in_units(gradient, unit, torch.float8_e5m2)
        weight8 = in_units(weight, weight_unit, torch.float8_e4m3fn)
        turned8 = gradient8.t().contiguous()
        # Sums of what differs much in size: here the GPU is not to take its short cut.
        d_x = _multiplied(gradient8, unit, in_columns(weight8), weight_unit, gradient.dtype)
        d_weight = _multiplied(turned8, unit, in_columns(x8), x_unit, weight.dtype)
        return d_x, d_weight


def _multiplied(
    a: Float[Tensor, "rows inner"],
    a_unit: Float[Tensor, ""],
    b: Float[Tensor, "inner columns"],
    b_unit: Float[Tensor, ""],
    dtype: torch.dtype,
    *,
    short_cut: bool = False,
) -> Float[Tensor, "rows columns"]:
    """A product of tensors in fp8, in `dtype`; the short cut sums with fewer bits."""
    return torch._scaled_mm(  # pyright: ignore[reportPrivateImportUsage]
        a, b, a_unit, b_unit, out_dtype=dtype, use_fast_accum=short_cut
    )


def unit_of(x: Float[Tensor, "rows columns"], kind: torch.dtype) -> Float[Tensor, ""]:
    """What a one in fp8 stands for, if the largest number of a tensor is to be the largest there.

    A tensor with an infinity or a NaN in it gives units that make all of the product NaN.
    """
    largest = x.abs().amax().float().clamp(min=least_measured)
    return largest / torch.finfo(kind).max


def in_units(
    x: Float[Tensor, "rows columns"], unit: Float[Tensor, ""], kind: torch.dtype
) -> Float[Tensor, "rows columns"]:
    """A tensor rounded to fp8, its rows one after the other in memory."""
    # The division may round up beyond the largest number, which not every cast stops at.
    largest = torch.finfo(kind).max
    return (x.float() / unit).clamp(-largest, largest).to(kind).contiguous()


def in_columns(x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The same numbers, with the columns one after the other in memory."""
    return x.t().contiguous().t()


def rounded_product(
    x: Float[Tensor, "*axes d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, " d_out"] | None,
) -> Float[Tensor, "*axes d_out"]:
    """The twin of `fp8_product` in ordinary operations: factors are rounded, products exact."""
    y = _rounded(x) @ _rounded(weight).T
    if y.requires_grad:
        y.register_hook(lambda gradient: _as_fp8(gradient, torch.float8_e5m2))
    y = y.to(x.dtype)
    return y if bias is None else y + bias.to(y.dtype)


def _rounded(x: Tensor) -> Tensor:
    """A tensor rounded to e4m3, in fp64; its gradient passes as if it were not rounded."""
    return x.double() + (_as_fp8(x, torch.float8_e4m3fn) - x.double()).detach()


def _as_fp8(x: Tensor, kind: torch.dtype) -> Tensor:
    """The numbers that fp8 has for those of a tensor, in fp64."""
    unit = x.abs().max().float() / torch.finfo(kind).max
    if unit == 0:
        return torch.zeros_like(x, dtype=torch.float64)
    return (x.float() / unit).to(kind).double() * unit
