"""The loss and its slope by one kernel of our own, for an NVIDIA GPU.

`surprise_and_slope` passes over the logits many times, and every pass waits for memory. Here a row
is read twice, the second time from the cache if it is still there, and written once. The kernel is
in `loss_programs`.
"""

from importlib.util import find_spec
from typing import Any, Literal

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
    from modelwright.model import loss_programs

    programs: Any = loss_programs  # functions to a reader, kernels once Triton has seen them
    wide = min(lanes * parts, 1 << (n_columns - 1).bit_length())  # as much as a narrow row fills
    n_lanes = min(lanes, wide)
    with torch.cuda.device_of(logits):
        programs.replace_rows[(n_tokens,)](
            logits, targets, losses, factor, scale, logits.stride(0), n_columns, n_vocab,
            ignored=not_a_target, lanes=n_lanes, parts=wide // n_lanes,
            num_warps=max(1, warps * n_lanes // lanes),
        )  # fmt: skip
    return losses
