"""The picture of a text: how long its documents are, and where its tokens come from."""

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator, PercentFormatter

from modelwright.experiments.plots import accent, no_metadata, second, style


def document_lengths_plot(histogram: Mapping[str, Sequence[int]]) -> str:
    """Draw the share of documents, and of tokens, by the length of the document, as SVG.

    Args:
        histogram: "edges" in tokens, ascending, and for each bin between two of them the
            "n_documents" and their "n_tokens".
    """
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(8.6, 3.2))
        _draw_lengths(axes, histogram)
        figure.tight_layout()
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata=no_metadata, transparent=True)
        pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]


def _draw_lengths(axes: Axes, histogram: Mapping[str, Sequence[int]]) -> None:
    edges = list(histogram["edges"])
    documents, tokens = (shares(histogram[name]) for name in ("n_documents", "n_tokens"))
    widths = [b - a for a, b in pairwise(edges)]
    axes.bar(
        edges[:-1],
        documents,
        widths,
        align="edge",
        color=accent,
        edgecolor="white",
        linewidth=0.8,
        alpha=0.85,
        label="documents",
    )
    axes.stairs(tokens, edges, color=second, linewidth=1.8, label="their tokens")
    axes.set_xscale("log", base=2)
    margin = 1 if len(widths) >= 4 else 2  # a single bar would fill the picture
    low, high = edges[0] / margin, edges[-1] * margin
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.15 * max(*documents, *tokens))
    axes.grid(axis="x", visible=False)
    axes.set_axisbelow(True)
    axes.set_xlabel("length of a document (tokens)")
    axes.set_ylabel("share of all")
    axes.xaxis.set_major_locator(FixedLocator(round_numbers(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend()


def shares(counts: Sequence[int]) -> list[float]:
    """Each count as a part of their sum."""
    total = sum(counts) or 1
    return [count / total for count in counts]


def round_numbers(low: float, high: float) -> list[float]:
    """The numbers 1, 2, 5, 10, 20, 50 and on from `low` to `high`; more where these are few."""
    for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        found = [
            digit * 10**power
            for power in range(len(str(int(high))))
            for digit in digits
            if low <= digit * 10**power <= high and digit * 10**power == int(digit * 10**power)
        ]
        if len(found) >= 4:
            return found
    return found or [low, high]
