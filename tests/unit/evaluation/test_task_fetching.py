import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fake_hub import FakeHub, closed_endpoint, fake_hub
from modelwright.data import fetching
from modelwright.evaluation.task_fetching import fetch_task, originals, parquet_branch
from modelwright.evaluation.tasks import Task, find_file, read_task, tasks
from modelwright.runtime.files import sha256_of

# A row of each layout as the hub has it, its right answer the second.
choices = {"text": ["no", "yes"], "label": ["A", "B"]}
rows: dict[str, dict[str, Any]] = {
    "hellaswag": {"activity_label": "A", "ctx_a": "He sits.", "ctx_b": "he", "endings": ["x", "ü"], "label": "1"},
    "lambada_openai": {"text": "It was a dog"},
    "piqa": {"goal": "Sit", "sol1": "no", "sol2": "yes", "label": 1},
    "arc_easy": {"question": "Is it?", "choices": choices, "answerKey": "B"},
    "arc_challenge": {"question": "Is it?", "choices": choices, "answerKey": "B"},
    "winogrande": {"sentence": "So _ sat.", "option1": "he", "option2": "she", "answer": "2"},
    "openbookqa": {"question_stem": "It is", "choices": choices, "answerKey": "B"},
    "copa": {"premise": "It fell.", "choice1": "No.", "choice2": "Yes.", "question": "cause", "label": 1},
    "boolq": {"question": "is it", "passage": "It is.", "label": 1},
    "commonsense_qa": {"question": "Is it?", "choices": choices, "answerKey": "B"},
    "wsc273": {"text": "Tom saw Tim. He sat.", "pronoun": "He", "pronoun_loc": 13, "options": ["Tom", "Tim"], "label": 1},
}  # fmt: skip


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(fetching, "_waits_at_first_seconds", (0.01,))
    with fake_hub() as running:
        yield running


def of_two(name: str) -> Task:
    """A task whose whole set is two items."""
    return replace(tasks[name], n_items=2)


def put(hub: FakeHub, name: str, n_rows: int = 2) -> str:
    """Put a task's repository on a hub, with another split beside; returns the commit."""
    one, file = originals[name], io.BytesIO()
    pq.write_table(pa.Table.from_pylist([rows[name]] * n_rows), file)
    content = {f"{one.configuration}/{one.split}/0000.parquet": file.getvalue()}
    content[f"{one.configuration}/train/0000.parquet"] = b"not to be fetched"
    hub.commit(one.repository, {"README.md": b"the original"})
    return hub.commit(one.repository, content, branch=parquet_branch)


def test_every_task_has_an_original_and_both_say_the_same():
    assert list(originals) == list(tasks)
    for name, one in originals.items():
        assert f"hub dataset {one.repository}, " in tasks[name].origin
        assert tasks[name].origin.endswith(f", {one.split}")
        assert one.configuration in ("default", *tasks[name].origin.split(", "))
        assert not (one.configuration == "default" and tasks[name].origin.count(", ") > 1)


@pytest.mark.parametrize("name", tasks)
def test_what_is_fetched_are_the_items_of_the_task(hub: FakeHub, tmp_path: Path, name: str):
    commit = put(hub, name)
    fetched = fetch_task(of_two(name), tmp_path, endpoint=hub.endpoint)
    assert find_file(tasks[name], tmp_path) == fetched.path
    file = read_task(tasks[name], fetched.path)
    assert len(file.items) == 2
    assert file.items[0].gold == (0 if name == "lambada_openai" else 1)
    assert json.loads(fetched.path.read_text().splitlines()[1]) == rows[name]
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.jsonl"]
    told = str(fetched)
    assert f"2 items of {originals[name].repository} at {commit[:12]}, " in told
    assert f"(sha256 {(fetched.parts[0].sha256 or '')[:16]})" in told
    assert f"(sha256 {sha256_of(fetched.path)[:16]})" in told


def test_another_number_of_items_or_other_rows_are_not_taken(hub: FakeHub, tmp_path: Path):
    put(hub, "copa", n_rows=3)
    with pytest.raises(ValueError, match="has 3 items of copa, where the task has 2; nothing"):
        fetch_task(of_two("copa"), tmp_path, endpoint=hub.endpoint)
    rows_of_another = {"copa": rows["piqa"]}
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([rows_of_another["copa"]] * 2), file)
    hub.commit("aps/super_glue", {"copa/validation/0000.parquet": file.getvalue()}, parquet_branch)
    with pytest.raises(ValueError, match="line 1 is no item of copa"):
        fetch_task(of_two("copa"), tmp_path, endpoint=hub.endpoint)
    assert list(tmp_path.iterdir()) == []


def test_a_hub_without_the_dataset_or_no_hub_at_all_is_said(hub: FakeHub, tmp_path: Path):
    with pytest.raises(ValueError, match="no dataset aps/super_glue that you may read"):
        fetch_task(tasks["copa"], tmp_path, endpoint=hub.endpoint)
    hub.commit("aps/super_glue", {"README.md": b""})
    with pytest.raises(ValueError, match="has no branch, tag or commit refs/convert/parquet"):
        fetch_task(tasks["copa"], tmp_path, endpoint=hub.endpoint)
    with pytest.raises(ConnectionError, match="cannot be reached for aps/super_glue"):
        fetch_task(tasks["copa"], tmp_path, endpoint=closed_endpoint())
