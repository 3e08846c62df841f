"""What a run is made of, put together from its config: data, model, optimizer, batches."""

import dataclasses
import itertools
import statistics
from dataclasses import dataclass
from pathlib import Path

import torch

from modelwright import _native
from modelwright.accounting.hardware import Peak, peak_flops
from modelwright.accounting.parameters import count_parameters
from modelwright.checkpoint.bundle import load_weights
from modelwright.data.building import build_data
from modelwright.data.folder import Data, open_data, require_same_settings
from modelwright.data.loader import Chunks, Cut, Loader
from modelwright.data.packing import Packed
from modelwright.data.shards import TokenSequence
from modelwright.evaluation.asking import Questions
from modelwright.model.block_kernels import use_block_kernels
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.core_kernels import use_core_kernels
from modelwright.model.fp8 import use_fp8
from modelwright.model.gpu_kernels import gpu_surprise_and_slope
from modelwright.model.initialise import initialise
from modelwright.model.recompute import compile_blocks, recompute
from modelwright.model.transformer import Transformer
from modelwright.runtime.device import (
    Precision,
    choose_device,
    choose_dtype,
    choose_precision,
    require_same_bits,
    set_matmul_precision,
)
from modelwright.runtime.progress import Listener, nobody
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.training.attempt import TrainingState, take_step
from modelwright.training.averaging import Average
from modelwright.training.capture import RecordedStep
from modelwright.training.choices import (
    choose_lanes,
    chosen_kernels,
    chosen_loss_chunk,
    first_micro_batch,
    may_record_step,
    records_step,
    require_kernels,
    resolve_attention,
    settled_recompute,
)
from modelwright.training.config import RunConfig
from modelwright.training.fine_tuning import initial_bundle, require_same_tokenizer
from modelwright.training.lanes import Lanes
from modelwright.training.optimizers import make_optimizer
from modelwright.training.precision import make_loss_scale
from modelwright.training.task_scores import task_files, task_questions


@dataclass(frozen=True)
class Prepared:
    """A run that is ready for its first step, and what "auto" came to."""

    config: RunConfig
    data: Data
    model: Transformer
    cut: Cut
    validation: Cut
    device: torch.device
    precision: Precision
    attention: AttentionKind
    is_compiled: bool
    n_lanes: int
    peak: Peak
    questions: tuple[Questions, ...] = ()


def prepare(
    config: RunConfig,
    on_progress: Listener = nobody,
    *,
    is_new: bool = True,
    data: Data | None = None,
) -> Prepared:
    """Open or build the data and make the model, with its initial weights.

    Args:
        data: of the run, if it is open already, so that it is not read and checked again.
        is_new: False leaves the weights without values, for a checkpoint to fill.

    Raises:
        ValueError: if the data was built with other settings, the text is too short, the model
            to begin with does not fit, or the model cannot be asked a task.
        FileNotFoundError: if the file of a task is missing.
    """
    device = choose_device(config.training.device)
    precision = choose_precision(config.training.precision, device)
    set_matmul_precision(precision, device)
    require_same_bits(device, wanted=config.training.deterministic)
    settled_recompute(config)
    may_record_step(config, device.type)
    require_kernels(config, device, precision)
    files = task_files(config.tasks)
    if data is None:
        data = open_or_build(config, on_progress, is_new=is_new)
    elif is_new:
        require_same_settings(data, config.data, config.tokenizer)
    if len(data.validation) < 2:
        raise ValueError(
            f"data.validation_fraction = {config.data.validation_fraction} leaves no validation "
            "text; choose a larger share or a longer text"
        )
    attention = resolve_attention(config, device, precision)
    wants_compile = config.training.compile
    is_compiled = device.type == "cuda" if wants_compile == "auto" else wants_compile
    shape = model_config(config, data.tokenizer)
    n_lanes = choose_lanes(
        config, device, n_parameters=count_parameters(shape).total, is_compiled=is_compiled
    )
    model = make_model(
        config,
        data.tokenizer,
        device,
        attention,
        is_compiled=is_compiled,
        in_lanes=n_lanes > 1,
        is_new=is_new,
    )
    return Prepared(
        config=config,
        data=data,
        model=model,
        cut=make_cut(config, data.train, data.tokenizer),
        validation=make_cut(config, data.validation, data.tokenizer, is_long=False),
        device=device,
        precision=precision,
        attention=attention,
        is_compiled=is_compiled,
        n_lanes=n_lanes,
        peak=peak_flops(device, precision),
        questions=task_questions(files, data.tokenizer, context=shape.context),
    )


def open_or_build(config: RunConfig, on_progress: Listener, *, is_new: bool) -> Data:
    """The run's shards, built if their folder is not there.

    Args:
        is_new: compare the settings; a checkpoint knows the very bytes instead.
    """
    folder = Path(config.data.folder)
    if not folder.exists():
        return build_data(config.data, config.tokenizer, on_progress)
    data = open_data(folder, on_progress)
    if is_new:
        require_same_settings(data, config.data, config.tokenizer)
    return data


