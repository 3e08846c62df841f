"""A small study from its file to its record, killed in the middle and gone on with."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import small_study
from modelwright.cli.app import app
from modelwright.cli.study import study as study_command
from modelwright.config.loading import load_settings
from modelwright.experiments.study import (
    choose_cluster_places,
    choose_places,
    plan_missing,
    run_study,
)
from modelwright.experiments.study_agenda import Agenda
from modelwright.experiments.study_cost import cost_section
from modelwright.experiments.study_file import load_study
from modelwright.experiments.study_folder import read_study
from modelwright.experiments.study_record import StudyRecord
from modelwright.experiments.study_results import compare
from modelwright.experiments.study_texts import read_texts
from modelwright.experiments.study_worker import carry_out, outcome_file
from modelwright.experiments.verdicts import headline
from modelwright.planning.foresight import is_planned
from modelwright.runtime.files import lock_folder
from modelwright.training.assembly import prepare
from modelwright.training.config import RunConfig
from modelwright.training.metrics import metrics_file, read_metrics
from modelwright.training.runs import has_lines, train

pytestmark = pytest.mark.usefixtures("one_thread")

variants = """
[[variants]]
name = "norm"

[[variants]]
name = "none"
set = { "model.norm" = "none", "model.mlp" = "silu" }
"""
added = """
[[variants]]
name = "tf32"
set = { "training.precision" = "tf32" }

[[variants]]
name = "wild"
set = { "schedule.peak_lr" = 1e4, "optimizer.clip_norm" = 0.0 }
"""
saving = '"checkpoints.every_steps" = 16\n'


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    """A study that was killed in its third run, and then gone on with, with two more variants."""
    place = tmp_path_factory.mktemp("study")
    file = small_study.write(place, variants, set_also=saving, top="seeds = 3")
    folder = place / "studies"
    third = folder / "runs" / "norm-seed3"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        command = [sys.executable, "-m", "modelwright", "study", str(file), "--out", str(folder)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        until = time.monotonic() + 60
        while not has_checkpoint(third) and time.monotonic() < until:
            time.sleep(0.002)
        os.kill(int((third / ".lock").read_text()), signal.SIGKILL)  # the worker
        process.kill()
        out, error = process.communicate()
        assert "6 runs on" in out, error
        assert has_checkpoint(third) and not (third / outcome_file).exists()
        outcomes = {run.outcome for run in read_study(folder).runs}
        assert outcomes == {"finished", "missing"}

        small_study.write(place, variants + added, set_also=saving, top="seeds = 3")
        loaded = load_study(file)
        return run_study(loaded, folder, choose_places(loaded))


def test_a_lost_run_that_begins_anew_is_judged_by_its_new_steps(tmp_path: Path):
    loaded = load_study(small_study.write(tmp_path), ["schedule.peak_lr=10.0"])
    agenda = Agenda(loaded, tmp_path / "studies")
    agenda.variants()
    task = dataclasses.replace(agenda.task(("base", 1)), token_loss=0.0)
    first = carry_out(None, task, lambda _: None)
    assert first.outcome == "diverged" and first.final["step"] == 24
    before = curve(task.folder)
    (task.folder / outcome_file).unlink()  # as if it was killed just then
    again = carry_out(None, task, lambda _: None)
    assert (again.outcome, again.reason) == (first.outcome, first.reason)
    assert again.final["step"] == 24 and curve(task.folder) == before


def test_a_run_is_saved_when_the_command_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = small_study.write(tmp_path)
    long = ["--set", "training.n_steps=100_000", "--set", "evaluation.every_steps=100_000"]
    folder = tmp_path / "studies"
    run = folder / "runs" / "base-seed1"
    command = [sys.executable, "-m", "modelwright", "study", str(file), "--out", str(folder)]
    process = subprocess.Popen([*command, *long, "--yes"], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (has_lines(run / metrics_file) and len(read_metrics(run)) > 50):
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.wait()
    while not has_checkpoint(run) and time.monotonic() < until:
        time.sleep(0.05)
    assert has_checkpoint(run)
    with lock_once_free(run):
        (saved,) = (run / "checkpoints").glob("step-*")
        assert int(saved.name.removeprefix("step-")) == read_metrics(run)[-1]["step"] > 50


@contextmanager
def lock_once_free(folder: Path) -> Iterator[None]:
    """Hold a folder as soon as the process that works on it has left."""
    until = time.monotonic() + 30
    while True:
        try:
            with lock_folder(folder):
                yield
                return
        except ValueError:
            assert time.monotonic() < until
            time.sleep(0.05)


def has_checkpoint(run_folder: Path) -> bool:
    """Whether one is written, which says so itself when it is whole."""
    return any(run_folder.glob("checkpoints/step-*/manifest.json"))


def curve(run_folder: Path) -> list[tuple[int, float | None, float | None]]:
    """Each step's training and validation loss; a step that was taken twice counts once."""
    return [(m["step"], m.get("loss"), m.get("validation_loss")) for m in read_metrics(run_folder)]


