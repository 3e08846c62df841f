"""`modelwright landscape`: the loss around a trained model, or on the way to another."""

import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from modelwright.cli.display import Bars, progress_bars

if TYPE_CHECKING:
    from modelwright.checkpoint.bundle import Bundle
    from modelwright.data.loader import Cut
    from modelwright.evaluation.landscape_map import Landscape, LandscapeConfig
    from modelwright.runtime.progress import Progress
    from modelwright.tokenizer.tokenizer import Tokenizer
    from modelwright.training.config import RunConfig

n_for_estimate = 3  # points after which the time is told


class Device(StrEnum):
    """Where to work."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def landscape(
    model: Path = typer.Argument(..., help="A run folder, or one checkpoint or model."),
    to: str | None = typer.Option(
        None, "--to", help="Go straight to this checkpoint: a folder, or a step of the same run."
    ),
    points: int = typer.Option(21, "--points", help="Points on each axis; an odd number."),
    span: float = typer.Option(
        1.0, "--span", help="How far to each side; 1 moves each row of a matrix by its own length."
    ),
    one_dimension: bool = typer.Option(
        False, "--one-dimension", help="A curve along one random direction instead of a plane."
    ),
    tokens: int = typer.Option(
        16_384, "--tokens", help="Tokens that the loss is the mean of at each point; 0 takes all."
    ),
    text: Path | None = typer.Option(
        None, "--text", help="Measure on this text instead of the run's validation text."
    ),
    vectors: bool = typer.Option(
        False, "--vectors", help="Also move biases and the weights of norms."
    ),
    averaged: bool = typer.Option(
        False, "--averaged", help="Use the moving average of the weights, if the run kept one."
    ),
    seed: int = typer.Option(1, "--seed", help="Of the random directions."),
    device: Device = typer.Option(Device.auto, "--device", help="auto takes a CUDA GPU if any."),
    out: Path | None = typer.Option(
        None, "--out", help="The folder for all of it; left out, landscape/ in the run's folder."
    ),
) -> None:
    """Map the loss around a trained model and draw it; a stopped map goes on when called again."""
    from modelwright.checkpoint.bundle import distinct_weights, load_bundle
    from modelwright.evaluation.landscape_map import LandscapeConfig
    from modelwright.training.fine_tuning import require_same_tokenizer

    if to is not None and one_dimension:
        raise ValueError("--to is one-dimensional already; leave out --one-dimension")
    config = LandscapeConfig(
        kind="path" if to is not None else "curve" if one_dimension else "plane",
        points=points,
        span=span,
        seed=seed,
        n_tokens=tokens,
        with_vectors=vectors,
    )
    found = find(model)
    subject = open_subject(found, text, device=device.value, averaged=averaged)
    whose = ", averaged weights" if averaged else ""
    about, end = {"model": found.name + whose, "text": subject.text}, None
    if to is not None:
        other = find(other_folder(found, to))
        require_same_tokenizer(other.folder, subject.bundle.tokenizer)
        # Only its weights: how products are done has been settled for the subject.
        end = distinct_weights(load_bundle(other.folder, averaged=averaged).model)
        about["end"] = other.name + whose
    carry_out(subject, config, out or found.place_for_results, end=end, about=about)


@dataclass(frozen=True)
class Found:
    """A model on disk, and the run that made it if it is still there."""

    folder: Path
    run: Path | None

    @property
    def name(self) -> str:
        """What people call it: "runs/demo, step 500"."""
        if self.run is None:
            return str(self.folder)
        return f"{self.run}, step {int(self.folder.name.removeprefix('step-'))}"

    @property
    def place_for_results(self) -> Path:
        """In the run's folder; nothing is put into the folder of a model by itself."""
        from modelwright.experiments.landscape_section import folder_name

        if self.run is not None:
            return self.run / folder_name
        whole = self.folder.resolve()
        return whole.with_name(f"{whole.name}-{folder_name}")

    def config(self) -> "RunConfig | None":
        """The run's settings; None of a model without a run."""
        from modelwright.config.loading import load_settings
        from modelwright.training.config import RunConfig
        from modelwright.training.metrics import config_file

        path = None if self.run is None else self.run / config_file
        if path is None or not path.is_file():
            return None
        return load_settings(RunConfig, path).config


def find(model: Path) -> Found:
    """The model that a folder stands for, with notes about checkpoints that were passed over.

    Raises:
        FileNotFoundError: if there is none.
    """
    from modelwright.checkpoint.resume import checkpoints_of, newest_checkpoint

    if not model.is_dir():
        raise FileNotFoundError(f"there is no folder {model}; name a run, checkpoint or model")
    if not (model / "model.safetensors").exists():
        folder, passed_over = newest_checkpoint(model)
        for complaint in passed_over:
            print(f"note: passed over a damaged checkpoint: {complaint}", file=sys.stderr)
        return Found(folder, model)
    run = model.parent.parent
    is_of_run = model.name.startswith("step-") and checkpoints_of(run) == model.parent
    return Found(model, run if is_of_run else None)


def other_folder(found: Found, to: str) -> Path:
    """The folder of the other end, given as such or as a step of the same run."""
    from modelwright.checkpoint.resume import checkpoint_at

    if not to.isdigit() or Path(to).is_dir():
        return Path(to)
    if found.run is None:
        raise ValueError(f"--to is step {to}, but {found.folder} is of no run; name a folder")
    return checkpoint_at(found.run, int(to))


