"""The pictures of a loss landscape: curve, plane from above, plane as a surface, and path.

A loss that is not finite is grey; a point that was not measured is left blank.
"""

import math
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("svg")

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from modelwright.evaluation.landscape_map import Landscape, Point
from modelwright.experiments.plots import accent, drawn, faint, ink, second, style

Grid = npt.NDArray[np.float64]

grey = "#b8bfc6"  # where the loss is not finite
large_range = 4.0  # the highest loss over the lowest, from which colours are spaced by ratio
loss_label = "loss (nats per token)"
most_levels = 16
# Round numbers of a decade, from close to far apart.
round_digits = (
    (1, 1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.25, 2.5, 2.75, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9),
    (1, 1.2, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1, 3),
    (1,),
)


@dataclass(frozen=True)
class Scale:
    """How losses become colours and heights."""

    levels: list[float]  # ascending; the first and last enclose every finite loss
    is_log: bool

    @property
    def norm(self) -> Normalize:
        kind = LogNorm if self.is_log else Normalize
        return kind(self.levels[0], self.levels[-1])

    def height(self, losses: Grid) -> Grid:
        return np.log10(losses) if self.is_log else losses


def scale_of(losses: Grid) -> Scale:
    """Levels at round numbers that enclose all finite losses; by ratio where the range is large."""
    finite = losses[np.isfinite(losses)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low > 0 and high / low > large_range:
        return Scale(_levels_by_ratio(low, high), True)
    if high - low < 1e-9 * max(1.0, abs(high)):  # all the same
        margin = max(0.5, 0.1 * abs(low))
        return Scale([low - margin, high + margin], False)
    levels = MaxNLocator(most_levels, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    enclosing = [float(level) for level in levels]
    while len(enclosing) > 2 and enclosing[1] <= low:
        del enclosing[0]
    while len(enclosing) > 2 and enclosing[-2] >= high:
        del enclosing[-1]
    return Scale(enclosing, False)


def _levels_by_ratio(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    levels, first, last = list[float](), 0, 0
    for digits in round_digits:
        levels = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        first = max(n for n, level in enumerate(levels) if level <= low)
        last = min((n for n, level in enumerate(levels) if level >= high), default=len(levels) - 1)
        if last - first <= most_levels:
            break
    chosen = levels[first : last + 1]
    if chosen[-1] < high:
        chosen.append(high)
    return chosen


def curve_figure(landscape: Landscape) -> Figure:
    """The loss along one random direction, or on a path with both its ends marked."""
    is_path = landscape.config.kind == "path"
    points = sorted(landscape.points, key=lambda point: point.at)
    places = [point.at[0] for point in points]
    losses = np.array([point.loss for point in points])
    scale = scale_of(losses)
    figure, axes = pyplot.subplots(figsize=(8.6, 3.8))
    if is_path:
        axes.axvspan(0, 1, color=accent, alpha=0.05, linewidth=0)
    axes.plot(places, np.where(np.isfinite(losses), losses, np.nan), color=accent, linewidth=1.8)
    axes.plot(places, losses, color=accent, marker="o", markersize=3, linestyle="none")
    half = landscape.config.spacing / 2
    missing = [point for point in points if not point.is_finite]
    for n, point in enumerate(missing):
        label = "not finite" if n == 0 else None
        axes.axvspan(
            *(point.at[0] - half, point.at[0] + half), color=grey, linewidth=0, label=label
        )
    axis = landscape.config.axis
    axes.set_xlim(axis[0], axis[-1])
    if scale.is_log:
        axes.set_yscale("log")
        _number_log_axis(axes, scale)
    axes.set_ylabel(loss_label)
    axes.set_xlabel("share of the way" if is_path else "multiple of the direction")
    axes.xaxis.set_major_formatter(FuncFormatter(_place))
    _mark_curve(axes, landscape)
    axes.legend(loc="best")
    return figure


def _mark_curve(axes: Axes, landscape: Landscape) -> None:
    ends = [(0.0, landscape.about.get("model", "the model"), ink)]
    if landscape.config.kind == "path":
        ends.append((1.0, landscape.about.get("end", "the other end"), second))
    for place, name, color in ends:
        point = landscape.at(place)
        if point is not None and point.is_finite:
            label = f"{name}: {point.loss:.3f}"
            axes.plot(
                *(place, point.loss), color=color, marker="o", markersize=8, linestyle="none",
                markeredgecolor="white", label=label, zorder=5,
            )  # fmt: skip
    lowest = landscape.lowest
    if lowest is not None and lowest.at not in ((0.0,), (1.0,)):
        axes.plot(
            *(lowest.at[0], lowest.loss), color="#edae49", marker="*", markersize=13,
            markeredgecolor=ink, markeredgewidth=0.7, linestyle="none", zorder=4,
            label=f"lowest: {lowest.loss:.3f}",
        )  # fmt: skip


def plane_figure(landscape: Landscape) -> Figure:
    """The plane from above: filled contours with their levels."""
    axis, losses = grid_of(landscape)
    scale, colors = scale_of(losses), colors_of_losses()
    figure, axes = pyplot.subplots(figsize=(7.2, 5.8))
    axes.set_aspect("equal")
    axes.grid(visible=False)
    _shade_not_finite(axes, landscape)
    finite = np.ma.masked_invalid(losses)
    if finite.count() >= 4:
        filled = axes.contourf(axis, axis, finite.T, scale.levels, cmap=colors, norm=scale.norm)
        filled.set_edgecolor("face")  # or seams show between the bands
        inks = [_readable_on(colors(scale.norm(level))) for level in scale.levels]
        lines = axes.contour(axis, axis, finite.T, scale.levels, colors=inks, linewidths=0.6)
        axes.clabel(lines, fmt=_number, fontsize=8, inline_spacing=3)
    _color_bar(figure, axes, scale, colors)
    axes.set_xlim(axis[0], axis[-1])
    axes.set_ylim(axis[0], axis[-1])
    axes.set_xlabel("first direction")
    axes.set_ylabel("second direction")
    for side in (axes.xaxis, axes.yaxis):
        side.set_major_formatter(FuncFormatter(_place))
    for point, marker, label in _marks(landscape):
        axes.plot(*point.at, **marker, label=label, zorder=5, clip_on=False)
    handles, _ = axes.get_legend_handles_labels()
    if landscape.n_not_finite:
        handles.append(Patch(color=grey, label="not finite"))
    axes.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(handles),
        handletextpad=0.3,
    )  # fmt: skip
    return figure


def surface_figure(landscape: Landscape) -> Figure:
    """The plane as a surface over its own contours."""
    axis, losses = grid_of(landscape)
    scale, colors = scale_of(losses), colors_of_losses()
    figure = pyplot.figure(figsize=(7.6, 6.0))
    axes: Any = figure.add_subplot(projection="3d", computed_zorder=False)
    heights = scale.height(np.where(np.isfinite(losses), losses, np.nan))
    floor, top = (float(scale.height(np.array(end))) for end in (scale.levels[0], scale.levels[-1]))
    floor -= 0.35 * (top - floor)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    cells = [_corners(point, landscape) for point in landscape.points if not point.is_finite]
    on_floor = [[(*corner, floor) for corner in cell] for cell in cells]
    axes.add_collection3d(Poly3DCollection(on_floor, color=grey, linewidth=0, zorder=0))
    if np.isfinite(heights).sum() >= 4:
        axes.contourf(
            x, y, np.ma.masked_invalid(losses), scale.levels, zdir="z", offset=floor,
            cmap=paler(colors), norm=scale.norm, zorder=1,
        )  # fmt: skip
        axes.plot_surface(
            x, y, heights, rcount=len(axis), ccount=len(axis), zorder=3,
            facecolors=_face_colors(losses, scale, colors), linewidth=0.25,
            edgecolor=(1, 1, 1, 0.35), shade=False,
        )  # fmt: skip
    for point, marker, label in _marks(landscape):
        height = float(scale.height(np.array(point.loss)))
        axes.plot(*point.at, height, **marker, label=label, zorder=6)
        axes.plot(*(2 * [value] for value in point.at), [floor, height], color=ink, lw=0.7, ls=":",
                  zorder=5)  # fmt: skip
    _dress_surface(axes, scale, floor, top)
    handles, _ = axes.get_legend_handles_labels()
    if landscape.n_not_finite:
        handles.append(Patch(color=grey, label="not finite"))
    axes.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.9), ncols=len(handles),
        handletextpad=0.3,
    )  # fmt: skip
    return figure


