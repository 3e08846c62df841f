"""How long work takes on a device: a piece of it, or every operation of it by itself."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from modelwright.accounting.rates import Kind, kind_and_sizes
from modelwright.accounting.tracing import Tracer
from modelwright.runtime.device import Precision


class Clock:
    """Measures how long work takes on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.on_gpu = device.type == "cuda"

    def seconds(self, work: Callable[[], object], *, n_turns: int = 3, most: float = 0.5) -> float:
        """The median time of some work, warmed up; on a GPU of the work alone, not its launch.

        Args:
            most: seconds for all turns; one is taken in any case.
        """
        work()
        found: list[float] = []
        began = time.perf_counter()
        while len(found) < n_turns and (not found or time.perf_counter() - began < most):
            found.append(self._on_gpu(work) if self.on_gpu else self._here(work))
        return statistics.median(found)

    def nothing(self) -> float:
        """What lies between two events with no work in between; nothing on a processor."""
        if not self.on_gpu:
            return 0.0
        torch.cuda.synchronize()
        found = []
        for _ in range(20):
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(1_000_000)
            before.record()
            after.record()
            after.synchronize()
            found.append(before.elapsed_time(after) / 1000)
        return min(found)

    def _on_gpu(self, work: Callable[[], object], n_times: int = 5) -> float:
        """Queued behind a pause, so that the GPU never waits for the next launch."""
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(1_000_000)  # cycles: about half a millisecond
        before.record()
        for _ in range(n_times):
            work()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) / 1000 / n_times

    def _here(self, work: Callable[[], object]) -> float:
        began = time.perf_counter()
        n_times = 0
        while n_times == 0 or (n_times < 5 and time.perf_counter() - began < 0.02):
            work()
            n_times += 1
        return (time.perf_counter() - began) / n_times


class TimedOperations(TorchDispatchMode):
    """Times every operation by itself."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.tracer = Tracer()
        self.times: list[tuple[int, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        n_before = len(self.tracer.operations)
        if self.clock.on_gpu:
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda._sleep(500_000)
            before.record()
            out = func(*args, **kwargs)
            after.record()
        else:
            before = time.perf_counter()
            out = func(*args, **kwargs)
            after = time.perf_counter()
        self.tracer.saw_call(func, args, kwargs, out)
        if len(self.tracer.operations) > n_before:
            self.times.append((n_before, before, after))
        return out

    def measured(self, precision: Precision) -> Iterator[tuple[Kind, tuple[float, ...], float]]:
        """Kind, sizes and seconds of each."""
        nothing = self.clock.nothing()
        for number, before, after in self.times:
            kind, sizes = kind_and_sizes(self.tracer.operations[number], precision)
            if not sizes:
                continue
            if self.clock.on_gpu:
                yield kind, sizes, max(1e-6, before.elapsed_time(after) / 1000 - nothing)
            else:
                yield kind, sizes, after - before
