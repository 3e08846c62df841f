"""Figures that people read about what models take, and what is right instead.

`textbook.toml` beside this file holds them, from five documents, with a verdict on each;
`docs/textbook-figures.md` shows them to readers. The tests compute every right value anew from the
functions of this room.
"""

import difflib
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, get_args

Verdict = Literal[
    "right",
    "rounded",  # right, to as many digits as it shows
    "approximate",  # near, or right under another reading
    "wrong",
    "right sum, wrong premise",
    "not recomputable",  # the document does not say what would be needed
]


@dataclass(frozen=True, kw_only=True)
class TextbookDocument:
    """A document that figures are taken from, named by what it is."""

    number: int
    title: str


@dataclass(frozen=True, kw_only=True)
class TextbookFigure:
    """A figure as a document has it, and as it should be.

    Attributes:
        id: the document's number and the figure's own, such as "1.33".
        claim: what the figure is said to be.
        exact: the right value first, then what else there is to compare with.
        why: one sentence; of a wrong figure, what went wrong.
    """

    id: str
    document: TextbookDocument
    claim: str
    said: str
    exact: str
    verdict: Verdict
    why: str

    def to_json(self) -> dict[str, str]:
        """Everything in it, with the document by its title."""
        return {
            "id": self.id,
            "document": self.document.title,
            "claim": self.claim,
            "said": self.said,
            "exact": self.exact,
            "verdict": self.verdict,
            "why": self.why,
        }


@cache
def textbook_figures() -> Mapping[str, TextbookFigure]:
    """All figures by id, document by document."""
    text = (files("modelwright.accounting") / "textbook.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    documents = {row["number"]: TextbookDocument(**row) for row in content["document"]}
    return MappingProxyType({row["id"]: _figure(row, documents) for row in content["figure"]})


def figure_named(figure_id: str) -> TextbookFigure:
    """The figure with that id.

    Raises:
        ValueError: if there is none; names the nearest and says which there are.
    """
    known = textbook_figures()
    wanted = figure_id.strip()
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(repr(one) for one in near)}?" if near else ";"
    raise ValueError(f"no figure is called {figure_id!r}{hint} known are {_ranges()}")


def _ranges() -> str:
    """The ids without listing them all; within a document they count up from 1."""
    counts = Counter(figure.document.number for figure in textbook_figures().values())
    return ", ".join(f"{number}.1 to {number}.{last}" for number, last in counts.items())


def textbook_page() -> str:
    """All of `docs/textbook-figures.md`."""
    figures = list(textbook_figures().values())
    documents = dict.fromkeys(figure.document for figure in figures)
    counts = Counter(figure.verdict for figure in figures)
    tally = " · ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict))
    parts = [_opening.format(n_figures=len(figures), n_documents=len(documents), tally=tally)]
    for document in documents:
        title = document.title[0].upper() + document.title[1:]
        rows = [_row(figure) for figure in figures if figure.document == document]
        parts.append("\n".join((f"## {document.number}. {title}", "", *_head, *rows)))
    return "\n\n".join([*parts, _closing])


_opening = """# Figures from textbooks, recomputed

What {n_documents} documents that people learn from say about parameters, FLOPs, bytes and tokens,
and what is right. Of {n_figures} figures: {tally}.

`modelwright explain 1.33` shows one of them, `modelwright explain` lists them all. *Rounded* is
right to the digits that are shown; *approximate* is near, or right under another reading. Where a
figure is about the memory of a training step, "our step" is that of this project, not compiled and
on a GPU: its loss never holds all logits, so it takes less than one written plainly. How its
memory comes about is in [memory.md](memory.md)."""

_closing = """The tables are `src/modelwright/accounting/textbook.toml`. A test computes every
number under *exact* anew, judges what is said by it, and compares this page with the file. After a
change there, print the page with

    python -c "from modelwright.accounting import textbook; print(textbook.textbook_page(), end='')"
"""

_head = ("| | figure | said | exact | verdict | why |", "|---|---|---|---|---|---|")


def _row(figure: TextbookFigure) -> str:
    verdict = f"**{figure.verdict}**" if "wrong" in figure.verdict else figure.verdict
    cells = (figure.id, figure.claim, figure.said, figure.exact, verdict, figure.why)
    return f"| {' | '.join(cells)} |"


def _figure(row: dict[str, Any], documents: Mapping[int, TextbookDocument]) -> TextbookFigure:
    """A row of the file; an unknown or missing key is an error."""
    document = documents[int(row["id"].split(".")[0])]
    assert row["verdict"] in get_args(Verdict), row
    return TextbookFigure(document=document, **row)
