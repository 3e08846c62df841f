"""AdamW and SGD by fused kernels, taken or left on the word of a number on the device.

A step that has to ask the host whether its gradients are finite leaves a GPU idle meanwhile. These
are told by two tensors instead, as PyTorch's own fused optimizers are: `grad_scale`, by which
gradients are divided, and `found_inf`, which is 1 where nothing may change. Their lists of tensors
are made once and not at each step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from modelwright.training.adamw_kernel import (
    AdamWNumbers,
    AddressTable,
    are_plain,
    launch,
    table_of,
)


class FusedOptimizer(torch.optim.Optimizer):
    """What the fused rules have in common.

    Attributes:
        grad_scale: a number by which gradients are divided, in fp32 or wider; None leaves them.
        found_inf: a number in fp32; 1 keeps the step from changing anything, None and 0 do not.
    """

    kinds: tuple[str, ...]  # what is kept of each parameter

    def __init__(self, groups: list[dict[str, Any]], defaults: dict[str, Any]) -> None:
        super().__init__(groups, defaults)
        self.grad_scale: Tensor | None = None
        self.found_inf: Tensor | None = None
        self._lists: dict[int, _Lists] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Change the parameters in place by their gradients, those without one excepted."""
        if closure is not None:
            raise ValueError("a fused optimizer takes no closure; compute the gradients before")
        for number, group in enumerate(self.param_groups):
            lists = self._lists_of(number, [p for p in group["params"] if p.grad is not None])
            if lists.parameters:
                self._update(group, lists, self._gradients(lists.parameters))

    def _gradients(self, parameters: list[Tensor]) -> list[Any]:
        """Their gradients, divided already where the kernels' division is too coarse."""
        gradients: list[Any] = [p.grad for p in parameters]
        if self.grad_scale is not None and self.grad_scale.dtype != torch.float32:
            torch._foreach_div_(  # pyright: ignore[reportPrivateImportUsage]
                gradients, self.grad_scale
            )
        return gradients

    @property
    def _scale_for_kernels(self) -> Tensor | None:
        """What the kernels are to divide by, which they read in fp32."""
        scale = self.grad_scale
        return scale if scale is not None and scale.dtype == torch.float32 else None

    def _update(self, group: dict[str, Any], lists: "_Lists", gradients: list[Any]) -> None:
        raise NotImplementedError

    def _lists_of(self, number: int, parameters: list[Tensor]) -> "_Lists":
        """What is kept of a group's parameters, made if it is not there or was loaded since."""
        lists = self._lists.get(number)
        if lists is None or not lists.are_of(parameters, self.state):
            lists = _Lists(parameters, self.state, self.kinds)
            self._lists[number] = lists
        return lists


@dataclass(init=False)
class _Lists:
    """The state of some parameters as the kernels take it."""

    parameters: list[Tensor]
    kept: dict[str, list[Tensor]]

    def __init__(self, parameters: list[Tensor], state: Any, kinds: tuple[str, ...]) -> None:
        self.parameters = parameters
        for parameter in parameters:
            for kind in kinds:
                if kind not in state[parameter]:
                    state[parameter][kind] = torch.zeros_like(
                        parameter, memory_format=torch.preserve_format
                    )
        self.kept = {kind: [state[p][kind] for p in parameters] for kind in kinds}

    @cached_property
    def table(self) -> AddressTable | None:
        """What tells AdamW's own kernel where they are; None leaves them to PyTorch's."""
        return table_of(self.parameters, self.kept["exp_avg"], self.kept["exp_avg_sq"])

    def are_of(self, parameters: list[Tensor], state: Any) -> bool:
        """Whether they are still the lists of these parameters."""
        if not parameters:
            return not self.parameters
        same = len(parameters) == len(self.parameters) and all(
            one is other for one, other in zip(parameters, self.parameters, strict=True)
        )
        return same and all(
            state[parameters[0]].get(kind) is tensors[0] for kind, tensors in self.kept.items()
        )


class FusedAdamW(FusedOptimizer):
    """AdamW, whose parameters share one count of steps.

    Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    """

    kinds = ("exp_avg", "exp_avg_sq")

    def __init__(
        self, groups: list[dict[str, Any]], *, betas: tuple[float, float], epsilon: float
    ) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})
        self.betas = betas
        self.epsilon = epsilon
        self._recorded: set[AddressTable] = set()  # by CUDA graphs, which read them later on

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Change the parameters in place by their gradients, those without one excepted."""
        self._count_step()
        super().step(closure)

    def _update(self, group: dict[str, Any], lists: "_Lists", gradients: list[Any]) -> None:
        numbers = AdamWNumbers(
            n_steps=self.state[lists.parameters[0]]["step"],
            learning_rate=group["lr"],
            betas=self.betas,
            epsilon=self.epsilon,
            weight_decay=group["weight_decay"],
            divisor=self._scale_for_kernels,
            void=self.found_inf,
        )
        self.move(lists, gradients, numbers)

    def move(self, lists: "_Lists", gradients: list[Tensor], numbers: AdamWNumbers) -> None:
        """Change parameters and their means in place by our own kernel where it can."""
        if lists.table is not None and not lists.table.is_current():
            del lists.table  # so that it is made anew
        table = lists.table
        if table is None or not are_plain(gradients):
            move_by_torch(lists, gradients, numbers)
            return
        table.tell_gradients(gradients)
        if table.recorded:
            self._recorded.add(table)
        launch(table, numbers)

    def _count_step(self) -> None:
        """Count this step, in a number that all parameters share.

        A loaded state has one for each of them.
        """
        parameters = [p for group in self.param_groups for p in group["params"]]
        n_steps = self.state[parameters[0]].get("step")
        if n_steps is None:
            n_steps = torch.zeros((), dtype=torch.float32, device=parameters[0].device)
        if self.state[parameters[-1]].get("step") is not n_steps:
            for parameter in parameters:
                self.state[parameter]["step"] = n_steps
        n_steps += 1 if self.found_inf is None else 1 - self.found_inf


def move_by_torch(lists: _Lists, gradients: list[Tensor], numbers: AdamWNumbers) -> None:
    """The same by PyTorch's kernel, for any device and dtype; divides the gradients in place."""
    torch._fused_adamw_(  # pyright: ignore[reportPrivateImportUsage]
        lists.parameters,
        gradients,
        lists.kept["exp_avg"],
        lists.kept["exp_avg_sq"],
        [],
        [numbers.n_steps] * len(gradients),
        lr=numbers.learning_rate,  # pyright: ignore[reportArgumentType]
        beta1=numbers.betas[0],
        beta2=numbers.betas[1],
        weight_decay=numbers.weight_decay,
        eps=numbers.epsilon,
        amsgrad=False,
        maximize=False,
        grad_scale=numbers.divisor,
        found_inf=numbers.void,
    )


class FusedSgd(FusedOptimizer):
    """Gradient descent with momentum, whose sum of gradients begins at zero.

    Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep
    learning", equations 1 and 2, with the learning rate outside the sum.
    """

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float) -> None:
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0})
        self.momentum = momentum
        self.kinds = ("momentum_buffer",) if momentum else ()

    def _update(self, group: dict[str, Any], lists: "_Lists", gradients: list[Any]) -> None:
        torch._fused_sgd_(  # pyright: ignore[reportPrivateImportUsage]
            lists.parameters,
            gradients,
            lists.kept.get("momentum_buffer", []),
            weight_decay=group["weight_decay"],
            momentum=self.momentum,
            lr=group["lr"],
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            grad_scale=self._scale_for_kernels,
            found_inf=self.found_inf,
        )
