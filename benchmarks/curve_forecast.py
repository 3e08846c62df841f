"""How far off is the loss that a run says it is going to end at?

    python benchmarks/curve_forecast.py train calibration FOLDER --text stories --text NAME=TEXTS
    python benchmarks/curve_forecast.py train held-out FOLDER --text NAME=TEXTS
    python benchmarks/curve_forecast.py table RUNS [RUNS ...]
    python benchmarks/curve_forecast.py constants RUNS

`train` trains small models on one core, one folder a run, and goes on where it was stopped. `table`
goes through finished runs as if they were training now: what they would have said, and what came.
`constants` finds the values of `Usual` under which the ends of the runs are likeliest.
"""

import argparse
import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from modelwright.config.loading import load_settings
from modelwright.training.config import RunConfig
from modelwright.training.curve_forecast import Curve, Forecast, Usual, n_deviations
from modelwright.training.metrics import config_file, read_metrics
from modelwright.training.runs import resume, train

# Of each run: d_model, steps, schedule, peak rate.
Case = tuple[int, int, str, float]
cases: dict[str, list[Case]] = {
    "calibration": [
        (32, 600, "cosine", 0.01),
        (64, 1000, "cosine", 0.004),
        (64, 1000, "linear", 0.004),
        (64, 1000, "wsd", 0.004),
        (64, 1000, "constant", 0.004),
        (64, 3000, "cosine", 0.004),
        (64, 1000, "cosine", 0.001),
        (64, 1000, "cosine", 0.016),
        (128, 1500, "cosine", 0.003),
        (32, 4000, "linear", 0.008),
        (128, 600, "wsd", 0.006),
        (64, 2000, "wsd", 0.002),
    ],
    "held-out": [
        (96, 800, "cosine", 0.003),
        (96, 1600, "cosine", 0.006),
        (48, 2500, "linear", 0.003),
        (96, 1200, "wsd", 0.003),
        (48, 1000, "cosine", 0.008),
    ],
}
shares = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
farthest = 4.0  # deviations beyond which a miss counts by its size alone


@dataclass(frozen=True)
class Said:
    """What a run said, and what came."""

    share: float
    forecast: Forecast
    end: float

    @property
    def error(self) -> float:
        """As a share of what came."""
        return self.forecast.loss / self.end - 1

    @property
    def is_inside(self) -> bool:
        return self.forecast.low <= self.end <= self.forecast.high


def train_all(which: str, folder: Path, texts: dict[str, str]) -> None:
    """Train what is missing; held-out models are deeper, decay to nothing, and some have Muon."""
    torch.set_num_threads(1)
    is_held_out = which == "held-out"
    todo = [(text, case) for text in texts for case in cases[which]]
    for number, (text, (width, n_steps, kind, rate)) in enumerate(todo):
        run = folder / f"{number:02}-{text}-{width}-{n_steps}-{kind}-{rate}"
        settings = [
            "data.stories_bytes=20_000_000",
            f"data.source={texts[text]}",
            f"data.folder={folder.parent / f'data-{text}'}",
            "data.validation_fraction=0.01",
            "tokenizer.vocab_size=2048",
            "model.context=128",
            f"model.d_model={width}",
            f"model.n_layers={3 if is_held_out else 2}",
            f"model.n_heads={3 if is_held_out else 2}",
            f"optimizer.kind={'muon' if is_held_out and number % 3 == 1 else 'adamw'}",
            f"schedule.kind={kind}",
            f"schedule.peak_lr={rate}",
            f"schedule.floor={0.0 if is_held_out else 0.1}",
            f"training.n_steps={n_steps}",
            "training.batch_tokens=1024",
            "training.micro_batch=8",
            "training.precision=fp32",
            "training.device=cpu",
            "training.lanes=1",
            "training.tensorboard=false",
            f"evaluation.every_steps={n_steps // 10}",
            "evaluation.n_tokens=65_536",
            f"samples.every_steps={10 * n_steps}",
            f"checkpoints.every_steps={n_steps // 2}",
            f"seed={number + 1}",
        ]
        if (run / config_file).exists():
            resume(run)
        else:
            train(load_settings(RunConfig, None, settings).config, run)
        print(f"{run.name}: {read_metrics(run)[-1]['validation_loss']:.3f}", flush=True)


