"""Any runs put together: which are one variant, what it is called, and what became of each run."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from modelwright.config.loading import load_settings
from modelwright.experiments.run_groups import outcome_of, study_of
from modelwright.training.config import RunConfig
from modelwright.training.metrics import metrics_file, to_line
from simulated_study import write_run


def config(*changes: str) -> RunConfig:
    usual = ["training.n_steps=12", "model.context=64", "training.batch_tokens=1024"]
    return load_settings(RunConfig, None, [*usual, *changes]).config


def run(folder: Path, *changes: str, **more: Any) -> Path:
    write_run(folder, config(*changes), final=2.4, **more)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [
        run(tmp_path / "norm-seed1", "seed=1"),
        run(tmp_path / "none-seed1", "seed=1", "model.norm=none"),
        run(tmp_path / "norm-seed2", "seed=2"),
        run(tmp_path / "none-seed2", "seed=2", "model.norm=none"),
    ]


def test_runs_that_differ_in_the_seed_alone_are_one_variant(runs: list[Path]):
    study = study_of(runs)
    assert study.baseline == "norm"
    assert {one.name: dict(one.changes) for one in study.variants} == {
        "norm": {},
        "none": {"model.norm": "none"},
    }
    assert [(one.seed, one.folder) for one in study.runs_of("none")] == [(1, runs[1]), (2, runs[3])]
    assert {one.outcome for one in study.runs} == {"finished"}


@pytest.mark.parametrize("named", ["name", "folder"])
def test_the_baseline_may_be_named_or_be_a_run(runs: list[Path], named: str):
    study = study_of(runs, baseline="none" if named == "name" else str(runs[3]))
    assert study.baseline == "none"
    assert dict(study.variants[0].changes) == {"model.norm": "rmsnorm"}


def test_an_unknown_baseline_is_refused_with_those_there_are(runs: list[Path]):
    with pytest.raises(ValueError, match=r"--baseline nome is neither a variant \(norm, none\)"):
        study_of(runs, baseline="nome")


def test_folders_that_do_not_tell_variants_apart_are_called_by_what_differs(tmp_path: Path):
    study = study_of(
        [
            run(tmp_path / "a" / "run", "seed=1"),
            run(tmp_path / "b" / "run", "seed=1", "schedule.peak_lr=0.01", "model.bias=true"),
        ]
    )
    assert [one.name for one in study.variants] == ["base", "bias true, peak_lr 0.01"]


def test_a_number_that_is_not_the_seed_stays_in_the_name(tmp_path: Path):
    study = study_of(
        [run(tmp_path / "try-12", "seed=2"), run(tmp_path / "v2", "seed=2", "model.bias=true")]
    )
    assert [one.name for one in study.variants] == ["try-12", "v2"]


@pytest.mark.parametrize("name", ["lr-0.001", "lr_0.1", "lr-1e-1", "v2.1"])
def test_the_end_of_a_number_is_no_seed(tmp_path: Path, name: str):
    study = study_of(
        [run(tmp_path / name, "seed=1"), run(tmp_path / "other", "seed=1", "model.bias=true")]
    )
    assert [one.name for one in study.variants] == [name, "other"]


@pytest.mark.parametrize("end", ["-seed1", "_s1", "-1", ".seed1", "-seed-01", " 1"])
def test_the_seed_at_the_end_of_a_name_is_left_out(tmp_path: Path, end: str):
    study = study_of(
        [run(tmp_path / f"lr-0.5{end}", "seed=1"), run(tmp_path / "b", "seed=1", "model.bias=true")]
    )
    assert [one.name for one in study.variants] == ["lr-0.5", "b"]


def test_one_run_twice_is_refused(runs: list[Path], tmp_path: Path):
    again = run(tmp_path / "again", "seed=2")
    with pytest.raises(
        ValueError, match=r"norm-seed2 and .*again have the same settings and seed \(2\)"
    ):
        study_of([*runs, again])
    assert len(study_of([*runs, runs[0]]).runs) == 4  # the same folder named twice is one run


def test_a_folder_without_a_run_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"empty holds no config\.toml"):
        study_of([tmp_path / "empty"])


def test_a_run_that_gave_up_diverged_and_one_cut_short_stopped(tmp_path: Path):
    long = "training.n_steps=200"
    gave_up = run(tmp_path / "gave-up", long, diverges_at=20)
    assert outcome_of(gave_up, config(long)) == "diverged"
    cut = run(tmp_path / "cut", until=5)
    assert outcome_of(cut, config()) == "stopped"
    (cut / metrics_file).write_text("")
    assert outcome_of(cut, config()) == "stopped"


def test_a_run_that_went_back_after_a_fault_is_not_diverged(tmp_path: Path):
    folder = run(tmp_path / "run")
    lines = (folder / metrics_file).read_text().splitlines(keepends=True)
    fault = to_line({"step": 5, "event": "not_finite", "action": "rewind", "loss": None})
    (folder / metrics_file).write_text("".join([*lines[:6], fault, *lines[6:]]))
    assert outcome_of(folder, config()) == "finished"


def test_a_run_that_ends_worse_than_guessing_has_diverged(tmp_path: Path):
    folder = tmp_path / "run"
    write_run(folder, config(), final=9.0)
    assert outcome_of(folder, config()) == "diverged"


def test_settings_are_compared_whole(tmp_path: Path):
    first = config("seed=1")
    assert dataclasses.replace(first, seed=2) == config("seed=2")
    study = study_of([run(tmp_path / "a"), run(tmp_path / "b", "samples.max_tokens=7", "seed=2")])
    assert [one.name for one in study.variants] == ["a", "b"]
