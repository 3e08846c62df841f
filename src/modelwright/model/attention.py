"""Causal self-attention with grouped key and value heads."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from modelwright.model.linear import Linear

AttentionKind = Literal["fused", "plain"]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def fused_attention(
    queries: Float[Tensor, "batch head seq d_head"],
    keys: Float[Tensor, "batch kv_head seq d_head"],
    values: Float[Tensor, "batch kv_head seq d_head"],
) -> Float[Tensor, "batch head seq d_head"]:
    """Causal attention by PyTorch's own kernels, which never hold the whole matrix of weights."""
    return scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)


def plain_attention(
    queries: Float[Tensor, "batch head seq d_head"],
    keys: Float[Tensor, "batch kv_head seq d_head"],
    values: Float[Tensor, "batch kv_head seq d_head"],
) -> Float[Tensor, "batch head seq d_head"]:
    """Causal attention as the equation has it; the faster one for short texts in bf16 on a CPU.

    The scores are rounded to the dtype of the queries; the softmax sums in fp32.
    """
    n_shared = queries.shape[1] // keys.shape[1]
    keys = repeat(keys, "batch head seq d_head -> (batch head n) seq d_head", n=n_shared)
    values = repeat(values, "batch head seq d_head -> (batch head n) seq d_head", n=n_shared)
    scaled = rearrange(queries, "batch head seq d_head -> (batch head) seq d_head") / math.sqrt(
        queries.shape[-1]
    )
    n_tokens = queries.shape[2]
    hidden = torch.full((n_tokens, n_tokens), -torch.inf, dtype=scaled.dtype, device=scaled.device)
    scores = torch.baddbmm(hidden.triu(1), scaled, keys.transpose(1, 2))
    mixed = torch.bmm(scores.softmax(-1), values)
    return rearrange(mixed, "(batch head) seq d_head -> batch head seq d_head", batch=len(queries))


attention_kinds: dict[AttentionKind, Attend] = {"fused": fused_attention, "plain": plain_attention}


class Attention(nn.Module):
    """Each position mixes the values of itself and the positions before it.

    softmax(Q Kᵀ / sqrt(d_head)) V over the visible positions, then an output projection. Query
    heads share key and value heads in groups of n_heads / n_kv_heads.

    Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1; groups from Ainslie
    et al. 2023, "GQA".
    """

    def __init__(
        self,
        *,
        d_model: int,
        n_heads: int,
        n_kv_heads: int,
        rotate: nn.Module,
        bias: bool,
        attend: Attend,
        dtype: torch.dtype,
    ) -> None:
        """Args:
        attend: one of `attention_kinds`; they give the same answer.
        rotate: turns queries and keys by their position; nn.Identity where positions come
            from elsewhere.
        """
        super().__init__()
        self.d_head = d_model // n_heads
        self.head_counts = [n_heads, n_kv_heads, n_kv_heads]
        d_qkv = sum(self.head_counts) * self.d_head
        self.qkv = Linear(d_model, d_qkv, bias=bias, dtype=dtype)
        self.output = Linear(d_model, d_model, bias=bias, dtype=dtype)
        self.rotate = rotate
        self.attend = attend

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        heads = rearrange(
            self.qkv(x), "batch seq (head d_head) -> batch head seq d_head", d_head=self.d_head
        )
        queries, keys, values = heads.split(self.head_counts, dim=1)
        mixed = self.attend(self.rotate(queries), self.rotate(keys), values)
        return self.output(rearrange(mixed, "batch head seq d_head -> batch seq (head d_head)"))
