from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot

from modelwright.evaluation.items import Item, Outcome, choice_item
from modelwright.evaluation.render import ModelResults
from modelwright.evaluation.results import TaskResult
from modelwright.evaluation.tasks import TaskFile, tasks
from modelwright.experiments.score_plots import caption, rows_of, scores_figure

items = tuple(choice_item("A", ("b", "c", "d", "e"), 0) for _ in range(8))


def result(task: str, n_right: int, items: tuple[Item, ...] = items) -> TaskResult:
    """A task of which the first items were answered rightly."""
    outcomes = {
        place: Outcome((0.0 if place < n_right else -2.0, -1.0, -1.0, -1.0), (False,) * 4, (1,) * 4, False)
        for place in range(len(items))
    }  # fmt: skip
    return TaskResult(tasks[task], TaskFile(Path("f"), "ab", items, ""), outcomes)


def model(name: str, **n_right: int) -> ModelResults:
    return ModelResults(name, {}, {task: result(task, n) for task, n in n_right.items()})


def drawn(*models: ModelResults) -> Any:
    figure = scores_figure(models)
    pyplot.close(figure)
    return figure.axes[0]


def test_each_score_is_a_mark_with_its_error_in_the_row_of_its_task():
    axes = drawn(model("one", hellaswag=2, copa=8), model("two", hellaswag=6))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "hellaswag, acc (PARTIAL)",
        "hellaswag, acc_norm (PARTIAL)",
        "copa, acc (PARTIAL)",
    ]
    marks = [container.lines[0].get_xydata()[0] for container in axes.containers]
    assert [(x, round(y)) for x, y in marks] == [(25, 0), (25, 1), (100, 2), (75, 0), (75, 1)]
    assert marks[0][1] < marks[3][1]  # beside each other, not on each other
    (bar,) = axes.containers[0].lines[2]
    low, high = bar.get_segments()[0][:, 0]
    error = 100 * np.std([1, 1, 0, 0, 0, 0, 0, 0], ddof=1) / np.sqrt(8)
    np.testing.assert_allclose([low, high], [25 - error, 25 + error])


def test_guessing_and_gpt2_small_are_marked_where_they_are():
    axes = drawn(model("one", hellaswag=2, copa=8))
    found = {
        (line.get_linestyle(), float(line.get_xdata()[0]), round(float(np.mean(line.get_ydata()))))
        for line in axes.lines
        if line.get_linestyle() in (":", "--")
    }
    published = {one.metric: one.value for one in tasks["hellaswag"].published}
    assert found == {
        *((":", 25.0, row) for row in (0, 1, 2)),
        ("--", published["acc"], 0),
        ("--", published["acc_norm"], 1),
    }
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["one", "guessing", "GPT-2 small, published"]


def test_a_score_of_a_whole_task_is_a_full_mark():
    whole = ModelResults("whole", {}, {"copa": result("copa", 50, items=items[:1] * 100)})
    part = model("part", copa=2)
    axes = drawn(whole, part)
    colors = [container.lines[0].get_markerfacecolor() for container in axes.containers]
    assert colors[0] != "white" and colors[1] == "white"
    assert "PARTIAL" in caption([part]) and "PARTIAL" not in caption([whole])


def test_a_perplexity_is_no_share_of_items():
    assert rows_of([model("one", lambada_openai=8)]) == [("lambada_openai", "acc")]
