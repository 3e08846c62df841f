"""Causal self-attention with grouped key and value heads."""

import math
import warnings
from collections.abc import Callable, Iterator

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from modelwright.model.config import AttentionKind
from modelwright.model.linear import Linear
from modelwright.model.norms import RMSNorm
from modelwright.model.positions import Turns, turned
from modelwright.model.striped import StripedAttention

# Queries, keys, values, what is visible (None: all up to the position itself), dropout.
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]

sdpa_backends: dict[AttentionKind, SDPBackend] = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


def plain_attention(
    queries: Float[Tensor, "batch head seq d_head"],
    keys: Float[Tensor, "batch kv_head seq d_head"],
    values: Float[Tensor, "batch kv_head seq d_head"],
    visible: Bool[Tensor, "#batch 1 seq seq"] | None,
    dropout: float,
) -> Float[Tensor, "batch head seq d_head"]:
    """Attention as the equation has it; the faster one for short texts in bf16 on a CPU.

    The scores are rounded to the dtype of the queries; the softmax sums in fp32.
    """
    n_heads, n_tokens, d_head = queries.shape[1:]
    n_shared = n_heads // keys.shape[1]
    keys = repeat(keys, "batch head seq d_head -> (batch head n) seq d_head", n=n_shared)
    values = repeat(values, "batch head seq d_head -> (batch head n) seq d_head", n=n_shared)
    scaled = rearrange(queries, "batch head seq d_head -> (batch head) seq d_head") / math.sqrt(
        d_head
    )
    hidden = scaled.new_zeros(())
    if visible is None:
        hidden = scaled.new_full((n_tokens, n_tokens), -torch.inf).triu(1)
    else:
        hidden = scaled.new_zeros(visible.shape).masked_fill(~visible, -torch.inf)
        hidden = hidden.expand(len(queries), n_heads, -1, -1).flatten(0, 1)
    scores = torch.baddbmm(hidden, scaled, keys.transpose(1, 2))
    weights = functional.dropout(scores.softmax(-1), dropout)
    mixed = torch.bmm(weights, values)
    return rearrange(mixed, "(batch head) seq d_head -> batch head seq d_head", head=n_heads)


def fused_attention(kind: AttentionKind) -> Attend:
    """The same by one of PyTorch's kernels, which never hold the whole matrix of weights."""
    backend = sdpa_backends[kind]

    def attend(
        queries: Float[Tensor, "batch head seq d_head"],
        keys: Float[Tensor, "batch kv_head seq d_head"],
        values: Float[Tensor, "batch kv_head seq d_head"],
        visible: Bool[Tensor, "#batch 1 seq seq"] | None,
        dropout: float,
    ) -> Float[Tensor, "batch head seq d_head"]:
        n_shared = queries.shape[1] // keys.shape[1]
        if n_shared > 1:  # not all kernels know groups
            keys = keys.repeat_interleave(n_shared, dim=1)
            values = values.repeat_interleave(n_shared, dim=1)
        if queries.device.type == "cpu":
            return _on_processor(kind, queries, keys, values, visible, dropout)
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(
                queries, keys, values, visible, dropout, is_causal=visible is None
            )

    return attend


def _on_processor(
    kind: AttentionKind,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Tensor | None,
    dropout: float,
) -> Tensor:
    """The kernel itself: PyTorch's choice among them is one for the whole process, and lanes that
    make and undo it at the same time get each other's."""
    bias = None
    if visible is not None:
        bias = torch.zeros_like(visible, dtype=queries.dtype).masked_fill_(~visible, -torch.inf)
    if kind == "math":
        mixed, _ = torch.ops.aten._scaled_dot_product_attention_math(
            queries, keys, values, bias, dropout, is_causal=visible is None
        )
    elif kind == "flash":
        mixed, _ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            queries, keys, values, dropout, is_causal=visible is None, attn_mask=bias
        )
    else:
        raise RuntimeError(f"No available kernel on a CPU for {kind!r}; math and flash are")
    return mixed


