"""What one of several ranks holds from operation to operation: a step's trace, with each kind of
memory cut to the rank's share, and the buffers of the collectives added.

The trace is of one portion; what the other portions of a step change is that gradients are there
already, to which new ones are added. What else is added is what PyTorch's own ways to share hold:

- Data parallel and ZeRO-1: `DistributedDataParallel(gradient_as_bucket_view=True)`, whose buckets
  are all of the gradients, from the beginning of the step to its end. A new gradient is copied
  there. (Without that setting gradients are there twice.)
- ZeRO-2 and FSDP: the gradients of a unit are whole until its backward pass is done; then they go
  into a buffer from which each rank is sent its part, and which stays until the next unit is done.
- FSDP: a unit is gathered whole while it is at work, and what is outside of all of them is whole
  from the beginning of the forward pass to the end of the backward pass. There is one buffer more,
  which on the way forward is that of the unit itself until the next one is gathered, and on the way
  back that of the next one, which is gathered ahead.

Source: PyTorch 2.13, torch/distributed/fsdp/_fully_shard/_fsdp_param_group.py (`wait_for_unshard`,
`post_backward`, `_backward_prefetch`) and torch/nn/parallel/distributed.py.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from modelwright.accounting.sharing import (
    Sharing,
    Unit,
    largest_share,
    sharing_units,
    state_bytes,
)
from modelwright.accounting.trace import Held, Trace
from modelwright.model.config import ModelConfig

Lines = dict[str, np.ndarray]  # bytes of each kind after each operation

at_work = ("forward", "loss", "backward")
outer_modules = ("embedding", "positions", "norm", "unembedding")


@dataclass(frozen=True)
class Run:
    """Operations of one unit on the same way, from `start` up to, but not, `end`."""

    unit: Unit
    phase: str
    start: int
    end: int


def rank_lines(
    trace: Trace,
    shape: ModelConfig,
    sharing: Sharing,
    *,
    n_portions: int,
    batch_bytes: int,
    rounding: int,
) -> Lines:
    """Bytes of each kind that the first rank holds after each operation of a portion.

    Args:
        trace: of a portion alone.
        shape: of the model that was followed: a rank's part of it, if the blocks are divided.
        batch_bytes: of all batches on the device.
        rounding: the allocator gives out multiples of so many bytes.
    """
    units = sharing_units(shape)
    runs = unit_runs(trace, units)
    reduced_at = _reduced_at(runs)
    back_at = next(run.start for run in runs if run.phase == "backward")
    shared: list[Held] = []
    for held in trace.storages:
        if held.kind == "gradients":
            done = _end_at(runs, reduced_at, held.born)
            shared += _gradient(held, sharing, n_portions, done, back_at, rounding)
        elif held.kind != "batches":
            shared.append(_share(held, sharing, rounding))
    lines = Trace(trace.operations, shared).timeline()
    there = np.ones(len(trace.operations), dtype=np.int64)
    lines["batches"] = batch_bytes * there
    if n_portions > 1 or has_buckets(sharing):
        shapes = [one for unit in units for one in unit.shapes]
        lasting = state_bytes(shapes, sharing, rounding=rounding)["gradients"]
        lines["gradients"] = lines.get("gradients", 0 * there) + lasting * there
    if sharing.stage >= 2:
        lines["reduced"] = _reduced(units, reduced_at, sharing.n_data, there)
    if sharing.stage == 3:
        lines["gathered"] = _gathered(runs, sharing.n_data, there)
    return lines


def has_buckets(sharing: Sharing) -> bool:
    """Whether gradients are there throughout, because they are in the buckets of DDP."""
    return sharing.stage < 2 and sharing.n_data > 1


def unit_runs(trace: Trace, units: list[Unit]) -> list[Run]:
    """Which unit is at work when, on the way forward, in the loss and on the way back.

    What is in no module belongs to what was at work before it.
    """
    by_name = {unit.name: unit for unit in units}
    runs: list[Run] = []
    unit = _unit_of("embedding", by_name)
    assert unit is not None
    for number, operation in enumerate(trace.operations):
        if operation.phase not in at_work:
            continue
        name = "unembedding" if operation.phase == "loss" else operation.module
        if operation.name.startswith("embedding"):  # its way back may be in no module
            name = "embedding"
        unit = _unit_of(name, by_name) or unit
        last = runs[-1] if runs else None
        if last and (last.unit, last.phase, last.end) == (unit, operation.phase, number):
            runs[-1] = dataclasses.replace(last, end=number + 1)
        else:
            runs.append(Run(unit, operation.phase, number, number + 1))
    return runs


def _unit_of(module: str, by_name: dict[str, Unit]) -> Unit | None:
    first, *others = module.split(".")
    if first == "blocks":
        return by_name[f"blocks.{others[0]}"]
    if first not in outer_modules:
        return None
    in_embedding = first in ("embedding", "positions") and "embedding" in by_name
    return by_name["embedding" if in_embedding else "outside"]


def _share(held: Held, sharing: Sharing, rounding: int) -> Held:
    """The rank's part of what is divided by rows; tables that are no parameters are not."""
    n_parts = sharing.n_parts(held.kind)
    is_table = held.kind == "weights" and held.dtype != torch.float32
    if n_parts == 1 or is_table:
        return held
    return dataclasses.replace(held, n_bytes=_share_bytes(held, n_parts, rounding))


