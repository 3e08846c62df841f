import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import small
import traced
from modelwright.config.loading import to_toml
from modelwright.planning.measuring import Measured, RealStep, count_flops
from modelwright.planning.plan import make_plan
from modelwright.planning.verify import (
    Comparison,
    Found,
    amount,
    compare,
    comparisons_in,
    differences_in_place,
    found_in_run,
    found_in_steps,
    read_verified,
    render_comparisons,
    verify_run,
)
from modelwright.runtime.device import Machine
from modelwright.training.metrics import config_file

machine = Machine(processor="Abacus", gpu=None, n_threads=2, python="3", torch="2")


def comparison(low: float | None, high: float | None, measured: float | None) -> Comparison:
    return Comparison(name="it", unit="bytes", low=low, high=high, measured=measured)


@pytest.mark.parametrize(
    ("low", "high", "measured", "error"),
    [
        (110, 110, 100, 0.1),
        (90, 90, 100, -0.1),
        (90, 120, 100, 0),
        (120, 200, 100, 0.2),
        (20, 50, 100, -0.5),
        (90, 90, None, None),
        (None, None, 100, None),
        (90, 90, 0, None),
    ],
)
def test_the_error_counts_from_the_nearer_end_of_what_was_predicted(
    low: float | None, high: float | None, measured: float | None, error: float | None
):
    assert comparison(low, high, measured).error == (
        error if error is None else pytest.approx(error)
    )


def plan_of(**memory: Any) -> dict[str, Any]:
    return {
        "n_parameters": 1000,
        "batch_tokens": 64,
        "work": {"model": 5000},
        "memory": {
            "peak_bytes": 800,
            "outside_bytes": 70,
            "context_bytes": 30,
            "reserved_bytes": 900,
        }
        | memory,
        "time": {"step_seconds": {"low": 0.5, "high": 2.0}},
        "disk": {"checkpoint_bytes": 2**25 + 12_000},
    }


found = Found(
    n_parameters=(1000, ""),
    flops=(5000, ""),
    peak_bytes=(840, ""),
    reserved_bytes=(1000, ""),
    step_seconds=(0.25, ""),
    saved_bytes=(12_500, ""),
)


def by_name(comparisons: list[Comparison]) -> dict[str, Comparison]:
    return {one.name: one for one in comparisons}


def test_each_figure_of_a_plan_meets_its_own_of_reality():
    all_of_them = by_name(compare(plan_of(), found))
    predicted = {name: (one.low, one.high) for name, one in all_of_them.items()}
    assert predicted == {
        "parameters": (1000, 1000),
        "work of a step": (5000, 5000),
        "peak memory": (840, 840),  # what libraries hold is PyTorch's too, the context is not
        "reserved memory": (900, 900),
        "time of a step": (0.5, 2.0),
        "speed": (32, 128),
        "checkpoint": (12_000, 2**25 + 12_000),
    }
    errors = {name: one.error for name, one in all_of_them.items()}
    assert errors["reserved memory"] == pytest.approx(-0.1)
    assert errors["time of a step"] == pytest.approx(1.0)  # at least twice as long as it was
    assert errors["speed"] == pytest.approx(-0.5)
    for name in ("parameters", "work of a step", "peak memory", "checkpoint"):
        assert errors[name] == 0


def test_a_processor_has_no_reserved_memory():
    plan = plan_of(reserved_bytes=None, outside_bytes=0, context_bytes=0)
    names = by_name(compare(plan, found))
    assert "reserved memory" not in names
    assert names["peak memory"].low == 800


def test_a_table_has_a_line_for_each_figure():
    text = render_comparisons(
        [
            comparison(2**30, 2**30, 2**30),
            comparison(2**30, 2**31, 1.5 * 2**30),
            comparison(2**20, 2**20, None),
            comparison(1010, 1010, 1000),
            comparison(3000, 3000, 1000),
        ]
    )
    lines = text.splitlines()
    assert lines[0].split() == ["predicted", "measured", "error"]
    assert lines[1].split() == ["it", "1.000", "GiB", "1.000", "GiB", "exact"]
    assert lines[2].endswith("1.000 GiB to 2.000 GiB  1.500 GiB  in the range")
    assert lines[3].split()[-1] == "–"
    assert lines[4].endswith("+1.00%")
    assert lines[5].endswith("x 3")


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (2.5, "seconds", "2.500 s"),
        (0.0123, "seconds", "12.3 ms"),
        (1234.4, "tokens/s", "1,234 tokens/s"),
        (1000, "", "1,000"),
        (3.6127e6, "FLOPs", "3.6127e+06 FLOPs"),
        (512, "bytes", "0.500 KiB"),
    ],
)
def test_amounts_are_in_the_unit_that_suits_them(value: float, unit: str, said: str):
    assert amount(value, unit) == said


