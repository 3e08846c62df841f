import re
from typing import Any

from modelwright.evaluation.tasks import tasks
from modelwright.experiments.task_plots import task_sections


def line(step: int, value: float, *, n_items: int = 10_042, **changes: Any) -> dict[str, Any]:
    """The record of a step after which a model was scored."""
    partial = None if n_items == 10_042 else f"PARTIAL: {n_items} of 10,042 items"
    found = {
        "scores": {
            "acc": {"value": value - 1, "stderr": 0.5},
            "acc_norm": {"value": value, "stderr": 0.25},
        },
        "chance_percent": 25.0,
        "n_items": n_items,
        "partial": partial,
        "n_truncated": 0,
        "sha256": "ab",
    }
    return {"step": step, "n_tokens": 100 * step, "tasks": {"hellaswag": found | changes}}


def test_the_lines_of_guessing_and_gpt2_are_named_with_their_source():
    page = task_sections([line(1, 26.0), line(2, 27.0)])
    published = next(one for one in tasks["hellaswag"].published if one.metric == "acc_norm")
    assert f"GPT-2 small: {published.value:.2f} %" in page
    assert f"GPT-2 small: {published.source}." in page
    assert "guessing: 25.0 %" in page
    assert page.count("stroke-dasharray: ") >= 2
    assert "<td>acc_norm</td><td>27.00</td><td>0.25</td>" in page
    assert "PARTIAL" not in page


def test_a_part_of_a_task_is_marked_above_and_below_its_picture():
    page = task_sections([line(1, 26.0, n_items=200)])
    assert "<h2>hellaswag (PARTIAL)</h2>" in page
    assert page.count("PARTIAL: 200 of 10,042 items") >= 2
    assert "Open points are no scores of the task" in page


def n_bands(page: str) -> int:
    """How many pieces the band of errors has."""
    return len(re.findall(r'id="FillBetween', page))


def test_points_of_other_items_are_not_joined():
    same = task_sections([line(1, 26.0), line(2, 27.0)])
    other = task_sections([line(1, 26.0, n_items=200), line(2, 27.0)])
    assert (n_bands(same), n_bands(other)) == (1, 2)
    assert "not joined" in other and "not joined" not in same


def test_a_score_that_was_made_up_for_stands_where_its_step_was():
    late = line(2, 27.0)
    del late["n_tokens"]
    trained = {"step": 2, "n_tokens": 200, "loss": 1.0}
    expected = task_sections([line(1, 26.0), line(2, 27.0)])
    assert task_sections([line(1, 26.0), trained, late]) == expected


def test_a_run_that_was_not_scored_has_no_section():
    assert task_sections([{"step": 1, "loss": 2.0}]) == ""