def striped_attention(
    queries: Float[Tensor, "batch head seq d_head"],
    keys: Float[Tensor, "batch kv_head seq d_head"],
    values: Float[Tensor, "batch kv_head seq d_head"],
    visible: Bool[Tensor, "#batch 1 seq seq"] | None,
    dropout: float,
) -> Float[Tensor, "batch head seq d_head"]:
    """The same for a few queries at a time, against the keys before them: for processors.

    Where more is hidden than what comes later, or weights are dropped, it is the plain one.
    """
    if visible is not None or dropout:
        return plain_attention(queries, keys, values, visible, dropout)
    n_heads = queries.shape[1]
    n_shared = n_heads // keys.shape[1]
    if n_shared > 1:
        keys = keys.repeat_interleave(n_shared, dim=1)
        values = values.repeat_interleave(n_shared, dim=1)
    flat = (x.reshape(-1, *x.shape[2:]) for x in (queries, keys, values))
    mixed = StripedAttention.apply(*flat)
    return rearrange(mixed, "(batch head) seq d_head -> batch head seq d_head", head=n_heads)


def make_attend(kind: AttentionKind) -> Attend:
    """The function that a kind names; all give the same answer up to rounding."""
    if kind == "plain":
        return plain_attention
    return striped_attention if kind == "striped" else fused_attention(kind)


def choose_attention(
    device: torch.device,
    dtype: torch.dtype,
    *,
    d_head: int,
    n_tokens: int,
    masked: bool,
    dropout: float,
    deterministic: bool,
) -> AttentionKind:
    """The first kind that works here, in the usual order of their speed.

    Args:
        masked: whether more is hidden than later positions.
        deterministic: leave out the kernels whose gradients differ from run to run.
    """
    kinds: Iterator[AttentionKind] = working_attention(
        device,
        dtype,
        d_head=d_head,
        n_tokens=n_tokens,
        masked=masked,
        dropout=dropout,
        deterministic=deterministic,
    )
    for kind in kinds:
        return kind
    return "plain"


def working_attention(
    device: torch.device,
    dtype: torch.dtype,
    *,
    d_head: int,
    n_tokens: int,
    masked: bool,
    dropout: float,
    deterministic: bool,
) -> Iterator[AttentionKind]:
    """The kinds that work here, found by trying them, in the usual order of their speed.

    The figures behind the order are in `docs/log.md`; arguments as `choose_attention` takes them.
    """
    if device.type == "cpu":
        order = _order_on_processor(dtype, n_tokens, masked=masked, dropout=dropout)
    elif deterministic:
        order = ("flash", "math")
    else:
        order = ("flash", "cudnn", "efficient", "math")
    for kind in order:
        if kind in ("plain", "striped") or _works(kind, device, dtype, d_head, masked, dropout):
            yield kind


longest_for_plain = 512  # tokens; on a CPU the fused kernel wins for longer texts
longest_for_striped = 1024  # tokens; beyond, it would keep too much for the way back


def _order_on_processor(
    dtype: torch.dtype, n_tokens: int, *, masked: bool, dropout: float
) -> tuple[AttentionKind, ...]:
    if dropout:
        return ("plain",)
    if not masked:
        return ("striped",) if n_tokens <= longest_for_striped else ("flash",)
    is_short = dtype == torch.bfloat16 and n_tokens <= longest_for_plain
    return ("plain",) if is_short else ("flash",)


def _works(
    kind: AttentionKind,
    device: torch.device,
    dtype: torch.dtype,
    d_head: int,
    masked: bool,
    dropout: float,
) -> bool:
    """Whether a kernel takes such inputs on this device, forward and backward."""
    n_tokens = 128
    queries, keys, values = (
        torch.zeros(1, 2, n_tokens, d_head, dtype=dtype, device=device, requires_grad=True)
        for _ in range(3)
    )
    visible = torch.ones(1, 1, n_tokens, n_tokens, dtype=torch.bool, device=device).tril()
    try:
        with warnings.catch_warnings(action="ignore"):  # why it is not another kernel
            mixed = make_attend(kind)(queries, keys, values, visible if masked else None, dropout)
            mixed.sum().backward()
    except RuntimeError:  # PyTorch's word for "no kernel takes this"
        return False
    return True


