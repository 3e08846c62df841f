"""The scores on tasks over a run, beside guessing and GPT-2 small."""

import html
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes

from modelwright.evaluation.results import hidden_metrics, metric_units
from modelwright.evaluation.tasks import Metric, Published, tasks
from modelwright.experiments.plots import Records, accent, faint, ink, second, svg, tokens_at
from modelwright.training.metrics import is_taken

drawn_metrics: tuple[Metric, ...] = ("acc_norm", "acc", "perplexity")
metric_names: dict[str, str] = {
    "acc": "accuracy",
    "acc_norm": "accuracy, lengths evened out",
    "perplexity": "perplexity of the last word",
}


def task_sections(records: Records) -> str:
    """A section of the report for each task that a run was scored on."""
    scored = [record for record in records if is_taken(record) and record.get("tasks")]
    names = dict.fromkeys(name for record in scored for name in record["tasks"])
    seen = tokens_at(records, scored)
    return "".join(
        _section(
            name,
            [
                {"n_tokens": n_tokens, "step": record["step"], **record["tasks"][name]}
                for record, n_tokens in zip(scored, seen, strict=True)
                if name in record["tasks"]
            ],
        )
        for name in names
    )


def _section(name: str, points: Sequence[dict[str, Any]]) -> str:
    metric: Metric = next(metric for metric in drawn_metrics if metric in points[-1]["scores"])
    mark = " (PARTIAL)" if any(point["partial"] for point in points) else ""
    return (
        f"<section><h2>{html.escape(name)}{mark}</h2>{task_plot(name, metric, points)}"
        f"<p>{html.escape(caption(name, metric, points))}</p>{_table(points[-1])}</section>"
    )


def task_plot(name: str, metric: Metric, points: Sequence[dict[str, Any]]) -> str:
    """One metric over the tokens seen, with a band of one standard error on each side.

    Points that were found on other items are not joined.
    """
    known = [point for point in points if _value(point, metric) is not None]

    def draw(axes: Axes) -> None:
        for number, (_, group) in enumerate(groupby(known, _items_of)):
            _curve(axes, metric, list(group), label=f"this run, {metric}" if not number else None)
        published, chance = published_for(name, metric), points[-1]["chance_percent"]
        unit = metric_units[metric]
        if published is not None:
            label = f"GPT-2 small: {published.value:.2f} {unit}".rstrip()
            axes.axhline(published.value, color=ink, linewidth=1.2, linestyle="--", label=label)
        if chance is not None:
            label = f"guessing: {chance:.1f} {unit}"
            axes.axhline(chance, color=faint, linewidth=1.2, linestyle="--", label=label)
        axes.set_xlabel("tokens seen")
        axes.set_ylabel(f"{metric_names[metric]}{f' ({unit})' if unit else ''}")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        partial = next((point["partial"] for point in reversed(points) if point["partial"]), None)
        if partial:
            axes.set_title(partial, color=second, fontsize=10, loc="left")

    return svg(draw, wide=True)


def _curve(
    axes: Axes, metric: Metric, points: Sequence[dict[str, Any]], *, label: str | None
) -> None:
    """The points of one set of items, open where the set is not the whole task."""
    tokens = [point["n_tokens"] for point in points]
    values = [_value(point, metric) or 0.0 for point in points]
    errors = [point["scores"][metric]["stderr"] or 0.0 for point in points]
    low = [value - error for value, error in zip(values, errors, strict=True)]
    high = [value + error for value, error in zip(values, errors, strict=True)]
    is_partial = bool(points[0]["partial"])
    axes.fill_between(tokens, low, high, color=accent, alpha=0.2, linewidth=0)
    axes.plot(
        tokens,
        values,
        color=accent,
        marker="o",
        markersize=3.5,
        markerfacecolor="white" if is_partial else accent,
        linewidth=1.6,
        label=label,
    )


def published_for(name: str, metric: Metric) -> Published | None:
    """What GPT-2 small came to in a metric of a task, where there is a source for it."""
    task = tasks.get(name)
    published = () if task is None else task.published
    return next((one for one in published if one.metric == metric), None)


def caption(name: str, metric: Metric, points: Sequence[dict[str, Any]]) -> str:
    """What the picture shows, of how many items, and where the line of GPT-2 small is from."""
    parts = [
        f"{metric} over the tokens seen, with one standard error on each side; "
        f"{points[-1]['partial'] or format(points[-1]['n_items'], ',') + ' items'}."
    ]
    if len({_items_of(point) for point in points}) > 1:
        parts.append("Points that are not joined were found on other items.")
    if any(point["partial"] for point in points):
        parts.append("Open points are no scores of the task: do not compare them with others.")
    if n_truncated := points[-1]["n_truncated"]:
        parts.append(f"{n_truncated:,} of them lost the beginning of their context.")
    published = published_for(name, metric)
    if published is not None:
        parts.append(f"GPT-2 small: {published.source}.")
    return " ".join(parts)


def _table(last: dict[str, Any]) -> str:
    """The last scores, each metric of them."""
    rows = "".join(
        f"<tr><td>{html.escape(metric)}</td><td>{_told(score['value'])}</td>"
        f"<td>{_told(score['stderr'])}</td></tr>"
        for metric, score in last["scores"].items()
        if metric not in hidden_metrics
    )
    head = f"<tr><th>after {last['step']:,} steps</th><th>score</th><th>standard error</th></tr>"
    return f"<table class='plain'>{head}{rows}</table>"


def _told(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}" if abs(number) < 1e6 else f"{number:.3g}"


def _value(point: dict[str, Any], metric: str) -> float | None:
    return point["scores"].get(metric, {}).get("value")


def _items_of(point: dict[str, Any]) -> tuple[str, int]:
    """Which items a point was found on."""
    return point["sha256"], point["n_items"]
