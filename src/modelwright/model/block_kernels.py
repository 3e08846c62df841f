"""What a block does between its products, by kernels of our own for an NVIDIA GPU.

The compiler passes over memory once for each thing it adds up, and once more to put pieces side by
side. Here the heads of queries and keys are normalised and turned in one pass, and on the way back
the slopes of queries, keys and values become that of their product in one pass, which also adds up
the slope of the bias; so does the pass through GELU. The kernels are in `block_programs`, and that
of norms in `norm_kernels`.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from modelwright.model.attention import Attention, heads_of
from modelwright.model.block_programs import gelu_program, slope_program, turning_program
from modelwright.model.gpu_kernels import dtypes
from modelwright.model.linear import plain_product
from modelwright.model.mlp import Mlp, activations, hidden_units
from modelwright.model.norm_kernels import (
    beside_by_kernels,
    gpu_beside,
    gpu_normed,
    has_kernel,
)
from modelwright.model.norms import LayerNorm, RMSNorm
from modelwright.model.positions import Turns
from modelwright.model.transformer import PreNormBlock, Transformer
from modelwright.runtime.user_folder import keep_gpu_programs_together

tile = 2048  # numbers that a program works on at a time, in each half of a head
columns = 256  # of GELU's slope that one program adds up
n_programs = 2112  # that share the rows of a sum: sixteen for each multiprocessor of an H100
warps = 8  # groups of 32 threads that share a tile


def use_block_kernels(model: Transformer, *, is_compiled: bool) -> None:
    """Let a model's blocks use these kernels where they gain something, in place.

    Args:
        is_compiled: whether the blocks are going to be; only then is the way back through norms
            a kernel, for it is the compiler that makes one of a norm and the sum before it.
    """
    has_stream = is_compiled and model.embedding.dtype in dtypes
    if has_stream and isinstance(model.norm, LayerNorm | RMSNorm) and has_kernel(model.norm):
        model.norm.normed = gpu_normed
    for module in model.modules():
        if isinstance(module, PreNormBlock):
            if has_stream and has_kernel(module.attention_norm) and has_kernel(module.mlp_norm):
                module.beside = partial(gpu_beside, model.dtype)
        elif isinstance(module, Attention) and module.qkv.multiply is plain_product:
            module.heads_of = gpu_heads
        elif isinstance(module, Mlp) and has_plain_gelu(module):
            module.hidden_units = gpu_hidden_units


def show_compiler() -> None:
    """Let the compiler take these kernels into the programs of blocks as they are.

    Its own way of taking them apart forgets, in PyTorch 2.11, that a block recomputes what is in
    them.
    """
    keep_gpu_programs_together()
    for function in (heads_by_kernels, units_by_kernels, beside_by_kernels):
        torch.compiler.allow_in_graph(function)


def has_plain_gelu(mlp: Mlp) -> bool:
    """Whether an MLP is one for the kernel; asked here, since to the compiler none is."""
    return mlp.activation is tanh_gelu and mlp.up.multiply is plain_product


def gpu_heads(
    attention: Attention, x: Float[Tensor, "batch seq d_model"], turns: Turns | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The edition of `heads_of` for a GPU.

    Where there is nothing to normalise, turn or add up, or heads have no halves, it is the twin.
    """
    linear, norms = attention.qkv, (attention.query_norm, attention.key_norm)
    weights = [norm.weight if isinstance(norm, RMSNorm) else None for norm in norms]
    has_work = turns is not None or weights[0] is not None or linear.bias is not None
    if not has_work or attention.d_head % 2 or linear.dtype not in dtypes:
        return heads_of(attention, x, turns)
    cosines, sines = (None, None) if turns is None else turns
    epsilon = norms[0].epsilon if isinstance(norms[0], RMSNorm) else 0.0
    n_heads, n_kv_heads, _ = attention.head_counts
    x = x.to(linear.dtype)
    return heads_by_kernels(
        x, linear.weight, linear.bias, cosines, sines, *weights, epsilon, n_heads, n_kv_heads
    )