def _share_bytes(held: Held, n_parts: int, rounding: int) -> int:
    """A vector's gradient may have been made with axes of one before its own."""
    shape = held.shape[held.shape.count(1) :] if held.shape[:1] == (1,) else held.shape
    n_bytes = held.dtype.itemsize * largest_share(shape, n_parts)
    return -(-n_bytes // rounding) * rounding


def _gradient(
    held: Held, sharing: Sharing, n_portions: int, reduced_at: int, back_at: int, rounding: int
) -> Iterator[Held]:
    """A new gradient, whole until it has been added to those that stay.

    Args:
        back_at: when the way back begins; a gradient that the loss has made waits for it.
    """
    if has_buckets(sharing) or (sharing.stage < 2 and n_portions > 1):
        died = max(held.born, back_at) + 1
        yield dataclasses.replace(held, kind="temporaries", died=died)
        return
    yield dataclasses.replace(held, died=reduced_at)
    if n_portions == 1:
        share = _share_bytes(held, sharing.n_data, rounding)
        yield dataclasses.replace(held, n_bytes=share, born=reduced_at)


def _reduced_at(runs: list[Run]) -> dict[str, int]:
    """When the gradients of a unit are all there, by its name."""
    found = {run.unit.name: run.end for run in runs if run.phase == "backward"}
    return found | {run.unit.name: runs[-1].end for run in runs if run.unit.stays}


def _end_at(runs: list[Run], reduced_at: dict[str, int], number: int) -> int:
    """When the unit is done that is at work at an operation."""
    run = next(run for run in runs if run.start <= number < run.end)
    return reduced_at[run.unit.name]


def _gathered(runs: list[Run], n_data: int, there: np.ndarray) -> np.ndarray:
    """Weights that are whole, besides the rank's own part of them."""
    line = 0 * there
    for run, following in pairwise([*runs, None]):
        assert run is not None
        if not run.unit.stays:
            line[run.start : run.end] += run.unit.whole_bytes
        buffer = run.unit if run.phase == "forward" else None
        if run.phase == "backward" and following is not None:
            buffer = following.unit
        is_there = buffer is not None and buffer.stays and run is not runs[0]
        if buffer is not None and not is_there:
            line[run.start : run.end] += buffer.padded_bytes(n_data)
    (outside,) = {run.unit.name: run.unit for run in runs if run.unit.stays}.values()
    line[runs[0].start : runs[-1].end] += outside.whole_bytes
    return line


def _reduced(
    units: list[Unit], reduced_at: dict[str, int], n_data: int, there: np.ndarray
) -> np.ndarray:
    """Gradients in the buffer from which each rank is sent its part."""
    line = 0 * there
    ends = sorted(set(reduced_at.values()))
    for unit in units:
        end = reduced_at[unit.name]
        until = next((later for later in ends if later > end), end)
        line[end - 1 : until] = np.maximum(line[end - 1 : until], unit.padded_bytes(n_data))
    return line
