"""A whole step as one CUDA graph, for models whose kernels end sooner than the host asks for them.

A graph repeats the very operations that were recorded, on the same memory. So what changes from
step to step, the batch and a few numbers, is copied to where the recorded step reads it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from modelwright.data.loader import Batch
from modelwright.model.transformer import Transformer
from modelwright.training.lanes import Lanes
from modelwright.training.step import training_step
from modelwright.training.updates import Optimizer

# What a recorder makes of a function without arguments: one that does the same again. The first
# call is the first time that anything is done.
Again = Callable[[], Tensor]
Recorder = Callable[[Callable[[], Tensor]], Again]

n_steps_before = 3  # in which programs are compiled, kernels chosen and the optimizer's state made


def cuda_graph(function: Callable[[], Tensor]) -> Again:
    """The kernels of a function on the current device, as a graph."""
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as the one that brings batches, may go on meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = function()

    def again() -> Tensor:
        graph.replay()
        return result

    return again


class RecordedStep:
    """`training_step` of one model, recorded after a few calls and repeated from then on.

    Where anything changes that a graph cannot follow, such as the size of the portions, it is
    recorded anew. Where the memory for that is missing, steps go on without.
    """

    def __init__(
        self, model: Transformer, optimizer: Optimizer, *, record: Recorder = cuda_graph
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._record = record
        self._key: Any = None
        self._n_alike = 0
        self._recording: _Recording | None = None

    def __call__(
        self,
        batch: Batch,
        *,
        learning_rate: float,
        clip_norm: float,
        micro_batch: int,
        loss_scale: float,
        loss_limit: float,
        lanes: Lanes,
        gate: Float[Tensor, ""],
    ) -> Float[Tensor, "3"]:
        """Take a step; arguments and result are those of `training_step`.

        The result is overwritten by the next step: what is to stay is copied on the same stream.
        """
        # The device reads them in fp32, so that a step is the same in a graph and outside.
        numbers = {
            "scale": loss_scale / batch.count_targets(),
            "learning_rate": learning_rate,
            "loss_limit": loss_limit,
        }
        numbers = {name: float(np.float32(number)) for name, number in numbers.items()}
        fixed: dict[str, Any] = {
            "clip_norm": clip_norm,
            "micro_batch": micro_batch,
            "loss_scale": loss_scale,
            "lanes": lanes,
            "gate": gate,
        }
        self._begin_anew_if_changed(batch, fixed)
        if self._recording is None and self._n_alike == n_steps_before:
            try:
                self._recording = _Recording(self._step, batch, numbers, fixed, self._record)
            except torch.OutOfMemoryError:
                self._optimizer.zero_grad()
        self._n_alike += 1
        if self._recording is not None:
            return self._recording.repeat(batch, numbers)
        return self._step(batch, **numbers, **fixed)

    def _step(self, batch: Batch, **settings: Any) -> Tensor:
        return training_step(self._model, self._optimizer, batch, **settings)

    def _begin_anew_if_changed(self, batch: Batch, fixed: dict[str, Any]) -> None:
        shapes = tuple(tensor.shape for tensor in batch.tensors())
        key = (shapes, *fixed.values(), self._optimizer.n_loads)
        if self._key is None or any(
            one is not other and not _are_equal(one, other)
            for one, other in zip(key, self._key, strict=True)
        ):
            self._key, self._n_alike, self._recording = key, 0, None


def _are_equal(one: Any, other: Any) -> bool:
    return not isinstance(one, Tensor) and one == other


class _Recording:
    """A recorded step and the memory that it reads."""

    def __init__(
        self,
        step: Callable[..., Tensor],
        batch: Batch,
        numbers: dict[str, float],
        fixed: dict[str, Any],
        record: Recorder,
    ) -> None:
        device = batch.inputs.device
        self._numbers = {
            name: torch.tensor(number, dtype=torch.float32, device=device)
            for name, number in numbers.items()
        }
        self._batch = Batch(
            batch.inputs.clone(),
            batch.targets.clone(),
            batch.samples,
            None if batch.positions is None else batch.positions.clone(),
            None if batch.documents is None else batch.documents.clone(),
        )
        self._again = record(lambda: step(self._batch, **self._numbers, **fixed))

    def repeat(self, batch: Batch, numbers: dict[str, float]) -> Tensor:
        for mine, given in zip(self._batch.tensors(), batch.tensors(), strict=True):
            mine.copy_(given)
        for name, number in numbers.items():
            self._numbers[name].fill_(number)
        return self._again()
