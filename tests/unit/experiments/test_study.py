"""Which runs a study gives out and what it makes of their ends, with workers that only pretend."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import small_study
from modelwright.experiments import study as module
from modelwright.experiments.study import (
    _go_on,
    choose_cluster_places,
    choose_places,
    plan_missing,
)
from modelwright.experiments.study_agenda import Agenda, no_change
from modelwright.experiments.study_file import load_study
from modelwright.experiments.study_folder import read_study
from modelwright.experiments.study_worker import RunResult, RunTask, shape_of
from modelwright.runtime.crew import WorkerDied
from modelwright.runtime.interrupts import StopRequest
from modelwright.runtime.progress import Progress, nobody
from pretended_crew import PretendedCrew, finished, names, result


def agenda_of(path: Path) -> Agenda:
    agenda = Agenda(load_study(path), path.parent / "study")
    agenda.folder.mkdir(exist_ok=True)
    config = agenda.config(no_change, 1)
    agenda._token_losses[config.data, config.tokenizer] = 5.0  # as if it were built
    return agenda


def test_runs_of_one_shape_come_together_and_in_turns_of_a_seed(tmp_path: Path):
    grid = '[grid]\n"model.norm" = ["rmsnorm", "none"]\n"schedule.peak_lr" = [0.1, 0.2]'
    crew = PretendedCrew(finished)
    agenda = agenda_of(small_study.write(tmp_path, grid, top="seeds = [5, 3]"))
    _go_on(agenda, crew, StopRequest(), nobody, lambda _: None)
    assert names(crew) == [
        *["norm-rmsnorm_peak_lr-0.1/5", "norm-rmsnorm_peak_lr-0.2/5"],
        *["norm-rmsnorm_peak_lr-0.1/3", "norm-rmsnorm_peak_lr-0.2/3"],
        *["norm-none_peak_lr-0.1/5", "norm-none_peak_lr-0.2/5"],
        *["norm-none_peak_lr-0.1/3", "norm-none_peak_lr-0.2/3"],
    ]
    assert {run.outcome for run in read_study(agenda.folder).runs} == {"finished"}


def test_a_bisection_finds_an_edge_that_is_known_and_uses_the_grid(tmp_path: Path):
    def outcome(task: RunTask) -> RunResult:
        return result("diverged" if task.config.schedule.peak_lr > 0.0345 else "finished")

    text = (
        '[grid]\n"schedule.peak_lr" = { from = 1e-3, to = 1e-1, n = 3 }\n'
        '[bisection]\nsetting = "schedule.peak_lr"\ntrains = 1e-3\ndiverges = 1e-1\nratio = 1.2\n'
    )
    agenda = agenda_of(small_study.write(tmp_path, text, top="seeds = 2"))
    crew = PretendedCrew(outcome, n_workers=4)
    _go_on(agenda, crew, StopRequest(), nobody, lambda _: None)
    assert agenda.edge is not None and agenda.edge.wanted == ()
    low, high = agenda.edge.trains, agenda.edge.diverges
    assert low is not None and high is not None
    assert low < 0.0345 <= high <= 1.2 * low
    assert len(names(crew)) == len(set(names(crew)))  # nothing twice
    assert len(agenda.record().variants) == 3 + 4  # 0.01 is the first middle and of the grid


bisection = """
[bisection]
setting = "schedule.peak_lr"
trains = 1e-3
diverges = 1e-1
ratio = 4.0
"""


def test_a_bisection_uses_a_variant_whatever_it_is_called(tmp_path: Path):
    def outcome(task: RunTask) -> RunResult:
        return result("diverged" if task.config.schedule.peak_lr > 0.02 else "finished")

    text = '[[variants]]\nname = "usual"\nset = { "schedule.peak_lr" = 1e-3 }\n' + bisection
    agenda = agenda_of(small_study.write(tmp_path, text))
    crew = PretendedCrew(outcome)
    _go_on(agenda, crew, StopRequest(), nobody, lambda _: None)
    assert sorted(names(crew)) == [
        "peak_lr-0.01/1",
        "peak_lr-0.03162/1",
        "peak_lr-0.1/1",
        "usual/1",
    ]
    assert agenda.edge is not None
    assert (agenda.edge.trains, agenda.edge.diverges) == (0.01, 0.03162)


def test_a_variant_that_is_called_as_a_value_of_the_bisection_is_refused(tmp_path: Path):
    text = '[[variants]]\nname = "peak_lr-0.1"\nset = { "model.norm" = "none" }\n' + bisection
    message = "'peak_lr-0.1' is the name of two variants, {'model.norm': 'none'} and .*0.1}; call"
    with pytest.raises(ValueError, match=message):
        agenda_of(small_study.write(tmp_path, text)).variants()


def test_a_run_whose_worker_died_is_tried_once_more(tmp_path: Path):
    deaths = {1: 1, 2: 9}

    def outcome(task: RunTask) -> RunResult | Exception:
        deaths[task.seed] = deaths.get(task.seed, 0) - 1
        return WorkerDied("it was killed by signal 9") if deaths[task.seed] >= 0 else finished(task)

    agenda = agenda_of(small_study.write(tmp_path, top="seeds = 3"))
    told: list[str] = []
    crew = PretendedCrew(outcome)
    _go_on(agenda, crew, StopRequest(), nobody, told.append)
    assert sorted(names(crew)) == ["base/1", "base/1", "base/2", "base/2", "base/3"]
    runs = {run.seed: run for run in read_study(agenda.folder).runs}
    assert [runs[seed].outcome for seed in (1, 2, 3)] == ["finished", "failed", "finished"]
    assert runs[2].reason == "it was killed by signal 9, 2 times"
    assert "base, seed 1: missing: it was killed by signal 9; it is tried again" in told


def test_failed_runs_are_reported_and_the_others_go_on(tmp_path: Path):
    def outcome(task: RunTask) -> RunResult | Exception:
        if task.seed == 1:
            return RunResult(outcome="failed", reason="no room", final={})
        return KeyError("a fault") if task.seed == 2 else finished(task)

    agenda = agenda_of(small_study.write(tmp_path, top="seeds = 3"))
    seen: list[Progress] = []
    _go_on(agenda, PretendedCrew(outcome), StopRequest(), seen.append, lambda _: None)
    reasons = [run.reason for run in read_study(agenda.folder).runs]
    assert reasons == ["no room", "KeyError: 'a fault'", None]
    assert seen[-1].note == "3 of 3 runs, 2 failed" and seen[-1].done == seen[-1].total == 3 * 80
    assert any(progress.done == 80 + 30 for progress in seen)  # in the middle of the second run


def test_a_study_that_is_asked_to_stop_gives_out_no_more(tmp_path: Path):
    stop = StopRequest()

    def outcome(task: RunTask) -> RunResult:
        stop.signal_number = signal.SIGINT
        return result("stopped" if task.seed == 2 else "finished")

    agenda = agenda_of(small_study.write(tmp_path, top="seeds = 4"))
    crew = PretendedCrew(outcome, n_workers=2)
    _go_on(agenda, crew, stop, nobody, lambda _: None)
    assert names(crew) == ["base/1", "base/2"] and crew.asked_of == [None]
    outcomes = [run.outcome for run in read_study(agenda.folder).runs]
    assert outcomes == ["finished", "stopped", "missing", "missing"]


def test_what_is_no_part_of_the_programs_is_no_part_of_the_shape(tmp_path: Path):
    study = load_study(small_study.write(tmp_path))
    shape = shape_of(study.run_config(study.variants[0], 1))

    def changed(*overrides: str) -> Any:
        other = load_study(study.path, overrides)
        return shape_of(other.run_config(other.variants[0], 7))

    assert changed("schedule.peak_lr=0.5", "training.n_steps=7", "optimizer.beta1=0.5") == shape
    for change in ("model.norm=none", "training.batch_tokens=128", "optimizer.kind=sgd"):
        assert changed(change) != shape


def test_the_plan_counts_what_is_missing_and_what_a_bisection_may_add(tmp_path: Path):
    text = (
        '[grid]\n"schedule.peak_lr" = [1e-3, 1e-1]\n[bisection]\nsetting = "schedule.peak_lr"\n'
        "trains = 1e-3\ndiverges = 1e-1\nratio = 1.2\n"
    )
    study = load_study(small_study.write(tmp_path, text, top="seeds = 2"))
    places = choose_places(study, at_once=3)
    plan = plan_missing(study, tmp_path / "study", places)
    assert [(one.name, one.n_runs) for one in plan.variants] == [
        ("peak_lr-0.001", 2),
        ("peak_lr-0.1", 2),
        ("bisection", 10),
    ]
    assert (plan.n_runs, plan.n_workers, plan.n_places, plan.n_done) == (14, 3, 1, 0)
    # All runs share one processor, so several at once take as long as one after the other.
    assert plan.seconds == plan.device_seconds
    assert plan.device_seconds.high == pytest.approx(14 * plan.variants[0].run_seconds.high)


def test_a_gpu_that_is_named_twice_is_not_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    study = load_study(small_study.write(tmp_path))
    monkeypatch.setattr(module, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(module, "visible_gpus", lambda: ["0", "1"])
    assert choose_places(study, devices=["0", "1"]).n_devices == 2
    with pytest.raises(ValueError, match="names 1, 1, one of them twice; .* there is --at-once"):
        choose_places(study, devices=["1", "1"])


def test_places_that_are_not_there_are_refused(tmp_path: Path):
    study = load_study(small_study.write(tmp_path))
    with pytest.raises(ValueError, match="--devices is 0,1, but the runs are on the processor"):
        choose_places(study, devices=["0", "1"])
    with pytest.raises(ValueError, match="--at-once is 0; the least is 1"):
        choose_places(study, at_once=0)
    with pytest.raises(ValueError, match="--at-once is 0; the least is 1"):
        choose_cluster_places(study, at_once=0)


def test_a_cluster_cannot_prune(tmp_path: Path):
    search = '[search]\nn_trials = 2\npruner = "median"\n[search.settings]\n'
    path = small_study.write(tmp_path, search + '"model.n_layers" = { from = 1, to = 2 }')
    with pytest.raises(ValueError, match="search.pruner is 'median', but runs on a Ray cluster"):
        choose_cluster_places(load_study(path))


def test_variants_of_other_text_need_a_folder_of_their_own(tmp_path: Path):
    grid = '[grid]\n"data.stories_bytes" = [60_000, 70_000]\n'
    agenda = Agenda(load_study(small_study.write(tmp_path, grid)), tmp_path / "study")
    agenda.variants()
    with pytest.raises(ValueError, match=r"was built with other settings \(data.stories_bytes"):
        agenda.prepare_data(nobody)
