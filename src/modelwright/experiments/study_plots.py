"""The pictures of what a study's runs came to: every seed, differences, basins, batch sizes."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib

matplotlib.use("svg")

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from modelwright.experiments.plots import faint, ink
from modelwright.experiments.statistics import Comparison, Kind
from modelwright.experiments.study_curves import Along, Curve, mean_curve
from modelwright.experiments.study_looks import (
    Look,
    better,
    dashes,
    literal,
    looks_of,
    markers,
    needs_ratios,
    number_both_sides,
    number_log,
    palette,
    setting_label,
    undecided,
    value_label,
    worse,
)
from modelwright.experiments.study_results import Results, VariantResult
from modelwright.experiments.study_settings import Line, NumericAxis, ordering_axis

kind_colors: dict[Kind, str] = {
    "better": better,
    "worse": worse,
    "no difference": undecided,
    "too few seeds": undecided,
    "diverges": worse,
    "steadier": better,
}
row_inches = 0.34


def in_order(results: Results) -> list[VariantResult]:
    """The variants as they are shown: along their number, or the best first."""
    axis = ordering_axis(results)
    if axis is not None:
        return [one for _, one in axis.lines[0].points]
    return sorted(
        results.variants, key=lambda one: (one.mean is None, one.mean if one.mean else 0.0)
    )


def seeds_figure(results: Results) -> Figure:
    """Every seed's final figure, and beside it the differences to the baseline."""
    rows = in_order(results)
    height = row_inches * len(rows) + 1.1
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(9.4, height), sharey=True, width_ratios=(1, 1.05), layout="constrained"
    )
    looks = looks_of(results)
    _draw_finals(left, results, rows, looks)
    _draw_differences(right, results, rows)
    left.set_yticks(range(len(rows)), [looks[one.name].name for one in rows])
    left.set_ylim(len(rows) - 0.4, -0.6)
    for label, one in zip(left.get_yticklabels(), rows, strict=True):
        label.set_color(ink)
        label.set_fontweight("bold" if one.name == results.study.baseline else "normal")
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    return figure


def _draw_finals(
    axes: Axes, results: Results, rows: Sequence[VariantResult], looks: Mapping[str, Look]
) -> None:
    seeds = sorted({seed for one in rows for seed in one.outcomes.finals})
    for seed in seeds:
        found = [
            (one.outcomes.finals[seed], row)
            for row, one in enumerate(rows)
            if seed in one.outcomes.finals
        ]
        x, y = zip(*found, strict=True)
        axes.plot(x, y, color=faint, linewidth=0.6, alpha=0.7, zorder=1)
    for row, one in enumerate(rows):
        look, finals = looks[one.name], one.finals
        axes.plot(
            finals, [row] * len(finals), marker="o", markersize=5, linestyle="none",
            color=look.color, markeredgecolor="white", markeredgewidth=0.5, zorder=3,
        )  # fmt: skip
        if one.mean is not None:
            axes.plot([one.mean] * 2, [row - 0.27, row + 0.27], color=look.color, linewidth=1.8)
    finals = [final for one in rows for final in one.finals]
    if finals and min(finals) > 0 and max(finals) / min(finals) > 1.8:
        axes.set_xscale("log")
        _few_numbers(axes, min(finals), max(finals))
    axes.margins(x=0.06)
    axes.set_xlabel(f"{results.measure_name}, every seed\n({results.unit})")


def _few_numbers(axes: Axes, low: float, high: float) -> None:
    """A handful of round numbers on a log axis, in equal ratios."""
    wanted = np.geomspace(low, high, 5)
    chosen = sorted({float(f"{value:.2g}") for value in wanted})
    axes.xaxis.set_major_locator(FixedLocator(chosen))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _draw_differences(axes: Axes, results: Results, rows: Sequence[VariantResult]) -> None:
    worthwhile = results.question.worthwhile
    axes.axvspan(-worthwhile, worthwhile, color=faint, alpha=0.18, linewidth=0)
    axes.axvline(0, color=ink, linewidth=0.9)
    shown = [results.comparisons.get(one.name) for one in rows]
    values = [value for one in shown if one for value in one.differences.values()]
    reach = max([2 * worthwhile, *(1.25 * abs(value) for value in values)])
    is_wide = needs_ratios([one.mean for one in shown if one and one.mean is not None], worthwhile)
    ends = [end for one in shown if one and one.interval for end in _ends(one)]
    reach = min(max([reach, *(1.05 * abs(end) for end in ends)]), 2.2 * reach)
    axes.set_xlim(-reach, reach)
    if is_wide:
        axes.set_xscale("symlog", linthresh=2 * worthwhile, linscale=0.8)
        axes.xaxis.set_minor_locator(NullLocator())
        number_both_sides(axes.xaxis, 2 * worthwhile, reach)
    for row, one in enumerate(shown):
        if one is not None:
            _draw_comparison(axes, row, one, reach)
    axes.set_xlabel(
        f"difference to the baseline ({results.unit})\n← better\u2003\u2003\u2003\u2003worse →"
    )


