import json
import re
from functools import cache
from pathlib import Path

import pytest

import small
from modelwright.experiments.plots import event_tokens, loss_plot, smoothed, with_number
from modelwright.experiments.report import (
    human_count,
    human_rate,
    human_seconds,
    page,
    write_report,
)
from modelwright.training.metrics import config_file, facts_file

facts = {
    "started": "2026-01-01T00:00:00+00:00",
    "machine": {
        "processor": "a <processor>",
        "gpu": None,
        "n_threads": 2,
        "python": "3",
        "torch": "2",
    },
    "precision": "bfloat16",
    "parameters": {"attention": 30, "mlp": 70, "total": 100},
    "epochs": 0.5,
}
records = [
    {
        "step": 0,
        "validation_loss": 5.0,
        "validation_bits_per_byte": 2.0,
        "samples": ["<b>first</b>"],
    },
    {
        "step": 1,
        "loss": 4.5,
        "learning_rate": 0.1,
        "gradient_norm": 1.0,
        "n_tokens": 64,
        "seconds": 2.0,
        "tokens_per_second": 32.0,
    },
    {
        "step": 2,
        "loss": 4.0,
        "learning_rate": 0.05,
        "gradient_norm": 0.5,
        "n_tokens": 128,
        "seconds": 4.0,
        "tokens_per_second": 32.0,
        "validation_loss": 4.25,
        "validation_bits_per_byte": 1.5,
        "samples": ["last & best"],
    },
]


@cache
def old_page() -> str:
    """The page of a run that recorded none of the newer things."""
    return page("run", records, facts, "")


def test_what_the_model_writes_is_shown_as_text_never_as_markup():
    made = page("a <run>", records, facts, "key = '<value>'")
    assert "<b>first" not in made
    assert "&lt;b&gt;first&lt;/b&gt;" in made
    assert "last &amp; best" in made
    assert "a &lt;run&gt;" in made
    assert "&lt;value&gt;" in made


def test_the_head_figures_are_those_of_the_record():
    made = old_page()
    for figure in (
        "<b>4.250</b>",
        "<b>1.500</b>",
        "<b>100</b>",
        "<b>128</b>",
        "<b>4 s</b>",
        "<b>32</b>",
    ):
        assert figure in made


def figures_of(made: str) -> dict[str, str]:
    """The large figures of the page by what stands below them."""
    found = re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", made)
    return {label: value for value, label in found}


def test_the_perplexity_is_that_of_the_loss():
    old = figures_of(old_page())
    assert old["validation perplexity"] == "70.11"  # e to the 4.25
    diverged = [*records[:2], records[2] | {"validation_loss": 1e4}]
    assert figures_of(page("run", diverged, facts, ""))["validation perplexity"] == "1.014e+304"


def test_mfu_is_told_with_the_peak_that_it_is_a_share_of():
    used = [records[0]] + [
        record | {"mfu": mfu} for record, mfu in zip([records[1]] * 3, (0.1, 0.5, 0.4), strict=True)
    ]
    peak = {"flops_per_second": 989.4e12, "source": "a <datasheet>"}
    found = figures_of(page("run", used, facts | {"peak": peak}, ""))
    assert found["MFU in the median, of 989 TFLOP/s (a &lt;datasheet&gt;)"] == "40.0%"
    assert "MFU in the median" not in page("run", used, facts, "")
    assert "MFU in the median" not in page("run", records, facts | {"peak": peak}, "")


def test_memory_is_told_at_its_most():
    used = [
        record | {"memory_bytes": n * 2**29} for record, n in zip(records, (1, 5, 4), strict=True)
    ]
    assert figures_of(page("run", used, facts, ""))["of memory at most"] == "2.50 GiB"
    assert "of memory" not in old_page()


def test_averaged_weights_have_a_figure_and_a_line_of_their_own():
    used = [*records[:2], records[2] | {"averaged_validation_loss": 4.125}]
    made = page("run", used, facts, "")
    assert figures_of(made)["validation loss with averaged weights"] == "4.125"
    assert "validation, averaged weights" in loss_plot(used)
    assert "averaged" not in old_page()


@pytest.mark.parametrize(("name", "label"), [("mfu", "MFU"), ("memory_bytes", "memory (GiB)")])
def test_what_was_recorded_has_a_curve(name: str, label: str):
    used = [records[0], *(record | {name: 0.25} for record in records[1:])]
    old, made = old_page(), page("run", used, facts, "")
    assert made.count("<svg") == old.count("<svg") + 1
    assert f">{label}</text>" in made
    assert f">{label}</text>" not in old


event = {"step": 2, "event": "not_finite", "loss": None, "found": "<b>nan</b>", "sample_ids": [1]}


