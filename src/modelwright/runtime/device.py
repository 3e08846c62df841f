"""What machine this is: processor or GPU, its memory, and which number formats it is fast at."""

import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

DeviceChoice = Literal["auto", "cpu", "cuda"]
PrecisionChoice = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Precision = Literal["fp32", "tf32", "bf16", "fp16"]  # what "auto" comes to


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a result was measured on; written beside every result."""

    processor: str
    gpu: str | None
    n_threads: int
    python: str
    torch: str


def choose_device(choice: DeviceChoice, *, setting: str = "training.device") -> "torch.device":
    """The device to work on; "auto" takes a CUDA GPU if there is one.

    Args:
        setting: what the choice is called where it was made.

    Raises:
        ValueError: if a GPU is asked for and PyTorch sees none.
    """
    import torch

    if choice == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"{setting} is 'cuda', but PyTorch sees no CUDA GPU here; "
            "use 'cpu', or 'auto' to take whatever there is"
        )
    wants_gpu = choice == "cuda" or (choice == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if wants_gpu else "cpu")


def choose_precision(choice: PrecisionChoice, device: "torch.device") -> Precision:
    """What "auto" comes to: bf16 where the hardware has it, fp16 on a GPU without, else fp32."""
    if choice != "auto":
        return choice
    if has_native_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else "fp32"


def choose_dtype(choice: PrecisionChoice, device: "torch.device") -> "torch.dtype":
    """The number format of the matrix products; tf32 is a way to multiply float32 numbers."""
    import torch

    return {
        "fp32": torch.float32,
        "tf32": torch.float32,
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
    }[choose_precision(choice, device)]


def set_matmul_precision(choice: PrecisionChoice, device: "torch.device") -> None:
    """Have float32 products done in TF32 or in full, for the whole process.

    Raises:
        ValueError: if tf32 is asked for where the hardware does not have it.
    """
    import torch

    if choice == "tf32":
        if device.type != "cuda":
            raise ValueError(
                "training.precision is 'tf32', but only NVIDIA GPUs have it and the device is "
                f"'{device.type}'; use 'fp32', or 'auto' to take what the hardware is good at"
            )
        if torch.cuda.get_device_capability(device) < (8, 0):
            raise ValueError(
                f"training.precision is 'tf32', but {torch.cuda.get_device_name(device)} is older "
                "than that format; use 'fp16' or 'fp32'"
            )
    # The one switch that leaves the older and the newer settings in agreement: after
    # torch.backends.cuda.matmul.fp32_precision = "tf32", reading the older ones raises.
    torch.set_float32_matmul_precision("high" if choice == "tf32" else "highest")


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


def memory_bytes(device: "torch.device") -> int:
    """What the run holds: on a GPU the most since the last call, else the resident memory now."""
    if device.type == "cuda":
        import torch

        most = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return most
    try:
        n_pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_memory_bytes()
    return n_pages * resource.getpagesize()


def reserved_bytes(device: "torch.device") -> int | None:
    """What PyTorch holds of a GPU, in use or not; None of a processor, where it holds nothing."""
    if device.type != "cuda":
        return None
    import torch

    return torch.cuda.memory_reserved(device)


def require_same_bits(device: "torch.device", *, wanted: bool) -> None:
    """Have a GPU use only kernels that give the same bits each time, for the whole process.

    Comes before the first product on the GPU: cuBLAS reads its setting once.
    """
    import torch

    if device.type != "cuda":
        return
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted)
    # Otherwise every new tensor would be filled, in case someone reads it before writing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
