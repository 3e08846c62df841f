"""Fit L(N, D) = E + A / N^alpha + B / D^beta to finished runs.

Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", section 3.3 and
appendix D.3: the Huber loss on the logarithm of the loss, from a grid of starts. Besiroglu et al.
2024, "Chinchilla Scaling: A replication attempt", section 3, on why the residuals are summed and
the search is carried on to the end: means of them look converged long before they are.

Where we differ: N and D are measured from their own geometric means, which makes the same law much
better conditioned; the search is BFGS, whose matrix for five unknowns is no larger than what
L-BFGS keeps; and the grid is over the two exponents, since the best E, A and B for given exponents
follow from linear least squares.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from modelwright.accounting.quasi_newton import Floats, Indices, minimise
from modelwright.accounting.scaling import LossLaw

delta = 1e-3  # of the logarithm of the loss, beyond which a residual counts by its size alone
exponents = (0.05, 0.15, 0.3, 0.5, 0.8, 1.3)  # of the grid, for alpha and for beta
n_starts = 12  # points of the grid, the best ones, from which a search begins
fewest_points = 6  # one more than there are unknowns
fewest_values = 3  # of N, and of D: two of them cannot tell a power from a constant
largest_log = 700.0  # whose power is still a float
smallest_exponent = 1e-3  # a flatter fall is none: it takes a thousandth off for e times as much
largest_exponent = 10.0  # a steeper fall is no power law but a step
most_correlated = 0.99  # log N and log D beyond which the points lie on one line


@dataclass(frozen=True, kw_only=True)
class Point:
    """A finished run as a law sees it.

    Attributes:
        n_parameters: by whichever count the law is about.
        n_tokens: seen once each.
        loss: on validation text, in nats per token.
        flops: of the whole run, as `accounting.flops` counts them.
    """

    name: str
    n_parameters: int
    n_tokens: int
    loss: float
    flops: float
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class LawFit:
    """A law and the points it was fitted to.

    Attributes:
        residuals: of the logarithm of each loss, measured less fitted.
        unknowns: the law as the search has it; see `Design`.
    """

    law: LossLaw
    points: tuple[Point, ...]
    residuals: tuple[float, ...]
    objective: float
    unknowns: tuple[float, ...]

    @property
    def spread(self) -> float:
        """Standard deviation of the residuals, the five unknowns accounted for."""
        squares = sum(residual**2 for residual in self.residuals)
        return math.sqrt(squares / max(1, len(self.residuals) - 5))


class Design:
    """The points as arrays, and the law in the search's unknowns: a, b, e, alpha, beta.

    log L = log(exp(a - alpha n) + exp(b - beta d) + exp(e)), where n and d are log N and log D less
    their means over the points.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        log_n = np.log([point.n_parameters for point in points])
        log_d = np.log([point.n_tokens for point in points])
        self.middle_n, self.middle_d = float(log_n.mean()), float(log_d.mean())
        self.n, self.d = log_n - self.middle_n, log_d - self.middle_d
        self.log_loss = np.log([point.loss for point in points])

    def predicted(self, unknowns: Floats) -> Floats:
        """Logarithms of the losses: [problem, point] of unknowns [problem, 5]."""
        return log_law(unknowns, self.n, self.d)

    def law(self, unknowns: Floats) -> LossLaw:
        a, b, e, alpha, beta = (float(value) for value in unknowns)
        return LossLaw(
            source="fitted to these runs",
            E=_positive(e),
            A=_positive(a + alpha * self.middle_n),
            B=_positive(b + beta * self.middle_d),
            alpha=alpha,
            beta=beta,
        )

    def starts(self, log_losses: Floats) -> Floats:
        """[problem, start, 5]: the best points of the grid for each row of [problem, point]."""
        losses = np.exp(log_losses)
        found, misses = [], []
        for alpha, beta in product(exponents, exponents):
            columns = np.stack(
                [np.exp(-alpha * self.n), np.exp(-beta * self.d), np.ones_like(self.n)], axis=1
            )
            # What comes out below zero is put to a hundredth of the loss, from where it can grow.
            weights = np.linalg.lstsq(columns, losses.T, rcond=None)[0].T
            weights = np.maximum(weights, 0.01 * losses.mean(1, keepdims=True))
            logs = np.log(weights)
            both = np.broadcast_to([alpha, beta], (len(losses), 2))
            unknowns = np.concatenate([logs, both], axis=1)
            found.append(unknowns)
            misses.append(np.abs(self.predicted(unknowns) - log_losses).sum(1))
        order = np.argsort(np.stack(misses, axis=1), axis=1)[:, :n_starts]
        return np.take_along_axis(np.stack(found, axis=1), order[:, :, None], axis=1)


def _positive(log: float) -> float:
    """A number by its logarithm, above 0 also where that is nothing to speak of."""
    return math.exp(min(max(log, -largest_log), largest_log))


def log_law(unknowns: Floats, n: Floats, d: Floats) -> Floats:
    """Logarithms of the losses: [problem, point] of unknowns [problem, 5]."""
    return np.logaddexp.reduce(_terms(unknowns, n, d), axis=0)


