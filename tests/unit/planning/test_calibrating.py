"""Measuring a machine, on this processor and for a moment only."""

import itertools
from pathlib import Path

import pytest
import torch

from modelwright.accounting.hardware import device_named
from modelwright.accounting.rates import Rates
from modelwright.planning import calibrating
from modelwright.planning.calibrating import (
    Run,
    calibrate,
    gpt_like,
)
from modelwright.planning.clock import Clock, TimedOperations
from modelwright.planning.stored_rates import keep_rates, rates_file, stored_rates
from modelwright.runtime.device import Machine, processor_name

cpu = torch.device("cpu")


def test_products_come_in_all_layouts_and_sizes():
    some = list(itertools.islice(calibrating._product_sizes(), 400))
    assert {layout for layout, *_ in some} == {"nt", "nn", "tn"}
    assert len({sizes for _, *sizes in map(tuple, some) for sizes in [tuple(sizes)]}) > 300
    assert any(n_matrices > 1 for _, n_matrices, *_ in some)


def test_factors_have_the_layout_that_they_are_named_for():
    left, right = calibrating._factors(Clock(cpu), "fp32", "tn", 1, 4, 8, 16)
    assert (left.shape, right.shape) == ((4, 8), (8, 16))
    assert (left.stride(-1), right.stride(-1)) == (4, 1)


def test_longer_work_takes_longer():
    clock = Clock(cpu)
    small, large = torch.empty(2**12), torch.empty(2**24)
    assert clock.seconds(lambda: large.fill_(1)) > 5 * clock.seconds(lambda: small.fill_(1))


def test_every_operation_of_a_block_of_code_is_timed_with_its_size():
    with TimedOperations(Clock(cpu)) as timed:
        torch.add(torch.ones(300), torch.ones(300))
        torch.mm(torch.ones(2, 3), torch.ones(3, 4))
    found = {kind.name: (sizes, seconds) for kind, sizes, seconds in timed.measured("fp32")}
    assert found["add.Tensor float32"][0] == (3600.0,)
    assert found["product fp32 nn"][0] == (1, 2, 3, 4)
    assert all(seconds > 0 for _, seconds in found.values())


def test_a_machine_is_measured_and_its_rates_are_found_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path))
    tiny = ("model.d_model=32", "model.n_layers=1", "model.n_heads=2")
    monkeypatch.setattr(
        calibrating, "_operation_runs", lambda _: [Run((*gpt_like, *tiny), "fp32", 1, 16)]
    )
    monkeypatch.setattr(calibrating, "seconds_on_processor", 0.3)
    monkeypatch.setattr(calibrating, "whole_steps", ((32, 1, 2),))
    phases: list[str] = []
    rates = calibrate(cpu, on_progress=lambda progress: phases.append(progress.phase))
    assert phases[0] == "measuring fp32 products"
    assert phases[-1] == "measuring steps"
    assert set(rates.flops_per_second) == {"fp32", "bf16"}
    assert {"copy", "native_layer_norm float32"} <= set(rates.samples)
    assert any(name.startswith("product fp32") for name in rates.samples)
    assert rates.shares["step"] > 0
    assert stored_rates(None) is None
    assert keep_rates(rates) == tmp_path / "rates" / "cpu.json"
    found = stored_rates(None)
    assert found is not None
    assert found.machine == rates.machine


def gpu_rates(device: str, processor: str = "one") -> Rates:
    return Rates(
        device=device,
        machine=Machine(processor=processor, gpu=device, n_threads=1, python="3", torch="2"),
        measured="2026-01-01",
        bytes_per_second=1.0,
        flops_per_second={},
        samples={},
    )


def test_rates_belong_to_the_kind_of_device_that_they_were_measured_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path))
    keep_rates(gpu_rates("NVIDIA H100 80GB HBM3"))
    found = stored_rates(device_named("h100"))
    assert found is not None
    assert found.device == "NVIDIA H100 80GB HBM3"
    assert stored_rates(device_named("t4")) is None


def test_rates_of_another_processor_do_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MODELWRIGHT_HOME", str(tmp_path))
    keep_rates(gpu_rates("cpu", processor="another"))
    assert rates_file("cpu").exists()
    assert stored_rates(None) is None
    keep_rates(gpu_rates("cpu", processor=processor_name()))
    assert stored_rates(None) is not None


def test_a_gpu_that_is_not_here_cannot_be_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="PyTorch finds no GPU here"):
        calibrate(torch.device("cuda"))