def heads_by_kernels(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [batch, head, seq, d_head] of a stream; see `_Heads.forward`."""
    return _Heads.apply(*given)


class _Heads(torch.autograd.Function):
    """A product whose columns are the heads; those of the values are not copied."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        cosines: Tensor | None,
        sines: Tensor | None,
        query_weight: Tensor | None,
        key_weight: Tensor | None,
        epsilon: float,
        n_heads: int,
        n_kv_heads: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        qkv = plain_product(x, weight, bias)
        counts = [n_heads, n_kv_heads, n_kv_heads]
        queries, keys, values = qkv.unflatten(-1, (sum(counts), -1)).split(counts, dim=2)
        if cosines is not None or query_weight is not None:
            queries, keys = turn_heads(
                qkv, cosines, sines, query_weight, key_weight, epsilon, n_heads, n_kv_heads
            )
        source = qkv if query_weight is not None else None
        ctx.save_for_backward(x, weight, source, cosines, sines, query_weight, key_weight)
        ctx.settings = epsilon, n_heads, n_kv_heads, bias is not None
        return queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *others = ctx.saved_tensors
        epsilon, n_heads, n_kv_heads, has_bias = ctx.settings
        d_qkv, d_bias, d_norms = heads_slope(
            *slopes, *others, epsilon, n_heads, n_kv_heads, has_bias
        )
        d_x, d_weight = slopes_of_product(d_qkv, x, weight)
        of_norms = d_norms if others[0] is not None else (None, None)
        return d_x, d_weight, d_bias if has_bias else None, None, None, *of_norms, *[None] * 3


def slopes_of_product(
    slope: Float[Tensor, "batch seq d_out"],
    x: Float[Tensor, "batch seq d_in"],
    weight: Float[Tensor, "d_out d_in"],
) -> tuple[Float[Tensor, "batch seq d_in"], Float[Tensor, "d_out d_in"]]:
    """The slopes of `plain_product` in its input and its weight."""
    d_weight = slope.flatten(0, 1).T @ x.flatten(0, 1)
    return slope @ weight.to(x.dtype), d_weight.to(weight.dtype)


def gpu_hidden_units(
    mlp: Mlp, x: Float[Tensor, "batch seq d_model"]
) -> Float[Tensor, "batch seq d_ff"]:
    """The edition of `hidden_units` with tanh GELU for a GPU; without a bias, it is the twin."""
    linear = mlp.up
    if linear.bias is None or linear.dtype not in dtypes:
        return hidden_units(mlp, x)
    return units_by_kernels(x.to(linear.dtype), linear.weight, linear.bias)


def units_by_kernels(*given: Any) -> Tensor:
    """Tanh GELU of a product with a bias; see `_GeluUnits.forward`."""
    return _GeluUnits.apply(*given)


tanh_gelu = activations["gelu_tanh"]


class _GeluUnits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        raised = plain_product(x, weight, bias)
        ctx.save_for_backward(x, weight, raised)
        return functional.gelu(raised, approximate="tanh")

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, ...]:
        x, weight, raised = ctx.saved_tensors
        d_raised, d_bias = gelu_slope(slopes[0], raised)
        return *slopes_of_product(d_raised, x, weight), d_bias


