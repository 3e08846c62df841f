"""A plan checked on the spot: a few real steps on the device that it is for."""

import dataclasses

import torch

from modelwright.accounting.hardware import Device, device_of
from modelwright.planning.measuring import count_flops, measure_on_cpu, measure_on_gpu
from modelwright.planning.plan import Plan
from modelwright.planning.site import first_site, planned_precision, planned_shape
from modelwright.planning.verify import Comparison, compare, found_in_steps
from modelwright.runtime.device import processor_name, set_matmul_precision
from modelwright.training.config import RunConfig
from modelwright.training.step import in_short

n_steps = 5


def require_here(device: Device | None) -> torch.device:
    """The device that a plan is for, if it is in this machine.

    Args:
        device: None is the processor.

    Raises:
        ValueError: saying what is here instead.
    """
    if device is None:
        return torch.device("cpu")
    wanted = f"--verify takes real steps, and the plan is for {device.title}"
    if not torch.cuda.is_available():
        raise ValueError(
            f"{wanted}, but PyTorch sees no GPU here, only the processor {processor_name()}; use "
            "--on cpu, or leave --verify out"
        )
    name = torch.cuda.get_device_name()
    here = device_of(name)
    if here is None or here.key != device.key:
        known = f"--on {here.key}" if here else "train, which compares with a plan of its own,"
        raise ValueError(f"{wanted}, but the GPU here is {name}; use {known} or --on cpu")
    return torch.device("cuda")


def verify_here(config: RunConfig, plan: Plan, device: Device | None) -> list[Comparison]:
    """Take a few steps as planned, on random tokens, and compare.

    Raises:
        ValueError: if the device is not here.
        MemoryError: if a step does not fit.
    """
    where = require_here(device)
    shape, _ = planned_shape(config)
    first = first_site(config, device)
    site = dataclasses.replace(first, micro_batch=plan.place.micro_batch)
    set_matmul_precision(planned_precision(config, device), where)
    try:
        measured = (
            measure_on_cpu(config, shape, site)
            if device is None
            else measure_on_gpu(config, shape, site, n_steps=n_steps)
        )
    except torch.OutOfMemoryError as error:
        raise MemoryError(f"the step does not fit here: {in_short(error)}") from None
    flops, on_gpu = count_flops(config, shape), device is not None
    found = found_in_steps(measured, flops, on_gpu=on_gpu, n_lanes=site.n_lanes)
    return compare(plan.to_json(), found)
