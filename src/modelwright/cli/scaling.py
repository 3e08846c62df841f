"""`modelwright scaling`: train a ladder of sizes and budgets, fit its law, check its forecast."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelwright.cli.display import progress_bars
from modelwright.cli.study import (
    change_all,
    only_the_plan,
    require_consent,
    runs_at_once,
    which_gpus,
    without_asking,
)

if TYPE_CHECKING:
    from modelwright.experiments.ladder import Count, Ladder, LadderConfig
    from modelwright.experiments.scaling_analysis import FinishedRun
    from modelwright.experiments.study import Places
    from modelwright.experiments.study_record import StudyRecord


def scaling(
    what: list[Path] = typer.Argument(
        ..., help="A ladder in TOML; or with --fit-only, run folders or folders of runs."
    ),
    overrides: list[str] = change_all,
    out: Path | None = typer.Option(
        None, "--out", help="The folder for all of it; left out, ladders/ and the ladder's name."
    ),
    check: bool = typer.Option(
        False,
        "--check",
        help="Also train the run of \\[check], outside the fit, and judge by it.",
    ),
    fit_only: bool = typer.Option(
        False, "--fit-only", help="Train nothing: fit the runs that are there."
    ),
    budget: list[float] = typer.Option(
        [], "--budget", metavar="FLOPS", help="Also tell the best split of so much work."
    ),
    yes: bool = without_asking,
    plan_only: bool = only_the_plan,
    at_once: int | None = runs_at_once,
    devices: str | None = which_gpus,
) -> None:
    """Train models of several sizes for several budgets and fit a scaling law to their losses.

    Shows first what it will take, and asks before a long one. What is done stays: the same command
    goes on with what is missing, after Ctrl-C and after a crash.
    """
    if any(amount <= 0 for amount in budget):
        raise ValueError(f"--budget is {min(budget):g}; choose a number of FLOPs such as 1e18")
    if what[0].is_dir() or what[0].suffix != ".toml":
        if not fit_only:
            raise ValueError(
                f"{what[0]} is no ladder in TOML; to fit the runs that are there, add --fit-only"
            )
        if check:
            raise ValueError("--check trains a run, and --fit-only none; leave one of them out")
        fit_folders(what, out, budget)
        return
    if len(what) > 1:
        raise ValueError("give one ladder in TOML, or with --fit-only folders of runs")
    from modelwright.experiments.study import choose_places, plan_missing
    from modelwright.experiments.study_plan import render_study_plan

    ladder = open_ladder(what[0], overrides, with_check=check)
    folder = out or Path("ladders") / ladder.study.name
    for sentence in ladder.left_out:
        print(f"note: left out: {sentence}", file=sys.stderr)
    if ladder.undetermined:
        print(f"note: this ladder will show no law: {ladder.undetermined}", file=sys.stderr)
    for sentence in ladder.repeating:
        print(f"note: repeats text: {sentence}", file=sys.stderr)
    if fit_only:
        fit_ladder(ladder, folder, record_there(ladder, folder), budget)
        return
    names = None if devices is None else [name.strip() for name in devices.split(",")]
    places = choose_places(ladder.study, devices=names, at_once=at_once)
    plan = plan_missing(ladder.study, folder, places)
    print(f"{ladder.study.name} → {folder}, {ladder.n_unique_tokens:,} tokens to learn from\n")
    print(render_study_plan(plan))
    if plan_only:
        return
    if plan.n_runs:
        require_consent(plan, ladder.study.config.budget, yes=yes)
    record = carry_out(ladder, folder, places)
    fit_ladder(ladder, folder, record, budget)


def open_ladder(path: Path, overrides: list[str], *, with_check: bool) -> "Ladder":
    """A ladder with its runs laid out, its data built if it is not there."""
    from modelwright.experiments.ladder import lay_out, load_ladder, shared_study
    from modelwright.training.assembly import open_or_build

    config = load_ladder(path)
    study = shared_study(path, config, overrides)
    base = study.run_config(study.variants[0], study.seeds[0])
    with progress_bars() as bars:
        data = open_or_build(base, bars, is_new=True)
    return lay_out(study, config, data, with_check=with_check)


def carry_out(ladder: "Ladder", folder: Path, places: "Places") -> "StudyRecord":
    """Train what is missing under a progress bar; say how to go on after a stop."""
    from modelwright.experiments.study import StudyStopped, run_study

    try:
        with progress_bars() as bars:
            return run_study(ladder.study, folder, places, on_progress=bars, on_note=bars.say)
    except StudyStopped as stop:
        reason = "Ctrl-C" if stop.signal_number == signal.SIGINT else "SIGTERM"
        print(f"\nstopped by {reason}; go on with the same command", file=sys.stderr)
        sys.exit(128 + stop.signal_number)


def record_there(ladder: "Ladder", folder: Path) -> "StudyRecord":
    """What became of a ladder's runs, as their folders have it."""
    from modelwright.experiments.study_agenda import Agenda

    agenda = Agenda(ladder.study, folder)
    agenda.variants()
    return agenda.record()


