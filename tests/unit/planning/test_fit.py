import dataclasses
from functools import cache

import pytest

from modelwright.accounting.allocator import reserved_by
from modelwright.accounting.hardware import device_named
from modelwright.config.loading import load_settings
from modelwright.planning import fit
from modelwright.planning.fit import (
    fits,
    largest_micro_batch,
    least_peak,
    outside_bytes,
    room_bytes,
    settle,
    suggestions,
    usable_bytes,
)
from modelwright.planning.gpu_operations import library_workspaces
from modelwright.planning.site import first_site, planned_shape
from modelwright.planning.step import Site, StepTrace, trace_step
from modelwright.training.config import RunConfig

h100 = device_named("h100")


def config(*overrides: str) -> RunConfig:
    plain = ("model.preset=laptop", "model.context=64", "training.batch_tokens=1536")
    plain += ("training.compile=false", "tokenizer.vocab_size=300")
    return load_settings(RunConfig, None, [*plain, *overrides]).config


def peak(run: RunConfig, site: Site, micro_batch: int) -> int:
    return step_of(run, site, micro_batch).trace.peak_bytes


@cache
def step_of(run: RunConfig, site: Site, micro_batch: int) -> StepTrace:
    there = dataclasses.replace(site, micro_batch=micro_batch)
    return trace_step(run, planned_shape(run)[0], there)


def room_for(run: RunConfig, site: Site, micro_batch: int) -> int:
    """What a GPU needs for it, workspaces aside."""
    workspaces = library_workspaces(site.capability)
    trace = step_of(run, site, micro_batch).trace
    return reserved_by(trace, workspaces=workspaces).reserved_bytes - sum(workspaces)


@pytest.mark.parametrize("wanted", [1, 11, 23])
def test_the_largest_portion_fits_and_the_next_does_not(wanted: int):
    run = config()
    site = first_site(run, h100)
    room = room_for(run, site, wanted)
    largest = largest_micro_batch(run, planned_shape(run)[0], site, room)
    assert largest is not None
    assert largest >= wanted
    assert fits(step_of(run, site, largest), site, room)
    assert largest == run.batch_size or not fits(step_of(run, site, largest + 1), site, room)


def test_room_in_pieces_is_no_room_on_a_gpu_but_on_a_processor():
    run = config()
    on_gpu = first_site(run, h100)
    step = step_of(run, on_gpu, 24)
    room = step.trace.peak_bytes
    assert not fits(step, on_gpu, room)
    assert fits(step, first_site(run, None), room)
    assert not fits(step, first_site(run, None), room - 1)


def test_the_whole_batch_is_the_largest_portion_and_none_may_fit():
    run = config()
    site, shape = first_site(run, h100), planned_shape(run)[0]
    assert largest_micro_batch(run, shape, site, 2**40) == run.batch_size
    assert largest_micro_batch(run, shape, site, peak(run, site, 1) - 1) is None


@pytest.mark.parametrize("settings", [(), ("training.recompute=blocks",), ("optimizer.kind=sgd",)])
def test_the_bound_is_never_above_the_peak_and_near_it(settings: tuple[str, ...]):
    run = config("model.n_layers=9", *settings)
    site, shape = first_site(run, h100), planned_shape(run)[0]
    bound = least_peak(run, shape, site)
    assert bound is not None
    for n in (24, 6, 1):
        assert bound(n) <= peak(run, site, n)
    assert bound(24) > 0.9 * peak(run, site, 24)


def test_settling_halves_to_what_fits(monkeypatch: pytest.MonkeyPatch):
    run = config("model.n_layers=9")
    site, shape = first_site(run, h100), planned_shape(run)[0]
    assert site.micro_batch == 24
    room = room_for(run, site, 6)
    found, step = settle(run, shape, site, room)
    assert (found.micro_batch, step.trace.peak_bytes) == (6, peak(run, site, 6))
    monkeypatch.setattr(fit, "least_peak", lambda *_: None)
    assert settle(run, shape, site, room)[0] == found
    assert settle(run, shape, site, 0)[0].micro_batch == 1


def test_what_is_suggested_fits_and_the_rest_is_not_suggested():
    run = config("training.micro_batch=24", "training.precision=fp32", "model.n_layers=4")
    site, shape = first_site(run, h100), planned_shape(run)[0]

    def settings(room: int) -> list[str]:
        found = suggestions(run, shape, site, room, lambda other: first_site(other, h100))
        assert all(one.peak_bytes <= room for one in found)
        return [one.settings[0] for one in found]

    room = room_for(run, site, 24) - 1
    *changes, portions = settings(room)
    assert changes == [
        "training.precision=auto",
        "training.recompute=selective",
        "training.recompute=blocks",
    ]
    assert portions.startswith("training.micro_batch=")
    n = int(portions.partition("=")[2])
    assert fits(step_of(run, site, n), site, room)
    assert not fits(step_of(run, site, n + 1), site, room)
    assert settings(1000) == []


def test_the_room_leaves_out_the_context_and_the_larger_workspaces_of_newer_gpus():
    assert room_bytes(h100) == h100.usable_bytes - outside_bytes(h100)
    a100 = device_named("a100-80gb")
    assert outside_bytes(h100) - outside_bytes(a100) == 2 * (32 * 2**20 - 8_519_680)
    assert room_bytes(None) == usable_bytes(None) > 2**28
