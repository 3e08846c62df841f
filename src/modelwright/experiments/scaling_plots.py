"""The pictures of a scaling law: loss over work, valleys, map, optima, residuals and forecast."""

from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")

import numpy as np
from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from modelwright.accounting.iso_flops import Valley, budgets_of
from modelwright.accounting.law_fit import Point
from modelwright.accounting.law_intervals import Uncertain
from modelwright.accounting.quasi_newton import Floats
from modelwright.experiments.landscape_plots import drawn
from modelwright.experiments.plots import accent, faint, ink, second, style
from modelwright.experiments.scaling_analysis import Analysis, Checked, counts

loss_label = "validation loss (nats per token)"
beyond = 3.0  # times the largest budget, as far as frontiers are drawn
n_along = 60
n_bands = 200  # draws that a band is made of


def pictures(analysis: Analysis) -> dict[str, tuple[str, bytes]]:
    """Each picture by its name, as SVG and PNG; those of a law only where there is one."""
    figures: dict[str, Any] = {"loss-over-work": loss_over_work}
    if analysis.valleys is not None:
        figures["valleys"] = valleys_figure
    if analysis.law is not None:
        figures |= {"map": map_figure, "optima": optima_figure, "residuals": residuals_figure}
        figures["forecast"] = forecast_figure
    with pyplot.rc_context(style):
        return {name: drawn(figure(analysis)) for name, figure in figures.items()}


