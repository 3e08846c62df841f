"""Scores with what they are worth: their uncertainty, how many items, of which file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelwright.evaluation.items import Item, Outcome
from modelwright.evaluation.tasks import Metric, Task, TaskFile

metric_units: dict[Metric, str] = {
    "acc": "%",
    "acc_norm": "%",
    "acc_bytes": "%",
    "perplexity": "",
}
hidden_metrics: frozenset[Metric] = frozenset(("acc_bytes",))  # in the file, not in tables
most_nats = 700.0  # of which a float still holds the power


@dataclass(frozen=True)
class Score:
    """A figure and its standard error, None for a single item; accuracies are in percent."""

    value: float
    stderr: float | None


@dataclass(frozen=True)
class TaskResult:
    """How a model did on a task.

    Attributes:
        outcomes: by the place of the item in the file; incomplete if the work was broken off.
    """

    task: Task
    file: TaskFile
    outcomes: Mapping[int, Outcome]

    @property
    def n_items(self) -> int:
        """How many items the scores are the mean of."""
        return len(self.outcomes)

    @property
    def partial(self) -> str:
        """Why these are no scores of the whole task; empty if they are."""
        found, whole = self.n_items, self.task.n_items
        if found == whole:
            return ""
        if found > whole:
            return f"OTHER SET: {found:,} items, where the task has {whole:,}"
        return f"PARTIAL: {found:,} of {whole:,} items"

    @property
    def n_truncated(self) -> int:
        """How many items lost the beginning of a context."""
        return sum(outcome.truncated for outcome in self.outcomes.values())

    @property
    def chance(self) -> float | None:
        """The accuracy of guessing among the answers, in percent; None where nothing is offered."""
        counts = [len(self.file.items[place].pairs) for place in self.outcomes]
        if not counts or max(counts) == 1:
            return None
        return 100 * sum(1 / count for count in counts) / len(counts)

    def values(self, metric: Metric) -> dict[int, float]:
        """What each item adds to a metric's mean, by its place."""
        return {
            place: value_of(metric, self.file.items[place], outcome)
            for place, outcome in sorted(self.outcomes.items())
        }

    def score(self, metric: Metric) -> Score | None:
        """A metric of all items; None if there are none yet."""
        return score_of(metric, list(self.values(metric).values())) if self.outcomes else None

    def facts(self) -> dict[str, Any]:
        """All of it for a JSON file, down to each item."""
        return {
            "task": self.task.name,
            "status": "partial" if self.partial else "full",
            "partial": self.partial or None,
            "scores": {
                metric: {
                    "value": finite(score.value),
                    "stderr": finite(score.stderr),
                    "unit": metric_units[metric],
                }
                for metric in self.task.metrics
                if (score := self.score(metric)) is not None
            },
            "chance_percent": self.chance,
            "n_items": self.n_items,
            "n_items_of_whole_task": self.task.n_items,
            "n_truncated": self.n_truncated,
            "file": str(self.file.path),
            "sha256": self.file.sha256,
            "note": self.file.note or None,
            "origin": self.task.origin,
            "published_gpt2_small": [
                {"metric": one.metric, "value": one.value, "source": one.source}
                for one in self.task.published
            ],
            "items": [
                item_facts(place, self.file.items[place], outcome)
                for place, outcome in sorted(self.outcomes.items())
            ],
        }


def item_facts(place: int, item: Item, outcome: Outcome) -> dict[str, Any]:
    """What a model made of one item, for a JSON file."""
    facts: dict[str, Any] = {
        "item": place,
        "logprobs": list(outcome.logprobs),
        "n_tokens": list(outcome.n_tokens),
    }
    if len(item.pairs) == 1:
        facts["is_greedy"] = outcome.greedy[0]
    else:
        facts["gold"] = item.gold
        facts["predicted"] = prediction("acc", item, outcome)
        facts["predicted_by_length"] = prediction("acc_norm", item, outcome)
    if outcome.truncated:
        facts["truncated"] = True
    return facts


def prediction(metric: Metric, item: Item, outcome: Outcome) -> int:
    """The likeliest answer, the first of equals.

    Args:
        metric: acc_norm compares log-probabilities a character, acc_bytes a byte, of the answer
            without the space in front of it.
    """
    lengths = {
        "acc_norm": lambda: [len(choice) for choice in item.choices],
        "acc_bytes": lambda: [len(choice.encode()) for choice in item.choices],
    }.get(metric, lambda: [1] * len(item.choices))()
    found = [logprob / length for logprob, length in zip(outcome.logprobs, lengths, strict=True)]
    return found.index(max(found))


def value_of(metric: Metric, item: Item, outcome: Outcome) -> float:
    """What an item adds to a metric's mean: 1 or 0, or for the perplexity its log-probability."""
    if metric == "perplexity":
        return outcome.logprobs[0]
    if len(item.pairs) == 1:
        return float(outcome.greedy[0])
    return float(prediction(metric, item, outcome) == item.gold)


def score_of(metric: Metric, values: Sequence[float]) -> Score:
    """A metric from what the items add to it."""
    mean = sum(values) / len(values)
    error = standard_error(values)
    if metric != "perplexity":
        return Score(100 * mean, None if error is None else 100 * error)
    # To first order, an error of the exponent is one of that fraction of the power.
    perplexity = power(-mean)
    return Score(perplexity, None if error is None else perplexity * error)


def power(nats: float) -> float:
    """e to that many nats; infinite where a float cannot hold it."""
    return math.exp(nats) if nats < most_nats else math.inf


def finite(number: float | None) -> float | None:
    """A number as JSON can have it: None in place of an infinite one."""
    return number if number is not None and math.isfinite(number) else None


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean: the sample's standard deviation over the root of its size."""
    n_values = len(values)
    if n_values < 2:
        return None
    mean = sum(values) / n_values
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (n_values - 1) / n_values)
