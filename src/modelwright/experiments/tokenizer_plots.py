"""The picture of a tokenizer: how long its tokens are, and what more of them would save."""

import io
from collections.abc import Mapping

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator, StrMethodFormatter

from modelwright.experiments.plots import accent, ink, second, style

_LONGEST_BAR = 24


def tokenizer_picture(
    n_tokens_by_length: Mapping[int, int], bytes_per_token_by_size: Mapping[int, float]
) -> bytes:
    """Draw a PNG: a histogram of token lengths and, if it was measured, compression over size."""
    n_panels = 2 if bytes_per_token_by_size else 1
    with pyplot.rc_context(style):
        figure, panels = pyplot.subplots(1, n_panels, figsize=(4.3 * n_panels, 3.4), squeeze=False)
        _draw_lengths(panels[0, 0], n_tokens_by_length)
        if bytes_per_token_by_size:
            _draw_compression(panels[0, 1], bytes_per_token_by_size)
        figure.tight_layout()
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=150)
        pyplot.close(figure)
    return out.getvalue()


def _draw_lengths(axes: Axes, n_tokens_by_length: Mapping[int, int]) -> None:
    """Bars, of which the last takes in everything that is longer."""
    bars = dict.fromkeys(range(1, min(_LONGEST_BAR, max(n_tokens_by_length)) + 1), 0)
    for length, n_tokens in n_tokens_by_length.items():
        bars[min(length, _LONGEST_BAR)] += n_tokens
    axes.bar(list(bars), list(bars.values()), color=accent, width=0.8)
    axes.grid(axis="x", visible=False)
    axes.set_axisbelow(True)
    axes.set_xlim(0.4, len(bars) + 0.6)
    axes.set_xlabel("length of a token (bytes)")
    axes.set_ylabel("number of tokens")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    if max(n_tokens_by_length) > _LONGEST_BAR:
        label = f"{_LONGEST_BAR} or more"
        axes.annotate(
            label,
            (_LONGEST_BAR, bars[_LONGEST_BAR]),
            xytext=(0, 6),
            textcoords="offset points",
            ha="right",
            color=ink,
        )


def _draw_compression(axes: Axes, bytes_per_token_by_size: Mapping[int, float]) -> None:
    sizes, values = list(bytes_per_token_by_size), list(bytes_per_token_by_size.values())
    axes.plot(sizes, values, color=second, marker="o", markersize=3.5, linewidth=1.4)
    axes.set_xscale("log", base=4)
    axes.set_xlabel("number of tokens, from the first merges")
    axes.set_ylabel("bytes per token on the sample")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