def folder_of(record: StudyRecord, variant: str, seed: int) -> Path:
    return next(run.folder for run in record.runs if (run.variant, run.seed) == (variant, seed))


def test_a_killed_study_comes_to_the_same_bits_as_runs_by_themselves(
    study: StudyRecord, tmp_path: Path
):
    loaded = load_study(folder_of(study, "norm", 1).parents[2] / "small.toml")
    norm, none = loaded.variants[:2]
    # One that was over, the one that was killed, and one that came after it.
    for variant, seed in ((norm, 1), (norm, 3), (none, 2)):
        alone = tmp_path / f"{variant.name}-{seed}"
        config = loaded.run_config(variant, seed)
        seldom = dataclasses.replace(config.checkpoints, every_steps=999)
        train(dataclasses.replace(config, checkpoints=seldom), alone)
        assert curve(folder_of(study, variant.name, seed)) == curve(alone)


def test_the_record_says_what_became_of_each_run(study: StudyRecord):
    folder = folder_of(study, "norm", 1).parents[1]
    assert read_study(folder) == study
    outcomes = {(run.variant, run.outcome) for run in study.runs}
    assert outcomes == {
        ("norm", "finished"),
        ("none", "finished"),
        ("tf32", "failed"),
        ("wild", "diverged"),
    }
    for run in study.runs_of("norm"):
        last = read_metrics(run.folder)[-1]
        assert run.final["validation_loss"] == last["validation_loss"]
        assert run.final["step"] == 80
    (reason,) = {run.reason for run in study.runs_of("tf32")}
    assert reason is not None and "only NVIDIA GPUs have it" in reason


def test_seeds_are_paired_over_variants(study: StudyRecord):
    def order(variant: str, seed: int) -> list[str]:
        return [m["data_ids"] for m in read_metrics(folder_of(study, variant, seed)) if "loss" in m]

    for seed in (1, 2, 3):
        assert order("norm", seed) == order("none", seed)
    assert order("norm", 1) != order("norm", 2)


