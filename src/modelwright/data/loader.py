"""Batches: samples cut from the token sequence, made ahead of the steps that need them.

    Chunks, packing.Packed ── fill ──▶ Rows ── to the device, widened ──▶ Batch
                                        (shards' own number format)

A cut says which tokens a sample has; `Chunks` is the plain one. `Loader` asks the sampler which
samples a step sees and has their batch ready.
"""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from modelwright import _native
from modelwright.data.sampler import batch_samples, rows_of_rank
from modelwright.data.shards import TokenSequence

not_a_target = -1  # a position whose next token another sample counts, or none
seconds_between_looks = 0.2  # while waiting for a batch, whether to go on waiting
seconds_to_end = 5.0  # that a thread is given to finish the batch it is making

Samples = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes:
        targets: the token after each input, or `not_a_target`.
        samples: which samples of the cut the rows are.
        positions, documents: where rows hold several documents, each input's place in its document
            and the document's place in the row; attention stays within a document.
        n_targets: how many targets count, where whoever made the batch knows it.
    """

    inputs: Int64[Tensor, "batch seq"]
    targets: Int64[Tensor, "batch seq"]
    samples: Int64[np.ndarray, " batch"]
    positions: Int32[Tensor, "batch seq"] | None = None
    documents: Int32[Tensor, "batch seq"] | None = None
    n_targets: int | None = None

    def count_targets(self) -> int:
        """How many targets count; the device is asked, and so waited for, if nobody knew."""
        if self.n_targets is not None:
            return self.n_targets
        return int((self.targets != not_a_target).sum())

    def tensors(self) -> list[Tensor]:
        """The parts that are on the device."""
        parts = (self.inputs, self.targets, self.positions, self.documents)
        return [part for part in parts if part is not None]


@dataclass(frozen=True)
class Rows:
    """A batch on its way to the device, with ids in the shards' own number format.

    Attributes:
        tokens: [batch, seq + 1], in which each token is the target of the one before it, or
            [2, batch, seq], which is inputs and targets.
        counted: [batch, 2]; in each row the targets from the first number up to the second count.
    """

    tokens: Tensor
    counted: Int32[Tensor, "batch 2"]
    positions: Int32[Tensor, "batch seq"] | None = None
    documents: Int32[Tensor, "batch seq"] | None = None

    def inputs_and_targets(self) -> tuple[Tensor, Tensor]:
        """Views of the ids, not yet widened."""
        if self.tokens.ndim == 3:
            return self.tokens[0], self.tokens[1]
        return self.tokens[:, :-1], self.tokens[:, 1:]

    def n_targets(self) -> int:
        """How many targets count; to be asked on the host, where the answer is at hand."""
        counted = self.counted.numpy()
        return int((counted[:, 1] - counted[:, 0]).clip(min=0).sum())

    def to(self, device: torch.device) -> "Rows":
        """A copy on the device; from pinned memory it goes on while the caller does."""
        parts = (self.tokens, self.counted, self.positions, self.documents)
        moved = (None if part is None else part.to(device, non_blocking=True) for part in parts)
        return Rows(*moved)  # type: ignore[arg-type]


@runtime_checkable
class Cut(Protocol):
    """A way to make samples of one context from the token sequence."""

    context: int

    def __len__(self) -> int:
        """How many samples an epoch has."""
        ...

    def rows(self, n_rows: int, *, pinned: bool = False) -> Rows:
        """Memory for a batch."""
        ...

    def fill(self, samples: Samples, rows: Rows) -> None:
        """Write these samples into memory that `rows` gave for as many."""
        ...

    def batch(self, samples: Samples) -> Batch:
        """These samples as a batch on the CPU."""
        ...


class Chunks:
    """The token sequence cut into pieces of one context, overlapping by one token.

    Piece i has the tokens i·context … i·context + context, the last of which is only a target.
    So every token but the very first is a target exactly once. The last piece is moved back to
    be full, and the targets that the piece before it counts already are marked `not_a_target`.
    """

    def __init__(self, tokens: TokenSequence, context: int) -> None:
        """Raises:
        ValueError: if there are not enough tokens for one piece.
        """
        if len(tokens) < context + 1:
            raise ValueError(
                f"the text has {len(tokens):,} tokens, fewer than one context of "
                f"{context} + 1; choose a longer text or a model.context of at most "
                f"{max(1, len(tokens) - 1)}"
            )
        self.tokens = tokens
        self.context = context
        self.id_dtype, self._reader = open_reader(tokens)

    def __len__(self) -> int:
        return -(-(len(self.tokens) - 1) // self.context)

    def rows(self, n_rows: int, *, pinned: bool = False) -> Rows:
        """Memory for a batch."""
        return Rows(
            torch.empty(n_rows, self.context + 1, dtype=self.id_dtype, pin_memory=pinned),
            torch.empty(n_rows, 2, dtype=torch.int32, pin_memory=pinned),
        )

    def fill(self, samples: Samples, rows: Rows) -> None:
        """Write these samples into memory that `rows` gave for as many."""
        last_start = len(self.tokens) - self.context - 1
        self._reader.copy(np.minimum(samples * self.context, last_start), rows.tokens.numpy())
        n_repeated = len(self) * self.context - (len(self.tokens) - 1)
        counted = rows.counted.numpy()
        counted[:, 0] = np.where(samples == len(self) - 1, n_repeated, 0)
        counted[:, 1] = self.context

    def batch(self, samples: Samples) -> Batch:
        """These samples as a batch on the CPU."""
        rows = self.rows(len(samples))
        self.fill(samples, rows)
        return batch_on_cpu(rows, samples)


def open_reader(tokens: TokenSequence) -> tuple[torch.dtype, _native.TokenRows]:
    """The number format of the ids of a sequence, and what copies rows of them."""
    parts = tokens.parts
    return (torch.uint16 if parts[0].itemsize == 2 else torch.uint32), _native.TokenRows(parts)


def batch_on_cpu(rows: Rows, samples: Samples) -> Batch:
    """The batch in the same place, widened by numpy.

    PyTorch would do it on many threads, which in a thread of our own are others than those of the
    step, and both kinds would wait for the processor.
    """
    inputs, targets = (part.numpy().astype(np.int64) for part in rows.inputs_and_targets())
    counted = rows.counted.numpy()
    for row in np.flatnonzero((counted[:, 0] > 0) | (counted[:, 1] < targets.shape[1])):
        first, end = counted[row]
        targets[row, :first] = not_a_target
        targets[row, end:] = not_a_target
    return Batch(
        torch.from_numpy(inputs),
        torch.from_numpy(targets),
        samples,
        rows.positions,
        rows.documents,
        rows.n_targets(),
    )


def batch_on_device(rows: Rows, samples: Samples, *, n_targets: int) -> Batch:
    """The batch on the device that has the rows, widened there.

    Each operation here keeps the step's own thread from starting one, so there are few.

    Args:
        n_targets: how many targets count.
    """
    inputs, targets = (widen(part) for part in rows.inputs_and_targets())
    if n_targets < targets.numel():
        places = torch.arange(targets.shape[1], device=targets.device)
        counts = (places >= rows.counted[:, :1]) & (places < rows.counted[:, 1:])
        targets.masked_fill_(~counts, not_a_target)
    return Batch(inputs, targets, samples, rows.positions, rows.documents, n_targets)


def widen(ids: Tensor) -> Int64[Tensor, "batch seq"]:
    """Ids of 16 or 32 bits without a sign as int64.

    Few operations know the types without a sign on every device, so it goes by those with one.
    """
    signed, mask = (torch.int16, 0xFFFF) if ids.dtype == torch.uint16 else (torch.int32, 0xFFFFFFFF)
    return ids.view(signed).to(torch.int64).bitwise_and_(mask)


class StoppedWaiting(Exception):
    """The batch was not there yet when waiting for it was stopped."""


class Loader:
    """The batches of a run's steps on its device, made by a thread while earlier steps compute.

    A context manager: the thread ends with the block.
    """

    def __init__(
        self,
        cut: Cut,
        *,
        seed: int,
        batch_size: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        depth: int = 3,
    ) -> None:
        """Args:
        batch_size: sequences of a step, over all ranks.
        depth: how many batches to have ready at most; changes nothing else.

        Raises:
            ValueError: if the batch does not divide over the ranks, or a setting is out of range.
        """
        if depth < 1:
            raise ValueError(f"the loader's depth is {depth}; the least is 1, and 3 is plenty")
        n_rows = len(rows_of_rank(batch_size, rank=rank, world_size=world_size))
        self.cut = cut
        self._order: dict[str, Any] = {
            "seed": seed,
            "batch_size": batch_size,
            "n_samples": len(cut),
            "rank": rank,
            "world_size": world_size,
        }
        self._depth = depth
        self._lane = _CudaLane(cut, n_rows, device) if device.type == "cuda" else None
        self._ahead: _Ahead | None = None

    def batch(self, step: int, *, is_stopped: Callable[[], bool] = lambda: False) -> Batch:
        """The batch of a step; asking for another than the next one makes a new start there.

        Args:
            is_stopped: asked now and then while waiting, whether to go on waiting is no use.

        Raises:
            StoppedWaiting: if it was stopped; the batch can still be had later.
            Exception: whatever went wrong while it was made.
        """
        if self._ahead is None or self._ahead.step != step:
            self.close()
            self._ahead = _Ahead(self._make, step, self._depth)
        try:
            batch, ready = self._ahead.take(is_stopped)
        except StoppedWaiting:
            raise
        except BaseException:
            self.close()
            raise
        if ready is not None:
            _CudaLane.receive(batch, ready)
        self._ahead.make_another()
        return batch

    def close(self) -> None:
        """End the thread. Asking for a batch afterwards begins a new one.

        A thread whose batch does not come is left to end with the process.
        """
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self, step: int) -> "Made":
        samples = batch_samples(step=step, **self._order)
        if self._lane is None:
            return self.cut.batch(samples), None
        return self._lane.send(self.cut, samples)


Made = tuple[Batch, torch.cuda.Event | None]


class _Ahead:
    """A thread that makes the batches of one step after the other, until enough are waiting."""

    def __init__(self, make: Callable[[int], Made], step: int, depth: int) -> None:
        self.step = step  # whose batch is the next to be taken
        self._make = make
        self._made: SimpleQueue[Made | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._closed = False
        self._thread = threading.Thread(
            target=self._work, args=(step,), name="modelwright-loader", daemon=True
        )
        self._thread.start()

    def take(self, is_stopped: Callable[[], bool]) -> Made:
        while True:
            try:
                made = self._made.get(timeout=seconds_between_looks)
                break
            except Empty:
                if is_stopped():
                    raise StoppedWaiting from None
        if isinstance(made, BaseException):
            raise made
        self.step += 1
        return made

    def make_another(self) -> None:
        """Let the thread go on; said last, since from then on it takes turns with the caller."""
        self._room.release()

    def close(self) -> None:
        self._closed = True
        self._room.release()
        self._thread.join(seconds_to_end)

    def _work(self, step: int) -> None:
        try:
            while True:
                self._room.acquire()
                if self._closed:
                    return
                self._made.put(self._make(step))
                step += 1
        except BaseException as error:  # noqa: BLE001  (it is raised where the batch is taken)
            self._made.put(error)


class _CudaLane:
    """How batches reach a GPU while it computes: pinned memory and a stream of their own."""

    def __init__(self, cut: Cut, n_rows: int, device: torch.device) -> None:
        # A new thread's current device is the first one, so the device needs its number.
        index = torch.cuda.current_device() if device.index is None else device.index
        self._device = torch.device("cuda", index)
        self._stream = torch.cuda.Stream(self._device)
        # With two, one is filled while the other is being copied.
        self._slots = itertools.cycle(
            [(cut.rows(n_rows, pinned=True), torch.cuda.Event(blocking=True)) for _ in range(2)]
        )

    def send(self, cut: Cut, samples: Samples) -> Made:
        """Start the way of these samples; the event comes when they are there."""
        rows, copied = next(self._slots)
        copied.synchronize()  # with the copy before, which may still read this memory
        cut.fill(samples, rows)
        n_targets = rows.n_targets()
        with torch.cuda.stream(self._stream):
            moved = rows.to(self._device)
            copied.record(self._stream)
            batch = batch_on_device(moved, samples, n_targets=n_targets)
            ready = torch.cuda.Event()
            ready.record(self._stream)
        return batch, ready

    @staticmethod
    def receive(batch: Batch, ready: torch.cuda.Event) -> None:
        """Let the current stream work on a batch that another one made."""
        stream = torch.cuda.current_stream(batch.inputs.device)
        stream.wait_event(ready)
        for tensor in batch.tensors():
            tensor.record_stream(stream)  # its memory stays taken until this stream is done with it
