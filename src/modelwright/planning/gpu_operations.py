"""What a GPU does differently, for a step that is followed on a machine without one.

Fake tensors of a processor take the processor's way through PyTorch. Here the few functions that
have kernels of their own on a GPU are sent the GPU's way, so that the trace sees the same
operations, results, and things kept for the way back.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from modelwright.accounting.tracing import Tracer, layout_of, size_of
from modelwright.model.attention import Attention
from modelwright.model.config import AttentionKind
from modelwright.model.norms import RMSNorm, widened
from modelwright.model.transformer import Transformer
from modelwright.training.fused import FusedAdamW
from modelwright.training.updates import Optimizer

aten = torch.ops.aten


def work_as_on_gpu(
    model: Transformer, attention: AttentionKind, tracer: Tracer, *, is_compiled: bool
) -> None:
    """Let a model without numbers call what it would call on a GPU, in place.

    Whose kernels its blocks use is settled before.

    Args:
        is_compiled: the compiler makes its own kernels of RMSNorms.
    """
    for module in model.modules():
        if isinstance(module, Attention) and attention in kernels:
            module.attend = partial(attend, attention)
        elif isinstance(module, RMSNorm) and not is_compiled:
            module.forward = partial(_rms_norm, module, tracer)
    model.add_product = partial(_added_while_multiplied, tracer)


def _added_while_multiplied(tracer: Tracer, total: Tensor, left: Tensor, right: Tensor) -> None:
    """A GPU's `add_product`: nothing is in memory between the product and the sum."""
    tracer.saw(
        "addmm_",
        n_flops=2 * left.shape[0] * left.shape[1] * right.shape[1],
        n_read=sum(map(size_of, (total, left, right))),
        n_written=size_of(total),
        dtype=left.dtype,
        shapes=tuple(tuple(x.shape) for x in (total, left, right)),
        layout="".join(map(layout_of, (total, left, right))),
    )


def _rms_norm(norm: RMSNorm, tracer: Tracer, x: Tensor) -> Tensor:
    return FusedRmsNorm.apply(widened(x), norm.weight, tracer).to(x.dtype)


def attend(
    kind: AttentionKind,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Tensor | None,
    dropout: float,
) -> Tensor:
    """A GPU's attention; the mask becomes what is added to the scores, as PyTorch does it."""
    n_shared = queries.shape[1] // keys.shape[1]
    if n_shared > 1:
        keys = keys.repeat_interleave(n_shared, dim=1)
        values = values.repeat_interleave(n_shared, dim=1)
    added = None
    if visible is not None:
        added = torch.zeros_like(visible, dtype=queries.dtype)
        added.masked_fill_(~visible, -torch.inf)
        added = added.expand(queries.shape[0], queries.shape[1], -1, -1)
    return kernels[kind](queries, keys, values, added, dropout, visible is None)


def _flash(q: Tensor, k: Tensor, v: Tensor, _: Tensor | None, p: float, causal: bool) -> Tensor:
    d_head = q.shape[-1]
    if d_head % 8:
        q, k, v = (functional.pad(x, (0, 8 - d_head % 8)) for x in (q, k, v))
    return aten._scaled_dot_product_flash_attention(q, k, v, p, causal)[0][..., :d_head]


def _efficient(
    q: Tensor, k: Tensor, v: Tensor, added: Tensor | None, p: float, causal: bool
) -> Tensor:
    wants_gradient = torch.is_grad_enabled()
    return aten._scaled_dot_product_efficient_attention(q, k, v, added, wants_gradient, p, causal)[
        0
    ]


def _cudnn(q: Tensor, k: Tensor, v: Tensor, added: Tensor | None, p: float, causal: bool) -> Tensor:
    wants_gradient = torch.is_grad_enabled()
    return aten._scaled_dot_product_cudnn_attention(q, k, v, added, wants_gradient, p, causal)[0]


kernels: dict[AttentionKind, Callable[..., Tensor]] = {
    "flash": _flash,
    "efficient": _efficient,
    "cudnn": _cudnn,
}


class FusedRmsNorm(torch.autograd.Function):
    """RMSNorm in one kernel, which keeps its input and each row's reciprocal root mean square."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, tracer: Tracer) -> Tensor:
        out = torch.empty_like(x)
        reciprocal = x.new_empty((*x.shape[:-1], 1))
        ctx.save_for_backward(x, weight, reciprocal)
        ctx.tracer = tracer
        tracer.saw("_fused_rms_norm", n_read=size_of(x), n_written=size_of(out), dtype=x.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, _ = ctx.saved_tensors
        d_x, d_weight = torch.empty_like(x), torch.empty_like(weight)
        ctx.tracer.saw(
            "_fused_rms_norm_backward",
            n_read=2 * size_of(x),
            n_written=size_of(x),
            dtype=x.dtype,
        )
        return d_x, d_weight, None


def turned_in_place(
    tracer: Tracer, logits: Tensor, targets: Tensor, n_vocab: int, scale: Any
) -> tuple[Tensor, Tensor]:
    """The loss kernel of `model.gpu_kernels`: each logit is read and written once."""
    losses = logits.new_empty(logits.shape[0], dtype=torch.float32)
    tracer.saw(
        "turn_into_slope",
        n_read=size_of(logits),
        n_written=size_of(logits),
        dtype=logits.dtype,
    )
    return losses.sum(), logits


def update_as_on_gpu(optimizer: Optimizer, tracer: Tracer) -> None:
    """Let an optimizer that has its state move parameters as on an NVIDIA GPU, in place."""
    for part in optimizer.parts:
        if isinstance(part, FusedAdamW):
            part.move = partial(_moved_at_once, tracer)


def _moved_at_once(tracer: Tracer, lists: Any, gradients: list[Tensor], numbers: Any) -> None:
    """The kernel of `training.adamw_kernel`: gradients are read, and what moves is written too."""
    n_bytes = sum(map(size_of, gradients))
    tracer.saw("adamw", n_read=4 * n_bytes, n_written=3 * n_bytes, dtype=torch.float32)


def gpu_scratch(capability: tuple[int, int] | None) -> Callable[[Any, Sequence[Any]], int]:
    """Bytes that the kernel of an operation takes for itself while it runs.

    Source: PyTorch 2.11: aten/src/ATen/native/cuda/SoftMax.cu multiplies the slope and the result
    of a softmax before it adds up rows; a GPU's counter shows the same.
    """

    def scratch(operation: Any, inputs: Sequence[Any]) -> int:
        if operation is aten._scaled_dot_product_flash_attention_backward.default:
            queries = inputs[1]
            batch, heads, n_tokens, d_head = queries.shape
            rows = batch * heads * (-(-n_tokens // 128) * 128)
            return rows * 4 * (-(-d_head // 32) * 32) + rows * 4
        if operation is aten._softmax_backward_data.default:
            return size_of(inputs[0])
        return 0

    return scratch


def library_workspaces(capability: tuple[int, int] | None) -> tuple[int, ...]:
    """Bytes that cuBLAS holds from the first product on, once for each thread that calls it.

    The step has two: that of the way forward, and autograd's for the way back.

    Source: PyTorch 2.11, aten/src/ATen/cuda/CublasHandlePool.cpp, the default workspace size.
    """
    return (32 * 2**20 if capability is None or capability >= (9, 0) else 8320 * 2**10,) * 2
