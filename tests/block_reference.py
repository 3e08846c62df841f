"""What the operations of `model.block_kernels` and `norm_kernels` give, in fp64 within.

Imported, it makes them work on a processor too, so that what is built of them can be tried there.
"""

from typing import Any

import torch
from torch import Tensor

from modelwright.model import block_kernels, norm_kernels

Maybe = Tensor | None


def normalised(x: Tensor, weight: Maybe, epsilon: float) -> Tensor:
    if weight is None:
        return x
    return x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt() * weight.double()


def turned(x: Tensor, cosines: Maybe, sines: Maybe) -> Tensor:
    """Of [batch, seq, head, d_head]."""
    if cosines is None or sines is None:
        return x
    c, s = (angle.double().transpose(1, 2) for angle in (cosines, sines))
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * c - b * s, b * c + a * s), dim=-1)


def heads(qkv: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    cosines, sines, query_weight, key_weight, epsilon, n_heads, n_kv_heads = rest
    counts = [n_heads, n_kv_heads, n_kv_heads]
    queries, keys, values = qkv.double().unflatten(-1, (sum(counts), -1)).split(counts, dim=2)
    queries, keys = (
        turned(normalised(x, weight, epsilon), cosines, sines)
        for x, weight in ((queries, query_weight), (keys, key_weight))
    )
    return queries, keys, values


def turn_heads(qkv: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    queries, keys, _ = heads(qkv, *rest)
    return queries.to(qkv.dtype).contiguous(), keys.to(qkv.dtype).contiguous()


def heads_slope(
    d_queries: Tensor,
    d_keys: Tensor,
    d_values: Tensor,
    qkv: Maybe,
    cosines: Maybe,
    sines: Maybe,
    query_weight: Maybe,
    key_weight: Maybe,
    epsilon: float,
    n_heads: int,
    n_kv_heads: int,
    has_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """By formulas, as the kernel has them: nothing here may ask PyTorch for a gradient."""
    out, d_bias, d_norms = block_kernels._slope_without_numbers(
        d_queries, d_keys, d_values, qkv, cosines, sines, query_weight, key_weight, epsilon,
        n_heads, n_kv_heads, has_bias,
    )  # fmt: skip
    slopes = [x.double().transpose(1, 2) for x in (d_queries, d_keys, d_values)]
    back = None if sines is None else -sines
    slopes[:2] = (turned(x, cosines, back) for x in slopes[:2])
    if qkv is not None and query_weight is not None and key_weight is not None:
        x = qkv.double().unflatten(-1, (n_heads + 2 * n_kv_heads, -1))
        for place, weight in ((0, query_weight), (1, key_weight)):
            first, n = (0, n_heads) if place == 0 else (n_heads, n_kv_heads)
            here = x[:, :, first : first + n]
            r = (here.square().mean(-1, keepdim=True) + epsilon).rsqrt()
            d_norms[place] = (slopes[place] * here * r).sum((0, 1, 2))
            g = slopes[place] * weight.double()
            slopes[place] = r * (g - here * r * r * (here * g).mean(-1, keepdim=True))
    whole = torch.cat(slopes, dim=2).flatten(2)
    if has_bias:
        d_bias.copy_(whole.sum((0, 1)))
    return out.copy_(whole), d_bias, d_norms


def gelu_slope(slope: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    out, d_bias = block_kernels._gelu_slope_without_numbers(slope, x)
    z = x.double()
    tanh = torch.tanh((2 / torch.pi) ** 0.5 * (z + 0.044715 * z**3))
    inner = (2 / torch.pi) ** 0.5 * (1 + 3 * 0.044715 * z**2)
    exact = slope.double() * ((1 + tanh) / 2 + z / 2 * (1 - tanh**2) * inner)
    return out.copy_(exact), d_bias.copy_(exact.flatten(0, -2).sum(0))


def norm_slope(
    d_normed: Tensor,
    d_stream: Maybe,
    x: Tensor,
    weight: Tensor,
    has_bias: bool,
    is_centred: bool,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    """By formulas, as the kernel has them."""
    out, total = norm_kernels._slope_without_numbers(
        d_normed, d_stream, x, weight, has_bias, is_centred, epsilon
    )
    z, g = x.double(), d_normed.double()
    if is_centred:
        z = z - z.mean(-1, keepdim=True)
    r = (z.square().mean(-1, keepdim=True) + epsilon).rsqrt()
    total[0] = (g * z * r).flatten(0, -2).sum(0)
    total[1:] = g.flatten(0, -2).sum(0)
    g = g * weight.double()
    exact = g - z * r * r * (g * z).mean(-1, keepdim=True)
    if is_centred:
        exact = exact - g.mean(-1, keepdim=True)
    exact = r * exact
    return out.copy_(exact if d_stream is None else exact + d_stream.double()), total


operations: tuple[Any, ...] = (
    (block_kernels.turn_heads, turn_heads),
    (block_kernels.heads_slope, heads_slope),
    (block_kernels.gelu_slope, gelu_slope),
    (norm_kernels.norm_slope, norm_slope),
)
for operation, reference in operations:
    operation.register_kernel("cpu")(reference)
