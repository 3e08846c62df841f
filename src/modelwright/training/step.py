"""One update of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from modelwright.data.loader import Batch
from modelwright.model.loss import next_token_loss
from modelwright.model.transformer import Transformer
from modelwright.runtime.gpu_memory import figures_in
from modelwright.training.lanes import Lanes
from modelwright.training.out_of_memory import OutOfMemory
from modelwright.training.updates import Optimizer

one_lane = Lanes()
Number = float | Float[Tensor, ""]


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


class StartedStep:
    """A step that the device may still be working on.

    What it finds is on its way to the host, where asking for it waits only for this step and not
    for what was started after it.
    """

    def __init__(self, found: Float[Tensor, "3"]) -> None:
        """Args:
        found: loss, gradient norm and whether the weights moved, on the device.
        """
        self._arrived = None
        self._found = found
        if found.is_cuda:
            self._found = torch.empty(3, dtype=found.dtype, pin_memory=True)
            self._found.copy_(found, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def result(self) -> StepResult:
        """What the step found, as soon as it is done."""
        if self._arrived is not None:
            self._arrived.synchronize()
        loss, gradient_norm, taken = self._found.tolist()
        return StepResult(loss, gradient_norm, bool(taken))


def training_step(
    model: Transformer,
    optimizer: Optimizer,
    batch: Batch,
    *,
    learning_rate: Number,
    clip_norm: float,
    micro_batch: int,
    scale: Number | None = None,
    loss_scale: float = 1.0,
    loss_limit: Number = math.inf,
    dropout_seed: int | None = None,
    lanes: Lanes = one_lane,
    gate: Float[Tensor, ""] | None = None,
) -> Float[Tensor, "3"]:
    """Learn from one batch, a few sequences at a time, changing the weights in place.

    The gradient is that of the mean loss over the whole batch, however it is portioned. A loss
    or a gradient that is not finite changes nothing: the caller sees it in the result. Nothing
    here waits for the device, which decides by itself whether the weights move.

    Args:
        learning_rate: like every `Number` here, one of the host's or one that is on the device.
        clip_norm: longer gradients are shortened to it; 0 leaves them.
        micro_batch: sequences that go through the model at once.
        scale: by which the summed loss is multiplied; None makes it `loss_scale` times the mean.
        loss_scale: by which the loss is multiplied on its way back, so that gradients in fp16 do
            not vanish; they are divided by it again.
        loss_limit: a loss above it is not learned from.
        dropout_seed: of the portions' dropout; None if there is none.
        lanes: in how many portions are worked on at the same time.
        gate: a number on the device that a step which is not taken sets to 1. While it is 1 no
            step is taken, so that one that was started behind another comes to nothing with it.

    Returns:
        What `StartedStep` brings to the host: loss, gradient norm, and 1 if the weights moved.

    Raises:
        OutOfMemoryError: if a portion does not fit into memory; nothing has changed but gradients.
        OutOfMemory: if the update does not fit; some of the weights may have moved.
    """
    by = loss_scale / batch.count_targets() if scale is None else scale

    def loss_of(number: int, part: Batch) -> Tensor:
        if dropout_seed is not None:
            torch.manual_seed(dropout_seed + number)
        return next_token_loss(
            model,
            part.inputs,
            part.targets,
            positions=part.positions,
            documents=part.documents,
            scale=by,
        )

    scaled_loss = lanes.accumulate(model, list(portions(batch, micro_batch)), loss_of)
    loss = scaled_loss.double() / loss_scale
    norm, divisor = measure_gradient(model, clip_norm, loss_scale)
    is_good = (loss <= loss_limit) & torch.isfinite(loss + norm)
    void = 1 - is_good.float()
    if gate is not None:
        void = torch.maximum(void, gate, out=gate)
    found = torch.stack([loss, norm.double(), 1 - void.double()])
    with no_second_try(micro_batch):
        optimizer.step(learning_rate, divisor=divisor, void=void)
    optimizer.zero_grad()
    return found


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
def measure_gradient(
    model: nn.Module, clip_norm: float, loss_scale: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """How long a model's gradient is, and by what it has to be divided.

    Returns:
        The norm of all gradients together without the loss scale, and the number that takes the
        loss scale out of them and shortens them to `clip_norm`; 0 does not shorten.

    Source: Pascanu et al. 2013, "On the difficulty of training recurrent neural networks",
    algorithm 1.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients) / loss_scale
    too_long = (norm + 1e-6) / clip_norm if clip_norm else torch.zeros_like(norm)
    return norm, too_long.clamp(min=1.0) * loss_scale
