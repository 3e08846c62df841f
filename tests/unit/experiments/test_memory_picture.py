import json
import re
from pathlib import Path
from typing import Any

import pytest

from modelwright.experiments.plots import Place, timeline_plot, with_room
from modelwright.experiments.report import page, write_report
from modelwright.training.metrics import config_file, facts_file

gib = 2**30
timeline: dict[str, Any] = {
    "n_operations": 100,
    "n_followed": 2,
    "moments": [0, 20, 50, 80, 99],
    "kinds": {
        "weights": [gib] * 5,
        "gradients": [0, 0, 0, gib, gib],
        "activations": [0, gib, 3 * gib, gib, 0],
    },
    "phases": [
        {"name": "forward", "begins": 0},
        {"name": "backward", "begins": 50},
        {"name": "clip", "begins": 96},
        {"name": "update", "begins": 98},
    ],
    "peak": 2,
}
plan: dict[str, Any] = {
    "timeline": timeline,
    "place": {"title": "a <GPU>", "n_portions": 8},
    "memory": {"usable_bytes": 6 * gib, "outside_bytes": gib},
}


def words(svg: str) -> list[str]:
    """What is written in a picture."""
    return [found.strip() for found in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_kinds_and_parts_and_the_peak_are_named():
    said = words(timeline_plot(timeline))
    assert {"weights", "gradients", "activations"} <= set(said)
    assert {"forward", "backward", "clip, update"} <= set(said)
    assert "4 GiB at the peak" in said
    assert "held (GiB)" in said


def test_a_small_step_is_drawn_in_mib():
    small = timeline | {
        "kinds": {kind: [n // 1024 for n in line] for kind, line in timeline["kinds"].items()}
    }
    said = words(timeline_plot(small))
    assert "held (MiB)" in said
    assert "4 MiB at the peak" in said


def test_what_lies_on_top_is_named_first():
    said = words(timeline_plot(timeline))
    assert said.index("activations") < said.index("gradients") < said.index("weights")


@pytest.mark.parametrize(
    ("room_bytes", "is_drawn"), [(3 * gib, True), (5 * gib, True), (80 * gib, False), (None, False)]
)
def test_the_room_of_the_device_is_dashed_where_it_is_near(room_bytes: int | None, is_drawn: bool):
    svg = timeline_plot(timeline, room_bytes=room_bytes)
    assert ("stroke-dasharray" in svg) is is_drawn
    assert ("room for tensors:" in words(svg)) is is_drawn


def test_names_that_are_too_long_for_their_place_join_the_narrower_neighbour():
    places = [
        Place("forward", 0.0, 0.5),
        Place("loss", 0.5, 0.51),
        Place("backward", 0.51, 0.8),
        Place("update", 0.8, 0.81),
    ]
    assert with_room(places) == [
        Place("forward", 0.0, 0.5),
        Place("loss, backward", 0.5, 0.8),
        Place("update", 0.8, 0.81),  # the last one may reach into the margin
    ]
    assert with_room(places[:1]) == places[:1]


records = [{"step": 1, "loss": 4.0, "n_tokens": 64, "seconds": 2.0, "tokens_per_second": 32.0}]
facts = {
    "started": "2026-01-01T00:00:00+00:00",
    "machine": {"processor": "p", "gpu": None, "n_threads": 2, "python": "3", "torch": "2"},
    "precision": "float32",
    "parameters": {"total": 100},
    "epochs": 0.5,
}
section = "Memory over a step, as planned"


def test_the_report_of_a_planned_run_shows_the_memory():
    made = page("run", records, facts, "", plan)
    assert section in made
    assert "4 GiB at the peak" in made
    assert "a &lt;GPU&gt;, which has 5.00 GiB for them" in made
    assert "The step has 8 portions; 2 are shown" in made
    whole = plan | {"place": {"title": "x", "n_portions": 2}}
    assert "portions" not in page("run", records, facts, "", whole)


def test_a_run_without_such_a_plan_has_a_report_all_the_same():
    assert section not in page("run", records, facts, "")
    older = {name: value for name, value in plan.items() if name != "timeline"}
    assert section not in page("run", records, facts, "", older)


def test_the_plan_is_read_from_the_run_folder(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    (tmp_path / facts_file).write_text(json.dumps(facts))
    (tmp_path / config_file).write_text("")
    assert section not in write_report(tmp_path).read_text()
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert section in write_report(tmp_path).read_text()
