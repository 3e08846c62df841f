"""How fast a device multiplies matrices at best: the number that MFU is a share of."""

import re
import statistics
import time
from collections.abc import Iterator
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


@dataclass(frozen=True, kw_only=True)
class GpuRow:
    """What is published about one kind of GPU; None where its matrix units lack the format."""

    name: str  # a regular expression for the whole name that CUDA gives, less the maker's
    source: str
    fp32: float  # all in TFLOP/s
    tf32: float | None
    bf16: float | None
    fp16: float


# Dense products, never the doubled figures "with sparsity", and sums in fp32, as PyTorch has
# them: GeForce cards are twice as fast when they sum in fp16. A part of a GPU (MIG) and every
# card that is not here is measured.
gpu_table = (
    GpuRow(name="T4", source="NVIDIA T4 datasheet", fp32=8.1, tf32=None, bf16=None, fp16=65),
    GpuRow(
        name=r"V100-SXM2-\d+GB",
        source="NVIDIA V100 datasheet (SXM2)",
        fp32=15.7,
        tf32=None,
        bf16=None,
        fp16=125,
    ),
    GpuRow(
        name=r"V100-PCIE-\d+GB",
        source="NVIDIA V100 datasheet (PCIe)",
        fp32=14,
        tf32=None,
        bf16=None,
        fp16=112,
    ),
    GpuRow(name="A10", source="NVIDIA A10 datasheet", fp32=31.2, tf32=62.5, bf16=125, fp16=125),
    GpuRow(name="A10G", source="NVIDIA A10G datasheet", fp32=35, tf32=35, bf16=70, fp16=70),
    GpuRow(
        name=r"A100-(SXM4|PCIE)-\d+GB|A100 80GB PCIe",
        source="NVIDIA A100 datasheet",
        fp32=19.5,
        tf32=156,
        bf16=312,
        fp16=312,
    ),
    GpuRow(name="L4", source="NVIDIA L4 datasheet", fp32=30.3, tf32=60, bf16=121, fp16=121),
    GpuRow(
        name="L40S", source="NVIDIA L40S datasheet", fp32=91.6, tf32=183, bf16=362.05, fp16=362.05
    ),
    GpuRow(
        name="H100 80GB HBM3",
        source="NVIDIA H100 whitepaper (SXM5)",
        fp32=66.9,
        tf32=494.7,
        bf16=989.4,
        fp16=989.4,
    ),
    GpuRow(
        name="H100 PCIe",
        source="NVIDIA H100 whitepaper (PCIe)",
        fp32=51.2,
        tf32=378,
        bf16=756,
        fp16=756,
    ),
    GpuRow(
        name="H100 NVL",
        source="NVIDIA H100 datasheet (NVL)",
        fp32=60,
        tf32=417.5,
        bf16=835.5,
        fp16=835.5,
    ),
    GpuRow(
        name="H200",
        source="NVIDIA H200 datasheet (SXM)",
        fp32=67,
        tf32=494.5,
        bf16=989.5,
        fp16=989.5,
    ),
    GpuRow(
        name="H200 NVL",
        source="NVIDIA H200 datasheet (NVL)",
        fp32=60,
        tf32=417.5,
        bf16=835.5,
        fp16=835.5,
    ),
    GpuRow(
        name="B200", source="NVIDIA HGX B200 datasheet", fp32=75, tf32=1125, bf16=2250, fp16=2250
    ),
    GpuRow(
        name="GeForce RTX 3090",
        source="NVIDIA GA102 whitepaper",
        fp32=35.6,
        tf32=35.6,
        bf16=71,
        fp16=71,
    ),
    GpuRow(
        name="GeForce RTX 4090",
        source="NVIDIA Ada whitepaper",
        fp32=82.6,
        tf32=82.6,
        bf16=165.2,
        fp16=165.2,
    ),
)

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


def peak_flops(device: "torch.device", precision: Precision) -> Peak:
    """The published peak of a GPU that is in the table, else what a short measurement finds.

    A processor is always measured: its clock, and so its peak, is whatever its neighbours leave.
    """
    import torch

    if device.type == "cuda":
        published = published_peak(torch.cuda.get_device_name(device), precision)
        if published is not None:
            return published
    has_tf32 = device.type == "cuda"
    return measured_peak(device, "fp32" if precision == "tf32" and not has_tf32 else precision)


def published_peak(gpu: str, precision: Precision) -> Peak | None:
    """What is published for a GPU of that name in that precision; None where it is not known."""
    name = re.sub(r"^(NVIDIA |Tesla )+", "", gpu)
    for row in gpu_table:
        if re.fullmatch(row.name, name):
            tera = getattr(row, precision)
            if tera is None:
                return None
            return Peak(flops_per_second=tera * 1e12, source=f"{row.source}, dense {precision}")
    return None


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
    with _float32_products(device, precision):
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
    seconds: list[float] = []
    while len(seconds) <= n_runs:
        began = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
        if len(seconds) > 1 and sum(seconds) > measuring_seconds / len(measured_shapes):
            break
    return statistics.median(seconds[1:])


@contextmanager
def _float32_products(device: "torch.device", precision: Precision) -> Iterator[None]:
    """Let a GPU multiply float32 numbers as the precision says, and as before afterwards."""
    import torch

    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
