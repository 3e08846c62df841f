import json
from pathlib import Path
from typing import Any

import pytest

from modelwright.evaluation.tasks import find_file, read_task, tasks, tasks_named

copa = tasks["copa"]
row = {"query": "It fell, because", "choices": ["it slipped.", "it flew."], "gold": 0}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def test_names_with_commas_or_all():
    assert [task.name for task in tasks_named("piqa, copa,piqa")] == ["piqa", "copa"]
    assert tasks_named("all") == list(tasks.values())


@pytest.mark.parametrize("names", ["hellaswagg", "", ","])
def test_an_unknown_task_is_refused_with_those_there_are(names: str):
    with pytest.raises(ValueError, match="is no task here; there are: hellaswag, lambada_openai"):
        tasks_named(names)


def test_a_file_is_found_by_its_name_or_its_tasks_or_is_given(tmp_path: Path):
    given = written(tmp_path / "anything.jsonl", row)
    assert find_file(copa, given) == given
    by_task = written(tmp_path / "copa.jsonl", row)
    assert find_file(copa, tmp_path) == by_task
    by_file = written(tmp_path / "copa_val.jsonl", row)
    assert find_file(copa, tmp_path) == by_file


def test_a_missing_file_says_where_to_get_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"holds no copa_val.jsonl or copa.jsonl") as error:
        find_file(copa, tmp_path)
    for words in (
        "hub dataset aps/super_glue, copa, validation",
        "--data",
        "MODELWRIGHT_EVAL_DATA",
    ):
        assert words in str(error.value)
    with pytest.raises(FileNotFoundError, match="no folder is given for it"):
        find_file(copa, None)


def test_a_limit_reads_the_first_items(tmp_path: Path):
    path = written(tmp_path / "copa.jsonl", row, row | {"gold": 1}, row)
    assert [item.gold for item in read_task(copa, path, limit=2).items] == [0, 1]
    assert len(read_task(copa, path).items) == 3


def test_a_file_that_nobody_has_looked_at_is_named_so(tmp_path: Path):
    path = written(tmp_path / "copa.jsonl", row)
    assert "not among those looked at" in read_task(copa, path).note


@pytest.mark.parametrize(
    "bad",
    [
        {"text": "another layout"},
        row | {"gold": 2},
        row | {"gold": None},
        row | {"choices": ["it slipped.", ""]},
        row | {"choices": []},
        ["no object"],
        17,
    ],
)
def test_a_line_that_is_no_item_is_named(tmp_path: Path, bad: Any):
    path = written(tmp_path / "copa.jsonl", row, bad)
    with pytest.raises(ValueError, match=r"copa.jsonl, line 2 is no item of copa"):
        read_task(copa, path)


def test_a_line_cut_short_is_named(tmp_path: Path):
    path = tmp_path / "copa.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row)[:30])
    with pytest.raises(ValueError, match=r"line 2 is no item of copa"):
        read_task(copa, path)


def test_an_empty_file_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no items"):
        read_task(copa, written(tmp_path / "copa.jsonl"))


@pytest.mark.data
def test_every_task_reads_its_whole_file(data_folder: Path):
    for task in tasks.values():
        file = read_task(task, find_file(task, data_folder / "eval"))
        assert len(file.items) == task.n_items
        assert file.sha256 in task.known
