import re
from pathlib import Path

import pytest

import small
from modelwright.data.inspection import (
    DataInspection,
    Excerpt,
    Histogram,
    Lengths,
    Side,
    training_histogram,
)
from modelwright.data.packing import PackingReport
from modelwright.experiments.data_plots import document_lengths_plot, round_numbers, shares
from modelwright.experiments.data_report import data_page
from modelwright.experiments.report import page as run_page
from modelwright.training.assembly import fresh_state, prepare
from modelwright.training.record import run_facts

histogram = Histogram((64, 128, 256), (3, 1), (300, 200))
lengths = Lengths(70, 100.0, 125.0, 180.0, 199.0, 200, histogram)


def side(**changes) -> Side:
    values = {
        "n_tokens": 500,
        "n_documents": 4,
        "n_bytes": 2000,
        "n_shards": 1,
        "bytes_on_disk": 1168,
        "lengths": lengths,
        "excerpts": (Excerpt(70, "<b>once</b> & again", True), Excerpt(200, "a start", False)),
    }
    return Side(**(values | changes))


def inspection(**facts) -> DataInspection:
    empty = side(n_tokens=0, n_documents=0, n_bytes=0, n_shards=0, lengths=None, excerpts=())
    return DataInspection(
        Path("some/<data>"), {"train": side(), "validation": empty}, "ab" * 32, 300, facts
    )


def test_what_the_text_holds_is_shown_as_text_never_as_markup():
    page = data_page(inspection(settings={"data.source": "<i>"}, dropped={"<u>": 3}))
    assert "&lt;b&gt;once&lt;/b&gt; &amp; again" in page
    assert "&lt;data&gt;" in page
    assert not re.search("<[biu]>(?!\\d)", page)


def test_the_figures_of_each_side_are_in_the_table():
    page = data_page(inspection())
    for row in (
        "<td>tokens</td><td>500</td><td>0</td>",
        "<td>bytes per token</td><td>4.000</td><td>not known</td>",
        "<td>median document</td><td>100</td><td>none</td>",
        "<td>99 % are up to</td><td>199</td><td>none</td>",
    ):
        assert row in page


def test_a_side_without_documents_has_no_picture():
    page = data_page(inspection())
    assert page.count("<svg") == 1
    assert "How long the train documents are" in page
    assert "The first validation documents" not in page


def test_a_document_that_goes_on_is_marked():
    page = data_page(inspection())
    assert "<blockquote>a start …</blockquote>" in page
    assert "again</blockquote>" in page


def test_sources_are_told_with_their_share_of_the_tokens():
    sources = [
        {"path": "a.txt", "weight": 1.0, "n_documents": 3, "n_bytes": 9, "n_tokens": 30},
        {"path": "b.txt", "weight": 0.5, "n_documents": 1, "n_bytes": 9, "n_tokens": 10},
    ]
    page = data_page(inspection(sources=sources, dropped={"too short": 1200}))
    assert "<td>a.txt</td><td>1</td><td>3</td><td>30</td><td>75.0%</td>" in page
    assert "<td>b.txt</td><td>0.5</td><td>1</td><td>10</td><td>25.0%</td>" in page
    assert "Left out: 1,200 too short." in page
    assert "Sources" not in data_page(inspection())


def test_a_page_needs_no_network():
    page = data_page(inspection())
    assert not re.search(r"(src|href)=['\"](?!data:|#)", page)
    assert "<script" not in page


@pytest.mark.parametrize(
    "changes", [{"edges": [64, 100, 256]}, {"n_documents": [1, 3]}, {"n_tokens": [200, 300]}]
)
def test_every_part_of_the_histogram_shows_in_the_picture(changes):
    values = {"edges": [64, 128, 256], "n_documents": [3, 1], "n_tokens": [300, 200]}
    assert document_lengths_plot(values) != document_lengths_plot(values | changes)
    assert document_lengths_plot(values) == document_lengths_plot(values)


@pytest.mark.parametrize("edges", [[1, 2], [300_000, 310_000], [2**i for i in range(20)]])
def test_any_histogram_can_be_drawn(edges: list[int]):
    ones = [1] * (len(edges) - 1)
    made = document_lengths_plot({"edges": edges, "n_documents": ones, "n_tokens": ones})
    assert made.startswith("<svg")
    assert "documents" in made


def test_shares_are_parts_of_the_sum():
    assert shares([3, 1]) == [0.75, 0.25]
    assert shares([0, 0]) == [0, 0]


def test_ticks_are_round_numbers_within_the_axis():
    assert round_numbers(1, 100) == [1, 2, 5, 10, 20, 50, 100]
    assert round_numbers(64, 256) == [80, 100, 150, 200]
    assert round_numbers(285_870, 311_744) == [300_000]


def test_how_rows_of_a_context_fill_has_a_section():
    report = PackingReport(
        n_rows=8, n_tokens=500, n_padding=12, n_documents=4, n_documents_cut=1, n_pieces=10
    )
    page = data_page(inspection(), {"train": {"packed": report}}, 64)
    assert "The train side in rows of 64 tokens" in page
    assert "<td>padding</td><td>2.34%</td>" in page
    assert "<td>documents cut</td><td>25.00%</td>" in page
    assert "<td>documents in a row</td><td>1.25</td>" in page


def test_the_report_of_a_run_tells_how_long_its_documents_are(tmp_path: Path):
    prepared = prepare(small.run_config(tmp_path))
    facts = run_facts(prepared, fresh_state(prepared))
    assert facts["document_lengths"] == training_histogram(prepared.data.folder)
    records = [
        {"step": 0, "validation_loss": 5.0, "validation_bits_per_byte": 2.0},
        {
            "step": 1,
            "loss": 4.5,
            "learning_rate": 0.1,
            "gradient_norm": 1.0,
            "n_tokens": 64,
            "seconds": 2.0,
            "tokens_per_second": 32.0,
        },
    ]
    made = run_page("run", records, facts, "")
    counts = facts["data"]["train"]
    mean = counts["n_tokens"] / counts["n_documents"]
    assert f"{counts['n_documents']:,} documents to learn from, {mean:,.0f} tokens long" in made
    assert "length of a document (tokens)" in made
    del facts["document_lengths"]
    assert "<h2>Text</h2>" not in run_page("run", records, facts, "")
