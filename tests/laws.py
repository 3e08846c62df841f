"""Runs whose losses follow a law that is known, for tests of what is found in them."""

import numpy as np

from modelwright.accounting.law_fit import Point
from modelwright.accounting.scaling import LossLaw, besiroglu


def points(
    *,
    law: LossLaw = besiroglu,
    budgets: tuple[float, ...] = (1e15, 4e15, 1.6e16),
    around: tuple[float, ...] = (0.2, 0.45, 1, 2.2, 5),
    scatter: float = 0.0,
    seed: int = 0,
) -> list[Point]:
    """Sizes around the best one of each budget of 6 N D FLOPs.

    Args:
        scatter: standard deviation of the logarithm of a loss.
    """
    rng = np.random.default_rng(seed)
    made: list[Point] = []
    for flops in budgets:
        for ratio in around:
            n_parameters = round(law.optimal_parameters(flops) * ratio)
            n_tokens = round(flops / 6 / n_parameters)
            loss = law.loss(n_parameters, n_tokens) * float(np.exp(scatter * rng.normal()))
            name = f"{n_parameters}_{flops:.0e}"
            made.append(
                Point(
                    name=name,
                    n_parameters=n_parameters,
                    n_tokens=n_tokens,
                    loss=loss,
                    flops=6.0 * n_parameters * n_tokens,
                    seed=seed,
                )
            )
    return made
