"""How variants are told apart in every picture of a study, and how its pictures are kept small.

Source of the colours: Okabe and Ito, Color Universal Design (2008), less yellow, which is too light
for a line on white; variants along a number take viridis, which is as readable without colours.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps, colors
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
)

from modelwright.experiments.plots import ink
from modelwright.experiments.study_results import Results
from modelwright.experiments.study_settings import ordering_axis, shown

palette = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
dashes: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (7, 2, 1.5, 2)))
markers = ("o", "s", "^", "D", "v", "P")
better, worse, undecided = "#0072b2", "#d55e00", "#7b8794"
longest_name = 34
wide_range = 12  # differences over the worthwhile one, from which their axis goes by ratio


@dataclass(frozen=True)
class Look:
    """A variant's line and sign, the same in all pictures."""

    name: str
    color: str
    dash: Any
    marker: str
    width: float


def looks_of(results: Results) -> dict[str, Look]:
    """A look for each variant: the baseline in ink, others by hue and dash, or along a number."""
    axis = ordering_axis(results)
    if axis is not None:
        points = axis.lines[0].points
        scale = colormaps["viridis"]
        shade = {
            one.name: colors.to_hex(scale(0.05 + 0.83 * n / max(1, len(points) - 1)))
            for n, (_, one) in enumerate(points)
        }
        return {
            one.name: Look(
                _short(one.name, results), shade[one.name], "-", markers[n % len(markers)],
                2.6 if one.name == results.study.baseline else 1.6,
            )
            for n, (_, one) in enumerate(points)
        }  # fmt: skip
    baseline = results.study.baseline
    looks = {baseline: Look(_short(baseline, results), ink, "-", "o", 2.2)}
    for n, one in enumerate(results.others):
        turn = n // len(palette)
        looks[one.name] = Look(
            _short(one.name, results), palette[n % len(palette)], dashes[turn % len(dashes)],
            markers[(n + 1) % len(markers)], 1.6,
        )  # fmt: skip
    return looks


def _short(name: str, results: Results) -> str:
    short = short_name(name)
    return f"{short} (baseline)" if name == results.study.baseline else short


def short_name(name: str) -> str:
    """A name with room in a picture."""
    return literal(name if len(name) <= longest_name else name[: longest_name - 1] + "…")


def literal(text: str) -> str:
    """A text that matplotlib draws as it stands: between two dollars it would see a formula."""
    return text.replace("$", r"\$")


def name_at_right(axes: Axes, looks: Sequence[Look], *, with_dots: bool = False) -> None:
    """A legend beside the picture, from top to bottom in the order given, so it covers nothing."""
    if not looks:
        return
    handles = [
        Line2D(
            [], [], color=look.color, linestyle=look.dash, linewidth=look.width,
            marker=look.marker if with_dots else None, markersize=4.5, label=look.name,
        )
        for look in looks
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5,
        labelspacing=0.35, handlelength=2.2, borderaxespad=0.2, ncols=1 + (len(looks) - 1) // 22,
    )  # fmt: skip


def number_log(axes: Axes) -> None:
    """Plain numbers on a log y axis, more of them where it covers little more than a decade."""
    low, high = axes.get_ylim()
    digits = (
        (1,) if high / low > 3e3 else (1, 2, 5) if high / low > 12 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    )
    axes.yaxis.set_major_locator(LogLocator(subs=digits))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def needs_ratios(differences: Sequence[float], worthwhile: float) -> bool:
    """Whether an axis of differences has to go by ratio, or the small ones could not be told."""
    sizes = [abs(one) for one in differences]
    most = max(sizes, default=0.0)
    return most > wide_range * worthwhile and min(sizes) < most / wide_range


def number_both_sides(axis: Axis, least: float, most: float) -> None:
    """Round numbers on both sides of zero, from where an axis of differences goes by ratio."""
    decades = range(math.floor(math.log10(least)), math.floor(math.log10(most)) + 1)
    for digits in ((1, 3), (1,)):
        found = [float(f"{digit}e{n}") for n in decades for digit in digits]
        chosen = [value for value in found if least <= value <= most]
        if len(chosen) <= 3:
            break
    axis.set_major_locator(FixedLocator([*(-value for value in chosen), 0, *chosen]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: signed(value)))


