"""One page about what a run will take, before it begins: a single HTML file without a network."""

import html
from collections.abc import Sequence

from modelwright.experiments.report import figure_cells, html_page, human_count, memory_picture
from modelwright.planning.plan import Plan
from modelwright.planning.render import (
    by_subject,
    dollars,
    duration,
    headline,
    in_gib,
    purposes,
    render,
    subjects,
)
from modelwright.planning.render_inference import render_inference
from modelwright.planning.rules import Rule


def plan_page(name: str, plans: Sequence[Plan]) -> str:
    """The page as HTML, pictures included.

    Args:
        plans: of one run, on one device each.
    """
    n_parameters = plans[0].n_parameters
    about = f"{human_count(n_parameters)} parameters, {plans[0].n_steps:,} steps; nothing was run"
    sections = [f"<header><h1>{html.escape(name)}</h1><p>{html.escape(about)}</p></header>"]
    for plan in plans:
        sections += _sections(plan)
    return html_page(name, sections)


def _sections(plan: Plan) -> list[str]:
    sections = [
        f"<section><h2>{html.escape(headline(plan))}</h2>{_figures(plan)}</section>",
        f"<section><h2>Memory over a step</h2>{memory_picture(plan.to_json())}</section>",
        f"<section><h2>The fullest moment</h2>{_kinds(plan)}<h3>The largest tensors there</h3>"
        f"{_largest(plan)}</section>",
        f"<section><h2>What textbook rules say instead</h2>{_rules(plan.rules)}</section>",
    ]
    if plan.inference.speed is not None:
        told = render_inference(plan.inference, plan.place.title)
        sections.append(
            f"<section><h2>Using the model</h2><pre>{html.escape(told)}</pre></section>"
        )
    sections.append(
        f"<section><h2>The whole plan</h2><pre>{html.escape(render(plan))}</pre></section>"
    )
    return sections


def _figures(plan: Plan) -> str:
    memory, time = plan.memory, plan.time
    figures = [(in_gib(memory.peak_bytes), "in tensors at most")]
    if memory.reserved_bytes is not None:
        figures += [
            (in_gib(memory.needed_bytes), "with the CUDA context and cuBLAS"),
            (in_gib(memory.held_bytes), "with what PyTorch's allocator loses"),
        ]
    figures += [
        (in_gib(memory.usable_bytes), "of memory there"),
        (duration(time.run_seconds.low), f"to {duration(time.run_seconds.high)} for all steps"),
    ]
    if time.price_usd is not None:
        price = f"to {dollars(time.price_usd.high)} at the device's list price"
        figures.append((dollars(time.price_usd.low), price))
    return figure_cells(figures)


def _kinds(plan: Plan) -> str:
    memory = plan.memory
    where = f" of {memory.module}" if memory.module else ""
    rows = [
        (in_gib(n_bytes), kind, purposes.get(kind, "")) for kind, n_bytes in memory.kinds.items()
    ]
    rows.append((in_gib(memory.peak_bytes), "in all", f"{memory.phase}: {memory.operation}{where}"))
    return _table(("held", "kind", "for"), rows)


def _largest(plan: Plan) -> str:
    rows = [
        (
            in_gib(tensor.n_bytes),
            tensor.kind,
            f"{' x '.join(map(str, tensor.shape))} {tensor.dtype}",
            " ".join(filter(None, [tensor.operation, tensor.module])),
        )
        for tensor in plan.memory.largest
    ]
    return _table(("held", "kind", "shape", "made by"), rows)


def _rules(rules: Sequence[Rule]) -> str:
    """A table for each subject, under what it comes to in truth."""
    tables: list[str] = []
    for about, found in by_subject(rules).items():
        traced = found[0].traced_bytes
        truth = "not known for this model" if traced is None else in_gib(traced)
        rows = [
            (
                in_gib(rule.n_bytes),
                "" if rule.relative_error is None else f"{rule.relative_error:+.0%}",
                rule.name,
                rule.source,
            )
            for rule in found
        ]
        title = f"{subjects[about].capitalize()}: {truth}"
        table = _table(("says", "off by", "rule", "source"), rows)
        tables.append(f"<h3>{html.escape(title)}</h3>{table}")
    return "".join(tables)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table class='plain words'><tr>{head}</tr>{body}</table>"
