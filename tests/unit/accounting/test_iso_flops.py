import dataclasses
import math

import numpy as np
import pytest

import laws
from modelwright.accounting.iso_flops import budgets_of, fit_valleys
from modelwright.accounting.scaling import LossLaw, Work, six_n

symmetric = LossLaw(source="made up", E=1.5, A=300.0, B=300.0, alpha=0.3, beta=0.3)


def test_runs_of_equal_work_are_one_budget():
    groups = budgets_of(laws.points())
    assert [len(group) for group in groups] == [5, 5, 5]
    assert [round(math.log10(group[0].flops), 1) for group in groups] == [15.0, 15.6, 16.2]


def test_the_lowest_point_is_the_best_size_of_a_symmetric_law():
    found = fit_valleys(laws.points(law=symmetric), six_n)
    for valley in found.valleys:
        assert valley.best is not None
        assert valley.best.value == pytest.approx(
            symmetric.optimal_parameters(valley.flops), rel=0.02
        )
        assert valley.trouble == ""
    assert found.growth is not None
    assert found.growth.size_exponent.value == pytest.approx(0.5, abs=0.005)
    assert found.growth.tokens_exponent.value == pytest.approx(0.5, abs=0.005)


def test_tokens_grow_by_what_the_work_of_a_size_leaves():
    found = fit_valleys(laws.points(law=symmetric), Work(coefficient=6.0, exponent=0.8))
    assert found.growth is not None
    assert found.growth.tokens_exponent.value == pytest.approx(1 - 0.8 * 0.5, abs=0.005)


def test_intervals_hold_the_best_size_and_widen_with_scatter():
    widths = []
    for scatter in (0.0005, 0.005):
        found = fit_valleys(laws.points(law=symmetric, scatter=scatter), six_n)
        best = found.valleys[1].best
        assert best is not None
        assert best.low < symmetric.optimal_parameters(found.valleys[1].flops) < best.high
        widths.append(math.log(best.high / best.low))
    assert widths[1] > 3 * widths[0]


def test_three_runs_a_budget_leave_nothing_for_an_interval():
    found = fit_valleys(laws.points(law=symmetric, around=(0.4, 1, 2.5), scatter=0.01), six_n)
    assert not found.has_intervals
    assert found.valleys[0].best is not None
    assert found.valleys[0].best.low == found.valleys[0].best.high


def test_a_parabola_that_opens_downwards_has_no_best_size():
    points = [dataclasses.replace(p, loss=5 - p.loss) for p in laws.points(budgets=(1e15,))]
    found = fit_valleys(points, six_n)
    assert found.valleys[0].best is None
    assert "opens downwards" in found.valleys[0].trouble
    assert found.growth is None


def test_a_lowest_point_beside_the_sizes_is_said_to_be():
    beside = fit_valleys(laws.points(law=symmetric, around=(1.3, 2, 3, 5), budgets=(1e15,)), six_n)
    assert beside.valleys[0].trouble == "the lowest point is below all sizes trained"
    far = fit_valleys(laws.points(law=symmetric, around=(9, 10, 11, 12), budgets=(1e15,)), six_n)
    assert far.valleys[0].best is None
    assert far.valleys[0].trouble == "the lowest point is far below all sizes trained"


def test_budgets_in_tokens_per_parameter_have_no_valley():
    points = laws.points(around=(1,))
    with pytest.raises(ValueError, match="give budgets in flops"):
        fit_valleys(points, six_n)


@pytest.mark.filterwarnings("error")
def test_a_flat_valley_has_an_interval_that_is_a_number():
    # Some redrawn parabolas are so flat that their lowest point is too large for a float.
    rng = np.random.default_rng(1)
    for _ in range(5):
        flat = [
            dataclasses.replace(point, loss=3 + 0.006 * float(rng.normal()))
            for point in laws.points()
        ]
        for valley in fit_valleys(flat, six_n, level=0.998).valleys:
            assert valley.best is None or 1 <= valley.best.low < valley.best.high < 2e30
