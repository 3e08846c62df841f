"""A study as comma-separated values: the verdicts, every run, and the curves."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from modelwright.experiments.plots import smoothed, with_number
from modelwright.experiments.statistics import Interval
from modelwright.experiments.study_curves import thinned
from modelwright.experiments.study_results import Results, RunResult

rows_of_a_run = 400


def verdicts_table(results: Results) -> str:
    """A line a variant, with everything that its verdict rests on."""
    lines: list[list[Any]] = []
    for one in results.variants:
        found = results.comparisons.get(one.name)
        lines.append(
            [
                one.name,
                found.kind if found else "baseline",
                len(one.finals),
                len(one.outcomes.diverged),
                len(one.outcomes.absent),
                one.mean,
                one.deviation,
                *(
                    [
                        found.n_pairs,
                        found.mean,
                        found.deviation,
                        *_ends(found.interval),
                        found.level,
                        *_ends(found.joint),
                        *_ends(found.bootstrap),
                        found.p,
                        found.p_holm,
                        found.effect,
                        found.n_needed,
                        found.detectable,
                        found.p_diverging,
                    ]
                    if found
                    else [None] * 16
                ),
                one.run_seconds,
                sum(run.seconds for run in one.begun),
            ]
        )
    names = (
        "variant verdict n_finished n_diverged n_absent mean deviation n_pairs difference "
        "difference_deviation low high level joint_low joint_high bootstrap_low bootstrap_high p "
        "p_holm effect seeds_needed detectable p_diverging mean_seconds total_seconds"
    )
    return written(names.split(), lines)


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (interval.low, interval.high) if interval else (None, None)


def runs_table(results: Results) -> str:
    """A line a run: what became of it, and its final figure."""
    names = ("variant", "seed", "outcome", results.measure, "steps", "tokens", "seconds", "flops")
    return written(
        names,
        (
            [
                run.run.variant,
                run.run.seed,
                run.outcome,
                run.final(results.measure),
                run.n_steps,
                run.n_tokens,
                run.seconds,
                run.step_flops * run.n_steps if run.step_flops is not None else None,
            ]
            for run in results.runs
        ),
    )


def curves_table(results: Results) -> str:
    """Some hundred steps of every run: the loss as it was, smoothed over all steps, and more."""
    names = (
        "variant seed step tokens seconds flops loss smoothed_loss gradient_norm learning_rate "
        "validation_loss"
    )
    return written(names.split(), (line for run in results.runs for line in _steps_of(run)))


def _steps_of(run: RunResult) -> Iterable[list[Any]]:
    records = run.trained
    means = smoothed([record["loss"] for record in records])
    chosen = set(thinned(len(records), rows_of_a_run).tolist())
    # One that was made up for stands on a line of its own.
    measured = {
        record["step"]: record["validation_loss"]
        for record in with_number(run.records, "validation_loss")
    }
    for n, (record, mean) in enumerate(zip(records, means, strict=True)):
        step = record["step"]
        if n not in chosen and step not in measured:
            continue
        yield [
            run.run.variant,
            run.run.seed,
            step,
            record.get("n_tokens"),
            record.get("seconds"),
            run.step_flops * step if run.step_flops is not None else None,
            record["loss"],
            round(mean, 6),
            record.get("gradient_norm"),
            record.get("learning_rate"),
            measured.get(step),
        ]


def written(names: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A table with its names; what is unknown stays empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for line in lines:
        assert len(line) == len(names), f"{len(line)} values for the columns {names}"
        writer.writerow(line)
    return text.getvalue()
