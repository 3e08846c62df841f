import dataclasses
from pathlib import Path

import pytest

import small
from modelwright.accounting.hardware import Device, device_named
from modelwright.planning import out_of_memory
from modelwright.planning.out_of_memory import (
    explain_out_of_memory,
    room_left,
    said_by_the_plan,
    what_fits,
    where_it_was,
)
from modelwright.planning.plan import Memory, Plan, make_plan
from modelwright.runtime.gpu_memory import MemoryFigures
from modelwright.training.assembly import Prepared, prepare
from modelwright.training.out_of_memory import OutOfMemory

mib, gib = 2**20, 2**30


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("data")
    changes = ["model.context=64", "model.d_model=32", "training.batch_tokens=1024"]
    changes += ["training.compile=false", "training.lanes=1"]
    return prepare(small.run_config(folder, *changes))


def figures(**changes: int) -> MemoryFigures:
    usual = {
        "wanted_bytes": 4 * gib,
        "total_bytes": 24 * gib,
        "allocated_bytes": 20 * gib,
        "reserved_bytes": 22 * gib,
        "free_bytes": gib,
    }
    return MemoryFigures(**(usual | changes))


def with_memory(plan: Plan, **changes: int) -> Plan:
    return dataclasses.replace(plan, memory=dataclasses.replace(plan.memory, **changes))


@pytest.fixture(scope="module")
def memory(prepared: Prepared) -> Memory:
    plain = make_plan(prepared.config, None).memory
    return dataclasses.replace(
        plain,
        peak_bytes=18 * gib,
        usable_bytes=24 * gib,
        outside_bytes=2 * gib,
        context_bytes=gib,
    )


def test_the_room_is_that_of_the_device_less_what_no_tensor_gets(memory: Memory):
    large = dataclasses.replace(memory, peak_bytes=30 * gib)
    assert room_left(large, None) == 22 * gib


def test_the_room_is_smaller_where_others_hold_some_of_it(memory: Memory):
    large = dataclasses.replace(memory, peak_bytes=30 * gib)
    few = figures(allocated_bytes=9 * gib, reserved_bytes=12 * gib)
    assert room_left(large, few) == (12 + 1 - 1) * gib


def test_what_failed_is_not_said_to_fit(memory: Memory):
    assert room_left(memory, None) == 18 * gib - 1
    assert room_left(memory, figures(reserved_bytes=0, free_bytes=0)) == 0


def test_the_figures_of_the_moment_are_listed():
    said = "\n".join(where_it_was(figures()))
    assert "4.000 GiB  were asked for" in said
    assert "20.000 GiB  allocated" in said
    assert "2.000 GiB  reserved but not allocated" in said
    assert "1.000 GiB  outside of PyTorch" in said
    assert "24.000 GiB  in all" in said
    assert "in one piece" not in said
    assert "nvidia-smi" not in said


def test_a_request_that_only_pieces_could_not_serve_is_called_so():
    said = " ".join(where_it_was(figures(wanted_bytes=gib)))
    assert "would have fitted into what is reserved but not allocated" in said
    assert "expandable_segments:True" in said


def test_much_memory_outside_of_pytorch_is_pointed_at():
    said = " ".join(where_it_was(figures(allocated_bytes=9 * gib, reserved_bytes=10 * gib)))
    assert "13.000 GiB outside of PyTorch is more than one process needs" in said


def test_the_plan_says_whether_it_had_expected_that(prepared: Prepared):
    plan = make_plan(prepared.config, None)
    error = OutOfMemory("no", micro_batch=2)
    assert "2 sequences at once" in said_by_the_plan(plan, error)
    assert "so it should have fitted" in " ".join(said_by_the_plan(plan, error).split())
    large = with_memory(plan, peak_bytes=plan.memory.usable_bytes + 1)
    alone = said_by_the_plan(large, OutOfMemory("no", micro_batch=1))
    assert "a step of a sequence at once" in alone
    assert "which is not there" in " ".join(alone.split())


def test_where_nothing_helps_that_is_said(prepared: Prepared):
    plan = make_plan(prepared.config, None)
    assert "A smaller model or model.context would." in " ".join(what_fits([], plan))


def test_an_explanation_shows_where_the_memory_goes_and_the_largest_portions(
    prepared: Prepared,
):
    said = explain_out_of_memory(prepared, OutOfMemory("no", micro_batch=8, figures=figures()))
    assert "4.000 GiB  were asked for" in said
    assert "Most is held at the operation" in said
    assert "the weights, in fp32" in said
    assert "--set training.micro_batch=7" in said  # it is tiny: one less would have fitted


def test_portions_that_fit_are_those_of_the_room_that_was_there(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
):
    def device(*_: object) -> Device:
        return device_named("h100")

    monkeypatch.setattr(out_of_memory, "device_here", device)
    training = dataclasses.replace(prepared.config.training, device="auto", batch_tokens=8192)
    there = dataclasses.replace(
        prepared, config=dataclasses.replace(prepared.config, training=training)
    )
    found = []
    for room in (12, 24):
        few = figures(
            total_bytes=gib, allocated_bytes=0, reserved_bytes=(64 + room) * mib, free_bytes=0
        )
        said = explain_out_of_memory(there, OutOfMemory("no", micro_batch=128, figures=few))
        found.append(int(said.partition("training.micro_batch=")[2].split()[0]))
    assert 4 < found[0] < found[1] < 128


def test_a_run_out_of_memory_in_its_update_is_explained_too(prepared: Prepared, tmp_path: Path):
    said = explain_out_of_memory(prepared, OutOfMemory("update", micro_batch=1))
    assert "a sequence at once" in said
    assert "training.micro_batch" not in said
    assert "were asked for" not in said
