"""What a ladder leaves behind: `scaling.json`, one page that needs no network, pictures, tables."""

import csv
import html
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from modelwright.accounting.iso_flops import Growth
from modelwright.accounting.law_intervals import Interval
from modelwright.experiments.report import figure_cells, html_page, human_count, human_seconds
from modelwright.experiments.scaling_analysis import Analysis, Checked, counts, to_json
from modelwright.experiments.scaling_plots import pictures
from modelwright.runtime.files import write_atomically

page_name = "scaling.html"
json_name = "scaling.json"
table_name = "runs.csv"
largest_named = 1e15  # count; what is beyond is told by its power of ten
captions = {
    "loss-over-work": "Each line is one size of model at its budgets. The dashed line is the loss "
    "of the best split of each budget by the fitted law, with its interval.",
    "valleys": "Models that cost the same to train, and a parabola in the logarithm of their size. "
    "The triangle is its lowest point; the bar below it, its interval.",
    "map": "The fitted law over size and tokens. Dotted lines join equal work; the white line is "
    "the best split of each amount of work.",
    "optima": "How the best split grows with work, by the law (with its interval) and by the "
    "parabolas.",
    "residuals": "What the law leaves unexplained; the band is one standard deviation.",
    "forecast": "Points on the line are predicted exactly. A check was not part of the fit; the "
    "bar is the interval that was forecast for it.",
}
headings = {
    "loss-over-work": "Loss over work",
    "valleys": "Equal work",
    "map": "The fitted law",
    "optima": "The best split",
    "residuals": "Residuals",
    "forecast": "Predicted and measured",
}


def write_scaling(
    folder: Path, name: str, analyses: Sequence[Analysis], *, notes: Iterable[str] = ()
) -> Path:
    """Write everything into a folder.

    Args:
        analyses: one for each way to count parameters; the first is the one that is drawn.
        notes: sentences about what is not in the fit, such as runs that diverged.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = to_json(analyses, name) | {"notes": list(notes)}
    write_atomically(folder / json_name, json.dumps(content, indent=2) + "\n")
    drawn = pictures(analyses[0])
    for picture, (svg, png) in drawn.items():
        write_atomically(folder / f"{picture}.svg", svg)
        write_atomically(folder / f"{picture}.png", png)
    write_atomically(folder / table_name, table(analyses[0]))
    path = folder / page_name
    svgs = {picture: svg for picture, (svg, _) in drawn.items()}
    write_atomically(path, page(name, analyses, svgs, list(notes)))
    return path


def page(
    name: str, analyses: Sequence[Analysis], svgs: dict[str, str], notes: Sequence[str]
) -> str:
    """The page as HTML, pictures included."""
    first = analyses[0]
    sections = [
        f"<header><h1>{html.escape(name)}</h1><p>{html.escape(_said(first))}</p>"
        f"{figure_cells(_figures(first))}</header>",
        _checks(first),
        *(_picture(picture, svg, first) for picture, svg in svgs.items()),
        _law_section(analyses),
        _optima_section(first),
        _notes(notes),
        _runs_section(first),
    ]
    return html_page(name, sections)


def findings(analysis: Analysis) -> list[tuple[str, str]]:
    """What was found, a line each, for a terminal."""
    lines: list[tuple[str, str]] = []
    if analysis.law is None:
        lines.append(("law", f"none: {analysis.law_trouble}"))
    else:
        law = analysis.law
        told = law.law_intervals()
        lines.append(
            (
                "law",
                f"L = {law.fit.law.E:.4g} + {law.fit.law.A:.4g}/N^{law.fit.law.alpha:.3g} + "
                f"{law.fit.law.B:.4g}/D^{law.fit.law.beta:.3g}, N: {counts[analysis.count]}",
            )
        )
        lines.append(
            (
                f"{law.level:.0%} of",
                ", ".join(
                    f"{name} {told[name].low:.3g} … {told[name].high:.3g}"
                    for name in ("E", "alpha", "beta")
                ),
            )
        )
    if analysis.valleys is None:
        lines.append(("parabolas", f"none: {analysis.valleys_trouble}"))
    elif (growth := analysis.valleys.growth) is not None:
        lines.append(
            ("parabolas", f"best N grows as C^{growth.size_exponent.value:.3g}{_range(growth)}")
        )
    for optimum in analysis.optima:
        lines.append(
            (
                f"{optimum.flops:.2g} FLOPs",
                f"best N {_counts(optimum.n_parameters)}, D {_counts(optimum.n_tokens)}, "
                f"loss {_loss(optimum.loss)}" + (f" ({optimum.reach})" if optimum.reach else ""),
            )
        )
    lines += [("check", checked_words(checked)) for checked in analysis.checks]
    return lines


def _range(growth: Growth) -> str:
    told = growth.size_exponent
    return f" ({told.low:.3g} … {told.high:.3g})" if told.high > told.low else ""


def checked_words(checked: Checked) -> str:
    """A forecast beside what came of it, in a sentence."""
    told = checked.forecast
    where = f", {checked.reach}" if checked.reach else ""
    return (
        f"{checked.run.name}: forecast {_loss(told)}{where}; measured {checked.run.loss:.4f}, "
        f"{checked.error:+.4f} nats ({checked.error / checked.run.loss:+.2%}), "
        f"{'inside' if checked.is_inside else 'outside'} the {told.level:.0%} interval"
    )


def table(analysis: Analysis) -> str:
    """The runs as comma-separated values, with what the law says of each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["run", "part", "n_parameters", "n_non_embedding", "n_tokens", "flops", "seed", "loss",
         "fitted"]
    )  # fmt: skip
    law = analysis.law
    for part, runs in (("fit", analysis.runs), ("check", [c.run for c in analysis.checks])):
        for run in runs:
            n = run.n_parameters[analysis.count]
            fitted = repr(law.fit.law.loss(n, run.n_tokens)) if law else ""
            writer.writerow(
                [run.name, part, run.n_parameters["all"], run.n_parameters["non_embedding"],
                 run.n_tokens, repr(run.flops), run.seed, repr(run.loss), fitted]
            )  # fmt: skip
    return out.getvalue()


