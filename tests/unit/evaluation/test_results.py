import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelwright.evaluation.comparing import compare
from modelwright.evaluation.items import Item, Outcome
from modelwright.evaluation.results import TaskResult, power, prediction, score_of, standard_error
from modelwright.evaluation.tasks import TaskFile, tasks

item = Item((("q", " é"), ("q", " abc"), ("q", " abcdef")), 1, ("é", "abc", "abcdef"))


def outcome(*logprobs: float, greedy: bool = False) -> Outcome:
    n = len(logprobs)
    return Outcome(logprobs, (greedy,) * n, (1,) * n, truncated=False)


def result(*outcomes: Outcome, name: str = "hellaswag", of: Item = item, whole: int = 3):
    task = replace(tasks[name], n_items=whole)
    file = TaskFile(Path("some.jsonl"), "0" * 64, (of,) * len(outcomes), "")
    return TaskResult(task, file, dict(enumerate(outcomes)))


def test_answers_are_compared_whole_by_character_and_by_byte():
    found = outcome(-2.5, -6.0, -14.0)
    assert prediction("acc", item, found) == 0
    assert prediction("acc_norm", item, found) == 1  # 2.5, 2, 2.33 nats a character
    assert prediction("acc_bytes", item, found) == 0  # 1.25, 2, 2.33 nats a byte


def test_the_first_of_equals_is_the_answer():
    assert prediction("acc", item, outcome(-1, -1, -1)) == 0


def test_accuracies_are_in_percent_with_the_error_of_a_mean():
    found = result(outcome(-2, -1, -3), outcome(-1, -2, -3), outcome(-9, -1, -3))
    score = found.score("acc")
    assert score is not None and score.stderr is not None
    assert score.value == pytest.approx(200 / 3)
    assert score.stderr == pytest.approx(100 * statistics.stdev([1, 0, 1]) / math.sqrt(3))


def test_a_single_item_has_no_error():
    assert standard_error([1.0]) is None


def test_the_last_word_counts_if_all_of_it_was_likeliest_and_its_perplexity_is_of_the_mean():
    word = Item((("a", " b"),), 0, ("b",))
    found = result(outcome(-1, greedy=True), outcome(-3), name="lambada_openai", of=word, whole=2)
    accuracy, perplexity = found.score("acc"), found.score("perplexity")
    assert accuracy is not None and perplexity is not None and perplexity.stderr is not None
    assert accuracy.value == 50
    assert perplexity.value == pytest.approx(math.exp(2))
    assert perplexity.stderr == pytest.approx(math.exp(2) * 1.0)
    assert found.chance is None


def test_a_perplexity_beyond_all_bounds_is_no_number_in_the_file():
    assert power(1e4) == math.inf
    word = Item((("a", " b"),), 0, ("b",))
    found = result(outcome(-1e4), outcome(-1e4), name="lambada_openai", of=word, whole=2)
    assert found.facts()["scores"]["perplexity"]["value"] is None
    json.loads(json.dumps(found.facts(), allow_nan=False))


def test_chance_is_that_of_guessing_among_the_answers():
    assert result(outcome(-1, -2, -3)).chance == pytest.approx(100 / 3)


def test_fewer_items_than_the_task_has_are_partial():
    full = result(outcome(-1, -2, -3), whole=1)
    assert full.partial == "" and full.facts()["status"] == "full"
    part = result(outcome(-1, -2, -3), whole=10_042)
    assert part.partial == "PARTIAL: 1 of 10,042 items"
    assert part.facts()["status"] == "partial"
    assert part.facts()["partial"] == part.partial


def test_more_items_than_the_task_has_are_another_set():
    found = result(*[outcome(-1, -2, -3)] * 2, whole=1)
    assert found.partial.startswith("OTHER SET: 2 items")
    assert found.facts()["status"] == "partial"


def test_the_facts_hold_each_item():
    facts = result(outcome(-2, -1, -3), whole=1).facts()
    assert facts["items"] == [
        {
            "item": 0,
            "logprobs": [-2, -1, -3],
            "n_tokens": [1, 1, 1],
            "gold": 1,
            "predicted": 1,
            "predicted_by_length": 1,
        }
    ]


def test_no_items_have_no_score():
    assert score_of("acc", [1.0]).value == 100
    assert result().score("acc") is None


def as_items(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def test_a_better_model_is_found_to_be_better():
    rng = np.random.default_rng(0)
    worse = (rng.random(500) < 0.4).astype(float)
    better = np.maximum(worse, rng.random(500) < 0.1)
    found = compare(as_items(better.tolist()), as_items(worse.tolist()))
    assert found is not None
    assert found.p < 0.001 and 0 < found.low < found.difference < found.high
    assert found.difference == pytest.approx(better.mean() - worse.mean())
    other = compare(as_items(worse.tolist()), as_items(better.tolist()))
    assert other is not None and other.p > 0.999
    assert other.difference == pytest.approx(-found.difference)


def test_the_interval_is_that_of_a_mean_of_differences():
    rng = np.random.default_rng(1)
    values = rng.normal(0.1, 1, 1000)
    found = compare(as_items(values.tolist()), as_items([0.0] * 1000))
    assert found is not None
    error = values.std(ddof=1) / math.sqrt(1000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_equal_models_do_not_beat_each_other():
    values = as_items([0.0, 1.0, 1.0])
    found = compare(values, values)
    assert found is not None and found.p == 1 and found.low == found.high == 0


def test_only_shared_items_are_compared():
    found = compare({0: 1.0, 1: 1.0, 5: 0.0}, {0: 0.0, 1: 1.0, 7: 1.0})
    assert found is not None and found.n_items == 2 and found.difference == 0.5
    assert compare({0: 1.0}, {0: 0.0}) is None
