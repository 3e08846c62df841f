"""Learning curves of a study, over steps, tokens, time or work.

They are drawn smoothed, as each run had them, as measured on validation text, and as differences
to the baseline.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import matplotlib

matplotlib.use("svg")

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter, NullLocator

from modelwright.experiments.plots import faint, ink, known_at, smoothed, with_number
from modelwright.experiments.study_looks import (
    Look,
    looks_of,
    name_at_right,
    needs_ratios,
    number_both_sides,
    number_log,
    short_name,
)
from modelwright.experiments.study_results import (
    Results,
    RunResult,
    VariantResult,
    have_other_tokens,
)

Numbers = npt.NDArray[np.float64]
Along = Literal["step", "tokens", "seconds", "flops"]
Drawing = Literal["smoothed", "difference", "raw", "validation"]
Scale = Literal["linear", "log"]

along_labels: dict[Along, str] = {
    "step": "step",
    "tokens": "tokens seen",
    "seconds": "seconds of training",
    "flops": "FLOPs of training",
}
points_of_all_means = 1_700  # shared by the variants of a picture, so that a page stays small
points_of_all_runs = 8_000  # and by its runs
fewest_points, most_points = 60, 140
alike = 1.01  # times the least: as many tokens, but for whole steps
early_share = 0.08  # of the run: what is above the loss from there on is out of a linear picture


@dataclass(frozen=True)
class Curve:
    """One run's numbers, or a variant's mean with the range of its seeds."""

    x: Mapping[Along, Numbers]
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None


def run_curve(run: RunResult, name: str, *, smooth: bool = False) -> Curve:
    """A number of a run at each of its steps that has it."""
    found = with_number(run.records, name)
    y = [record[name] for record in found]
    steps = np.array([record["step"] for record in found], dtype=float)
    x: dict[Along, Numbers] = {
        "step": steps,
        "tokens": np.array(known_at(run.records, found, "n_tokens"), dtype=float),
        "seconds": np.array(known_at(run.records, found, "seconds"), dtype=float),
    }
    if run.step_flops is not None:
        x["flops"] = steps * run.step_flops
    return Curve(x, np.array(smoothed(y) if smooth else y, dtype=float))


def mean_curve(variant: VariantResult, name: str, *, smooth: bool = False) -> Curve | None:
    """The mean over a variant's seeds at each step, with the least and the most.

    It is of the runs that finished; where none did, of those that did not diverge either.
    """
    curves = [run_curve(run, name, smooth=smooth) for run in _runs_of_mean(variant)]
    curves = [curve for curve in curves if len(curve.y)]
    if not curves:
        return None
    steps = np.unique(np.concatenate([curve.x["step"] for curve in curves]))
    table = np.full((len(curves), len(steps)), np.nan)
    places = [np.searchsorted(steps, curve.x["step"]) for curve in curves]
    for row, place, curve in zip(table, places, curves, strict=True):
        row[place] = curve.y
    x: dict[Along, Numbers] = {"step": steps}
    for along in ("tokens", "seconds", "flops"):
        if all(along in curve.x for curve in curves):
            values = np.full(table.shape, np.nan)
            for row, place, curve in zip(values, places, curves, strict=True):
                row[place] = curve.x[along]
            x[along] = np.nanmean(values, axis=0)
    return Curve(x, np.nanmean(table, axis=0), np.nanmin(table, axis=0), np.nanmax(table, axis=0))


def _runs_of_mean(variant: VariantResult) -> list[RunResult]:
    return variant.finished or [run for run in variant.begun if not _is_lost(run)]


def thinned(n: int, most: int) -> npt.NDArray[np.int64]:
    """Which of n points to draw, at most about `most`: evenly, and evenly on a log axis too."""
    if n <= most:
        return np.arange(n)
    even = np.linspace(0, n - 1, most * 2 // 3)
    by_ratio = np.geomspace(1, n, most // 3) - 1
    return np.unique(np.round(np.concatenate([even, by_ratio])).astype(np.int64))


def _share(n_points: int, n_curves: int) -> int:
    """How many points each of some curves has."""
    return max(fewest_points, min(most_points, n_points // max(1, n_curves)))


def can_run_along(results: Results) -> list[Along]:
    """The axes for which every run has numbers, first the one along which variants go as far.

    That is the step, unless they learn from as many tokens in unlike numbers of steps.
    """
    begun = [run for one in results.variants for run in one.begun]
    has_flops = all(run.step_flops is not None for run in begun)
    has_time = all(run.seconds > 0 for run in begun)
    left_out = {"flops"} if not has_flops else set()
    left_out |= {"seconds"} if not has_time else set()
    found: list[Along] = [along for along in get_args(Along) if along not in left_out]
    configs = [one.config for one in results.variants if one.config is not None]
    if _is_alike([config.n_tokens for config in configs]) and not _is_alike(
        [config.training.n_steps for config in configs]
    ):
        found.sort(key=lambda along: along != "tokens")
    return found


def _is_alike(numbers: Sequence[int]) -> bool:
    return max(numbers, default=0) <= alike * min(numbers, default=0)


def drawings_of(results: Results) -> list[Drawing]:
    """What there is to draw."""
    runs = [run for one in results.variants for run in _runs_of_mean(one)]
    has_validation = any(len(with_number(run.records, "validation_loss")) > 1 for run in runs)
    left_out = set[Drawing]() if has_validation else {"validation"}
    is_common = any(difference_curve(one, results.baseline, "step") for one in results.others)
    # Losses per token of other tokens have no difference, and what is worth knowing is per byte.
    if not is_common or have_other_tokens(run for one in results.variants for run in one.finished):
        left_out.add("difference")
    return [drawing for drawing in get_args(Drawing) if drawing not in left_out]


def learning_curves(results: Results) -> dict[tuple[str, ...], Callable[[], Figure]]:
    """Every picture of the learning curves, by Along, Drawing and Scale, drawn when called."""
    looks = looks_of(results)
    begun = [one for one in results.variants if one.begun]
    means: dict[Drawing, dict[str, Curve]] = {
        "smoothed": _means(begun, "loss", smooth=True),
        "validation": _means(begun, "validation_loss", smooth=False),
    }
    means["raw"] = means["smoothed"]
    raw = {one.name: [run_curve(run, "loss") for run in one.begun] for one in begun}
    lost = {
        one.name: [run_curve(run, "loss", smooth=True) for run in one.begun if _is_lost(run)]
        for one in begun
    }

    def drawn(along: Along, drawing: Drawing, scale: Scale) -> Callable[[], Figure]:
        if drawing == "difference":
            return lambda: _differences_figure(results, looks, along=along, scale=scale)
        single = {"raw": raw, "smoothed": lost, "validation": {}}[drawing]
        return lambda: _curves_figure(
            results, looks, means[drawing], single, along=along, drawing=drawing, scale=scale
        )

    return {
        (along, drawing, scale): drawn(along, drawing, scale)
        for along in can_run_along(results)
        for drawing in drawings_of(results)
        for scale in get_args(Scale)
    }


def _means(variants: Sequence[VariantResult], name: str, *, smooth: bool) -> dict[str, Curve]:
    found = {one.name: mean_curve(one, name, smooth=smooth) for one in variants}
    return {name: curve for name, curve in found.items() if curve is not None}


def difference_curve(one: VariantResult, baseline: VariantResult, along: Along) -> Curve | None:
    """The mean over seeds of a variant's smoothed loss less the baseline's at the same place.

    The baseline's curve is drawn straight between its steps, and the difference ends where one of
    the two does. It has the least and the most of the seeds.
    """
    theirs = {run.run.seed: run_curve(run, "loss", smooth=True) for run in baseline.finished}
    ours = {run.run.seed: run_curve(run, "loss", smooth=True) for run in one.finished}
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    curves = [*ours.values(), *theirs.values()]
    first = max(float(curve.x[along][0]) for curve in curves)
    last = min(float(curve.x[along][-1]) for curve in curves)
    if not first < last:
        return None
    x = np.unique(np.concatenate([np.linspace(first, last, 300), np.geomspace(first, last, 60)]))
    table = np.array(
        [
            np.interp(x, ours[seed].x[along], ours[seed].y)
            - np.interp(x, theirs[seed].x[along], theirs[seed].y)
            for seed in seeds
        ]
    )
    return Curve({along: x}, table.mean(axis=0), table.min(axis=0), table.max(axis=0))


def _differences_figure(
    results: Results, looks: Mapping[str, Look], *, along: Along, scale: Scale
) -> Figure:
    found = {one.name: difference_curve(one, results.baseline, along) for one in results.others}
    curves = {name: curve for name, curve in found.items() if curve is not None}
    figure, axes = pyplot.subplots(figsize=(8.2, 4.3))
    if not curves:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no two runs of a seed are at the same place", ha="center", color=ink)
        return figure
    worthwhile = results.question.worthwhile
    axes.axhspan(-worthwhile, worthwhile, color=faint, alpha=0.18, linewidth=0)
    axes.axhline(0, color=ink, linewidth=1)
    for name, curve in curves.items():
        _line(axes, curve, looks[name], along, scale, _share(points_of_all_means, len(curves)))
    base = short_name(results.study.baseline)
    axes.set_ylabel(f"training loss less that of\n{base} (nats per token)")
    axes.set_xlabel(along_labels[along])
    # What is beyond the differences of the later part is out of the picture, as at the beginning.
    late = [abs(curve.y[len(curve.y) // 4 :]).max() for curve in curves.values()]
    reach = 1.15 * max([2 * worthwhile, *late])
    ends = [float(curve.y[-1]) for curve in curves.values()]
    if needs_ratios(ends, worthwhile):
        axes.set_yscale("symlog", linthresh=2 * worthwhile, linscale=0.8)
        axes.yaxis.set_minor_locator(NullLocator())
        number_both_sides(axes.yaxis, 2 * worthwhile, reach)
    axes.set_ylim(-reach, reach)
    if scale == "log":
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, 1.005 * axes.dataLim.x1)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    name_at_right(axes, [looks[name] for name in _from_the_top(list(curves), curves)])
    return figure


def _is_lost(run: RunResult) -> bool:
    return run.outcome == "diverged"


def _curves_figure(
    results: Results,
    looks: Mapping[str, Look],
    means: Mapping[str, Curve],
    single: Mapping[str, list[Curve]],
    *,
    along: Along,
    drawing: Drawing,
    scale: Scale,
) -> Figure:
    """The means, and the runs that are drawn by themselves."""
    figure, axes = pyplot.subplots(figsize=(8.2, 4.3))
    most = _share(points_of_all_runs, sum(map(len, single.values())))
    most_of_mean = _share(points_of_all_means, len(means))
    shown = [name for name in looks if name in means or single.get(name)]
    for name in sorted(shown, key=lambda name: name == results.study.baseline):  # it is on top
        look = looks[name]
        for curve in single.get(name, []):
            _line(axes, curve, look, along, scale, most, thin=True)
        if drawing != "raw" and name in means:
            dots = drawing == "validation"
            _line(axes, means[name], look, along, scale, most_of_mean, dots=dots)
    what = "validation loss" if drawing == "validation" else "training loss"
    axes.set_ylabel(f"{what} (nats per token)")
    axes.set_xlabel(along_labels[along])
    _limit(axes, list(means.values()) or [one for many in single.values() for one in many], scale)
    _mark_ends_of_lost(axes, results, looks, along, shown)
    name_at_right(axes, [looks[name] for name in _from_the_top(shown, means)])
    return figure


def _from_the_top(names: Sequence[str], means: Mapping[str, Curve]) -> list[str]:
    """By where the curves end, those that are lost first."""
    return sorted(names, key=lambda name: -means[name].y[-1] if name in means else -np.inf)


def _mark_ends_of_lost(
    axes: Axes, results: Results, looks: Mapping[str, Look], along: Along, names: Sequence[str]
) -> None:
    """A cross at the upper edge where a run was given up."""
    for one in (one for one in results.variants if one.name in names):
        ends = [run_curve(run, "loss").x[along][-1] for run in one.begun if _is_lost(run)]
        if ends:
            axes.plot(
                ends, [1.0] * len(ends), transform=axes.get_xaxis_transform(), marker="x",
                markersize=6, markeredgewidth=1.6, linestyle="none", color=looks[one.name].color,
                clip_on=False, zorder=5,
            )  # fmt: skip


def _line(
    axes: Axes,
    curve: Curve,
    look: Look,
    along: Along,
    scale: Scale,
    most: int,
    *,
    thin: bool = False,
    dots: bool = False,
) -> None:
    chosen = thinned(len(curve.y), most)
    x = curve.x[along][chosen]
    if scale == "log":  # which has no place for zero
        chosen, x = chosen[x > 0], x[x > 0]
    more: dict[str, Any] = {"alpha": 0.45, "linewidth": 0.7} if thin else {"linewidth": look.width}
    if dots:
        more |= {"marker": look.marker, "markersize": 3}
    axes.plot(x, curve.y[chosen], color=look.color, linestyle=look.dash, **more)
    if curve.low is not None and curve.high is not None:
        axes.fill_between(
            x, curve.low[chosen], curve.high[chosen], color=look.color, alpha=0.16, linewidth=0
        )


def _limit(axes: Axes, curves: Sequence[Curve], scale: Scale) -> None:
    """Show what matters: the whole on log axes; on linear ones, what is left after the beginning.

    A diverged run leaves the picture at its top.
    """
    first = max(float(curve.y[0]) for curve in curves)
    lowest = min(float(np.min(curve.low if curve.low is not None else curve.y)) for curve in curves)
    if scale == "log":
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(lowest / 1.03, first * 1.08)
        number_log(axes)
    else:
        early = [float(c.y[min(len(c.y) - 1, round(early_share * len(c.y)))]) for c in curves]
        top = min(first, max(early))
        height = (top - lowest) or 1  # of runs that were measured once, or never change
        axes.set_ylim(lowest - 0.04 * height, top + 0.06 * height)
        axes.set_xlim(0, 1.005 * axes.dataLim.x1 or 1)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def gradient_norms_figure(results: Results) -> Figure | None:
    """The norm of the gradient before clipping, smoothed, with the range of the seeds."""
    looks = looks_of(results)
    means = _means([one for one in results.variants if one.begun], "gradient_norm", smooth=True)
    means = {name: curve for name, curve in means.items() if np.all(curve.y > 0)}
    if not means:
        return None
    figure, axes = pyplot.subplots(figsize=(8.2, 3.6))
    for name, curve in means.items():
        _line(axes, curve, looks[name], "step", "linear", _share(points_of_all_means, len(means)))
    axes.set_yscale("log")
    axes.set_ylabel("gradient norm")
    axes.set_xlabel("step")
    axes.set_xlim(0, 1.005 * axes.dataLim.x1)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    number_log(axes)
    name_at_right(axes, [looks[name] for name in _from_the_top(list(means), means)])
    return figure
