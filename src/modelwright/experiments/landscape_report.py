"""The files that show a folder's landscapes: one page, and each picture and table by itself."""

from pathlib import Path

from modelwright.evaluation.landscape_map import Landscape
from modelwright.experiments.landscape_plots import pictures
from modelwright.experiments.landscape_section import landscape_section, landscapes_in
from modelwright.experiments.report import html_page
from modelwright.runtime.files import write_atomically

page_name = "landscape.html"


def write_landscape_page(folder: Path) -> Path:
    """Write `landscape.html`, and for each landscape its pictures as SVG and PNG and a table.

    Returns:
        The page.

    Raises:
        FileNotFoundError: if the folder holds no landscape.
        ValueError: if one is damaged.
    """
    landscapes = landscapes_in(folder)
    if not landscapes:
        raise FileNotFoundError(f"{folder} holds no landscape; measure one first")
    sections: list[str] = []
    for landscape in landscapes:
        drawn = pictures(landscape)
        for name, (svg, png) in drawn.items():
            write_atomically(folder / f"{name}.svg", svg)
            write_atomically(folder / f"{name}.png", png)
        write_atomically(folder / f"{landscape.config.kind}.csv", table(landscape))
        sections.append(landscape_section(landscape, [svg for svg, _ in drawn.values()]))
    title = f"Loss landscape of {landscapes[0].about.get('model', folder.resolve().name)}"
    path = folder / page_name
    write_atomically(path, html_page(title, sections))
    return path


def table(landscape: Landscape) -> str:
    """A landscape as comma-separated values, a line a point, in the order of its coordinates."""
    names = {"plane": "first,second", "curve": "multiple", "path": "share"}
    lines = [f"{names[landscape.config.kind]},loss"]
    for point in sorted(landscape.points, key=lambda point: point.at):
        lines.append(",".join(map(repr, (*point.at, point.loss))))
    return "\n".join(lines) + "\n"
