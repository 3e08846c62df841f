"""CUDA graphs: work on a GPU that is asked for in one call, instead of kernel by kernel.

A graph repeats the very operations that were recorded, on the same memory. So what changes from
time to time has to be in tensors that stay where they are.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

# What a recorder makes of a function without arguments: one that does the same again. The first
# call is the first time that anything is done.
Again = Callable[[], Tensor]
Recorder = Callable[[Callable[[], Tensor]], Again]


def cuda_graph(function: Callable[[], Tensor], pool: Any = None) -> Again:
    """The kernels of a function on the current device, as a graph.

    Args:
        pool: PyTorch's name of the memory to record into; None is memory of its own. Graphs that
            share some overwrite each other's results.

    Raises:
        torch.OutOfMemoryError: if the memory for it is missing.
    """
    graph = torch.cuda.CUDAGraph()
    # The products' scratch memory is kept for as long as anybody likes, and whoever drops it, as a
    # compiler does that records graphs too, takes it from graphs that know where it was. Dropped
    # before, it is asked for anew, from the memory that stays with the graph; dropped after, nobody
    # else finds it there.
    torch._C._cuda_clearCublasWorkspaces()
    try:
        # Other threads, such as those that bring batches or serve, may go on meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            result = function()
    finally:
        torch._C._cuda_clearCublasWorkspaces()

    def again() -> Tensor:
        graph.replay()
        return result

    return again


class CudaGraphs:
    """A recorder whose graphs share memory: a result holds until another of them is repeated."""

    @cached_property
    def pool(self) -> Any:
        """PyTorch's name of the memory."""
        return torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], Tensor]) -> Again:
        return cuda_graph(function, self.pool)
