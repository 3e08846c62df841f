"""Does a learning rate that was found narrow still fit when wider, with `base_width` and without?

    python benchmarks/width.py coordinates [--out FOLDER]
    modelwright study recipes/studies/width.toml
    python benchmarks/width.py transfer studies/width [--out FOLDER]

`coordinates` takes four steps of models of five widths and shows by how much what they compute has
changed, which has to be as much at every width. `transfer` draws the loss over the learning rate of
the study's runs. Both write a picture (SVG, PNG) and print the figures.
"""

import argparse
import dataclasses
import re
from pathlib import Path
from typing import Any

from matplotlib import colormaps, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modelwright.config.loading import load_settings
from modelwright.experiments.coordinates import Coordinates, growth, measure, parts, widened
from modelwright.experiments.landscape_plots import drawn
from modelwright.experiments.plots import style
from modelwright.experiments.study_folder import read_study
from modelwright.experiments.study_record import StudyRecord
from modelwright.runtime.files import write_atomically
from modelwright.training.config import RunConfig

base_width = 32
widths = (32, 64, 128, 256, 512)
settings = (
    "model.vocab_size=512",
    "tokenizer.vocab_size=512",
    "model.context=64",
    "model.n_layers=2",
    f"model.d_model={base_width}",
    "model.n_heads=2",
    "training.batch_tokens=512",
    "schedule.peak_lr=0.008",
)
ways = {"standard": "without base_width", "scaled": f"base_width = {base_width}"}


def coordinates() -> tuple[Figure, str]:
    """Changes after four steps over widths, without the rule and with it."""
    config = load_settings(RunConfig, None, settings).config
    figure, both = pyplot.subplots(1, 2, figsize=(8.6, 3.4), sharey=True)
    lines = []
    for axes, (way, title) in zip(both, ways.items(), strict=True):
        one = dataclasses.replace(config, base_width=base_width if way == "scaled" else None)
        measured = [measure(widened(one, width)) for width in widths]
        _draw_changes(axes, measured, title)
        told = ", ".join(f"{part} {growth(measured, part):+.2f}" for part in parts)
        lines.append(f"{title}: changes grow as the width to the power of {told}")
    both[0].set_ylabel("change after 4 steps (rms)")
    both[1].legend(fontsize=9)
    figure.tight_layout()
    return figure, "\n".join(lines)


def _draw_changes(axes: Axes, measured: list[Coordinates], title: str) -> None:
    for number, part in enumerate(parts):
        axes.plot(
            [one.width for one in measured],
            [one.changes[part][-1] for one in measured],
            color=colormaps["viridis"](0.1 + 0.38 * number),
            marker="o",
            markersize=4.5,
            label=part,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.set_xlabel("width")
    axes.set_title(title, fontsize=10)


def transfer(record: StudyRecord) -> tuple[Figure, str]:
    """The loss over the learning rate, a line a width."""
    losses: dict[tuple[str, int], dict[float, float | None]] = {}
    for variant in record.variants:
        named = re.match(r"(standard|scaled)-(\d+)_", variant.name)
        if named is None:
            raise ValueError(
                f"{variant.name!r} is no variant of recipes/studies/width.toml, such as "
                "standard-32_peak_lr-0.002; name the folder of that study"
            )
        way, width = named.groups()
        found = [
            run.final["validation_loss"]
            for run in record.runs_of(variant.name)
            if run.outcome == "finished"
        ]
        rate = float(str(variant.changes["schedule.peak_lr"]))
        mean = sum(found) / len(found) if found else None
        losses.setdefault((way, int(width)), {})[rate] = mean
    figure, both = pyplot.subplots(1, 2, figsize=(8.6, 3.4), sharey=True)
    lines = []
    for axes, (way, title) in zip(both, ways.items(), strict=True):
        these = {width: curve for (one, width), curve in losses.items() if one == way}
        for number, (width, curve) in enumerate(sorted(these.items())):
            kept = {rate: loss for rate, loss in sorted(curve.items()) if loss is not None}
            color: Any = colormaps["viridis"](0.1 + 0.75 * number / max(1, len(these) - 1))
            axes.plot(list(kept), list(kept.values()), color=color, marker="o", markersize=4,
                      label=str(width))  # fmt: skip
            best = min(kept, key=lambda rate: kept[rate])
            axes.plot([best], [kept[best]], marker="*", markersize=12, color=color)
            told = ", ".join(
                f"{rate:g} {'diverged' if loss is None else f'{loss:.3f}'}"
                for rate, loss in sorted(curve.items())
            )
            lines.append(f"{title}, width {width}: best at {best:g}; {told}")
        axes.set_xscale("log", base=2)
        rates = sorted({rate for curve in these.values() for rate in curve})
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.set_xlabel("peak learning rate")
        axes.set_title(title, fontsize=10)
    both[0].set_ylabel("validation loss (nats per token)")
    both[1].legend(title="width", fontsize=9)
    figure.tight_layout()
    return figure, "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["coordinates", "transfer"])
    parser.add_argument("study", type=Path, nargs="?", help="the folder of the study, for transfer")
    parser.add_argument("--out", type=Path, default=Path())
    given = parser.parse_args()
    if given.what == "transfer" and given.study is None:
        parser.error("transfer needs the study's folder, such as studies/width")
    with pyplot.rc_context(style):
        figure, text = (
            coordinates() if given.what == "coordinates" else transfer(read_study(given.study))
        )
        svg, png = drawn(figure)
    print(text)
    given.out.mkdir(parents=True, exist_ok=True)
    for ending, content in (("svg", svg), ("png", png)):
        path = given.out / f"width-{given.what}.{ending}"
        write_atomically(path, content)
        print(path)


if __name__ == "__main__":
    main()