def _said(analysis: Analysis) -> str:
    sizes = len({run.n_parameters["all"] for run in analysis.runs})
    seconds = sum(run.seconds for run in analysis.runs)
    flops = sum(run.flops for run in analysis.runs)
    return (
        f"{len(analysis.runs)} runs of {sizes} sizes · {flops:.2g} FLOPs, "
        f"{human_seconds(seconds)} of training · N counts {counts[analysis.count]}"
    )


def _figures(analysis: Analysis) -> list[tuple[str, str]]:
    cells: list[tuple[str, str]] = []
    if analysis.law is not None:
        told = analysis.law.law_intervals()
        for name, what in (
            ("alpha", "alpha, of size"),
            ("beta", "beta, of tokens"),
            ("E", "E, nats that no model gets below"),
        ):
            one = told[name]
            cells.append((f"{one.value:.3f}", f"{what}: {one.low:.3f} to {one.high:.3f}"))
        cells.append((f"{analysis.law.fit.spread:.2%}", "scatter of the loss around the law"))
    if analysis.seed_spread is not None:
        cells.append((f"{analysis.seed_spread:.2%}", "scatter between seeds"))
    for checked in analysis.checks:
        cells.append((f"{checked.error:+.4f}", "nats, measured less forecast"))
    if analysis.optima:
        last = analysis.optima[-1]
        cells.append(
            (
                f"{last.tokens_per_parameter:.1f}",
                f"tokens per parameter are best for {last.flops:.2g} FLOPs",
            )
        )
    return cells


def _picture(name: str, svg: str, analysis: Analysis) -> str:
    extra = ""
    if name == "valleys":
        extra = _valley_table(analysis)
    return (
        f"<section><h2>{headings[name]}</h2>{svg}"
        f"<p>{html.escape(captions[name])}</p>{extra}</section>"
    )


def _checks(analysis: Analysis) -> str:
    if not analysis.checks:
        return ""
    said = "".join(f"<p>{html.escape(checked_words(one))}.</p>" for one in analysis.checks)
    return f"<section><h2>The forecast, checked</h2>{said}</section>"


def _law_section(analyses: Sequence[Analysis]) -> str:
    """The law by each count of parameters, side by side."""
    names = ("E", "A", "B", "alpha", "beta")
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = ""
    for analysis in analyses:
        label = html.escape(counts[analysis.count])
        if analysis.law is None:
            said = html.escape(analysis.law_trouble)
            rows += f"<tr><td>{label}</td><td colspan='6'>{said}</td></tr>"
            continue
        told = analysis.law.law_intervals()
        cells = "".join(
            f"<td>{told[name].value:.4g}<br><small>{told[name].low:.3g} … {told[name].high:.3g}"
            "</small></td>"
            for name in names
        )
        rows += f"<tr><td>{label}</td>{cells}<td>{analysis.law.fit.spread:.2%}</td></tr>"
    return (
        "<section><h2>L(N, D) = E + A / N<sup>alpha</sup> + B / D<sup>beta</sup></h2>"
        f"<table class='plain'><tr><th>N is</th>{head}<th>scatter</th></tr>{rows}</table>"
        "<p>In nats per token of this text in these tokens; below each figure, its interval. "
        "E, A and B by themselves are less sure than the losses that follow from all five."
        f"</p>{_how(analyses[0])}</section>"
    )


