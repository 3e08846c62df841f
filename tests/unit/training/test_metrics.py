import json
import math
from pathlib import Path

import pytest

import small
from modelwright.training.metrics import (
    MetricsFile,
    event_details,
    events,
    forget_after,
    metrics_file,
    read_metrics,
)

records = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.25, "samples": ["naïve\ntext"]}]


def test_what_is_written_is_read_back(tmp_path: Path):
    with MetricsFile(tmp_path) as file:
        for record in records:
            file.append(record)
    small.record(tmp_path, {"step": 3})
    assert read_metrics(tmp_path) == [*records, {"step": 3}]


def test_each_line_is_there_while_the_run_goes_on(tmp_path: Path):
    with MetricsFile(tmp_path) as file:
        for n, record in enumerate(records, start=1):
            file.append(record)
            assert read_metrics(tmp_path) == records[:n]


def test_the_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = MetricsFile(tmp_path)
    monkeypatch.setattr(Path, "open", None)
    file.append(records[0])
    file.close()
    monkeypatch.undo()
    assert read_metrics(tmp_path) == records[:1]


def test_a_last_line_cut_short_is_left_out(tmp_path: Path):
    whole = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
    for n_bytes in range(whole.index(b"\n") + 1, len(whole)):  # in the middle of a letter too
        (tmp_path / metrics_file).write_bytes(whole[:n_bytes])
        assert read_metrics(tmp_path) == records[:1]


@pytest.mark.parametrize("line", ["garbage", '{"loss": 1.0}', "[1]", '{"step": 1, "lo', "", "\0\0"])
def test_a_line_in_the_middle_that_is_no_record_is_named(tmp_path: Path, line: str):
    (tmp_path / metrics_file).write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(
        ValueError, match=r"metrics\.jsonl, line 2, is not the record of a step: .*remove that line"
    ):
        read_metrics(tmp_path)


def test_a_folder_without_a_run_is_said_to_be_one(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no metrics.jsonl"):
        read_metrics(tmp_path)


def test_steps_taken_again_are_forgotten(tmp_path: Path):
    for step in range(5):
        small.record(tmp_path, {"step": step})
    forget_after(tmp_path, 2)
    with MetricsFile(tmp_path) as file:
        file.append({"step": 3, "again": True})
    assert [record["step"] for record in read_metrics(tmp_path)] == [0, 1, 2, 3]
    assert read_metrics(tmp_path)[-1]["again"]


def test_a_line_is_json_that_every_reader_knows(tmp_path: Path):
    spiked = {"step": 1, "loss": math.nan, "parts": [math.inf, 1.5], "more": {"a": -math.inf}}
    small.record(tmp_path, spiked)
    line = (tmp_path / metrics_file).read_text()

    def refuse(name: str):
        raise AssertionError(f"{name} is not JSON")

    read = json.loads(line, parse_constant=refuse)
    assert read == {"step": 1, "loss": None, "parts": [None, 1.5], "more": {"a": None}}


def test_events_are_the_records_that_tell_of_one():
    skipped = {"step": 2, "event": "skipped"}
    assert events([{"step": 1, "loss": 1.0}, skipped, {"step": 3}]) == [skipped]


def test_an_event_is_explained_by_what_is_not_in_every_record():
    told = {"step": 2, "event": "spike", "loss": 9.0, "validation_loss": 1.0, "mfu": 0.4}
    assert event_details(told) == ""
    explained = told | {"found": "loss 9", "ratio": 2.25, "limit": None, "micro_batch": 4}
    expected = "found loss 9, ratio 2.25, limit not a finite number, micro batch 4"
    assert event_details(explained) == expected


def test_a_long_list_is_cut_short():
    assert event_details({"sample_ids": [1, 2]}) == "sample ids [1, 2]"
    told = event_details({"sample_ids": list(range(512))})
    assert told == "sample ids [0, 1, 2, 3, 4, 5, 6, 7, … 512 in all]"
