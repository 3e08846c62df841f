"""One update of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modelwright.data.loader import Batch, not_a_target
from modelwright.model.loss import next_token_loss
from modelwright.model.transformer import Transformer
from modelwright.runtime.gpu_memory import figures_in
from modelwright.training.lanes import Lanes
from modelwright.training.out_of_memory import OutOfMemory
from modelwright.training.updates import Optimizer

one_lane = Lanes()


@dataclass(frozen=True)
class StepResult:
    """What one step found.

    Attributes:
        loss: nats per token, before the update.
        gradient_norm: before clipping.
        taken: whether the weights moved.
    """

    loss: float
    gradient_norm: float
    taken: bool


def training_step(
    model: Transformer,
    optimizer: Optimizer,
    batch: Batch,
    *,
    learning_rate: float,
    clip_norm: float,
    micro_batch: int,
    loss_scale: float = 1.0,
    loss_limit: float = math.inf,
    dropout_seed: int | None = None,
    lanes: Lanes = one_lane,
) -> StepResult:
    """Learn from one batch, a few sequences at a time, changing the weights in place.

    The gradient is that of the mean loss over the whole batch, however it is portioned. A loss
    or a gradient that is not finite changes nothing: the caller sees it in the result.

    Args:
        clip_norm: longer gradients are shortened to it; 0 leaves them.
        micro_batch: sequences that go through the model at once.
        loss_scale: by which the loss is multiplied on its way back, so that gradients in fp16 do
            not vanish; they are divided by it again.
        loss_limit: a loss above it is not learned from.
        dropout_seed: of the portions' dropout; None if there is none.
        lanes: in how many portions are worked on at the same time.

    Raises:
        OutOfMemoryError: if a portion does not fit into memory; nothing has changed but gradients.
        OutOfMemory: if the update does not fit; some of the weights may have moved.
    """
    n_targets = int((batch.targets != not_a_target).sum())

    def loss_of(number: int, part: Batch) -> Tensor:
        if dropout_seed is not None:
            torch.manual_seed(dropout_seed + number)
        return next_token_loss(
            model,
            part.inputs,
            part.targets,
            positions=part.positions,
            documents=part.documents,
            scale=loss_scale / n_targets,
        )

    loss = lanes.accumulate(model, list(portions(batch, micro_batch)), loss_of)
    mean_loss = loss.item() / loss_scale
    gradient_norm = clip_gradient(model, clip_norm, loss_scale)
    taken = mean_loss <= loss_limit and math.isfinite(mean_loss + gradient_norm)
    if taken:
        with no_second_try(micro_batch):
            optimizer.step(learning_rate)
    optimizer.zero_grad()
    return StepResult(mean_loss, gradient_norm, taken)


@contextmanager
def no_second_try(micro_batch: int) -> Iterator[None]:
    """Tell an update that broke off from a gradient that did: only the latter can be repeated."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"the optimizer's update does not fit into memory ({in_short(error)}), and half of it "
            "may be done, so the run ends here; resume it from its newest checkpoint with "
            "training.recompute = 'blocks' or a smaller training.micro_batch, which leave more "
            "room",
            micro_batch=micro_batch,
            figures=figures_in(str(error)),
        ) from error


def in_short(error: torch.OutOfMemoryError) -> str:
    """PyTorch's first line, without its own advice at the end."""
    return str(error).partition("\n")[0].partition(" If reserved")[0]


def portions(batch: Batch, micro_batch: int) -> Iterator[Batch]:
    """A batch in parts of at most so many sequences."""
    for first in range(0, len(batch.inputs), micro_batch):
        rows = slice(first, first + micro_batch)
        yield Batch(
            batch.inputs[rows],
            batch.targets[rows],
            batch.samples[rows],
            None if batch.positions is None else batch.positions[rows],
            None if batch.documents is None else batch.documents[rows],
        )


@torch.no_grad()
def clip_gradient(model: nn.Module, clip_norm: float, loss_scale: float) -> float:
    """Take the loss scale out of the gradients and shorten them, in place.

    Returns:
        The norm of all gradients together, before it was shortened.

    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks",
    algorithm 1.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients).item() / loss_scale
    too_long = max(1.0, (norm + 1e-6) / clip_norm) if clip_norm else 1.0
    if too_long * loss_scale != 1:
        factor = 1 / (too_long * loss_scale)
        torch._foreach_mul_(gradients, factor)  # pyright: ignore[reportPrivateImportUsage]
    return norm
