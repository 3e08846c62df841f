"""A run put together from its config: data, model, optimizer, actions, loop."""

import dataclasses
import itertools
import json
import shutil
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from modelwright.accounting.parameters import count_parameters
from modelwright.checkpoint.bundle import load_weights
from modelwright.checkpoint.resume import (
    checkpoint_folders,
    load_training_state,
    newest_checkpoint,
)
from modelwright.config.loading import load_settings, to_toml
from modelwright.data.building import build_data
from modelwright.data.folder import Data, open_data, require_same_settings
from modelwright.data.inspection import training_histogram
from modelwright.data.loader import Chunks, Loader
from modelwright.model.attention import AttentionKind
from modelwright.model.config import ModelConfig
from modelwright.model.initialise import initialise
from modelwright.model.transformer import Transformer
from modelwright.runtime.device import choose_device, choose_dtype, describe_machine
from modelwright.runtime.files import lock_folder, require_writable, write_atomically
from modelwright.runtime.interrupts import stop_on_signals
from modelwright.runtime.progress import Listener, nobody
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.training.actions import Evaluate, Sample, Save
from modelwright.training.config import RunConfig
from modelwright.training.loop import Action, TrainingState, run_loop, take_step
from modelwright.training.metrics import (
    append_metrics,
    config_file,
    facts_file,
    forget_after,
    metrics_file,
)
from modelwright.training.optimizers import make_optimizer

longest_for_plain = 512  # tokens; on a CPU the fused kernels win for longer texts


@dataclass(frozen=True)
class Prepared:
    """A run that is ready for its first step."""

    config: RunConfig
    data: Data
    model: Transformer
    optimizer: torch.optim.Optimizer
    chunks: Chunks
    validation: Chunks


def train(
    config: RunConfig,
    run_folder: Path,
    *,
    on_progress: Listener = nobody,
    on_sample: Callable[[str], None] = lambda _: None,
) -> None:
    """Carry out a new run from its first step, building its data if that is not there.

    Raises:
        FileExistsError: if the folder holds a run already.
        ValueError, OSError: if something it needs cannot be used; a folder made for it is gone.
        Interrupted: if a signal asked it to stop; its state is saved.
    """
    require_new_run(run_folder)
    with removed_on_failure(run_folder):
        prepared = prepare(config, on_progress)
        with lock_folder(run_folder):
            write_atomically(run_folder / config_file, to_toml(config))
            facts = json.dumps(run_facts(prepared), indent=2) + "\n"
            write_atomically(run_folder / facts_file, facts)
            state = TrainingState(prepared.model, prepared.optimizer)
            _run(prepared, state, run_folder, on_progress, on_sample)


