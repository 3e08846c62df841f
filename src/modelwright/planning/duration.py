"""How long a run takes and what that costs: a point from measured rates, or an assumed range."""

from dataclasses import dataclass
from typing import Any

import torch

from modelwright.accounting.hardware import Device, Peak
from modelwright.accounting.measured_peak import measured_peak
from modelwright.accounting.rates import Rates
from modelwright.planning.assumed import guessed_rates, guesses_for, in_words
from modelwright.planning.site import planned_precision, planned_shape
from modelwright.planning.step import StepTrace
from modelwright.planning.timing import StepTime, step_time
from modelwright.training.choices import records_step
from modelwright.training.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Range:
    """The least and the most that something is expected to be."""

    low: float
    high: float

    def times(self, factor: float) -> "Range":
        return Range(low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, kw_only=True)
class Time:
    """How long the steps take: a point where the machine was calibrated, else a range.

    The range is that of the guesses of `assumed.py`.

    Attributes:
        calibrated: what the point follows from; None if nothing was measured.
        parts: of a step, seconds of the device by what they are spent on; only with a point.
        busy: the share of a step in which the device works; only with a point.
        price_usd: of the device's list price; None where there is none.
        kilowatt_hours: at the board's limit; None for a processor, whose limit is not known.
    """

    peak_flops_per_second: float
    peak_source: str
    mfu: Range
    mfu_source: str
    step_seconds: Range
    run_seconds: Range
    device_hours: Range
    tokens_per_second: Range
    price_usd: Range | None
    price_source: str | None
    kilowatt_hours: Range | None
    calibrated: str | None = None
    parts: dict[str, float] | None = None
    busy: float | None = None


def expected_time(
    config: RunConfig,
    flops_per_step: int,
    device: Device | None,
    followed: StepTrace,
    rates: Rates | None = None,
) -> Time:
    """How long the steps will take; validation, scores, samples, checkpoints come on top."""
    precision = planned_precision(config, device)
    if rates is None or precision not in rates.flops_per_second:
        return _assumed_time(config, flops_per_step, device, followed)
    told = _step_time(config, device, followed, rates)
    peak = Peak(
        flops_per_second=rates.flops_per_second[precision],
        source=f"best {precision} matrix product when it was calibrated",
    )
    if device is not None:
        peak = device.peak(precision) or peak
    mfu = flops_per_step / told.step / peak.flops_per_second
    machine = rates.machine
    return _time(
        config,
        device,
        peak,
        Range(low=mfu, high=mfu),
        "from what was measured of its operations",
        Range(low=told.step, high=told.step),
        calibrated=f"{machine.gpu or machine.processor}, torch {machine.torch}, {rates.measured}",
        parts=told.parts,
        busy=told.busy / told.step,
    )


def _step_time(
    config: RunConfig, device: Device | None, followed: StepTrace, rates: Rates
) -> StepTime:
    precision = planned_precision(config, device)
    on_gpu = device is not None
    return step_time(
        followed,
        rates,
        precision,
        looks_ahead=on_gpu and precision != "fp16",
        is_recorded=records_step(config, "cuda" if on_gpu else "cpu", planned_shape(config)[0]),
    )


def _assumed_time(
    config: RunConfig, flops_per_step: int, device: Device | None, followed: StepTrace
) -> Time:
    """Between the times that a hopeful and a doubtful guess come to."""
    peak = _peak(config, device)
    guesses = guesses_for(device)
    low, high = (
        _step_time(config, device, followed, guessed_rates(guess, device, peak)).step
        for guess in (guesses.hopeful, guesses.doubtful)
    )
    fastest = flops_per_step / peak.flops_per_second
    mfu = Range(low=fastest / high, high=fastest / low)
    return _time(config, device, peak, mfu, in_words(device), Range(low=low, high=high))


def _time(
    config: RunConfig,
    device: Device | None,
    peak: Peak,
    mfu: Range,
    mfu_source: str,
    step: Range,
    **measured: Any,
) -> Time:
    """What follows from the time of a step."""
    run = step.times(config.training.n_steps)
    hours = run.times(1 / 3600)
    price = device.price_per_hour_usd if device else None
    return Time(
        peak_flops_per_second=peak.flops_per_second,
        peak_source=peak.source,
        mfu=mfu,
        mfu_source=mfu_source,
        step_seconds=step,
        run_seconds=run,
        device_hours=hours,
        tokens_per_second=Range(
            low=config.training.batch_tokens / step.high,
            high=config.training.batch_tokens / step.low,
        ),
        price_usd=None if price is None else hours.times(price),
        price_source=f"{device.price_source}, {device.price_date}"
        if device and device.price_source
        else None,
        kilowatt_hours=hours.times(device.watts / 1000) if device else None,
        **measured,
    )


def _peak(config: RunConfig, device: Device | None) -> Peak:
    precision = planned_precision(config, device)
    if device is None:
        return measured_peak(torch.device("cpu"), precision)
    peak = device.peak(precision)
    assert peak is not None, "planned_precision refuses what a device lacks"
    return peak