def _face_colors(losses: Grid, scale: Scale, colors: Colormap) -> Grid:
    """A colour for each cell, by the mean of its corners."""
    heights = scale.height(np.where(np.isfinite(losses), losses, np.nan))
    means = (heights[:-1, :-1] + heights[1:, :-1] + heights[:-1, 1:] + heights[1:, 1:]) / 4
    low, high = (float(scale.height(np.array(end))) for end in (scale.levels[0], scale.levels[-1]))
    out = colors((means - low) / (high - low))
    out[~np.isfinite(means)] = 0.0
    return out


def _dress_surface(axes: Any, scale: Scale, floor: float, top: float) -> None:
    axes.set_zlim(floor, top)
    axes.margins(x=0.02, y=0.02)
    axes.set_box_aspect((1, 1, 0.72))
    axes.view_init(elev=28, azim=-58)
    ticks = [level for level in scale.levels if scale.height(np.array(level)) >= floor]
    kept = ticks[:: max(1, round(len(ticks) / 6))]
    axes.zaxis.set_major_locator(FixedLocator([float(scale.height(np.array(t))) for t in kept]))
    axes.zaxis.set_major_formatter(
        FuncFormatter(lambda height, _: _number(10**height if scale.is_log else height))
    )
    for side in (axes.xaxis, axes.yaxis):
        side.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        side.set_major_formatter(FuncFormatter(_place))
    for side in (axes.xaxis, axes.yaxis, axes.zaxis):
        side.set_pane_color((1, 1, 1, 0))
        side._axinfo["grid"].update(color="#e4e7eb", linewidth=0.6)
        side.line.set_color(faint)
    axes.set_xlabel("first direction", labelpad=6)
    axes.set_ylabel("second direction", labelpad=6)
    axes.set_zlabel(loss_label, labelpad=6)


