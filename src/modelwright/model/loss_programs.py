"""The program of `gpu_kernels`, in Triton; loaded when it first runs."""

from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
from triton import language as tl  # pyright: ignore[reportMissingImports]

# The checker of shapes would come between Triton and the text that it compiles.


@triton.jit
@no_type_check
def replace_rows(
    logits, targets, losses, factor, scale, stride, n_columns, n_vocab,
    ignored: tl.constexpr, lanes: tl.constexpr, parts: tl.constexpr,
):  # fmt: skip
    """Turn a row of logits [n_columns] into its slope, and give its loss.

    Each lane keeps the sum of its exponentials relative to its largest logit so far, scaled
    anew when a larger one comes; only at the end do they hear of each other. The sums leave the
    target out: what its chance lacks to one is then a quotient, not a difference.

    Source: Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018,
    algorithm 3, and section 3.1 for the sums of several lanes.
    """
    side_by_side = tl.arange(0, parts)[:, None] * lanes + tl.arange(0, lanes)[None, :]
    if factor is not None:
        scale *= tl.load(factor)
    row = tl.program_id(0).to(tl.int64)
    place = logits + row * stride
    target = tl.load(targets + row)
    counts = target != ignored
    is_token = (target >= 0) & (target < n_vocab)
    missing = tl.where(counts, float("nan"), 0.0)
    at_target = tl.load(place + target, mask=is_token, other=missing).to(tl.float32)
    # No infinity, of which the difference to another would be NaN.
    lowest = tl.maximum(at_target, -3.4028234663852886e38)
    largest = tl.zeros([lanes], tl.float32) + lowest
    others = tl.zeros([lanes], tl.float32)
    # The padding is read too: only where the end is known to be even are loads wide ones.
    for first in range(0, n_columns, lanes * parts):
        columns = first + side_by_side
        is_there = (columns < n_columns) & counts
        z = tl.load(place + columns, mask=is_there, other=0.0, eviction_policy="evict_last").to(
            tl.float32
        )
        z = tl.where((columns < n_vocab) & (columns != target), z, float("-inf"))
        larger = tl.maximum(largest, tl.max(z, axis=0))
        more = tl.sum(tl.exp(z - larger[None, :]), axis=0)
        others = others * tl.exp(largest - larger) + more
        largest = larger
    largest_of_all = tl.max(largest)
    all_others = tl.sum(others * tl.exp(largest - largest_of_all))
    largest = largest_of_all
    total = all_others + tl.exp(at_target - largest)
    surprise = tl.log(total) + (largest - at_target)
    tl.store(losses + row, tl.where(counts, surprise, 0.0))
    share = scale / total
    for first in range(0, n_columns, lanes * parts):
        columns = first + side_by_side
        is_there = (columns < n_columns) & counts
        z = tl.load(place + columns, mask=is_there, other=0.0, eviction_policy="evict_first").to(
            tl.float32
        )
        slope = tl.exp(z - largest) * share
        slope = tl.where(columns == target, -all_others * share, slope)
        slope = tl.where((columns < n_vocab) & counts, slope, 0.0)
        tl.store(place + columns, slope, mask=columns < n_columns, eviction_policy="evict_first")
