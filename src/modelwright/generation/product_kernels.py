"""Products of a decoding step by a kernel of our own, for an NVIDIA GPU.

For one text a product reads each weight once and does next to nothing with it. A kernel that is
made for many texts reads them slower; this one is as fast as the memory, and applies the bias and
GELU on the way. For more texts the library's product is taken, which is several times as slow for
a vocabulary of an odd number of tokens; so the last few are a product of their own.
"""

from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modelwright.model.core_kernels import tanh_gelu
from modelwright.model.linear import Linear, plain_product
from modelwright.model.mlp import Mlp, SwigluMlp

# What a benchmark may vary: they change the speed, and no more than the last bits of a result.
programs_enough = 264  # at once; two for each multiprocessor of an H100
most_rows_of_weights = 16  # of one program; a power of two
numbers_a_warp = 256  # of the weights, that 32 threads read together

alignment = 8  # numbers that the library writes at once


def product(module: nn.Module, x: Float[Tensor, "text d_in"]) -> Float[Tensor, "text d_out"]:
    """What a `Linear` makes of its input; other modules do as they do."""
    if not isinstance(module, Linear) or module.multiply is not plain_product:
        return module(x)
    x = x.to(module.dtype)
    if len(x) == 1:
        return row_product(x, module.weight, module.bias)
    n_out = len(module.weight)
    if n_out % alignment == 0:
        return module(x)
    out = x.new_empty(len(x), -(-n_out // alignment) * alignment)
    n_even = n_out - n_out % alignment
    for own in (slice(0, n_even), slice(n_even, n_out)):
        if module.bias is None:
            torch.mm(x, module.weight[own].T, out=out[:, own])
        else:
            torch.addmm(module.bias[own], x, module.weight[own].T, out=out[:, own])
    return out[:, :n_out]


def mlp(module: nn.Module, x: Float[Tensor, "text d_model"]) -> Float[Tensor, "text d_model"]:
    """What an MLP makes of its input; a product and the tanh GELU behind it are one kernel."""
    if isinstance(module, SwigluMlp):
        return product(module.down, module.gated(product(module.gate, x), product(module.up, x)))
    if not isinstance(module, Mlp):
        return module(x)
    up, down = module.up, module.down
    if module.activation is not tanh_gelu or up.bias is None or up.multiply is not plain_product:
        return product(down, module.activation(product(up, x)))
    x = x.to(up.dtype)
    if len(x) == 1:
        return product(down, row_product(x, up.weight, up.bias, with_gelu=True))
    active = torch.ops.aten._addmm_activation(up.bias, x, up.weight.T, use_gelu=True)
    return product(down, active)


def row_product(
    x: Float[Tensor, "1 d_in"],
    weight: Float[Tensor, "d_out d_in"],
    bias: Float[Tensor, " d_out"] | None,
    *,
    with_gelu: bool = False,
) -> Float[Tensor, "1 d_out"]:
    """x Wᵀ + b, and its tanh GELU if wanted; all in one dtype, and summed in fp32."""
    n_out, width = weight.shape
    out = x.new_empty(1, n_out)
    block = 256 if width <= 1024 else 1024
    rows = most_rows_of_weights
    while rows > 1 and n_out < rows * programs_enough:
        rows //= 2
    with torch.cuda.device_of(x):
        _kernel()[(-(-n_out // rows),)](
            x, weight, bias, out, n_out, width,
            rows=rows, block=block, n_blocks=-(-width // block), with_gelu=with_gelu,
            num_warps=max(1, min(8, rows * block // numbers_a_warp)),
        )  # fmt: skip
    return out


@cache
def _kernel() -> Any:
    import triton  # pyright: ignore[reportMissingImports]
    from triton import language as tl  # pyright: ignore[reportMissingImports]

    # The checker of shapes would come between Triton and the text that it compiles.
    @triton.jit
    @no_type_check
    def multiply(
        x, weight, bias, out, n_out, width,
        rows: tl.constexpr, block: tl.constexpr, n_blocks: tl.constexpr, with_gelu: tl.constexpr,
    ):  # fmt: skip
        """Some of the numbers that a row and a matrix make.

        The loop is written out, so that all its loads are under way at once.
        """
        own = tl.program_id(0) * rows + tl.arange(0, rows)
        is_own = own < n_out
        begin = weight + own.to(tl.int64)[:, None] * width
        sums = tl.zeros([rows, block], tl.float32)
        for number in tl.static_range(n_blocks):
            at = number * block + tl.arange(0, block)
            is_there = at < width
            some = tl.load(x + at, mask=is_there, other=0.0).to(tl.float32)
            weights = tl.load(
                begin + at[None, :], mask=is_own[:, None] & is_there[None, :], other=0.0
            )
            sums += weights.to(tl.float32) * some[None, :]
        result = tl.sum(sums, axis=1)
        if bias is not None:
            result += tl.load(bias + own, mask=is_own, other=0.0).to(tl.float32)
        if with_gelu:
            # tanh(z) is 1 - 2 / (1 + exp(2 z)), which overflows to the right limits.
            inner = 0.7978845608028654 * (result + 0.044715 * result * result * result)
            result = 0.5 * result * (2.0 - 2.0 / (1.0 + tl.exp(2.0 * inner)))
        tl.store(out + own, result, mask=is_own)

    return multiply
