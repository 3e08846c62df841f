"""How long a step takes: the queue between processor and device, and what a GPU confirmed."""

import dataclasses
import json
import statistics
from pathlib import Path

import pytest
import torch

from modelwright.accounting.rates import Host, Rates, read_rates
from modelwright.accounting.trace import Operation, Trace, program_call, wait
from modelwright.config.loading import load_settings
from modelwright.planning.site import dtypes
from modelwright.planning.step import Site, StepTrace, trace_step
from modelwright.planning.timing import StepTime, handed_out, step_time, whole_step
from modelwright.runtime.device import Machine
from modelwright.training.config import RunConfig
from traced import run_config, site

megabyte = 10**6


def operation(
    name: str, phase: str = "forward", n_bytes: int = 0, *, in_program: bool = False
) -> Operation:
    return Operation(name, "", phase, torch.float32, 0, n_bytes, 0, 0, in_program=in_program)


def rates(host: Host | None) -> Rates:
    """A device that copies a megabyte in a millisecond."""
    return Rates(
        device="one",
        machine=Machine(processor="one", gpu=None, n_threads=1, python="3", torch="2"),
        measured="2026-01-01",
        bytes_per_second=1e9,
        flops_per_second={"fp32": 1e12},
        samples={"copy": [[float(n), n / 1e9] for n in (1000, 10**6, 10**9)]},
        host=host,
    )


def time_of(
    *operations: Operation, host: Host | None = None, n_portions: int = 1, **ways: bool
) -> StepTime:
    trace = Trace(list(operations), [])
    followed = StepTrace(trace, n_portions, min(2, n_portions))
    return step_time(followed, rates(host), "fp32", **ways)


def test_a_processor_does_one_thing_after_the_other():
    told = time_of(operation("a", n_bytes=megabyte), operation("b", n_bytes=megabyte))
    assert told.step == pytest.approx(told.busy)
    assert told.host == 0


def test_a_gpu_works_while_the_next_is_handed_out():
    host = Host(step=0.0, operation=1e-4, program=0.0, tensor=0.0)
    busy = [operation("a", n_bytes=100 * megabyte) for _ in range(10)]
    told = time_of(*busy, host=host)
    assert told.step == pytest.approx(told.busy + 1e-4)
    assert not told.waits_for_host


def test_a_gpu_waits_for_a_slow_processor():
    host = Host(step=0.0, operation=1.0, program=0.0, tensor=0.0)
    told = time_of(*[operation("a", n_bytes=megabyte) for _ in range(10)], host=host)
    assert told.step == pytest.approx(10, rel=0.01)
    assert told.waits_for_host


def test_a_step_that_is_started_ahead_takes_as_long_as_the_slower_of_the_two():
    work = [operation("a", n_bytes=100 * megabyte) for _ in range(10)]
    quick = Host(step=0.3, operation=1e-4, program=0.0, tensor=0.0)
    alone, ahead = (time_of(*work, host=quick, looks_ahead=ahead) for ahead in (False, True))
    assert alone.step == pytest.approx(alone.busy + 0.3, rel=1e-3)
    assert ahead.step == pytest.approx(ahead.busy)
    slow = Host(step=0.0, operation=0.5, program=0.0, tensor=0.0)
    found = time_of(*work, host=slow, looks_ahead=True)
    assert found.step == pytest.approx(5.0)
    assert found.waits_for_host


def test_a_recorded_step_is_handed_out_at_once():
    work = [operation("a", n_bytes=megabyte) for _ in range(10)]
    slow = Host(step=0.001, operation=0.5, program=0.0, tensor=0.0)
    found = time_of(*work, host=slow, looks_ahead=True, is_recorded=True)
    assert found.step == pytest.approx(found.busy)
    assert found.host == 0.001


def test_after_a_number_is_read_the_gpu_has_run_empty():
    host = Host(step=0.0, operation=0.5, program=0.0, tensor=0.0)
    work = operation("a", n_bytes=1000 * megabyte)
    ahead = time_of(work, work, host=host).step
    empty = time_of(work, operation(wait), work, host=host).step
    assert empty == pytest.approx(ahead + 0.5)


def test_inside_a_program_nothing_is_handed_out_one_by_one():
    inside = operation("fused", n_bytes=1, in_program=True)
    found = handed_out(
        [operation(program_call), inside, inside, operation("a"), operation("linalg_vector_norm")]
    )
    assert (found.n_operations, found.n_programs, found.n_tensors) == (1, 1, 1)


def test_portions_that_were_not_followed_are_those_before_them_again():
    phases = ["forward", "loss", "backward"] * 2 + ["clip", "update"]
    trace = Trace([operation("a", phase) for phase in phases], [])
    whole = [one.phase for one in whole_step(StepTrace(trace, 5, 2))]
    assert whole == ["forward", "loss", "backward"] * 5 + ["clip", "update"]


def test_a_followed_step_has_the_parts_it_takes_time_for():
    config = run_config()
    told = step_time(trace_step(config, config.model, site()), rates(None), "fp32")
    assert set(told.parts) == {"products", "loss", "update", "the rest"}
    assert sum(told.parts.values()) == pytest.approx(told.step)


def with_waits(followed: StepTrace) -> StepTrace:
    """The step as it was when Python asked for numbers in it: at its start, and twice to clip."""
    operations = list(followed.trace.operations)
    norms = [n for n, one in enumerate(operations) if one.name == "linalg_vector_norm"]
    begins_to_clip = next(n for n, one in enumerate(operations) if one.phase == "clip")
    for place in sorted((1, begins_to_clip, norms[-1] + 2), reverse=True):
        operations.insert(place, operation(wait, operations[place].phase))
    return dataclasses.replace(followed, trace=Trace(operations, followed.trace.storages))


@pytest.mark.parametrize(
    "line", (Path(__file__).parent / "gpu_times.jsonl").read_text().splitlines()
)
def test_the_time_is_what_a_gpu_needed(line: str):
    """On an H100, with rates measured there; the shapes are none that calibration measures.

    Those steps asked for the number of targets, the loss and the norm before they went on.
    """
    known = json.loads(line)
    config = load_settings(RunConfig, None, known["settings"]).config
    there = Site(
        device="cuda",
        dtype=dtypes[known["precision"]],
        attention=known["attention"],
        is_compiled=known["compiled"],
        micro_batch=known["micro_batch"],
        capability=(9, 0),
    )
    measured = read_rates(Path(__file__).parent / "h100_rates.json")
    followed = with_waits(trace_step(config, config.model, there))
    told = step_time(followed, measured, known["precision"])
    assert told.step == pytest.approx(statistics.median(known["seconds"]), rel=0.06)
