"""The way back through a norm and the stream beside it, by a kernel of our own for an NVIDIA GPU.

A stream has two slopes, one by way of its norm and one from what is added to it later. Here they
become one in a single pass, in which the statistics of the norm are found once more, and the
slopes in its weights are added up. The kernel is in `norm_programs`. Forward, a norm is left to
the compiler, which makes it in one pass with the sum before it.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modelwright.model.norm_programs import norm_program
from modelwright.model.norms import LayerNorm, RMSNorm, layer_norm, rms_norm

# What a benchmark may vary: they change the speed, and no more than the last bits of a result.
tile = 1024  # numbers that a program works on at a time; of a wider row, all
numbers = 32  # of them for each thread
most_warps = 16  # groups of 32 threads that share a tile
n_warps = 1056  # in all programs, which share the rows: eight for each multiprocessor of an H100
ahead = 3  # tiles: one that a program works on, and the others that it waits for meanwhile
room = 48 * 2**10  # bytes at most for the others

widest = 8192  # of a wider row, the threads would not have room for all


def has_kernel(norm: nn.Module) -> bool:
    """Whether the kernel does a norm's way back."""
    return isinstance(norm, LayerNorm | RMSNorm) and len(norm.weight) <= widest


def gpu_normed(
    norm: LayerNorm | RMSNorm, x: Float[Tensor, "*axes width"]
) -> Float[Tensor, "*axes width"]:
    """The edition of `rms_normed` and `layer_normed` for a GPU."""
    return gpu_beside(x.dtype, norm, x)[1]


def gpu_beside(
    dtype: torch.dtype, norm: LayerNorm | RMSNorm, x: Float[Tensor, "*axes width"]
) -> tuple[Float[Tensor, "*axes width"], Float[Tensor, "*axes width"]]:
    """The edition of `transformer.beside` for a GPU.

    Args:
        dtype: of the products that read what the norm makes; their slopes come back in it.
    """
    bias = norm.bias if isinstance(norm, LayerNorm) else None
    is_centred = isinstance(norm, LayerNorm)
    return beside_by_kernels(x, norm.weight, bias, norm.epsilon, is_centred, dtype)


def beside_by_kernels(*given: Any) -> tuple[Tensor, Tensor]:
    """A stream, and what a norm makes of it; see `_Beside.forward`."""
    return _Beside.apply(*given)


class _Beside(torch.autograd.Function):
    """Both leave here, so that both slopes arrive here."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        epsilon: float,
        is_centred: bool,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight)
        ctx.settings = bias is not None, is_centred, epsilon
        if is_centred:
            normed = layer_norm(x, weight, bias, epsilon)
        else:
            normed = rms_norm(x, weight, epsilon)
        return x, normed.to(dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        d_stream, d_normed = slopes
        if d_normed is None:
            return d_stream, *[None] * 5
        d_x, sums = norm_slope(d_normed, d_stream, x, weight, *ctx.settings)
        d_weight, *d_bias = sums.to(weight.dtype).unbind()
        return d_x, d_weight, d_bias[0] if d_bias else None, *[None] * 3


@torch.library.custom_op("modelwright::norm_slope", mutates_args=(), device_types="cuda")
def norm_slope(
    d_normed: Tensor,
    d_stream: Tensor | None,
    x: Tensor,
    weight: Tensor,
    has_bias: bool,
    is_centred: bool,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    """The slope in a stream [*axes, width] that was normalised.

    Args:
        d_normed: the slope in what the norm made of it.
        d_stream: the slope that comes to the stream by other ways, and is added; None is none.
        x: the stream itself.
        weight: [width] of the norm, which has a bias or not.
        is_centred: whether the mean was taken away, as LayerNorm does and RMSNorm does not.

    Returns:
        The slope in the dtype of x; and those in the weight and, if there is one, the bias, summed
        over all positions in fp32 [1 or 2, width].
    """
    out, total = _slope_without_numbers(
        d_normed, d_stream, x, weight, has_bias, is_centred, epsilon
    )
    width = x.shape[-1]
    n_rows = x.numel() // max(1, width)
    if not n_rows:
        return out, total.zero_()
    n_bytes = sum(0 if one is None else one.element_size() for one in (d_normed, d_stream, x))
    block, rows, warps, stages = cut_for(width, n_bytes)
    n = max(1, min(-(-n_rows // rows), n_warps // warps))
    sums = out.new_empty((n, *total.shape), dtype=torch.float32)
    with torch.cuda.device_of(x):
        norm_program()[(n,)](
            d_normed.contiguous(), None if d_stream is None else d_stream.contiguous(),
            x.contiguous(), weight, epsilon, out, sums, n_rows,
            is_centred=is_centred, has_bias=has_bias, width=width, block=block, rows=rows,
            ahead=stages, num_warps=warps,
        )  # fmt: skip
    return out, torch.sum(sums, 0, out=total)


@norm_slope.register_fake
def _slope_without_numbers(
    d_normed: Tensor,
    d_stream: Tensor | None,
    x: Tensor,
    weight: Tensor,
    has_bias: bool,
    is_centred: bool,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return out, x.new_empty((1 + has_bias, x.shape[-1]), dtype=torch.float32)


def cut_for(width: int, n_bytes: int) -> tuple[int, int, int, int]:
    """How a program goes through rows of a width.

    Args:
        n_bytes: that it reads for each number.

    Returns:
        Numbers that it has room for in a row, a power of two; rows at a time; warps; tiles that it
        has in hand.
    """
    block = 1 << (width - 1).bit_length()
    rows = max(1, tile // block)
    warps = max(1, min(most_warps, block * rows // (32 * numbers)))
    return block, rows, warps, max(1, min(ahead, 1 + room // (block * rows * n_bytes)))
