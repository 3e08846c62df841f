"""The parts of a decoding step by kernels of our own, for an NVIDIA GPU.

A step for a few texts has little to compute and waits for one kernel after the other; what counts
is how many there are. Here a sum and the norm behind it are one, and so is all of attention:
turning query and key, keeping key and value, and mixing what is kept, of which each text's own
length is read and no more. The twins are in `decode_step`. The kernels are written in Triton, which
is loaded when one first runs.
"""

from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modelwright.generation.decode_step import Places
from modelwright.model.norms import LayerNorm, RMSNorm
from modelwright.model.positions import Turns

# What a benchmark may vary: they change the speed, and no more than the last bits of a result.
elements = 1024  # of the kept keys that 32 threads look at together; a power of two
warps_of = {1: 8, 500: 4}  # from so many heads of texts on: groups of 32 threads of a program
tokens_a_part = 512  # of a long text that are left to one program
programs_enough = 512  # at once; more do not make it faster


def add_norm(
    x: Float[Tensor, "text d_model"],
    update: Float[Tensor, "text d_model"] | None,
    norm: nn.Module,
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "text d_model"], Float[Tensor, "text d_model"]]:
    """The edition of `decode_step.add_norm` for a GPU."""
    if not isinstance(norm, LayerNorm | RMSNorm):
        total = x if update is None else x + update
        return total, norm(total).to(dtype)
    n_rows, width = x.shape
    total = x
    if update is not None:
        total = torch.empty_like(x, dtype=torch.promote_types(x.dtype, update.dtype))
    normed = torch.empty_like(x, dtype=dtype)
    is_centred = isinstance(norm, LayerNorm)
    with torch.cuda.device_of(x):
        _kernels().add_norm[(n_rows,)](
            x, update, norm.weight, norm.bias if isinstance(norm, LayerNorm) else None,
            total, normed, width, norm.epsilon,
            is_centred=is_centred, block=power_of_two(width), num_warps=4,
        )  # fmt: skip
    return total, normed


