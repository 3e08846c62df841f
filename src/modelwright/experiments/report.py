"""One page about one run: a single HTML file that needs no network."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelwright.experiments import plots
from modelwright.experiments.data_plots import document_lengths_plot
from modelwright.runtime.files import write_atomically
from modelwright.training.metrics import config_file, facts_file, read_metrics

file_name = "report.html"


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into a run folder from what is recorded there.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if the run has not taken a step yet.
    """
    records = read_metrics(run_folder)
    if not any("loss" in record for record in records):
        raise ValueError(f"the run in {run_folder} has not taken a step yet, so there is no curve")
    facts = json.loads((run_folder / facts_file).read_text())
    config = (run_folder / config_file).read_text()
    path = run_folder / file_name
    write_atomically(path, page(run_folder.resolve().name, records, facts, config))
    return path


def page(name: str, records: list[dict[str, Any]], facts: dict[str, Any], config: str) -> str:
    """The report as HTML, pictures included."""
    sections = [
        f"<header><h1>{html.escape(name)}</h1>{_summary(records, facts)}</header>",
        f"<section><h2>Loss</h2>{plots.loss_plot(records)}</section>",
        _samples(records),
        f"<section><h2>Along the way</h2><div class='three'>{plots.learning_rate_plot(records)}"
        f"{plots.gradient_norm_plot(records)}{plots.speed_plot(records)}</div></section>",
        _text(facts),
        f"<section><h2>Parameters</h2>{_parameters(facts['parameters'])}</section>",
        "<section><h2>Config</h2><p>Training with this file again repeats the run.</p>"
        f"<pre>{html.escape(config)}</pre></section>",
    ]
    return html_page(name, sections)


def html_page(title: str, sections: Sequence[str]) -> str:
    """A whole page out of its sections, in the look of every report."""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<link rel='icon' href='data:,'>"
        f"<title>{html.escape(title)} · modelwright</title><style>{css}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def figure_cells(figures: Sequence[tuple[str, str]]) -> str:
    """Large figures, each with what it is below it."""
    cells = "".join(
        f"<div><b>{html.escape(value)}</b><span>{html.escape(label)}</span></div>"
        for value, label in figures
    )
    return f"<div class='figures'>{cells}</div>"


def human_seconds(seconds: float) -> str:
    """A duration as people say it: "48 s", "2 min 05 s", "3 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def human_count(count: float) -> str:
    """A count in three digits: "831", "12.3k", "4.10M"."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            value = count / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}"
    return f"{count:.0f}"


def _summary(records: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    last = [record for record in records if "loss" in record][-1]
    measured = [record for record in records if "validation_loss" in record]
    machine = facts["machine"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['n_threads']} threads"
    figures = [
        (f"{measured[-1]['validation_loss']:.3f}", "validation loss, nats per token"),
        (f"{measured[-1]['validation_bits_per_byte']:.3f}", "validation bits per byte"),
        (human_count(facts["parameters"]["total"]), "parameters"),
        (human_count(last["n_tokens"]), f"tokens seen, {facts['epochs']:.2f} epochs planned"),
        (human_seconds(last["seconds"]), f"of training, {last['step']:,} steps"),
        (human_count(last["n_tokens"] / last["seconds"]), "tokens per second"),
    ]
    place = (
        f"{where} · {facts['precision']} · torch {machine['torch']} · started {facts['started']}"
    )
    return f"<p>{html.escape(place)}</p>{figure_cells(figures)}"


def _samples(records: list[dict[str, Any]]) -> str:
    """The last samples in full, the earlier ones to be unfolded."""
    told = [record for record in records if record.get("samples")]
    if not told:
        return ""

    def texts(record: dict[str, Any]) -> str:
        return "".join(
            f"<blockquote>{html.escape(text)}</blockquote>" for text in record["samples"]
        )

    earlier = "".join(
        f"<details><summary>after {record['step']:,} steps</summary>{texts(record)}</details>"
        for record in told[:-1]
    )
    return (
        f"<section><h2>What it writes after {told[-1]['step']:,} steps</h2>{texts(told[-1])}"
        f"<h3>How it learned to</h3>{earlier}</section>"
    )


def _text(facts: dict[str, Any]) -> str:
    """How long the training documents are; nothing for a run that did not record it."""
    histogram = facts.get("document_lengths")
    if not histogram:
        return ""
    n_documents, n_tokens = sum(histogram["n_documents"]), sum(histogram["n_tokens"])
    return (
        f"<section><h2>Text</h2><p>{n_documents:,} documents to learn from, "
        f"{n_tokens / n_documents:,.0f} tokens long in the mean.</p>"
        f"{document_lengths_plot(histogram)}</section>"
    )


def _parameters(counts: dict[str, int]) -> str:
    total = counts["total"]
    rows = "".join(
        f"<tr><td>{html.escape(name.replace('_', ' '))}</td><td>{count:,}</td>"
        f"<td>{count / total:.1%}</td></tr>"
        for name, count in counts.items()
    )
    return f"<table><tr><th>part</th><th>parameters</th><th>share</th></tr>{rows}</table>"


css = """
:root { color-scheme: light; }
body { margin: 0; background: #f5f7fa; color: #1f2933;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
header, section { background: #fff; border: 1px solid #e4e7eb; border-radius: 10px;
  padding: 1.2rem 1.6rem; margin-bottom: 1.2rem; }
h1 { margin: 0; font-size: 1.7rem; } h2 { margin: 0 0 .6rem; font-size: 1.15rem; }
h3 { margin: 1rem 0 .3rem; font-size: 1rem; }
header p { margin: .2rem 0 1rem; color: #52606d; font-size: .9rem; }
.figures { display: grid; grid-template-columns: repeat(3, 1fr); gap: 1rem; }
.figures b { display: block; font-size: 1.4rem; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.figures span { color: #52606d; font-size: .82rem; }
.three { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .5rem; }
svg { width: 100%; height: auto; }
blockquote { margin: .5rem 0; padding: .7rem 1rem; background: #f5f7fa;
  border-left: 3px solid #2364aa; border-radius: 4px; white-space: pre-wrap; }
summary { cursor: pointer; padding: .15rem 0; color: #334e68; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .9rem; border-bottom: 1px solid #e4e7eb; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
tr:last-child td { font-weight: 600; border: 0; }
.plain tr:last-child td { font-weight: inherit; }
pre { overflow-x: auto; font-size: .85rem; margin: .4rem 0 0; }
"""
