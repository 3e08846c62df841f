"""What a study's runs came to: what they are compared by, and what becomes of runs without it."""

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simulated_study
from modelwright.experiments.statistics import Outcomes
from modelwright.experiments.study_curves import (
    difference_curve,
    learning_curves,
    mean_curve,
    run_curve,
    thinned,
)
from modelwright.experiments.study_looks import compact, looks_of, short_path
from modelwright.experiments.study_plots import are_crowded, first_below, in_order
from modelwright.experiments.study_record import StudyRecord, StudyRun, Variant
from modelwright.experiments.study_results import Results, RunResult, VariantResult, compare
from modelwright.experiments.study_settings import (
    differing_settings,
    numeric_axes,
    ordering_axis,
)
from modelwright.experiments.study_tables import curves_table
from modelwright.training.metrics import facts_file, metrics_file, to_line
from simulated_study import Simulated

two = [Simulated(name="base"), Simulated(name="other", shift=0.1)]


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / metrics_file
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(to_line(change(line)) for line in lines))


def small(tmp_path: Path, variants: list[Simulated] = two, **more: Any) -> StudyRecord:
    return simulated_study.write_simulated(tmp_path, variants, n_steps=20, **more)


def test_runs_are_compared_by_their_last_validation_loss(tmp_path: Path):
    results = compare(small(tmp_path))
    lines = (tmp_path / "runs/other-seed2" / metrics_file).read_text().splitlines()
    assert results.measure == "validation_loss"
    assert results.variants[1].outcomes.finals[2] == json.loads(lines[-1])["validation_loss"]
    assert results.question.worthwhile == pytest.approx(0.01 * (results.baseline.mean or 0))
    assert compare(results.study, worthwhile=0.5).question.worthwhile == 0.5


def test_with_other_tokenizers_losses_are_compared_per_byte(tmp_path: Path):
    study = small(tmp_path)
    path = tmp_path / "runs/other-seed1" / facts_file
    path.write_text(path.read_text().replace("0" * 64, "1" * 64))
    results = compare(study)
    assert (results.measure, results.unit) == ("validation_bits_per_byte", "bits per byte")
    assert "The tokenizers differ" in results.notes[0]


def test_without_validation_the_last_tenth_of_the_training_loss_stands_for_it(tmp_path: Path):
    study = small(tmp_path)
    for run in study.runs:
        rewrite(run.folder, lambda line: {k: v for k, v in line.items() if "validation" not in k})
    results = compare(study)
    assert results.measure == "loss"
    losses = [record["loss"] for record in results.runs[0].trained]
    assert results.runs[0].final("loss") == pytest.approx((losses[-1] + losses[-2]) / 2)


def test_a_run_whose_folder_is_gone_counts_with_what_the_study_noted():
    runs = tuple(
        StudyRun(
            variant=name, seed=seed, folder=Path("/nowhere"), outcome="finished",
            final={"validation_loss": value + 0.01 * seed},
        )
        for name, value in (("base", 2.0), ("other", 1.0)) for seed in (1, 2, 3)
    )  # fmt: skip
    study = StudyRecord(
        name="gone", question="", baseline="base",
        variants=tuple(Variant(name=name, changes={}) for name in ("base", "other")), runs=runs,
    )  # fmt: skip
    results = compare(study)
    assert results.comparisons["other"].mean == pytest.approx(-1.0)
    assert results.variants[0].begun == []


@pytest.mark.parametrize(
    ("outcome", "why"),
    [("missing", "is missing"), ("failed", "failed"), ("stopped", "stopped after step 100")],
)
def test_a_run_without_a_result_is_left_out_and_named(tmp_path: Path, outcome: Any, why: str):
    study = simulated_study.write_simulated(
        tmp_path, [two[0], Simulated(name="other", absent={2: outcome})], n_steps=110
    )
    one = compare(study).comparisons["other"]
    assert one.n_pairs == 2
    assert one.left_out == {2: f"other {why}"}


