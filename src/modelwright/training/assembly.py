"""What a run is made of, put together from its config: data, model, optimizer, batches."""

import dataclasses
import itertools
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from modelwright.model.attention import choose_attention, working_attention
from modelwright.model.attention_speed import AttentionShape, fastest_attention
from modelwright.model.block_kernels import use_block_kernels
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.core_kernels import use_core_kernels
from modelwright.model.cross_entropy import usual_chunk
from modelwright.model.fp8 import fp8_obstacle, use_fp8
from modelwright.model.gpu_kernels import Kernels, gpu_surprise_and_slope, suits_gpu_kernel
from modelwright.model.initialise import initialise
from modelwright.model.recompute import RecomputeKind, compile_blocks, recompute
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
from modelwright.training.config import RunConfig
from modelwright.training.fine_tuning import initial_bundle, require_same_tokenizer
from modelwright.training.lanes import Lanes
from modelwright.training.optimizers import make_optimizer
from modelwright.training.precision import make_loss_scale
from modelwright.training.task_scores import task_files, task_questions

# What goes through the model at once if nobody says: on a GPU as much as makes its kernels busy,
# halved until it fits; on a processor core what stays near it.
micro_batch_tokens = {"cuda": 65_536, "cpu": 1024}
# The others take the memory of the whole square, and are slow for it.
timed_attention: tuple[AttentionKind, ...] = ("flash", "cudnn", "efficient")
lanes_bytes = 2**30  # the most memory for the gradients of several lanes
# FLOPs of a step beyond which the pauses between kernels, a few in a hundred parts of a short step,
# are too few to be worth a recording: some seconds of an H100.
longest_recorded = 1e15


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


def resolve_attention(
    config: RunConfig, device: torch.device, precision: Precision
) -> AttentionKind:
    """The kind of attention that "auto" comes to, or the one that the config names.

    On a GPU those that work are timed with the run's shape; on a processor, and where only some
    kernels give the same bits each time, their order is known.
    """
    named = config.training.attention
    if named != "auto":
        return named
    model, dtype = config.model, choose_dtype(precision, device)
    masked = config.training.cut == "packed" or model.masked_beyond_causal
    asked: dict[str, Any] = {
        "d_head": model.head_width,
        "n_tokens": model.context,
        "masked": masked,
        "dropout": model.dropout,
        "deterministic": config.training.deterministic,
    }
    if device.type == "cpu" or config.training.deterministic:
        return choose_attention(device, dtype, **asked)
    shape = AttentionShape(
        n_sequences=first_micro_batch(config, device, 1),
        n_heads=model.n_heads,
        n_kv_heads=model.key_heads,
        n_tokens=model.context,
        d_head=model.head_width,
        dtype=dtype,
        masked=masked,
        dropout=model.dropout,
    )
    works = set(working_attention(device, dtype, **asked))
    fused: list[AttentionKind] = [kind for kind in timed_attention if kind in works]
    return fastest_attention(tuple(fused), shape, device) if fused else "math"


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


def chosen_kernels(config: RunConfig, device: torch.device) -> Kernels:
    """Whose kernels a device uses."""
    if config.training.kernels != "auto":
        return config.training.kernels
    return "triton" if suits_gpu_kernel(device) else "torch"


def chosen_loss_chunk(config: RunConfig, model: Transformer) -> int | None:
    """How many positions have their logits at once; None leaves it to where the model is."""
    if config.training.loss_chunk != "auto":
        return config.training.loss_chunk
    if model.slope_of is gpu_surprise_and_slope:
        return usual_chunk("cuda", model.config.padded_vocab, in_place=model.dtype)
    return None


def settled_recompute(config: RunConfig) -> RecomputeKind:
    """What blocks forget.

    Raises:
        ValueError: if that was left to a plan, and none was made.
    """
    kind = config.training.recompute
    if kind == "auto":
        raise ValueError(
            "training.recompute is 'auto', which the plan turns into one of the others: "
            "`modelwright train` does so; in Python, train settle_here(config) of "
            "modelwright.planning.foresight"
        )
    return kind


def require_kernels(config: RunConfig, device: torch.device, precision: Precision) -> None:
    """Refuse kernels that a config names where they are not to be had.

    Raises:
        ValueError: saying why.
    """
    if config.training.kernels == "triton" and not suits_gpu_kernel(device):
        raise ValueError(
            "training.kernels is 'triton', but that needs an NVIDIA GPU and the package "
            f"triton, and the device is {device.type!r}; use 'torch', or leave it out"
        )
    if config.training.fp8:
        obstacle = fp8_obstacle(device)
        if obstacle is None and precision != "bf16":
            obstacle = f"what is around its products is in bf16, and training.precision {precision}"
        if obstacle is not None:
            raise ValueError(f"training.fp8 is true, but {obstacle}; leave training.fp8 out")


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


def may_record_step(config: RunConfig, device_type: str) -> bool:
    """Whether a step can be a CUDA graph.

    Raises:
        ValueError: if it has to be and cannot.
    """
    obstacle = (
        "only an NVIDIA GPU has them" if device_type != "cuda"
        else "model.dropout draws anew at each step" if config.model.dropout
        else None
    )  # fmt: skip
    if obstacle is not None and config.training.cuda_graph is True:
        raise ValueError(f"training.cuda_graph is true, but {obstacle}; use false, or leave it out")
    return obstacle is None


def records_step(config: RunConfig, device_type: str, shape: ModelConfig) -> bool:
    """Whether steps are repeated as a CUDA graph.

    Raises:
        ValueError: if it is asked for where it cannot be.
    """
    if not may_record_step(config, device_type):
        return False
    if config.training.cuda_graph != "auto":
        return config.training.cuda_graph
    flops = 6 * count_parameters(shape).total * config.training.batch_tokens
    return flops < longest_recorded


def choose_lanes(
    config: RunConfig, device: torch.device, *, n_parameters: int, is_compiled: bool
) -> int:
    """How many portions to work on at the same time.

    Raises:
        ValueError: if several are asked for where they cannot be.
    """
    wanted = config.training.lanes
    obstacle = (
        "a GPU works on one portion at a time" if device.type == "cuda"
        else "the draws of dropout come from one stream" if config.model.dropout
        else "compiled blocks already use all cores" if is_compiled
        else None
    )  # fmt: skip
    if obstacle is not None:
        if wanted not in ("auto", 1):
            raise ValueError(f"training.lanes is {wanted}, but {obstacle}; use 1 or 'auto'")
        return 1
    if wanted != "auto":
        return wanted
    portion = 1 if config.training.micro_batch == "auto" else config.training.micro_batch
    n_portions = -(-config.batch_size // portion)
    fitting = lanes_bytes // (4 * n_parameters)
    return max(1, min(torch.get_num_threads(), n_portions, fitting))


def first_micro_batch(config: RunConfig, device: torch.device, n_lanes: int) -> int:
    """How many sequences to begin with; "auto" takes a number that divides the batch evenly."""
    if config.training.micro_batch != "auto":
        return min(config.training.micro_batch, config.batch_size)
    most = max(1, micro_batch_tokens[device.type] // config.model.context)
    each = -(-config.batch_size // n_lanes)  # no lane without work
    return max(n for n in range(1, min(most, each) + 1) if config.batch_size % n == 0)


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
