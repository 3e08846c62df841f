"""Why a ladder's forecast was off: fitted to other losses, to fewer runs, with its constant held.

    python benchmarks/ladder_misses.py ladders/english

The runs are those of `modelwright scaling --check`, whose folder is given. The training loss is the
mean over the last twentieth of a run's steps; where every token is new, it is as good a loss of
unseen text as the one that was held out, and of a text that is like what was trained on.
"""

import argparse
import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from modelwright.experiments.plots import with_number
from modelwright.experiments.scaling_analysis import FinishedRun, analyse, read_run
from modelwright.training.metrics import read_metrics

last_share = 0.05
few_tokens = 8e6
constants = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 2.8, 3.0)
huber = 1e-3  # as Hoffmann et al. (2022) have it, in their approach 3


def by_training_loss(run: FinishedRun) -> FinishedRun:
    losses = [record["loss"] for record in with_number(read_metrics(run.folder), "loss")]
    n_last = math.ceil(last_share * len(losses))
    return dataclasses.replace(run, loss=float(np.mean(losses[-n_last:])))


def show_fit(name: str, runs: Sequence[FinishedRun], checks: Sequence[FinishedRun]) -> None:
    analysis = analyse(runs, checks[:1])
    assert analysis.law is not None, analysis.law_trouble
    (checked,) = analysis.checks
    told = checked.forecast
    print(
        f"{name}, {len(runs)} runs: said {told.value:.3f} ({told.low:.3f} to {told.high:.3f}), "
        f"came {came(checks):.3f}, {told.value / came(checks) - 1:+.1%} too high; "
        f"scatter {analysis.law.fit.spread:.1%}"
    )


def came(checks: Sequence[FinishedRun]) -> float:
    """What the run that was forecast came to, in the mean over its seeds."""
    return statistics.fmean(check.loss for check in checks)


def with_constant(constant: float, runs: Sequence[FinishedRun], check: FinishedRun) -> float:
    """The forecast of a law whose E is given."""
    sizes, tokens, losses = (
        np.log([[run.n_parameters["all"], run.n_tokens, run.loss] for run in runs]).T
    )  # fmt: skip

    def law(unknowns: np.ndarray, size: np.ndarray, text: np.ndarray) -> np.ndarray:
        a, alpha, b, beta = unknowns
        return constant + np.exp(a - alpha * size) + np.exp(b - beta * text)

    found = [
        least_squares(
            lambda unknowns: np.log(law(unknowns, sizes, tokens)) - losses,
            [14 * alpha, alpha, 16 * beta, beta],
            loss="huber",
            f_scale=huber,
        )
        for alpha in (0.3, 0.6, 1.0)
        for beta in (0.2, 0.4, 0.8)
    ]
    best = min(found, key=lambda one: one.cost)
    point = np.log([check.n_parameters["all"], check.n_tokens])
    return float(law(best.x, point[0], point[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ladder", type=Path)
    folders = sorted((parser.parse_args().ladder / "runs").iterdir())
    runs = [read_run(folder) for folder in folders if "-check-" not in folder.name]
    checks = [read_run(folder) for folder in folders if "-check-" in folder.name]
    many = [run for run in runs if run.n_tokens >= few_tokens]

    show_fit("held-out loss", runs, checks)
    show_fit(f"  from {few_tokens:.0e} tokens on", many, checks)
    trained = [by_training_loss(check) for check in checks]
    show_fit("training loss", [by_training_loss(run) for run in runs], trained)
    show_fit(f"  from {few_tokens:.0e} tokens on", [by_training_loss(run) for run in many], trained)
    for constant in constants:
        told = with_constant(constant, runs, checks[0])
        share = told / came(checks) - 1
        print(f"E held at {constant}: said {told:.3f}, {share:+.1%} too high")


if __name__ == "__main__":
    main()