@dataclass(frozen=True)
class Run:
    """A finished run."""

    name: str
    config: RunConfig
    records: list[dict[str, Any]]

    @property
    def end(self) -> float:
        return self.records[-1]["validation_loss"]

    def replay(self, usual: Usual | None = None) -> Iterator[Said]:
        """What it says along the way."""
        n_steps = self.config.training.n_steps
        curve = Curve(self.config.schedule, n_steps=n_steps, usual=usual)
        for record in self.records:
            if record.get("validation_loss") is not None:
                forecast = curve.forecast(record["step"], record["validation_loss"])
                if forecast is not None:
                    yield Said(record["step"] / n_steps, forecast, self.end)
            curve.add(record)


def runs_in(folders: Sequence[Path]) -> list[Run]:
    """The finished runs in some folders."""
    found = [path.parent for folder in folders for path in sorted(folder.glob(f"*/{config_file}"))]
    runs = [
        Run(run.name, load_settings(RunConfig, run / config_file).config, read_metrics(run))
        for run in found
    ]
    return [run for run in runs if run.records[-1]["step"] == run.config.training.n_steps]


def table(folders: Sequence[Path]) -> str:
    """A line for each run, and one for each share of the steps."""
    said = {run.name: (run.end, list(run.replay())) for run in runs_in(folders)}
    shown = (0.3, 0.5, 0.7)
    lines = [
        "| run | end | " + " | ".join(f"at {share:.0%}" for share in shown) + " |",
        "| --- | ---: |" + " ---: |" * len(shown),
    ]
    for name, (end, forecasts) in said.items():
        cells = [
            f"{one.forecast}, {one.error:+.1%}{'' if one.is_inside else ' (outside)'}"
            for share in shown
            for one in forecasts
            if math.isclose(one.share, share, abs_tol=0.01)
        ]
        lines.append(f"| {name} | {end:.3f} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| made after | runs | off, in the median | at most | ends inside | half the interval |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for share in shares:
        those = [
            one
            for _, forecasts in said.values()
            for one in forecasts
            if math.isclose(one.share, share, abs_tol=0.01)
        ]
        if those:
            errors = [abs(one.error) for one in those]
            half = statistics.median(
                (one.forecast.high - one.forecast.low) / 2 / one.end for one in those
            )
            lines.append(
                f"| {share:.0%} | {len(those)} | {statistics.median(errors):.1%} | "
                f"{max(errors):.1%} | {sum(one.is_inside for one in those)} | {half:.1%} |"
            )
    return "\n".join(lines)


def constants(folders: Sequence[Path]) -> Usual:
    """The values under which the ends of the runs are likeliest."""
    from scipy.optimize import minimize

    runs = runs_in(folders)
    names = [field.name for field in dataclasses.fields(Usual)]

    def surprise(logs: Any) -> float:
        usual = Usual(**{name: math.exp(log) for name, log in zip(names, logs, strict=True)})
        total, n_said = 0.0, 0
        for run in runs:
            for one in run.replay(usual):
                deviation = math.log(one.forecast.high / one.forecast.loss) / n_deviations
                z = abs(math.log(one.end / one.forecast.loss)) / deviation
                is_far = z > farthest
                cost = farthest**2 / 2 + farthest * (z - farthest) if is_far else z * z / 2
                total += math.log(deviation) + cost
                n_said += 1
        return total / n_said

    start = [math.log(getattr(Usual(), name)) for name in names]
    options = {"maxfev": 800, "xatol": 0.02, "fatol": 1e-4}
    found = minimize(surprise, start, method="Nelder-Mead", options=options)
    return Usual(**{name: math.exp(log) for name, log in zip(names, found.x, strict=True)})


def main() -> None:
    parser = argparse.ArgumentParser(
        description="How far off is the loss that a run says it will end at?"
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    trains = verbs.add_parser("train")
    trains.add_argument("which", choices=list(cases))
    trains.add_argument("folder", type=Path)
    trains.add_argument("--text", action="append", required=True, help="stories, or NAME=FOLDER")
    for verb in ("table", "constants"):
        verbs.add_parser(verb).add_argument("folders", type=Path, nargs="+")
    asked = parser.parse_args()
    match asked.verb:
        case "train":
            texts = dict(text.split("=", 1) if "=" in text else (text, text) for text in asked.text)
            train_all(asked.which, asked.folder, texts)
        case "table":
            print(table(asked.folders))
        case _:
            print(constants(asked.folders))


if __name__ == "__main__":
    main()