def run_in(folder: Path, records: list[dict[str, Any]], *, gpu: str | None = None) -> Path:
    """A run's record as training leaves it, without its training."""
    config = small.run_config(folder)
    (folder / config_file).write_text(to_toml(config))
    facts = {
        "machine": {"gpu": gpu},
        "n_vocab": 300,
        "parameters": {"total": 990, "padding": 10},
        "optimizer_groups": [{"n_parameters": 600}, {"n_parameters": 400}],
        "precision": "fp32",
        "attention": "math",
        "compiled": False,
        "micro_batch": 2,
        "lanes": 1,
    }
    (folder / "run.json").write_text(json.dumps(facts))
    for record in records:
        small.record(folder, record)
    return folder


def steps(*seconds: float, **others: Any) -> list[dict[str, Any]]:
    return [{"step": n, "step_seconds": s} | others for n, s in enumerate(seconds, start=1)]


def test_the_time_of_a_step_is_the_median_after_the_first_few(tmp_path: Path):
    records = [{"step": 0, "validation_loss": 3.0}, *steps(90, 50, 40, 1, 2, 9)]
    assert found_in_run(run_in(tmp_path, records)).step_seconds == (2, "the median of 3 steps")


def test_a_short_run_counts_all_but_the_first(tmp_path: Path):
    assert found_in_run(run_in(tmp_path, steps(90, 3, 5))).step_seconds[0] == 4


def test_a_step_that_was_not_taken_does_not_count(tmp_path: Path):
    records = [*steps(1, 1, 1, 2), {"step": 5, "step_seconds": 99, "action": "stop", "event": "x"}]
    assert found_in_run(run_in(tmp_path, records)).step_seconds[0] == 2


def test_a_processors_memory_is_not_said_to_be_that_of_tensors(tmp_path: Path):
    measured, why = found_in_run(run_in(tmp_path, steps(1, 2, memory_bytes=5))).peak_bytes
    assert measured is None
    assert "process" in why


def test_memory_is_that_of_steps_without_evaluation_sample_or_second_try(tmp_path: Path):
    records = [
        {"step": 1, "step_seconds": 1, "memory_bytes": 900, "reserved_bytes": 1000},
        {"step": 2, "step_seconds": 1, "memory_bytes": 500, "reserved_bytes": 1000},
        {"step": 3, "step_seconds": 1, "memory_bytes": 510, "validation_loss": 1.0},
        {"step": 4, "step_seconds": 1, "memory_bytes": 800, "reserved_bytes": 1100},
        {"step": 5, "step_seconds": 1, "memory_bytes": 700, "event": "out_of_memory"},
    ]
    measured = found_in_run(run_in(tmp_path, records, gpu="H100"))
    assert measured.peak_bytes[0] == 510
    assert measured.reserved_bytes[0] == 1100


def test_memory_of_a_run_of_one_step_is_that_steps(tmp_path: Path):
    measured = found_in_run(run_in(tmp_path, steps(1, memory_bytes=7), gpu="H100")).peak_bytes
    assert measured == (7, "PyTorch's counter, an evaluation included")


def test_parameters_are_counted_without_padding(tmp_path: Path):
    assert found_in_run(run_in(tmp_path, steps(1))).n_parameters[0] == 990


def test_the_newest_checkpoint_is_measured_on_the_disk(tmp_path: Path):
    run = run_in(tmp_path, steps(1))
    for step, n_bytes in ((2, 10), (4, 70)):
        folder = run / "checkpoints" / f"step-{step:06}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_bytes(b"x" * 5)
        (folder / "model.safetensors").write_bytes(b"x" * n_bytes)
    assert found_in_run(run).saved_bytes == (75, "the files of step-000004")


