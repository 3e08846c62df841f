"""The scores of models beside each other: a picture of all tasks, and a page around it."""

import html
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modelwright.evaluation.render import ModelResults, as_text, shown
from modelwright.evaluation.results import Score, TaskResult, metric_units
from modelwright.evaluation.tasks import Metric
from modelwright.experiments.plots import accent, faint, ink, no_metadata, second, style
from modelwright.experiments.report import html_page
from modelwright.experiments.task_plots import published_for
from modelwright.runtime.files import write_atomically

Row = tuple[str, Metric]
model_colors = (accent, second, "#66a182", "#edae49", "#8d6a9f", "#52606d")
model_markers = ("o", "s", "D", "^", "v", "P")
mark_labels = ("guessing", "GPT-2 small, published")
spread = 0.5  # of a row, over which the models are spread


def rows_of(models: Sequence[ModelResults]) -> list[Row]:
    """The tasks and metrics that are shares of items, in the order of the table."""
    names = dict.fromkeys(name for model in models for name in model.tasks)
    return [
        (name, metric)
        for name in names
        for metric in shown(next(m.tasks[name] for m in models if name in m.tasks))
        if metric_units[metric] == "%" and any(_score(model, name, metric) for model in models)
    ]


def scores_figure(models: Sequence[ModelResults]) -> Figure:
    """A row for each task and metric: each model with its standard error, guessing, GPT-2 small."""
    rows = rows_of(models)
    figure, axes = pyplot.subplots(figsize=(8.6, 1.3 + 0.34 * len(rows) + 0.12 * len(models)))
    for number, model in enumerate(models):
        _model(axes, model, rows, number, len(models))
    _marks(axes, models, rows)
    axes.set_yticks(range(len(rows)), [_label(models, row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    for edge in range(1, len(rows)):
        axes.axhline(edge - 0.5, color="#e4e7eb", linewidth=0.8, zorder=0)
    axes.set_xlabel("right answers (%), with one standard error on each side")
    by_label = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    ordered = sorted(by_label, key=lambda label: label in mark_labels)  # the models first
    axes.legend(
        [by_label[label] for label in ordered], ordered, loc="upper left", bbox_to_anchor=(1, 1)
    )
    return figure


def _model(axes: Axes, model: ModelResults, rows: Sequence[Row], number: int, of: int) -> None:
    """One model's scores, open where they are not those of the whole task."""
    color, marker = (series[number % 6] for series in (model_colors, model_markers))
    shift = spread * ((number + 0.5) / of - 0.5)
    label: str | None = model.name
    for place, (name, metric) in enumerate(rows):
        score = _score(model, name, metric)
        if score is None:
            continue
        is_partial = bool(model.tasks[name].partial)
        axes.errorbar(
            *(score.value, place + shift), xerr=score.stderr or 0.0, color=color, marker=marker,
            markersize=6, markerfacecolor="white" if is_partial else color, linewidth=1.6,
            linestyle="none", label=label, zorder=3,
        )  # fmt: skip
        label = None


def _marks(axes: Axes, models: Sequence[ModelResults], rows: Sequence[Row]) -> None:
    """Short upright lines across a row: guessing, and what GPT-2 small came to."""
    told: set[str] = set()
    for place, (name, metric) in enumerate(rows):
        chance = next(model.tasks[name] for model in models if name in model.tasks).chance
        published = published_for(name, metric)
        marks = (
            (mark_labels[0], chance, faint, ":"),
            (mark_labels[1], published and published.value, ink, "--"),
        )
        for label, value, color, line in marks:
            if value is not None:
                axes.plot(
                    *([value, value], [place - 0.42, place + 0.42]), color=color, linestyle=line,
                    linewidth=1.5, label=None if label in told else label, zorder=2,
                )  # fmt: skip
                told.add(label)


def _label(models: Sequence[ModelResults], row: Row) -> str:
    name, metric = row
    is_partial = any(name in model.tasks and model.tasks[name].partial for model in models)
    return f"{name}, {metric}{' (PARTIAL)' if is_partial else ''}"


def _score(model: ModelResults, name: str, metric: Metric) -> Score | None:
    result: TaskResult | None = model.tasks.get(name)
    return None if result is None else result.score(metric)


def write_scores(models: Sequence[ModelResults], out: Path) -> Path:
    """Write the picture as SVG and PNG, and a page with the tables, beside a file of results.

    Returns:
        The page.
    """
    with pyplot.rc_context(style):
        figure = scores_figure(models)
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(
            svg, format="svg", metadata=no_metadata, transparent=True, bbox_inches="tight"
        )
        figure.savefig(
            png, format="png", metadata={"Software": None}, dpi=200, facecolor="white",
            bbox_inches="tight",
        )  # fmt: skip
        pyplot.close(figure)
    text = svg.getvalue()
    drawn = text[text.index("<svg") :]
    write_atomically(out.with_suffix(".svg"), drawn)
    write_atomically(out.with_suffix(".png"), png.getvalue())
    page = out.with_suffix(".html")
    write_atomically(page, html_page(out.stem, _sections(models, drawn)))
    return page


def _sections(models: Sequence[ModelResults], svg: str) -> list[str]:
    names = html.escape(" · ".join(model.name for model in models))
    return [
        f"<header><h1>Scores</h1><p>{names}</p></header>",
        f"<section><h2>Right answers</h2>{svg}<p>{html.escape(caption(models))}</p></section>",
        f"<section><h2>Tables</h2><pre>{html.escape(as_text(models))}</pre></section>",
    ]


def caption(models: Sequence[ModelResults]) -> str:
    """What the marks mean, and where the figures of GPT-2 small are from."""
    sources = dict.fromkeys(
        one.source for name, metric in rows_of(models) if (one := published_for(name, metric))
    )
    parts = ["acc is the likeliest answer, acc_norm the likeliest for its length."]
    if any(model.is_partial for model in models):
        parts.append("Open marks are PARTIAL: they are no scores of the task.")
    if sources:
        parts.append(f"GPT-2 small: {'; '.join(sources)}.")
    return " ".join(parts)
