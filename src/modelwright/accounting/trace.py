"""The record of what a computation allocated and did, one operation after the other."""

from dataclasses import dataclass

import numpy as np
import torch

# Python asks for a number and waits for it: of no cost in itself, but a GPU has run empty then.
wait = "_local_scalar_dense"
program_call = "program"  # a compiled program is entered, which takes the processor a while


@dataclass(slots=True)
class Held:
    """Memory of one storage, and how long it was held.

    Attributes:
        n_bytes: rounded as the allocator rounds.
        born, died: numbers of operations; it is there after `born` and gone before `died`. -1 is
            before the first, and a `died` of None after the last.
        module: the name of the module at work, also on its way back.
        phase: "before", "forward", "loss", "backward", "clip" or "update".
        kind: what it is held for, once that is known.
    """

    n_bytes: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    born: int
    module: str
    operation: str
    phase: str
    kind: str = ""
    died: int | None = None


@dataclass(slots=True)
class Operation:
    """One operation that does something.

    Attributes:
        n_flops: of matrix products and attention, as PyTorch counts them; 0 for the rest.
        n_read, n_written: bytes.
        held: bytes, once it is done.
        scratch: bytes that it takes and gives back while it runs.
        shapes: of the first of its inputs.
        layout: of each of those, whether its rows ("n") or its columns ("t") lie in one piece.
        in_program: whether a compiled program does it, so that nothing is launched from Python.
    """

    name: str
    module: str
    phase: str
    dtype: torch.dtype | None
    n_flops: int
    n_read: int
    n_written: int
    held: int
    scratch: int = 0
    shapes: tuple[tuple[int, ...], ...] = ()
    layout: str = ""
    in_program: bool = False


@dataclass(frozen=True)
class Trace:
    """What a tracer saw."""

    operations: list[Operation]
    storages: list[Held]

    @property
    def peak_at(self) -> int:
        """The number of the operation at which most memory was held."""
        held = [operation.held + operation.scratch for operation in self.operations]
        return max(range(len(held)), key=held.__getitem__)

    @property
    def peak_bytes(self) -> int:
        """The most memory that was held."""
        at = self.operations[self.peak_at]
        return at.held + at.scratch

    def held_at(self, number: int) -> list[Held]:
        """What was held after an operation, the largest first."""
        there = [
            held
            for held in self.storages
            if held.born <= number and (held.died is None or held.died > number)
        ]
        return sorted(there, key=lambda held: -held.n_bytes)

    def kinds_at(self, number: int) -> dict[str, int]:
        """Bytes of each kind that were held after an operation."""
        found: dict[str, int] = {}
        for held in self.held_at(number):
            found[held.kind] = found.get(held.kind, 0) + held.n_bytes
        if self.operations[number].scratch:
            found["scratch"] = self.operations[number].scratch
        return found

    def timeline(self) -> dict[str, np.ndarray]:
        """Bytes of each kind after each operation."""
        n = len(self.operations)
        changes: dict[str, np.ndarray] = {}
        for held in self.storages:
            line = changes.setdefault(held.kind, np.zeros(n + 1, dtype=np.int64))
            line[max(held.born, 0)] += held.n_bytes
            if held.died is not None:
                line[max(held.died, 0)] -= held.n_bytes
        found = {kind: line.cumsum()[:n] for kind, line in changes.items()}
        scratch = np.array([operation.scratch for operation in self.operations], dtype=np.int64)
        return found | ({"scratch": scratch} if scratch.any() else {})