def _marks(landscape: Landscape) -> list[tuple[Point, dict[str, Any], str]]:
    """The trained model and the lowest point: where, how drawn, and what is said."""
    plain = {"linestyle": "none"}
    marks: list[tuple[Point, dict[str, Any], str]] = []
    trained, lowest = landscape.trained, landscape.lowest
    if lowest is not None and lowest != trained:
        star = {"marker": "*", "markersize": 14, "color": "#ffd166", "markeredgecolor": ink}
        marks.append(
            (lowest, plain | star | {"markeredgewidth": 0.8}, f"lowest: {lowest.loss:.3f}")
        )
    if trained is not None and trained.is_finite:
        dot = {"marker": "o", "markersize": 8, "color": second, "markeredgecolor": "white"}
        label = "trained model" if lowest != trained else "trained model, the lowest"
        marks.append((trained, plain | dot, f"{label}: {trained.loss:.3f}"))
    return marks


def grid_of(landscape: Landscape) -> tuple[Grid, Grid]:
    """The axis, and the losses by first and second coordinate; NaN where nothing was measured."""
    axis = landscape.config.axis
    index = {coordinate: n for n, coordinate in enumerate(axis)}
    losses = np.full((len(axis), len(axis)), np.nan)
    for point in landscape.points:
        losses[index[point.at[0]], index[point.at[1]]] = point.loss
    return np.array(axis), losses


def colors_of_losses() -> Colormap:
    """Dark where the loss is low."""
    return colormaps["viridis"]


def paler(colors: Colormap) -> Colormap:
    """The same colours mixed with white."""
    return ListedColormap(0.3 + 0.7 * colors(np.linspace(0, 1, 256)))


def _shade_not_finite(axes: Axes, landscape: Landscape) -> None:
    """Grey around each point, under the contours, which end at the points beside it."""
    for point in landscape.points:
        if not point.is_finite:
            axes.add_patch(Polygon(_corners(point, landscape), color=grey, linewidth=0, zorder=0))


def _corners(point: Point, landscape: Landscape) -> list[tuple[float, float]]:
    """Of the cells around a point, cut off at the edge of the map."""
    low, high = landscape.config.axis[0], landscape.config.axis[-1]
    step = landscape.config.spacing
    (left, right), (lower, upper) = (
        (max(low, place - step), min(high, place + step)) for place in point.at
    )
    return [(left, lower), (right, lower), (right, upper), (left, upper)]


def _color_bar(figure: Figure, axes: Axes, scale: Scale, colors: Colormap) -> None:
    bar = figure.colorbar(ScalarMappable(scale.norm, colors), ax=axes, pad=0.03)
    every = max(1, round(len(scale.levels) / 9))
    bar.ax.yaxis.set_major_locator(FixedLocator(scale.levels[::every]))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: _number(loss)))
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label(loss_label)


def _number_log_axis(axes: Axes, scale: Scale) -> None:
    every = max(1, round(len(scale.levels) / 8))
    axes.yaxis.set_major_locator(FixedLocator(scale.levels[::every]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: _number(loss)))


def _readable_on(color: tuple[float, float, float, float]) -> str:
    """Light on a dark colour, and dark on a light one."""
    red, green, blue, _ = color
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.55 else ink


def _place(coordinate: float, _: int | None) -> str:
    return f"{coordinate:.4g}".replace("-", "\N{MINUS SIGN}")


def _number(loss: float) -> str:
    return f"{loss:.4g}"


def pictures(landscape: Landscape) -> dict[str, tuple[str, bytes]]:
    """Each picture of a landscape by its name, as SVG and PNG; none before a point is finite."""
    if landscape.lowest is None:
        return {}
    figures = (
        {"plane": plane_figure, "surface": surface_figure}
        if landscape.config.kind == "plane"
        else {landscape.config.kind: curve_figure}
    )
    with pyplot.rc_context(style):
        return {name: drawn(figure(landscape)) for name, figure in figures.items()}
