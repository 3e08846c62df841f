"""The pictures of a run, as SVG that stands in the page itself."""

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, Formatter, FuncFormatter, ScalarFormatter

from modelwright.training.metrics import events, is_taken

Records = Sequence[dict[str, Any]]

ink, faint, accent, second = "#1f2933", "#9aa5b1", "#2364aa", "#d1495b"
warning = "#b7791f"
bytes_per_gib = 2**30

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
                [r.get("n_tokens", 0) for r in measured],
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

    return _svg(draw, wide=True)


def learning_rate_plot(records: Records) -> str:
    """Learning rate over steps."""
    return _line(records, "learning_rate", "learning rate")


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


def has_number(records: Records, name: str) -> bool:
    """Whether something was recorded under that name at all."""
    return bool(with_number(records, name))


def with_number(records: Records, name: str) -> list[dict[str, Any]]:
    """The records that hold a finite number under that name, less steps that were given up."""
    return [
        r for r in records if is_taken(r) and r.get(name) is not None and math.isfinite(r[name])
    ]


def event_tokens(records: Records) -> list[float]:
    """How many tokens had been seen at each event, known from the step before if need be."""
    seen = {r["step"]: r["n_tokens"] for r in records if "n_tokens" in r}

    def tokens(event: dict[str, Any]) -> float:
        if "n_tokens" in event:
            return event["n_tokens"]
        return max((n for step, n in seen.items() if step <= event["step"]), default=0)

    return [tokens(event) for event in events(records)]


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

    return _svg(draw, wide=False)


def _svg(draw: Any, *, wide: bool) -> str:
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