def test_other_data_machines_or_tokens_are_told(tmp_path: Path):
    study = small(tmp_path)
    assert compare(study).notes == ()
    path = tmp_path / "runs/other-seed1" / facts_file
    facts = json.loads(path.read_text())
    facts["data"] = {"train": {"n_tokens": 5}}
    facts["machine"]["gpu"] = "a GPU"
    path.write_text(json.dumps(facts))
    rewrite(study.runs[0].folder, lambda line: line | {"n_tokens": 7 * line["step"]})
    notes = compare(study).notes
    assert [note.split(":")[0].split(".")[0] for note in notes] == [
        "The runs did not all have the same data",
        "Times are not of one machine",
        "The runs did not see equally many tokens",
    ]


def a_run(seed: int, losses: list[float], *, every: int = 1, **more: Any) -> RunResult:
    records = [
        {"step": n * every, "loss": loss, "n_tokens": 10 * n * every, "seconds": 2.0 * n}
        for n, loss in enumerate(losses, start=1)
    ]
    run = StudyRun(
        variant="v", seed=seed, folder=Path("/nowhere"), outcome=more.pop("outcome", "finished")
    )
    return RunResult(run=run, records=records, **more)


def a_variant(*runs: RunResult) -> VariantResult:
    return VariantResult(
        variant=Variant(name="v", changes={}), runs=runs, outcomes=Outcomes(name="v", finals={})
    )


def test_a_mean_curve_is_the_mean_of_its_finished_runs_with_their_range():
    lost = a_run(3, [3.0, 99.0], outcome="diverged")
    curve = mean_curve(
        a_variant(a_run(1, [3.0, 2.0, 1.0]), a_run(2, [5.0, 2.0, 2.0]), lost), "loss"
    )
    assert curve is not None and curve.low is not None and curve.high is not None
    assert curve.y.tolist() == [4.0, 2.0, 1.5]
    assert curve.low.tolist() == [3.0, 2.0, 1.0] and curve.high.tolist() == [5.0, 2.0, 2.0]
    assert curve.x["seconds"].tolist() == [2.0, 4.0, 6.0]
    assert "flops" not in curve.x
    assert mean_curve(a_variant(lost), "loss") is None


def test_a_measurement_that_was_made_up_for_stands_where_its_step_was():
    run = a_run(1, [3.0, 2.5, 2.0])
    run.records.append({"step": 3, "validation_loss": 2.1})
    curve = run_curve(run, "validation_loss")
    last = run.records[2]
    assert curve.x["tokens"].tolist() == [last["n_tokens"]] != [0]
    assert curve.x["seconds"].tolist() == [last["seconds"]] != [0]


def test_a_measurement_that_was_made_up_for_is_in_the_table_of_curves(tmp_path: Path):
    study = small(tmp_path)
    path = tmp_path / "runs/other-seed2" / metrics_file
    *lines, last = [json.loads(line) for line in path.read_text().splitlines()]
    measured = last.pop("validation_loss")
    lines += [last, {"step": last["step"], "validation_loss": measured}]
    path.write_text("".join(map(to_line, lines)))
    rows = csv.DictReader(curves_table(compare(study)).splitlines())
    found = [row for row in rows if (row["variant"], row["seed"]) == ("other", "2")]
    assert (found[-1]["step"], found[-1]["validation_loss"]) == ("20", str(measured))


def test_work_is_the_steps_times_what_a_step_takes():
    curve = run_curve(a_run(1, [3.0, 2.0], facts={"step_flops": 50}), "loss")
    assert curve.x["flops"].tolist() == [50.0, 100.0]


def test_a_difference_curve_compares_at_the_same_place():
    base = a_variant(a_run(1, [4.0] * 40), a_run(2, [5.0] * 40))
    # Twice the tokens a step, and a difference of its own for each seed.
    other = a_variant(a_run(1, [3.0] * 20, every=2), a_run(2, [4.5] * 20, every=2))
    curve = difference_curve(other, base, "tokens")
    assert curve is not None and curve.low is not None and curve.high is not None
    assert curve.y == pytest.approx(np.full(len(curve.y), -0.75))
    assert (curve.low.min(), curve.high.max()) == pytest.approx((-1.0, -0.5))
    assert (curve.x["tokens"][0], curve.x["tokens"][-1]) == (20.0, 400.0)
    assert difference_curve(a_variant(a_run(9, [3.0])), base, "tokens") is None


