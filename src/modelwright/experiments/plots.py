"""The pictures of a run, as SVG that stands in the page itself."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, FuncFormatter, ScalarFormatter

from modelwright.training.metrics import events, is_taken

Records = Sequence[dict[str, Any]]

ink, faint, accent, second = "#1f2933", "#9aa5b1", "#2364aa", "#d1495b"
warning = "#b7791f"
bytes_per_gib = 2**30
kind_colors = {
    "weights": accent,
    "optimizer": "#6b9bd1",
    "average": "#a9c6e6",
    "batches": faint,
    "gradients": second,
    "activations": "#edae49",
    "loss": "#66a182",
    "temporaries": "#8d6a9f",
    "scratch": "#c9b3d6",
}
letter_share = 0.0105  # of the width of a wide plot, for a letter above it

no_metadata = dict.fromkeys(
    ("Creator", "Date", "Format", "Type")
)  # it would name foreign addresses

style: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
    "svg.fonttype": "none",
    "axes.edgecolor": faint,
    "axes.labelcolor": ink,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.8,
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "legend.frameon": False,
    "svg.hashsalt": "modelwright",
}


def loss_plot(records: Records) -> str:
    """Training loss (each step faint, smoothed strong) and validation loss over tokens.

    Events are marked on the lower edge, where they happened.
    """
    trained = with_number(records, "loss")
    tokens = [r["n_tokens"] for r in trained]
    losses = [r["loss"] for r in trained]

    def draw(axes: Axes) -> None:
        axes.plot(tokens, losses, color=accent, alpha=0.25, linewidth=0.8)
        axes.plot(tokens, smoothed(losses), color=accent, linewidth=1.8, label="training")
        for name, label, line in (
            ("validation_loss", "validation", "-"),
            ("averaged_validation_loss", "validation, averaged weights", ":"),
        ):
            measured = with_number(records, name)
            if not measured:
                continue
            axes.plot(
                tokens_at(records, measured),
                [r[name] for r in measured],
                color=second,
                marker="o",
                markersize=3.5,
                linewidth=1.4,
                linestyle=line,
                label=label,
            )
        where = event_tokens(records)
        if where:
            axes.plot(
                where,
                [0.0] * len(where),
                transform=axes.get_xaxis_transform(),  # the edge, whatever the losses are
                color=warning,
                marker="^",
                markersize=7,
                linestyle="none",
                clip_on=False,
                label="events",
            )
        axes.set_ylabel("loss (nats per token)")
        axes.set_xlabel("tokens seen")
        axes.legend()

    return svg(draw, wide=True)


def learning_rate_plot(records: Records) -> str:
    """Learning rate over steps."""
    return _line(records, "learning_rate", "learning rate")


def forecast_plot(records: Records) -> str:
    """What was said of the last validation loss while it was to come, and what it came to."""
    said = with_number(records, "forecast_loss")
    steps = [r["step"] for r in said]
    last = with_number(records, "validation_loss")[-1]

    def draw(axes: Axes) -> None:
        low, high = ([r[name] for r in said] for name in ("forecast_low", "forecast_high"))
        axes.fill_between(steps, low, high, color=accent, alpha=0.2, linewidth=0)
        axes.plot(steps, [r["forecast_loss"] for r in said], color=accent, linewidth=1.3)
        if last["step"] > steps[-1]:  # the one that was to come
            axes.plot(last["step"], last["validation_loss"], color=second, marker="o", markersize=5)
        axes.set_ylabel("forecast of the last loss")
        axes.set_xlabel("step")

    return svg(draw, wide=False)


def speed_plot(records: Records) -> str:
    """Tokens per second over steps."""
    return _line(records, "tokens_per_second", "tokens per second", from_zero=True)


def gradient_norm_plot(records: Records) -> str:
    """Norm of the gradient before clipping, over steps."""
    return _line(records, "gradient_norm", "gradient norm")


def mfu_plot(records: Records) -> str:
    """Model FLOPs utilisation over steps."""
    percent = FuncFormatter(lambda share, _: f"{share * 100:.3g}%")
    return _line(records, "mfu", "MFU", from_zero=True, values=percent)


def memory_plot(records: Records) -> str:
    """Memory held over steps."""
    return _line(
        records,
        "memory_bytes",
        "memory (GiB)",
        from_zero=True,
        unit=bytes_per_gib,
        values=ScalarFormatter(),
    )


def timeline_plot(timeline: Mapping[str, Any], *, room_bytes: int | None = None) -> str:
    """Memory over a step, what it is held for stacked up, with its parts and its fullest moment.

    Args:
        timeline: of a plan as plain values: "moments", and for each of them bytes by "kinds"; the
            "phases", "n_operations", and which moment is the "peak".
        room_bytes: what tensors can have of the device, a dashed line where it is near.
    """
    kinds: Mapping[str, Sequence[int]] = timeline["kinds"]
    highest = sum(line[timeline["peak"]] for line in kinds.values())
    unit, unit_name = (2**30, "GiB") if highest >= 2**30 else (2**20, "MiB")
    top = 1.25 * highest
    if room_bytes is not None and highest / 2 <= room_bytes <= 2 * highest:
        top = max(top, 1.2 * room_bytes)

    def draw(axes: Axes) -> None:
        axes.stackplot(
            timeline["moments"],
            *([n_bytes / unit for n_bytes in line] for line in kinds.values()),
            colors=[kind_colors.get(kind, faint) for kind in kinds],
            labels=list(kinds),
        )
        axes.set_xlim(0, timeline["n_operations"])
        axes.set_ylim(0, top / unit)
        axes.grid(axis="x", visible=False)
        axes.set_axisbelow(True)
        axes.set_xlabel("operations, in the order in which they are done")
        axes.set_ylabel(f"held ({unit_name})")
        _name_phases(axes, timeline)
        _mark_peak(axes, timeline, highest / unit, f"{highest / unit:.4g} {unit_name} at the peak")
        if room_bytes is not None and room_bytes < top:
            label = f"room for tensors:\n{room_bytes / unit:,.4g} {unit_name}"
            axes.axhline(room_bytes / unit, color=ink, linewidth=1.2, linestyle="--", label=label)
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1, 0.5))

    return svg(draw, wide=True)


def _name_phases(axes: Axes, timeline: Mapping[str, Any]) -> None:
    """Lines between the parts, and their names above; narrow neighbours share a place."""
    whole = timeline["n_operations"]
    begins = [phase["begins"] for phase in timeline["phases"]]
    for begin in begins[1:]:
        axes.axvline(begin, color=ink, linewidth=0.6, alpha=0.35)
    ends = [*begins[1:], whole]
    names = [phase["name"] for phase in timeline["phases"]]
    places = [
        Place(name, begin / whole, end / whole)
        for name, begin, end in zip(names, begins, ends, strict=True)
    ]
    *inner, last = with_room(places)
    for place in inner:
        _write_above(axes, (place.begin + place.end) / 2, place.name, "center")
    # Beyond the last one there is a margin to write in.
    at = last.begin if last.is_cramped else (last.begin + last.end) / 2
    _write_above(axes, at, last.name, "left" if last.is_cramped else "center")


def _write_above(axes: Axes, at: float, name: str, aligned: Literal["left", "center"]) -> None:
    axes.text(
        at,
        1.02,
        name,
        transform=axes.transAxes,
        ha=aligned,
        va="bottom",
        fontsize=9,
        color="#52606d",
    )


@dataclass(frozen=True)
class Place:
    """Where a name stands; from and to, as shares of the width."""

    name: str
    begin: float
    end: float

    @property
    def is_cramped(self) -> bool:
        return self.end - self.begin < letter_share * len(self.name)


def with_room(places: Sequence[Place]) -> list[Place]:
    """Join names that are too long for their places, but for the last, to a narrow neighbour."""
    joined = list(places)
    while True:
        cramped = next((n for n, place in enumerate(joined[:-1]) if place.is_cramped), None)
        if cramped is None:
            return joined
        before = joined[cramped - 1] if cramped else None
        after = joined[cramped + 1]
        goes_back = before is not None and before.end - before.begin < after.end - after.begin
        first = cramped - 1 if goes_back else cramped
        left, right = joined[first : first + 2]
        together = Place(f"{left.name}, {right.name}", left.begin, right.end)
        joined[first : first + 2] = [together]


def _mark_peak(axes: Axes, timeline: Mapping[str, Any], height: float, said: str) -> None:
    """A dot, and its height at the upper edge, where nothing else is."""
    at = timeline["moments"][timeline["peak"]]
    is_late = at > timeline["n_operations"] / 2
    axes.plot([at], [height], marker="o", markersize=5, color=ink, clip_on=False)
    axes.annotate(
        said,
        (at, height),
        xytext=(at / timeline["n_operations"], 0.99),
        textcoords="axes fraction",
        ha="right" if is_late else "left",
        va="top",
        color=ink,
        arrowprops={
            "arrowstyle": "-",
            "color": ink,
            "linewidth": 0.8,
            "relpos": (float(is_late), 0),
        },
    )


def has_number(records: Records, name: str) -> bool:
    """Whether something was recorded under that name at all."""
    return bool(with_number(records, name))


def with_number(records: Records, name: str) -> list[dict[str, Any]]:
    """The records that hold a finite number under that name, less steps that were given up."""
    return [
        r for r in records if is_taken(r) and r.get(name) is not None and math.isfinite(r[name])
    ]


def event_tokens(records: Records) -> list[float]:
    """How many tokens had been seen at each event."""
    return tokens_at(records, events(records))


def tokens_at(records: Records, some: Records) -> list[float]:
    """How many tokens had been seen at some records, known from the step before if need be."""
    return known_at(records, some, "n_tokens")


def known_at(records: Records, some: Records, name: str) -> list[float]:
    """A number that rises with the steps at some records, from the step before if need be.

    A measurement that was made up for stands on a line of its own, which does not say.
    """
    known = {r["step"]: r[name] for r in records if name in r}

    def number(record: dict[str, Any]) -> float:
        if name in record:
            return record[name]
        return max((n for step, n in known.items() if step <= record["step"]), default=0)

    return [number(record) for record in some]


def smoothed(values: Sequence[float]) -> list[float]:
    """Exponential moving average over about a fiftieth of the values, at least four.

    Its start is corrected as Adam corrects its means.
    """
    weight = 1 - 1 / max(4, len(values) / 50)
    mean, out = 0.0, []
    for n, value in enumerate(values, start=1):
        mean = weight * mean + (1 - weight) * value
        out.append(mean / (1 - weight**n))
    return out


def drawn(figure: Figure) -> tuple[str, bytes]:
    """A finished figure as SVG that stands in a page, and as PNG; it is closed."""
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata=no_metadata, transparent=True, bbox_inches="tight")
    figure.savefig(
        png, format="png", metadata={"Software": None}, dpi=200, facecolor="white",
        bbox_inches="tight",
    )  # fmt: skip
    pyplot.close(figure)
    text = svg.getvalue()
    return text[text.index("<svg") :], png.getvalue()


def _line(
    records: Records,
    name: str,
    label: str,
    *,
    from_zero: bool = False,
    unit: float = 1,
    values: Formatter | None = None,
) -> str:
    found = with_number(records, name)

    def draw(axes: Axes) -> None:
        steps, numbers = [r["step"] for r in found], [r[name] / unit for r in found]
        axes.plot(steps, numbers, color=accent, linewidth=1.3)
        axes.set_ylabel(label)
        axes.set_xlabel("step")
        if from_zero:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(values or EngFormatter(sep=""))

    return svg(draw, wide=False)


def svg(draw: Any, *, wide: bool) -> str:
    """A picture that stands in the page, of whatever is drawn on its axes."""
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(8.6, 3.6) if wide else (3.3, 2.4))
        draw(axes)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        figure.tight_layout()
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata=no_metadata, transparent=True)
        pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]
