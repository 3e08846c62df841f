import pytest

from modelwright.experiments.plots import smoothed
from modelwright.experiments.report import human_count, human_seconds, page

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


def test_what_the_model_writes_is_shown_as_text_never_as_markup():
    made = page("a <run>", records, facts, "key = '<value>'")
    assert "<b>first" not in made
    assert "&lt;b&gt;first&lt;/b&gt;" in made
    assert "last &amp; best" in made
    assert "a &lt;run&gt;" in made
    assert "&lt;value&gt;" in made


def test_the_head_figures_are_those_of_the_record():
    made = page("run", records, facts, "")
    for figure in (
        "<b>4.250</b>",
        "<b>1.500</b>",
        "<b>100</b>",
        "<b>128</b>",
        "<b>4 s</b>",
        "<b>32</b>",
    ):
        assert figure in made


def test_the_latest_samples_stand_first():
    made = page("run", records, facts, "")
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
