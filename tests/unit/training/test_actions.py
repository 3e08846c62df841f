from typing import Any

import pytest
import torch

import small
from modelwright.data.loader import Batch, Chunks, Samples
from modelwright.evaluation.perplexity import validation_loss
from modelwright.runtime.interrupts import StopRequest
from modelwright.training import actions as module
from modelwright.training.actions import Evaluate
from modelwright.training.attempt import TrainingState
from modelwright.training.config import EvaluationConfig
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.precision import NoLossScale


class Noting(Chunks):
    """Samples that keep in mind how many of them were asked for at once."""

    asked: tuple[int, ...] = ()

    def batch(self, samples: Samples) -> Batch:
        self.asked = (*self.asked, len(samples))
        return super().batch(samples)


def noting() -> Noting:
    return Noting(small.tokens(232), 11)


def state_of(*, micro_batch: int, n_layers: int = 2) -> TrainingState:
    model = small.model(n_layers=n_layers)
    optimizer = make_optimizer(model, OptimizerConfig())
    return TrainingState(model, optimizer, NoLossScale(), micro_batch)


def evaluation(cut: Chunks) -> Evaluate:
    config = EvaluationConfig(every_steps=1, n_tokens=0)
    return Evaluate(config, cut, bytes_per_token=3.0, stop=StopRequest())


@pytest.mark.parametrize(
    ("micro_batch", "n_layers", "first"),
    [
        (1, 2, 4),  # the least: 44 tokens
        (6, 2, 6),  # as in a step
        (2, 6, 6),  # three portions of two
        (3, 6, 8),  # the most: 88 tokens
        (12, 2, 12),  # a step's, though it is more
    ],
)
def test_small_portions_are_put_together(
    micro_batch: int, n_layers: int, first: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "least_at_once", {"cpu": 44})
    monkeypatch.setattr(module, "most_at_once", {"cpu": 88})
    cut = noting()
    evaluation(cut)(state_of(micro_batch=micro_batch, n_layers=n_layers))
    assert cut.asked[0] == first
    assert sum(cut.asked) == len(cut) == 21


def test_how_many_at_once_changes_no_answer():
    state = state_of(micro_batch=1)
    found = evaluation(noting())(state)
    one_by_one = validation_loss(state.model, noting(), max_tokens=0, batch_size=1)
    assert found["validation_loss"] == pytest.approx(one_by_one.loss, rel=1e-6)
    assert state.validation_loss == found["validation_loss"]


def test_what_does_not_fit_is_measured_in_portions_of_a_step(monkeypatch: pytest.MonkeyPatch):
    tried: list[int] = []

    def short_of_memory(*given: Any, batch_size: int, **others: Any) -> Any:
        tried.append(batch_size)
        if batch_size > 2:
            raise torch.OutOfMemoryError("no room")
        return validation_loss(*given, batch_size=batch_size, **others)

    monkeypatch.setattr(module, "validation_loss", short_of_memory)
    evaluate, state = evaluation(noting()), state_of(micro_batch=2)
    assert evaluate(state)["validation_loss"] > 0
    assert evaluate(state)["validation_loss"] > 0
    assert tried == [93, 2, 2]  # once is enough to know


def test_what_fits_in_no_portion_is_an_error(monkeypatch: pytest.MonkeyPatch):
    def no_room(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(module, "validation_loss", no_room)
    with pytest.raises(torch.OutOfMemoryError):
        evaluation(noting())(state_of(micro_batch=2))
