"""A search by optuna on a loss that is known, with workers that only pretend."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import small_study
from modelwright.config.loading import to_toml
from modelwright.experiments.search import Search, distributions
from modelwright.experiments.study import _go_on, choose_places, plan_missing
from modelwright.experiments.study_agenda import Agenda, no_change
from modelwright.experiments.study_config import SearchConfig
from modelwright.experiments.study_file import load_study
from modelwright.experiments.study_worker import RunResult, RunTask
from modelwright.runtime.crew import Ended, WorkerDied
from modelwright.runtime.interrupts import StopRequest
from modelwright.runtime.progress import nobody
from pretended_crew import PretendedCrew, names, result

best_rate = 0.01


def loss_of(task: RunTask) -> float:
    """The square of how many powers of ten the rate is from the best one."""
    return 1 + math.log10(task.config.schedule.peak_lr / best_rate) ** 2


def finished(task: RunTask) -> RunResult:
    return result("finished", validation_loss=loss_of(task))


def file(place: Path, search: str, *, seeds: int = 1) -> Path:
    settings = '[search.settings]\n"schedule.peak_lr" = { from = 1e-5, to = 10.0, log = true }\n'
    return small_study.write(place, f"[search]\n{search}\n{settings}", top=f"seeds = {seeds}")


def go_on(
    path: Path,
    crew: PretendedCrew,
    stop: StopRequest | None = None,
    *,
    overrides: Sequence[str] = (),
    folder: str = "study",
) -> Agenda:
    study = load_study(path, overrides)
    agenda = Agenda(study, path.parent / folder, n_at_once=crew.n_workers)
    agenda.folder.mkdir(exist_ok=True)
    config = agenda.config(no_change, 1)
    agenda._token_losses[config.data, config.tokenizer] = 5.0  # as if it were built
    _go_on(agenda, crew, stop or StopRequest(), nobody, lambda _: None)
    return agenda


def test_a_search_comes_near_what_is_best(tmp_path: Path):
    crew = PretendedCrew(finished, n_workers=3)
    agenda = go_on(file(tmp_path, "n_trials = 24"), crew)
    assert len(names(crew)) == 25  # and the base, with which they are compared
    assert agenda._search is not None
    best = agenda._search.best()
    assert best is not None and best["loss"] < 1.02
    run = agenda.runs[best["variant"], 1]
    assert run.final["validation_loss"] == best["loss"]
    # It looks where it found something: most of the later half is nearer than most of the earlier.
    losses = [loss_of(task) for task in crew.given if task.variant != "base"]
    assert statistics.median(losses[12:]) < 0.7 * statistics.median(losses[:12])


def test_a_trial_that_is_lost_with_its_first_seed_is_not_tried_with_others(tmp_path: Path):
    def outcome(task: RunTask) -> RunResult:
        return result("diverged") if task.config.schedule.peak_lr > 0.02 else finished(task)

    crew = PretendedCrew(outcome, n_workers=3)
    agenda = go_on(file(tmp_path, "n_trials = 8", seeds=2), crew)
    by_trial: dict[str, list[str]] = {}
    for run in agenda.record().runs:
        by_trial.setdefault(run.variant, []).append(run.outcome)
    kinds = [tuple(outcomes) for name, outcomes in by_trial.items() if name != "base"]
    assert set(kinds) == {("finished", "finished"), ("diverged", "missing")}
    lost = next(run for run in agenda.record().runs if run.outcome == "missing")
    assert lost.reason == "not tried, since seed 1 was diverged"


def test_other_seeds_wait_for_the_first_though_workers_are_free(tmp_path: Path):
    crew = PretendedCrew(lambda _: result("diverged"), n_workers=9)
    go_on(file(tmp_path, "n_trials = 3", seeds=2), crew)
    assert {name for name in names(crew) if not name.startswith("base")} == {
        f"trial-{number}/1" for number in range(3)
    }


def test_a_pruned_trial_is_stopped_and_its_worker_takes_the_next(tmp_path: Path):
    crew = PretendedCrew(finished, loss_on_the_way=loss_of)
    agenda = go_on(file(tmp_path, 'n_trials = 14\npruner = "median"'), crew)
    pruned = [run for run in agenda.record().runs if run.reason == "pruned by the search"]
    assert len(pruned) == len(crew.asked_of) > 0
    worst = max(loss_of(task) for task in crew.given[-7:] if task not in crew.asked_of)
    assert worst < max(loss_of(task) for task in crew.given)
    crew = PretendedCrew(finished, loss_on_the_way=loss_of)
    go_on(file(tmp_path / "other", "n_trials = 8"), crew)
    assert crew.asked_of == []


def test_a_run_that_reports_its_last_step_is_not_pruned_any_more(tmp_path: Path):
    crew = PretendedCrew(finished, loss_on_the_way=loss_of)
    path = file(tmp_path, 'n_trials = 14\npruner = "median"')
    agenda = go_on(path, crew, overrides=["training.n_steps=30"])  # which is where they report
    assert crew.asked_of == []
    assert {run.outcome for run in agenda.record().runs} == {"finished"}


def test_a_pruned_run_whose_worker_has_ended_is_pruned_all_the_same(tmp_path: Path):
    class Crew(PretendedCrew):
        """Workers that end where they are asked to stop."""

        def wait(self, seconds: float, on_report: Any) -> list[Ended]:
            ended = super().wait(seconds, on_report)
            died = WorkerDied("the worker process ended with code 0")
            return [
                Ended(one.task, error=died) if one.task in self.asked_of else one for one in ended
            ]

    crew = Crew(finished, loss_on_the_way=loss_of)
    agenda = go_on(file(tmp_path, 'n_trials = 14\npruner = "median"'), crew)
    pruned = [run for run in agenda.record().runs if run.reason == "pruned by the search"]
    assert len(pruned) == len(crew.asked_of) > 0
    assert {run.outcome for run in pruned} == {"stopped"}
    assert agenda._n_deaths == {}


def test_a_search_goes_on_with_the_trials_it_had_begun(tmp_path: Path):
    path = file(tmp_path, "n_trials = 6", seeds=2)
    stop = StopRequest()

    def outcome(task: RunTask) -> RunResult:
        if len(crew.given) < 6:
            return finished(task)
        stop.signal_number = 2
        return result("stopped")

    crew = PretendedCrew(outcome)
    go_on(path, crew, stop)
    stopped = names(crew)[-1]
    again = PretendedCrew(finished)
    # The finished ones left no folders, as real ones do, so they are wanted again.
    agenda = go_on(path, again)
    assert stopped in names(again)
    trials = {task.variant for task in again.given} | {task.variant for task in crew.given}
    assert trials == {"base", *(f"trial-{number}" for number in range(6))}
    assert agenda.n_trials_left() == 0
    rates = {variant.changes["schedule.peak_lr"] for variant in agenda.record().variants[1:]}
    assert len(rates) == 6  # the sampler does not begin anew


def test_folders_that_share_a_storage_share_the_trials_but_no_run(tmp_path: Path):
    storage = f'storage = "sqlite:///{tmp_path}/shared.db"'
    given: list[str] = []
    for name, n_trials in (("one", 4), ("two", 7)):
        crew = PretendedCrew(finished)
        agenda = go_on(file(tmp_path / name, f"n_trials = {n_trials}\n{storage}"), crew)
        own = [task for task in names(crew) if not task.startswith("base")]
        assert [f"{variant.name}/1" for variant in agenda.record().variants[1:]] == own
        given += own
    assert given == [f"trial-{number}/1" for number in range(7)]


def test_a_folder_that_was_moved_keeps_its_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = file(tmp_path, "n_trials = 3")
    first = go_on(path, PretendedCrew(finished))
    first.folder.rename(tmp_path / "moved")
    monkeypatch.setattr("socket.gethostname", lambda: "another")  # as each container has one
    again = go_on(file(tmp_path, "n_trials = 4"), PretendedCrew(finished), folder="moved")
    trials = ["trial-0", "trial-1", "trial-2", "trial-3"]
    assert [variant.name for variant in again.record().variants[1:]] == trials


def test_a_trial_that_died_while_it_was_drawn_is_drawn_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    go_on(file(tmp_path, "n_trials = 1"), PretendedCrew(finished))
    path = file(tmp_path, "n_trials = 3")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("optuna.trial.Trial.set_user_attr", die)
        go_on(path, PretendedCrew(finished))
    crew = PretendedCrew(finished)
    agenda = go_on(path, crew)
    assert [variant.name for variant in agenda.record().variants] == [
        *["base", "trial-0", "trial-2", "trial-3"]
    ]
    assert agenda.n_trials_left() == 0


def test_trials_that_were_made_otherwise_are_refused_and_stay_as_they_are(tmp_path: Path):
    path = file(tmp_path, "n_trials = 2")
    first = go_on(path, PretendedCrew(finished))
    assert first._search is not None
    run = first.runs["trial-1", 1]
    run.folder.mkdir(parents=True)
    (run.folder / "config.toml").write_text(to_toml(first.task(("trial-1", 1)).config))
    go_on(path, PretendedCrew(finished))  # as it was
    with pytest.raises(ValueError, match=r"trial-1-seed1 was made with other .*floor: 0.1 → 0.5"):
        go_on(path, PretendedCrew(finished), overrides=["schedule.floor=0.5"])


def test_choices_that_were_changed_are_refused_by_name(tmp_path: Path):
    def choosing(choices: str) -> Path:
        settings = f'[search.settings]\n"model.mlp" = {{ choices = {choices} }}\n'
        return small_study.write(tmp_path, f"[search]\nn_trials = 4\n{settings}")

    path = choosing('["swiglu", "silu"]')
    one = PretendedCrew(lambda _: result("finished", validation_loss=1.0))
    stop = StopRequest()
    stop.signal_number = 2
    go_on(path, one, stop)  # one trial is begun
    message = r"search.settings.*model.mlp.*\['swiglu', 'silu', 'gelu'\].*swiglu', 'silu'.*put"
    with pytest.raises(ValueError, match=message):
        go_on(choosing('["swiglu", "silu", "gelu"]'), one)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", "is 'nonsense', which cannot be used .Could not parse.*'postgresql://"),
        ("nosuch://host/name", "search.storage is 'nosuch://host/name', which cannot be used"),
        ("postgresql://me:secret@nowhere/all", r"is 'postgresql://me:\*\*\*@nowhere/all'"),
        ("sqlite:////nowhere/at/all.db", "which cannot be used.*unable to open database file"),
    ],
)
def test_a_storage_that_cannot_be_is_refused(tmp_path: Path, storage: str, message: str):
    study = load_study(file(tmp_path, f'n_trials = 2\nstorage = "{storage}"'))
    with pytest.raises(ValueError, match=message):
        Agenda(study, tmp_path / "study").variants()


def test_a_storage_that_was_damaged_is_named(tmp_path: Path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "optuna.db").write_bytes(b"no database" * 1000)
    study = load_study(file(tmp_path, "n_trials = 2"))
    with pytest.raises(ValueError, match=r"optuna.db, which cannot be used.*not a database"):
        Agenda(study, folder).variants()


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_no_sampler_takes_is_refused(tmp_path: Path, seed: int):
    with pytest.raises(ValueError, match=f"search.seed is {seed};.* from 0 to"):
        load_study(file(tmp_path, f"n_trials = 2\nseed = {seed}"))


def test_settings_that_do_not_go_together_are_a_failed_trial(tmp_path: Path):
    text = '[search]\nn_trials = 6\n[search.settings]\n"model.n_heads" = { from = 1, to = 3 }\n'
    agenda = go_on(
        small_study.write(tmp_path, text),
        PretendedCrew(lambda _: result("finished", validation_loss=1.0)),
    )
    reasons = {run.reason for run in agenda.record().runs if run.outcome == "failed"}
    assert reasons and all("does not split into model.n_heads = 3" in str(r) for r in reasons)


def test_a_plan_counts_the_trials_that_are_left_and_begins_none(tmp_path: Path):
    study = load_study(file(tmp_path, "n_trials = 5", seeds=2))
    folder = tmp_path / "study"
    plan = plan_missing(study, folder, choose_places(study))
    assert [(one.name, one.n_runs) for one in plan.variants] == [("base", 2), ("search", 10)]
    assert not folder.exists()


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"from": 1, "to": 8}, "IntDistribution(high=8, log=False, low=1, step=1)"),
        (
            {"from": 1e-4, "to": 1, "log": True},
            "FloatDistribution(high=1.0, log=True, low=0.0001, step=None)",
        ),
        ({"choices": ["a", "b"]}, "CategoricalDistribution(choices=('a', 'b'))"),
    ],
)
def test_ranges_are_whole_numbers_numbers_or_choices(spec: dict[str, Any], kind: str):
    assert str(distributions({"model.x": spec})["model.x"]) == kind


@pytest.mark.parametrize(
    "spec",
    [
        [1, 2],
        {"choices": ["a"]},
        {"from": 2, "to": 1},
        {"from": 0, "to": 1, "log": True},
        {"from": 1},
        {"from": 1, "to": 2, "n": 3},
        {"from": True, "to": 2},
        {"from": 1.0, "to": math.inf},
    ],
    ids=str,
)
def test_what_is_no_range_is_refused(spec: Any):
    with pytest.raises(ValueError, match='search.settings."model.x" is .*choices'):
        distributions({"model.x": spec})


def test_without_optuna_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install 'modelwright\[search\]'.*\[grid\]"):
        Search(SearchConfig(), "name", tmp_path)


def test_a_search_of_nothing_is_refused(tmp_path: Path):
    path = small_study.write(tmp_path, "[search]\nn_trials = 3")
    with pytest.raises(ValueError, match="search.n_trials is 3, but search.settings is empty"):
        load_study(path)
