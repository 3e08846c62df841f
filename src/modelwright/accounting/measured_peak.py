"""How fast this device multiplies matrices and copies memory, by a short measurement."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from modelwright.runtime.device import Precision, choose_dtype

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The best rate of matrix products, and who says so."""

    flops_per_second: float
    source: str


measuring_seconds = 0.5
n_runs = 5

# Rows, inner width, columns: squares, and an MLP's way up over a batch of tokens; in the order of
# their work, so that a slow device stops before those that would take it too long.
measured_shapes = (
    (512, 512, 512),
    (1024, 1024, 1024),
    (4096, 256, 1024),
    (2048, 2048, 2048),
    (8192, 1024, 4096),
    (4096, 4096, 4096),
    (8192, 8192, 8192),
)

# More than caches hold, though the largest servers' processors come near; and on a GPU so long that
# starting the copy hardly counts.
copied_bytes = {"cpu": 2**28, "cuda": 2**31}
least_copied_bytes = 2**20


@cache
def measured_peak(device: "torch.device", precision: Precision) -> Peak:
    """The best median rate over products of several shapes; measured once a process.

    It is what can be had here and now, not what the hardware could do: on a machine with other
    work it comes out lower, and the MFU higher. Takes less than a second.
    """
    import torch

    dtype = choose_dtype(precision, device)
    # Of its own, so that measuring leaves the random numbers of the run alone.
    generator = torch.Generator(device)
    with float32_products(device, precision):
        _median_seconds(device, dtype, (64, 64, 64), generator)  # loads the matrix library
        deadline = time.perf_counter() + measuring_seconds
        best = 0.0
        for rows, inner, columns in measured_shapes:
            work = 2 * rows * inner * columns
            left = deadline - time.perf_counter()
            # Small products are slow on a busy machine, so a guess from them may be far too long.
            if left < 0 or (best and 2 * work / best > left + measuring_seconds):
                break
            try:
                seconds = _median_seconds(device, dtype, (rows, inner, columns), generator)
            except torch.OutOfMemoryError:
                break
            best = max(best, work / seconds)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return Peak(flops_per_second=best, source=f"best {precision} matrix product measured here")


@cache
def measured_bandwidth(device: "torch.device") -> float:
    """Bytes per second of a large copy within the device's memory; measured once a process.

    A byte that is copied counts twice, as read and as written, the way vendors count. Like the
    peak, it is what can be had here and now. Takes about a second.
    """
    import torch

    n_bytes = copied_bytes["cuda" if device.type == "cuda" else "cpu"]
    while True:
        try:
            seconds = _copy_seconds(device, n_bytes)
            break
        except torch.OutOfMemoryError:
            if n_bytes <= least_copied_bytes:
                raise
            n_bytes //= 2
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return 2 * n_bytes / seconds


def _copy_seconds(device: "torch.device", n_bytes: int) -> float:
    """The median time of a copy after one that warms up."""
    import torch

    # Written before it is read: to Linux, pages that no one has written are all one page of zeros.
    source = torch.ones(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return _median_of_runs(lambda: target.copy_(source), device, seconds_at_most=measuring_seconds)


def _median_seconds(
    device: "torch.device",
    dtype: "torch.dtype",
    shape: tuple[int, int, int],
    generator: "torch.Generator",
) -> float:
    """The median time of a product after one that warms up; few runs where it takes long."""
    import torch

    rows, inner, columns = shape
    # Not zeros, with which a GPU draws less power and so runs at a higher clock.
    left, right = (
        torch.empty(size, device=device, dtype=dtype).uniform_(-1, 1, generator=generator)
        for size in ((rows, inner), (inner, columns))
    )
    return _median_of_runs(
        lambda: torch.mm(left, right),
        device,
        seconds_at_most=measuring_seconds / len(measured_shapes),
    )


def _median_of_runs(
    work: Callable[[], object], device: "torch.device", *, seconds_at_most: float
) -> float:
    """The median time of some work after one run that warms up; few runs where it takes long."""
    import torch

    seconds: list[float] = []
    while len(seconds) <= n_runs:
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
        if len(seconds) > 1 and sum(seconds) > seconds_at_most:
            break
    return statistics.median(seconds[1:])


@contextmanager
def float32_products(device: "torch.device", precision: Precision) -> Iterator[None]:
    """Let a GPU multiply float32 numbers as the precision says, and as before afterwards."""
    import torch

    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
