"""`device.py`: which number format a device takes, how it multiplies, and what memory it holds."""

import mmap
import resource
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from modelwright.runtime import device
from modelwright.runtime.device import (
    PrecisionChoice,
    choose_dtype,
    choose_precision,
    memory_bytes,
    peak_memory_bytes,
    set_matmul_precision,
)

cpu, cuda = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def matmul_precision_as_before() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def be_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], name: str = "") -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")],
)
def test_auto_takes_fp16_on_a_gpu_without_bf16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
):
    be_gpu(monkeypatch, capability)
    assert choose_precision("auto", cuda) == precision


def test_auto_takes_fp32_on_a_processor_without_bf16(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(device, "processor_flags", lambda: frozenset({"avx2"}))
    assert choose_precision("auto", cpu) == "fp32"
    monkeypatch.setattr(device, "processor_flags", lambda: frozenset({"amx_bf16"}))
    assert choose_precision("auto", cpu) == "bf16"


def test_what_was_asked_for_is_taken():
    for choice in ("fp32", "tf32", "bf16", "fp16"):
        assert choose_precision(choice, cuda) == choice
    assert choose_dtype("tf32", cuda) == choose_dtype("fp32", cuda) == torch.float32
    assert choose_dtype("bf16", cuda) == torch.bfloat16
    assert choose_dtype("fp16", cuda) == torch.float16


def test_tf32_is_switched_on_and_off_without_a_warning(monkeypatch: pytest.MonkeyPatch):
    be_gpu(monkeypatch, (8, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choices: tuple[PrecisionChoice, ...] = ("tf32", "bf16", "tf32", "fp32")
        for choice in choices:
            is_on = choice == "tf32"
            set_matmul_precision(choice, cuda)
            # All three names of the same switch agree; in some versions reading one may raise.
            assert torch.backends.cuda.matmul.allow_tf32 == is_on
            assert torch.backends.cuda.matmul.fp32_precision == ("tf32" if is_on else "ieee")
            assert torch.get_float32_matmul_precision() == ("high" if is_on else "highest")


def test_tf32_is_refused_where_the_hardware_lacks_it(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match=r"training\.precision is 'tf32', but .* device is 'cpu'"):
        set_matmul_precision("tf32", cpu)
    be_gpu(monkeypatch, (7, 5), "Tesla T4")
    with pytest.raises(ValueError, match=r"training\.precision is 'tf32', but Tesla T4 is older"):
        set_matmul_precision("tf32", cuda)
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_resident_memory_grows_and_shrinks_with_what_is_held():
    # Pages of its own: malloc may hand out memory that is resident since an earlier test.
    held = mmap.mmap(-1, 2**26)
    before = memory_bytes(cpu)
    for start in range(0, len(held), mmap.PAGESIZE):
        held[start] = 1
    with_it = memory_bytes(cpu)
    held.close()
    assert with_it - before == pytest.approx(2**26, rel=0.2)
    assert memory_bytes(cpu) - before < 2**25
    assert memory_bytes(cpu) <= peak_memory_bytes()


def test_without_proc_the_memory_is_the_peak(monkeypatch: pytest.MonkeyPatch):
    def missing(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert memory_bytes(cpu) == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_on_a_gpu_the_memory_is_the_most_since_the_last_call(monkeypatch: pytest.MonkeyPatch):
    most = {"bytes": 500}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: most["bytes"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: most.update(bytes=100))
    assert [memory_bytes(cuda), memory_bytes(cuda)] == [500, 100]
