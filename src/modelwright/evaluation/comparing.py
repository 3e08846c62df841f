"""Whether one model beats another on the same items, or was only luckier with them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

n_resamples = 10_000
seed = 0
numbers_at_once = 4_000_000


@dataclass(frozen=True)
class Comparison:
    """The first model's mean minus the second's, over the items that both have.

    Attributes:
        low, high: the middle 95% of what other samples of items would have given.
        p: how often the first model is not ahead in them; a small one says that it beats the other.
    """

    difference: float
    low: float
    high: float
    p: float
    n_items: int

    def facts(self) -> dict[str, Any]:
        """All of it for a JSON file."""
        return asdict(self)


def compare(first: Mapping[int, float], second: Mapping[int, float]) -> Comparison | None:
    """Compare two models by the paired bootstrap; None if they share fewer than two items.

    The items are drawn anew, with replacement and as many, and both models keep what they got for
    each: what is hard for both makes no difference.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 13 and 16; p
    counts the sample itself among the others, as Davison and Hinkley 1997, equation 4.11.
    """
    shared = sorted(first.keys() & second.keys())
    if len(shared) < 2:
        return None
    differences = np.array([first[place] - second[place] for place in shared])
    generator = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    size = max(1, numbers_at_once // len(shared))
    for begin in range(0, n_resamples, size):
        end = min(begin + size, n_resamples)
        drawn = generator.integers(0, len(shared), (end - begin, len(shared)), dtype=np.int32)
        means[begin:end] = differences[drawn].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    # Sums of the same numbers in another order differ in the last digits.
    n_behind = int((means <= 1e-12).sum())
    return Comparison(
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        p=(n_behind + 1) / (n_resamples + 1),
        n_items=len(shared),
    )
