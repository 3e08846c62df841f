"""How surprised the model is by the next token."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from modelwright.data.loader import not_a_target
from modelwright.model.transformer import Transformer


def next_token_loss(
    model: Transformer,
    inputs: Int[Tensor, "batch seq"],
    targets: Int[Tensor, "batch seq"],
) -> Float[Tensor, ""]:
    """The summed cross-entropy of the targets, in nats, in fp32.

    A sum rather than a mean, so that the parts of a batch add up whatever their sizes.

    Args:
        targets: the token after each input; `not_a_target` where there is none to predict.
    """
    logits = model(inputs).float()
    return functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=not_a_target, reduction="sum"
    )
