"""How surprised the model is by the next token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from modelwright.data.loader import not_a_target
from modelwright.model.cross_entropy import ChunkedLoss
from modelwright.model.transformer import Transformer


def next_token_loss(
    model: Transformer,
    inputs: Int[Tensor, "batch seq"],
    targets: Int[Tensor, "batch seq"],
    *,
    positions: Int[Tensor, "batch seq"] | None = None,
    documents: Int[Tensor, "batch seq"] | None = None,
    scale: float | Float[Tensor, ""] = 1.0,
) -> Float[Tensor, ""]:
    """The summed cross-entropy of the targets, in nats, times `scale`, in fp32.

    A sum rather than a mean, so that the parts of a batch add up whatever their sizes. The logits
    of a few hundred positions exist at a time, never those of the whole batch.

    Args:
        targets: the token after each input; `not_a_target` where there is none to predict.
        positions, documents: as `Transformer.hidden` takes them.
        scale: known beforehand, so that gradients in a narrow format are of the right size; a
            number of the host's, or one on the device.
    """
    hidden = model.hidden(inputs, positions=positions, documents=documents)
    weight = model.unembedding.weight
    if not torch.is_grad_enabled():
        weight = weight.detach()  # a function of our own asks its inputs, not the mode
    return ChunkedLoss.apply(
        hidden.flatten(0, 1),
        weight,
        targets.flatten(),
        model.config.known_vocab,
        scale,
        model.slope_of,
        model.loss_chunk,
        model.add_product,
    )


def whole_loss(
    logits: Float[Tensor, "tokens vocab"], targets: Int[Tensor, " tokens"]
) -> Float[Tensor, ""]:
    """The same from logits that are all there: the slow, obvious twin."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(wide, targets, ignore_index=not_a_target, reduction="sum")
