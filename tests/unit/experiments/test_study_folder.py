"""What stands in `study.json`, and what is refused there."""

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from modelwright.experiments.study_folder import holds_study, read_study, write_study
from modelwright.experiments.study_record import FoundEdge, StudyRecord, StudyRun, Variant


def small_record(folder: Path) -> StudyRecord:
    return StudyRecord(
        name="norms",
        question="Does the norm matter?",
        baseline="norm",
        variants=(
            Variant(name="norm", changes={}),
            Variant(name="none", changes={"model.norm": "none", "schedule.peak_lr": 1e-3}),
        ),
        runs=(
            StudyRun(variant="norm", seed=1, folder=folder / "runs/norm-1", outcome="finished"),
            StudyRun(
                variant="none",
                seed=1,
                folder=folder / "runs/none-1",
                outcome="diverged",
                reason="the loss is not finite",
                final={"step": 3, "loss": math.nan},
            ),
        ),
    )


def test_a_study_is_read_as_it_was_written(tmp_path: Path):
    record = small_record(tmp_path)
    write_study(tmp_path, record, {"search": {"n_left": 1}})
    read = read_study(tmp_path)
    assert math.isnan(read.runs[1].final["loss"])
    assert str(read) == str(record)  # a number that is none equals nothing, so by what they say
    assert holds_study(tmp_path) and not holds_study(tmp_path / "runs")


def record_with_edge(folder: Path) -> StudyRecord:
    edge = FoundEdge(
        setting="schedule.peak_lr",
        trains=0.1,
        diverges=None,
        is_found=False,
        note="no run diverged",
    )
    return dataclasses.replace(small_record(folder), edge=edge)


def test_an_edge_is_read_as_it_was_written(tmp_path: Path):
    write_study(tmp_path, record_with_edge(tmp_path))
    assert read_study(tmp_path).edge == record_with_edge(tmp_path).edge


def test_an_edge_that_no_variant_has_is_refused(tmp_path: Path):
    write_study(tmp_path, record_with_edge(tmp_path))
    path = tmp_path / "study.json"
    content = json.loads(path.read_text())
    content["edge"] |= {"diverges": 0.2, "is_found": True}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"edge of norms is at schedule\.peak_lr = 0\.1, which no"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trains", "0.1", "edge.trains is '0.1', but it is a number or null"),
        ("diverges", True, "edge.diverges is True, but it is a number or null"),
        ("is_found", None, "edge.is_found is None, but it is true or false"),
        ("setting", 3, "edge.setting is 3, but it is a text"),
    ],
)
def test_a_damaged_edge_is_refused(tmp_path: Path, key: str, value: Any, message: str):
    write_study(tmp_path, record_with_edge(tmp_path))
    path = tmp_path / "study.json"
    content = json.loads(path.read_text())
    content["edge"][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_study(tmp_path)


def test_a_study_may_be_moved_with_its_runs(tmp_path: Path):
    (tmp_path / "here").mkdir()
    write_study(tmp_path / "here", small_record(tmp_path / "here"))
    moved = (tmp_path / "here").rename(tmp_path / "there")
    assert read_study(moved).runs[0].folder == moved / "runs/norm-1"


def test_a_run_outside_its_study_is_not_written(tmp_path: Path):
    with pytest.raises(ValueError, match="runs/norm-1 is not inside the study's folder"):
        write_study(tmp_path / "study", small_record(tmp_path))


def test_a_folder_without_a_study_says_so(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no study.json"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("way", "value", "message"),
    [
        (("format",), 2, "format = 2, but this version reads 1"),
        (("name",), None, "name is None, but it is a text"),
        (("variants", 0, "changes"), [], "variants[0].changes is [], but it is an object"),
        (("variants", 1), "none", "variants[1] is 'none', but it is an object"),
        (("variants", 1, "name"), "norm", "two variants of norms have one name"),
        (("baseline",), "nrom", "'nrom' is not a variant of norms; these are: ['norm', 'none']"),
        (("runs", 0, "seed"), "1", "runs[0].seed is '1', but it is a whole number"),
        (("runs", 0, "seed"), True, "runs[0].seed is True, but it is a whole number"),
        (("runs", 0, "outcome"), "lost", "runs[0].outcome is 'lost', but it is one of: finished"),
        (("runs", 0, "folder"), "../norm", "runs[0].folder is '../norm', but a run is inside"),
        (("runs", 0, "folder"), "/norm", "such as 'runs/norm'"),
        (("runs", 0, "reason"), 3, "runs[0].reason is 3, but it is a text or null"),
        (("runs", 1, "final"), {"loss": "low"}, "runs[1].final.loss is 'low'"),
        (("runs", 1, "colour"), "red", "runs[1].colour is unknown; what is known there: final"),
        (("runs", 1, "variant"), "norm", "has two runs of 'norm' with seed 1; keep one"),
    ],
)
def test_what_is_no_study_is_refused_by_its_key(
    tmp_path: Path, way: tuple[str | int, ...], value: Any, message: str
):
    write_study(tmp_path, small_record(tmp_path))
    path = tmp_path / "study.json"
    content = copy.deepcopy(json.loads(path.read_text()))
    *above, last = way
    place: Any = content
    for step in above:
        place = place[step]
    place[last] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError) as raised:
        read_study(tmp_path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("way", [("question",), ("runs", 0, "outcome"), ("variants", 0, "name")])
def test_a_missing_key_is_named(tmp_path: Path, way: tuple[str | int, ...]):
    write_study(tmp_path, small_record(tmp_path))
    path = tmp_path / "study.json"
    content = json.loads(path.read_text())
    place: Any = content
    for step in way[:-1]:
        place = place[step]
    del place[way[-1]]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{way[-1]} is missing, but it is a text"):
        read_study(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_other_files_are_refused(tmp_path: Path, text: str):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(ValueError, match=r"study\.json (is not JSON|has format = None)"):
        read_study(tmp_path)