def _how(analysis: Analysis) -> str:
    if analysis.law is None:
        return ""
    law, work = analysis.law, analysis.work
    drawn = (
        "losses drawn anew around the law" if law.resampling == "residuals" else "runs drawn anew"
    )
    left = f", of which {law.n_left_out} determined no law" if law.n_left_out else ""
    return (
        "<p>Fitted by the Huber loss on the logarithm of the loss (Hoffmann et al. 2022, approach "
        f"3); {law.level:.0%} intervals from {len(law.draws) + law.n_left_out} fits to {drawn}"
        f"{left}. A token costs {work.coefficient:.3g} N<sup>{work.exponent:.3f}</sup> FLOPs, "
        f"within {analysis.work_error:.1%} for the sizes trained.</p>"
    )


def _optima_section(analysis: Analysis) -> str:
    if not analysis.optima:
        return ""
    rows = "".join(
        f"<tr><td>{optimum.flops:.3g}</td><td>{_counts(optimum.n_parameters)}</td>"
        f"<td>{_counts(optimum.n_tokens)}</td><td>{optimum.tokens_per_parameter:.3g}</td>"
        f"<td>{_loss(optimum.loss)}</td><td>{html.escape(optimum.reach or 'inside')}</td></tr>"
        for optimum in analysis.optima
    )
    return (
        "<section><h2>The best split of a budget, by the law</h2><table class='plain'><tr>"
        "<th>FLOPs</th><th>parameters</th><th>tokens</th><th>tokens per parameter</th>"
        f"<th>loss</th><th>range fitted</th></tr>{rows}</table></section>"
    )


def _valley_table(analysis: Analysis) -> str:
    assert analysis.valleys is not None
    rows = ""
    for valley in analysis.valleys.valleys:
        best = _counts(valley.best) if valley.best else "none"
        loss = f"{valley.loss:.4f}" if valley.loss is not None else ""
        rows += (
            f"<tr><td>{valley.flops:.3g}</td><td>{best}</td><td>{loss}</td>"
            f"<td>{html.escape(valley.trouble)}</td></tr>"
        )
    growth = analysis.valleys.growth
    said = ""
    if growth is not None:
        size, tokens = growth.size_exponent, growth.tokens_exponent
        said = (
            f"<p>The best size grows as C<sup>{size.value:.3f}</sup> ({size.low:.3f} to "
            f"{size.high:.3f}), the best number of tokens as C<sup>{tokens.value:.3f}</sup>.</p>"
        )
    if not analysis.valleys.has_intervals:
        said += "<p>Three runs a budget fix a parabola exactly, so there are no intervals.</p>"
    return (
        "<table class='plain'><tr><th>FLOPs</th><th>best size</th><th>loss there</th><th></th>"
        f"</tr>{rows}</table>{said}"
    )


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f"<section><h2>Not in the fit</h2><ul>{items}</ul></section>"


def _runs_section(analysis: Analysis) -> str:
    law = analysis.law
    rows = ""
    for run in (*analysis.runs, *(checked.run for checked in analysis.checks)):
        n = run.n_parameters[analysis.count]
        fitted = f"{law.fit.law.loss(n, run.n_tokens):.4f}" if law else ""
        rows += (
            f"<tr><td>{html.escape(run.name)}</td><td>{human_count(run.n_parameters['all'])}</td>"
            f"<td>{human_count(run.n_parameters['non_embedding'])}</td>"
            f"<td>{human_count(run.n_tokens)}</td>"
            f"<td>{run.flops:.2g}</td><td>{run.epochs:.2f}</td><td>{run.loss:.4f}</td>"
            f"<td>{fitted}</td></tr>"
        )
    return (
        "<section><h2>Runs</h2><table class='plain'><tr><th>run</th><th>parameters</th>"
        "<th>no embedding</th><th>tokens</th><th>FLOPs</th><th>epochs</th><th>loss</th>"
        f"<th>by the law</th></tr>{rows}</table></section>"
    )


def _counts(told: Interval) -> str:
    return f"{_count(told.value)} ({_count(told.low)} … {_count(told.high)})"


def _count(count: float) -> str:
    return human_count(count) if count < largest_named else f"{count:.0e}"


def _loss(told: Interval) -> str:
    return f"{told.value:.4f} ({told.low:.4f} … {told.high:.4f})"