def test_a_difference_curve_follows_the_baseline_along_its_own_axis():
    def falling(n: int, every: int) -> list[float]:
        return [10 - 0.01 * 10 * every * step for step in range(1, n + 1)]

    base, other = a_variant(a_run(1, falling(40, 1))), a_variant(a_run(1, falling(20, 2), every=2))
    curve = difference_curve(other, base, "tokens")
    assert curve is not None
    # The same loss at the same token, but an average over steps lags three of them behind.
    settled = curve.y[curve.x["tokens"] > 250]
    assert settled == pytest.approx(np.full(len(settled), 3 * 0.1), abs=0.08)


def test_a_thinned_curve_keeps_its_ends_and_its_beginning():
    assert thinned(50, 100).tolist() == list(range(50))
    chosen = thinned(100_000, 150)
    assert len(chosen) <= 150
    assert (chosen[0], chosen[-1]) == (0, 99_999)
    assert sum(chosen < 1000) > 20  # of which an even choice would have one or two


def test_where_a_loss_is_reached_first():
    curve = run_curve(a_run(1, [4.0, 3.0, 3.5, 2.0]), "loss")
    assert first_below(curve, 3.2, "step") == 2
    assert first_below(curve, 2.0, "seconds") == 8.0
    assert first_below(curve, 1.0, "step") is None


def results_of(tmp_path: Path, *variants: dict[str, Any]) -> Results:
    chosen = [Simulated(name=f"v{n}", changes=change) for n, change in enumerate(variants)]
    return compare(small(tmp_path, chosen, n_seeds=1))


def test_variants_along_one_number_are_ordered_by_it_with_the_bases_own_value(tmp_path: Path):
    results = results_of(tmp_path, {}, {"schedule.peak_lr": 0.1}, {"schedule.peak_lr": 1e-4})
    axis = ordering_axis(results)
    assert axis is not None
    assert axis.values == [1e-4, 0.003, 0.1]  # the default in the middle
    assert [one.name for one in in_order(results)] == ["v2", "v0", "v1"]
    assert len({look.color for look in looks_of(results).values()}) == 3


def test_a_grid_has_a_line_for_every_other_setting(tmp_path: Path):
    grid = [
        {"model.norm": norm, "schedule.peak_lr": rate}
        for norm in ("rmsnorm", "none") for rate in (1e-3, 1e-2, 1e-1)
    ]  # fmt: skip
    results = results_of(tmp_path, *grid, {"model.bias": True})
    (axis,) = numeric_axes(results)
    assert [(line.label, len(line.points)) for line in axis.lines] == [
        ("norm rmsnorm", 3),
        ("norm none", 3),
    ]
    assert ordering_axis(results) is None


def test_true_and_false_are_no_numbers(tmp_path: Path):
    results = results_of(tmp_path, {"model.bias": True}, {"model.bias": False})
    assert numeric_axes(results, fewest=2) == []


def test_what_follows_from_a_change_is_among_the_differences(tmp_path: Path):
    study = small(
        tmp_path,
        [Simulated(name="base"), Simulated(name="large", changes={"training.batch_tokens": 2048})],
        equal_tokens=True,
    )
    names, rows = differing_settings(compare(study))
    assert names == ["training.batch_tokens", "training.n_steps"]
    assert rows == [["1024", "20"], ["2048", "10"]]


def test_what_would_follow_from_a_change_is_open_until_there_is_a_run(tmp_path: Path):
    study = small(
        tmp_path,
        [
            Simulated(name="base"),
            Simulated(name="large", changes={"training.batch_tokens": 2048}),
            Simulated(
                name="larger",
                changes={"training.batch_tokens": 4096},
                absent=dict.fromkeys((1, 2, 3), "missing"),
            ),
        ],
        equal_tokens=True,
    )
    names, rows = differing_settings(compare(study))
    assert names == ["training.batch_tokens", "training.n_steps"]
    assert rows == [["1024", "20"], ["2048", "10"], ["4096", "–"]]


