"""A whole step as one CUDA graph, for models whose kernels end sooner than the host asks for them.

What changes from step to step, the batch and a few numbers, is copied to where the recorded step
reads it.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from modelwright.data.loader import Batch
from modelwright.model.transformer import Transformer
from modelwright.runtime.graphs import Again, Recorder, cuda_graph
from modelwright.training.lanes import Lanes
from modelwright.training.step import training_step
from modelwright.training.updates import Optimizer

n_steps_before = 3  # in which programs are compiled, kernels chosen and the optimizer's state made


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
        self._fed: _Fed | None = None
        self._again: Again | None = None

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
        numbers = {
            "scale": loss_scale / batch.count_targets(),
            "learning_rate": learning_rate,
            "loss_limit": loss_limit,
        }
        fixed: dict[str, Any] = {
            "clip_norm": clip_norm,
            "micro_batch": micro_batch,
            "loss_scale": loss_scale,
            "lanes": lanes,
            "gate": gate,
        }
        fed = self._feed(batch, numbers, fixed)

        def step() -> Tensor:
            return training_step(self._model, self._optimizer, fed.batch, **fed.numbers, **fixed)

        if self._again is None and self._n_alike == n_steps_before:
            try:
                self._again = self._record(step)
            except torch.OutOfMemoryError:
                self._optimizer.zero_grad()
        self._n_alike += 1
        return step() if self._again is None else self._again()

    def give_back(self) -> bool:
        """Let go of a recording's memory, which nobody else can use; steps go on without.

        Returns:
            Whether there was one.
        """
        had_one, self._again = self._again is not None, None
        return had_one

    def _feed(self, batch: Batch, numbers: dict[str, float], fixed: dict[str, Any]) -> "_Fed":
        """Put a step's batch and numbers where it reads them, and begin anew if others are."""
        shapes = tuple(tensor.shape for tensor in batch.tensors())
        key = (shapes, *fixed.values(), self._optimizer.n_loads)
        if self._fed is None or any(
            one is not other and not _are_equal(one, other)
            for one, other in zip(key, self._key, strict=True)
        ):
            self._key, self._n_alike, self._again = key, 0, None
            self._fed = _Fed(batch, numbers)
        else:
            self._fed.take(batch, numbers)
        return self._fed


def _are_equal(one: Any, other: Any) -> bool:
    return not isinstance(one, Tensor) and one == other


class _Fed:
    """A batch and numbers of the host's in memory of their own, which a recorded step reads.

    The steps before it read them there too, so that their programs are the ones to be recorded.
    """

    def __init__(self, batch: Batch, numbers: dict[str, float]) -> None:
        device = batch.inputs.device
        self.numbers = {
            name: torch.tensor(number, dtype=torch.float32, device=device)
            for name, number in numbers.items()
        }
        self.batch = Batch(
            batch.inputs.clone(),
            batch.targets.clone(),
            batch.samples,
            None if batch.positions is None else batch.positions.clone(),
            None if batch.documents is None else batch.documents.clone(),
        )

    def take(self, batch: Batch, numbers: dict[str, float]) -> None:
        """Put others in their place."""
        for mine, given in zip(self.batch.tensors(), batch.tensors(), strict=True):
            mine.copy_(given)
        for name, number in numbers.items():
            self.numbers[name].fill_(number)
