"""`modelwright report`: write a run's report anew, or compare runs."""

from collections.abc import Sequence
from pathlib import Path

import typer


def report(
    runs: list[Path] = typer.Argument(
        ..., help="A run folder; several of them, or a study's folder, to compare."
    ),
    baseline: str | None = typer.Option(
        None,
        "--baseline",
        metavar="NAME_OR_RUN",
        help="What the others are compared with; left out, the first run's settings.",
    ),
    out: Path | None = typer.Option(
        None, "--out", help="The comparison's folder; left out, the study's own, or comparison/."
    ),
    question: str | None = typer.Option(
        None, "--question", help="What the comparison is to answer: the page's title."
    ),
    worthwhile: float | None = typer.Option(
        None,
        "--worthwhile",
        metavar="NATS",
        help="The smallest difference worth knowing of; left out, 1% of the baseline's loss.",
    ),
) -> None:
    """Write report.html of a run from its metrics; also works while the run goes on.

    With several runs, or a study's folder, it is a comparison: runs that differ in the seed alone
    are one variant, and each variant is judged against the baseline.
    """
    from modelwright.experiments.report import write_report
    from modelwright.experiments.study_folder import holds_study

    if len(runs) == 1 and not holds_study(runs[0]):
        _refuse_without_comparison(baseline, out, question, worthwhile)
        print(write_report(runs[0]))
        return
    _compare(runs, baseline, out, question, worthwhile)


def _compare(
    runs: Sequence[Path],
    baseline: str | None,
    out: Path | None,
    question: str | None,
    worthwhile: float | None,
) -> None:
    import dataclasses

    from modelwright.experiments.run_groups import study_of
    from modelwright.experiments.study_folder import holds_study, read_study
    from modelwright.experiments.study_report import write_results
    from modelwright.experiments.study_results import compare
    from modelwright.experiments.verdicts import headline

    if any(holds_study(run) for run in runs):
        if len(runs) > 1:
            raise ValueError(
                "a study is compared by itself; name one study's folder, or run folders only"
            )
        study = read_study(runs[0])
        if question is not None:
            study = dataclasses.replace(study, question=question)
        if baseline is not None:
            study = dataclasses.replace(study, baseline=baseline)
    else:
        study = study_of(runs, baseline=baseline, question=question or "")
    folder = out or (runs[0] if len(runs) == 1 else Path("comparison"))
    results = compare(study, worthwhile=worthwhile)
    page = write_results(results, folder)
    print(f"{headline(results)}\n{page}")


def _refuse_without_comparison(*options: object) -> None:
    if any(option is not None for option in options):
        raise ValueError(
            "--baseline, --out, --question and --worthwhile are for comparing; name several runs, "
            "or a study's folder"
        )
