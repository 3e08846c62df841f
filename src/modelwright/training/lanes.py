"""Portions of a batch side by side, each on processor cores of its own.

Where the matrix library spreads each product over all cores, they wait for each other after every
operation. Whole portions have nothing to wait for until their gradients are added up.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

Portion = TypeVar("Portion")
LossOf = Callable[[int, Portion], Tensor]


class Lanes:
    """Adds up the gradients of portions, some of them at the same time.

    Which lane a portion goes through depends on its number alone, and the lanes are added up in
    order, so the same portions give the same bits each time.
    """

    def __init__(self, n_lanes: int = 1) -> None:
        """Args:
        n_lanes: each beyond the first takes memory for one gradient of all parameters.
        """
        self.n_lanes = n_lanes
        self._pool: ThreadPoolExecutor | None = None
        if n_lanes > 1:
            n_threads = max(1, torch.get_num_threads() // n_lanes)
            begin = partial(torch.set_num_threads, n_threads)
            self._pool = ThreadPoolExecutor(n_lanes, "lane", initializer=begin)

    def accumulate(
        self, model: nn.Module, portions: Sequence[Portion], loss_of: LossOf[Portion]
    ) -> Tensor:
        """Add the gradients of all portions to those of the model's parameters.

        Args:
            loss_of: the loss of a portion, given its number too.

        Returns:
            The sum of their losses, on the device.
        """
        numbered = list(enumerate(portions))
        if self._pool is None:
            losses = []
            for number, portion in numbered:
                loss = loss_of(number, portion)
                loss.backward()
                losses.append(loss.detach())
            return torch.stack(losses).sum()
        parameters = list(model.parameters())
        work = [
            self._pool.submit(_lane, parameters, numbered[lane :: self.n_lanes], loss_of)
            for lane in range(min(self.n_lanes, len(numbered)))
        ]
        results = [lane.result() for lane in work]
        first = results[0]
        for other in results[1:]:
            torch._foreach_add_(  # pyright: ignore[reportPrivateImportUsage]
                first.gradients, other.gradients
            )
        for parameter, gradient in zip(parameters, first.gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        return torch.stack([result.loss for result in results]).sum()


class _Sum:
    """What the portions of one lane come to."""

    def __init__(self, loss: Tensor, gradients: list[Tensor]) -> None:
        self.loss = loss
        self.gradients = gradients


def _lane(
    parameters: list[nn.Parameter],
    numbered: list[tuple[int, Portion]],
    loss_of: LossOf[Portion],
) -> _Sum:
    total: _Sum | None = None
    for number, portion in numbered:
        loss = loss_of(number, portion)
        gradients = list(torch.autograd.grad(loss, parameters, materialize_grads=True))
        if total is None:
            total = _Sum(loss.detach(), gradients)
        else:
            total.loss += loss.detach()
            torch._foreach_add_(  # pyright: ignore[reportPrivateImportUsage]
                total.gradients, gradients
            )
    assert total is not None
    return total
