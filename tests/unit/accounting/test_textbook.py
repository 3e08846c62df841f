import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from modelwright.accounting.textbook import (
    TextbookFigure,
    figure_named,
    textbook_figures,
    textbook_page,
)

page = Path(__file__).parents[3] / "docs" / "textbook-figures.md"
each_figure = pytest.mark.parametrize("figure", textbook_figures().values(), ids=lambda one: one.id)


def test_figures_count_up_from_one_in_each_document():
    last: Counter[int] = Counter()
    for figure in textbook_figures().values():
        last[figure.document.number] += 1
        assert figure.id == f"{figure.document.number}.{last[figure.document.number]}"
    assert last == {0: 14, 1: 38, 2: 21, 3: 24, 4: 15}


@each_figure
def test_a_figure_says_everything_and_why_in_one_sentence(figure: TextbookFigure):
    assert figure.claim and figure.said and figure.exact
    assert re.fullmatch(r'["A-Z].*\w\.', figure.why)
    assert not re.search(r"[.!?] [A-Z]", figure.why)
    assert "|" not in "".join(figure.to_json().values())  # it would end a cell of the page


def test_a_figure_is_found_by_its_id():
    figure = figure_named(" 1.33 ")
    assert figure is textbook_figures()["1.33"]
    assert figure.said == "5.2e18"
    assert figure.document.title == "a write-up of CS336 assignment 1"


known = "known are 0.1 to 0.14, 1.1 to 1.38, 2.1 to 2.21, 3.1 to 3.24, 4.1 to 4.15"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("4.99", f"no figure is called '4.99'; did you mean '4.9'? {known}"),
        ("total", f"no figure is called 'total'; {known}"),
    ],
)
def test_an_unknown_figure_is_an_error_that_names_the_nearest(wrong: str, message: str):
    with pytest.raises(ValueError) as raised:
        figure_named(wrong)
    assert str(raised.value) == message


def test_the_page_for_readers_is_what_the_file_says():
    assert page.read_text() == textbook_page(), f"print the page anew, as {page} says"


def test_the_page_shows_a_wrong_figure_as_wrong():
    """The page is written by the code it is compared with, so look at a row by hand."""
    (row,) = [line for line in textbook_page().splitlines() if line.startswith("| 1.14 |")]
    assert row == (
        "| 1.14 | FLOPs of one block, the sum of the six above | 90,596,486,400 | 90,596,966,400 | "
        "**wrong** | Two digits slipped: its own six terms come to 480,000 more. |"
    )


def test_the_figures_are_read_without_torch():
    code = (
        "import sys; from modelwright.accounting.textbook import textbook_page; textbook_page(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
