"""Predictions are held to what is on record: `docs/results/ledger.jsonl`, a line a configuration."""

import dataclasses
import json
import statistics
from pathlib import Path

import pytest

from modelwright.planning.ledger import (
    Entry,
    append_entry,
    predict,
    read_ledger,
    site_facts,
    site_of,
)

path = Path(__file__).parents[2] / "docs" / "results" / "ledger.jsonl"
ledger = read_ledger(path)


def is_quick(entry: Entry) -> bool:
    """Whether it is followed in every test run: each way of working once, at a small size."""
    small = entry.name.startswith(("gpt2-small 1x8x1024", "tinystories-17m", "laptop"))
    usual = "bf16 flash" in entry.name or "laptop" in entry.name
    return small and usual


quick = [entry for entry in ledger if is_quick(entry)]
others = [entry for entry in ledger if not is_quick(entry)]


def name_of(entry: Entry) -> str:
    return f"{entry.name} {entry.hardware}".replace(" ", "-")


@pytest.mark.parametrize("entry", ledger, ids=name_of)
def test_what_was_predicted_is_what_was_measured(entry: Entry):
    assert entry.misses() == []


def require_no_drift(entry: Entry) -> None:
    now = predict(entry.settings, site_of(entry.site))
    assert entry.drift(now) == [], (
        f"{entry.name} is predicted otherwise than on record. If that is meant, measure it again "
        f"(benchmarks/plan_gpu.py or plan_cpu.py, --ledger {path.name}) and replace its line; it "
        f"was predicted with {entry.predicted_with}"
    )
    assert dataclasses.replace(entry, predicted=now).misses() == []


@pytest.mark.parametrize("entry", quick, ids=name_of)
def test_the_prediction_is_still_the_one_on_record(entry: Entry):
    require_no_drift(entry)


@pytest.mark.slow
@pytest.mark.parametrize("entry", others, ids=name_of)
def test_every_other_prediction_is_still_the_one_on_record(entry: Entry):
    require_no_drift(entry)


def test_both_kinds_of_device_and_ways_to_work_are_on_record():
    ways = {(entry.site["device"], entry.is_compiled) for entry in quick}
    assert ways == {("cuda", False), ("cuda", True), ("cpu", False)}


def entry_like(**changes: float) -> Entry:
    """The first entry with another prediction."""
    first = ledger[0]
    return dataclasses.replace(first, predicted=first.predicted | changes)


def test_a_prediction_that_moves_is_noticed():
    first = ledger[0]
    was = first.predicted["allocated_bytes"]
    assert first.drift(first.predicted | {"allocated_bytes": was * 1.0009}) == []
    (said,) = first.drift(first.predicted | {"allocated_bytes": was * 1.0011})
    assert said.startswith(f"allocated_bytes: on record {was:,}, now ")


def test_a_prediction_beyond_its_tolerance_is_noticed():
    measured = ledger[0].measured["allocated_bytes"]
    assert entry_like(allocated_bytes=measured * 1.009).misses() == []
    (said,) = entry_like(allocated_bytes=measured * 0.98).misses()
    assert said.startswith("allocated_bytes: predicted")
    assert said.endswith("off by -2.00%, where 1% is allowed")


def test_a_count_has_no_tolerance():
    flops = ledger[0].measured["flops"]
    (said,) = entry_like(flops=flops + 1).misses()
    assert said.startswith("flops: predicted")


def test_an_entry_is_read_back_as_it_was_written(tmp_path: Path):
    file = tmp_path / "ledger.jsonl"
    timed = dataclasses.replace(ledger[-1], time={"step_seconds": 1.5})
    for entry in (ledger[0], timed):
        append_entry(file, entry)
    assert read_ledger(file) == [ledger[0], timed]
    assert "time" not in json.loads(file.read_text().splitlines()[0])
    with file.open("a") as lines:
        lines.write('{"name": "half an entry"}\n')
    with pytest.raises(ValueError, match="line 3, is not an entry"):
        read_ledger(file)


@pytest.mark.parametrize("entry", [ledger[0], ledger[-1]], ids=name_of)
def test_a_site_is_read_back_as_it_was_written(entry: Entry):
    assert site_facts(site_of(entry.site)) == entry.site


timed = [entry for entry in ledger if entry.time]


def test_the_times_on_record_are_near_what_was_predicted():
    misses = [
        abs(entry.time["predicted_seconds"] / entry.time["measured_seconds"] - 1) for entry in timed
    ]
    assert len(timed) >= 40
    assert statistics.median(misses) < 0.05
    assert max(misses) < 0.15
