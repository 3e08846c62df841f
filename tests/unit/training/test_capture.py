"""`capture.py`: a recorded step, with a recorder that a processor has too."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import small
from modelwright.data.loader import Batch, not_a_target
from modelwright.training.capture import RecordedStep, n_steps_before
from modelwright.training.lanes import Lanes
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.step import StartedStep, training_step


class Recorder:
    """Repeats what it was given, from the memory that it was given, and counts."""

    def __init__(self) -> None:
        self.n_recorded = 0
        self.n_repeated = 0

    def __call__(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.n_recorded += 1

        def again() -> Tensor:
            self.n_repeated += 1
            return function()

        return again


def batch(number: int, *, size: int = 4, n_left_out: int = 0, packed: bool = False) -> Batch:
    ids = torch.randint(37, (size, 11), generator=torch.Generator().manual_seed(number))
    targets = ids.roll(-1, 1)
    targets.flatten()[:n_left_out] = not_a_target
    places = torch.arange(ids.shape[1]).int().expand(size, -1).contiguous()
    second = (places >= 3 + number % 4).int() if packed else None
    return Batch(
        ids,
        targets,
        torch.arange(size).numpy(),
        places if packed else None,
        second,
    )


class Pair:
    """The same model twice, one of which takes recorded steps."""

    def __init__(self, **optimizer: Any) -> None:
        config = OptimizerConfig(**optimizer)
        self.plain, self.model = small.model(), small.model()
        self.plain_optimizer = make_optimizer(self.plain, config)
        self.optimizer = make_optimizer(self.model, config)
        self.recorder = Recorder()
        self.recorded = RecordedStep(self.model, self.optimizer, record=self.recorder)
        self.gates = torch.zeros(()), torch.zeros(())

    def step(self, learned: Batch, **changes: Any) -> None:
        """A step of both, which have to come to the same."""
        settings: dict[str, Any] = {
            "learning_rate": 0.5**7,
            "clip_norm": 0.25,
            "micro_batch": 2,
            "loss_scale": 1.0,
            "loss_limit": 100.0,
            "lanes": one_lane,
        } | changes
        theirs = training_step(
            self.plain, self.plain_optimizer, learned, gate=self.gates[0], **settings
        )
        ours = self.recorded(learned, gate=self.gates[1], **settings)
        one, other = StartedStep(theirs).result(), StartedStep(ours).result()
        assert other.loss == pytest.approx(one.loss, rel=1e-6)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-6)
        assert other.taken == one.taken
        assert self.gates[0] == self.gates[1]
        for a, b in zip(self.model.parameters(), self.plain.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-6)


one_lane = Lanes()


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("packed", [False, True])
def test_recorded_steps_learn_what_plain_ones_do(kind: str, packed: bool):
    pair = Pair(kind=kind)
    for number in range(8):
        rate = 0.5 ** (7 + number % 3)
        learned = batch(number, n_left_out=number, packed=packed)
        pair.step(learned, learning_rate=rate)
    assert pair.recorder.n_recorded == 1
    assert pair.recorder.n_repeated == 8 - n_steps_before


def test_a_recorded_step_obeys_the_limit_and_the_gate():
    pair = Pair()
    for number in range(5):
        pair.step(batch(number))
    pair.step(batch(5), loss_limit=0.5)
    assert pair.gates[1] == 1
    pair.step(batch(6))  # the gate is still there
    for gate in pair.gates:
        gate.zero_()
    before = [parameter.clone() for parameter in pair.model.parameters()]
    pair.step(batch(7))
    assert not torch.equal(before[0], next(iter(pair.model.parameters())))
    assert pair.recorder.n_recorded == 1


@pytest.mark.parametrize(
    "changes", [{"micro_batch": 1}, {"loss_scale": 4.0}, {"clip_norm": 0.0}], ids=str
)
def test_what_a_recording_cannot_follow_makes_a_new_one(changes: dict[str, Any]):
    pair = Pair()
    for number in range(5):
        pair.step(batch(number))
    for number in range(5, 10):
        pair.step(batch(number), **changes)
    assert pair.recorder.n_recorded == 2
    assert pair.recorder.n_repeated == 4


def test_a_recording_that_was_given_back_is_not_made_again():
    pair = Pair()
    for number in range(5):
        pair.step(batch(number))
    assert pair.recorder.n_repeated == 2
    assert pair.recorded.give_back()
    assert not pair.recorded.give_back()
    for number in range(5, 10):
        pair.step(batch(number))
    assert (pair.recorder.n_recorded, pair.recorder.n_repeated) == (1, 2)


def test_another_size_of_batch_makes_a_new_one():
    pair = Pair()
    for number in range(5):
        pair.step(batch(number))
    for number in range(5):
        pair.step(batch(number, size=6))
    assert pair.recorder.n_recorded == 2


def test_a_loaded_optimizer_makes_a_new_one():
    pair = Pair()
    for number in range(5):
        pair.step(batch(number))
    kept = {name: tensor.clone() for name, tensor in pair.optimizer.named_state().items()}
    pair.optimizer.load_named_state(kept)
    for number in range(5):
        pair.step(batch(number))
    assert pair.recorder.n_recorded == 2


def test_without_the_memory_for_a_recording_steps_go_on_without(monkeypatch: pytest.MonkeyPatch):
    pair = Pair()

    def full(_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(pair.recorded, "_record", full)
    for number in range(6):
        pair.step(batch(number))
    assert pair.recorder.n_repeated == 0
