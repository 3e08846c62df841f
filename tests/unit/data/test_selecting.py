"""Which documents are taken, and where they go."""

import numpy as np
import pytest

from modelwright.data import selecting
from modelwright.data.selecting import (
    Selection,
    choose,
    first_of_equals,
    hashes_of,
    normalised,
    split_off_tail,
)
from small import texts

documents = [text.encode() for text in texts(300)]


def selection(**changes) -> Selection:
    usual = {
        "min_bytes": 0,
        "max_bytes": None,
        "validation_fraction": 0.3,
        "weights": (1.0,),
        "by_hash": True,
        "deduplicate": False,
    }
    return Selection(**(usual | changes))


def taken(some, *, repetition: int = 0, is_first=None, **changes):
    return choose(some, selection(**changes), source=0, repetition=repetition, is_first=is_first)


def test_each_document_falls_on_one_side_and_stays_there_when_others_are_added():
    few, many = taken(documents[::2]).sides, taken(documents).sides
    assert sorted(many["train"] + many["validation"]) == sorted(documents)
    assert 0.2 < len(many["validation"]) / len(documents) < 0.4
    assert set(few["train"]) <= set(many["train"])
    assert set(few["validation"]) <= set(many["validation"])


def test_the_end_of_each_of_a_few_long_documents_is_kept_for_validation():
    some = [b"one two three four five six seven eight nine ten" * 5, "ééééééé".encode() * 9]
    sides = taken(some, by_hash=False, validation_fraction=0.2).sides
    pairs = list(zip(sides["train"], sides["validation"], strict=True))
    assert [head + tail for head, tail in pairs] == some
    for head, tail in pairs:
        assert head.decode() + tail.decode()  # no character is cut
    assert 0.15 < len(pairs[0][1]) / len(some[0]) < 0.25


def test_a_document_without_white_space_is_cut_in_two_all_the_same():
    head, tail = split_off_tail(b"x" * 100, 0.1)
    assert (len(head), len(tail)) == (90, 10)


def test_short_long_and_empty_documents_are_left_out_and_counted():
    some = [b"", None, b"a" * 9, b"b" * 10, b"c" * 20, b"d" * 21]
    chosen = taken(some, min_bytes=10, max_bytes=20)
    assert sorted(chosen.sides["train"] + chosen.sides["validation"]) == [b"b" * 10, b"c" * 20]
    assert +chosen.dropped == {"empty": 2, "too short": 1, "too long": 1}
    assert +taken(some).dropped == {"empty": 2}


def test_a_weight_of_two_and_a_half_takes_each_document_two_or_three_times():
    rounds = [taken(documents, repetition=r, weights=(2.5,)).sides for r in range(3)]
    assert rounds[0]["train"] == rounds[1]["train"]
    assert set(rounds[2]["train"]) < set(rounds[0]["train"])
    assert 0.4 < len(rounds[2]["train"]) / len(rounds[0]["train"]) < 0.6
    assert rounds[0]["validation"] and not rounds[1]["validation"] + rounds[2]["validation"]


def test_a_weight_below_one_takes_some_documents_of_both_sides():
    whole, half = taken(documents).sides, taken(documents, weights=(0.5,)).sides
    for side in ("train", "validation"):
        assert set(half[side]) < set(whole[side])
        assert 0.35 < len(half[side]) / len(whole[side]) < 0.65


def test_texts_that_differ_in_case_space_and_composition_are_the_same():
    same = ["Ünder  the\n tree", "ünder the tree ", "U\u0308nder\u00a0the tree"]
    assert len({normalised(text.encode()) for text in same}) == 1
    assert normalised(b"The  Tree\xff ") != normalised(b"The Tree\xfe")
    assert normalised(b"The\tTREE ") == b"the tree"


@pytest.mark.parametrize("n_at_once", [1 << 22, 10, 1])
def test_only_the_first_of_equals_is_kept(monkeypatch, n_at_once: int):
    monkeypatch.setattr(selecting, "n_hashes_at_once", n_at_once)
    rng = np.random.default_rng(0)
    words = [bytes(rng.integers(97, 101, 2).astype(np.uint8)) for _ in range(100)]
    parts = [hashes_of(words[:40]), hashes_of([]), hashes_of(words[40:])]
    found = np.concatenate(first_of_equals(parts)).tolist()
    assert found == [word not in words[:at] for at, word in enumerate(words)]
    assert [len(part) for part in first_of_equals(parts)] == [40, 0, 60]


def test_a_document_marked_as_a_duplicate_is_left_out():
    marks = iter(np.array([True, False, True]))
    chosen = taken([b"a", b"", b"b", b"c"], is_first=marks, validation_fraction=1e-9)
    assert chosen.sides["train"] == [b"a", b"c"]
    assert +chosen.dropped == {"empty": 1, "duplicate": 1}
