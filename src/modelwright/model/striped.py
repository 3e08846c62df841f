"""Causal attention on a processor, in stripes that leave out most of what is hidden anyway."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Queries in a stripe: fewer leave out more of what is hidden, but make for slower products.
stripe_height = {torch.float32: 64}
usual_height = 128


class StripedAttention(torch.autograd.Function):
    """softmax(Q Kᵀ / sqrt(d_head)) V for a stripe of queries at a time, against the keys they see.

    With s stripes it does (s + 1) / 2s of the work of the whole matrix.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Float[Tensor, "heads seq d_head"],
        keys: Float[Tensor, "heads seq d_head"],
        values: Float[Tensor, "heads seq d_head"],
    ) -> Float[Tensor, "heads seq d_head"]:
        """Args:
        queries, keys, values: of all heads of all sequences.
        """
        n_tokens, d_head = queries.shape[1:]
        scaled = queries / math.sqrt(d_head)
        mixed, weights = torch.empty_like(scaled), []
        for first, end in stripes(n_tokens, queries.dtype):
            hidden = scaled.new_full((end - first, end), -torch.inf).triu_(first + 1)
            scores = torch.baddbmm(hidden, scaled[:, first:end], keys[:, :end].transpose(1, 2))
            weights.append(scores.softmax(-1))
            mixed[:, first:end] = torch.bmm(weights[-1], values[:, :end])
        ctx.save_for_backward(scaled, keys, values, *weights)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled, keys, values, *weights = ctx.saved_tensors
        (d_mixed,) = gradients
        d_mixed = d_mixed.contiguous()
        n_tokens, d_head = scaled.shape[1:]
        d_queries, d_keys, d_values = (torch.empty_like(scaled) for _ in range(3))
        places = stripes(n_tokens, scaled.dtype)
        # The last stripe reaches all keys, so it comes first and fills what the others add to.
        for stripe, (first, end) in reversed(list(enumerate(places))):
            here, weight = d_mixed[:, first:end], weights[stripe]
            d_weight = torch.bmm(here, values[:, :end].transpose(1, 2))
            d_scores = torch.ops.aten._softmax_backward_data(d_weight, weight, -1, weight.dtype)
            d_queries[:, first:end] = torch.bmm(d_scores, keys[:, :end])
            by_key, seen = d_scores.transpose(1, 2), scaled[:, first:end]
            if end == n_tokens:
                torch.bmm(weight.transpose(1, 2), here, out=d_values)
                torch.bmm(by_key, seen, out=d_keys)
            else:
                d_values[:, :end] += torch.bmm(weight.transpose(1, 2), here)
                d_keys[:, :end] += torch.bmm(by_key, seen)
        return d_queries.div_(math.sqrt(d_head)), d_keys, d_values


def stripes(n_tokens: int, dtype: torch.dtype) -> list[tuple[int, int]]:
    """First and end of the stripes that cover the tokens."""
    height = stripe_height.get(dtype, usual_height)
    return [(first, min(first + height, n_tokens)) for first in range(0, n_tokens, height)]