class Visibility:
    """What each position may see: those before it, within a window and within its document."""

    def __init__(self, window: int | None) -> None:
        """Args:
        window: how many positions, itself included; None has no limit.
        """
        self.window = window

    def __call__(
        self, n_tokens: int, documents: Int[Tensor, "batch seq"] | None, device: torch.device
    ) -> Bool[Tensor, "#batch 1 seq seq"] | None:
        """True where the column is visible from the row; None if that is all up to itself.

        Args:
            documents: a number for each token; tokens with different ones do not meet.
        """
        is_narrow = self.window is not None and self.window < n_tokens
        if documents is None and not is_narrow:
            return None
        places = torch.arange(n_tokens, device=device)
        distance = places[:, None] - places
        visible = distance >= 0
        if self.window is not None:
            visible = visible & (distance < self.window)
        if documents is None:
            return visible[None, None]
        return (visible & self.meets(documents[:, :, None], documents[:, None, :]))[:, None]

    def meets(
        self, row: Int[Tensor, "batch seq 1"], column: Int[Tensor, "batch 1 seq"]
    ) -> Bool[Tensor, "batch seq seq"]:
        """Whether tokens of one document see those of another before them."""
        return row == column


class Attention(nn.Module):
    """Each position mixes the values of itself and of the positions it sees.

    softmax(Q Kᵀ / sqrt(d_head)) V, then an output projection. Query heads share key and value
    heads in groups of n_heads / n_kv_heads.

    Source: Vaswani et al. 2017, "Attention Is All You Need", equation 1; groups from Ainslie
    et al. 2023, "GQA"; normalised queries and keys from Dehghani et al. 2023, "Scaling Vision
    Transformers to 22 Billion Parameters", section 2.
    """

    def __init__(
        self,
        *,
        d_model: int,
        d_head: int,
        n_heads: int,
        n_kv_heads: int,
        qk_norm_epsilon: float | None,
        bias: bool,
        dropout: float,
        attend: Attend,
        dtype: torch.dtype,
    ) -> None:
        """Args:
        qk_norm_epsilon: of the RMSNorm on each head's queries and keys; None leaves them.
        dropout: chance of leaving out an attention weight while training.
        attend: what `make_attend` gives.
        """
        super().__init__()
        self.d_head = d_head
        self.head_counts = [n_heads, n_kv_heads, n_kv_heads]
        self.qkv = Linear(d_model, sum(self.head_counts) * d_head, bias=bias, dtype=dtype)
        self.query_norm, self.key_norm = (
            nn.Identity() if qk_norm_epsilon is None else RMSNorm(d_head, epsilon=qk_norm_epsilon)
            for _ in range(2)
        )
        self.output = Linear(n_heads * d_head, d_model, bias=bias, dtype=dtype)
        self.dropout = dropout
        self.attend = attend
        self.heads_of: HeadsOf = heads_of

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        turns: Turns | None,
        visible: Bool[Tensor, "#batch 1 seq seq"] | None,
    ) -> Float[Tensor, "batch seq d_model"]:
        queries, keys, values = self.heads_of(self, x, turns)
        dropout = self.dropout if self.training else 0.0
        mixed = self.attend(queries, keys, values, visible, dropout)
        return self.output(rearrange(mixed, "batch head seq d_head -> batch seq (head d_head)"))


HeadsOf = Callable[[Attention, Tensor, Turns | None], tuple[Tensor, Tensor, Tensor]]


def heads_of(
    attention: Attention, x: Float[Tensor, "batch seq d_model"], turns: Turns | None
) -> tuple[
    Float[Tensor, "batch head seq d_head"],
    Float[Tensor, "batch kv_head seq d_head"],
    Float[Tensor, "batch kv_head seq d_head"],
]:
    """Queries, keys and values of a stream; the first two normalised and turned."""
    heads = rearrange(
        attention.qkv(x),
        "batch seq (head d_head) -> batch head seq d_head",
        d_head=attention.d_head,
    )
    queries, keys, values = heads.split(attention.head_counts, dim=1)
    queries = turned(attention.query_norm(queries), turns)
    return queries, turned(attention.key_norm(keys), turns), values
