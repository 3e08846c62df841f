"""Every figure of the textbooks beside what our own functions give.

Nothing stands under `exact` that `textbook_values.py` does not compute, and the same numbers judge
what is said.
"""

from collections import Counter

import pytest

from modelwright.accounting.textbook import TextbookFigure, Verdict, textbook_figures
from quantities import quantities
from textbook_values import right_values

# What these say is no number, or its numbers are not those under `exact`.
said_in_words = {
    "0.14", "1.34", "1.38", "2.10", "2.12", "3.12", "3.13", "3.20", "3.21", "3.23", "3.24",
    "4.10", "4.11", "4.13", "4.14",
}  # fmt: skip

each_figure = pytest.mark.parametrize("figure", textbook_figures().values(), ids=lambda one: one.id)


def test_every_figure_has_a_function():
    assert set(right_values) == set(textbook_figures())


@each_figure
def test_the_exact_numbers_are_what_our_functions_give(figure: TextbookFigure):
    shown, values = quantities(figure.exact), right_values[figure.id]()
    assert len(shown) == len(values), f"{shown} beside {values}"
    for quantity, value in zip(shown, values, strict=True):
        assert quantity.shows(value), f"{quantity} beside {value}"


@each_figure
def test_the_verdict_follows_from_the_numbers(figure: TextbookFigure):
    values, claimed = right_values[figure.id](), quantities(figure.said)
    if figure.verdict == "not recomputable":
        assert figure.exact.startswith("not recomputable")
        return
    if figure.id in said_in_words:
        return
    assert 0 < len(claimed) <= len(values) or figure.verdict == "wrong"
    pairs = list(zip(claimed, values, strict=False))
    if figure.verdict == "right":
        assert all(one.shows(value) for one, value in pairs)
    elif figure.verdict == "rounded":
        assert all(one.shows(value, round_figures=True) for one, value in pairs)
    elif figure.verdict == "approximate":
        assert all(one.value == pytest.approx(value, rel=0.1) for one, value in pairs)
    elif figure.verdict == "right sum, wrong premise":
        assert claimed[0].shows(values[0])
        assert not claimed[0].shows(values[-1])
    else:
        assert figure.verdict == "wrong"
        assert not claimed[0].shows(values[0])


def test_what_is_said_in_words_is_right_wrong_or_near():
    """The functions themselves assert what can be asserted of these."""
    verdicts = Counter(textbook_figures()[one].verdict for one in said_in_words)
    assert verdicts == {"right": 8, "wrong": 4, "approximate": 3}


def test_so_many_figures_have_each_verdict():
    expected: dict[Verdict, int] = {
        "right": 42,
        "wrong": 38,
        "rounded": 12,
        "approximate": 12,
        "right sum, wrong premise": 4,
        "not recomputable": 4,
    }
    assert Counter(figure.verdict for figure in textbook_figures().values()) == expected


@pytest.mark.parametrize(
    ("text", "value", "shows"),
    [
        ("38.4 million", 38_449_999, True),
        ("38.4 million", 39_383_808, False),
        ("1,974 MB", 1_974_140_928, True),
        ("5.2e18", 5.2275e18, True),
        ("5.2e18", 5.2275e21, False),
        ("0x4248", 0x4248, True),
        ("70%", 0.6944, False),
        ("96.3%", 0.96351, False),
    ],
)
def test_a_number_is_compared_to_the_digits_that_it_shows(text: str, value: float, shows: bool):
    (quantity,) = quantities(text)
    assert quantity.shows(value) == shows


@pytest.mark.parametrize(
    ("text", "value", "shows"),
    [("70%", 0.6944, True), ("70%", 0.76, False), ("3,000", 2_950, True), ("3,010", 3_001, False)],
)
def test_round_figures_have_fewer_digits(text: str, value: float, shows: bool):
    (about,) = quantities(text)
    assert about.shows(value, round_figures=True) == shows


def test_only_numbers_are_taken_for_numbers():
    text = "GPT-2 in fp32 keeps 24 BHT² and 8.508 GB; 1,024 of 3.1e5"
    found = [(one.digits, one.unit) for one in quantities(text)]
    assert found == [("24", ""), ("8.508", "GB"), ("1,024", ""), ("3.1e5", "")]
