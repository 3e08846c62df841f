"""Where runs begin to diverge: halving, in ratios, where the edge may be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelwright.experiments.study_config import BisectionConfig
from modelwright.experiments.study_file import rounded

Trains = bool


@dataclass(frozen=True, kw_only=True)
class Edge:
    """How far the search for the edge is.

    Attributes:
        trains: the value nearest to the edge at which no run diverged; None if there is none.
        diverges: the value nearest to it at which one did; None if there is none.
        wanted: the values whose runs would tell more; none when the search is over.
        note: what there is to be said of the result.
    """

    trains: float | None
    diverges: float | None
    wanted: tuple[float, ...]
    note: str


def find_edge(config: BisectionConfig, known: Mapping[float, Trains]) -> Edge:
    """What is known of the edge, and which value to try next.

    A pure function of what is known, so that a search that was stopped goes on where it was. Both
    ends come first; then always the geometric middle of what is left.

    Args:
        known: for each value that was tried, whether it trains.
    """
    low, high = config.trains, config.diverges
    unknown = tuple(value for value in (low, high) if value not in known)
    if unknown:
        return Edge(trains=None, diverges=None, wanted=unknown, note="the ends are not known yet")
    if not known[low]:
        note = f"a run diverged at {low:g} already; set bisection.trains further away"
        return Edge(trains=None, diverges=low, wanted=(), note=note)
    if known[high]:
        note = f"no run diverged at {high:g}; set bisection.diverges further away"
        return Edge(trains=high, diverges=None, wanted=(), note=note)
    while max(low, high) / min(low, high) > config.ratio:
        middle = rounded(math.sqrt(low * high))
        if middle in (low, high):  # four digits tell no more values apart
            break
        if middle not in known:
            note = f"between {low:g} and {high:g}"
            return Edge(trains=low, diverges=high, wanted=(middle,), note=note)
        low, high = (middle, high) if known[middle] else (low, middle)
    note = f"runs train at {low:g} and diverge at {high:g}"
    return Edge(trains=low, diverges=high, wanted=(), note=note)


def trains(outcomes: Sequence[str]) -> Trains:
    """Whether a value trains, by the outcomes of its runs: none of them may have diverged."""
    return "diverged" not in outcomes
