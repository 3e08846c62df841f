import pytest
import torch

from modelwright.runtime.device import reserved_bytes
from modelwright.runtime.gpu_memory import MemoryFigures, figures_in

mib, gib = 2**20, 2**30

of_2018 = (
    "CUDA out of memory. Tried to allocate 16.00 GiB (GPU 0; 11.93 GiB total capacity; 4.00 GiB "
    "already allocated; 7.33 GiB free; 179.00 KiB cached)"
)
of_2021 = (
    "CUDA out of memory. Tried to allocate 200.00 MiB (GPU 0; 15.78 GiB total capacity; 14.56 GiB "
    "already allocated; 38.44 MiB free; 14.80 GiB reserved in total by PyTorch)"
)
of_2023 = (
    "CUDA out of memory. Tried to allocate 55.57 GiB. GPU 0 has a total capacty of 12.00 GiB of "
    "which 0 bytes is free. Of the allocated memory 984.52 MiB is allocated by PyTorch, and 463.48 "
    "MiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try "
    "setting max_split_size_mb to avoid fragmentation."
)
of_2025 = (
    "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 15.55 MiB is free. Process 1839 has 322.23 MiB memory in use. Including non-PyTorch "
    "memory, this process has 78.77 GiB memory in use. Of the allocated memory 75.50 GiB is "
    "allocated by PyTorch, with 20.00 MiB allocated in private pools (e.g., CUDA Graphs), and 2.25 "
    "GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try "
    "setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)


@pytest.mark.parametrize(
    ("message", "wanted", "total", "allocated", "reserved", "free"),
    [
        (of_2018, 16 * gib, 11.93 * gib, 4 * gib, 4 * gib + 179 * 2**10, 7.33 * gib),
        (of_2021, 200 * mib, 15.78 * gib, 14.56 * gib, 14.80 * gib, 38.44 * mib),
        (of_2023, 55.57 * gib, 12 * gib, 984.52 * mib, (984.52 + 463.48) * mib, 0),
        (of_2025, 1.5 * gib, 79.11 * gib, 75.5 * gib, 77.75 * gib, 15.55 * mib),
    ],
)
def test_the_figures_of_every_edition_of_the_message_are_read(
    message: str, wanted: float, total: float, allocated: float, reserved: float, free: float
):
    found = figures_in(message)
    assert found is not None
    assert found.wanted_bytes == pytest.approx(wanted, abs=1)
    assert found.total_bytes == pytest.approx(total, abs=1)
    assert found.allocated_bytes == pytest.approx(allocated, abs=1)
    assert found.reserved_bytes == pytest.approx(reserved, abs=2)
    assert found.free_bytes == pytest.approx(free, abs=1)


def test_a_message_may_be_broken_into_lines():
    assert figures_in(of_2025.replace(". ", ".\n")) == figures_in(of_2025)


@pytest.mark.parametrize("message", ["CUDA out of memory.", "", of_2021[:60]])
def test_without_figures_there_are_none(message: str):
    assert figures_in(message) is None


def figures(
    wanted: int, *, allocated: int = 10, reserved: int = 14, free: int = 3
) -> MemoryFigures:
    return MemoryFigures(
        wanted_bytes=wanted,
        total_bytes=20,
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        free_bytes=free,
    )


def test_what_is_unused_could_have_served_the_request_only_if_it_is_as_large():
    assert figures(4).unused_bytes == 4
    assert figures(4).is_fragmented
    assert not figures(5).is_fragmented


def test_others_have_what_neither_pytorch_holds_nor_is_free():
    assert figures(1).others_bytes == 3
    assert figures(1, free=9).others_bytes == 0  # rounded figures may come out above the total


def test_what_is_held_of_a_gpu_is_pytorchs_and_of_a_processor_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 700)
    assert reserved_bytes(torch.device("cuda")) == 700
    assert reserved_bytes(torch.device("cpu")) is None