def mix(
    heads: Float[Tensor, "text head_of_each d_head"],
    turns: Turns | None,
    keys: Float[Tensor, "slot kv_head token d_head"],
    values: Float[Tensor, "slot kv_head token d_head"],
    seen: Places,
) -> Float[Tensor, "text head d_head"]:
    """The edition of `decode_step.mix` for a GPU.

    A long text is shared between several programs, whose results a second kernel puts together.
    """
    n_rows, n_of_each, d_head = heads.shape
    n_kv_heads, n_tokens = keys.shape[1:3]
    n_heads = n_of_each - 2 * n_kv_heads
    n_parts = parts_of(min(seen.reach, seen.window), n_rows * n_heads)
    cosines, sines = (None, None) if turns is None else (turn.contiguous() for turn in turns)
    mixed = heads.new_empty(n_rows, n_heads, d_head)
    width = power_of_two(d_head)
    sums = weights = mixed
    warps = warps_of[max(least for least in warps_of if least <= n_rows * n_heads)]
    if n_parts > 1:
        sums = heads.new_empty(n_rows, n_heads, n_parts, width, dtype=torch.float32)
        weights = heads.new_empty(n_rows, n_heads, n_parts, 2, dtype=torch.float32)
    with torch.cuda.device_of(heads):
        _kernels().mix[(n_rows, n_heads, n_parts)](
            heads.contiguous(), cosines, sines, keys, values, seen.places, mixed, sums, weights,
            seen.window, d_head**-0.5, n_tokens,
            n_heads=n_heads, n_kv_heads=n_kv_heads, d_head=d_head, width=width,
            block=max(16, warps * elements // width), n_parts=n_parts, num_warps=warps,
        )  # fmt: skip
        if n_parts > 1:
            _kernels().put_together[(n_rows, n_heads)](
                sums, weights, mixed, d_head=d_head, width=width, n_parts=n_parts, num_warps=1
            )
    return mixed


def power_of_two(n: int) -> int:
    """The smallest one that is no less."""
    return 1 << (n - 1).bit_length()


def parts_of(n_tokens: int, n_programs: int) -> int:
    """Into how many parts, a power of two, the tokens of a text are shared."""
    n_parts = 1
    while n_parts * tokens_a_part < n_tokens and 2 * n_parts * n_programs <= programs_enough:
        n_parts *= 2
    return n_parts


class _Kernels:
    """The kernels, compiled when they are first asked for with certain constants."""

    def __init__(self, add_norm: Any, mix: Any, put_together: Any) -> None:
        self.add_norm = add_norm
        self.mix = mix
        self.put_together = put_together


@cache
def _kernels() -> _Kernels:
    import triton  # pyright: ignore[reportMissingImports]
    from triton import language as tl  # pyright: ignore[reportMissingImports]

    # The checker of shapes would come between Triton and the text that it compiles.
    @triton.jit
    @no_type_check
    def add_norm(
        x, update, weight, bias, total, normed, width, epsilon,
        is_centred: tl.constexpr, block: tl.constexpr,
    ):  # fmt: skip
        """A row [width] and what is added to it, and the sum normalised; statistics in fp32."""
        row = tl.program_id(0).to(tl.int64) * width
        at = tl.arange(0, block)
        is_there = at < width
        values = tl.load(x + row + at, mask=is_there, other=0.0).to(tl.float32)
        if update is not None:
            values += tl.load(update + row + at, mask=is_there, other=0.0).to(tl.float32)
            # What goes on is rounded, and so the norm is that of rounded numbers.
            values = values.to(total.dtype.element_ty).to(tl.float32)
            tl.store(total + row + at, values, mask=is_there)
        if is_centred:
            mean = tl.sum(values) / width
            values = tl.where(is_there, values - mean, 0.0)
        scale = tl.rsqrt(tl.sum(values * values) / width + epsilon)
        scaled = values * scale * tl.load(weight + at, mask=is_there, other=0.0).to(tl.float32)
        if bias is not None:
            scaled += tl.load(bias + at, mask=is_there, other=0.0).to(tl.float32)
        tl.store(normed + row + at, scaled, mask=is_there)

    @triton.jit(do_not_specialize=["window", "n_tokens"])
    @no_type_check
    def mix(
        heads, cosines, sines, keys, values, places, mixed, sums, weights,
        window, scale, n_tokens,
        n_heads: tl.constexpr, n_kv_heads: tl.constexpr, d_head: tl.constexpr, width: tl.constexpr,
        block: tl.constexpr, n_parts: tl.constexpr,
    ):  # fmt: skip
        """One part of what one head of one text sees.

        The new key and value come from the product that made them. Whoever needs them takes them
        from there, and one program keeps them, so that none has to wait for another. The largest
        score so far goes along, and sums are scaled anew when a larger one comes.

        Source: Dao et al. 2023, "Flash-Decoding for long-context inference"; the sums are those of
        Milakov & Gimelshein 2018, "Online normalizer calculation for softmax", algorithm 3.
        """
        text = tl.program_id(0).to(tl.int64)
        head = tl.program_id(1)
        part = tl.program_id(2)
        kv_head = head // (n_heads // n_kv_heads)
        at = tl.arange(0, width)
        is_there = at < d_head
        own = heads + text * (n_heads + 2 * n_kv_heads) * d_head
        its_query = own + head * d_head
        its_key = own + (n_heads + kv_head) * d_head
        query = tl.load(its_query + at, mask=is_there, other=0.0).to(tl.float32)
        key = tl.load(its_key + at, mask=is_there, other=0.0).to(tl.float32)
        value = tl.load(
            own + (n_heads + n_kv_heads + kv_head) * d_head + at, mask=is_there, other=0.0
        )
        if cosines is not None:
            half: tl.constexpr = d_head // 2
            is_first = at < half
            pair = tl.where(is_first, at, at - half)
            other = tl.where(is_first, at + half, at - half)
            cosine = tl.load(cosines + text * half + pair, mask=is_there, other=0.0).to(tl.float32)
            sine = tl.load(sines + text * half + pair, mask=is_there, other=0.0).to(tl.float32)
            sine = tl.where(is_first, -sine, sine)
            query_there = tl.load(its_query + other, mask=is_there, other=0.0).to(tl.float32)
            key_there = tl.load(its_key + other, mask=is_there, other=0.0).to(tl.float32)
            query = query * cosine + query_there * sine
            key = key * cosine + key_there * sine
        kept_key = key.to(keys.dtype.element_ty)
        place = tl.load(places + text).to(tl.int32)
        kept = (text * n_kv_heads + kv_head) * n_tokens * d_head
        if (part == 0) & (head % (n_heads // n_kv_heads) == 0):
            new = kept + place.to(tl.int64) * d_head + at
            tl.store(keys + new, kept_key, mask=is_there)
            tl.store(values + new, value, mask=is_there)
        query *= scale
        first = tl.maximum(0, place + 1 - window)
        share = tl.cdiv(tl.cdiv(place - first, n_parts), block) * block
        begin = first + part * share
        end = tl.minimum(begin + share, place)
        # The new token is looked at by the first part.
        is_mine = part == 0
        largest = tl.where(is_mine, tl.sum(query * kept_key.to(tl.float32)), float("-inf"))
        total = tl.where(is_mine, 1.0, 0.0)
        mean = tl.where(is_mine, value.to(tl.float32), 0.0)
        for start in range(begin, end, block):
            tokens = start + tl.arange(0, block)
            place_of = kept + tokens[:, None].to(tl.int64) * d_head + at[None, :]
            is_seen = (tokens < end)[:, None] & is_there[None, :]
            some_keys = tl.load(keys + place_of, mask=is_seen, other=0.0).to(tl.float32)
            some_values = tl.load(values + place_of, mask=is_seen, other=0.0).to(tl.float32)
            scores = tl.sum(some_keys * query[None, :], axis=1)
            scores = tl.where(tokens < end, scores, float("-inf"))
            larger = tl.maximum(largest, tl.max(scores))
            shares = tl.exp(scores - larger)
            fading = tl.exp(largest - larger)
            total = total * fading + tl.sum(shares)
            mean = mean * fading + tl.sum(shares[:, None] * some_values, axis=0)
            largest = larger
        where = text * n_heads + head
        if n_parts == 1:
            tl.store(mixed + where * d_head + at, mean / total, mask=is_there)
        else:
            where = where * n_parts + part
            tl.store(sums + where * width + at, mean)
            tl.store(weights + where * 2, largest)
            tl.store(weights + where * 2 + 1, total)

    @triton.jit
    @no_type_check
    def put_together(
        sums, weights, mixed, d_head: tl.constexpr, width: tl.constexpr, n_parts: tl.constexpr
    ):
        """The parts of one head of one text, each weighed by its sum of exponentials."""
        where = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
        at = tl.arange(0, width)
        parts = where * n_parts + tl.arange(0, n_parts)
        largest = tl.load(weights + parts * 2)
        scale = tl.exp(largest - tl.max(largest))
        total = tl.sum(scale * tl.load(weights + parts * 2 + 1))
        some = tl.load(sums + parts[:, None] * width + at[None, :])
        mean = tl.sum(scale[:, None] * some, axis=0) / total
        tl.store(mixed + where * d_head + at, mean, mask=at < d_head)

    return _Kernels(add_norm, mix, put_together)
