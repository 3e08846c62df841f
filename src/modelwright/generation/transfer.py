"""Numbers on their way between host and GPU, for which neither waits."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor


def on_device(
    numbers: Sequence[Any], dtype: torch.dtype, device: torch.device
) -> Shaped[Tensor, "..."]:
    """Numbers, or rows of them, as a tensor on a device."""
    made = torch.tensor(numbers, dtype=dtype)
    # From memory that stays where it is, so that the copy needs no one to look after it.
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made


def send(numbers: Sequence[Any], target: Shaped[Tensor, "..."]) -> None:
    """Put numbers where a tensor has its own."""
    made = torch.tensor(numbers, dtype=target.dtype)
    target.copy_(made.pin_memory() if target.is_cuda else made, non_blocking=True)


class OnItsWay:
    """A tensor that is copied to the host while both go on."""

    def __init__(self, tensor: Shaped[Tensor, "..."]) -> None:
        self._arrived: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._copy = tensor.to("cpu", non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._copy = tensor.clone()

    def numbers(self) -> list[Any]:
        """The numbers, once they have arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copy.tolist()