@dataclass(frozen=True)
class Subject:
    """A model and the text to measure it on, with what people call the text."""

    bundle: "Bundle"
    cut: "Cut"
    text: str


def open_subject(found: Found, text: Path | None, *, device: str, averaged: bool) -> Subject:
    """The model in its own precision, and the run's validation text or another.

    Raises:
        FileNotFoundError: if there is no text.
        ValueError: if the run's data was made with another tokenizer than the model's.
    """
    from modelwright.data.folder import open_data
    from modelwright.training.assembly import make_cut
    from modelwright.training.fine_tuning import require_same_tokenizer

    config = found.config()
    if text is not None:
        if not text.is_file():
            raise FileNotFoundError(f"--text is {text}, but there is no such file")
        bundle = load(found, config, device=device, averaged=averaged)
        return Subject(
            bundle, cut_of_text(text, bundle.tokenizer, bundle.model.config.context), str(text)
        )
    if config is None:
        raise ValueError(f"{found.name} comes without its data; name a text with --text")
    folder = Path(config.data.folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the data of {found.name} is not in {folder}; call this from where the run was "
            "started, or name a text with --text"
        )
    with progress_bars() as bars:
        data = open_data(folder, bars)
    require_same_tokenizer(found.folder, data.tokenizer)
    apart = config.training.cut == "packed"
    bundle = load(found, config, device=device, averaged=averaged, apart=apart)
    cut = make_cut(config, data.validation, data.tokenizer, is_long=False)
    return Subject(bundle, cut, f"the validation text in {folder}")


def load(
    found: Found,
    config: "RunConfig | None" = None,
    *,
    device: str = "cpu",
    averaged: bool = False,
    apart: bool = False,
) -> "Bundle":
    """The model of a folder, its products in the precision of its run, or in fp32."""
    from modelwright.checkpoint.bundle import load_bundle
    from modelwright.runtime.device import choose_device, choose_dtype, set_matmul_precision

    where: Any = choose_device(device, setting="--device")  # pyright: ignore[reportArgumentType]
    precision = "fp32" if config is None else config.training.precision
    if precision == "tf32" and where.type != "cuda":
        precision = "fp32"  # the same number format; only GPUs round it for a product
    set_matmul_precision(precision, where)
    return load_bundle(
        found.folder,
        device=where,
        dtype=choose_dtype(precision, where),
        averaged=averaged,
        apart=apart,
    )


def cut_of_text(path: Path, tokenizer: "Tokenizer", context: int) -> "Cut":
    """A text file as one document, cut into pieces of a context.

    Raises:
        ValueError: if it is too short for a single token to be predicted.
    """
    import numpy as np

    from modelwright.data.loader import Chunks
    from modelwright.data.shards import Shard, TokenSequence

    end = np.array([tokenizer.end_of_text], tokenizer.id_dtype)
    ids = np.concatenate([*tokenizer.encode_file(path), end])
    if len(ids) < 2:
        raise ValueError(f"{path} is empty; choose a longer text")
    starts = np.array([0, len(ids)], np.uint64)
    sequence = TokenSequence([Shard(path, ids, starts, tokenizer.fingerprint)])
    return Chunks(sequence, min(context, len(ids) - 1))


def carry_out(
    subject: Subject, config: "LandscapeConfig", folder: Path, *, end: Any, about: dict[str, str]
) -> None:
    """Measure under a progress bar, then draw and tell; say how to go on after a stop."""
    from modelwright.evaluation.landscape import survey
    from modelwright.evaluation.perplexity import BrokenOff
    from modelwright.experiments.landscape_report import write_landscape_page
    from modelwright.runtime.interrupts import stop_on_signals

    measured = None
    with stop_on_signals() as stop, progress_bars() as bars:
        try:
            measured = survey(
                subject.bundle.model,
                subject.cut,
                config,
                folder,
                end=end,
                about=about,
                on_progress=Estimate(bars),
                is_stopped=lambda: stop.requested,
            )
        except BrokenOff:
            assert stop.signal_number is not None
    page = write_landscape_page(folder)
    if measured is None:
        print(
            f"\nstopped; what was measured is in {folder}, and the same command goes on with it",
            file=sys.stderr,
        )
        sys.exit(128 + (stop.signal_number or 0))
    tell(measured, page)


class Estimate:
    """Passes progress on to the bars, and says once how long all of it will take."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.arrivals: list[float] = []

    def __call__(self, progress: "Progress") -> None:
        from modelwright.experiments.report import human_seconds

        self.bars(progress)
        self.arrivals.append(time.perf_counter())
        left = (progress.total or 0) - progress.done
        if len(self.arrivals) != n_for_estimate + 1 or left <= 0:
            return
        # The first point also warms the machine up.
        each = (self.arrivals[-1] - self.arrivals[1]) / (n_for_estimate - 1)
        self.bars.say(
            f"{each:.2g} s for a point: about {human_seconds(left * each)} for the {left:,.0f} "
            "that are left"
        )


def tell(measured: "Landscape", page: Path) -> None:
    """What was found, and where the pictures are."""
    from modelwright.experiments.landscape_section import findings

    found = [*findings(measured), ("pictures", str(page))]
    widest = max(len(name) for name, _ in found)
    for name, text in found:
        print(f"{name:<{widest}}   {text}")
