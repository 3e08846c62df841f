"""What PyTorch says of a GPU's memory in the moment when it does not suffice."""

import re
from dataclasses import dataclass

sizes = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True, kw_only=True)
class MemoryFigures:
    """How a GPU's memory was given out when a request failed.

    Attributes:
        wanted_bytes: of the request.
        total_bytes: of the GPU.
        allocated_bytes: in tensors and libraries' workspaces.
        reserved_bytes: what PyTorch holds, the allocated included.
        free_bytes: what nobody holds.
    """

    wanted_bytes: int
    total_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    free_bytes: int

    @property
    def unused_bytes(self) -> int:
        """What PyTorch holds without using it: rests of blocks that others use a part of."""
        return self.reserved_bytes - self.allocated_bytes

    @property
    def others_bytes(self) -> int:
        """What is held outside of PyTorch: the CUDA context, libraries, other processes."""
        return max(0, self.total_bytes - self.reserved_bytes - self.free_bytes)

    @property
    def is_fragmented(self) -> bool:
        """Whether the request is no larger than what is unused, but that is not in one piece."""
        return self.wanted_bytes <= self.unused_bytes


def figures_in(message: str) -> MemoryFigures | None:
    """The figures in the message of an OutOfMemoryError, of any PyTorch since 1.0.

    They are those of the very moment: what failed is gone when the error arrives.

    Returns:
        None if they are not there.
    """
    text = " ".join(message.split())
    wanted = _amount(text, r"allocate {}")
    allocated = _amount(text, r"{} (?:is allocated by PyTorch|already allocated)")
    total = _amount(text, r"{} total capacity") or _amount(text, r"total capaci?ty of {}")
    free = _amount(text, r"{} (?:is )?free")
    reserved = _amount(text, r"{} reserved in total by PyTorch")
    unused = _amount(text, r"{} (?:is reserved by PyTorch but unallocated|cached)")
    if wanted is None or allocated is None or total is None or free is None:
        return None
    if reserved is None:
        if unused is None:
            return None
        reserved = allocated + unused
    return MemoryFigures(
        wanted_bytes=wanted,
        total_bytes=total,
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        free_bytes=free,
    )


def _amount(text: str, pattern: str) -> int | None:
    """The bytes where a pattern has braces."""
    found = re.search(pattern.format(r"([\d.]+) (bytes|[KMG]iB)"), text)
    return round(float(found[1]) * sizes[found[2]]) if found else None