def _ends(one: Comparison) -> tuple[float, float]:
    assert one.interval is not None
    return one.interval.low, one.interval.high


def _draw_comparison(axes: Axes, row: int, one: Comparison, reach: float) -> None:
    color = kind_colors[one.kind]
    if one.interval is not None:
        low, high = max(one.interval.low, -reach), min(one.interval.high, reach)
        axes.plot([low, high], [row, row], color=color, linewidth=2.4, solid_capstyle="butt")
        cuts = (
            (-reach, one.interval.low < -reach, "<"),
            (reach, one.interval.high > reach, ">"),
        )
        for end, is_cut, sign in cuts:
            if is_cut:
                axes.plot(
                    *([end], [row]), marker=sign, markersize=6, color=color, clip_on=False, zorder=4
                )
    values = list(one.differences.values())
    axes.plot(
        values, [row] * len(values), marker="|", markersize=9, markeredgewidth=1.1,
        linestyle="none", color=ink, alpha=0.55, zorder=3,
    )  # fmt: skip
    if one.mean is not None:
        is_shown = one.kind in ("better", "worse")
        axes.plot(
            [one.mean], [row], marker="o", markersize=6.5, color=color, zorder=4,
            markerfacecolor=color if is_shown else "white", markeredgewidth=1.6,
        )  # fmt: skip
    said = one.kind
    if one.kind in ("diverges", "steadier"):
        n = one.n_diverged if one.kind == "diverges" else one.baseline_diverged
        said = f"{one.kind} ({n} of {one.n_judged})"
    axes.text(
        1.015, row, said, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5,
        color=color if one.kind not in ("no difference", "too few seeds") else "#52606d",
        clip_on=False,
    )  # fmt: skip