def signed(value: float) -> str:
    """A number with its sign, as one prints it: "+0.01", "−0.1", "0"."""
    return f"{value:+g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def setting_label(setting: str) -> str:
    """A setting as the name of an axis: "peak learning rate" for what everybody knows."""
    known = {
        "schedule.peak_lr": "peak learning rate",
        "training.batch_tokens": "batch size (tokens)",
        "training.n_steps": "steps",
        "model.n_layers": "layers",
        "model.d_model": "width",
    }
    return known.get(setting, setting)


def value_label(value: float) -> str:
    """A number under an axis: "0.001", "1e-05", "65,536"."""
    return f"{value:,.0f}" if value == round(value) and value >= 1 else shown(value)


part_of_path = re.compile(r"[A-Za-z]|[-+]?[\d.]+(?:e[-+]?\d+)?")
n_numbers = {"M": 2, "L": 2, "Q": 4, "C": 6, "z": 0}  # of each command in matplotlib's paths
path_data = re.compile(r'( d=")([^"]*)(")')
view_box = re.compile(r'viewBox="0 0 ([\d.]+) ')
pixels_per_point = 1.4
place = re.compile(r'( [xy]=")(-?\d+\.\d+)')
reference = re.compile(r'(?:xlink:href="#|url\(#)([^")]+)')
own_id = re.compile(r' id="([^"]*)"')
identity = re.compile(r'( id="| xlink:href="#|url\(#)')


def compact(svg: str, name: str) -> str:
    """A picture for a page that has many: coordinates to a tenth of a point, and its own ids.

    An id stands for one thing on a page; a picture that is hidden must not lend its own to others.
    Those that the picture itself does not use are left out. The width is such that letters are
    equally large in all pictures, where the page is wide enough.
    """
    wide = view_box.search(svg)
    assert wide is not None, "an SVG of matplotlib says how wide it is"
    used = set(reference.findall(svg))
    lean = own_id.sub(lambda found: found[0] if found[1] in used else "", svg)
    named = identity.sub(rf"\g<1>{name}-", lean)
    short = path_data.sub(lambda found: f"{found[1]}{short_path(found[2])}{found[3]}", named)
    placed = place.sub(lambda found: f"{found[1]}{float(found[2]):.1f}", short)
    width = float(wide[1]) * pixels_per_point
    return placed.replace("<svg ", f'<svg style="max-width:{width:.0f}px" ', 1)


def short_path(data: str) -> str:
    """A path of absolute coordinates to a tenth of a point, told from point to point.

    Points are rounded before the way between them is taken, so that no error adds up.
    """
    parts = part_of_path.findall(data)
    told: list[str] = []
    at, start, last, first = (0, 0), (0, 0), "", 0
    while first < len(parts):
        command = parts[first]
        n = n_numbers[command]
        tenths = [round(10 * float(part)) for part in parts[first + 1 : first + 1 + n]]
        first += 1 + n
        if command == "M":
            told.append("M" + _in_a_row(tenths))
            start = (tenths[0], tenths[1])
        elif command == "z":
            told.append("z")
        else:
            steps = [value - at[index % 2] for index, value in enumerate(tenths)]
            row = _in_a_row(steps)
            gap = "" if row[0] == "-" else " "
            told.append(gap + row if command == last else command.lower() + row)
        at = (tenths[-2], tenths[-1]) if n else start
        last = command
    return "".join(told)


def _in_a_row(tenths: Sequence[int]) -> str:
    """Numbers in as few letters as a path may have them: "1.5-.3 20"."""
    words = [_in_short(value) for value in tenths]
    return "".join(word if not n or word[0] == "-" else f" {word}" for n, word in enumerate(words))


def _in_short(tenths: int) -> str:
    whole, rest = divmod(abs(tenths), 10)
    sign = "-" if tenths < 0 else ""
    return f"{sign}{whole or ''}.{rest}" if rest else f"{sign}{whole}"
