"""The cross-entropy of hidden states and its gradient, without the logits of a whole batch."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from modelwright.data.loader import not_a_target

# Logits, targets, how many columns are tokens, scale: the loss, and its slope in the logits.
SlopeOf = Callable[[Tensor, Tensor, int, Any], tuple[Tensor, Tensor]]


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
    ) -> Float[Tensor, ""]:
        """Args:
        weight: one row a token, and rows beyond `n_vocab` that are none.
        slope_of: `surprise_and_slope`, or a compiled edition of it.
        chunk: how many positions have their logits at once; None takes what suits the device.
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
                if hidden.dtype == wide:
                    d_weight.addmm_(d_logits.T, hidden[here])
                else:
                    d_weight += d_logits.T @ hidden[here]
        if wants_gradient:
            ctx.save_for_backward(d_hidden, d_weight)
        return loss * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        (gradient,) = gradients
        return d_hidden * gradient.to(d_hidden.dtype), d_weight * gradient, *[None] * 5


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


def usual_chunk(device_type: str, n_rows: int) -> int:
    """The same for a kind of device and the rows of the token matrix."""
    n_bytes = 2**29 if device_type == "cuda" else 2**23
    return max(64, n_bytes // (4 * n_rows))
