"""What the models of a study write, side by side, and how varied it is at each temperature."""

import html
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib import pyplot
from matplotlib.figure import Figure

from modelwright.experiments.study_looks import looks_of, name_at_right
from modelwright.experiments.study_page import table
from modelwright.experiments.study_results import Results, RunResult, VariantResult
from modelwright.experiments.study_tables import written
from modelwright.generation.temperatures import AtTemperature

Picture = Callable[[str, Figure], str]
# What is drawn and told of `variety.Variety`, and what a reader calls it.
told_measures = {
    "distinct_1": "distinct words",
    "distinct_2": "distinct pairs",
    "distinct_3": "distinct triples",
    "self_bleu": "self-BLEU",
    "repetition": "repetition",
}
drawn_measures = ("distinct_2", "self_bleu", "repetition")


def texts_section(results: Results, rows: Sequence[VariantResult], picture: Picture) -> str:
    """The texts of each variant at each temperature, their measures, and the samples of runs."""
    parts = [_side_by_side(rows), _variety(results, rows, picture), _samples(rows)]
    content = "".join(parts)
    return f"<section><h2>What they write</h2>{content}</section>" if content else ""


def variety_table(results: Results) -> str | None:
    """A line for each run, temperature and measure; None where nothing was measured."""
    lines: list[list[Any]] = [
        [run.run.variant, run.run.seed, one.temperature, name, spread.mean, spread.standard_error]
        for run in results.runs
        for one in run.texts
        for name, spread in one.measures.items()
    ]
    names = ("variant", "seed", "temperature", "measure", "mean", "standard_error")
    return written(names, lines) if lines else None


def _side_by_side(rows: Sequence[VariantResult]) -> str:
    """A row for each variant and a column for each temperature, with the first text of each."""
    told = [(one, run) for one in rows if (run := _first(one)) is not None]
    temperatures = sorted({at.temperature for _, run in told for at in run.texts})
    if not temperatures:
        return ""
    cells: list[str] = []
    for one, run in told:
        texts = {at.temperature: (at.prompt, at.texts[0]) for at in run.texts}
        name = f"{html.escape(one.name)}<br><small>seed {run.run.seed}</small>"
        cells.append(
            f"<tr><th>{name}</th>"
            + "".join(f"<td><div>{_shown(texts.get(t))}</div></td>" for t in temperatures)
            + "</tr>"
        )
    head = "".join(f"<th>temperature {temperature:g}</th>" for temperature in temperatures)
    return (
        f"<div class='wide'><table class='texts'><tr><th></th>{head}</tr>{''.join(cells)}</table>"
        "</div><p class='caption'>The first text of each, begun with the same prompt and drawn "
        "with the same numbers of chance.</p>"
    )


def _first(one: VariantResult) -> RunResult | None:
    """The run of a variant whose texts are shown."""
    return next((run for run in one.runs if run.texts), None)


def _shown(told: tuple[str, str] | None) -> str:
    if told is None:
        return "–"
    prompt, text = map(html.escape, told)
    return f"<b>{prompt}</b>{text}" if prompt or text else "<small>nothing</small>"


def _variety(results: Results, rows: Sequence[VariantResult], picture: Picture) -> str:
    measured = [one for one in rows if any(at.measures for run in one.runs for at in run.texts)]
    if not measured:
        return ""
    lines = [
        [html.escape(one.name), f"{temperature:g}", str(len(runs))]
        + [_over_seeds([at.measures[name].mean for at in runs]) for name in told_measures]
        for one in measured
        for temperature, runs in _by_temperature(one).items()
    ]
    head = ["variant", "temperature", "seeds", *told_measures.values()]
    at = next(at for run in measured[0].runs for at in run.texts if at.measures)
    caption = (
        f"Of {len(at.texts)} texts of each run, in {at.n_groups} groups, in words and marks: the "
        "share that differs of all words, pairs and triples of a group (Li et al. 2016); how much "
        "each text is like the others of its group (self-BLEU, Zhu et al. 2018); and the share of "
        "a text's sequences of four words that it had before. Mean and standard deviation over "
        "seeds."
    )
    drawing = _variety_figure(results, measured)
    figure = f"<figure>{picture('variety', drawing)}</figure>" if drawing is not None else ""
    return f"{figure}{table(head, lines, n_words=1)}<p class='caption'>{caption}</p>"


def _by_temperature(one: VariantResult) -> dict[float, list[AtTemperature]]:
    """What was measured of a variant's runs."""
    found: dict[float, list[AtTemperature]] = {}
    for run in one.runs:
        for at in run.texts:
            if at.measures:
                found.setdefault(at.temperature, []).append(at)
    return dict(sorted(found.items()))


def _over_seeds(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def _variety_figure(results: Results, measured: Sequence[VariantResult]) -> Figure | None:
    """Some measures along the temperature, each seed a dot; None for a single temperature."""
    if all(len(_by_temperature(one)) < 2 for one in measured):
        return None
    looks = looks_of(results)
    figure, panels = pyplot.subplots(
        1, len(drawn_measures), figsize=(9.4, 2.9), layout="constrained"
    )
    for axes, name in zip(panels, drawn_measures, strict=True):
        for one in measured:
            look, found = looks[one.name], _by_temperature(one)
            values = {t: [at.measures[name].mean for at in runs] for t, runs in found.items()}
            axes.plot(
                list(values), [statistics.fmean(many) for many in values.values()],
                color=look.color, linestyle=look.dash, linewidth=look.width,
            )  # fmt: skip
            for temperature, many in values.items():
                axes.plot(
                    [temperature] * len(many), many,
                    color=look.color, marker=look.marker, markersize=4, linestyle="none",
                )  # fmt: skip
        axes.set_xlabel("temperature")
        axes.set_ylabel(told_measures[name])
        axes.set_ylim(bottom=0)
    if len(measured) > 1:
        name_at_right(panels[-1], [looks[one.name] for one in measured])
    return figure


def _samples(rows: Sequence[VariantResult]) -> str:
    """What the first run of each variant wrote last while it was trained."""
    columns: list[str] = []
    for one in rows:
        run = next((run for run in one.runs if run.samples[1]), None)
        if run is None:
            continue
        step, told = run.samples
        texts = "".join(f"<blockquote>{html.escape(text)}</blockquote>" for text in told)
        sampling = run.config.samples.sampling if run.config is not None else None
        about = f"seed {run.run.seed}, after {step:,} steps"
        if sampling is not None:
            about += f", temperature {sampling.temperature:g}"
        columns.append(
            f"<div><h3>{html.escape(one.name)}</h3><p class='caption'>{html.escape(about)}</p>"
            f"{texts}</div>"
        )
    return f"<div class='columns'>{''.join(columns)}</div>" if columns else ""
