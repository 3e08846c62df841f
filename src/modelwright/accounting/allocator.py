"""How PyTorch's allocator gives out a GPU's memory: in blocks, of segments that it asks CUDA for.

A tensor holds a block, which may be larger than it, and a free block may be too small for the next
tensor: so what is allocated is more than the tensors, and what is reserved is more than that.

Source: PyTorch 2.11, c10/cuda/CUDACachingAllocator.cpp (its sizes and rules).
"""

import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field

from modelwright.accounting.trace import Trace

kib, mib = 2**10, 2**20
smallest = 512  # bytes in a block at least
most_small = 1 * mib  # up to it, tensors share small segments
small_segment = 2 * mib
least_large = 10 * mib  # up to it, tensors share segments of the next size
shared_segment = 20 * mib
large_step = 2 * mib  # segments beyond that are multiples of it


@dataclass(frozen=True)
class Reserved:
    """What the allocator comes to.

    Attributes:
        allocated_bytes: the most in blocks that were given out.
        reserved_bytes: the most that it held of the GPU.
        fits: whether it found room for everything; if not, the others count until it did not.
    """

    allocated_bytes: int
    reserved_bytes: int
    fits: bool = True


class NoRoom(Exception):
    """The GPU has no room for another segment."""


@dataclass(eq=False, slots=True)
class Block:
    """A piece of a segment."""

    size: int
    is_small: bool
    place: int  # an address: segments come one after the other
    is_free: bool = False
    before: "Block | None" = None
    after: "Block | None" = None

    @property
    def is_part(self) -> bool:
        """Whether it is not all of its segment."""
        return self.before is not None or self.after is not None


@dataclass
class Allocator:
    """Gives out blocks and takes them back by PyTorch's rules.

    Attributes:
        limit: bytes of the GPU that it can have; None for as many as it asks for.
    """

    limit: int | None = None
    allocated: int = 0
    reserved: int = 0
    most_allocated: int = 0
    most_reserved: int = 0
    _free: dict[bool, list[tuple[int, int, Block]]] = field(
        default_factory=lambda: {True: [], False: []}
    )
    _next_place: int = 0

    def give(self, n_bytes: int) -> Block:
        """A block for so many bytes: the smallest free one that is large enough, or a new one."""
        size = max(smallest, -(-n_bytes // smallest) * smallest)
        is_small = size <= most_small
        block = self._take_free(size, is_small) or self._new_segment(size, is_small)
        left = block.size - size
        if left >= smallest if is_small else left > most_small:
            rest = Block(left, is_small, block.place + size, True, block, block.after)
            if block.after is not None:
                block.after.before = rest
            block.after, block.size = rest, size
            self._put_free(rest)
        block.is_free = False
        self.allocated += block.size
        self.most_allocated = max(self.most_allocated, self.allocated)
        return block

    def take_back(self, block: Block) -> None:
        """Free a block, and join it with free neighbours."""
        self.allocated -= block.size
        for neighbour in (block.before, block.after):
            if neighbour is None or not neighbour.is_free:
                continue
            self._free[block.is_small].remove((neighbour.size, neighbour.place, neighbour))
            block.size += neighbour.size
            if neighbour is block.before:
                block.place, block.before = neighbour.place, neighbour.before
                if block.before is not None:
                    block.before.after = block
            else:
                block.after = neighbour.after
                if block.after is not None:
                    block.after.before = block
        self._put_free(block)

    def _take_free(self, size: int, is_small: bool) -> Block | None:
        free = self._free[is_small]
        place = bisect.bisect_left(free, size, key=lambda entry: entry[0])
        if place == len(free):
            return None
        return free.pop(place)[2]

    def _put_free(self, block: Block) -> None:
        block.is_free = True
        bisect.insort(
            self._free[block.is_small],
            (block.size, block.place, block),
            key=lambda entry: entry[:2],
        )

    def _new_segment(self, size: int, is_small: bool) -> Block:
        if is_small:
            length = small_segment
        elif size < least_large:
            length = shared_segment
        else:
            length = -(-size // large_step) * large_step
        if self.limit is not None and self.reserved + length > self.limit:
            self._give_back_segments()
            if self.reserved + length > self.limit:
                raise NoRoom
        block = Block(length, is_small, self._next_place)
        self._next_place += length + 1  # the next one is no neighbour
        self.reserved += length
        self.most_reserved = max(self.most_reserved, self.reserved)
        return block

    def _give_back_segments(self) -> None:
        """Hand all segments back to the GPU of which nothing is given out."""
        for is_small, free in self._free.items():
            parts = [entry for entry in free if entry[2].is_part]
            self.reserved -= sum(entry[0] for entry in free) - sum(entry[0] for entry in parts)
            self._free[is_small] = parts


def reserved_by(
    trace: Trace,
    *,
    workspaces: tuple[int, ...] = (),
    n_steps: int = 3,
    limit_bytes: int | None = None,
) -> Reserved:
    """What a step's tensors come to in the allocator, once it has been taken a few times.

    Args:
        workspaces: bytes of each that libraries hold from the first step on.
        limit_bytes: of the GPU that the allocator can have.
    """
    allocator = Allocator(limit=limit_bytes)
    try:
        _take_steps(allocator, trace, workspaces, n_steps)
    except NoRoom:
        return Reserved(allocator.most_allocated, allocator.most_reserved, fits=False)
    return Reserved(allocator.most_allocated, allocator.most_reserved)


def _take_steps(
    allocator: Allocator, trace: Trace, workspaces: tuple[int, ...], n_steps: int
) -> None:
    lasting = [held for held in trace.storages if held.born < 0]
    first_update = next(
        (n for n, operation in enumerate(trace.operations) if operation.phase == "update"), -1
    )
    for held in lasting:
        if held.kind != "optimizer":
            allocator.give(held.n_bytes)
    for n_bytes in workspaces:
        allocator.give(n_bytes)
    born: dict[int, list[int]] = {}
    died: dict[int, list[int]] = {}
    for number, held in enumerate(trace.storages):
        if held.born >= 0:
            born.setdefault(held.born, []).append(number)
            if held.died is not None:
                died.setdefault(held.died, []).append(number)
    for step in range(n_steps):
        if step == n_steps - 1:
            allocator.most_allocated = allocator.allocated
        blocks: dict[int, Block] = {}
        for at, operation in enumerate(trace.operations):
            _free_all(allocator, blocks, died.get(at, ()))
            if step == 0 and at == first_update:  # which is when an optimizer makes its state
                for held in lasting:
                    if held.kind == "optimizer":
                        allocator.give(held.n_bytes)
            for number in born.get(at, ()):
                blocks[number] = allocator.give(trace.storages[number].n_bytes)
            if operation.scratch:
                allocator.take_back(allocator.give(operation.scratch))
        _free_all(allocator, blocks, list(blocks))


def _free_all(allocator: Allocator, blocks: dict[int, Block], numbers: Iterable[int]) -> None:
    for number in tuple(numbers):
        if number in blocks:
            allocator.take_back(blocks.pop(number))