def make_cut(
    config: RunConfig, tokens: TokenSequence, tokenizer: Tokenizer, *, is_long: bool = True
) -> Cut:
    """The run's way to make samples of a text.

    Args:
        is_long: refuse a text that does not fill one context.
    """
    context = config.model.context
    if config.training.cut == "packed":
        return Packed(tokens, context, tokenizer.end_of_text)
    return Chunks(tokens, context if is_long else min(context, len(tokens) - 1))


def make_model(
    config: RunConfig,
    tokenizer: Tokenizer,
    device: torch.device,
    attention: AttentionKind,
    *,
    is_compiled: bool,
    in_lanes: bool = False,
    is_new: bool = True,
) -> Transformer:
    """A model of the run's shape with its initial weights, on the device.

    Args:
        is_new: False leaves the weights without values.

    Raises:
        ValueError: if `training.init_from` knows another tokenizer, or is of another shape.
    """
    model = Transformer(
        model_config(config, tokenizer),
        dtype=choose_dtype(config.training.precision, device),
        stream_dtype=stream_dtype(config),
        attention=attention,
    )
    if is_new:
        set_initial_weights(model, config, tokenizer)
    model.to(device)
    set_way_of_working(model, config, in_lanes=in_lanes, is_compiled=is_compiled)
    return model


def stream_dtype(config: RunConfig) -> torch.dtype | None:
    """The residual stream's own number format, if it has one."""
    return torch.float32 if config.training.residual == "fp32" else None


def set_way_of_working(
    model: Transformer, config: RunConfig, *, in_lanes: bool, is_compiled: bool
) -> None:
    """Let a model compute as the config says, in place; what it computes stays the same.

    Only fp8 rounds otherwise.

    Raises:
        ValueError: if the config asks for what a model of this shape cannot do.
    """
    recompute(model, settled_recompute(config), every=config.training.recompute_every)
    if config.training.fp8:
        use_fp8(model)
    if chosen_kernels(config, model.embedding.weight.device) == "triton":
        model.slope_of = gpu_surprise_and_slope
        use_block_kernels(model, is_compiled=is_compiled)
    model.loss_chunk = chosen_loss_chunk(config, model)
    # Without vectors PyTorch's own are faster.
    if in_lanes and not is_compiled and _native.SIMD != "portable":
        use_core_kernels(model)
    if is_compiled:
        compile_blocks(model)


def set_initial_weights(model: Transformer, config: RunConfig, tokenizer: Tokenizer) -> None:
    """Give a model the weights before the first step, in place.

    Raises:
        ValueError: if `training.init_from` knows another tokenizer, or is of another shape.
    """
    if config.training.init_from is None:
        initialise(model, seed=config.seed, config=config.initial, base_width=config.base_width)
        return
    folder = initial_bundle(config.training.init_from)
    require_same_tokenizer(folder, tokenizer)
    load_weights(model, folder)


def model_config(config: RunConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The run's model with its vocabulary filled in.

    Raises:
        ValueError: if the tokenizer has tokens that the model does not know.
    """
    vocab_size = config.model.vocab_size or tokenizer.n_vocab
    if vocab_size < tokenizer.n_vocab:
        raise ValueError(
            f"model.vocab_size is {vocab_size}, but the data's tokenizer has {tokenizer.n_vocab} "
            "tokens; leave it out, or set at least as much"
        )
    return dataclasses.replace(config.model, vocab_size=vocab_size)


def fresh_state(prepared: Prepared) -> TrainingState:
    """The state of a run before its first step."""
    config, model = prepared.config, prepared.model
    decay = config.training.average_decay
    optimizer = make_optimizer(model, config.optimizer, width_ratio=config.width_ratio)
    is_recorded = records_step(config, prepared.device.type, model.config)
    return TrainingState(
        model,
        optimizer,
        make_loss_scale(model.dtype),
        first_micro_batch(config, prepared.device, prepared.n_lanes),
        Average(model, decay) if decay else None,
        Lanes(prepared.n_lanes),
        # A loss scale is only known when the step before is.
        looks_ahead=prepared.device.type == "cuda" and model.dtype != torch.float16,
        recorded=RecordedStep(model, optimizer) if is_recorded else None,
    )


def make_loader(prepared: Prepared) -> Loader:
    """What gives the run its batches, on its device."""
    return Loader(
        prepared.cut,
        seed=prepared.config.seed,
        batch_size=prepared.config.batch_size,
        device=prepared.device,
    )


def measure_step_seconds(prepared: Prepared, *, n_steps: int = 25) -> float:
    """The median time of a step on this machine, found with a copy that is thrown away."""
    model = make_model(
        prepared.config,
        prepared.data.tokenizer,
        prepared.device,
        prepared.attention,
        is_compiled=prepared.is_compiled,
        in_lanes=prepared.n_lanes > 1,
    )
    state = fresh_state(dataclasses.replace(prepared, model=model))
    seconds = [0.0]
    with make_loader(prepared) as loader:
        for _ in range(n_steps + 1):  # the first one also warms the machine up
            take_step(state, prepared.config, loader)
            seconds.append(state.seconds)
    steps = [after - before for before, after in itertools.pairwise(seconds[1:])]
    return statistics.median(steps)
