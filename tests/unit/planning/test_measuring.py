from types import SimpleNamespace
from typing import Any

import pytest
import torch

import traced
from modelwright.planning.measuring import RealStep, _most_added, measure_on_cpu


def test_a_step_is_measured_in_bytes_and_seconds():
    config = traced.run_config()
    measured = measure_on_cpu(config, config.model, traced.site())
    assert (measured.reserved_bytes, measured.outside_bytes) == (None, None)
    assert len(measured.step_seconds) == 3
    assert min(measured.first_step_seconds, *measured.step_seconds) > 0
    trace = traced.trace()
    always = sum(h.n_bytes for h in trace.storages if h.kind in ("weights", "optimizer"))
    assert measured.peak_bytes > always


def test_a_real_step_moves_the_weights():
    config = traced.run_config("training.average_decay=0.9")
    step = RealStep(config, config.model, traced.site())
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    assert step.take() > 0
    assert step.average is not None
    for old, new in zip(before, step.model.parameters(), strict=True):
        assert not torch.equal(old, new)


@pytest.mark.parametrize("cut", ["contiguous", "packed"])
def test_its_batch_is_of_tokens_that_the_model_knows(cut: str):
    config = traced.run_config(f"training.cut={cut}", batch=4)
    batch = RealStep(config, config.model, traced.site()).batch
    assert batch.inputs.shape == (4, traced.context)
    for tensor in (batch.inputs, batch.targets):
        assert 0 <= tensor.min() <= tensor.max() < config.model.known_vocab
    assert (batch.documents is not None) == (cut == "packed")
    if batch.positions is not None:
        assert batch.positions[3].tolist() == list(range(traced.context))


@pytest.mark.parametrize(("chunk", "expected"), [("auto", None), ("8", 8)])
def test_the_real_model_works_as_the_config_says(chunk: str, expected: int | None):
    config = traced.run_config(f"training.loss_chunk={chunk}")
    assert RealStep(config, config.model, traced.site()).model.loss_chunk == expected


def event(at: int, n_bytes: int, name: str = "[memory]") -> Any:
    return SimpleNamespace(start_ns=lambda: at, nbytes=lambda: n_bytes, name=lambda: name)


def test_the_peak_is_that_of_the_changes_in_their_order():
    events = [event(3, -70), event(1, 100), event(2, 50), event(4, 30), event(2, 999, "aten::add")]
    profile = SimpleNamespace(
        profiler=SimpleNamespace(kineto_results=SimpleNamespace(events=lambda: events))
    )
    assert _most_added(profile) == 150
