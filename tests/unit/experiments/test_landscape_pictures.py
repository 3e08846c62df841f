import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot

from modelwright.evaluation.landscape_file import open_points
from modelwright.evaluation.landscape_map import Landscape, LandscapeConfig, Point
from modelwright.experiments.landscape_plots import (
    curve_figure,
    grey,
    grid_of,
    pictures,
    plane_figure,
    scale_of,
)
from modelwright.experiments.landscape_report import table, write_landscape_page
from modelwright.experiments.landscape_section import caption, findings, landscape_sections

about = {"model": "runs/<small>, step 4", "end": "step 2", "text": "a text"}


def filled(loss: Callable[..., float], **settings: Any) -> Landscape:
    config = LandscapeConfig(**settings)
    points = [Point(at, loss(*at)) for at in config.coordinates]
    return Landscape(config, points, {"precision": "bfloat16"}, about)


def bowl(a: float, b: float = 0.0) -> float:
    return 2 + (a - 0.5) ** 2 + b * b


def kept(folder: Path, landscape: Landscape) -> None:
    """Put a landscape on disk."""
    settings = dataclasses.asdict(landscape.config) | dict(landscape.settings)
    with open_points(folder, landscape.config, settings=settings, about=landscape.about) as points:
        for point in landscape.points:
            points.add(point)


def test_colours_are_by_ratio_where_the_range_is_large():
    assert not scale_of(np.array([2.0, 3.0, math.inf])).is_log
    assert scale_of(np.array([2.0, 30.0, math.nan])).is_log
    levels = scale_of(np.array([2.1, 30.0])).levels
    assert (levels[0], levels[-1]) == (2.0, 30.0)
    assert 8 <= len(levels) <= 17


def test_the_grid_has_the_first_direction_first():
    _, losses = grid_of(filled(lambda a, b: 10 * a + b, points=3))
    assert losses.tolist() == [[-11, -10, -9], [-1, 0, 1], [9, 10, 11]]


def test_the_trained_model_and_the_lowest_point_are_marked():
    axes = plane_figure(filled(bowl, points=5)).axes[0]
    marked = {
        str(line.get_label()): tuple(float(np.asarray(x)[0]) for x in line.get_data())
        for line in axes.lines
    }
    assert marked == {"lowest: 2.000": (0.5, 0.0), "trained model: 2.250": (0.0, 0.0)}
    pyplot.close("all")


def test_what_is_not_finite_is_grey_and_what_is_not_measured_is_blank():
    broken = filled(lambda a, b: math.nan if a == b == 1 else bowl(a, b), points=5)
    whole, part = filled(bowl, points=5), filled(bowl, points=5)
    part = Landscape(part.config, part.points[:12], {}, about)
    shown = {}
    for name, landscape in (("broken", broken), ("whole", whole), ("part", part)):
        shown[name] = pictures(landscape)
        assert (grey in shown[name]["plane"][0]) == (grey in shown[name]["surface"][0])
        assert (grey in shown[name]["plane"][0]) == (name == "broken")
    (patch,) = plane_figure(broken).axes[0].patches
    corners = np.asarray(patch.get_path().vertices)
    assert (corners.min(), corners.max()) == (0.5, 1.0)
    pyplot.close("all")


def test_a_curve_shows_where_it_is_not_finite():
    line = filled(lambda a: math.inf if a == -1 else bowl(a), kind="curve", points=5)
    (band,) = curve_figure(line).axes[0].patches
    assert band.get_extents().width > 0
    assert grey in pictures(line)["curve"][0]
    assert grey not in pictures(filled(bowl, kind="curve", points=5))["curve"][0]
    pyplot.close("all")


@pytest.mark.parametrize(
    "loss",
    [
        lambda *at: 2.0,
        lambda *at: 0.0,
        lambda *at: -1.0 - at[0],
        lambda *at: 10.0 ** (30 * abs(at[0])),
        lambda *at: 1.0 if not any(at) else math.nan,
    ],
    ids=["level", "zero", "negative", "steep", "one finite"],
)
@pytest.mark.parametrize("kind", ["plane", "curve", "path"])
def test_every_shape_can_be_drawn(kind: str, loss: Callable[..., float]):
    drawn = pictures(filled(loss, kind=kind, points=5))
    assert set(drawn) == ({"plane", "surface"} if kind == "plane" else {kind})
    for svg, png in drawn.values():
        assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>")
        assert png.startswith(b"\x89PNG")
        assert "nan" not in re.findall(r'd="([^"]*)"', svg)


