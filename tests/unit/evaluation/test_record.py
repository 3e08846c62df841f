from pathlib import Path

import pytest

from modelwright.evaluation.record import ScoreRecord

question = {"model": "a", "task": "copa"}


def lines_of(record: ScoreRecord) -> Path:
    return record.folder / "results.jsonl"


def test_what_was_added_is_there_at_the_next_start(tmp_path: Path):
    with ScoreRecord(tmp_path, question) as record:
        assert record.known == {}
        record.add({3: [1.5, True], 1: "x"})
        record.add({2: None})
    with ScoreRecord(tmp_path, question) as again:
        assert again.known == {3: [1.5, True], 1: "x", 2: None}
        again.add({9: 9})
    with ScoreRecord(tmp_path, question) as third:
        assert third.known.keys() == {1, 2, 3, 9}


def test_another_question_has_another_record(tmp_path: Path):
    with ScoreRecord(tmp_path, question) as record:
        record.add({1: 1})
    for change in ({"model": "b"}, {"task": "piqa"}, {"limit": 3}):
        with ScoreRecord(tmp_path, question | change) as other:
            assert other.known == {}


@pytest.mark.parametrize(
    "torn", [b"[2, [1.5, 2.5, 3.5], [true", b"[2, 5", b"[2, 5]", b"\xff\n", b"[2]\n", b"3\n"]
)
def test_a_line_that_was_not_finished_is_dropped_and_the_rest_goes_on(tmp_path: Path, torn: bytes):
    with ScoreRecord(tmp_path, question) as record:
        record.add({1: 1})
    path = lines_of(record)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    with ScoreRecord(tmp_path, question) as again:
        assert again.known == {1: 1}
        again.add({2: 2})
    assert path.read_bytes() == whole + b"[2, 2]\n"


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 0}\n[1, 1]\n'])
def test_a_record_without_its_first_line_begins_anew(tmp_path: Path, content: bytes):
    with ScoreRecord(tmp_path, question) as record:
        record.add({1: 1})
    lines_of(record).write_bytes(content)
    with ScoreRecord(tmp_path, question) as again:
        assert again.known == {}


def test_two_processes_do_not_write_one_record(tmp_path: Path):
    with (
        ScoreRecord(tmp_path, question),
        pytest.raises(ValueError, match="is in use by another"),
        ScoreRecord(tmp_path, question),
    ):
        pass


def test_a_forgotten_record_leaves_nothing(tmp_path: Path):
    with ScoreRecord(tmp_path, question) as record:
        record.add({1: 1})
    record.forget()
    assert list(tmp_path.iterdir()) == []
