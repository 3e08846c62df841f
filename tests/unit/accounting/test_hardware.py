from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.benchmark import Timer

from modelwright.accounting import hardware
from modelwright.accounting.hardware import (
    GpuRow,
    gpu_table,
    measured_peak,
    measured_shapes,
    peak_flops,
    published_peak,
)

cpu, cuda = torch.device("cpu"), torch.device("cuda")
Shape = tuple[int, int, int]


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("Tesla T4", (8.1, None, None, 65)),
        ("Tesla V100-SXM2-16GB", (15.7, None, None, 125)),
        ("Tesla V100-SXM2-32GB", (15.7, None, None, 125)),
        ("Tesla V100-PCIE-16GB", (14, None, None, 112)),
        ("NVIDIA A10", (31.2, 62.5, 125, 125)),
        ("NVIDIA A10G", (35, 35, 70, 70)),
        ("A100-SXM4-40GB", (19.5, 156, 312, 312)),
        ("NVIDIA A100-SXM4-80GB", (19.5, 156, 312, 312)),
        ("NVIDIA A100-PCIE-40GB", (19.5, 156, 312, 312)),
        ("NVIDIA A100 80GB PCIe", (19.5, 156, 312, 312)),
        ("NVIDIA L4", (30.3, 60, 121, 121)),
        ("NVIDIA L40S", (91.6, 183, 362.05, 362.05)),
        ("NVIDIA H100 80GB HBM3", (66.9, 494.7, 989.4, 989.4)),
        ("NVIDIA H100 PCIe", (51.2, 378, 756, 756)),
        ("NVIDIA H100 NVL", (60, 417.5, 835.5, 835.5)),
        ("NVIDIA H200", (67, 494.5, 989.5, 989.5)),
        ("NVIDIA H200 NVL", (60, 417.5, 835.5, 835.5)),
        ("NVIDIA B200", (75, 1125, 2250, 2250)),
        ("NVIDIA GeForce RTX 3090", (35.6, 35.6, 71, 71)),
        ("NVIDIA GeForce RTX 4090", (82.6, 82.6, 165.2, 165.2)),
    ],
)
def test_a_gpu_is_known_by_the_name_that_cuda_gives(name: str, tera: tuple[float | None, ...]):
    for precision, figure in zip(("fp32", "tf32", "bf16", "fp16"), tera, strict=True):
        peak = published_peak(name, precision)
        assert (peak and peak.flops_per_second) == (figure and figure * 1e12)
        assert peak is None or peak.source.endswith(f", dense {precision}")


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA L40",
        "NVIDIA A10M",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "AMD Instinct MI300X",
    ],
)
def test_a_gpu_with_a_similar_name_is_not_taken_for_another(name: str):
    assert published_peak(name, "fp16") is None


@pytest.mark.parametrize("row", gpu_table, ids=lambda row: row.name)
def test_the_precisions_of_a_gpu_agree_with_each_other(row: GpuRow):
    """A figure "with sparsity" among dense ones would be twice what it should."""
    if row.bf16 is not None:
        assert row.fp16 == row.bf16
        assert row.tf32 == pytest.approx(row.bf16 / 2, rel=0.02)


def pretend(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Shape], float]) -> list[Shape]:
    """Let products take what a function says, and list those that were measured."""
    measured: list[Shape] = []

    def take(device: Any, dtype: Any, shape: Shape, generator: Any) -> float:
        measured.append(shape)
        return seconds(shape)

    monkeypatch.setattr(hardware, "_median_seconds", take)
    return measured


def work(shape: Shape) -> int:
    rows, inner, columns = shape
    return 2 * rows * inner * columns


def test_what_is_published_goes_before_what_is_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(hardware, "measured_peak", None)
    assert peak_flops(cuda, "bf16").flops_per_second == 989.4e12


@pytest.mark.parametrize(
    ("name", "precision"), [("Tesla T4", "bf16"), ("NVIDIA GeForce RTX 9090", "fp16")]
)
def test_a_gpu_without_a_published_figure_is_measured(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: Any
):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    monkeypatch.setattr(hardware, "measured_peak", lambda *asked: asked)
    assert peak_flops(cuda, precision) == (cuda, precision)


def test_a_processor_is_measured_in_the_precision_it_has(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hardware, "measured_peak", lambda *asked: asked)
    assert peak_flops(cpu, "tf32") == (cpu, "fp32")
    assert peak_flops(cpu, "bf16") == (cpu, "bf16")


def test_the_peak_is_the_best_rate_of_all_shapes(monkeypatch: pytest.MonkeyPatch):
    best = measured_shapes[3]
    measured = pretend(monkeypatch, lambda shape: work(shape) / (5e15 if shape == best else 4e15))
    peak = measured_peak.__wrapped__(cpu, "fp32")
    assert peak.flops_per_second == pytest.approx(5e15)
    assert peak.source == "best fp32 matrix product measured here"
    assert measured[1:] == list(measured_shapes)


def test_a_slow_device_is_spared_the_large_products(monkeypatch: pytest.MonkeyPatch):
    measured = pretend(monkeypatch, lambda shape: work(shape) / 1.5e9)  # fp16 without hardware
    assert measured_peak.__wrapped__(cpu, "fp16").flops_per_second == pytest.approx(1.5e9)
    assert measured[1:] == list(measured_shapes[:1])


def test_a_gpu_too_small_for_a_product_has_a_peak_all_the_same(monkeypatch: pytest.MonkeyPatch):
    def seconds(shape: Shape) -> float:
        if shape == measured_shapes[-1]:
            raise torch.OutOfMemoryError
        return work(shape) / 1e15

    pretend(monkeypatch, seconds)
    assert measured_peak.__wrapped__(cpu, "fp32").flops_per_second == pytest.approx(1e15)


def test_measuring_leaves_the_process_as_it_was():
    random, precision = torch.get_rng_state(), torch.get_float32_matmul_precision()
    first = measured_peak(cpu, "fp32")
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_float32_matmul_precision() == precision
    assert first is measured_peak(cpu, "fp32")  # once a process


def test_the_measured_rate_is_that_of_a_product_timed_by_hand():
    left, right = torch.rand(512, 512), torch.rand(512, 512)
    timer = Timer("left @ right", globals={"left": left, "right": right})
    rate = work((512, 512, 512)) / timer.timeit(10).median
    # Within a factor of twenty: other work on this machine comes and goes between the two.
    assert rate / 20 < measured_peak(cpu, "fp32").flops_per_second < rate * 20