def programs_for(n_rows: int, n_rows_each: int, n_columns: int) -> int:
    """How many programs share the rows of each of so many columns."""
    return max(1, min(-(-n_rows // n_rows_each), n_programs // n_columns))


def half_width(d_head: int) -> int:
    """Numbers that a program has room for in each half of a head; a power of two."""
    return 1 << (d_head // 2 - 1).bit_length()


@torch.library.custom_op("modelwright::turn_heads", mutates_args=(), device_types="cuda")
def turn_heads(
    qkv: Tensor,
    cosines: Tensor | None,
    sines: Tensor | None,
    query_weight: Tensor | None,
    key_weight: Tensor | None,
    epsilon: float,
    n_heads: int,
    n_kv_heads: int,
) -> tuple[Tensor, Tensor]:
    """Queries and keys [batch, seq, head, d_head], normalised with weights and turned by angles.

    Args:
        qkv: [batch, seq, (n_heads + 2 n_kv_heads) d_head]; the values in it are not read.
        cosines, sines: [batch or 1, 1, seq, d_head / 2]; None turns nothing.
        query_weight, key_weight: [d_head] of the RMSNorms; None normalises nothing.
        epsilon: of the RMSNorms.
    """
    queries, keys = _heads_without_numbers(
        qkv, cosines, sines, query_weight, key_weight, epsilon, n_heads, n_kv_heads
    )
    n_tokens, seq = qkv.shape[0] * qkv.shape[1], qkv.shape[1]
    d_head = queries.shape[-1]
    half = half_width(d_head)
    rows = max(1, tile // half)
    if n_tokens:
        turns, sines = (None if x is None else x.contiguous() for x in (cosines, sines))
        with torch.cuda.device_of(qkv):
            turning_program()[(n_heads + n_kv_heads, -(-n_tokens // rows))](
                qkv.contiguous(), queries, keys, turns, sines, query_weight, key_weight, epsilon,
                n_tokens, seq, _step_of_batch(turns), n_heads, n_kv_heads,
                d_head=d_head, half=half, rows=rows, num_warps=warps,
            )  # fmt: skip
    return queries, keys


@turn_heads.register_fake
def _heads_without_numbers(
    qkv: Tensor,
    cosines: Tensor | None,
    sines: Tensor | None,
    query_weight: Tensor | None,
    key_weight: Tensor | None,
    epsilon: float,
    n_heads: int,
    n_kv_heads: int,
) -> tuple[Tensor, Tensor]:
    d_head = qkv.shape[-1] // (n_heads + 2 * n_kv_heads)
    queries, keys = (qkv.new_empty((*qkv.shape[:-1], n, d_head)) for n in (n_heads, n_kv_heads))
    return queries, keys


@torch.library.custom_op("modelwright::heads_slope", mutates_args=(), device_types="cuda")
def heads_slope(
    d_queries: Tensor,
    d_keys: Tensor,
    d_values: Tensor,
    qkv: Tensor | None,
    cosines: Tensor | None,
    sines: Tensor | None,
    query_weight: Tensor | None,
    key_weight: Tensor | None,
    epsilon: float,
    n_heads: int,
    n_kv_heads: int,
    has_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The slope in the product that heads were made of; arguments as `turn_heads` takes them.

    Args:
        d_queries, d_keys, d_values: [batch, head, seq, d_head], in any order in memory.
        qkv: only needed where heads were normalised.

    Returns:
        The slope [batch, seq, (n_heads + 2 n_kv_heads) d_head]; its sum over all positions in
        fp32, of no numbers where there is no bias; and the slope in the weights of both norms
        [2, d_head] in fp32, of no rows where there are none.
    """
    out, d_bias, d_norms = _slope_without_numbers(
        d_queries, d_keys, d_values, qkv, cosines, sines, query_weight, key_weight, epsilon,
        n_heads, n_kv_heads, has_bias,
    )  # fmt: skip
    d_queries, d_keys, d_values = (
        x if x.stride(-1) == 1 else x.contiguous() for x in (d_queries, d_keys, d_values)
    )
    batch, _, seq, d_head = d_queries.shape
    half = half_width(d_head)
    rows = max(1, tile // half)
    n_all, n_turned = n_heads + 2 * n_kv_heads, n_heads + n_kv_heads
    n = programs_for(batch * seq, rows, n_all)
    sums = out.new_zeros((n, len(d_bias)), dtype=torch.float32)
    norm_sums = out.new_zeros((n, n_turned * d_head * (len(d_norms) > 0)), dtype=torch.float32)
    if batch * seq:
        turns, sines = (None if x is None else x.contiguous() for x in (cosines, sines))
        with torch.cuda.device_of(d_queries):
            slope_program()[(n_all, n)](
                d_queries, d_keys, d_values, *d_queries.stride()[:3], *d_keys.stride()[:3],
                *d_values.stride()[:3], None if qkv is None else qkv.contiguous(), turns, sines,
                query_weight, key_weight, epsilon,
                out, sums, norm_sums, batch * seq, seq, _step_of_batch(turns), n_heads, n_kv_heads,
                has_bias=has_bias, d_head=d_head, half=half, rows=rows, num_warps=warps,
            )  # fmt: skip
    torch.sum(sums, 0, out=d_bias)
    if len(d_norms):
        of_heads = norm_sums.sum(0).view(n_turned, d_head)
        for to, part in zip(d_norms, of_heads.split([n_heads, n_kv_heads]), strict=True):
            torch.sum(part, 0, out=to)
    return out, d_bias, d_norms


@heads_slope.register_fake
def _slope_without_numbers(
    d_queries: Tensor,
    d_keys: Tensor,
    d_values: Tensor,
    qkv: Tensor | None,
    cosines: Tensor | None,
    sines: Tensor | None,
    query_weight: Tensor | None,
    key_weight: Tensor | None,
    epsilon: float,
    n_heads: int,
    n_kv_heads: int,
    has_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, _, seq, d_head = d_queries.shape
    width = (n_heads + 2 * n_kv_heads) * d_head
    n_norms = 0 if query_weight is None else 2
    return (
        d_queries.new_empty((batch, seq, width)),
        d_queries.new_empty(width if has_bias else 0, dtype=torch.float32),
        d_queries.new_empty((n_norms, d_head), dtype=torch.float32),
    )


def _step_of_batch(turns: Tensor | None) -> int:
    """From a text's first angle to the next text's; all texts may share theirs."""
    return 0 if turns is None or turns.shape[0] == 1 else turns.stride(0)


@torch.library.custom_op("modelwright::gelu_slope", mutates_args=(), device_types="cuda")
def gelu_slope(slope: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The slope in the input of tanh GELU [batch, seq, d_ff], from that in its result.

    Returns:
        It, and its sum over all positions [d_ff] in fp32.
    """
    out, d_bias = _gelu_slope_without_numbers(slope, x)
    n_columns = x.shape[-1]
    n_rows, n_blocks = x.numel() // max(1, n_columns), -(-n_columns // columns)
    n = programs_for(n_rows, 2 * tile // columns, max(1, n_blocks))
    sums = out.new_zeros((n, n_columns), dtype=torch.float32)
    if x.numel():
        with torch.cuda.device_of(x):
            gelu_program()[(n_blocks, n)](
                slope.contiguous(), x.contiguous(), out, sums, n_rows, n_columns,
                rows=2 * tile // columns, columns=columns, num_warps=warps,
            )  # fmt: skip
    return out, torch.sum(sums, 0, out=d_bias)


@gelu_slope.register_fake
def _gelu_slope_without_numbers(slope: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return out, x.new_empty(x.shape[-1], dtype=torch.float32)
