"""One page about many runs: a question, its answer, and all that the answer rests on.

It needs neither a network nor scripts; what can be switched is switched by the style sheet.
"""

import html
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib import pyplot
from matplotlib.figure import Figure

from modelwright.config.loading import to_toml
from modelwright.experiments.plots import drawn, style
from modelwright.experiments.report import html_page, human_count, human_seconds
from modelwright.experiments.statistics import Comparison
from modelwright.experiments.study_cost import cost_section
from modelwright.experiments.study_curves import (
    along_labels,
    gradient_norms_figure,
    learning_curves,
)
from modelwright.experiments.study_looks import compact, setting_label
from modelwright.experiments.study_page import (
    css,
    switch,
    switch_css,
    table,
)
from modelwright.experiments.study_plots import (
    basin_figure,
    batch_figure,
    edge_along,
    in_order,
    kind_colors,
    seeds_figure,
)
from modelwright.experiments.study_record import StudyRecord
from modelwright.experiments.study_results import (
    Results,
    VariantResult,
    compare,
    machines_of,
)
from modelwright.experiments.study_settings import differing_settings, numeric_axes
from modelwright.experiments.study_tables import curves_table, runs_table, verdicts_table
from modelwright.experiments.study_words import texts_section, variety_table
from modelwright.experiments.verdicts import (
    briefly,
    headline,
    interval_in_words,
    method_in_words,
    p_in_words,
    signed,
    spread_in_words,
)
from modelwright.planning.render import duration
from modelwright.runtime.files import write_atomically

page_name = "report.html"
figures_folder = "figures"
most_basins = 3
most_settings_across = 5  # in a column each, before they are listed
batch_setting = "training.batch_tokens"

Picture = Callable[[str, Figure], str]


def write_study_report(study: StudyRecord, folder: Path) -> Path:
    """Compare the runs of a study, and write the page about it into a folder.

    Returns:
        The page.

    Raises:
        ValueError: if no run has come to an end, or a run's record is damaged.
    """
    return write_results(compare(study), folder)


def write_results(results: Results, folder: Path) -> Path:
    """Write `report.html` into a folder, and beside it the tables and each picture by itself.

    Returns:
        The page.
    """
    pictures: dict[str, tuple[str, bytes]] = {}

    def picture(name: str, figure: Figure) -> str:
        pictures[name] = drawn(figure)
        return compact(pictures[name][0], name)

    with pyplot.rc_context(style):
        text = _page(results, picture)
    (folder / figures_folder).mkdir(parents=True, exist_ok=True)
    for name, (svg, png) in pictures.items():
        write_atomically(folder / figures_folder / f"{name}.svg", svg)
        write_atomically(folder / figures_folder / f"{name}.png", png)
    write_atomically(folder / "table.csv", verdicts_table(results))
    write_atomically(folder / "runs.csv", runs_table(results))
    write_atomically(folder / "curves.csv", curves_table(results))
    if varied := variety_table(results):
        write_atomically(folder / "variety.csv", varied)
    path = folder / page_name
    write_atomically(path, text)
    return path


def _page(results: Results, picture: Picture) -> str:
    curves, curves_css = _curves(results, picture)
    sections = [
        _head(results),
        _section("Verdicts", _verdicts(results) + _notes(results) + _figures(results)),
        _section("Every seed", _seeds(results, picture)),
        _section("Learning curves", curves),
        *_basins(results, picture),
        *_batches(results, picture),
        _gradient_norms(results, picture),
        texts_section(results, in_order(results), picture),
        cost_section(results, in_order(results)),
        _section("What differs", _configs(results)),
        _section("Runs", _runs(results)),
        _section("How this was judged", _method(results)),
    ]
    return html_page(results.study.name, sections, more_css=css + curves_css)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>" if content else ""


def _figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _head(results: Results) -> str:
    study = results.study
    n_seeds = len({run.seed for run in study.runs})
    seconds = sum(run.seconds for run in results.runs)
    facts = [
        f"{len(study.variants)} variants",
        f"{n_seeds} seed{'' if n_seeds == 1 else 's'}",
        f"{len(study.runs)} runs",
        f"{human_seconds(seconds)} of training",
        *machines_of(results),
    ]
    return (
        f"<header><h1>{html.escape(study.question or study.name)}</h1>"
        f"<p class='answer'>{html.escape(headline(results))}</p>"
        f"<p>{html.escape(' · '.join([study.name, *facts] if study.question else facts))}</p>"
        "</header>"
    )


