"""`choosing.py`: the plan says which blocks forget."""

import dataclasses
from typing import Any

import pytest

from modelwright.accounting.hardware import device_named
from modelwright.config.loading import load_settings
from modelwright.planning import choosing as module
from modelwright.planning.choosing import candidates, settle_recompute
from modelwright.planning.foresight import settle_here
from modelwright.planning.plan import make_plan
from modelwright.planning.site import first_site, planned_shape
from modelwright.planning.step import StepTrace, trace_step
from modelwright.training.choices import settled_recompute
from modelwright.training.config import RunConfig

tiny = ("model.d_model=64", "model.n_layers=8", "model.n_heads=2", "model.context=256")
tiny += ("tokenizer.vocab_size=300", "training.batch_tokens=4096", "training.compile=false")
tiny += ("training.micro_batch=16", "training.attention=flash", "training.recompute=auto")
h100 = device_named("h100")


def config(*overrides: str) -> RunConfig:
    return load_settings(RunConfig, None, [*tiny, *overrides]).config


def peak(candidate: RunConfig) -> int:
    shape, _ = planned_shape(candidate)
    return module.trace_step(candidate, shape, first_site(candidate, h100)).trace.peak_bytes


def chosen(run: RunConfig) -> tuple[str, int]:
    settled = settle_recompute(run, h100)
    return settled.training.recompute, settled.training.recompute_every


def test_no_more_blocks_forget_than_must(monkeypatch: pytest.MonkeyPatch):
    run = config()
    expected = [("none", 1), ("blocks", 4), ("blocks", 3), ("blocks", 2), ("blocks", 1)]
    known: dict[Any, StepTrace] = {}

    def remembered(candidate: RunConfig, *where: Any) -> StepTrace:
        if candidate not in known:
            known[candidate] = trace_step(candidate, *where)
        return known[candidate]

    monkeypatch.setattr(module, "trace_step", remembered)
    monkeypatch.setattr(module, "least_peak", lambda *_: None)
    peaks = [peak(one) for one in candidates(run)]
    assert peaks == sorted(peaks, reverse=True)
    for number, name in enumerate(expected):
        room = peaks[number]
        monkeypatch.setattr(module, "room_bytes", lambda _, room=room: room)
        monkeypatch.setattr(
            module, "fits", lambda step, *_, room=room: step.trace.peak_bytes <= room
        )
        assert chosen(run) == name
    monkeypatch.setattr(module, "fits", lambda *_: False)
    assert chosen(run) == ("blocks", 1)


def test_a_gpu_with_room_forgets_nothing():
    assert chosen(config()) == ("none", 1)


def test_a_portion_of_free_size_only_has_to_keep_the_gpu_busy(monkeypatch: pytest.MonkeyPatch):
    """Portions are halved before anything is computed twice."""
    seen: list[int] = []

    def fits(_: Any, site: Any, *__: Any) -> bool:
        seen.append(site.micro_batch)
        return True

    monkeypatch.setattr(module, "fits", fits)
    run = config("training.micro_batch=auto", "training.batch_tokens=65536")
    assert chosen(run) == ("none", 1)
    assert seen == [8192 // 256]


def test_what_is_named_stays():
    run = config("training.recompute=selective", "training.recompute_every=3")
    assert settle_recompute(run, h100) is run
    assert settle_here(run) is run


def test_this_machine_is_a_place_as_well():
    settled = settle_here(config("training.attention=auto"))
    assert (settled.training.recompute, settled.training.recompute_every) == ("none", 1)


def test_a_shallow_model_has_fewer_ways():
    ways = [one.training.recompute_every for one in candidates(config("model.n_layers=2"))]
    assert ways == [1, 2, 1]


def test_a_plan_says_what_it_chose(monkeypatch: pytest.MonkeyPatch):
    from modelwright.planning import plan
    from modelwright.planning.render import render

    every_second = dataclasses.replace(config().training, recompute="blocks", recompute_every=2)
    monkeypatch.setattr(
        plan, "settle_recompute", lambda run, _: dataclasses.replace(run, training=every_second)
    )
    found = make_plan(config(), h100)
    assert (found.place.recompute, found.place.recompute_every) == ("blocks", 2)
    assert "blocks recomputed (one in 2)" in render(found)


def test_without_a_plan_it_is_refused_with_the_way_to_one():
    with pytest.raises(
        ValueError, match=r"settle_here\(config\) of modelwright.planning.foresight"
    ):
        settled_recompute(config())
    with pytest.raises(ValueError, match="'auto', so the plan says how many do"):
        config("training.recompute_every=2")
