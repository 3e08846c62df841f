"""The best size for a budget without a law: the lowest point of a parabola through equal work.

Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", section 3.2
(approach 2): the loss of models that cost the same is a parabola in the logarithm of their size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelwright.accounting.law_fit import Point
from modelwright.accounting.law_intervals import Interval, interval
from modelwright.accounting.quasi_newton import Floats
from modelwright.accounting.scaling import Work, largest_size

same_work = 1.08  # runs of one budget differ by less, since steps are whole and so are batches
fewest_sizes = 3  # that a parabola goes through
fewest_budgets = 2  # that a power law goes through


@dataclass(frozen=True, kw_only=True)
class Valley:
    """The runs of one budget and their parabola: loss = c0 + c1 x + c2 x², with x = log N - middle.

    Attributes:
        flops: geometric mean of the runs'.
        best: the size at the lowest point; None where the parabola has none, or where it is so far
            outside the sizes that it is a guess.
        loss: at the lowest point, in nats per token.
        trouble: why there is no best size, or why it is not sure; empty where all is well.
    """

    flops: float
    points: tuple[Point, ...]
    middle: float
    coefficients: tuple[float, float, float]
    best: Interval | None
    loss: float | None
    trouble: str

    def loss_at(self, n_parameters: float) -> float:
        c0, c1, c2 = self.coefficients
        x = math.log(n_parameters) - self.middle
        return c0 + c1 * x + c2 * x**2


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the best size and the best number of tokens grow with work: N = k C^a and D = m C^b."""

    size_exponent: Interval
    tokens_exponent: Interval
    log_size: tuple[float, float]  # of log N over log C: where it begins, and its slope

    def size(self, flops: float) -> float:
        begin, slope = self.log_size
        return math.exp(begin + slope * math.log(flops))


@dataclass(frozen=True, kw_only=True)
class IsoFlops:
    """The valleys of all budgets, and what grows along them; None with fewer than two bottoms.

    Attributes:
        has_intervals: False where no budget has more runs than a parabola needs, so that nothing
            says how far they scatter; the intervals are then points.
    """

    valleys: tuple[Valley, ...]
    growth: Growth | None
    has_intervals: bool


