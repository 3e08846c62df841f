"""What each variant of a study took, and what had been predicted of it."""

import html
import statistics
from collections.abc import Sequence

from modelwright.experiments.report import human_count, human_seconds
from modelwright.experiments.study_page import table
from modelwright.experiments.study_results import Results, RunResult, VariantResult
from modelwright.planning.render import duration
from modelwright.planning.verify import Comparison, cells, comparisons_in

unknown = "–"


def cost_section(results: Results, rows: Sequence[VariantResult]) -> str:
    """Work and time of a run of each variant, and where there is a plan, that beside them."""
    begun = [one for one in rows if one.begun]
    if not begun:
        return ""
    is_planned = any(run.plan is not None for one in begun for run in one.begun)
    head = ["variant", "parameters", "steps", "tokens", "FLOPs", "time", "tokens a second"]
    lines = [[html.escape(one.name), *_work(one)] for one in begun]
    if is_planned:
        head += ["time, predicted", "error"]
        for line, one in zip(lines, begun, strict=True):
            line += map(html.escape, _predicted_time(one))
    memories = [_predicted_memory(one) for one in begun]
    if any(memories):
        head += ["peak memory, predicted", "measured", "error"]
        for line, memory in zip(lines, memories, strict=True):
            line += map(html.escape, memory or [unknown] * 3)
    total = sum(run.seconds for run in results.runs)
    told = (
        "Of a run, in the mean over those that finished; time is that of the steps alone. All "
        f"runs together took {human_seconds(total)}."
    )
    return (
        f"<section><h2>Cost{', predicted and measured' if is_planned else ''}</h2>"
        f"{table(head, lines, n_words=1)}<p class='caption'>{html.escape(told)}</p></section>"
    )


def _work(one: VariantResult) -> list[str]:
    runs = one.finished or one.begun
    seconds = statistics.fmean(run.seconds for run in runs)
    tokens = statistics.fmean(run.n_tokens for run in runs)
    parameters = runs[0].facts.get("parameters", {}).get("total")
    flops = [run.step_flops * run.n_steps for run in runs if run.step_flops is not None]
    return [
        human_count(parameters) if parameters is not None else unknown,
        f"{statistics.fmean(run.n_steps for run in runs):,.0f}",
        human_count(tokens),
        f"{statistics.fmean(flops):.2e}" if flops else unknown,
        duration(seconds) if seconds else unknown,
        human_count(tokens / seconds) if seconds else unknown,
    ]


def _predicted_time(one: VariantResult) -> list[str]:
    """What the plan said of as many steps as were taken, and by how much it was off."""
    planned = [run for run in one.finished or one.begun if run.plan is not None]
    if not planned:
        return [unknown] * 2
    found = [_time(run) for run in planned]
    middle = Comparison(
        name="time",
        unit="seconds",
        low=statistics.fmean(low for low, _, _ in found),
        high=statistics.fmean(high for _, high, _ in found),
        measured=statistics.fmean(measured for _, _, measured in found),
    )
    _, predicted, _, error = cells(middle)
    return [predicted, error]


def _time(run: RunResult) -> tuple[float, float, float]:
    assert run.plan is not None
    step = run.plan["time"]["step_seconds"]
    return step["low"] * run.n_steps, step["high"] * run.n_steps, run.seconds


def _predicted_memory(one: VariantResult) -> list[str]:
    """The peak as a run's `verify.json` has it, if it could be measured at all."""
    for run in one.begun:
        for comparison in comparisons_in(run.verified) if run.verified is not None else ():
            if comparison.name == "peak memory" and comparison.measured is not None:
                return list(cells(comparison)[1:])
    return []
