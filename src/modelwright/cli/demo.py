"""`modelwright demo`: the whole way from text to a model that writes, on this machine."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelwright.cli.display import progress_bars
from modelwright.cli.train import carry_out, telling

if TYPE_CHECKING:
    from modelwright.training.config import RunConfig

default_seconds = 90.0
fewest_steps = 100
most_epochs = 20  # a small text is not read more often than this: it would only be learned by heart
bytes_per_vocabulary_entry = 250  # a pair must be seen often enough to deserve a token

# Small enough for a test: the same way in seconds, with a model that only babbles.
fast_settings = [
    "data.stories_bytes=300_000",
    "tokenizer.vocab_size=512",
    "model.d_model=64",
    "model.n_layers=2",
    "model.n_heads=2",
    "model.context=64",
    "training.batch_tokens=1024",
    "evaluation.every_steps=10",
    "evaluation.n_tokens=2048",
    "samples.every_steps=10",
    "samples.max_tokens=40",
    "checkpoints.every_steps=10",
]
fast_steps = 30


def demo(
    text: Path | None = typer.Option(
        None, "--text", help="Learn from your own text: a file, or a folder of text files."
    ),
    seconds: float = typer.Option(
        default_seconds, "--seconds", help="About how long to train; more gives better text."
    ),
    out: Path | None = typer.Option(
        None, "--out", help="The run folder; left out, the first free one of runs/demo, demo-2, …"
    ),
    fast: bool = typer.Option(False, "--fast", help="Show the way in seconds; the text is babble."),
) -> None:
    """Go the whole way on this machine: text, tokenizer, shards, model, samples, report.

    Without --text the built-in stories are told and learned: nothing is fetched.
    """
    if seconds <= 0:
        raise ValueError(f"--seconds is {seconds}; choose a number above 0, such as 75")
    run_folder = out or first_free(Path("runs") / "demo")

    from modelwright.training import assembly, runs

    began = time.perf_counter()
    runs.require_new_run(run_folder)
    config = demo_config(run_folder, text, fast=fast)
    print(f"modelwright demo → {run_folder}", file=sys.stderr)
    with runs.removed_on_failure(run_folder):
        with progress_bars() as bars:
            prepared = assembly.prepare(config, bars)
        if fast:
            n_steps = fast_steps
        else:
            step_seconds = assembly.measure_step_seconds(prepared)
            n_steps = steps_for(config, seconds / step_seconds, n_tokens=len(prepared.data.train))
        config = with_steps(config, n_steps)
        tell_plan(config, prepared.model, len(prepared.data.train))
        carry_out(
            lambda bars, prediction: runs.train(
                config,
                run_folder,
                on_progress=bars,
                on_sample=telling(bars),
                on_ready=prediction.make,
            ),
            run_folder,
        )
    tell_result(run_folder, time.perf_counter() - began)


def first_free(folder: Path) -> Path:
    """The folder itself, or with the lowest number from 2 that is not taken."""
    candidate, number = folder, 2
    while candidate.exists():
        candidate, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return candidate


def demo_config(run_folder: Path, text: Path | None, *, fast: bool) -> "RunConfig":
    """The demo recipe, its data inside the run folder, fitted to the text."""
    from importlib.resources import as_file, files

    from modelwright.config.loading import load_settings
    from modelwright.data.sources import local_files
    from modelwright.training.config import RunConfig

    overrides = [*(fast_settings if fast else []), f"data.folder={run_folder / 'data'}"]
    with as_file(files("modelwright") / "recipes" / "demo.toml") as recipe:
        config = load_settings(RunConfig, recipe, overrides).config
        if text is None:
            return config
        n_bytes = sum(path.stat().st_size for path in local_files(str(text)))
        fitting = max(300, min(config.tokenizer.vocab_size, n_bytes // bytes_per_vocabulary_entry))
        overrides += [
            f"data.source={text.resolve()}",
            f"tokenizer.vocab_size={fitting}",
            'samples.prompts=[""]',
            "data.validation_fraction=0.05",
        ]
        return load_settings(RunConfig, recipe, overrides).config


def steps_for(config: "RunConfig", affordable: float, *, n_tokens: int) -> int:
    """As many steps as the time allows, within what the text bears; a multiple of ten."""
    most = max(fewest_steps, most_epochs * n_tokens // config.training.batch_tokens)
    return max(fewest_steps, min(round(affordable), most)) // 10 * 10


def with_steps(config: "RunConfig", n_steps: int) -> "RunConfig":
    """The config with that many steps and about ten evaluations, five samples on the way."""
    replace = dataclasses.replace
    return replace(
        config,
        training=replace(config.training, n_steps=n_steps),
        evaluation=replace(config.evaluation, every_steps=max(1, n_steps // 10)),
        samples=replace(config.samples, every_steps=max(1, n_steps // 5)),
        checkpoints=replace(config.checkpoints, every_steps=max(1, n_steps // 2)),
    )


def tell_plan(config: "RunConfig", model: object, n_tokens: int) -> None:
    """Say what is about to be trained."""
    from modelwright.accounting.parameters import count_parameters

    total = count_parameters(model.config).total  # type: ignore[attr-defined]
    print(
        f"a model of {total / 1e6:.2f}M parameters, {config.training.n_steps:,} steps of "
        f"{config.training.batch_tokens:,} tokens: {config.n_tokens / n_tokens:.1f} times through "
        f"{n_tokens / 1e6:.2f}M tokens of text",
        file=sys.stderr,
    )


def tell_result(run_folder: Path, seconds: float) -> None:
    """Show what the model writes in the end, and what it took."""
    from modelwright.runtime.device import peak_memory_bytes
    from modelwright.training.metrics import read_metrics

    last = read_metrics(run_folder)[-1]
    print("\nWhat it writes now:\n")
    print("\n\n---\n\n".join(last["samples"]))
    print(
        f"\nvalidation loss {last['validation_loss']:.3f} "
        f"({last['validation_bits_per_byte']:.3f} bits per byte) · {seconds:.0f} s in all · "
        f"{peak_memory_bytes() / 1e9:.2f} GB of memory at most"
    )