def resume(
    run_folder: Path,
    *,
    on_progress: Listener = nobody,
    on_sample: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Go on with a run from its newest whole checkpoint, as if it had never stopped.

    A run that died before its first checkpoint begins again, which comes to the same.

    Returns:
        A sentence about each checkpoint that was damaged and passed over.

    Raises:
        FileNotFoundError: if there is no run or no whole checkpoint in the folder.
    """
    died_early = (run_folder / config_file).exists() and not checkpoint_folders(run_folder)
    checkpoint, complaints = (None, []) if died_early else newest_checkpoint(run_folder)
    config = load_settings(RunConfig, run_folder / config_file).config
    with lock_folder(run_folder):
        prepared = prepare(config, on_progress)
        state = TrainingState(prepared.model, prepared.optimizer)
        if checkpoint is None:
            (run_folder / metrics_file).unlink(missing_ok=True)
        else:
            _load_state(state, checkpoint, prepared.data.tokenizer)
            forget_after(run_folder, state.step)
        _run(prepared, state, run_folder, on_progress, on_sample)
    return complaints


def prepare(config: RunConfig, on_progress: Listener = nobody) -> Prepared:
    """Open or build the data and make a freshly initialised model and its optimizer.

    Raises:
        ValueError: if the data was built with other settings, or the text is too short.
    """
    folder = Path(config.data.folder)
    device = choose_device(config.training.device)
    if folder.exists():
        data = open_data(folder, on_progress)
        require_same_settings(data, config.data, config.tokenizer)
    else:
        data = build_data(config.data, config.tokenizer, on_progress)
    chunks = Chunks(data.train, config.model.context)
    if len(data.validation) < 2:
        raise ValueError(
            f"data.validation_fraction = {config.data.validation_fraction} leaves no validation "
            "text; choose a larger share or a longer text"
        )
    validation = Chunks(data.validation, min(config.model.context, len(data.validation) - 1))
    model = make_model(config, data.tokenizer, device)
    optimizer = make_optimizer(model, config.optimizer)
    return Prepared(config, data, model, optimizer, chunks, validation)


def make_model(config: RunConfig, tokenizer: Tokenizer, device: torch.device) -> Transformer:
    """A freshly initialised model of the run's shape on the device."""
    dtype = choose_dtype(config.training.precision, device)
    model = Transformer(
        model_config(config, tokenizer),
        dtype=dtype,
        attention=choose_attention(config, device, dtype),
    )
    initialise(model, seed=config.seed)
    return model.to(device)


def model_config(config: RunConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The run's model with its vocabulary filled in."""
    vocab_size = config.model.vocab_size or tokenizer.n_vocab
    return dataclasses.replace(config.model, vocab_size=vocab_size)


def choose_attention(config: RunConfig, device: torch.device, dtype: torch.dtype) -> AttentionKind:
    """The faster attention where the config says "auto"; see `benchmarks/attention_cpu.py`."""
    if config.training.attention != "auto":
        return config.training.attention
    is_cpu_bf16 = device.type == "cpu" and dtype == torch.bfloat16
    return "plain" if is_cpu_bf16 and config.model.context <= longest_for_plain else "fused"


def make_loader(prepared: Prepared) -> Loader:
    """What gives the run its batches, on the device of its model."""
    return Loader(
        prepared.chunks,
        seed=prepared.config.seed,
        batch_size=prepared.config.batch_size,
        device=next(prepared.model.parameters()).device,
    )


def measure_step_seconds(prepared: Prepared, *, n_steps: int = 25) -> float:
    """The median time of a step on this machine, found with a copy that is thrown away."""
    device = next(prepared.model.parameters()).device
    model = make_model(prepared.config, prepared.data.tokenizer, device)
    state = TrainingState(model, make_optimizer(model, prepared.config.optimizer))
    seconds = [0.0]
    with make_loader(prepared) as loader:
        for _ in range(n_steps + 1):  # the first one also warms the machine up
            take_step(state, prepared.config, loader)
            seconds.append(state.seconds)
    steps = [after - before for before, after in itertools.pairwise(seconds[1:])]
    return statistics.median(steps)


def require_new_run(run_folder: Path) -> None:
    """Refuse to write over a run, and say early where nothing can be written.

    Raises:
        FileExistsError: saying how to go on with the run that is there.
    """
    require_writable(run_folder)
    if (run_folder / config_file).exists():
        raise FileExistsError(
            f"{run_folder} holds a run already; go on with it by `modelwright train --resume "
            f"{run_folder}`, or choose another folder with --out"
        )


def run_facts(prepared: Prepared) -> dict[str, Any]:
    """What is worth knowing about a run that its config does not say."""
    config, data = prepared.config, prepared.data
    device = next(prepared.model.parameters()).device
    dtype = choose_dtype(config.training.precision, device)
    count = count_parameters(prepared.model.config)
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dataclasses.asdict(describe_machine(device)),
        "precision": str(dtype).removeprefix("torch."),
        "attention": choose_attention(config, device, dtype),
        "parameters": dataclasses.asdict(count) | {"total": count.total},
        "n_tokens": config.n_tokens,
        "epochs": config.n_tokens / len(data.train),
        "data": data.facts["splits"],
        "document_lengths": training_histogram(data.folder),
        "n_vocab": data.tokenizer.n_vocab,
        "tokenizer": data.tokenizer.fingerprint,
    }


@contextmanager
def removed_on_failure(run_folder: Path) -> Iterator[None]:
    """Make a run folder, and remove it again if the block fails before the first step.

    Only a folder that this call made is removed, and not while another process works in it.
    """
    run_folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        run_folder.mkdir()
        made = True
    except FileExistsError:
        made = False
    try:
        yield
    except BaseException:
        if made and not (run_folder / metrics_file).exists():
            with suppress(ValueError), lock_folder(run_folder):
                shutil.rmtree(run_folder, ignore_errors=True)
        raise


def _run(
    prepared: Prepared,
    state: TrainingState,
    run_folder: Path,
    on_progress: Listener,
    on_sample: Callable[[str], None],
) -> None:
    config, data = prepared.config, prepared.data
    actions: list[Action] = [
        Evaluate(
            config.evaluation,
            prepared.validation,
            batch_size=config.training.micro_batch,
            bytes_per_token=data.validation_bytes_per_token,
        ),
        Sample(config.samples, data.tokenizer, seed=config.seed, tell=on_sample),
    ]
    with stop_on_signals() as stop, make_loader(prepared) as loader:
        run_loop(
            state,
            config,
            loader,
            actions=actions,
            save=Save(config, data.tokenizer, run_folder),
            record=lambda metrics: append_metrics(run_folder, metrics),
            on_progress=on_progress,
            stop=stop,
        )


def _load_state(state: TrainingState, checkpoint: Path, tokenizer: Tokenizer) -> None:
    """Fill a fresh state from a checkpoint that was trained with the same tokenizer."""
    saved = json.loads((checkpoint / "config.json").read_text())["tokenizer_fingerprint"]
    if saved != tokenizer.fingerprint:
        raise ValueError(
            f"{checkpoint} was trained with the tokenizer {saved[:16]}, but the data has "
            f"{tokenizer.fingerprint[:16]}; point data.folder at the data of that run"
        )
    load_weights(state.model, checkpoint)
    facts = load_training_state(checkpoint, state.optimizer)
    state.step, state.seconds = facts["step"], facts["seconds"]
