import pytest
import torch

import traced
from modelwright.accounting.hardware import Device, device_named
from modelwright.planning import verify_here as room
from modelwright.planning.measuring import Measured
from modelwright.planning.plan import make_plan
from modelwright.planning.step import Site
from modelwright.planning.verify_here import require_here, verify_here

h100 = device_named("h100")


def with_gpu(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: name is not None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)


def test_the_processor_is_always_here(monkeypatch: pytest.MonkeyPatch):
    with_gpu(monkeypatch, None)
    assert require_here(None) == torch.device("cpu")


def test_a_gpu_that_is_here_is_taken(monkeypatch: pytest.MonkeyPatch):
    with_gpu(monkeypatch, "NVIDIA H100 80GB HBM3")
    assert require_here(h100) == torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "sees no GPU here, only the processor"),
        ("Tesla T4", "the GPU here is Tesla T4; use --on t4"),
        ("NVIDIA Wonder 3000", "the GPU here is NVIDIA Wonder 3000; use train, which"),
    ],
)
def test_another_device_is_an_error_that_names_what_is_here(
    name: str | None, said: str, monkeypatch: pytest.MonkeyPatch
):
    with_gpu(monkeypatch, name)
    with pytest.raises(ValueError, match="the plan is for NVIDIA H100") as raised:
        require_here(h100)
    assert said in str(raised.value)


@pytest.mark.parametrize("changes", [(), ("training.recompute=blocks", "optimizer.kind=sgd")])
def test_real_steps_come_to_what_was_planned(changes: tuple[str, ...]):
    fixed = ("training.lanes=1", "training.compile=false", "training.attention=plain")
    config = traced.run_config(*fixed, *changes, "training.precision=fp32", batch=4)
    plan = make_plan(config, None)
    found = {one.name: one for one in verify_here(config, plan, None)}
    assert found["parameters"].error == found["work of a step"].error == 0
    peak = found["peak memory"]
    assert 0 <= (peak.measured or 0) - (peak.low or 0) < 64  # beside tensors the loss as one number
    assert (found["time of a step"].measured or 0) > 0
    assert "reserved memory" not in found


def gpu_config(*changes: str):
    return traced.run_config("training.compile=false", *changes, batch=4)


def test_steps_on_a_gpu_are_taken_in_the_portions_that_were_planned(
    monkeypatch: pytest.MonkeyPatch,
):
    with_gpu(monkeypatch, "NVIDIA H100 80GB HBM3")
    sites = []

    def measure(_config: object, _shape: object, site: Site, n_steps: int) -> Measured:
        sites.append(site)
        return Measured(
            peak_bytes=100,
            reserved_bytes=200,
            outside_bytes=0,
            step_seconds=[1.0] * n_steps,
            first_step_seconds=2.0,
        )

    monkeypatch.setattr(room, "measure_on_gpu", measure)
    config = gpu_config("training.micro_batch=2")
    found = {one.name: one for one in verify_here(config, make_plan(config, h100), h100)}
    assert (sites[0].device, sites[0].micro_batch) == ("cuda", 2)
    assert found["reserved memory"].measured == 200
    assert found["peak memory"].measured == 100


def test_a_step_that_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch):
    with_gpu(monkeypatch, "NVIDIA H100 80GB HBM3")

    def measure(*_: object, **__: object) -> Measured:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.\nmore")

    monkeypatch.setattr(room, "measure_on_gpu", measure)
    config = gpu_config()
    device: Device = h100
    plan = make_plan(config, device)
    with pytest.raises(MemoryError, match=r"does not fit here: .* Tried to allocate 1 GiB\.$"):
        verify_here(config, plan, device)
