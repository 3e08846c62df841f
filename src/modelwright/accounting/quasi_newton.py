"""Many small minimisations at once: BFGS with a row of numbers for each problem.

A bootstrap solves the same problem a thousand times with other weights. Done one after the other
that is minutes in Python; side by side in arrays it is seconds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
# Of some problems' unknowns [k, unknown] and which problems they are [k]: values and slopes.
Objective = Callable[[Floats, Indices], tuple[Floats, Floats]]

enough_decrease = 1e-4  # of what the slope promises, for a step to be taken
enough_flattening = 0.9  # of the slope along the way, for a step to be long enough
most_halvings = 40
n_still = 3  # steps in a row that gain next to nothing, after which a problem is done


def minimise(
    objective: Objective, starts: Floats, *, most_steps: int = 500, gain: float = 1e-11
) -> tuple[Floats, Floats]:
    """The lowest point found from each start, and the value there.

    The line search brackets the weak Wolfe conditions, under which BFGS also comes down to the
    kinks of a function that is smooth only in between.

    Source: Nocedal & Wright 2006, "Numerical Optimization", algorithm 6.1; Lewis & Overton 2013,
    "Nonsmooth optimization via quasi-Newton methods", algorithm 2.6, for the line search.

    Args:
        starts: [problem, unknown].
        gain: relative decrease below which a step has gained nothing.
    """
    x = np.array(starts, dtype=np.float64)
    n_problems, n_unknowns = x.shape
    value, slope = objective(x, np.arange(n_problems))
    inverse = np.broadcast_to(np.eye(n_unknowns), (n_problems, n_unknowns, n_unknowns)).copy()
    is_first = np.ones(n_problems, dtype=bool)
    still = np.zeros(n_problems, dtype=np.intp)
    open_ = np.flatnonzero(np.isfinite(value) & (np.abs(slope).max(1) > 0))
    for _ in range(most_steps):
        if not open_.size:
            break
        direction = -np.einsum("pij,pj->pi", inverse[open_], slope[open_])
        descent = np.einsum("pi,pi->p", direction, slope[open_])
        bad = ~(descent < 0)  # rounding spoiled the matrix: begin it anew
        direction[bad] = -slope[open_][bad]
        inverse[open_[bad]] = np.eye(n_unknowns)
        descent[bad] = -(slope[open_][bad] ** 2).sum(1)
        # The first step knows no scale: it moves by one tenth at most.
        reach = np.abs(direction).max(1)
        first = np.where(is_first[open_] | bad, np.minimum(1.0, 0.1 / np.maximum(reach, 1e-300)), 1)
        new_x, new_value, new_slope = _search(
            objective, x[open_], value[open_], direction, descent, first, open_
        )
        moved, turned = new_x - x[open_], new_slope - slope[open_]
        decrease = value[open_] - new_value
        _learn(inverse, open_, moved, turned, is_first)
        still[open_] = np.where(
            decrease > gain * np.maximum(np.abs(value[open_]), 1e-300), 0, still[open_] + 1
        )
        x[open_], value[open_], slope[open_] = new_x, new_value, new_slope
        open_ = open_[(still[open_] < n_still) & (np.abs(slope[open_]).max(1) > 0)]
    return x, value


def _search(
    objective: Objective,
    x: Floats,
    value: Floats,
    direction: Floats,
    descent: Floats,
    first: Any,
    problems: Indices,
) -> tuple[Floats, Floats, Floats]:
    """A step along each direction that lowers the value enough and leaves the slope flatter.

    Where none is found, the best point seen, which may be the one begun at.
    """
    size = np.asarray(first, dtype=np.float64).copy()
    low, high = np.zeros(len(x)), np.full(len(x), np.inf)
    best_x, best_value = x.copy(), value.copy()
    _, best_slope = np.zeros_like(x), np.full_like(x, np.nan)
    open_ = np.arange(len(x))
    for _ in range(most_halvings):
        tried = x[open_] + size[open_, None] * direction[open_]
        found, slope = objective(tried, problems[open_])
        found = np.where(np.isfinite(found), found, np.inf)
        better = found < best_value[open_]
        best_x[open_[better]], best_value[open_[better]] = tried[better], found[better]
        best_slope[open_[better]] = slope[better]
        is_low = found <= value[open_] + enough_decrease * size[open_] * descent[open_]
        along = np.einsum("pi,pi->p", slope, direction[open_])
        is_flat = along >= enough_flattening * descent[open_]
        high[open_[~is_low]] = size[open_[~is_low]]
        short = is_low & ~is_flat
        low[open_[short]] = size[open_[short]]
        open_ = open_[~(is_low & is_flat)]
        if not open_.size:
            break
        bracketed = np.isfinite(high[open_])
        size[open_] = np.where(bracketed, (low[open_] + high[open_]) / 2, 2 * size[open_])
    unmoved = np.isnan(best_slope[:, 0])
    if unmoved.any():
        best_slope[unmoved] = objective(best_x[unmoved], problems[unmoved])[1]
    return best_x, best_value, best_slope


def _learn(
    inverse: Floats, problems: Indices, moved: Floats, turned: Floats, is_first: Any
) -> None:
    """Bring the inverse of the curvature up to date, in place, where it can be learned."""
    product = np.einsum("pi,pi->p", moved, turned)
    known = product > 1e-14 * np.sqrt((moved**2).sum(1) * (turned**2).sum(1))
    at, s, y, sy = problems[known], moved[known], turned[known], product[known]
    if not at.size:
        return
    fresh = is_first[at]
    scale = sy / np.maximum((y**2).sum(1), 1e-300)
    inverse[at[fresh]] *= scale[fresh, None, None]
    is_first[at] = False
    H = inverse[at]
    Hy = np.einsum("pij,pj->pi", H, y)
    yHy = np.einsum("pi,pi->p", y, Hy)
    outer = np.einsum("pi,pj->pij", s, s) * ((sy + yHy) / sy**2)[:, None, None]
    crossed = np.einsum("pi,pj->pij", Hy, s)
    inverse[at] = H + outer - (crossed + crossed.transpose(0, 2, 1)) / sy[:, None, None]
