"""Blocks that forget what they computed and compute it again when the gradient needs it."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from modelwright.model.block_kernels import show_compiler
from modelwright.model.cross_entropy import surprise_and_slope
from modelwright.model.transformer import Transformer

RecomputeKind = Literal["none", "blocks", "selective"]

aten = torch.ops.aten
# What costs more to compute again than to keep: matrix products and attention.
kept = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten._scaled_mm.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
}


def recompute(model: Transformer, kind: RecomputeKind, *, every: int = 1) -> None:
    """Let blocks of a model keep less between forward and backward, changing it in place.

    The gradients stay the same; see Chen et al. 2016, "Training Deep Nets with Sublinear Memory
    Cost", and for the selective kind Korthikanti et al. 2022, "Reducing Activation Recomputation in
    Large Transformer Models", section 5.

    Args:
        kind: "blocks" keeps only what enters a block, "selective" also the matrix products and
            attention, so that only cheap operations are done twice.
        every: of how many blocks one does so.
    """
    if kind == "none":
        return
    settings: dict[str, Any] = (
        {"context_fn": partial(create_selective_checkpoint_contexts, keep_products)}
        if kind == "selective"
        else {}
    )
    settings["preserve_rng_state"] = model.config.dropout > 0
    for block in model.blocks[::every]:
        # The block stays where it is, so that its parameters keep their names.
        block.forward = forgetful(block.forward, settings)


def forgetful(forward: Callable[..., Tensor], settings: dict[str, Any]) -> Callable[..., Tensor]:
    """The same function, but what it keeps for the gradient is dropped and computed again."""

    # A function of this file, because torch.compile leaves a partial of `checkpoint` alone.
    def recomputed(*inputs: Any) -> Tensor:
        return checkpoint(forward, *inputs, use_reentrant=False, **settings)

    return recomputed


def keep_products(_context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    """Whether the result of an operation is kept for the gradient."""
    return CheckpointPolicy.MUST_SAVE if operation in kept else CheckpointPolicy.PREFER_RECOMPUTE


def compile_blocks(model: Transformer) -> None:
    """Let torch.compile make programs for all blocks, the last norm and the loss, in place.

    A loss that is computed by a kernel of its own stays as it is.
    """
    show_compiler()
    for block in model.blocks:
        assert isinstance(block, nn.Module)
        block.compile()
    if has_norm(model):
        model.norm.compile()
    if model.slope_of is surprise_and_slope:
        model.slope_of = torch.compile(surprise_and_slope)


def has_norm(model: Transformer) -> bool:
    """Whether the stream is normalised once more behind the last block."""
    return not isinstance(model.norm, nn.Identity)
