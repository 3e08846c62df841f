"""`modelwright study`: carry out the runs that are to answer a question."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelwright.cli.display import progress_bars

if TYPE_CHECKING:
    from modelwright.experiments.study_config import BudgetConfig
    from modelwright.experiments.study_plan import StudyPlan
    from modelwright.experiments.study_record import StudyRecord

longest_unasked_seconds = 300.0

# What every command that trains many runs has.
change_all: list[str] = typer.Option(
    [], "--set", metavar="SECTION.KEY=VALUE", help="Change one setting of all runs."
)
without_asking: bool = typer.Option(False, "--yes", help="Begin without asking, whatever it takes.")
only_the_plan: bool = typer.Option(
    False, "--plan-only", "--dry-run", help="Show the plan of what is missing, and end."
)
runs_at_once: int | None = typer.Option(
    None, "--at-once", metavar="N", help="Runs at the same time on each device; left out, one."
)
which_gpus: str | None = typer.Option(
    None, "--devices", metavar="0,1", help="Which GPUs; left out, all there are."
)


def study(
    file: Path = typer.Argument(..., help="A study in TOML, such as recipes/studies/toy.toml."),
    overrides: list[str] = change_all,
    out: Path | None = typer.Option(
        None, "--out", help="The study's folder; left out, studies/ and its name."
    ),
    yes: bool = without_asking,
    plan_only: bool = only_the_plan,
    at_once: int | None = runs_at_once,
    devices: str | None = which_gpus,
    engine: str = typer.Option(
        "processes", help="Who trains: processes on this machine, or a ray cluster."
    ),
) -> None:
    """Train the variants of a study with several seeds each, and keep the record.

    Shows first what it will take, and asks before a long one. What is done stays: the same command
    goes on with what is missing, after Ctrl-C and after a crash.
    """
    from modelwright.experiments.study import (
        StudyStopped,
        choose_cluster_places,
        choose_places,
        plan_missing,
        run_study,
    )
    from modelwright.experiments.study_file import load_study
    from modelwright.experiments.study_plan import render_study_plan

    loaded = load_study(file, overrides)
    folder = out or Path("studies") / loaded.name
    if engine not in ("processes", "ray"):
        raise ValueError(f"--engine is {engine!r}; choose 'processes' or 'ray'")
    if engine == "ray" and devices is not None:
        raise ValueError("--devices is for this machine; a Ray cluster knows its own GPUs")
    names = None if devices is None else [name.strip() for name in devices.split(",")]
    places = (
        choose_cluster_places(loaded, at_once=at_once)
        if engine == "ray"
        else choose_places(loaded, devices=names, at_once=at_once)
    )
    plan = plan_missing(loaded, folder, places)
    print(f"{loaded.name} → {folder}\n{loaded.config.question}\n".replace("\n\n", "\n"))
    print(render_study_plan(plan))
    if plan_only:
        return
    if plan.n_runs:
        require_consent(plan, loaded.config.budget, yes=yes)
    try:
        with progress_bars() as bars:
            record = run_study(loaded, folder, places, on_progress=bars, on_note=bars.say)
    except StudyStopped as stop:
        show_outcomes(stop.record)
        reason = "Ctrl-C" if stop.signal_number == signal.SIGINT else "SIGTERM"
        print(f"\nstopped by {reason}; go on with the same command", file=sys.stderr)
        sys.exit(128 + stop.signal_number)
    show_outcomes(record)
    print(f"\nrecord   {folder / 'study.json'}")
    if any(run.outcome in ("finished", "diverged") for run in record.runs):
        show_verdict(record, folder)
    # A trial of a search may well have settings that do not go together.
    tried = {variant.name for variant in loaded.variants}
    if any(run.outcome == "failed" and run.variant in tried for run in record.runs):
        print(
            "\nsome runs failed, as told above; the same command tries them again", file=sys.stderr
        )
        sys.exit(1)


def require_consent(plan: "StudyPlan", budget: "BudgetConfig", *, yes: bool) -> None:
    """Refuse what is over its budget, and ask before what takes long.

    Raises:
        ValueError: if there is no consent, or nobody who could give it.
    """
    from modelwright.experiments.study_plan import in_time, over_budget

    if yes:
        return
    if (reason := over_budget(plan, budget)) is not None:
        raise ValueError(f"{reason}; begin all the same with --yes, or raise the budget")
    if plan.seconds.high <= longest_unasked_seconds:
        return
    time = in_time(plan.seconds)
    if not sys.stdin.isatty():
        raise ValueError(
            f"by its plan this study takes {time}, and there is nobody to ask; begin with --yes"
        )
    if not typer.confirm(f"\nThis takes {time}. Begin?"):
        raise ValueError("nothing was begun; --plan-only shows the plan without asking")


def show_outcomes(record: "StudyRecord") -> None:
    """Print what became of each variant, and why runs did not finish."""
    width = max(len(variant.name) for variant in record.variants)
    print()
    for variant in record.variants:
        runs = record.runs_of(variant.name)
        losses = [run.final["validation_loss"] for run in runs if run.outcome == "finished"]
        counts = {outcome: sum(run.outcome == outcome for run in runs) for outcome in order}
        told = ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n)
        shown = f"mean loss {sum(losses) / len(losses):.4f}" if losses else ""
        print(f"{variant.name:<{width}}  {told:<24} {shown}".rstrip())
    for run in record.runs:
        if run.outcome == "failed":
            print(f"failed   {run.variant}, seed {run.seed}: {run.reason}")


def show_verdict(record: "StudyRecord", folder: Path) -> None:
    """Write the page about a study, and print what it says first."""
    from modelwright.experiments.study_report import write_results
    from modelwright.experiments.study_results import compare
    from modelwright.experiments.verdicts import headline

    results = compare(record)
    print(f"report   {write_results(results, folder)}\n\n{headline(results)}")


order = ("finished", "diverged", "stopped", "failed", "missing")
