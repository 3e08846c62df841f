"""What fits: the room on a device, the portions that training ends up with, and what would help."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from modelwright.accounting.allocator import reserved_by
from modelwright.accounting.hardware import Device
from modelwright.accounting.parameters import count_parameters
from modelwright.model.config import ModelConfig
from modelwright.planning.gpu_operations import library_workspaces
from modelwright.planning.step import Site, StepTrace, trace_step
from modelwright.training.config import RunConfig

# Depths from which that of a model follows: each block adds the same.
shallow_depths = (2, 3)


def outside_bytes(device: Device) -> int:
    """What of a GPU's memory no tensor gets."""
    return device.context_bytes + sum(library_workspaces(device.capability))


def usable_bytes(device: Device | None) -> int:
    """The memory of a device, or of this machine and what a container may have of it."""
    if device is not None:
        return device.usable_bytes
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    try:
        return min(there, int(limit.read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return there


def room_bytes(device: Device | None) -> int:
    """What tensors can have of it."""
    taken = 0 if device is None else outside_bytes(device)
    return usable_bytes(device) - taken


def fits(step: StepTrace, site: Site, room: int) -> bool:
    """Whether a step's tensors find room, on a GPU also between those that are there.

    Args:
        room: bytes for tensors, besides what libraries take.
    """
    if step.trace.peak_bytes > room:
        return False
    if site.device == "cpu":
        return True
    workspaces = library_workspaces(site.capability)
    limit = room + sum(workspaces)
    return reserved_by(step.trace, workspaces=workspaces, limit_bytes=limit).fits


def settle(config: RunConfig, shape: ModelConfig, site: Site, room: int) -> tuple[Site, StepTrace]:
    """Halve portions until a step fits, if the config leaves them to us; and follow that step.

    Portions that two shallow models say are far too large are passed over without being followed.

    Returns:
        The site with the portions that training ends up with, and its step, which may not fit.
    """
    if config.training.micro_batch != "auto":
        return site, trace_step(config, shape, site)
    least = least_peak(config, shape, site) if site.device == "cuda" else None
    while True:
        while least is not None and site.micro_batch > 1 and least(site.micro_batch) > room:
            site = _halved(site)
        step = trace_step(config, shape, site)
        if site.micro_batch == 1 or fits(step, site, room):
            return site, step
        site = _halved(site)


def _halved(site: Site) -> Site:
    return dataclasses.replace(site, micro_batch=site.micro_batch // 2)


def least_peak(config: RunConfig, shape: ModelConfig, site: Site) -> Callable[[int], float] | None:
    """What a step takes at least, by the size of its portions; None where a model is shallow.

    The peak is the largest of several sums, each of which grows evenly with the depth and with the
    portions; so a line through two small ones does not come out above it. Of that line all but
    weights, their gradients and the optimizer's state is taken to shrink with the portions, which
    is more than does.
    """
    # Every so many blocks forget, so depths are multiples of that.
    first, second = (n * config.training.recompute_every for n in shallow_depths)
    if shape.n_layers <= second + 1:
        return None
    depths = [dataclasses.replace(shape, n_layers=n) for n in (first, second)]
    low, high = (trace_step(config, one, site).trace.peak_bytes for one in depths)
    peak = low + (high - low) / (second - first) * (shape.n_layers - first)
    # A weight, its gradient, and what AdamW keeps; the others keep half of that, or nothing.
    per_parameter = 16 if config.optimizer.kind == "adamw" else 8
    lasting = min(per_parameter * count_parameters(shape).total, peak)
    return lambda n: lasting + (peak - lasting) * n / site.micro_batch


def largest_micro_batch(config: RunConfig, shape: ModelConfig, site: Site, room: int) -> int | None:
    """The largest portion that fits, found by following steps until the next one does not.

    Beyond some size the peak grows in proportion, so a line through the last two sizes
    that were followed leads there in a few steps.

    Args:
        room: bytes for tensors.

    Returns:
        At most the whole batch; None if not even one sequence fits.
    """

    @cache
    def peak_and_fit(n: int) -> tuple[int, bool]:
        there = dataclasses.replace(site, micro_batch=n)
        step = trace_step(config, shape, there)
        return step.trace.peak_bytes, fits(step, there, room)

    def peak(n: int) -> int:
        return peak_and_fit(n)[0]

    whole = config.batch_size
    if peak_and_fit(whole)[1]:
        return whole
    large_enough, too_large = 0, whole
    before, now = whole, max(1, whole // 2)
    while too_large - large_enough > 1:
        if peak_and_fit(now)[1]:
            large_enough = now
        else:
            too_large = now
        slope = (peak(now) - peak(before)) / (now - before) if now != before else 0
        middle = (large_enough + too_large) // 2
        guess = int(now + (room - peak(now)) / slope) if slope > 0 else middle
        before, now = now, max(large_enough + 1, min(too_large - 1, guess))
    return large_enough or None


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Settings with which a step fits.

    Attributes:
        settings: as `--set` takes them.
        peak_bytes: what it takes then.
        costs: what one pays for it.
    """

    settings: tuple[str, ...]
    peak_bytes: int
    costs: str


def suggestions(
    config: RunConfig,
    shape: ModelConfig,
    site: Site,
    room: int,
    site_of: Callable[[RunConfig], Site],
) -> list[Suggestion]:
    """What to change so that a step fits; each was followed, and fits.

    Args:
        site_of: where a changed run begins.
    """
    found = []
    for settings, costs, changed in _changes(config, site):
        # The portions stay, so that this change is the only one.
        there = dataclasses.replace(site_of(changed), micro_batch=site.micro_batch)
        least = least_peak(changed, shape, there)
        if least is not None and least(there.micro_batch) > room:
            continue
        step = trace_step(changed, shape, there)
        if fits(step, there, room):
            peak_bytes = step.trace.peak_bytes
            found.append(Suggestion(settings=settings, peak_bytes=peak_bytes, costs=costs))
    if site.micro_batch > 1 and (largest := largest_micro_batch(config, shape, site, room)):
        there = dataclasses.replace(site, micro_batch=largest)
        found.append(
            Suggestion(
                settings=(f"training.micro_batch={largest}",),
                peak_bytes=trace_step(config, shape, there).trace.peak_bytes,
                costs="more portions a step; the same numbers but for rounding",
            )
        )
    return found


def _changes(config: RunConfig, site: Site) -> Iterator[tuple[tuple[str, ...], str, RunConfig]]:
    """Single changes that make a step smaller, the cheap ones first."""

    def changed(name: str, value: str) -> tuple[tuple[str, ...], RunConfig]:
        training = dataclasses.replace(config.training, **{name: value, "recompute_every": 1})
        return (f"training.{name}={value}",), dataclasses.replace(config, training=training)

    if site.dtype.itemsize > 2 and site.device == "cuda":
        settings, other = changed("precision", "auto")
        yield settings, "products of 16-bit numbers, which are rounded more", other
    if config.training.recompute == "none":
        settings, other = changed("recompute", "selective")
        yield settings, "a few percent more time", other
    if config.training.recompute != "blocks":
        settings, other = changed("recompute", "blocks")
        yield settings, "up to a third more time", other