def budgets_of(points: Sequence[Point]) -> list[list[Point]]:
    """The runs in groups of equal work, the least first."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point.flops):
        if groups and point.flops <= same_work * groups[-1][0].flops:
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def fit_valleys(
    points: Sequence[Point], work: Work, *, n_draws: int = 1000, level: float = 0.95, seed: int = 1
) -> IsoFlops:
    """A parabola for each budget that has enough sizes, with intervals from redrawn residuals.

    Args:
        work: what a token costs, from which the best size's tokens follow.

    Raises:
        ValueError: if no budget has enough sizes of model.
    """
    groups = [
        group
        for group in budgets_of(points)
        if len({point.n_parameters for point in group}) >= fewest_sizes
    ]
    if not groups:
        raise ValueError(
            f"no budget was trained with {fewest_sizes} sizes or more at equal work, which a "
            "parabola needs; give budgets in flops, so that each size gets as many tokens as cost "
            "the same"
        )
    rng = np.random.default_rng(seed)
    fitted = [_parabola(group) for group in groups]
    n_free = sum(max(0, len(group) - 3) for group in groups)
    squares = sum(float((residuals**2).sum()) for _, _, residuals in fitted)
    spread = math.sqrt(squares / n_free) if n_free else 0.0
    spreads = spread * np.sqrt(n_free / rng.chisquare(n_free, n_draws)) if n_free else None
    valleys, bottoms = [], []
    for group, (design, coefficients, _) in zip(groups, fitted, strict=True):
        drawn = np.broadcast_to(coefficients, (n_draws, 3))
        if spreads is not None:
            noise = rng.standard_normal((n_draws, len(group))) * spreads[:, None]
            drawn = (np.linalg.pinv(design) @ (design @ coefficients + noise).T).T
        valley, drawn_bottoms = _valley(group, coefficients, drawn, level)
        valleys.append(valley)
        bottoms.append(drawn_bottoms)
    return IsoFlops(
        valleys=tuple(valleys),
        growth=_growth(valleys, bottoms, work, level),
        has_intervals=spreads is not None,
    )


def _parabola(group: Sequence[Point]) -> tuple[Floats, Floats, Floats]:
    """The columns 1, x and x², the coefficients of the best fit, and what is left."""
    x = np.log([point.n_parameters for point in group])
    x -= x.mean()
    design = np.stack([np.ones_like(x), x, x**2], axis=1)
    losses = np.array([point.loss for point in group])
    coefficients = np.linalg.lstsq(design, losses, rcond=None)[0]
    return design, coefficients, losses - design @ coefficients


def _valley(
    group: Sequence[Point], coefficients: Floats, drawn: Floats, level: float
) -> tuple[Valley, Floats]:
    """One budget's, and log N at the bottom of each draw (NaN where a draw has none)."""
    logs = np.log([point.n_parameters for point in group])
    middle = float(logs.mean())
    c0, c1, c2 = map(float, coefficients)
    with np.errstate(divide="ignore", invalid="ignore"):
        bottoms = np.where(drawn[:, 2] > 0, middle - drawn[:, 1] / (2 * drawn[:, 2]), np.nan)
    best, loss, trouble = None, None, ""
    if c2 <= 0:
        trouble = "the parabola opens downwards: the losses differ by less than they scatter"
    else:
        bottom = middle - c1 / (2 * c2)
        width = float(np.ptp(logs))
        outside = max(float(logs.min()) - bottom, bottom - float(logs.max()))
        larger = bottom > middle
        if outside > width / 2:
            trouble = f"the lowest point is far {'above' if larger else 'below'} all sizes trained"
        else:
            loss = c0 - c1**2 / (4 * c2)
            whole = bottoms[np.isfinite(bottoms)]
            sizes = np.exp(np.clip(whole, 0, math.log(largest_size)))
            best = interval(math.exp(bottom), sizes, level)
            if outside > 0:
                trouble = f"the lowest point is {'above' if larger else 'below'} all sizes trained"
            elif len(whole) < level * len(bottoms):
                trouble = "many redrawn parabolas open downwards, so the interval is too narrow"
    valley = Valley(
        flops=math.exp(float(np.mean(np.log([point.flops for point in group])))),
        points=tuple(group),
        middle=middle,
        coefficients=(c0, c1, c2),
        best=best,
        loss=loss,
        trouble=trouble,
    )
    return valley, bottoms


def _growth(
    valleys: Sequence[Valley], bottoms: Sequence[Floats], work: Work, level: float
) -> Growth | None:
    """Straight lines through the logarithms of the bottoms."""
    sure = [
        (valley, drawn)
        for valley, drawn in zip(valleys, bottoms, strict=True)
        if valley.best is not None
    ]
    if len(sure) < fewest_budgets:
        return None
    log_flops = np.log([valley.flops for valley, _ in sure])
    log_sizes = np.log([valley.best.value for valley, _ in sure if valley.best])
    drawn = np.stack([drawn for _, drawn in sure], axis=1)
    drawn = drawn[np.isfinite(drawn).all(1)]

    def slopes(sizes: Floats) -> tuple[Floats, Floats]:
        """Of log N and of log D over log C: [draw] of log N [draw, budget]."""
        x = log_flops - log_flops.mean()
        of_size = sizes @ x / (x @ x)
        # log D = log C - log(work), so that it has what the work of the size leaves.
        return of_size, 1 - work.exponent * of_size

    size, tokens = slopes(log_sizes[None])
    size_drawn, tokens_drawn = slopes(drawn)
    slope = float(size[0])
    return Growth(
        size_exponent=interval(slope, size_drawn, level),
        tokens_exponent=interval(float(tokens[0]), tokens_drawn, level),
        log_size=(float(log_sizes.mean() - slope * log_flops.mean()), slope),
    )
