"""The average of a model's weights over the last steps, which is often better than any of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Average:
    """An exponential moving average of weights: after each step, decay · average + (1 - decay) · w.

    Source: Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging", for the
    idea; the exponential form as in Kingma & Ba 2015, "Adam", section 7.2.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Args:
        decay: how much of the average stays at a step, from 0 up to, but not, 1.
        """
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, taken: Float[Tensor, ""]) -> None:
        """Move the average towards the weights a step has just made.

        Args:
            taken: 1 if the step was taken, and 0 if not, on the device: then nothing moves.
        """
        amount = taken.float() * (1 - self.decay)
        for average, weight in zip(self.weights.values(), model.parameters(), strict=True):
            average.lerp_(weight, amount.to(average.dtype))

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Go on with the average of a checkpoint."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """Lend the average to a model for the length of a block."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            average = self.weights[name]
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)