def test_events_are_listed_and_marked_on_the_curve():
    made = page("run", [*records, event], facts, "")
    assert (
        "<tr><td>2</td><td>not finite</td>"
        "<td>found &lt;b&gt;nan&lt;/b&gt;, sample ids [1]</td></tr>"
    ) in made
    assert ">events</text>" in made
    assert "events" not in old_page().lower()


def test_a_step_that_is_an_event_tells_only_what_explains_it():
    made = page("run", [*records[:2], records[2] | {"event": "spike", "ratio": 3.0}], facts, "")
    assert "<td>spike</td><td>ratio 3</td>" in made


def test_an_event_stands_where_its_step_does():
    between = [{"step": 1, "event": "spike"}, {"step": 2, "event": "spike"}]
    after, before = {"step": 3, "event": "rewound"}, {"step": 0, "event": "out_of_memory"}
    assert event_tokens([*records, *between, after, before]) == [64, 128, 128, 0]
    assert loss_plot([*records, between[0]]) != loss_plot([*records, between[1]])


def test_a_step_that_was_given_up_is_no_part_of_a_curve():
    given_up = {"step": 2, "n_tokens": 500, "loss": 99.0, "seconds": 9.0, "event": "spike"}
    for action in ("rewind", "stop"):
        told = given_up | {"action": action}
        assert with_number([*records, told], "loss") == records[1:]
        retaken = records[2] | {"n_tokens": 128}
        assert event_tokens([*records, told, retaken]) == [500]
    assert with_number([*records, given_up | {"action": "skip"}], "loss")[-1]["loss"] == 99


def test_a_loss_that_is_no_number_leaves_the_curve_as_it_was():
    nothings = (None, float("nan"), float("inf"))
    broken = [records[1] | {"loss": nothing, "n_tokens": 10**9, "step": 3} for nothing in nothings]
    assert with_number([*records, *broken], "loss") == records[1:]
    made = page("run", [*records, *broken], facts, "")
    assert loss_plot(records) in made
    assert "<b>4 s</b>" in made


def test_the_optimizer_groups_are_a_table():
    groups = [
        {"name": "matrices", "parameters": 12345, "weight_decay": 0.1, "fused": True},
        {"name": "<norms>", "parameters": 6, "weight_decay": 0.0, "rate": None},
    ]
    made = page("run", records, facts | {"optimizer_groups": groups}, "")
    assert (
        "<th>name</th><th>parameters</th><th>weight decay</th><th>fused</th><th>rate</th>" in made
    )
    assert "<td>matrices</td><td>12,345</td><td>0.1</td><td>True</td><td></td>" in made
    assert "<td>&lt;norms&gt;</td><td>6</td><td>0</td><td></td><td></td>" in made
    assert "What the optimizer does" not in old_page()


def test_padding_is_told_beside_the_parameters_it_is_no_part_of():
    padded = {"attention": 30, "mlp": 70, "padding": 1234, "total": 100}
    made = page("run", records, facts | {"parameters": padded}, "")
    assert "<td>padding</td>" not in made
    assert "Besides, 1,234 zeros" in made
    assert "Besides" not in page(
        "run", records, facts | {"parameters": padded | {"padding": 0}}, ""
    )


def test_a_run_folder_of_an_older_version_gives_a_page(tmp_path: Path):
    for record in records:
        small.record(tmp_path, record)
    (tmp_path / facts_file).write_text(json.dumps(facts))
    (tmp_path / config_file).write_text("seed = 1\n")
    assert write_report(tmp_path).read_text() == page(tmp_path.name, records, facts, "seed = 1\n")


def test_a_run_without_a_step_has_no_report(tmp_path: Path):
    small.record(tmp_path, records[0])
    with pytest.raises(ValueError, match="has not taken a step yet"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (989.4e12, "989 TFLOP/s"),
        (81.3e9, "81.3 GFLOP/s"),
        (2.25e15, "2.25 PFLOP/s"),
        (5e6, "5e+06 FLOP/s"),
    ],
)
def test_speeds_have_three_digits(rate: float, said: str):
    assert human_rate(rate) == said


def test_the_latest_samples_stand_first():
    made = old_page()
    assert made.index("last &amp; best") < made.index("first&lt;")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (12_000, "3 h 20 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str):
    assert human_seconds(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (831, "831"),
        (12_345, "12.3k"),
        (4_100_000, "4.10M"),
        (2.5e9, "2.50B"),
        (123_400_000, "123M"),
    ],
)
def test_counts_have_three_digits(count: float, said: str):
    assert human_count(count) == said


def test_smoothing_keeps_a_constant_and_lags_a_step():
    assert smoothed([3.0] * 5) == pytest.approx([3.0] * 5)
    assert smoothed([0.0] * 50 + [1.0])[-1] == pytest.approx(0.25 / (1 - 0.75**51), rel=1e-6)
    assert smoothed([0.0] * 499 + [1.0])[-1] == pytest.approx(0.1, rel=1e-6)
