"""What a loss landscape says: its findings in words, and its section of a page."""

import html
import math
from pathlib import Path
from typing import get_args

from modelwright.evaluation.landscape_file import path_of, read_landscape
from modelwright.evaluation.landscape_map import Kind, Landscape, Point
from modelwright.experiments.landscape_plots import pictures

folder_name = "landscape"  # in a run's folder

titles: dict[Kind, str] = {
    "plane": "Loss around the model, in the plane of two random directions",
    "curve": "Loss around the model, along a random direction",
    "path": "Loss on the straight line between two models",
}


def landscapes_in(folder: Path) -> list[Landscape]:
    """The landscapes that a folder holds, at most one of each kind.

    Raises:
        ValueError: if one of the files is damaged.
    """
    paths = [path_of(folder, kind) for kind in get_args(Kind)]
    return [read_landscape(path) for path in paths if path.is_file()]


def landscape_sections(folder: Path) -> list[str]:
    """A section for each landscape of a folder that may not be there."""
    return [
        landscape_section(landscape, [svg for svg, _ in pictures(landscape).values()])
        for landscape in landscapes_in(folder)
    ]


def landscape_section(landscape: Landscape, svgs: list[str]) -> str:
    """Pictures, what they show, and what was found."""
    drawn = "".join(f"<div style='max-width:46rem;margin:0 auto 1rem'>{svg}</div>" for svg in svgs)
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td style='white-space:normal'>{html.escape(text)}</td>"
        "</tr>"
        for name, text in findings(landscape)
    )
    return (
        f"<section><h2>{titles[landscape.config.kind]}</h2>{drawn}"
        f"<p>{html.escape(caption(landscape))}</p><table class='plain words'>{rows}</table>"
        "</section>"
    )


def caption(landscape: Landscape) -> str:
    """What was moved how, and on what text the loss was measured."""
    config, about = landscape.config, landscape.about
    others = "move too" if config.with_vectors else "stay as they are"
    moved = (
        f"From {about.get('model', 'the model')} at 0 to {about.get('end', 'the other end')} at 1, "
        "every weight changes in proportion; beyond, it goes on so."
        if config.kind == "path"
        else f"Around {about.get('model', 'the model')}. "
        "A step of 1 along a direction moves each row of a weight matrix by its own length "
        f"(Li et al. 2018); biases and the weights of norms {others}. "
        f"The directions are drawn with seed {config.seed}."
    )
    tokens = f"the first {config.n_tokens:,} tokens" if config.n_tokens else "all tokens"
    precision = landscape.settings.get("precision", "float32")
    return (
        f"{moved} The loss is the mean over {tokens} of {about.get('text', 'a text')}, with matrix "
        f"products in {precision}. What is not finite is grey."
    )


def findings(landscape: Landscape) -> list[tuple[str, str]]:
    """What was found, each with what it is."""
    found = _of_path(landscape) if landscape.config.kind == "path" else _around(landscape)
    n_points = len(landscape.config.coordinates)
    if landscape.n_not_finite:
        found.append(("not finite", f"{landscape.n_not_finite:,} of {n_points:,} points"))
    if not landscape.is_complete:
        found.append(("measured so far", f"{len(landscape.points):,} of {n_points:,} points"))
    return found


def _around(landscape: Landscape) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if landscape.trained is not None:
        found.append(("loss in the middle", f"{_loss(landscape.trained)}, the trained model"))
    if landscape.lowest is not None:
        is_trained = landscape.lowest == landscape.trained
        where = "the trained model itself" if is_trained else f"at {_at(landscape.lowest)}"
        found.append(("lowest found", f"{_loss(landscape.lowest)}, {where}"))
    sharpness = landscape.sharpness()
    if sharpness is not None:
        rise = f"{sharpness.rise:.3f} nats" if math.isfinite(sharpness.rise) else "not finite"
        found.append(
            (
                "sharpness",
                f"{rise}: the largest rise of the loss above the trained model's at the "
                f"{sharpness.n_points} points within {sharpness.radius:g} of it, where 1 along a "
                "direction moves each row of a weight matrix by its own length",
            )
        )
    return found


def _of_path(landscape: Landscape) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for place, name in ((0.0, "model"), (1.0, "end")):
        point = landscape.at(place)
        if point is not None:
            what = landscape.about.get(name, "")
            found.append((f"loss at {place:g}", f"{_loss(point)}{', ' if what else ''}{what}"))
    if landscape.lowest is not None:
        found.append(("lowest found", f"{_loss(landscape.lowest)}, at {_at(landscape.lowest)}"))
    barrier = landscape.barrier()
    if barrier is not None:
        meaning = "the straight line between the losses of both ends"
        height = f"{barrier.loss:.3f} nats" if barrier.is_finite else "not finite"
        found.append(
            (
                "barrier",
                f"{height}, at {_at(barrier)}: the most by which the loss is above {meaning}"
                if barrier.loss > 0
                else f"none: the loss is nowhere above {meaning}",
            )
        )
    return found


def _loss(point: Point) -> str:
    return f"{point.loss:.3f} nats per token" if point.is_finite else "not finite"


def _at(point: Point) -> str:
    places = ", ".join(f"{place:.4g}" for place in point.at)
    return f"({places})" if len(point.at) > 1 else places
