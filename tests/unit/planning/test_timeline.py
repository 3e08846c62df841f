from functools import cache

import torch

from modelwright.accounting.trace import Held, Operation, Trace
from modelwright.config.loading import load_settings
from modelwright.planning.step import Site, StepTrace, trace_step
from modelwright.planning.timeline import kinds_in_order, most_moments, timeline_of
from modelwright.training.config import RunConfig


@cache
def traced() -> StepTrace:
    overrides = [
        "model.preset=laptop",
        "model.vocab_size=300",
        "tokenizer.vocab_size=300",
        "training.batch_tokens=1024",
    ]
    config = load_settings(RunConfig, None, overrides).config
    site = Site(
        device="cpu", dtype=torch.float32, attention="math", is_compiled=False, micro_batch=1
    )
    return trace_step(config, config.model, site)


def step_of(held: list[int]) -> StepTrace:
    """A step whose operations hold so much, all of one kind."""
    phases = ["forward"] * (len(held) // 2) + ["backward"] * (len(held) - len(held) // 2)
    operations = [
        Operation("add", "", phase, None, 0, 0, 0, n_bytes)
        for phase, n_bytes in zip(phases, held, strict=True)
    ]
    storages = [
        Held(n_bytes, (), torch.uint8, at, "", "", "forward", "activations", at + 1)
        for at, n_bytes in enumerate(held)
    ]
    return StepTrace(Trace(operations, storages), 1, 1)


def test_the_peak_is_kept_to_the_byte_however_short():
    held = [10] * 5000
    held[3217] = 11
    timeline = timeline_of(step_of(held))
    assert len(timeline.moments) == most_moments
    assert timeline.moments[timeline.peak] == 3217
    assert timeline.kinds["activations"][timeline.peak] == 11


def test_the_peak_of_a_real_step_is_the_sum_of_its_kinds():
    trace = traced().trace
    timeline = timeline_of(traced())
    assert len(trace.operations) > most_moments == len(timeline.moments)
    assert timeline.moments[timeline.peak] == trace.peak_at
    there = {kind: line[timeline.peak] for kind, line in timeline.kinds.items()}
    assert {kind: n for kind, n in there.items() if n} == trace.kinds_at(trace.peak_at)
    assert sum(there.values()) == trace.peak_bytes


def test_a_short_step_is_there_whole():
    timeline = timeline_of(step_of([1, 5, 2]))
    assert timeline.moments == (0, 1, 2)
    assert timeline.kinds == {"activations": (1, 5, 2)}
    assert timeline.n_operations == 3


def test_kinds_are_stacked_in_one_order():
    found = list(timeline_of(traced()).kinds)
    assert found == [kind for kind in kinds_in_order if kind in found]
    assert found[:2] == ["weights", "optimizer"]


def test_parts_of_the_step_come_for_each_portion():
    timeline = timeline_of(traced())
    of_portion = ["forward", "loss", "backward"]
    assert [phase.name for phase in timeline.phases] == [*of_portion * 2, "clip", "update"]
    assert timeline.phases[0].begins == 0
    begins = [phase.begins for phase in timeline.phases]
    assert begins == sorted(begins)
    for phase in timeline.phases:
        assert traced().trace.operations[phase.begins].phase == phase.name
    assert timeline.n_followed == 2