def test_twenty_variants_all_look_different(tmp_path: Path):
    variants = [
        Simulated(name=f"v{n}", changes={"model.norm": "none"} if n else {}) for n in range(20)
    ]
    looks = looks_of(compare(small(tmp_path, variants, n_seeds=1))).values()
    assert len({(look.color, str(look.dash)) for look in looks}) == 20


def test_a_picture_for_a_page_keeps_its_shape_and_has_its_own_ids():
    svg = (
        '<svg viewBox="0 0 100 50"><g id="b"><path id="a" d="M 1.2345678 2.0 \nL 3.26 4" /></g>'
        '<use xlink:href="#a" x="1.23456" y="-2"/><g clip-path="url(#a)"/></svg>'
    )
    made = compact(svg, "one")
    assert 'd="M1.2 2l2.1 2"' in made and 'x="1.2" y="-2"' in made
    assert made.count("one-a") == 3 and '"a"' not in made and "#a" not in made
    assert "<g><path" in made  # nobody refers to it
    assert "max-width:140px" in made


def points_of(path: str) -> list[tuple[float, float]]:
    """The points that a path of M, L and C goes through, or is drawn to, told in either way."""
    found, at, start = [], (0.0, 0.0), (0.0, 0.0)
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        flat = [float(number) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers)]
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        n_each = {"c": 3}.get(command.lower(), 1)
        for first in range(0, len(pairs), n_each):
            base = at if command.islower() else (0.0, 0.0)
            for x, y in pairs[first : first + n_each]:
                at = (base[0] + x, base[1] + y)
                found.append(at)
        if command == "M":
            start = at
        if command == "z":
            at = start
    return found


@settings(max_examples=200)
@given(st.data())
def test_a_short_path_goes_through_the_same_points(data: st.DataObject):
    number = st.floats(-2000, 2000).map(lambda value: round(value, 6))
    told = ""
    for _ in range(data.draw(st.integers(1, 5))):
        point = f"{data.draw(number):f} {data.draw(number):f}"
        told += f"M {point} \n"
        for _ in range(data.draw(st.integers(0, 6))):
            command = data.draw(st.sampled_from("LC"))
            numbers = [f"{data.draw(number):f}" for _ in range({"L": 2, "C": 6}[command])]
            told += f"{command} {' '.join(numbers)} \n"
        told += data.draw(st.sampled_from(["", "z\n"]))
    made = short_path(told)
    assert len(made) < len(told)
    expected, found = points_of(told), points_of(made)
    assert len(found) == len(expected)
    worst = max(
        abs(a - b) for x, y in zip(expected, found, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert worst <= 0.05 + 1e-6


def test_a_loss_that_is_no_number_is_no_point_of_a_curve():
    run = a_run(1, [3.0, math.inf, 2.0])
    assert run_curve(run, "loss").y.tolist() == [3.0, 2.0]


@pytest.mark.parametrize(
    ("values", "n_letters", "touch"),
    [
        ([256, 2048, 8192, 65_536, 114_688, 262_144], 80, True),  # 65,536 and 114,688
        ([256, 2048, 16_384, 262_144], 80, False),
        ([256, 2048, 16_384, 262_144], 15, True),
        ([1e-5, 1e-4, 3e-4, 1e-3], 80, False),
        ([256], 80, False),
    ],
)
def test_names_along_an_axis_are_turned_where_they_would_touch(
    values: list[float], n_letters: int, touch: bool
):
    assert are_crowded(values, n_letters, is_log=True) is touch
    assert not are_crowded([1.0, 2.0, 3.0], 80, is_log=False)


@pytest.mark.filterwarnings("error")
def test_a_curve_of_a_single_step_is_drawn(tmp_path: Path):
    wild = Simulated(name="wild", diverges=frozenset({1}))
    study = simulated_study.write_simulated(tmp_path, [wild], n_seeds=1)
    (metrics,) = tmp_path.glob("runs/*/metrics.jsonl")
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join([*lines[:2], lines[-1]]))
    drawn = learning_curves(compare(study))["step", "smoothed", "linear"]()
    low, high = drawn.axes[0].get_ylim()
    assert low < high