def _terms(unknowns: Floats, n: Floats, d: Floats) -> Floats:
    """Logarithms of the law's three terms: [term, problem, point]."""
    a, b, e, alpha, beta = (unknowns[:, i, None] for i in range(5))
    return np.stack([a - alpha * n, b - beta * d, np.broadcast_to(e, (len(unknowns), len(n)))])


def search(
    design: Design, log_losses: Floats, weights: Floats, starts: Floats
) -> tuple[Floats, Floats]:
    """Fit many laws at once, each from several starts.

    Args:
        log_losses: [problem, point].
        weights: [problem, point], how often each point counts.
        starts: [problem, start, 5].

    Returns:
        Unknowns [problem, 5], and the sum of Huber losses in units of delta squared [problem].
    """
    n_problems, n_each, _ = starts.shape

    def objective(unknowns: Floats, problems: Indices) -> tuple[Floats, Floats]:
        rows = problems // n_each
        terms = _terms(unknowns, design.n, design.d)
        total = np.logaddexp.reduce(terms, axis=0)
        shares = np.exp(terms - total)
        off = (total - log_losses[rows]) / delta
        size = np.abs(off)
        huber = np.where(size <= 1, 0.5 * off**2, size - 0.5)
        pull = weights[rows] * np.clip(off, -1, 1) / delta
        to_n, to_d, to_e = pull * shares
        slope = np.stack(
            [
                to_n.sum(1),
                to_d.sum(1),
                to_e.sum(1),
                -(to_n * design.n).sum(1),
                -(to_d * design.d).sum(1),
            ],
            axis=1,
        )
        return (weights[rows] * huber).sum(1), slope

    found, values = minimise(objective, starts.reshape(-1, 5))
    values = np.where(np.isfinite(values), values, np.inf).reshape(n_problems, n_each)
    best = values.argmin(1)
    rows = np.arange(n_problems)
    return found.reshape(n_problems, n_each, 5)[rows, best], values[rows, best]


def fit_law(points: Sequence[Point]) -> LawFit:
    """The law that fits the points best.

    Raises:
        ValueError: if they cannot determine it, saying which further runs would.
    """
    require_determined(points)
    design = Design(points)
    log_losses = design.log_loss[None]
    unknowns, values = search(
        design, log_losses, np.ones_like(log_losses), design.starts(log_losses)
    )
    _require_plausible(unknowns[0])
    residuals = design.log_loss - design.predicted(unknowns)[0]
    return LawFit(
        law=design.law(unknowns[0]),
        points=tuple(points),
        residuals=tuple(map(float, residuals)),
        objective=float(values[0]),
        unknowns=tuple(map(float, unknowns[0])),
    )


def require_determined(points: Sequence[Point]) -> None:
    """Refuse points that five unknowns cannot follow from.

    Raises:
        ValueError: saying which further runs would help.
    """
    for point in points:
        if not (math.isfinite(point.loss) and point.loss > 0):
            raise ValueError(
                f"the loss of {point.name} is {point.loss}, and a law is fitted to the logarithm "
                "of losses; leave runs that diverged out"
            )
    if why := why_undetermined([(point.n_parameters, point.n_tokens) for point in points]):
        raise ValueError(why)


def why_undetermined(runs: Sequence[tuple[int, int]]) -> str:
    """Why no law follows from runs of so many parameters and tokens; empty if one may."""
    sizes, lengths = sorted({n for n, _ in runs}), sorted({d for _, d in runs})
    for what, values in (("sizes of model", sizes), ("numbers of tokens", lengths)):
        if len(values) < fewest_values:
            there = ", ".join(f"{value:,}" for value in values)
            return (
                f"the runs have {len(values)} different {what} ({there}), but the law wants at "
                f"least {fewest_values} to tell a power from a constant; train "
                f"{fewest_values - len(values)} more"
            )
    if len(runs) < fewest_points:
        return (
            f"there are {len(runs)} runs, but five unknowns want at least {fewest_points}; add "
            "another budget for some of the sizes"
        )
    log_n, log_d = np.log(runs).T
    correlation = abs(float(np.corrcoef(log_n, log_d)[0, 1]))
    if correlation > most_correlated:
        return (
            "the runs lie on one line of sizes and tokens (a correlation of their logarithms of "
            f"{correlation:.4f}), along which what size gives and what tokens give cannot be told "
            "apart; train some of the sizes on more or on fewer tokens for each parameter"
        )
    return ""


def _require_plausible(unknowns: Floats) -> None:
    alpha, beta = float(unknowns[3]), float(unknowns[4])
    for name, value, what in (("alpha", alpha, "larger models"), ("beta", beta, "more tokens")):
        if value < smallest_exponent:
            raise ValueError(
                f"the best fit has {name} = {value:.3g}: among these runs the loss does not fall "
                f"with {what}, so there is no law to extrapolate; look for runs that were not "
                "trained well (learning rate, too few steps) or add a wider range"
            )
        if value > largest_exponent:
            raise ValueError(
                f"the best fit has {name} = {value:.3g}: all that {what} give is between the "
                "fewest and the next, so there is no law to extrapolate; add runs in between"
            )
