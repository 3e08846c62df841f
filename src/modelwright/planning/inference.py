"""What using the model takes: weights, cache, and the least time and price of a token."""

import dataclasses
from dataclasses import dataclass
from typing import Any, get_args

import torch

from modelwright.accounting.hardware import Device, Peak
from modelwright.accounting.inference import (
    InferenceCost,
    WeightFormat,
    kv_cache_bytes,
    weight_bytes,
)
from modelwright.accounting.measured_peak import measured_bandwidth, measured_peak
from modelwright.model.config import ModelConfig
from modelwright.planning.fit import outside_bytes, usable_bytes
from modelwright.planning.site import planned_precision, planned_shape
from modelwright.runtime.device import Precision
from modelwright.training.config import RunConfig

group_size = 128  # integers that share a scale
cache_bytes_per_number = 2


@dataclass(frozen=True, kw_only=True)
class FormatCost:
    """The model with its weights in one format; the seconds are a floor.

    Attributes:
        needed_bytes: weights, cache, and what of the device no tensor gets.
        prefill_seconds: until all prompts are read.
        decode_seconds_per_token: for one more token of every answer, on average.
        tokens_per_second: new ones of all answers together, reading the prompts included.
        price_per_million_tokens_usd: of those; None where the device has no price.
    """

    weights: WeightFormat
    needed_bytes: int
    fits: bool
    prefill_seconds: float
    decode_seconds_per_token: float
    tokens_per_second: float
    price_per_million_tokens_usd: float | None


@dataclass(frozen=True, kw_only=True)
class InferenceSpeed:
    """How fast texts are read and written on a device, at best.

    Attributes:
        prompt_tokens, new_tokens: of each text.
        precision: of the products, whatever the weights are kept in.
    """

    prompt_tokens: int
    new_tokens: int
    precision: Precision
    flops_per_second: float
    flops_source: str
    bytes_per_second: float
    bytes_source: str
    usable_bytes: int
    formats: tuple[FormatCost, ...]


@dataclass(frozen=True, kw_only=True)
class Inference:
    """What using the model takes.

    Attributes:
        context_tokens: prompt and answer of one text together.
        batch: texts at the same time.
        cache_bytes: keys and values of all texts at their end, in 16 bits.
        weight_bytes: by format; integers with their scales, and with embeddings in 16 bits.
        speed: None if nobody asked.
    """

    context_tokens: int
    batch: int
    cache_bytes: int
    weight_bytes: dict[WeightFormat, int]
    speed: InferenceSpeed | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def plan_inference(
    config: RunConfig, device: Device | None, *, context: int | None = None, batch: int = 1
) -> Inference:
    """What using a run's model takes on a device; half of each text is prompt, half is answer.

    Args:
        device: None is this machine's processor, whose speeds are measured.
        context: tokens of each text; None takes the model's context.

    Raises:
        ValueError: if the model has no such context, or the config asks for what the device lacks.
    """
    shape, _ = planned_shape(config)
    held = inference_memory(shape, context=context, batch=batch)
    if held.context_tokens < 2:
        raise ValueError(
            f"context is {held.context_tokens}, but a text has a prompt and an answer; "
            "the least is 2"
        )
    precision = planned_precision(config, device)
    flops = _flops_peak(device, precision)
    bytes_per_second, bytes_source = _bandwidth(device)
    prompt_tokens = held.context_tokens // 2
    costs = [
        InferenceCost(
            config=shape,
            batch=batch,
            prompt_tokens=prompt_tokens,
            new_tokens=held.context_tokens - prompt_tokens,
            flops_per_second=flops.flops_per_second,
            bytes_per_second=bytes_per_second,
            price_per_hour=(device and device.price_per_hour_usd) or 0.0,
            weights=kind,
            group_size=group_size,
            cache_bytes_per_number=cache_bytes_per_number,
        )
        for kind in held.weight_bytes
    ]
    speed = InferenceSpeed(
        prompt_tokens=prompt_tokens,
        new_tokens=held.context_tokens - prompt_tokens,
        precision=precision,
        flops_per_second=flops.flops_per_second,
        flops_source=flops.source,
        bytes_per_second=bytes_per_second,
        bytes_source=bytes_source,
        usable_bytes=usable_bytes(device),
        formats=tuple(_format_cost(cost, held, device) for cost in costs),
    )
    return dataclasses.replace(held, speed=speed)


def _format_cost(cost: InferenceCost, held: Inference, device: Device | None) -> FormatCost:
    outside = 0 if device is None else outside_bytes(device)
    needed = held.weight_bytes[cost.weights] + held.cache_bytes + outside
    has_price = device is not None and device.price_per_hour_usd is not None
    return FormatCost(
        weights=cost.weights,
        needed_bytes=needed,
        fits=needed <= usable_bytes(device),
        prefill_seconds=cost.prefill_seconds,
        decode_seconds_per_token=cost.decode_seconds_per_token,
        tokens_per_second=cost.tokens_per_second,
        price_per_million_tokens_usd=cost.price_per_million_tokens if has_price else None,
    )


def inference_memory(
    shape: ModelConfig, *, context: int | None = None, batch: int = 1
) -> Inference:
    """What weights and cache take, on whatever device.

    Args:
        shape: a model with its vocabulary.
        context: as `plan_inference` takes it.

    Raises:
        ValueError: if the model has no such context.
    """
    n_tokens = shape.context if context is None else context
    if not 1 <= n_tokens <= shape.context:
        raise ValueError(
            f"context is {n_tokens}, but the model's is {shape.context}; choose from 2 to "
            f"{shape.context}, or change model.context"
        )
    if batch < 1:
        raise ValueError(f"batch is {batch}; the least is 1 text at a time")
    return Inference(
        context_tokens=n_tokens,
        batch=batch,
        cache_bytes=kv_cache_bytes(
            shape, batch=batch, seq=n_tokens, bytes_per_number=cache_bytes_per_number
        ),
        weight_bytes={
            kind: weight_bytes(shape, kind, group_size=group_size)
            for kind in get_args(WeightFormat)
        },
    )


def _flops_peak(device: Device | None, precision: Precision) -> Peak:
    if device is None:
        return measured_peak(torch.device("cpu"), precision)
    peak = device.peak(precision)
    assert peak is not None, "planned_precision refuses what a device lacks"
    return peak


def _bandwidth(device: Device | None) -> tuple[float, str]:
    """Bytes of memory a second, and who says so."""
    if device is None:
        return measured_bandwidth(torch.device("cpu")), "a large copy measured here"
    return device.bandwidth_bytes_per_second, device.source