def _verdicts(results: Results) -> str:
    rows = [_verdict_row(results, one) for one in in_order(results)]
    head = (
        "variant",
        "verdict",
        f"{results.measure_name}<br>{results.unit}",
        "difference<br>and its interval",
        "effect<br>size",
        "p,<br>corrected",
        "seeds",
        "diverged",
        "time<br>of a run",
    )
    return table(head, rows, n_words=2, is_full=True)


def _verdict_row(results: Results, one: VariantResult) -> list[str]:
    found = results.comparisons.get(one.name)
    name = html.escape(one.name)
    return [
        f"<b>{name}</b>" if found is None else name,
        _tag(found, results) if found else "the baseline",
        spread_in_words(one),
        _difference(found),
        signed(found.effect, 1) if found and found.effect is not None else "–",
        html.escape(p_in_words(found.p_holm if found else None)),
        f"{len(one.finals)} of {len(one.runs)}",
        f"{len(one.outcomes.diverged) or '–'}",
        duration(one.run_seconds) if one.run_seconds is not None else "–",
    ]


def _difference(found: Comparison | None) -> str:
    if found is None or found.mean is None:
        return "–"
    interval = interval_in_words(found.interval) if found.interval else "one seed"
    return f"{signed(found.mean, 4)}<br><small>{interval}</small>"


def _tag(found: Comparison, results: Results) -> str:
    sign = {"better": "▼", "worse": "▲", "diverges": "✕", "steadier": "▼"}.get(found.kind, "○")
    color = kind_colors[found.kind]
    return f"<b style='color:{color}'>{sign}</b> {html.escape(briefly(found, results))}"


def _notes(results: Results) -> str:
    """What makes the comparison less even than it looks."""
    notes = list(results.notes)
    absent = [
        f"seed {seed}: {why}"
        for one in results.comparisons.values()
        for seed, why in one.left_out.items()
        if "diverged" not in why
    ]
    if absent:
        notes.append(f"Not compared for want of a result: {'; '.join(dict.fromkeys(absent))}.")
    return "".join(f"<p class='caption'>{html.escape(note)}</p>" for note in notes)


def _figures(results: Results) -> str:
    """Everything that a verdict rests on, folded away."""
    head = (
        "variant",
        "pairs",
        "difference",
        "standard<br>deviation",
        "interval at the level<br>of its test",
        "interval for all<br>at once",
        f"bootstrap<br>at {1 - results.question.alpha:.0%}",
        "p",
        "p,<br>corrected",
        "seeds that<br>would do",
        "these show",
    )
    rows = [
        [
            html.escape(one.variant),
            str(one.n_pairs),
            signed(one.mean, 4) if one.mean is not None else "–",
            _number(one.deviation),
            f"{interval_in_words(one.interval)}"
            + (f"<br><small>{100 * one.level:.4g}%</small>" if one.level is not None else ""),
            interval_in_words(one.joint),
            interval_in_words(one.bootstrap),
            html.escape(p_in_words(one.p)),
            html.escape(p_in_words(one.p_holm)),
            "–" if one.deviation is None else f"{one.n_needed:,}" if one.n_needed else "> 1,000",
            _number(one.detectable),
        ]
        for one in results.comparisons.values()
    ]
    inner = table(head, rows, n_words=1)
    return f"<details><summary>what the verdicts rest on</summary>{inner}</details>"


def _seeds(results: Results, picture: Picture) -> str:
    caption = (
        "Left: a dot for each seed, a bar for their mean, and a thin line through the runs of one "
        "seed. Right: a stroke for each seed's difference to the baseline, their mean, and the "
        "interval of the table; the shaded band is what is not worth knowing of. Where an interval "
        "ends in an arrow, it goes on."
    )
    return _figure(picture("seeds", seeds_figure(results)), caption)


