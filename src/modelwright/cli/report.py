"""`modelwright report`: write a run's report anew."""

from pathlib import Path

import typer


def report(run: Path = typer.Argument(..., help="A run folder.")) -> None:
    """Write report.html of a run from its metrics; also works while the run goes on."""
    from modelwright.experiments.report import write_report

    print(write_report(run))
