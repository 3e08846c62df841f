import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.benchmark import Timer

from modelwright.accounting import hardware
from modelwright.accounting import measured_peak as measuring
from modelwright.accounting.hardware import (
    Device,
    device_named,
    device_of,
    device_tables,
    devices,
    peak_flops,
    published_peak,
    usable_share,
)
from modelwright.accounting.measured_peak import (
    copied_bytes,
    least_copied_bytes,
    measured_bandwidth,
    measured_peak,
    measured_shapes,
)

page = Path(__file__).parents[3] / "docs" / "hardware.md"
cpu, cuda = torch.device("cpu"), torch.device("cuda")
Shape = tuple[int, int, int]
each_device = pytest.mark.parametrize("device", devices().values(), ids=lambda one: one.key)


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
        ("NVIDIA GeForce RTX 5090", (104.8, 104.8, 209.5, 209.5)),
        ("AMD Instinct MI300X", (163.4, 653.7, 1307.4, 1307.4)),
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
        "NVIDIA GeForce RTX 5090 D",
        "NVIDIA GB200",
        "NVIDIA B200 MIG 1g.23gb",
        "AMD Instinct MI300A",
    ],
)
def test_a_gpu_with_a_similar_name_is_not_taken_for_another(name: str):
    assert published_peak(name, "fp16") is None


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Tesla V100-SXM2-16GB", "v100-16gb"),
        ("Tesla V100-SXM2-32GB", "v100-32gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200-nvl"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_the_memory_of_a_gpu_is_part_of_its_name(name: str, key: str):
    found = device_of(name)
    assert found is device_named(key)


def test_a_device_in_another_machine_or_in_parts_is_not_in_the_table():
    assert device_of("NVIDIA H100 80GB HBM3 MIG 1g.10gb") is None
    assert device_of("Intel Xeon") is None


def test_each_row_of_the_file_is_a_device_of_its_own():
    text = (files("modelwright.accounting") / "hardware.toml").read_text(encoding="utf-8")
    assert text.count("\n[[device]]\n") == len(devices()) >= 19


@each_device
def test_every_figure_has_a_source_and_a_date(device: Device):
    assert device.source and device.source_date.startswith("20")
    for figure, source, date in (
        (device.reported_bytes, device.reported_source, device.reported_date),
        (device.price_per_hour_usd, device.price_source, device.price_date),
    ):
        assert (figure is None) == (source is None) == (date is None)
        assert date is None or date.startswith("20")


@each_device
def test_the_figures_of_a_device_are_of_the_right_size(device: Device):
    assert {"fp32", "fp16"} <= set(device.peaks)
    assert all(5e12 < peak < 1e16 for peak in device.peaks.values())
    assert 3e11 <= device.bandwidth_bytes_per_second <= 1e13
    assert 50 <= device.watts <= 1200
    assert (7, 0) <= device.capability <= (12, 0)
    assert device.interconnect_bytes_per_second is None or (
        1e11 < device.interconnect_bytes_per_second < 2e12
    )
    assert device.price_per_hour_usd is None or 0.1 < device.price_per_hour_usd < 20


@each_device
def test_a_device_has_a_little_less_memory_than_it_is_sold_with(device: Device):
    assert 0.9 * device.memory_bytes < device.usable_bytes < device.memory_bytes
    takes_part_for_error_correction = device.key in {"t4", "a10", "a10g", "l4", "l40s"}
    usual = round(usable_share * device.memory_bytes, -8)  # reports are rounded
    assert (device.usable_bytes < usual - 1e8) == takes_part_for_error_correction


def test_a_report_of_the_memory_goes_before_the_rule():
    assert device_named("h100").usable_bytes == 81_082 * 2**20
    assert device_named("a100-80gb").usable_bytes == int(80 * 2**30 * usable_share)


# TFLOP/s as the vendors print them largest, with sparsity; GeForce ones with sums in fp32.
sparse_bf16 = {
    "a10": 250,
    "a10g": 140,
    "a100-40gb": 624,
    "a100-80gb": 624,
    "a100-pcie-40gb": 624,
    "a100-pcie-80gb": 624,
    "l4": 242,
    "l40s": 733,
    "h100": 1979,
    "h100-pcie": 1513,
    "h100-nvl": 1671,
    "h200": 1979,
    "h200-nvl": 1671,
    "b200": 4500,
    "rtx-3090": 142,
    "rtx-4090": 330.4,
    "rtx-5090": 419,
    "mi300x": 2614.9,
}


@each_device
def test_no_figure_is_one_with_sparsity(device: Device):
    peaks = device.peaks
    assert ("bf16" in peaks) == (device.key in sparse_bf16)
    if "bf16" not in peaks:
        return
    assert 0.49 * sparse_bf16[device.key] <= peaks["bf16"] / 1e12 <= 0.51 * sparse_bf16[device.key]
    assert peaks["fp16"] == peaks["bf16"]
    assert peaks["tf32"] == pytest.approx(peaks["bf16"] / 2, rel=0.02)
    assert peaks.get("fp8", 2 * peaks["bf16"]) == pytest.approx(2 * peaks["bf16"], rel=0.02)
    is_geforce = device.key.startswith("rtx")  # half as fast where it sums in fp32
    assert peaks["int8"] == pytest.approx((4 if is_geforce else 2) * peaks["bf16"], rel=0.02)


def test_a_format_that_the_matrix_units_lack_has_no_peak():
    assert device_named("t4").peak("bf16") is None
    assert device_named("a100-80gb").peak("fp8") is None
    peak = device_named("h100").peak("fp8")
    assert peak is not None and peak.flops_per_second == 1978.9e12
    assert peak.source.endswith("datasheet, dense fp8")


def test_a_device_is_named_in_any_case():
    assert device_named(" H100-PCIe ") is devices()["h100-pcie"]


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("a100", "'a100-40gb' or 'a100-80gb' or 'a100-pcie-40gb' or 'a100-pcie-80gb'"),
        ("rtx-4080", "'rtx-4090' or 'rtx-5090' or 'rtx-3090'"),
    ],
)
def test_an_unknown_device_is_an_error_that_names_the_nearest(key: str, hint: str):
    with pytest.raises(ValueError) as raised:
        device_named(key)
    assert str(raised.value) == (
        f"no device is called '{key}'; did you mean {hint}? known are {', '.join(devices())}"
    )


