"""Where a run would be: what "auto" comes to on a device that need not be here."""

import dataclasses
from typing import Literal

import torch

from modelwright.accounting.hardware import Device
from modelwright.accounting.parameters import count_parameters
from modelwright.model.attention import choose_attention
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.fp8 import obstacle_of_gpu
from modelwright.model.gpu_kernels import Kernels
from modelwright.planning.fit import room_bytes, settle
from modelwright.planning.step import Site
from modelwright.runtime.device import Precision, choose_dtype, choose_precision
from modelwright.training.choices import choose_lanes, first_micro_batch
from modelwright.training.config import RunConfig

n_batches_on_gpu = 4  # one at work, and what the loader keeps ready
bf16_since = (8, 0)  # NVIDIA's Ampere; so are tf32, and flash and cuDNN attention
triton_since = (7, 0)  # NVIDIA's Volta
cudnn_fastest_since = (9, 0)  # NVIDIA's Hopper: PyTorch's flash attention is of the GPU before it
widest_head: dict[AttentionKind, int] = {"flash": 256, "cudnn": 128}
dtypes: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

VocabSource = Literal["model.vocab_size", "tokenizer.vocab_size"]


def planned_shape(config: RunConfig) -> tuple[ModelConfig, VocabSource]:
    """The run's model with a vocabulary, and which setting says how large that is.

    A tokenizer that runs out of pairs to merge ends up smaller than its setting.
    """
    if config.model.vocab_size is not None:
        return config.model, "model.vocab_size"
    shape = dataclasses.replace(config.model, vocab_size=config.tokenizer.vocab_size)
    return shape, "tokenizer.vocab_size"


def planned_precision(config: RunConfig, device: Device | None) -> Precision:
    """The number format of the products.

    Args:
        device: None is this machine's processor.

    Raises:
        ValueError: if the one that the config names is not to be had there.
    """
    wanted = config.training.precision
    if device is None:
        if wanted == "tf32":
            raise ValueError(
                "training.precision is 'tf32', but a processor does not have it; use 'fp32', or "
                "name a GPU with --on"
            )
        return choose_precision(wanted, torch.device("cpu"))
    best: Precision = "bf16" if device.capability >= bf16_since else "fp16"
    if wanted == "auto":
        return best
    if wanted not in device.peaks:
        raise ValueError(
            f"training.precision is {wanted!r}, which {device.title} does not have; use {best!r}, "
            "or 'auto'"
        )
    return wanted


def planned_attention(config: RunConfig, device: Device | None) -> AttentionKind:
    """The kind of attention: what a run finds there by trying and timing."""
    if config.training.attention != "auto":
        return config.training.attention
    precision = planned_precision(config, device)
    model, deterministic = config.model, config.training.deterministic
    masked = config.training.cut == "packed" or model.masked_beyond_causal
    if device is None:
        return choose_attention(
            torch.device("cpu"),
            dtypes[precision],
            d_head=model.head_width,
            n_tokens=model.context,
            masked=masked,
            dropout=model.dropout,
            deterministic=deterministic,
        )
    is_short = precision in ("bf16", "fp16") and device.capability >= bf16_since

    def works(kind: AttentionKind) -> bool:
        return is_short and model.head_width <= widest_head[kind]

    if deterministic:
        return "flash" if not masked and works("flash") else "math"
    if works("cudnn") and (masked or device.capability >= cudnn_fastest_since):
        return "cudnn"
    return "flash" if not masked and works("flash") else "efficient"


def first_site(config: RunConfig, device: Device | None) -> Site:
    """Where a run begins: before portions that do not fit are halved.

    Raises:
        ValueError: if the config asks for what is not to be had there.
    """
    here = torch.device("cpu" if device is None else "cuda")
    if config.training.device == "cpu" and device is not None:
        raise ValueError(
            f"training.device is 'cpu', and the plan is for {device.title}; leave it out, or plan "
            "with --on cpu"
        )
    _require_kernels(config, device)
    wanted = config.training.compile
    is_compiled = device is not None if wanted == "auto" else wanted
    shape, _ = planned_shape(config)
    n_lanes = choose_lanes(
        config, here, n_parameters=count_parameters(shape).total, is_compiled=is_compiled
    )
    precision = planned_precision(config, device)
    return Site(
        device="cpu" if device is None else "cuda",
        dtype=dtypes[precision] if device else choose_dtype(precision, here),
        attention=planned_attention(config, device),
        is_compiled=is_compiled,
        micro_batch=first_micro_batch(config, here, n_lanes),
        n_lanes=n_lanes,
        n_batches=1 if device is None else n_batches_on_gpu,
        capability=None if device is None else device.capability,
        kernels=planned_kernels(config, device),
    )


def planned_kernels(config: RunConfig, device: Device | None) -> Kernels:
    """Whose kernels: on an NVIDIA GPU those in Triton, which PyTorch brings there."""
    if config.training.kernels != "auto":
        return config.training.kernels
    return "triton" if _has_triton(device) else "torch"


def _has_triton(device: Device | None) -> bool:
    return device is not None and device.capability >= triton_since and "AMD" not in device.title


def _require_kernels(config: RunConfig, device: Device | None) -> None:
    """Refuse kernels that a config names where they are not to be had."""
    on = "a processor" if device is None else device.title
    if config.training.kernels == "triton" and not _has_triton(device):
        raise ValueError(
            f"training.kernels is 'triton', which is for NVIDIA GPUs from Volta on and not for "
            f"{on}; use 'torch', or leave it out"
        )
    if config.training.fp8:
        obstacle = (
            "a processor has no such products" if device is None
            else obstacle_of_gpu(device.title, device.capability)
        )  # fmt: skip
        if obstacle is None and planned_precision(config, device) != "bf16":
            obstacle = "what is around its products is in bf16: leave training.precision out"
        if obstacle is not None:
            raise ValueError(f"training.fp8 is true, but {obstacle}; leave training.fp8 out")


def site_for(config: RunConfig, device: Device | None) -> Site:
    """What a run comes to on a device: "auto" portions halved until they fit, as training does.

    Args:
        device: of the table; None is this machine's processor.
    """
    shape, _ = planned_shape(config)
    return settle(config, shape, first_site(config, device), room_bytes(device))[0]
