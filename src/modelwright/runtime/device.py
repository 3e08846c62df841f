"""What machine this is: processor or GPU, its memory, and which number formats it is fast at."""

import platform
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

DeviceChoice = Literal["auto", "cpu", "cuda"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a result was measured on; written beside every result."""

    processor: str
    gpu: str | None
    n_threads: int
    python: str
    torch: str


def choose_device(choice: DeviceChoice) -> "torch.device":
    """The device to work on; "auto" takes a CUDA GPU if there is one.

    Raises:
        ValueError: if a GPU is asked for and PyTorch sees none.
    """
    import torch

    if choice == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "training.device is 'cuda', but PyTorch sees no CUDA GPU here; "
            "use 'cpu', or 'auto' to take whatever there is"
        )
    wants_gpu = choice == "cuda" or (choice == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if wants_gpu else "cpu")


def choose_dtype(choice: PrecisionChoice, device: "torch.device") -> "torch.dtype":
    """The number format of the matrix products; "auto" takes bf16 where the hardware has it."""
    import torch

    if choice == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[choice]


def has_native_bf16(device: "torch.device") -> bool:
    """Whether bf16 products are done by the hardware rather than emulated."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return bool(processor_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def processor_flags() -> frozenset[str]:
    """The instruction-set names that Linux lists for the first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def processor_name() -> str:
    """The processor's name as Linux gives it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def describe_machine(device: "torch.device") -> Machine:
    """What this machine is, for the record."""
    import torch

    return Machine(
        processor=processor_name(),
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        n_threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
    )


def peak_memory_bytes() -> int:
    """The most resident memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