def basin_figure(results: Results, axis: NumericAxis) -> Figure:
    """The final figure over a numeric setting, a line a group of variants; diverged at the top."""
    figure, axes = pyplot.subplots(figsize=(7.4, 4.2), layout="constrained")
    many = len(axis.lines) > 1
    for n, line in enumerate(axis.lines):
        color = palette[n % len(palette)]
        points = [(value, one.mean) for value, one in line.points if one.mean is not None]
        axes.plot(
            [value for value, _ in points], [mean for _, mean in points], color=color,
            linestyle=dashes[n // len(palette) % len(dashes)], linewidth=1.8, zorder=2,
            label=literal(line.label) or "base",
        )  # fmt: skip
        for value, one in line.points:
            axes.plot(
                [value] * len(one.finals), one.finals, marker=markers[n % len(markers)],
                markersize=5, linestyle="none", color=color, markeredgecolor="white",
                markeredgewidth=0.5, zorder=3,
            )  # fmt: skip
            _cross_out(axes, value, one, color, n, is_alone=not many)
    _spread_values(axes, axis.values, n_letters=80)
    if (edge := edge_along(results, axis)) is not None:
        axes.axvspan(*edge, color=worse, alpha=0.35, linewidth=1, zorder=1)
    finals = [final for line in axis.lines for _, one in line.points for final in one.finals]
    if finals and min(finals) > 0 and max(finals) / min(finals) > 3:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    _mark_best(axes, results, axis)
    axes.margins(y=0.16)
    axes.set_xlabel(setting_label(axis.setting))
    axes.set_ylabel(f"{results.measure_name}\n({results.unit})")
    if many:
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    return figure


def edge_along(results: Results, axis: NumericAxis) -> tuple[float, float] | None:
    """The two values of a setting between which a bisection found that runs begin to diverge."""
    edge = results.study.edge
    if edge is None or not edge.is_found or edge.setting != axis.setting:
        return None
    assert edge.trains is not None and edge.diverges is not None
    return edge.trains, edge.diverges


def _cross_out(
    axes: Axes, value: float, one: VariantResult, color: str, n: int, *, is_alone: bool
) -> None:
    """A cross above the picture for a value with which runs diverged, a row for each line."""
    if not one.outcomes.diverged:
        return
    height = 1.045 + 0.055 * n
    axes.plot(
        [value], [height], transform=axes.get_xaxis_transform(), marker="x", markersize=7,
        markeredgewidth=1.8, color=color, clip_on=False, linestyle="none",
    )  # fmt: skip
    n, of = len(one.outcomes.diverged), len(one.runs)
    if n == of:  # a cross alone: neighbours may be near
        return
    axes.annotate(
        f"{n} of {of}", (value, height),
        xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8, color=color,
        # Above it the count is out of the way of neighbours, if no other row is there.
        xytext=(0, 9) if is_alone else (6, 0), ha="center" if is_alone else "left", va="center",
        annotation_clip=False,
    )  # fmt: skip


def _spread_values(axes: Axes, values: Sequence[float], *, n_letters: int) -> None:
    """A log axis where the values go by ratio; where they are few, each is named.

    Args:
        n_letters: how many there is room for along the axis; names that need more are turned.
    """
    is_log = min(values) > 0 and max(values) / min(values) >= 4
    if is_log:
        axes.set_xscale("log")
    if len(values) <= 9:
        axes.xaxis.set_major_locator(FixedLocator(list(values)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: value_label(value)))
        if are_crowded(sorted(values), n_letters, is_log=is_log):
            axes.tick_params(axis="x", labelrotation=45)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def are_crowded(values: Sequence[float], n_letters: int, *, is_log: bool) -> bool:
    """Whether the names of neighbours would touch."""
    places = [math.log(value) if is_log else value for value in values]
    length = places[-1] - places[0] or 1.0
    return any(
        (right - left) / length * n_letters < (len(value_label(a)) + len(value_label(b))) / 2 + 1
        for (left, right), (a, b) in zip(pairwise(places), pairwise(values), strict=True)
    )


def _mark_best(axes: Axes, results: Results, axis: NumericAxis) -> None:
    """The lowest mean of all, with its value below it."""
    points = [
        (one.mean, value, min(one.finals)) for line in axis.lines for value, one in line.points
        if one.mean is not None and not one.outcomes.diverged
    ]  # fmt: skip
    if not points:
        return
    mean, value, low = min(points)
    side = {min(axis.values): "left", max(axis.values): "right"}.get(value, "center")
    axes.annotate(
        f"lowest: {mean:.3f} at {value_label(value)}", (value, low), xytext=(0, -9),
        textcoords="offset points", ha=side, va="top", fontsize=8.5, color=ink,
    )  # fmt: skip
    axes.plot([value], [mean], marker="o", markersize=11, fillstyle="none", color=ink)


def batch_figure(results: Results, axis: NumericAxis) -> Figure | None:
    """Steps, and time, to reach the same losses with each batch size.

    The losses are ones that the means of the smoothed training loss do reach: the last that all
    variants reach, and the last that half of them do.
    """
    curves = {
        (n, value): curve
        for n, line in enumerate(axis.lines)
        for value, one in line.points
        if one.finished and (curve := mean_curve(one, "loss", smooth=True)) is not None
    }
    lowest = sorted(float(np.min(curve.y)) for curve in curves.values())
    if len(lowest) < 2:
        return None
    targets = list(dict.fromkeys((round(lowest[-1] + 5e-4, 3), round(_middle(lowest) + 5e-4, 3))))
    figure, panels = pyplot.subplots(1, 2, figsize=(9.4, 3.8), layout="constrained")
    asked: list[tuple[Along, str]] = [
        ("step", "steps to the loss"),
        ("seconds", "seconds to the loss"),
    ]
    for axes, (along, label) in zip(panels, asked, strict=True):
        _draw_batches(axes, axis.lines, curves, targets, along)
        _spread_values(axes, axis.values, n_letters=35)
        axes.set_yscale("log")
        number_log(axes)
        axes.set_xlabel(setting_label(axis.setting))
        axes.set_ylabel(label)
    panels[1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    return figure


def _middle(values: Sequence[float]) -> float:
    return values[(len(values) - 1) // 2]


def _draw_batches(
    axes: Axes,
    lines: Sequence[Line],
    curves: Mapping[tuple[int, float], Curve],
    targets: Sequence[float],
    along: Along,
) -> None:
    for n, line in enumerate(lines):
        for turn, target in enumerate(targets):
            found = [
                (value, reached)
                for value, _ in line.points
                if (n, value) in curves
                and (reached := first_below(curves[n, value], target, along)) is not None
            ]
            if not found:
                continue
            x, y = zip(*found, strict=True)
            name = f"{literal(line.label)}: " if line.label else ""
            axes.plot(
                x, y, color=palette[n % len(palette)], linestyle=dashes[turn], marker=markers[turn],
                markersize=5, linewidth=1.6, label=f"{name}loss {target:.3f}",
            )  # fmt: skip
            if along == "step" and n == 0 and turn == 0:
                axes.plot(
                    x, [y[0] * x[0] / value for value in x], color=faint, linewidth=1.1,
                    linestyle=(0, (2, 2)), zorder=1,
                )  # fmt: skip
                middle = x[len(x) // 2]
                axes.annotate(
                    "equally many tokens", (middle, y[0] * x[0] / middle), xytext=(6, 4),
                    textcoords="offset points", ha="left", va="bottom", fontsize=8, color="#52606d",
                )  # fmt: skip


def first_below(curve: Curve, target: float, along: Along) -> float | None:
    """Where a curve is first at or below a loss; None if it never is."""
    below = np.flatnonzero(curve.y <= target)
    return float(curve.x[along][below[0]]) if len(below) else None
