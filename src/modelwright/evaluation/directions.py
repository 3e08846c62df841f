"""Ways through the space of a model's weights, and walking them without leaving a trace.

    Around    θ(a, b) = θ + a·δ + b·η     along random directions, normalised filter by filter
    Between   θ(a) = (1 - a)·θ + a·θ'     on the straight line to other weights

`excursion` puts a model's weights anywhere on such a way and brings them back to the very bits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from modelwright.checkpoint.bundle import distinct_weights
from modelwright.runtime.seeding import torch_generator

Weights = Mapping[str, Tensor]  # each shared one once, as `distinct_weights` gives them


def random_direction(
    weights: Weights, *, seed: int, axis: int, with_vectors: bool = False
) -> dict[str, Tensor]:
    """A direction drawn from a normal distribution and normalised filter by filter.

    Each weight is drawn from a stream of its own, on the processor, so that neither the device nor
    the other weights change it.

    Source: Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets", section 4.

    Args:
        axis: 0, 1, ...; each has a direction of its own. Two of them are only nearly orthogonal.
        with_vectors: also move biases and the weights of norms, each a single filter; otherwise
            the direction is zero there.
    """
    direction: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim < 2 and not with_vectors:
            direction[name] = torch.zeros_like(weight)
            continue
        generator = torch_generator(seed, f"landscape/{axis}/{name}")
        drawn = torch.randn(weight.shape, generator=generator)
        scaled = normalised_by_filter(drawn, weight.detach().cpu())
        direction[name] = scaled.to(weight.device, weight.dtype)
    return direction


def normalised_by_filter(direction: Tensor, weight: Tensor) -> Tensor:
    """The direction with each filter, a row of a matrix, as long as the weight's same filter.

    So a step of 1 moves each by its own length, whatever its scale; without that, a network whose
    norms undo the scale of its weights would look flat for no other reason than that it is large.

    Args:
        direction, weight: of one shape. A vector or number is one filter; of more axes than two,
            the first one counts the filters.
    """
    shape = (1, -1) if weight.ndim < 2 else (len(weight), -1)
    ours = torch.linalg.vector_norm(direction.reshape(shape), dim=1, dtype=torch.float64)
    theirs = torch.linalg.vector_norm(weight.reshape(shape), dim=1, dtype=torch.float64)
    # A filter of zeros has no scale to go by, and is not moved.
    factors = torch.where(ours > 0, theirs / ours, torch.zeros_like(ours))
    scaled = direction.reshape(shape).double() * factors[:, None]
    return scaled.reshape(direction.shape).to(direction.dtype)


@runtime_checkable
class Way(Protocol):
    """Where the weights of a model are at given coordinates."""

    def put(self, name: str, origin: Tensor, at: Sequence[float], into: Tensor) -> None:
        """Write a weight there into a tensor.

        Args:
            origin: the weight as the model has it.
        """
        ...


class Around:
    """The weights themselves plus a multiple of each direction."""

    def __init__(self, directions: Sequence[Weights]) -> None:
        self.directions = directions

    def put(self, name: str, origin: Tensor, at: Sequence[float], into: Tensor) -> None:
        """Write a weight at the multiples `at` into a tensor."""
        into.copy_(origin)
        for direction, multiple in zip(self.directions, at, strict=True):
            if multiple:
                into.add_(direction[name], alpha=multiple)


class Between:
    """The straight line from the weights themselves, at 0, to others, at 1; it may go beyond."""

    def __init__(self, end: Weights) -> None:
        self.end = end

    def put(self, name: str, origin: Tensor, at: Sequence[float], into: Tensor) -> None:
        """Write a weight at that share of the way into a tensor; both ends are exact."""
        (share,) = at
        torch.lerp(origin, self.end[name].to(origin), share, out=into)


@contextmanager
def excursion(model: nn.Module, way: Way) -> Iterator[Callable[[Sequence[float]], None]]:
    """Yield what puts the model's weights at coordinates; afterwards they are as they were.

    Whatever happens in the block, every bit is restored. It holds a copy of the weights.
    """
    weights = distinct_weights(model)
    origin = {name: weight.clone() for name, weight in weights.items()}

    def go_to(at: Sequence[float]) -> None:
        for name, weight in weights.items():
            way.put(name, origin[name], at, weight)

    try:
        yield go_to
    finally:
        for name, weight in weights.items():
            weight.copy_(origin[name])
