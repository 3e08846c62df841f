"""Settings that a plan chooses: how much the blocks forget, so that a step fits and no more."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from modelwright.accounting.hardware import Device
from modelwright.planning.fit import fits, least_peak, room_bytes
from modelwright.planning.site import first_site, planned_shape
from modelwright.planning.step import trace_step
from modelwright.training.config import RunConfig

# Every so many blocks forget: from what costs least time to what leaves most room.
steps_down = (4, 3, 2, 1)
fewest_tokens = 8192  # in a portion, where its size is free: with fewer a GPU is not kept busy


def settle_recompute(config: RunConfig, device: Device | None) -> RunConfig:
    """A config that says which blocks forget, where it left that to the plan.

    The fewest that let a step fit; all of them, if it does not even then.

    Args:
        device: None is this machine's processor.

    Raises:
        ValueError: if the config asks for what the device does not have.
    """
    if config.training.recompute != "auto":
        return config
    shape, _ = planned_shape(config)
    room = room_bytes(device)
    for candidate in candidates(config):
        site = first_site(candidate, device)
        if config.training.micro_batch == "auto":
            enough = max(1, fewest_tokens // shape.context)
            site = dataclasses.replace(site, micro_batch=min(site.micro_batch, enough))
        least = least_peak(candidate, shape, site) if site.device == "cuda" else None
        if least is not None and least(site.micro_batch) > room:
            continue
        if fits(trace_step(candidate, shape, site), site, room):
            return candidate
    return candidate  # the last one


def candidates(config: RunConfig) -> Iterator[RunConfig]:
    """The same run with ever more blocks that forget."""

    def forgetting(**changes: Any) -> RunConfig:
        training = dataclasses.replace(config.training, **changes)
        return dataclasses.replace(config, training=training)

    yield forgetting(recompute="none", recompute_every=1)
    for every in steps_down:
        if every <= config.model.n_layers:
            yield forgetting(recompute="blocks", recompute_every=every)
