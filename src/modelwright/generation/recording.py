"""Steps of writing as CUDA graphs: asked for in one call each, instead of kernel by kernel.

A graph repeats the very operations that were recorded, on the same memory. So what changes from
step to step has to be in tensors that stay where they are.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

# What a recorder makes of a function without arguments: one that does the same again. The first
# call is the first time that anything is done.
Again = Callable[[], Tensor]
Recorder = Callable[[Callable[[], Tensor]], Again]


class CudaGraphs:
    """A recorder whose graphs share memory: a result holds until another of them is repeated."""

    def __init__(self) -> None:
        self.pool: Any = None  # PyTorch's name for the memory of the first graph

    def __call__(self, function: Callable[[], Tensor]) -> Again:
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as those of a service, may go on meanwhile.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            result = function()
        if self.pool is None:
            self.pool = graph.pool()

        def again() -> Tensor:
            graph.replay()
            return result

        return again


class Recordings:
    """Functions by their keys: each is called once, recorded when it is asked for again, and from
    then on repeated. Where the memory for a recording is missing, the function goes on being
    called."""

    def __init__(self, record: Recorder) -> None:
        self._record = record
        self._known: dict[Hashable, Again | None] = {}

    def __call__(self, key: Hashable, function: Callable[[], Tensor]) -> Tensor:
        """The result of a function that does the same whenever it has this key."""
        if key not in self._known:
            # Kernels are made and chosen in this call, which a graph could not record.
            self._known[key] = None
            return function()
        again = self._known[key]
        if again is None:
            try:
                again = self._record(function)
            except torch.OutOfMemoryError:
                again = function
            self._known[key] = again
        return again()
