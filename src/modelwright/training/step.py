"""One update of the weights."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from modelwright.data.loader import not_a_target
from modelwright.model.loss import next_token_loss
from modelwright.model.transformer import Transformer


@dataclass(frozen=True)
class StepResult:
    """What one step found, still on the device."""

    loss: Float[Tensor, ""]  # nats per token, before the update
    gradient_norm: Float[Tensor, ""]  # before clipping


def training_step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    inputs: Int[Tensor, "batch seq"],
    targets: Int[Tensor, "batch seq"],
    *,
    learning_rate: float,
    clip_norm: float,
    micro_batch: int,
) -> StepResult:
    """Learn from one batch, a few sequences at a time, changing the weights in place.

    The gradient is that of the mean loss over the whole batch, however it is portioned. A loss
    or a gradient that is not finite changes nothing: the caller sees it in the result.
    """
    n_targets = int((targets != not_a_target).sum())
    loss = torch.zeros((), device=inputs.device)
    for some_inputs, some_targets in zip(
        inputs.split(micro_batch), targets.split(micro_batch), strict=True
    ):
        share = next_token_loss(model, some_inputs, some_targets) / n_targets
        share.backward()
        loss += share.detach()
    gradient_norm = clip_grad_norm_(model.parameters(), clip_norm or torch.inf)
    if torch.isfinite(loss) and torch.isfinite(gradient_norm):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(loss, gradient_norm)