def test_a_study_that_is_done_does_nothing_more(study: StudyRecord):
    folder = folder_of(study, "norm", 1).parents[1]
    # Without the variant that cannot be here.
    file = small_study.write(folder.parent, variants, set_also=saving, top="seeds = 3")
    loaded = load_study(file)
    plan = plan_missing(loaded, folder, choose_places(loaded))
    assert (plan.n_runs, plan.n_done) == (0, 6)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*")}
    again = run_study(loaded, folder, choose_places(loaded))
    assert {run.outcome for run in again.runs} == {"finished"}
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/*")} == times


def test_runs_that_were_made_otherwise_are_not_taken_for_the_studys(study: StudyRecord):
    folder = folder_of(study, "norm", 1).parents[1]
    file = small_study.write(folder.parent, variants, set_also=saving, top="seeds = 3")
    loaded = load_study(file, ["schedule.floor=0.5"])
    message = "norm-seed1 was made with other settings .*schedule.floor: 0.1 → 0.5"
    with pytest.raises(ValueError, match=message):
        plan_missing(loaded, folder, choose_places(loaded))


def test_models_of_one_seed_begin_with_the_weights_they_share(study: StudyRecord):
    first: dict[str, dict[str, Any]] = {}
    loaded = load_study(folder_of(study, "norm", 1).parents[2] / "small.toml")
    for variant in loaded.variants[:2]:
        model = prepare(loaded.run_config(variant, 1)).model
        first[variant.name] = dict(model.named_parameters())
    shared = {
        name
        for name, tensor in first["norm"].items()
        if name in first["none"] and first["none"][name].shape == tensor.shape
    }
    assert any("attention" in name for name in shared) and "embedding.weight" in shared
    assert all(torch.equal(first["norm"][name], first["none"][name]) for name in shared)


def test_the_record_is_plain_json_with_folders_from_where_it_is(study: StudyRecord):
    folder = folder_of(study, "norm", 1).parents[1]
    content = json.loads((folder / "study.json").read_text())
    assert content["runs"][0]["folder"] == "runs/norm-seed1"
    assert content["variants"][1]["changes"] == {"model.norm": "none", "model.mlp": "silu"}


def test_each_run_has_its_plan_and_the_first_of_a_kind_what_came_of_it(study: StudyRecord):
    for run in (run for run in study.runs if run.outcome == "finished"):
        config = load_settings(RunConfig, run.folder / "config.toml").config
        assert is_planned(run.folder, config), run.folder
    norms = [run.folder for run in study.runs if run.variant == "norm"]
    verified = [folder for folder in norms if (folder / "verify.json").is_file()]
    assert 1 <= len(verified) < len(norms)
    plans = [json.loads((folder / "plan.json").read_text()) for folder in norms]
    assert {plan["n_parameters"] for plan in plans} == {plans[0]["n_parameters"]}
    section = cost_section(results := compare(study), results.variants)
    assert "predicted and measured" in section


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["study", *map(str, arguments)])


def test_the_first_run_of_each_variant_writes_at_each_temperature(study: StudyRecord):
    written = {(run.variant, run.seed) for run in study.runs if read_texts(run.folder)}
    assert written == {("norm", 1), ("none", 1)}
    found = read_texts(folder_of(study, "norm", 1))
    assert [at.temperature for at in found] == [0.5, 0.8, 1.0, 1.2]
    assert all(len(at.texts) == 1 and 0 < at.n_tokens < 16 for at in found)  # the context


def test_many_texts_are_written_and_measured_by_every_run(tmp_path: Path):
    texts = "[texts]\nn_texts = 8\ntemperatures = [0.7]\nmax_tokens = 5\n"
    loaded = load_study(small_study.write(tmp_path, texts, top="seeds = 2"))
    record = run_study(loaded, tmp_path / "study", choose_places(loaded))
    for run in record.runs:
        (at,) = read_texts(run.folder)
        assert len(at.texts) == 8 and at.n_groups == 2
        assert 0 < at.measures["distinct_1"].mean <= 1


def test_no_temperature_no_texts(tmp_path: Path):
    loaded = load_study(small_study.write(tmp_path, "[texts]\ntemperatures = []\n"))
    record = run_study(loaded, tmp_path / "study", choose_places(loaded))
    assert [read_texts(run.folder) for run in record.runs] == [[]]


def test_a_plan_alone_begins_nothing(tmp_path: Path):
    file = small_study.write(tmp_path, variants, top='question = "Well?"\nseeds = 3')
    result = call(file, "--out", tmp_path / "out", "--plan-only")
    assert result.exit_code == 0, result.exception
    assert f"small → {tmp_path / 'out'}\nWell?\n" in result.stdout
    assert "6 runs on" in result.stdout and "one after the other" in result.stdout
    assert not (tmp_path / "out").exists() and not (tmp_path / "data").exists()


def test_a_study_over_its_budget_is_not_begun(tmp_path: Path):
    file = small_study.write(tmp_path, "[budget]\nhours = 1e-9")
    result = call(file, "--out", tmp_path / "out")
    assert isinstance(result.exception, ValueError)
    assert "budget.hours is 1e-09; begin all the same with --yes" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "rey"], "--engine is 'rey'; choose 'processes' or 'ray'"),
        (["--engine", "ray", "--devices", "0"], "--devices is for this machine"),
        (["--devices", "0"], "--devices is 0, but the runs are on the processor"),
    ],
)
def test_workers_that_cannot_be_are_refused(tmp_path: Path, arguments: list[str], message: str):
    result = call(small_study.write(tmp_path), *arguments)
    assert message in str(result.exception)


@pytest.mark.cluster
def test_a_ray_cluster_comes_to_the_same_bits_and_replaces_a_worker(
    study: StudyRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = small_study.write(tmp_path, variants, set_also=saving, top="seeds = 2")
    loaded = load_study(file)
    places = choose_cluster_places(loaded)
    assert (places.n_devices, places.n_workers, places.gpus) == (1, 1, 0)
    told: list[str] = []

    def note(text: str) -> None:
        told.append(text)
        if len(told) == 1:  # while the second run is under way
            lock = tmp_path / "studies" / "runs" / "norm-seed2" / ".lock"
            until = time.monotonic() + 60
            while not (lock.is_file() and lock.read_text()) and time.monotonic() < until:
                time.sleep(0.002)
            os.kill(int(lock.read_text()), signal.SIGKILL)

    record = run_study(loaded, tmp_path / "studies", places, on_note=note)
    assert {run.outcome for run in record.runs} == {"finished"}
    assert "norm, seed 2: missing: the worker on the cluster ended" in told[1]
    for run in record.runs:
        here, there = run.folder, folder_of(study, run.variant, run.seed)
        assert curve(here) == curve(there)


def test_the_command_says_at_its_end_that_runs_failed(tmp_path: Path):
    file = small_study.write(tmp_path, top="seeds = 2")
    (tmp_path / "study" / "runs").mkdir(parents=True)
    (tmp_path / "study" / "runs" / "base-seed2").write_text("in the way")
    ended = call(file, "--yes", "--out", tmp_path / "study")
    assert ended.exit_code == 1, ended.output
    assert "some runs failed" in ended.output and "report  " in ended.output
    assert [run.outcome for run in read_study(tmp_path / "study").runs] == ["finished", "failed"]


def test_the_command_ends_with_the_verdict_and_a_page(
    study: StudyRecord, capsys: pytest.CaptureFixture[str]
):
    folder = folder_of(study, "norm", 1).parents[1]
    file = small_study.write(folder.parent, variants, set_also=saving, top="seeds = 3")
    # Nothing is missing, so nothing is trained.
    study_command(
        file,
        overrides=[],
        out=folder,
        yes=False,
        plan_only=False,
        at_once=None,
        devices=None,
        engine="processes",
    )
    out = capsys.readouterr().out
    assert f"report   {folder / 'report.html'}" in out
    assert headline(compare(read_study(folder))) in out
    assert "norm" in (folder / "report.html").read_text()
