"""Results of one or more models beside each other: as text for people, as facts for a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from modelwright.evaluation.comparing import Comparison, compare
from modelwright.evaluation.results import Score, TaskResult, hidden_metrics, metric_units
from modelwright.evaluation.running import TextResult
from modelwright.evaluation.tasks import Metric

format_name = "modelwright-evaluation-1"


@dataclass
class ModelResults:
    """All that is known of one model.

    Attributes:
        name: what it is called on the command line.
        facts: what it is: parameters, number format, device, fingerprints.
    """

    name: str
    facts: Mapping[str, Any]
    tasks: dict[str, TaskResult] = field(default_factory=dict)
    text: TextResult | None = None

    @property
    def is_partial(self) -> bool:
        """Whether any score is not that of a whole task or text."""
        is_text_partial = self.text is not None and bool(self.text.partial)
        return is_text_partial or any(result.partial for result in self.tasks.values())


def all_facts(models: Sequence[ModelResults], unfinished: Sequence[str] = ()) -> dict[str, Any]:
    """Everything, for a JSON file.

    Args:
        unfinished: tasks that were asked for and not begun.
    """
    is_partial = bool(unfinished) or any(model.is_partial for model in models)
    return {
        "format": format_name,
        "status": "partial" if is_partial else "full",
        "not_begun": list(unfinished),
        "models": [
            {
                "model": model.name,
                **model.facts,
                "status": "partial" if model.is_partial else "full",
                "text": None if model.text is None else model.text.facts(),
                "tasks": {name: result.facts() for name, result in model.tasks.items()},
            }
            for model in models
        ],
        "comparisons": [
            {"first": first, "second": second, "task": task, "metric": metric, **found.facts()}
            for first, second, task, metric, found in comparisons(models)
        ],
    }


def comparisons(
    models: Sequence[ModelResults],
) -> list[tuple[str, str, str, Metric, Comparison]]:
    """Each two models on each task and metric that both have."""
    found: list[tuple[str, str, str, Metric, Comparison]] = []
    for first, second in combinations(models, 2):
        for name, ours in first.tasks.items():
            theirs = second.tasks.get(name)
            if theirs is None or theirs.file.sha256 != ours.file.sha256:
                continue
            for metric in shown(ours):
                compared = compare(ours.values(metric), theirs.values(metric))
                if compared is not None:
                    found.append((first.name, second.name, name, metric, compared))
    return found


def shown(result: TaskResult) -> list[Metric]:
    """The metrics that the table has of a task."""
    return [metric for metric in result.task.metrics if metric not in hidden_metrics]


def as_text(models: Sequence[ModelResults]) -> str:
    """Tables for a terminal: the scores, what is to be said of them, and who beats whom."""
    parts = [score_table(models), *remarks(models), *comparison_lines(models)]
    return "\n".join(part for part in parts if part)


def score_table(models: Sequence[ModelResults]) -> str:
    """A line for each task and metric, a column for each model."""
    head = ["", "", *(model.name for model in models), "chance", "GPT-2 small", "items"]
    rows = text_rows(models)
    names = list(dict.fromkeys(name for model in models for name in model.tasks))
    for name in names:
        results = [model.tasks.get(name) for model in models]
        known = next(result for result in results if result is not None)
        for number, metric in enumerate(shown(known)):
            published = [one.value for one in known.task.published if one.metric == metric]
            rows.append(
                [
                    "" if number else name,
                    metric,
                    *(cell(result, metric) for result in results),
                    "" if known.chance is None else f"{known.chance:.1f} %",
                    f"{published[0]:.2f} {metric_units[metric]}".strip() if published else "",
                    "" if number else counted([one for one in results if one is not None]),
                ]
            )
    return aligned([head, *rows])


def text_rows(models: Sequence[ModelResults]) -> list[list[str]]:
    """Lines for the surprise at a text: bits per byte first, since they can be compared."""
    texts = [model.text for model in models]
    known = [text for text in texts if text is not None and text.score.n_tokens]
    if not known:
        return []
    scores = [None if text is None or text not in known else text.score for text in texts]
    bits = [
        "" if score is None else with_error(Score(score.bits_per_byte, score.stderr), 4)
        for score in scores
    ]
    perplexities = ["" if score is None else short(score.perplexity, 2) for score in scores]
    partial = next((text.partial for text in known if text.partial), "")
    amount = partial or f"{known[0].score.n_bytes:,} bytes"
    name = known[0].path.name
    return [
        [name, "bits per byte", *bits, "", "", amount],
        ["", "perplexity", *perplexities, "", "", "a token of its own"],
    ]


def cell(result: TaskResult | None, metric: Metric) -> str:
    """One score with its standard error, marked if it is not that of the whole task."""
    score = None if result is None else result.score(metric)
    if result is None or score is None:
        return "none"
    mark = " PARTIAL" if result.partial else ""
    return f"{with_error(score, 2)} {metric_units[metric]}".strip() + mark


def with_error(score: Score, digits: int) -> str:
    """A figure and its standard error."""
    error = "" if score.stderr is None else f" ± {short(score.stderr, digits)}"
    return f"{short(score.value, digits)}{error}"


def short(number: float, digits: int) -> str:
    """A figure in a few characters, however large."""
    return f"{number:.{digits}f}" if abs(number) < 1e6 else f"{number:.3g}"


def counted(results: Sequence[TaskResult]) -> str:
    """How many items, and of how many if that is not all."""
    return next((one.partial for one in results if one.partial), f"{results[0].n_items:,}")


def remarks(models: Sequence[ModelResults]) -> list[str]:
    """What a reader has to know to take the figures for what they are."""
    lines: list[str] = []
    for model in models:
        for name, result in model.tasks.items():
            if result.n_truncated:
                lines.append(
                    f"{name}: {result.n_truncated:,} of {result.n_items:,} items lost the "
                    f"beginning of their context, which is longer than {model.name} sees"
                )
    notes = {name: one.file.note for model in models for name, one in model.tasks.items()}
    lines += [f"{name}: {note}" for name, note in notes.items() if note]
    if any(model.is_partial for model in models):
        lines.append("PARTIAL scores are no scores of the task: do not compare them with others")
    return [f"note: {line}" for line in lines]


def comparison_lines(models: Sequence[ModelResults]) -> list[str]:
    """Who beats whom, by how much, and how sure that is."""
    partial = {(one.name, name) for one in models for name, r in one.tasks.items() if r.partial}
    rows = [
        [
            f"{first} - {second}",
            task,
            "nats a word" if metric == "perplexity" else metric,
            in_points(found, metric),
            f"p {found.p:.4f}",
            "PARTIAL" if {(first, task), (second, task)} & partial else "",
        ]
        for first, second, task, metric, found in comparisons(models)
    ]
    if not rows:
        return []
    said = "the first minus the second, with 95% interval; p: how often it is not ahead"
    return ["", f"paired bootstrap on the items ({said})", aligned(rows)]


def in_points(found: Comparison, metric: Metric) -> str:
    """A difference with its interval, accuracies in percentage points."""
    scale, unit, digits = (1, "", 3) if metric == "perplexity" else (100, " points", 2)
    numbers = [f"{scale * x:+.{digits}f}" for x in (found.difference, found.low, found.high)]
    return f"{numbers[0]}{unit} ({numbers[1]} to {numbers[2]})"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, as wide as need be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
