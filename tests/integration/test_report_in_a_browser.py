"""The report of a study in a real browser: quiet, alone, and switched without a script.

`make test-browser` runs this, after Chromium is installed; MODELWRIGHT_SCREENSHOTS names a folder
that is to have the pictures of the page.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import simulated_study
from browser import Browser
from modelwright.experiments.study_report import write_study_report

pytestmark = pytest.mark.browser

shown = """Array.from(document.querySelectorAll('.panels > div'))
    .filter(panel => getComputedStyle(panel).display != 'none').map(panel => panel.className)"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    study = simulated_study.write_simulated(
        folder, simulated_study.twelve(), samples=True, question="Which change lowers the loss?"
    )
    return write_study_report(study, folder)


@pytest.fixture
def browser(page: Path) -> Iterator[Browser]:
    with Browser(1280, 900) as browser:
        browser.open(page)
        yield browser


def test_the_browser_hears_a_page_that_is_not_quiet(tmp_path: Path):
    page = tmp_path / "loud.html"
    page.write_text("<!doctype html><img src='missing.png'><script>console.log(1); none()</script>")
    with Browser(800, 600) as browser:
        browser.open(page)
        assert len(browser.asked_for) == 2
        assert len(browser.complaints) >= 2


def test_the_page_loads_nothing_but_itself_and_says_nothing(browser: Browser, page: Path):
    outside = [url for url in browser.asked_for if not url.startswith("data:")]
    assert outside == [page.resolve().as_uri()]
    assert browser.complaints == []
    assert browser.evaluate("document.compatMode") == "CSS1Compat"


def test_every_choice_shows_its_picture_and_no_other(browser: Browser):
    browser.call(
        "Emulation.setScriptExecutionDisabled", value=True
    )  # the page's own, if it had any
    groups = [
        ("step", "tokens", "seconds", "flops"),
        ("smoothed", "difference", "raw", "validation"),
        ("linear", "log"),
    ]
    assert browser.evaluate(shown) == ["step-smoothed-linear"]
    for key in itertools.product(*groups):
        for n, choice in enumerate(key):
            browser.evaluate(
                f"document.querySelector(\"label[for='curves-{n}-{choice}']\").click()"
            )
        assert browser.evaluate(shown) == ["-".join(key)]
        size = browser.evaluate(
            "(box => [box.width, box.height])(document.querySelector"
            f"('.panels > .{'-'.join(key)} svg').getBoundingClientRect())"
        )
        assert min(size) > 200


@pytest.mark.parametrize("width", [1280, 700, 400])
def test_the_page_is_no_wider_than_its_window(browser: Browser, width: int):
    browser.resize(width, 900)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('svg text').length") > 100
    folder = os.environ.get("MODELWRIGHT_SCREENSHOTS")
    if folder:
        Path(folder, f"report-{width}.png").write_bytes(browser.screenshot())
