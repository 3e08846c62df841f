"""`modelwright train`: carry out a recipe, or go on with a run that stopped."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from modelwright.cli.display import Bars, progress_bars
from modelwright.cli.prediction import Prediction


def train(
    recipe: Path | None = typer.Argument(
        None, help="A recipe in TOML, or with --resume a run folder; none trains the defaults."
    ),
    overrides: list[str] = typer.Option(
        [], "--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated."
    ),
    out: Path | None = typer.Option(
        None, "--out", help="The run folder; left out, runs/ and the recipe's name."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on from the newest whole checkpoint."),
) -> None:
    """Train a model as a recipe says, and write its run folder and report.

    Ctrl-C saves a checkpoint after the step in hand and ends; --resume goes on from there.
    """
    if resume:
        resume_run(recipe, overrides, out)
        return
    from modelwright.config.loading import load_settings
    from modelwright.training import runs
    from modelwright.training.config import RunConfig
    from modelwright.training.fine_tuning import with_initial_model

    config = with_initial_model(load_settings(RunConfig, recipe, overrides))
    run_folder = out or Path("runs") / run_name(recipe)

    def start(bars: Bars, prediction: Prediction) -> None:
        runs.train(
            prediction.settle(config),
            run_folder,
            on_progress=bars,
            on_sample=telling(bars),
            on_ready=prediction.make,
        )

    carry_out(start, run_folder)


def resume_run(recipe: Path | None, overrides: list[str], out: Path | None) -> None:
    """Go on with the run in a folder, by its own config.toml or by a recipe that agrees with it."""
    from modelwright.training import runs

    is_folder = recipe is None or recipe.is_dir() or recipe.suffix != ".toml"
    if recipe is not None and is_folder and out is not None:
        raise ValueError("--resume takes one run folder: give it as the argument or as --out")
    named = Path("runs") / run_name(recipe) if recipe is None or not is_folder else recipe
    run_folder = out or named

    def go_on(bars: Bars, prediction: Prediction) -> None:
        runs.resume(
            run_folder,
            recipe=None if is_folder else recipe,
            overrides=overrides,
            on_progress=bars,
            on_sample=telling(bars),
            on_note=lambda note: bars.say(f"note: {note}"),
            on_ready=prediction.make,
        )

    carry_out(go_on, run_folder)


def carry_out(work: Callable[[Bars, Prediction], None], run_folder: Path) -> None:
    """Train under a progress bar, then write the report; say how to go on after a stop."""
    from modelwright.experiments.report import write_report
    from modelwright.training.loop import Interrupted
    from modelwright.training.out_of_memory import OutOfMemory

    prediction = Prediction(run_folder)
    try:
        with progress_bars() as bars:
            work(bars, prediction)
    except OutOfMemory as error:
        prediction.explain(error)
        raise
    except FloatingPointError:
        prediction.compare()
        raise
    except Interrupted as stop:
        prediction.compare()
        reason = "Ctrl-C" if stop.signal_number == signal.SIGINT else "SIGTERM"
        print(
            f"\nstopped by {reason} after step {stop.step}; the run is saved. Go on with:\n"
            f"  modelwright train --resume {run_folder}",
            file=sys.stderr,
        )
        sys.exit(128 + stop.signal_number)
    prediction.compare()
    report = write_report(run_folder)
    print(f"report   {report}\ntry      modelwright generate {run_folder} --prompt 'One day'")


def telling(bars: Bars) -> Callable[[str], None]:
    """Shows each sample above the progress bar, on one line cut to the terminal's width."""

    def tell(text: str) -> None:
        bars.say("  » " + shortened(" ".join(text.split()), 240))

    return tell


def shortened(text: str, most: int) -> str:
    """A text cut to `most` characters, with an ellipsis where it was cut."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def run_name(recipe: Path | None) -> str:
    """What a run is called if nobody says: the recipe's name, or its folder's for a config.toml."""
    if recipe is None:
        return "default"
    return recipe.resolve().parent.name if recipe.name == "config.toml" else recipe.stem