def planned(folder: Path) -> dict[str, Any]:
    place = {
        "precision": "fp32",
        "attention": "math",
        "is_compiled": False,
        "micro_batch": 4,
        "n_lanes": 1,
    }
    plan = plan_of() | {"settings_sha256": "0", "place": place}
    (folder / "plan.json").write_text(json.dumps(plan))
    return plan


def test_a_run_with_a_plan_is_verified_and_the_file_read_back(tmp_path: Path):
    run = run_in(tmp_path, steps(1, 1))
    planned(run)
    comparisons = verify_run(run, machine)
    assert comparisons is not None
    verified = read_verified(run)
    assert comparisons_in(verified) == comparisons
    assert verified["machine"]["processor"] == "Abacus"
    assert verified["otherwise"] == ["micro_batch: planned 4, was 2"]
    assert verified["comparisons"][0]["error"] == comparisons[0].error


def test_portions_that_shrank_are_those_of_the_end(tmp_path: Path):
    shrunk = {"step": 3, "step_seconds": 1, "event": "out_of_memory", "micro_batch": 1}
    run = run_in(tmp_path, [*steps(1, 1), shrunk])
    planned(run)
    verify_run(run, machine)
    assert read_verified(run)["otherwise"] == ["micro_batch: planned 4, was 1"]


def test_without_a_plan_or_a_step_nothing_is_verified(tmp_path: Path):
    run = run_in(tmp_path, [{"step": 0, "validation_loss": 3.0}])
    with pytest.raises(FileNotFoundError, match=r"no plan\.json to be compared with"):
        read_verified(run)
    assert verify_run(run, machine) is None
    planned(run)
    assert verify_run(run, machine) is None
    with pytest.raises(FileNotFoundError, match="written when a run ends or stops after a step"):
        read_verified(run)


def test_a_damaged_file_is_said(tmp_path: Path):
    (tmp_path / "verify.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_verified(tmp_path)


def test_a_place_as_planned_differs_in_nothing(tmp_path: Path):
    run = run_in(tmp_path, steps(1))
    facts = json.loads((run / "run.json").read_text())
    place = planned(run)["place"] | {"micro_batch": 2}
    assert differences_in_place(place, facts) == []
    assert differences_in_place(place | {"attention": "flash"}, facts) == [
        "attention: planned flash, was math"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("model.vocab_multiple=128", "model.tie_embeddings=false"),
        ("training.recompute=blocks", "training.cut=packed", "optimizer.kind=muon"),
        ("model.dropout=0.1", "model.mlp=swiglu", "training.loss_chunk=8"),
    ],
)
def test_the_plans_counts_are_those_of_real_objects(changes: tuple[str, ...]):
    config = traced.run_config(*changes, "training.average_decay=0.9", "training.compile=false")
    plan = make_plan(config, None).to_json()
    site = traced.site()
    step = RealStep(config, config.model, site)
    step.take()
    measured = Measured(
        peak_bytes=1,
        reserved_bytes=None,
        outside_bytes=None,
        step_seconds=[1.0],
        first_step_seconds=1.0,
        n_parameters=step.n_parameters,
        saved_bytes=step.saved_bytes,
    )
    flops = count_flops(config, config.model)
    same = by_name(compare(plan, found_in_steps(measured, flops, on_gpu=False)))
    assert same["parameters"].error == 0
    assert same["work of a step"].error == 0
    assert same["checkpoint"].low == same["checkpoint"].measured


def test_steps_of_their_own_are_measured_in_the_median():
    measured = Measured(
        peak_bytes=10,
        reserved_bytes=20,
        outside_bytes=None,
        step_seconds=[5.0, 1.0, 2.0],
        first_step_seconds=9.0,
        n_parameters=3,
        saved_bytes=4,
    )
    lanes = found_in_steps(measured, 7, on_gpu=False, n_lanes=2)
    assert lanes.peak_bytes[0] is None
    assert "training.lanes=1" in lanes.peak_bytes[1]
    result = found_in_steps(measured, 7, on_gpu=True)
    assert result.step_seconds == (2.0, "the median of 3 steps")
    values = {name: value[0] for name, value in dataclasses.asdict(result).items()}
    assert values == {
        "n_parameters": 3,
        "flops": 7,
        "peak_bytes": 10,
        "reserved_bytes": 20,
        "step_seconds": 2.0,
        "saved_bytes": 4,
    }
