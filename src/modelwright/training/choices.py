"""What a device and a model's shape make of the settings of training that are left to them."""

from typing import Any

import torch

from modelwright.accounting.parameters import count_parameters
from modelwright.model.attention import choose_attention, working_attention
from modelwright.model.attention_speed import AttentionShape, fastest_attention
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.cross_entropy import usual_chunk
from modelwright.model.fp8 import fp8_obstacle
from modelwright.model.gpu_kernels import Kernels, gpu_surprise_and_slope, suits_gpu_kernel
from modelwright.model.recompute import RecomputeKind
from modelwright.model.transformer import Transformer
from modelwright.runtime.device import Precision, choose_dtype
from modelwright.training.config import RunConfig

# What goes through the model at once if nobody says: on a GPU as much as makes its kernels busy,
# halved until it fits; on a processor core what stays near it.
micro_batch_tokens = {"cuda": 65_536, "cpu": 1024}
# The others take the memory of the whole square, and are slow for it.
timed_attention: tuple[AttentionKind, ...] = ("flash", "cudnn", "efficient")
lanes_bytes = 2**30  # the most memory for the gradients of several lanes
# FLOPs of a step beyond which the pauses between kernels, a few in a hundred parts of a short step,
# are too few to be worth a recording: some seconds of an H100.
longest_recorded = 1e15


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


def first_micro_batch(config: RunConfig, device: torch.device, n_lanes: int) -> int:
    """How many sequences to begin with; "auto" takes a number that divides the batch evenly."""
    if config.training.micro_batch != "auto":
        return min(config.training.micro_batch, config.batch_size)
    most = max(1, micro_batch_tokens[device.type] // config.model.context)
    each = -(-config.batch_size // n_lanes)  # no lane without work
    return max(n for n in range(1, min(most, each) + 1) if config.batch_size % n == 0)


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