def fit_ladder(ladder: "Ladder", folder: Path, record: "StudyRecord", budgets: list[float]) -> None:
    """Fit the runs of a ladder that are finished and write its page."""
    from modelwright.experiments.scaling_analysis import read_run

    notes = [f"left out: {sentence}" for sentence in ladder.left_out]
    fitted: list[FinishedRun] = []
    checks: list[FinishedRun] = []
    for run in record.runs:
        if run.outcome == "finished":
            (fitted if run.variant in ladder.fitted else checks).append(read_run(run.folder))
        else:
            why = f": {run.reason}" if run.reason else ""
            notes.append(f"{run.variant}, seed {run.seed}, is {run.outcome}{why}")
    notes += [f"in the fit, but it repeats text: {sentence}" for sentence in ladder.repeating]
    fit_and_tell(fitted, checks, folder, ladder.study.name, ladder.config, notes, budgets)


def fit_folders(folders: list[Path], out: Path | None, budgets: list[float]) -> None:
    """Fit runs that are there, whoever trained them."""
    from modelwright.experiments.ladder import check_name
    from modelwright.experiments.scaling_analysis import read_run
    from modelwright.training.metrics import config_file

    found: list[Path] = []
    for folder in folders:
        inside = sorted(path.parent for path in folder.glob(f"**/{config_file}"))
        found += [folder] if (folder / config_file).is_file() else inside
    found = list({run.resolve(): run for run in found}.values())  # each once, however named
    if not found:
        raise FileNotFoundError(
            f"there is no run in {', '.join(map(str, folders))}; name run folders, or a folder "
            "that holds some"
        )
    notes: list[str] = []
    fitted: list[FinishedRun] = []
    checks: list[FinishedRun] = []
    for folder in found:
        try:
            is_check = f"-{check_name}-seed" in folder.name
            (checks if is_check else fitted).append(read_run(folder))
        except ValueError as error:
            notes.append(str(error))
    name = folders[0].resolve().name
    fit_and_tell(fitted, checks, out or folders[0], name, None, notes, budgets)


def fit_and_tell(
    fitted: "list[FinishedRun]",
    checks: "list[FinishedRun]",
    folder: Path,
    name: str,
    config: "LadderConfig | None",
    notes: list[str],
    budgets: list[float],
) -> None:
    """Fit, write the page, and say what was found.

    Args:
        config: None fits as a ladder does that says nothing of it.
    """
    from modelwright.experiments.scaling_analysis import analyse, counts
    from modelwright.experiments.scaling_report import findings, write_scaling

    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if not fitted:
        raise ValueError(f"none of the runs in {folder} is finished, so there is nothing to fit")
    count: Count = "all" if config is None else config.count
    given = {} if config is None else {
        "level": config.level, "n_draws": config.n_draws, "resampling": config.resampling
    }  # fmt: skip
    order: list[Count] = sorted(counts, key=lambda one: one != count)
    analyses = [analyse(fitted, checks, count=one, budgets=budgets, **given) for one in order]
    page = write_scaling(folder, name, analyses, notes=notes)
    found = [*findings(analyses[0]), ("report", str(page))]
    widest = max(len(label) for label, _ in found)
    for label, text in found:
        print(f"{label:<{widest}}   {text}")
