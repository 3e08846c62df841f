"""Steps of writing that are recorded once and repeated from then on."""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from modelwright.runtime.graphs import Again, Recorder


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
