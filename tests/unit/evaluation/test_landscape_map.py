import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from modelwright.evaluation.landscape_map import Landscape, LandscapeConfig, Point


def filled(loss: Callable[..., float], **settings: Any) -> Landscape:
    config = LandscapeConfig(**settings)
    return Landscape(config, [Point(at, loss(*at)) for at in config.coordinates])


def test_an_axis_goes_from_end_to_end_with_the_model_in_its_middle():
    assert LandscapeConfig(points=5).axis == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert LandscapeConfig(points=3, span=0.3).axis == [-0.3, 0.0, 0.3]


@pytest.mark.parametrize(("points", "span"), [(21, 1.0), (5, 0.9), (3, 0.1), (7, 2.0)])
def test_a_path_always_holds_both_ends(points: int, span: float):
    axis = LandscapeConfig(kind="path", points=points, span=span).axis
    assert axis == sorted(set(axis))
    assert {0.0, 1.0} <= set(axis)
    assert min(b - a for a, b in pairwise(axis)) > 1e-6
    assert axis[-1] == pytest.approx(max(1.0, 0.5 + span))


def test_the_usual_path_has_no_more_points_than_asked_for():
    assert len(LandscapeConfig(kind="path").axis) == 21


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points": 20}, "points is 20, .* choose an odd number such as 21"),
        ({"points": 1}, "an odd number such as 3"),
        ({"points": -4}, "an odd number such as 3"),
        ({"span": 0.0}, "span is 0.0; choose a number above 0"),
        ({"span": math.inf}, "span is inf"),
        ({"n_tokens": -1}, "n_tokens is -1; the least is 1, and 0 takes all"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        LandscapeConfig(**settings)


def test_sharpness_is_the_largest_rise_within_a_quarter_of_the_span():
    found = filled(lambda a, b: 2 + 3 * a * a + b * b, points=9, span=1.0).sharpness()
    assert found is not None
    assert (found.radius, found.n_points) == (0.25, 4)
    assert found.rise == pytest.approx(3 * 0.25**2)


def test_sharpness_of_a_fine_map_looks_at_all_points_of_the_disc():
    found = filled(lambda a, b: 2 + a * b, points=41, span=1.0).sharpness()
    assert found is not None
    # The largest product within the radius, of coordinates that are multiples of 0.05.
    assert found.rise == pytest.approx(0.15 * 0.2)
    assert found.n_points == sum(
        0 < i * i + j * j <= 25 for i in range(-5, 6) for j in range(-5, 6)
    )


def test_sharpness_of_a_coarse_map_looks_at_the_next_points():
    found = filled(lambda a: 1 + a, kind="curve", points=3, span=1.0).sharpness()
    assert found is not None
    assert (found.radius, found.rise, found.n_points) == (1.0, 1.0, 2)


def test_sharpness_may_be_below_zero_where_the_model_is_on_a_top():
    found = filled(lambda a: 1 - a * a, kind="curve", points=3, span=1.0).sharpness()
    assert found is not None and found.rise == -1.0


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_sharpness_beside_a_loss_that_is_not_finite_is_infinite(loss: float):
    around = filled(lambda a: loss if a > 0 else 1.0, kind="curve", points=3).sharpness()
    middle = filled(lambda a: 1.0 if a else loss, kind="curve", points=3).sharpness()
    assert around is not None and middle is not None
    assert around.rise == middle.rise == math.inf


def test_sharpness_waits_for_all_points_of_its_radius():
    whole = filled(lambda a, b: 1.0, points=9)
    for n in range(len(whole.points)):
        part = Landscape(whole.config, whole.points[:n])
        assert (part.sharpness() is None) == (n < 5)
        assert not part.is_complete


def test_the_lowest_point_is_finite_and_the_nearest_of_equal_ones():
    def loss(a: float, b: float) -> float:
        return math.nan if a < 0 else 1.0 if (a, b) in ((0.5, 0.0), (1.0, 1.0)) else 2.0

    found = filled(loss, points=5)
    assert found.lowest == Point((0.5, 0.0), 1.0)
    assert found.n_not_finite == 10
    assert filled(lambda a: math.inf, kind="curve").lowest is None


def test_a_barrier_is_the_height_above_the_line_between_the_ends():
    def loss(share: float) -> float:
        return 3 - share + 4 * share * (1 - share) * 0.8

    found = filled(loss, kind="path").barrier()
    assert found is not None
    assert found.at == (0.5,)
    assert found.loss == pytest.approx(0.8)


def test_a_path_that_sags_has_no_barrier_and_one_that_breaks_an_infinite_one():
    sagging = filled(lambda share: (share - 0.5) ** 2, kind="path").barrier()
    assert sagging is not None and sagging.loss == 0
    broken = filled(lambda share: math.nan if share == 0.5 else 1.0, kind="path").barrier()
    assert broken is not None and broken.loss == math.inf
    assert filled(lambda a: 1.0, kind="curve").barrier() is None
    assert filled(lambda share: 1.0, kind="path").sharpness() is None
