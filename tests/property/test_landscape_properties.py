import json
import math
from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelwright.evaluation.directions import normalised_by_filter
from modelwright.evaluation.landscape_file import hash_of
from modelwright.evaluation.landscape_map import Kind, Landscape, LandscapeConfig, Point
from modelwright.experiments.landscape_plots import scale_of

kinds: st.SearchStrategy[Kind] = st.sampled_from(["plane", "curve", "path"])
odd = st.integers(1, 8).map(lambda half: 2 * half + 1)
spans = st.floats(1e-3, 100)


@given(
    shape=st.lists(st.integers(1, 6), min_size=0, max_size=4),
    exponent=st.floats(-20, 15),
    seed=st.integers(0, 2**31),
)
def test_every_filter_keeps_its_direction_and_takes_the_length_of_the_weights(
    shape: list[int], exponent: float, seed: int
):
    generator = torch.Generator().manual_seed(seed)
    drawn, weight = (torch.randn(shape, generator=generator) for _ in range(2))
    weight = weight * 10.0**exponent
    scaled = normalised_by_filter(drawn, weight)
    rows = (1, -1) if len(shape) < 2 else (shape[0], -1)
    ours, theirs, before = (x.reshape(rows).double() for x in (scaled, weight, drawn))
    assert torch.allclose(ours.norm(dim=1), theirs.norm(dim=1), rtol=1e-5, atol=0)
    cosines = torch.nn.functional.cosine_similarity(ours, before, dim=1, eps=0)
    assert torch.allclose(cosines, torch.ones_like(cosines), rtol=1e-5)


@given(kind=kinds, points=odd, span=spans)
def test_every_point_comes_once_and_none_before_a_nearer_one(kind: Kind, points: int, span: float):
    config = LandscapeConfig(kind=kind, points=points, span=span)
    coordinates, axis = config.coordinates, config.axis
    n_axes = 2 if kind == "plane" else 1
    assert len(set(coordinates)) == len(coordinates) == len(axis) ** n_axes
    middle = 0.5 if kind == "path" else 0.0
    distances = [math.hypot(*(place - middle for place in at)) for at in coordinates]
    assert all(a <= b + 1e-8 for a, b in pairwise(distances))
    assert coordinates[0] == (middle,) * n_axes
    assert json.loads(json.dumps(coordinates)) == [list(at) for at in coordinates]
    mirrored = [2 * middle - place for place in reversed(axis)]
    assert all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(axis, mirrored, strict=True))


@given(losses=st.lists(st.floats(allow_nan=True), min_size=9, max_size=9))
def test_what_a_map_says_is_about_its_finite_losses(losses: list[float]):
    config = LandscapeConfig(points=3)
    points = [Point(at, loss) for at, loss in zip(config.coordinates, losses, strict=True)]
    found = Landscape(config, points)
    finite = [loss for loss in losses if math.isfinite(loss)]
    assert found.n_not_finite == 9 - len(finite)
    assert (found.lowest is None) == (not finite)
    assert found.lowest is None or found.lowest.loss == min(finite)


@given(losses=st.lists(st.floats(1e-6, 1e30) | st.sampled_from([math.inf, math.nan]), min_size=1))
def test_levels_ascend_and_enclose_every_finite_loss(losses: list[float]):
    levels = scale_of(np.array(losses)).levels
    assert all(a < b for a, b in pairwise(levels))
    assert 2 <= len(levels) <= 64
    for loss in losses:
        assert not math.isfinite(loss) or levels[0] <= loss <= levels[-1]


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_the_hash_of_settings_does_not_depend_on_their_order(settings: dict[str, object]):
    turned = dict(reversed(settings.items()))
    assert hash_of(turned) == hash_of(settings)
    assert hash_of(settings | {"more": 1}) != hash_of(settings) or "more" in settings
