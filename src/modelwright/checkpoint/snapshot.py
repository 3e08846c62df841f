"""A run between two steps, copied into CPU memory, so that training goes on while it is written.

The copy is the only part of a save for which training waits.
"""

import json
from collections.abc import Hashable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from modelwright.model.config import ModelConfig
from modelwright.tokenizer.tokenizer import Tokenizer


class Buffers:
    """CPU memory for the tensors of one snapshot, the same from save to save.

    So neither memory nor time grows with the number of saves. Memory for tensors of a GPU is
    pinned, which is slow to get and several times as fast to copy into.
    """

    def __init__(self) -> None:
        self._tensors: dict[Hashable, Tensor] = {}
        self._reader: Future[Any] | None = None

    def lend(self, reader: Future[Any]) -> None:
        """Leave the memory untouched until a write that reads from it has ended."""
        self._reader = reader

    def copy(self, tensors: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Copy tensors of any device and layout; what was copied before is overwritten."""
        if self._reader is not None:
            wait([self._reader])
        self._tensors = {name: self._buffer(name, tensor) for name, tensor in tensors.items()}
        for name, tensor in tensors.items():
            self._tensors[name].copy_(tensor.detach(), non_blocking=tensor.is_cuda)
        for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
            torch.cuda.synchronize(device)
        return dict(self._tensors)

    def _buffer(self, name: Hashable, tensor: Tensor) -> Tensor:
        old = self._tensors.get(name)
        if (
            old is not None
            and (old.shape, old.dtype) == (tensor.shape, tensor.dtype)
            and (not tensor.is_cuda or old.is_pinned())
        ):
            return old
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)


@dataclass(frozen=True)
class Snapshot:
    """Everything a checkpoint holds, in CPU memory."""

    step: int  # finished steps
    config: ModelConfig
    tokenizer: Tokenizer
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    averaged: Mapping[str, Tensor] | None
    state: Mapping[str, Any]
    validation_loss: float | None
    buffers: Buffers | None = field(default=None, repr=False, compare=False)

    @property
    def n_bytes(self) -> int:
        """The size of its tensors."""
        groups = (self.weights, self.optimizer, self.averaged or {})
        return sum(tensor.nbytes for group in groups for tensor in group.values())


def take_snapshot(
    buffers: Buffers,
    *,
    step: int,
    config: ModelConfig,
    tokenizer: Tokenizer,
    weights: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    state: Mapping[str, Any],
    averaged: Mapping[str, Tensor] | None = None,
    validation_loss: float | None = None,
) -> Snapshot:
    """Copy a run's tensors and facts, after a write that still reads from the buffers has ended.

    Args:
        buffers: holds the copies; they are good until the next snapshot into the same buffers.
        weights: each shared one once, as `bundle.distinct_weights` gives them.
        averaged: the moving average of the weights under the same names; None if none is kept.
        state: small facts that resuming needs besides the tensors; what JSON can say.
        validation_loss: None if it was not measured.
    """
    assert averaged is None or averaged.keys() == weights.keys()
    assert not {"step", "validation_loss"} & state.keys()
    groups = {"weights": weights, "optimizer": optimizer, "averaged": averaged or {}}
    copies = buffers.copy(
        {
            (group, name): tensor
            for group, tensors in groups.items()
            for name, tensor in tensors.items()
        }
    )
    return Snapshot(
        step=step,
        config=config,
        tokenizer=tokenizer,
        weights={name: copies["weights", name] for name in weights},
        optimizer={name: copies["optimizer", name] for name in optimizer},
        averaged=averaged and {name: copies["averaged", name] for name in averaged},
        state=json.loads(json.dumps(state)),  # a copy that shows now whether it can be written
        validation_loss=validation_loss,
        buffers=buffers,
    )