def _curves(results: Results, picture: Picture) -> tuple[str, str]:
    """The switch with all learning curves, and the style that works it."""
    drawings = learning_curves(results)
    if not any(one.begun for one in results.variants):
        return "", ""
    panels = {key: picture(f"curves-{'-'.join(key)}", figure()) for key, figure in drawings.items()}
    labels = {
        "smoothed": "smoothed",
        "difference": "less the baseline",
        "raw": "every run",
        "validation": "validation",
        "linear": "linear axes",
        "log": "log axes",
        "tokens": "per token",
        "seconds": "per second",
        "flops": "per FLOP",
        "step": "per step",
    }
    groups = [list(dict.fromkeys(key[n] for key in panels)) for n in range(3)]
    caption = (
        "Smoothed: the mean over the seeds that finished, of an exponential moving average over "
        "about a fiftieth of the steps, in the range from the least to the greatest seed. A run "
        "that diverged is thin, and a cross at the upper edge shows where it was given up. On "
        "linear axes the first steps are above the picture. Less the baseline: of each seed the "
        "difference at the same step, token, second or FLOP. The names are from the highest end to "
        "the lowest."
    )
    assert set(along_labels) <= set(labels)
    content = switch("curves", groups, labels, panels)
    return f"{content}<p class='caption'>{html.escape(caption)}</p>", switch_css("curves", groups)


def _basins(results: Results, picture: Picture) -> list[str]:
    sections: list[str] = []
    for axis in numeric_axes(results)[:most_basins]:
        name = axis.setting.replace(".", "-").replace("_", "-")
        caption = (
            "A dot for each seed, a line through the means of those that finished. A cross above "
            "the picture is a value with which runs diverged: all of them, or as many as it says."
        )
        if edge_along(results, axis) is not None:
            caption += " The upright band is between the two values that a bisection came to."
        drawn_one = _figure(picture(f"along-{name}", basin_figure(results, axis)), caption)
        sections.append(_section(f"Along the {setting_label(axis.setting)}", drawn_one))
    return sections


def _batches(results: Results, picture: Picture) -> list[str]:
    axes = [axis for axis in numeric_axes(results, fewest=2) if axis.setting == batch_setting]
    figure = batch_figure(results, axes[0]) if axes else None
    if figure is None:
        return []
    caption = (
        "How many steps, and how much time, a batch size takes to the same smoothed training loss: "
        "one that all variants reach, and one that half of them reach. Along the dotted line twice "
        "the batch takes half the steps, so as many tokens."
    )
    return [_section("Batch size", _figure(picture("batch-size", figure), caption))]


def _gradient_norms(results: Results, picture: Picture) -> str:
    figure = gradient_norms_figure(results)
    if figure is None:
        return ""
    caption = "Before clipping, smoothed like the losses."
    return _section("Gradient norms", _figure(picture("gradient-norms", figure), caption))


def _configs(results: Results) -> str:
    names, rows = differing_settings(results)
    base = rows[results.variants.index(results.baseline)]
    parts: list[str] = []
    if 0 < len(names) <= most_settings_across:
        cells = [
            [
                html.escape(one.name),
                *(_setting(value, than) for value, than in zip(row, base, strict=True)),
            ]
            for one, row in zip(results.variants, rows, strict=True)
        ]
        parts.append(table(("variant", *map(html.escape, names)), cells, n_words=1))
    elif names:
        cells = [
            [html.escape(one.name), _changes(names, row, base)]
            for one, row in zip(results.variants, rows, strict=True)
        ]
        parts.append(table(("variant", "settings, otherwise as the baseline"), cells, n_words=2))
    config = results.baseline.config
    if config is not None:
        parts.append(
            "<details><summary>the baseline's whole config</summary>"
            f"<pre>{html.escape(to_toml(config))}</pre></details>"
        )
    return "".join(parts)


def _setting(value: str, than: str) -> str:
    return html.escape(value) if value == than else f"<b>{html.escape(value)}</b>"


def _changes(names: Sequence[str], row: Sequence[str], base: Sequence[str]) -> str:
    """The settings that are otherwise, a line each."""
    told = [
        f"{html.escape(name)} = <b>{html.escape(value)}</b>"
        for name, value, than in zip(names, row, base, strict=True)
        if value != than
    ]
    return "<br>".join(told) or "the baseline"


def _runs(results: Results) -> str:
    rows = [
        [
            html.escape(run.run.variant),
            str(run.run.seed),
            html.escape(run.outcome),
            _number(run.final(results.measure)),
            f"{run.n_steps:,}",
            human_count(run.n_tokens),
            duration(run.seconds) if run.seconds else "–",
            html.escape(run.run.reason or ""),
        ]
        for run in results.runs
    ]
    head = ("variant", "seed", "outcome", results.measure_name, "steps", "tokens", "time", "reason")
    inner = table(head, rows, n_words=1, last_is_words=True)
    return f"<details><summary>all {len(rows)} runs</summary>{inner}</details>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _method(results: Results) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in method_in_words(results))