@pytest.mark.parametrize("key", ["abacus", ""])
def test_a_device_like_no_other_is_an_error_that_lists_all(key: str):
    with pytest.raises(ValueError) as raised:
        device_named(key)
    assert str(raised.value) == f"no device is called '{key}'; known are {', '.join(devices())}"


def test_the_page_for_readers_shows_the_table():
    tables = device_tables()
    assert f"\n{tables}\n" in page.read_text(), f"put these tables into {page}:\n{tables}"


@each_device
def test_the_page_gives_the_figures_as_they_are(device: Device):
    """The tables are written by the code they are compared with, so look at one cell by hand."""
    row = next(
        line for line in device_tables().splitlines() if line.startswith(f"| `{device.key}`")
    )
    cells = row.strip("| ").split(" | ")
    assert float(cells[6]) * 1e12 == device.peaks["fp16"]
    assert float(cells[11].rstrip("*")) * 2**20 == device.context_bytes
    assert cells[11].endswith("*") == (device.measured_context_bytes is None)
    assert float(cells[12]) * 1e9 == device.bandwidth_bytes_per_second
    assert cells[15] == "–" or float(cells[15]) == device.price_per_hour_usd


def test_the_table_is_read_without_torch():
    code = (
        "import sys; from modelwright.accounting.hardware import devices; devices(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def pretend(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[Shape], float]) -> list[Shape]:
    """Let products take what a function says, and list those that were measured."""
    measured: list[Shape] = []

    def take(device: Any, dtype: Any, shape: Shape, generator: Any) -> float:
        measured.append(shape)
        return seconds(shape)

    monkeypatch.setattr(measuring, "_median_seconds", take)
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


def test_a_copied_byte_counts_as_read_and_as_written(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measuring, "_copy_seconds", lambda device, n_bytes: n_bytes / 1e10)
    assert measured_bandwidth.__wrapped__(cpu) == pytest.approx(2e10)


def test_a_device_with_little_memory_copies_less(monkeypatch: pytest.MonkeyPatch):
    tried: list[int] = []

    def seconds(device: Any, n_bytes: int) -> float:
        tried.append(n_bytes)
        if n_bytes > copied_bytes["cpu"] / 4:
            raise torch.OutOfMemoryError
        return n_bytes / 1e10

    monkeypatch.setattr(measuring, "_copy_seconds", seconds)
    assert measured_bandwidth.__wrapped__(cpu) == pytest.approx(2e10)
    assert tried == [copied_bytes["cpu"] // share for share in (1, 2, 4)]


def test_a_device_without_any_memory_left_is_an_error(monkeypatch: pytest.MonkeyPatch):
    tried: list[int] = []

    def full(device: Any, n_bytes: int) -> float:
        tried.append(n_bytes)
        raise torch.OutOfMemoryError

    monkeypatch.setattr(measuring, "_copy_seconds", full)
    with pytest.raises(torch.OutOfMemoryError):
        measured_bandwidth.__wrapped__(cpu)
    assert tried[-1] == least_copied_bytes


def test_the_measured_bandwidth_is_that_of_a_copy_timed_by_hand():
    source = torch.ones(copied_bytes["cpu"], dtype=torch.uint8)
    target = torch.empty_like(source)
    timer = Timer("target.copy_(source)", globals={"target": target, "source": source})
    rate = 2 * copied_bytes["cpu"] / timer.timeit(5).median
    # Within a factor of ten: other work on this machine comes and goes between the two.
    assert rate / 10 < measured_bandwidth(cpu) < rate * 10
