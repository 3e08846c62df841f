"""How sure a fitted law is: resampled fits, and what follows from them for larger runs.

Two ways to resample. `residuals` draws new losses around the fitted law, which keeps every size
and every budget; it is the one for a ladder, where a handful of runs must not go missing. `runs`
draws the runs themselves, with replacement, which supposes no common spread; with few runs many
draws cannot determine the law, and those are left out.

Where we differ from a plain residual bootstrap: the drawn spread varies as the estimate of a
spread from so few runs does (chi-squared), without which intervals from fifteen runs are too
narrow. `tests/reference/test_law_fit_scipy.py` measures how often they hold.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from modelwright.accounting.law_fit import (
    Design,
    LawFit,
    largest_exponent,
    log_law,
    search,
    smallest_exponent,
    why_undetermined,
)
from modelwright.accounting.quasi_newton import Floats
from modelwright.accounting.scaling import LossLaw

Resampling = Literal["residuals", "runs"]

n_unknowns = 5
fewest_draws = 50  # that determine the law; of fewer, no interval is told


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and the range that holds it with a chance of `level`."""

    value: float
    low: float
    high: float
    level: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Uncertain:
    """A fit with its resampled fits.

    Attributes:
        draws: [draw, 5], unknowns as `Design` has them.
        spreads: [draw], by which a new run's log loss would scatter around that draw.
        n_left_out: draws that could not determine the law.
    """

    fit: LawFit
    draws: Floats
    spreads: Floats
    n_left_out: int
    resampling: Resampling
    level: float
    seed: int

    @property
    def design(self) -> Design:
        return Design(self.fit.points)

    def law_intervals(self) -> dict[str, Interval]:
        """E, A, B, alpha and beta."""
        laws = [self.design.law(draw) for draw in self.draws]
        return {
            name: self._interval(getattr(self.fit.law, name), [getattr(law, name) for law in laws])
            for name in ("E", "A", "B", "alpha", "beta")
        }

    def expected(self, n_parameters: float, n_tokens: float) -> Interval:
        """The loss that the law has there: an interval for the mean over many runs."""
        return self._interval(
            self.fit.law.loss(n_parameters, n_tokens),
            np.exp(self._logs(n_parameters, n_tokens)),
        )

    def forecast(self, n_parameters: float, n_tokens: float) -> Interval:
        """The loss of one new run there: the law's own uncertainty and a run's scatter."""
        noise = np.random.default_rng(self.seed + 1).standard_normal(len(self.draws))
        logs = self._logs(n_parameters, n_tokens) + self.spreads * noise
        return self._interval(self.fit.law.loss(n_parameters, n_tokens), np.exp(logs))

    def laws(self) -> list[LossLaw]:
        return [self.design.law(draw) for draw in self.draws]

    def _logs(self, n_parameters: float, n_tokens: float) -> Floats:
        design = self.design
        n = np.array([math.log(n_parameters) - design.middle_n])
        d = np.array([math.log(n_tokens) - design.middle_d])
        return log_law(self.draws, n, d)[:, 0]

    def _interval(self, value: float, drawn: Sequence[float] | Floats) -> Interval:
        return interval(value, drawn, self.level)


def interval(value: float, drawn: Sequence[float] | Floats, level: float) -> Interval:
    """The middle part of what was drawn."""
    low, high = np.quantile(np.asarray(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high), level=level)


def resample(
    fit: LawFit,
    *,
    n_draws: int = 500,
    resampling: Resampling = "residuals",
    level: float = 0.95,
    seed: int = 1,
) -> Uncertain:
    """Fit the law again to resampled runs.

    Raises:
        ValueError: if too few of the draws determine the law.
    """
    design = Design(fit.points)
    rng = np.random.default_rng(seed)
    n_points = len(fit.points)
    unknowns = np.array(fit.unknowns)
    if resampling == "residuals":
        n_free = max(1, n_points - n_unknowns)
        spreads = fit.spread * np.sqrt(n_free / rng.chisquare(n_free, n_draws))
        noise = rng.standard_normal((n_draws, n_points)) * spreads[:, None]
        log_losses = design.predicted(unknowns[None]) + noise
        weights = np.ones_like(log_losses)
        is_determined = np.ones(n_draws, dtype=bool)
    else:
        log_losses = np.broadcast_to(design.log_loss, (n_draws, n_points)).copy()
        chosen = rng.integers(n_points, size=(n_draws, n_points))
        weights = np.stack([np.bincount(row, minlength=n_points) for row in chosen]).astype(float)
        spreads = np.full(n_draws, fit.spread)
        places = [(point.n_parameters, point.n_tokens) for point in fit.points]
        is_determined = np.array(
            [not why_undetermined([places[n] for n in set(row)]) for row in chosen.tolist()]
        )
    grid = design.starts(log_losses)[:, :n_searches]
    known = np.broadcast_to(unknowns, (n_draws, 1, n_unknowns))
    found, _ = search(design, log_losses, weights, np.concatenate([known, grid], axis=1))
    powers = found[:, 3:]
    good = np.isfinite(found).all(1) & is_determined
    good &= ((powers >= smallest_exponent) & (powers <= largest_exponent)).all(1)
    if good.sum() < fewest_draws:
        raise ValueError(
            f"only {good.sum()} of {n_draws} resampled fits determine the law, so there is no "
            "interval to tell; train more sizes, more budgets or more seeds"
        )
    return Uncertain(
        fit=fit,
        draws=found[good],
        spreads=spreads[good],
        n_left_out=int(n_draws - good.sum()),
        resampling=resampling,
        level=level,
        seed=seed,
    )


n_searches = 4  # of the grid's starts, beside the fit itself, from which each draw is searched
