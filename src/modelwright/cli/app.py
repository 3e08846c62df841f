"""`modelwright`: the verbs in one place, and what happens when one of them fails."""

import signal
import sys
import traceback
import warnings
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

import modelwright
from modelwright.cli import (
    calibrate,
    config,
    data,
    demo,
    evaluate,
    explain,
    export,
    generate,
    import_model,
    landscape,
    plan,
    report,
    scaling,
    study,
    tokenizer,
    train,
)
from modelwright.runtime.threads import wait_politely

exit_codes = (
    "Exit codes: 0 done · 1 a fault of the program · 2 something you can mend · 130 stopped by "
    "Ctrl-C · 143 by SIGTERM; a stopped run is saved and goes on with train --resume."
)

plain_warning = warnings.formatwarning

welcome = """From raw text to a language model that is trained, measured and served.

Start with: modelwright demo"""

app = typer.Typer(
    name="modelwright",
    help=welcome,
    epilog=exit_codes,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(data.app, name="data")
app.command("plan")(plan.plan)
app.command("calibrate")(calibrate.calibrate)
app.command("explain")(explain.explain)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("generate")(generate.generate)
app.command("export")(export.export)
app.command("import")(import_model.import_)
app.command("landscape")(landscape.landscape)
app.command("study")(study.study)
app.command("report")(report.report)
app.command("scaling")(scaling.scaling)
app.command("config")(config.config)


def say_version(wanted: bool) -> None:
    """Print the version and leave, before anything else is looked at."""
    if wanted:
        print(modelwright.__version__)
        raise typer.Exit


@app.callback()
def options(
    _: bool = typer.Option(
        False, "--version", callback=say_version, is_eager=True, help="Print the version and leave."
    ),
) -> None:
    """What stands before the verb."""


def main() -> None:
    """Run the command line; the process ends with one of the exit codes above."""
    wait_politely()
    warnings.formatwarning = in_one_line
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end_cleanly)
    try:
        # Not standalone, so that errors come here and read like our own.
        sys.exit(app(standalone_mode=False))
    except TyperException as error:  # a word of the command line that does not fit
        # Its subclasses all have this; the public base does not declare it.
        error.show()  # pyright: ignore[reportAttributeAccessIssue]
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has left
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last place that can say anything
        if not is_for_the_user(error):
            traceback.print_exc()
            print("\nThis is a fault of modelwright, not of yours.", file=sys.stderr)
            sys.exit(1)
        print(f"error: {message_of(error)}", file=sys.stderr)
        sys.exit(2)


def in_one_line(message: Warning | str, category: type[Warning], *place: Any) -> str:
    """A warning of our own as a sentence; that of a library as Python has it, with its place."""
    if Path(place[0]).is_relative_to(Path(modelwright.__file__).parent):
        return f"note: {message}\n"
    return plain_warning(message, category, *place)


def end_cleanly(number: int, _: FrameType | None) -> NoReturn:
    """Leave by an exception, so that whatever is half-written is cleared away."""
    print("\nstopped; start again with the same command", file=sys.stderr)
    sys.exit(128 + number)


def is_for_the_user(error: Exception) -> bool:
    """Whether an error speaks of something that the user wrote or can change.

    Our own code raises ValueError for that and for nothing else; one raised inside a library is
    a fault of ours. The operating system's errors about files speak for themselves.
    """
    if isinstance(error, OSError):
        return error.filename is not None or raised_by_us(error.__traceback__)
    return isinstance(error, (ValueError, FloatingPointError, MemoryError)) and raised_by_us(
        error.__traceback__
    )


def raised_by_us(trace: TracebackType | None) -> bool:
    """Whether the innermost frame of a traceback is this package's own code."""
    if trace is None:
        return False
    while trace.tb_next:
        trace = trace.tb_next
    home = Path(modelwright.__file__).parent
    return Path(trace.tb_frame.f_code.co_filename).is_relative_to(home)


def message_of(error: Exception) -> str:
    """An error in one sentence."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}"
    return str(error)
