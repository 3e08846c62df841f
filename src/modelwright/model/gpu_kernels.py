"""The loss and its slope by one kernel of our own, for an NVIDIA GPU.

`surprise_and_slope` passes over the logits many times, and every pass waits for memory. Here a row
is read twice, the second time from the cache if it is still there, and written once. The
kernel is written in Triton, which is loaded when it first runs.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, no_type_check

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelwright.data.loader import not_a_target
from modelwright.model.cross_entropy import surprise_and_slope

# What a benchmark may vary: they change the speed, and no more than the last bits of a result.
lanes = 2048  # columns side by side, each with a sum of its own; a power of two
parts = 2  # so many times as many at a time, so that memory is asked for much at once
warps = 8  # groups of 32 threads that share a row

Kernels = Literal["torch", "triton"]
dtypes = (torch.bfloat16, torch.float16, torch.float32)


def suits_gpu_kernel(device: torch.device) -> bool:
    """Whether Triton is there and makes kernels for this device; loads nothing of it."""
    return (
        device.type == "cuda"
        and torch.version.hip is None
        and find_spec("triton") is not None
        and torch.cuda.get_device_capability(device) >= (7, 0)
    )


def gpu_surprise_and_slope(
    logits: Float[Tensor, "tokens rows"],
    targets: Int[Tensor, " tokens"],
    n_vocab: int,
    scale: float | Float[Tensor, ""],
) -> tuple[Float[Tensor, ""], Float[Tensor, "tokens rows"]]:
    """The edition of `surprise_and_slope` for a GPU; the logits become the slope in their place.

    Rows that do not count are not read, so that even logits that are no numbers have a slope of
    zero there. A target that is neither a token nor `not_a_target` makes the loss NaN. Other dtypes
    than `dtypes`, and columns that do not lie side by side, are left to the twin.

    Args:
        scale: a tensor stays on the device, and its value is read there; it is in fp32.
    """
    if logits.dtype not in dtypes or (logits.shape[1] > 1 and logits.stride(1) != 1):
        return surprise_and_slope(logits, targets, n_vocab, scale)  # pyright: ignore[reportArgumentType]
    known, factor = (1.0, scale) if isinstance(scale, Tensor) else (scale, None)
    losses = turn_into_slope(logits, targets.contiguous(), n_vocab, known, factor)
    return losses.sum(), logits


@torch.library.custom_op("modelwright::turn_into_slope", mutates_args={"logits"})
def turn_into_slope(
    logits: Tensor, targets: Tensor, n_vocab: int, scale: float, factor: Tensor | None
) -> Tensor:
    """The cross-entropy of each row [tokens]; `scale * factor` times its slope replaces the logits.

    Raises:
        ValueError: if a tensor is not on a GPU, or there are fewer columns than tokens.
    """
    others = [targets] if factor is None else [targets, factor]
    if not logits.is_cuda or any(x.device != logits.device for x in others):
        found = ", ".join(str(x.device) for x in [logits, *others])
        raise ValueError(
            f"the tensors of this loss are on {found}, but its kernel needs all of them on one "
            "NVIDIA GPU; elsewhere take cross_entropy.surprise_and_slope"
        )
    if not 1 <= n_vocab <= logits.shape[1]:
        raise ValueError(
            f"n_vocab is {n_vocab}, but it is at least one and at most the columns of the logits, "
            f"which are {logits.shape[1]}"
        )
    return launch(logits, targets, n_vocab, scale, factor)


@turn_into_slope.register_fake
def _losses_without_numbers(
    logits: Tensor, targets: Tensor, n_vocab: int, scale: float, factor: Tensor | None
) -> Tensor:
    return logits.new_empty(logits.shape[0], dtype=torch.float32)


def launch(
    logits: Float[Tensor, "tokens rows"],
    targets: Int[Tensor, " tokens"],
    n_vocab: int,
    scale: float,
    factor: Float[Tensor, ""] | None,
) -> Float[Tensor, " tokens"]:
    """Start the kernel, and do not wait for it; each program takes a row."""
    n_tokens, n_columns = logits.shape
    losses = logits.new_empty(n_tokens, dtype=torch.float32)
    if n_tokens == 0:
        return losses
    wide = min(lanes * parts, 1 << (n_columns - 1).bit_length())  # as much as a narrow row fills
    n_lanes = min(lanes, wide)
    with torch.cuda.device_of(logits):
        _kernel()[(n_tokens,)](
            logits, targets, losses, factor, scale, logits.stride(0), n_columns, n_vocab,
            ignored=not_a_target, lanes=n_lanes, parts=wide // n_lanes,
            num_warps=max(1, warps * n_lanes // lanes),
        )  # fmt: skip
    return losses


@cache
def _kernel() -> Any:
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
        anew when a larger one comes; only at the end do they hear of each other. The sums leave
        the target out: what its chance lacks to one is then a quotient, not a difference.

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
            z = tl.load(
                place + columns, mask=is_there, other=0.0, eviction_policy="evict_first"
            ).to(tl.float32)
            slope = tl.exp(z - largest) * share
            slope = tl.where(columns == target, -all_others * share, slope)
            slope = tl.where((columns < n_vocab) & counts, slope, 0.0)
            tl.store(
                place + columns, slope, mask=columns < n_columns, eviction_policy="evict_first"
            )

    return replace_rows
