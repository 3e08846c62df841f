"""One page about a folder of token shards: a single HTML file that needs no network."""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelwright.data.describing import described, described_cut
from modelwright.data.inspection import DataInspection, Side
from modelwright.experiments.data_plots import document_lengths_plot
from modelwright.experiments.report import figure_cells, html_page, human_count

if TYPE_CHECKING:
    from modelwright.data.packing import PackingReport


def data_page(
    inspection: DataInspection,
    cuts: "Mapping[str, Mapping[str, PackingReport]] | None" = None,
    context: int | None = None,
) -> str:
    """The page as HTML, pictures included.

    Args:
        cuts: what `inspection.compare_cuts` found for `context`.
    """
    name = inspection.path.resolve().name
    sections = [f"<header><h1>{html.escape(name)}</h1>{_summary(inspection)}</header>"]
    sections += [
        f"<section><h2>How long the {html.escape(side_name)} documents are</h2>"
        f"{document_lengths_plot(dataclasses.asdict(side.lengths.histogram))}</section>"
        for side_name, side in inspection.sides.items()
        if side.lengths is not None
    ]
    sections.append(f"<section><h2>In figures</h2>{_figures(inspection.sides)}</section>")
    sections += [_cuts(name, reports, context) for name, reports in (cuts or {}).items()]
    sections.append(_sources(inspection.facts))
    sections += [_excerpts(side_name, side) for side_name, side in inspection.sides.items()]
    sections.append(_settings(inspection.facts))
    return html_page(name, sections)


def _summary(inspection: DataInspection) -> str:
    sides = inspection.sides.values()
    n_tokens = sum(side.n_tokens for side in sides)
    n_bytes = [side.n_bytes for side in sides if side.n_bytes is not None]
    figures = [
        (human_count(n_tokens), "tokens"),
        (human_count(sum(side.n_documents for side in sides)), "documents"),
    ]
    if n_bytes:
        figures += [
            (f"{sum(n_bytes) / 1e6:,.1f} MB", "of text"),
            (f"{sum(n_bytes) / max(1, n_tokens):.2f}", "bytes per token"),
        ]
    if inspection.n_vocab is not None:
        figures.append((f"{inspection.n_vocab:,}", "tokens in the vocabulary"))
    on_disk = sum(side.bytes_on_disk for side in sides)
    figures.append((f"{on_disk / 1e6:,.1f} MB", "on disk"))
    place = f"{inspection.path.resolve()} · tokenizer {inspection.fingerprint[:16]} · not verified"
    return f"<p>{html.escape(place)}</p>{figure_cells(figures)}"


def _figures(sides: Mapping[str, Side]) -> str:
    columns = {name: described(side) for name, side in sides.items()}
    return "<p>Lengths are in tokens, the one that ends the text included.</p>" + _table(columns)


def _cuts(side: str, reports: "Mapping[str, PackingReport]", context: int | None) -> str:
    title = f"The {side} side in rows of {context:,} tokens"
    columns = {name: described_cut(report) for name, report in reports.items()}
    return f"<section><h2>{html.escape(title)}</h2>{_table(columns)}</section>"


def _table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """A column for each name, a row for each label, which all columns share."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    labels = next(iter(columns.values()))
    rows = "".join(
        f"<tr><td>{html.escape(label)}</td>"
        + "".join(f"<td>{html.escape(column[label])}</td>" for column in columns.values())
        + "</tr>"
        for label in labels
    )
    return f"<table class='plain'><tr><th></th>{head}</tr>{rows}</table>"


def _sources(facts: Mapping[str, Any]) -> str:
    """Where the training text comes from and what was left out, if that was written down."""
    sources: Sequence[Mapping[str, Any]] = facts.get("sources") or []
    dropped: Mapping[str, int] = facts.get("dropped") or {}
    if not sources and not dropped:
        return ""
    total = sum(source["n_tokens"] for source in sources) or 1
    rows = "".join(
        f"<tr><td>{html.escape(str(source['path']))}</td><td>{source['weight']:g}</td>"
        f"<td>{source['n_documents']:,}</td><td>{source['n_tokens']:,}</td>"
        f"<td>{source['n_tokens'] / total:.1%}</td></tr>"
        for source in sources
    )
    table = (
        "<table class='plain'><tr><th>source</th><th>weight</th><th>documents</th><th>tokens</th>"
        f"<th>share</th></tr>{rows}</table>"
        if sources
        else ""
    )
    left_out = ", ".join(f"{count:,} {html.escape(reason)}" for reason, count in dropped.items())
    told = f"<p>Left out: {left_out}.</p>" if dropped else ""
    return f"<section><h2>Sources</h2>{table}{told}</section>"


def _excerpts(name: str, side: Side) -> str:
    if not side.excerpts:
        return ""
    texts = "".join(
        f"<h3>Document {i}, {excerpt.n_tokens:,} tokens</h3><blockquote>{html.escape(excerpt.text)}"
        f"{'' if excerpt.is_whole else ' …'}</blockquote>"
        for i, excerpt in enumerate(side.excerpts, start=1)
    )
    return f"<section><h2>The first {html.escape(name)} documents</h2>{texts}</section>"


def _settings(facts: Mapping[str, Any]) -> str:
    settings: Mapping[str, Any] = facts.get("settings") or {}
    if not settings:
        return ""
    lines = html.escape("\n".join(f"{name} = {value!r}" for name, value in settings.items()))
    return f"<section><h2>Built with</h2><pre>{lines}</pre></section>"
