"""The search for the edge of divergence, against an edge that is known."""

import pytest

from modelwright.experiments.bisection import find_edge, trains
from modelwright.experiments.study_config import BisectionConfig


def search(config: BisectionConfig, edge: float) -> tuple[float | None, float | None, int]:
    """Where a search ends when runs diverge beyond an edge, and how many values it tried."""
    known: dict[float, bool] = {}
    while wanted := find_edge(config, known).wanted:
        known |= {value: (value < edge) == (config.trains < config.diverges) for value in wanted}
    found = find_edge(config, known)
    return found.trains, found.diverges, len(known)


def config(**changes: float) -> BisectionConfig:
    ends = {"trains": 1e-3, "diverges": 1e-1, "ratio": 1.2}
    return BisectionConfig(setting="schedule.peak_lr", **(ends | changes))


@pytest.mark.parametrize("edge", [1.01e-3, 3e-3, 1e-2, 0.0345, 0.099])
def test_the_edge_is_between_two_values_as_near_as_was_asked(edge: float):
    low, high, n_tried = search(config(), edge)
    assert low is not None and high is not None
    assert low < edge <= high <= 1.2 * low
    assert n_tried <= 2 + config().n_between(1e-3, 1e-1)


def test_the_edge_may_lie_below():
    low, high, _ = search(config(trains=1e-1, diverges=1e-3), 0.02)
    assert low is not None and high is not None
    assert high < 0.02 <= low <= 1.2 * high


def test_a_coarser_search_tries_fewer_values():
    assert search(config(ratio=3), 0.02)[2] < search(config(ratio=1.05), 0.02)[2]


def test_what_was_tried_already_is_not_wanted_again():
    assert find_edge(config(), {1e-3: True, 1e-1: False}).wanted == (1e-2,)
    assert find_edge(config(), {1e-3: True, 1e-1: False, 1e-2: True}).wanted == (0.03162,)


@pytest.mark.parametrize(
    ("known", "note"),
    [
        ({1e-3: False, 1e-1: False}, "a run diverged at 0.001 already; set bisection.trains"),
        ({1e-3: True, 1e-1: True}, "no run diverged at 0.1; set bisection.diverges"),
    ],
)
def test_ends_that_are_none_end_the_search(known: dict[float, bool], note: str):
    edge = find_edge(config(), known)
    assert edge.wanted == ()
    assert note in edge.note


def test_one_seed_that_diverges_is_enough():
    assert trains(["finished", "finished"])
    assert not trains(["finished", "diverged", "finished"])