@pytest.mark.parametrize("kind", ["plane", "curve", "path"])
def test_any_part_of_a_map_can_be_drawn(kind: str):
    whole = filled(bowl, kind=kind, points=3)
    for n in (0, 1, 2, len(whole.points) - 1):
        assert bool(pictures(Landscape(whole.config, whole.points[:n], {}, about))) == (n > 0)


def test_findings_are_told_in_words():
    told = dict(findings(filled(bowl, points=9)))
    assert told["loss in the middle"] == "2.250 nats per token, the trained model"
    assert told["lowest found"] == "2.000 nats per token, at (0.5, 0)"
    assert told["sharpness"].startswith(
        "0.312 nats: the largest rise of the loss above the trained model's at the 4 points "
        "within 0.25 of it"
    )
    assert "not finite" not in told and "measured so far" not in told


def test_findings_say_what_is_missing_and_what_is_not_finite():
    broken = filled(lambda a, b: math.inf if a > 0 else 1.0, points=5)
    told = dict(findings(Landscape(broken.config, broken.points[:20], {}, about)))
    assert told["measured so far"] == "20 of 25 points"
    assert told["not finite"] == f"{sum(p.at[0] > 0 for p in broken.points[:20])} of 25 points"
    assert told["sharpness"].startswith("not finite: the largest rise")


def test_findings_of_a_path_name_both_ends_and_the_barrier():
    told = dict(findings(filled(lambda a: 3 - a + a * (1 - a), kind="path")))
    assert told["loss at 0"] == "3.000 nats per token, runs/<small>, step 4"
    assert told["loss at 1"] == "2.000 nats per token, step 2"
    assert told["barrier"].startswith("0.250 nats, at 0.5: the most by which the loss is above")
    sagging = dict(findings(filled(lambda a: a * a, kind="path")))
    assert sagging["barrier"].startswith("none: the loss is nowhere above")


def test_a_caption_says_what_was_moved_and_measured():
    plain = caption(filled(bowl, points=3, n_tokens=1234, seed=5))
    assert plain.startswith("Around runs/<small>, step 4. A step of 1")
    assert "biases and the weights of norms stay as they are" in plain
    assert "seed 5" in plain
    assert "the first 1,234 tokens of a text, with matrix products in bfloat16" in plain
    assert "norms move too" in caption(filled(bowl, points=3, with_vectors=True))
    assert "all tokens of a text" in caption(filled(bowl, points=3, n_tokens=0))
    path = caption(filled(bowl, kind="path"))
    assert path.startswith("From runs/<small>, step 4 at 0 to step 2 at 1")


def test_a_page_holds_every_kind_and_needs_no_network(tmp_path: Path):
    for kind in ("plane", "curve", "path"):
        kept(tmp_path, filled(bowl, kind=kind, points=5))
    page = write_landscape_page(tmp_path)
    text = page.read_text()
    assert text.count("<section>") == 3
    assert text.count("<svg") == 4
    assert "runs/&lt;small&gt;, step 4" in text and "runs/<small>" not in text
    assert not re.search(r"(src|href)=['\"](?!data:|#)", text)
    names = {path.name for path in tmp_path.iterdir()}
    for name in ("plane", "surface", "curve", "path"):
        assert {f"{name}.svg", f"{name}.png"} <= names
    assert {"plane.csv", "curve.csv", "path.csv"} <= names
    assert len(landscape_sections(tmp_path)) == 3


def test_a_table_has_every_point_in_order():
    found = filled(lambda a, b: math.inf if a == b == -1 else bowl(a, b), points=3)
    lines = table(found).splitlines()
    assert lines[:3] == ["first,second,loss", "-1.0,-1.0,inf", "-1.0,0.0,4.25"]
    assert len(lines) == 10


def test_a_page_before_the_first_point_says_so(tmp_path: Path):
    kept(tmp_path, Landscape(LandscapeConfig(points=5), ()))
    assert "0 of 25 points" in write_landscape_page(tmp_path).read_text()


def test_a_folder_without_a_landscape_has_no_section_and_no_page(tmp_path: Path):
    assert landscape_sections(tmp_path / "none") == []
    with pytest.raises(FileNotFoundError, match="holds no landscape; measure one first"):
        write_landscape_page(tmp_path)