def loss_over_work(analysis: Analysis) -> Figure:
    """Every run over its FLOPs, one colour a size; the law's frontier with its band."""
    figure, axes = pyplot.subplots(figsize=(8.6, 4.2))
    for size, color, points in _by_size(analysis.points):
        points = sorted(points, key=lambda point: point.flops)
        means = _means_over_seeds(points)
        axes.plot([m[0] for m in means], [m[1] for m in means], color=color, linewidth=1.1)
        axes.plot(
            [point.flops for point in points],
            [point.loss for point in points],
            color=color,
            marker="o",
            markersize=4.5,
            linestyle="none",
            label=_count(size),
        )
    if analysis.law is not None:
        work = _work_range(analysis)
        low, high = _frontier_band(analysis, analysis.law, work)
        frontier = [analysis.law.fit.law.optimal_split(flops, analysis.work).loss for flops in work]
        axes.fill_between(work, low, high, color=ink, alpha=0.12, linewidth=0)
        axes.plot(work, frontier, color=ink, linewidth=1.4, linestyle="--", label="best split")
    checks: dict[int, list[Checked]] = {}  # a name for all seeds of a size
    for checked in analysis.checks:
        checks.setdefault(checked.run.n_parameters[analysis.count], []).append(checked)
    for size, seeds in checks.items():
        axes.plot(
            [checked.run.flops for checked in seeds], [checked.run.loss for checked in seeds],
            marker="*", markersize=13, color=second, linestyle="none",
            label=f"check, {_count(size)}",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel(loss_label)
    axes.legend(
        title=counts[analysis.count].replace(" without", "\nwithout"),
        loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, title_fontsize=9,
    )  # fmt: skip
    return figure


def valleys_figure(analysis: Analysis) -> Figure:
    """Loss over size at equal work, with the parabolas and their lowest points."""
    assert analysis.valleys is not None
    figure, axes = pyplot.subplots(figsize=(8.6, 4.2))
    valleys = analysis.valleys.valleys
    for valley, color in zip(valleys, _colors(len(valleys)), strict=True):
        sizes = [point.n_parameters for point in valley.points]
        axes.plot(
            sizes, [point.loss for point in valley.points], color=color, marker="o",
            markersize=4.5, linestyle="none", label=f"{_flops(valley.flops)} FLOPs",
        )  # fmt: skip
        along = np.geomspace(min(sizes) / 1.15, max(sizes) * 1.15, n_along)
        axes.plot(along, [valley.loss_at(n) for n in along], color=color, linewidth=1.3)
        _mark_bottom(axes, valley, color)
    _log_sizes(axes)
    trained = [point.n_parameters for valley in valleys for point in valley.points]
    axes.set_xlim(min(trained) / 1.5, max(trained) * 1.5)  # an interval may go far beyond
    axes.set_xlabel(counts[analysis.count])
    axes.set_ylabel(loss_label)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


def _mark_bottom(axes: Axes, valley: Valley, color: Any) -> None:
    if valley.best is None or valley.loss is None:
        return
    axes.plot(
        [valley.best.low, valley.best.high], [valley.loss] * 2, color=color, linewidth=3, alpha=0.35
    )
    axes.plot(
        [valley.best.value], [valley.loss], marker="v", markersize=8, color=color,
        markeredgecolor="white", linestyle="none",
    )  # fmt: skip


def map_figure(analysis: Analysis) -> Figure:
    """The fitted loss over size and tokens, the runs on it, and the line of best splits."""
    law = analysis.law
    assert law is not None
    points = analysis.points
    sizes = [p.n_parameters for p in points] + [
        c.run.n_parameters[analysis.count] for c in analysis.checks
    ]
    lengths = [p.n_tokens for p in points] + [c.run.n_tokens for c in analysis.checks]
    n = np.geomspace(min(sizes) / 1.6, max(sizes) * 1.6, n_along)
    d = np.geomspace(min(lengths) / 1.6, max(lengths) * 1.6, n_along)
    grid_n, grid_d = np.meshgrid(n, d)
    figure, axes = pyplot.subplots(figsize=(8.6, 5))
    fitted = law.fit.law.loss(grid_n, grid_d)  # type: ignore[arg-type]
    filled = axes.contourf(grid_n, grid_d, fitted, levels=18, cmap="viridis_r", alpha=0.85)
    bar = figure.colorbar(filled, ax=axes, pad=0.03)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label("fitted loss (nats per token)")
    for group in budgets_of(points):
        flops = float(np.exp(np.mean(np.log([point.flops for point in group]))))
        axes.plot(
            n, [analysis.work.tokens(size, flops) for size in n], color="white", linewidth=0.9,
            linestyle=":",
        )  # fmt: skip
    work = _work_range(analysis, wide=True)
    splits = [law.fit.law.optimal_split(flops, analysis.work) for flops in work]
    axes.plot(
        [s.n_parameters for s in splits], [s.n_tokens for s in splits], color="white",
        linewidth=2.2, label="best split",
    )  # fmt: skip
    axes.plot(
        [p.n_parameters for p in points], [p.n_tokens for p in points], marker="o", markersize=5,
        color=ink, markeredgecolor="white", linestyle="none", label="runs",
    )  # fmt: skip
    for number, checked in enumerate(analysis.checks):
        axes.plot(
            [checked.run.n_parameters[analysis.count]], [checked.run.n_tokens], marker="*",
            markersize=14, color=second, markeredgecolor="white", linestyle="none",
            label="check" if number == 0 else None,
        )  # fmt: skip
    axes.set_yscale("log")
    _log_sizes(axes)
    axes.set_xlim(n[0], n[-1])
    axes.set_ylim(d[0], d[-1])
    axes.grid(visible=False)
    _log_counts(axes.yaxis)
    axes.set_xlabel(counts[analysis.count])
    axes.set_ylabel("training tokens")
    axes.legend(loc="upper left", facecolor="#52606d", labelcolor="white", frameon=True)
    return figure


def optima_figure(analysis: Analysis) -> Figure:
    """Best size and best number of tokens over work, by the law and by the parabolas."""
    law = analysis.law
    assert law is not None
    figure, both = pyplot.subplots(1, 2, figsize=(8.6, 3.6))
    work = _work_range(analysis)
    some = law.laws()[:n_bands]
    drawn_splits = [[one.optimal_split(flops, analysis.work) for one in some] for flops in work]
    for axes, name, label in zip(
        both, ("n_parameters", "n_tokens"), (f"best {counts['all']}", "best tokens"), strict=True
    ):
        if name == "n_parameters":
            label = f"best N: {counts[analysis.count]}"
        values = np.array([[getattr(split, name) for split in row] for row in drawn_splits])
        low, high = _band(values, law.level)
        best = [getattr(law.fit.law.optimal_split(flops, analysis.work), name) for flops in work]
        axes.fill_between(work, low, high, color=accent, alpha=0.18, linewidth=0)
        axes.plot(work, best, color=accent, linewidth=1.6, label="law")
        _valley_optima(axes, analysis, name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(low.min() / 3, high.max() * 2)
        _log_counts(axes.yaxis)
        axes.set_xlabel("training FLOPs")
        axes.set_ylabel(label, fontsize=9)
    both[0].legend(fontsize=9)
    figure.tight_layout()
    return figure


def _valley_optima(axes: Axes, analysis: Analysis, name: str) -> None:
    if analysis.valleys is None:
        return
    sure = [
        (valley.flops, valley.best)
        for valley in analysis.valleys.valleys
        if valley.best is not None
    ]
    for number, (flops, best) in enumerate(sure):
        ends = [best.low, best.value, best.high]
        if name == "n_tokens":
            ends = [analysis.work.tokens(size, flops) for size in ends]
        axes.plot([flops] * 2, [ends[0], ends[2]], color=second, linewidth=1.4)
        axes.plot(
            [flops], [ends[1]], marker="v", markersize=6, color=second, linestyle="none",
            label="parabolas" if number == 0 else None,
        )  # fmt: skip


def residuals_figure(analysis: Analysis) -> Figure:
    """By how much each run's loss differs from the law, over the work that it took."""
    assert analysis.law is not None
    fit = analysis.law.fit
    left = dict(zip((point.name for point in fit.points), fit.residuals, strict=True))
    figure, axes = pyplot.subplots(figsize=(8.6, 3.2))
    axes.axhspan(-100 * fit.spread, 100 * fit.spread, color=faint, alpha=0.2, linewidth=0)
    axes.axhline(0, color=ink, linewidth=0.8)
    for size, color, points in _by_size(analysis.points):
        axes.plot(
            [point.flops for point in points], [100 * left[point.name] for point in points],
            color=color, marker="o", markersize=5, linestyle="none", label=_count(size),
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("training FLOPs")
    axes.set_ylabel("measured over fitted loss (%)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    return figure


def forecast_figure(analysis: Analysis) -> Figure:
    """Measured over predicted losses: those fitted, and the check with its forecast's interval."""
    law = analysis.law
    assert law is not None
    figure, axes = pyplot.subplots(figsize=(5.4, 4.6))
    for size, color, points in _by_size(analysis.points):
        axes.plot(
            [law.fit.law.loss(point.n_parameters, point.n_tokens) for point in points],
            [point.loss for point in points],
            color=color, marker="o", markersize=5, linestyle="none", label=_count(size),
        )  # fmt: skip
    for number, checked in enumerate(analysis.checks):
        told = checked.forecast
        axes.errorbar(
            [told.value], [checked.run.loss],
            xerr=[[max(0.0, told.value - told.low)], [max(0.0, told.high - told.value)]],
            color=second, marker="*", markersize=13, capsize=4, linestyle="none",
            label="check" if number == 0 else None,
        )  # fmt: skip
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color=ink, linewidth=0.8, zorder=0)
    axes.set_xlim(low, high)
    axes.set_xlabel("predicted loss (nats per token)")
    axes.set_ylabel("measured loss (nats per token)")
    axes.legend(fontsize=9)
    return figure


def _by_size(points: Sequence[Point]) -> list[tuple[int, Any, list[Point]]]:
    sizes = sorted({point.n_parameters for point in points})
    return [
        (size, color, [point for point in points if point.n_parameters == size])
        for size, color in zip(sizes, _colors(len(sizes)), strict=True)
    ]


def _means_over_seeds(points: Sequence[Point]) -> list[tuple[float, float]]:
    alike: dict[float, list[float]] = {}
    for point in points:
        alike.setdefault(point.flops, []).append(point.loss)
    return [(flops, float(np.mean(losses))) for flops, losses in alike.items()]


def _colors(n: int) -> list[Any]:
    return [colormaps["viridis"](share) for share in np.linspace(0.05, 0.88, max(1, n))]


def _work_range(analysis: Analysis, *, wide: bool = False) -> Floats:
    known = [point.flops for point in analysis.points]
    known += [checked.run.flops for checked in analysis.checks]
    margin = 30.0 if wide else 1.0
    return np.geomspace(min(known) / margin, max(known) * beyond * margin, n_along)


def _frontier_band(analysis: Analysis, law: Uncertain, work: Floats) -> tuple[Floats, Floats]:
    some = law.laws()[:n_bands]
    losses = [[one.optimal_split(flops, analysis.work).loss for one in some] for flops in work]
    return _band(np.array(losses), law.level)


def _band(values: Floats, level: float) -> tuple[Floats, Floats]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return low, high


def _log_sizes(axes: Axes) -> None:
    axes.set_xscale("log")
    _log_counts(axes.xaxis)


def _log_counts(axis: Any) -> None:
    """Round numbers with a prefix, also where the axis spans less than a decade."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
    axis.set_minor_formatter(NullFormatter())


def _count(value: float) -> str:
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _flops(value: float) -> str:
    return f"{value:.2g}".replace("e+", "e")
