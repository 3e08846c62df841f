"""The cross-entropy of hidden states and its gradient, without the logits of a whole batch."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelwright.data.loader import not_a_target

# Logits, targets, how many columns are tokens, scale: the loss, and its slope in the logits.
SlopeOf = Callable[[Tensor, Tensor, int, Any], tuple[Tensor, Tensor]]
# A sum in place, and two matrices whose product is added to it.
AddProduct = Callable[[Tensor, Tensor, Tensor], None]


def add_product(
    total: Float[Tensor, "rows columns"],
    left: Float[Tensor, "rows inner"],
    right: Float[Tensor, "inner columns"],
) -> None:
    """Add the product of two matrices to a sum of their format or a wider one, in place.

    An NVIDIA GPU adds while it multiplies, without rounding the product to the narrower format.
    """
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif total.is_cuda and torch.version.hip is None:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total += left @ right


class ChunkedLoss(torch.autograd.Function):
    """The summed cross-entropy of hidden states, a chunk of positions at a time.

    The gradient of a softmax is known as soon as its chances are: it is multiplied out chunk by
    chunk in the forward pass, in the place of the logits, and kept instead of them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "tokens d_model"],
        weight: Float[Tensor, "rows d_model"],
        targets: Int[Tensor, " tokens"],
        n_vocab: int,
        scale: float | Float[Tensor, ""],
        slope_of: SlopeOf,
        chunk: int | None = None,
        add: AddProduct = add_product,
    ) -> Float[Tensor, ""]:
        """Args:
        weight: one row a token, and rows beyond `n_vocab` that are none.
        slope_of: `surprise_and_slope`, or another edition of it.
        chunk: how many positions have their logits at once; None takes what suits the device.
        add: `add_product`, or another edition of it.
        """
        wants_gradient = any(ctx.needs_input_grad)
        matrix = weight.to(hidden.dtype)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        loss = torch.zeros((), dtype=wide, device=hidden.device)
        if wants_gradient:
            d_hidden = torch.empty_like(hidden)
            d_weight = torch.zeros_like(weight)
        n_rows = chunk or chunk_rows(matrix)
        for first in range(0, len(hidden), n_rows):
            here = slice(first, first + n_rows)
            logits = hidden[here] @ matrix.T
            surprise, d_logits = slope_of(logits, targets[here], n_vocab, scale)
            loss += surprise
            if wants_gradient:
                torch.mm(d_logits, matrix, out=d_hidden[here])
                add(d_weight, d_logits.T, hidden[here])
            del logits, d_logits  # before there are others
        if wants_gradient:
            ctx.save_for_backward(d_hidden, d_weight)
        ctx.is_given = False
        return loss * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.is_given:
            raise RuntimeError("the gradient of this loss was given already; compute the loss anew")
        ctx.is_given = True
        d_hidden, d_weight = ctx.saved_tensors
        (gradient,) = gradients
        # In place: they are of no use to anyone else.
        d_hidden.mul_(gradient.to(d_hidden.dtype))
        return d_hidden, d_weight.mul_(gradient), *[None] * 6


def surprise_and_slope(
    logits: Float[Tensor, "tokens rows"],
    targets: Int[Tensor, " tokens"],
    n_vocab: int,
    scale: float | Float[Tensor, ""],
) -> tuple[Float[Tensor, ""], Float[Tensor, "tokens rows"]]:
    """The summed cross-entropy, and the slope of `scale` times it; the logits' memory is reused.

    softmax(z) - onehot(target) is the slope in the logits z, and log Σ exp(z) is what the largest
    of them lacks to the logarithm of its chance.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    wide[:, n_vocab:] = -torch.inf
    counts = targets != not_a_target
    target = torch.where(counts, targets, 0)[:, None]
    at_target, largest = wide.gather(1, target), wide.amax(-1, keepdim=True)
    chances = torch.softmax(wide, -1, out=wide)
    surprise = largest - chances.amax(-1, keepdim=True).log() - at_target
    chances.scatter_(1, target, torch.expm1(-surprise))
    chances.mul_(counts[:, None].to(wide.dtype) * scale)
    return torch.where(counts, surprise.squeeze(1), 0).sum(), chances.to(logits.dtype)


def chunk_rows(matrix: Float[Tensor, "rows d_model"]) -> int:
    """How many positions have their logits at once: few enough to stay near the processor."""
    return usual_chunk(matrix.device.type, len(matrix))


def usual_chunk(device_type: str, n_rows: int, *, in_place: torch.dtype | None = None) -> int:
    """The same for a kind of device and the rows of the token matrix.

    Args:
        in_place: the format of logits whose slopes take their place; None if they are made anew.
            A power of two of them makes products that divide well among the parts of a GPU.
    """
    if in_place is not None:
        return max(64, 1 << ((2**29 // (in_place.itemsize * n_rows)).bit_length() - 1))
    n_bytes = 2**29 if device_type == "cuda" else 2**23
    return max(64, n_bytes // (4 * n_rows))
