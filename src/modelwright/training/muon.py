"""Muon, with the matrices of one shape updated together.

The update of one matrix is a chain of small products, which a GPU finishes sooner than Python can
ask for the next. Here each product is asked for once for a whole stack of matrices, and nothing on
the way waits for a number from the device, so that a step can be part of a CUDA graph.
"""

# pyright: reportPrivateImportUsage=false
# The operations on lists of tensors, torch._foreach_*, have no public names.

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import BFloat16
from torch import Tensor
from torch.optim.optimizer import ParamsT

# Of s, s³ and s⁵: they carry even a small singular value s to nearly one in few iterations.
coefficients = (3.4445, -4.7750, 2.0315)
n_iterations = 5
smallest_norm = 1e-7  # a matrix is divided by no less, so that zeros stay zeros
update_size = 0.2  # root mean square of an update before the learning rate, near that of AdamW's
# A stack's matrices take at most so much in bf16, unless one alone does, and what a step needs
# besides the parameters and their momentum at most five times that.
stack_bytes = 128 * 2**20


class Muon(torch.optim.Optimizer):
    """Moves each matrix by its momentum made nearly orthogonal, at the size of AdamW's updates.

    The momentum is the running mean of the gradients, with `nesterov` one step ahead.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks";
    Liu et al. 2025, "Muon is Scalable for LLM Training", equation 4, for the size.

    Attributes:
        grad_scale: a number in fp32 by which gradients are divided; None leaves them.
        found_inf: a number in fp32. Where it is not 0 a step changes nothing, whatever the
            gradients are; None is 0. Both are where the parameters are.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(
        self,
        params: ParamsT,
        *,
        lr: float | Tensor,
        momentum: float,
        nesterov: bool = True,
        weight_decay: float = 0.0,
    ) -> None:
        """Take charge of parameters, all of them matrices.

        Args:
            lr: a tensor holds one number where the parameters are, and is read anew whenever a
                CUDA graph repeats the step.
            momentum: how much of the running mean of gradients is kept each step.
            weight_decay: share of a weight, times the learning rate, that is taken away each step.
        """
        numbers = {"lr": lr, "weight_decay": weight_decay}
        super().__init__(params, numbers | {"momentum": momentum, "nesterov": nesterov})
        assert all(p.ndim == 2 for group in self.param_groups for p in group["params"])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Change the parameters in place by their gradients, those without one excepted.

        The first step also makes the momentum, so it is a later one that a CUDA graph can hold.
        """
        if closure is not None:
            raise ValueError("Muon takes no closure; compute the gradients before the step")
        for group in self.param_groups:
            for parameters in stacks(group["params"]):
                # Unnamed, the stack is gone before there is another.
                self._move(parameters, nearly_orthogonal(self._ahead(parameters, group)), group)

    def _ahead(
        self, parameters: list[Tensor], group: dict[str, Any]
    ) -> BFloat16[Tensor, "matrix rows columns"]:
        """Take the gradients into the momentum; what the parameters are to follow of them."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        momenta = [self._momentum_of(p) for p in parameters]
        kept = group["momentum"]
        if self.grad_scale is not None:
            gradients = torch._foreach_div(gradients, self.grad_scale)
        if self.found_inf is None:
            torch._foreach_lerp_(momenta, gradients, 1 - kept)
        else:
            # Not by a weight of zero, times which NaN is still NaN: the old or the new is chosen.
            moved = torch._foreach_lerp(momenta, gradients, 1 - kept)
            replace_unless(self.found_inf != 0, momenta, moved)
            del moved
        aheads = torch._foreach_lerp(gradients, momenta, kept) if group["nesterov"] else momenta
        stack = momenta[0].new_empty((len(aheads), *aheads[0].shape), dtype=torch.bfloat16)
        torch._foreach_copy_(stack.unbind(), aheads)
        return stack

    def _move(
        self,
        parameters: list[Tensor],
        directions: BFloat16[Tensor, "matrix rows columns"],
        group: dict[str, Any],
    ) -> None:
        """Change the parameters.

        Args:
            directions: nearly orthogonal; overwritten.
        """
        lr = group["lr"]
        if not isinstance(lr, Tensor):
            # Filled in on the device; copied there, it would be waited for.
            lr = torch.full((), lr, dtype=torch.float32, device=directions.device)
        remaining = 1 - lr * group["weight_decay"]
        rate = lr * update_size * math.sqrt(max(directions.shape[1:]))
        if self.found_inf is not None:
            # Times one, and plus zero times -rate, which is -0: both leave a number's every bit.
            is_skipped = self.found_inf != 0
            remaining = remaining.masked_fill(is_skipped, 1.0)
            directions.masked_fill_(is_skipped, 0.0)
        # An axis makes the rate's fp32 count, so that the product is not rounded to bf16.
        steps = directions * -rate.reshape(1, 1, 1)
        torch._foreach_mul_(parameters, remaining)
        torch._foreach_add_(parameters, steps.unbind())

    def _momentum_of(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def replace_unless(condition: Tensor, old: Sequence[Tensor], new: Sequence[Tensor]) -> None:
    """Overwrite the old numbers, or not if a condition on the device holds."""
    for one, other in zip(old, new, strict=True):
        torch.where(condition, one, other, out=one)


def stacks(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Those that have a gradient, in stacks of one shape whose sizes differ little."""
    alike: dict[Any, list[Tensor]] = {}
    for p in parameters:
        if p.grad is not None:
            alike.setdefault((p.shape, p.dtype, p.device), []).append(p)
    for members in alike.values():
        n_at_most = max(1, stack_bytes // (members[0].numel() * torch.bfloat16.itemsize))
        n_stacks = math.ceil(len(members) / n_at_most)
        n_each = math.ceil(len(members) / n_stacks)
        for first in range(0, len(members), n_each):
            yield members[first : first + n_each]


def nearly_orthogonal(
    matrices: BFloat16[Tensor, "matrix rows columns"],
) -> BFloat16[Tensor, "matrix rows columns"]:
    """Matrices with the singular vectors of these, and singular values near one.

    The iteration is X ← a X + (b A + c A²) X with A = XXᵀ, or the same with A = XᵀX on the right
    where that is smaller.

    Args:
        matrices: scaled in place.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    a, b, c = coefficients
    is_tall = matrices.shape[1] > matrices.shape[2]
    norms = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    X = matrices.div_(norms.clamp(min=smallest_norm))
    for _ in range(n_iterations):
        A = torch.bmm(X.mT, X) if is_tall else torch.bmm(X, X.mT)
        A = torch.baddbmm(A, A, A, beta=b, alpha=c)
        X = torch.baddbmm(X, X, A, beta=a) if is_tall else torch.baddbmm(X, A, X, beta=a)
    return X
