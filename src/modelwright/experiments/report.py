"""One page about one run: a single HTML file that needs no network."""

import html
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelwright.experiments import plots
from modelwright.experiments.data_plots import document_lengths_plot
from modelwright.experiments.landscape_section import folder_name as landscape_folder
from modelwright.experiments.landscape_section import landscape_sections
from modelwright.experiments.task_plots import task_sections
from modelwright.experiments.verify_report import predicted_and_measured
from modelwright.runtime.files import write_atomically
from modelwright.training.metrics import (
    config_file,
    event_details,
    events,
    facts_file,
    read_metrics,
)

file_name = "report.html"
plan_file = "plan.json"


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into a run folder from what is recorded there.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if the run has not taken a step yet.
    """
    records = read_metrics(run_folder)
    if not plots.has_number(records, "loss"):
        raise ValueError(f"the run in {run_folder} has not taken a step yet, so there is no curve")
    facts = json.loads((run_folder / facts_file).read_text())
    config = (run_folder / config_file).read_text()
    planned = run_folder / plan_file
    plan = json.loads(planned.read_text()) if planned.exists() else None
    path = run_folder / file_name
    compared = predicted_and_measured(run_folder)
    text = page(
        run_folder.resolve().name,
        records,
        facts,
        config,
        plan,
        compared=compared,
        landscape="".join(landscape_sections(run_folder / landscape_folder)),
    )
    write_atomically(path, text)
    return path


def page(
    name: str,
    records: list[dict[str, Any]],
    facts: dict[str, Any],
    config: str,
    plan: dict[str, Any] | None = None,
    *,
    compared: str = "",
    landscape: str = "",
) -> str:
    """The report as HTML, pictures included.

    Args:
        plan: what was expected, as plain values; None if nobody planned the run.
        compared: the section that has the plan beside what was measured.
        landscape: the sections about the loss around the model.
    """
    sections = [
        f"<header><h1>{html.escape(name)}</h1>{_summary(records, facts)}</header>",
        f"<section><h2>Loss</h2>{plots.loss_plot(records)}</section>",
        task_sections(records),
        _samples(records),
        _events(records),
        f"<section><h2>Along the way</h2>{_small_plots(records)}</section>",
        landscape,
        compared,
        _planned_memory(plan),
        _text(facts),
        f"<section><h2>Parameters</h2>{_parameters(facts['parameters'])}"
        f"{_optimizer_groups(facts)}</section>",
        "<section><h2>Config</h2><p>Training with this file again repeats the run.</p>"
        f"<pre>{html.escape(config)}</pre></section>",
    ]
    return html_page(name, sections)


def html_page(title: str, sections: Sequence[str], *, more_css: str = "") -> str:
    """A whole page out of its sections, in the look of every report.

    Args:
        more_css: what this page has besides.
    """
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<link rel='icon' href='data:,'>"
        f"<title>{html.escape(title)} · modelwright</title><style>{css}{more_css}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def memory_picture(plan: Mapping[str, Any]) -> str:
    """The memory over a planned step, with a caption.

    Args:
        plan: as plain values.
    """
    memory, timeline, place = plan["memory"], plan["timeline"], plan["place"]
    room = memory["usable_bytes"] - memory["outside_bytes"]
    room_gib = f"{room / plots.bytes_per_gib:,.2f} GiB"
    followed, portions = timeline["n_followed"], place["n_portions"]
    of_whole = (
        f"The step has {portions} portions; {followed} are shown, and the others take no more. "
        if portions > followed
        else ""
    )
    caption = (
        f"What tensors hold on {place['title']}, which has {room_gib} for them. {of_whole}"
        "The parts of a step are as wide as their number of operations, not as their time."
    )
    return f"{plots.timeline_plot(timeline, room_bytes=room)}<p>{html.escape(caption)}</p>"


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


def human_rate(flops_per_second: float) -> str:
    """A speed in FLOP/s with the prefix that fits: "81.3 GFLOP/s", "989 TFLOP/s"."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if flops_per_second >= size:
            return f"{flops_per_second / size:.3g} {unit}FLOP/s"
    return f"{flops_per_second:.3g} FLOP/s"


def _summary(records: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    last = plots.with_number(records, "loss")[-1]
    machine = facts["machine"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['n_threads']} threads"
    figures = [
        *_validation_figures(records),
        (human_count(facts["parameters"]["total"]), "parameters"),
        (human_count(last["n_tokens"]), f"tokens seen, {facts['epochs']:.2f} epochs planned"),
        (human_seconds(last["seconds"]), f"of training, {last['step']:,} steps"),
        (human_count(last["n_tokens"] / last["seconds"]), "tokens per second"),
        *_hardware_figures(records, facts.get("peak")),
    ]
    place = (
        f"{where} · {facts['precision']} · torch {machine['torch']} · started {facts['started']}"
    )
    return f"<p>{html.escape(place)}</p>{figure_cells(figures)}"


def _validation_figures(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What the last measurement found; the perplexity follows from the loss."""
    measured = plots.with_number(records, "validation_loss")
    if not measured:
        return []
    last = measured[-1]
    perplexity = math.exp(min(last["validation_loss"], 700))  # beyond it, a float overflows
    figures = [
        (f"{last['validation_loss']:.3f}", "validation loss, nats per token"),
        (f"{perplexity:,.4g}", "validation perplexity"),
        (f"{last['validation_bits_per_byte']:.3f}", "validation bits per byte"),
    ]
    averaged = last.get("averaged_validation_loss")
    if averaged is not None:
        figures.append((f"{averaged:.3f}", "validation loss with averaged weights"))
    return figures


def _hardware_figures(
    records: list[dict[str, Any]], peak: dict[str, Any] | None
) -> list[tuple[str, str]]:
    """How well the hardware was used; nothing for a run that did not record it."""
    figures: list[tuple[str, str]] = []
    shares = [record["mfu"] for record in plots.with_number(records, "mfu")]
    if shares and peak:
        of_what = f"{human_rate(peak['flops_per_second'])} ({peak['source']})"
        figures.append((f"{statistics.median(shares):.1%}", f"MFU in the median, of {of_what}"))
    held = [record["memory_bytes"] for record in plots.with_number(records, "memory_bytes")]
    if held:
        figures.append((f"{max(held) / plots.bytes_per_gib:.2f} GiB", "of memory at most"))
    return figures


def _planned_memory(plan: dict[str, Any] | None) -> str:
    """The memory over a step as it was planned; nothing for a plan that does not have it."""
    if plan is None or "timeline" not in plan:
        return ""
    return f"<section><h2>Memory over a step, as planned</h2>{memory_picture(plan)}</section>"


def _small_plots(records: list[dict[str, Any]]) -> str:
    """A curve for each number that was recorded."""
    curves = {
        "learning_rate": plots.learning_rate_plot,
        "forecast_loss": plots.forecast_plot,
        "gradient_norm": plots.gradient_norm_plot,
        "tokens_per_second": plots.speed_plot,
        "mfu": plots.mfu_plot,
        "memory_bytes": plots.memory_plot,
    }
    drawn = [plot(records) for name, plot in curves.items() if plots.has_number(records, name)]
    return f"<div class='three'>{''.join(drawn)}</div>"


def _events(records: list[dict[str, Any]]) -> str:
    """What was out of the ordinary, in the order in which it happened."""
    found = events(records)
    if not found:
        return ""
    rows = "".join(
        f"<tr><td>{event['step']:,}</td><td>{html.escape(str(event['event']).replace('_', ' '))}"
        f"</td><td>{html.escape(event_details(event))}</td></tr>"
        for event in found
    )
    return (
        "<section><h2>Events</h2><table class='plain words'>"
        f"<tr><th>step</th><th>event</th><th>details</th></tr>{rows}</table></section>"
    )


def _optimizer_groups(facts: dict[str, Any]) -> str:
    """Which parameters are trained how; nothing for a run that did not record it."""
    groups: list[dict[str, Any]] = facts.get("optimizer_groups") or []
    if not groups:
        return ""
    names = list(dict.fromkeys(name for group in groups for name in group))
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in names)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(group.get(name))}</td>" for name in names) + "</tr>"
        for group in groups
    )
    return (
        "<h3>What the optimizer does with them</h3>"
        f"<table class='plain'><tr>{head}</tr>{rows}</table>"
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if is_count else html.escape(str(value))


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
    """The parts and their sum; padding is no parameter, so it stands beside the table."""
    total, padding = counts["total"], counts.get("padding", 0)
    rows = "".join(
        f"<tr><td>{html.escape(name.replace('_', ' '))}</td><td>{count:,}</td>"
        f"<td>{count / total:.1%}</td></tr>"
        for name, count in counts.items()
        if name != "padding"
    )
    table = f"<table><tr><th>part</th><th>parameters</th><th>share</th></tr>{rows}</table>"
    if not padding:
        return table
    return f"{table}<p>Besides, {padding:,} zeros fill up the token matrices.</p>"


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
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr));
  gap: 1rem; }
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
.words th, .words td { text-align: left; padding-left: 0; }
.words td:not(:last-child) { white-space: nowrap; }
pre { overflow-x: auto; font-size: .85rem; margin: .4rem 0 0; }
"""
