"""One step of a run as it may go: well, short of memory, or with a loss not to be trusted."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from modelwright.data.loader import Batch, Loader
from modelwright.model.transformer import Transformer
from modelwright.runtime.device import memory_bytes, reserved_bytes
from modelwright.runtime.gpu_memory import figures_in
from modelwright.runtime.seeding import stream_seed
from modelwright.training import policies
from modelwright.training.averaging import Average
from modelwright.training.config import RunConfig
from modelwright.training.lanes import Lanes
from modelwright.training.out_of_memory import OutOfMemory
from modelwright.training.precision import LossScale
from modelwright.training.schedules import learning_rate
from modelwright.training.step import StepResult, in_short, training_step
from modelwright.training.updates import Optimizer


@dataclass
class TrainingState:
    """All that changes while a run goes on.

    Attributes:
        micro_batch: sequences that go through the model at once.
        average: of the weights; None if it is not wanted.
        lanes: in how many portions are worked on at the same time.
        step: finished steps.
        seconds: spent in steps, over all resumes.
        left_out: numbers of the batches that are not learned from.
        recent_losses: of the last steps, oldest first.
        validation_loss: measured after this very step, if it was.
    """

    model: Transformer
    optimizer: Optimizer
    loss_scale: LossScale
    micro_batch: int
    average: Average | None = None
    lanes: Lanes = field(default_factory=Lanes)
    step: int = 0
    seconds: float = 0.0
    left_out: list[int] = field(default_factory=list)
    recent_losses: list[float] = field(default_factory=list)
    validation_loss: float | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.embedding.weight.device


def take_step(
    state: TrainingState,
    config: RunConfig,
    loader: Loader,
    *,
    is_stopped: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Any], policies.Action]:
    """Take one step.

    Returns:
        Its metrics, and what came of it. After "stop" and "rewind" nothing has changed, and the
        metrics only say why.

    Raises:
        StoppedWaiting: if the data did not come before `is_stopped`.
    """
    began = time.perf_counter()
    number = policies.batch_number(state.step, state.left_out)
    batch = loader.batch(number, is_stopped=is_stopped)
    data_seconds = time.perf_counter() - began
    rate = learning_rate(config.schedule, step=state.step, n_steps=config.training.n_steps)
    spike_at = policies.spike_threshold(config.policies, state.recent_losses)
    result, shrunk = _step_within_memory(
        state,
        batch,
        config,
        learning_rate=rate,
        loss_limit=math.inf if config.policies.spike == "flag" else spike_at,
    )
    action, event = _judge(state, config, result, spike_at)
    seconds = time.perf_counter() - began
    metrics: dict[str, Any] = {
        "step": state.step + 1,
        "loss": result.loss,
        "learning_rate": rate,
        "gradient_norm": result.gradient_norm,
        "n_tokens": (state.step + 1) * config.training.batch_tokens,
        "seconds": round(state.seconds + seconds, 3),
        "step_seconds": round(seconds, 6),
        "data_seconds": round(data_seconds, 6),
        "tokens_per_second": round(config.training.batch_tokens / seconds, 1),
        "memory_bytes": memory_bytes(state.device),
        "data_ids": hashlib.sha256(batch.samples.tobytes()).hexdigest()[:12],
    }
    if (held := reserved_bytes(state.device)) is not None:
        metrics["reserved_bytes"] = held
    if config.training.precision == "fp16" or state.loss_scale.value != 1:
        metrics["loss_scale"] = state.loss_scale.value
    if shrunk:
        metrics |= {"event": "out_of_memory", "micro_batch": state.micro_batch}
    if event:
        found = f"loss {result.loss:.6g} and gradient norm {result.gradient_norm:.6g}"
        told = {"event": event, "action": action, "found": found, "batch": number}
        told["sample_ids"] = batch.samples.tolist()
        if action in ("stop", "rewind"):
            return {"step": state.step + 1} | told, action  # there was no step to measure
        metrics |= told
    if not math.isfinite(result.loss + result.gradient_norm):
        del metrics["loss"], metrics["gradient_norm"]  # no numbers, and no part of a curve
    if action in ("take", "skip"):
        _finish_step(state, config, result, seconds)
    return metrics, action


def _step_within_memory(
    state: TrainingState,
    batch: Batch,
    config: RunConfig,
    *,
    learning_rate: float,
    loss_limit: float,
) -> tuple[StepResult, bool]:
    """Take a step; where it does not fit into memory, halve the portions and take it again.

    Returns:
        The result, and whether the portions are smaller now.

    Raises:
        OutOfMemory: if the portions may not be made smaller, or the update does not fit.
    """
    had = state.micro_batch
    has_dropout = config.model.dropout > 0
    while True:
        try:
            result = training_step(
                state.model,
                state.optimizer,
                batch,
                learning_rate=learning_rate,
                clip_norm=config.optimizer.clip_norm,
                micro_batch=state.micro_batch,
                loss_scale=state.loss_scale.value,
                loss_limit=loss_limit,
                dropout_seed=stream_seed(config.seed, f"dropout/{state.step}")
                if has_dropout
                else None,
                lanes=state.lanes,
            )
            return result, state.micro_batch < had
        except torch.OutOfMemoryError as error:
            reason = in_short(error)
            figures = figures_in(str(error))
        # Here the failed step's tensors are gone.
        state.optimizer.zero_grad()
        if config.training.micro_batch != "auto" or state.micro_batch == 1:
            message = _does_not_fit(state.micro_batch, config.model.context, reason)
            raise OutOfMemory(message, micro_batch=state.micro_batch, figures=figures)
        state.micro_batch //= 2
        if state.device.type == "cuda":
            torch.cuda.empty_cache()


def _does_not_fit(n_sequences: int, context: int, reason: str) -> str:
    """The message where portions cannot get smaller by themselves."""
    other = "training.recompute = 'blocks', or a smaller model.context"
    if n_sequences == 1:
        return f"a sequence of {context} tokens does not fit into memory ({reason}); set {other}"
    return (
        f"{n_sequences} sequences of {context} tokens do not fit into memory at once ({reason}); "
        f"set training.micro_batch = 'auto' or a smaller number than that, {other}"
    )


def _judge(
    state: TrainingState, config: RunConfig, result: StepResult, spike_at: float
) -> tuple[policies.Action, str | None]:
    """What comes of a step, and what it is called in the record if it was out of the ordinary."""
    if not math.isfinite(result.loss + result.gradient_norm):
        if math.isfinite(result.loss) and state.loss_scale.can_fall():
            state.loss_scale.after_step(overflowed=True)
            return "skip", "overflow"
        wanted, event = config.policies.not_finite, "not_finite"
    elif result.loss > spike_at:
        wanted, event = config.policies.spike, "spike"
    else:
        return "take", None
    if wanted == "rewind" and len(state.left_out) >= config.policies.most_rewinds:
        wanted = "stop"
    return ("take" if wanted == "flag" else wanted), event


def _finish_step(
    state: TrainingState, config: RunConfig, result: StepResult, seconds: float
) -> None:
    """Count a step that was taken or left out."""
    state.step += 1
    state.seconds += seconds
    state.validation_loss = None
    if result.taken:
        state.loss_scale.after_step(overflowed=False)
        n_kept = config.policies.spike_window
        state.recent_losses = [*state.recent_losses, result.loss][-n_kept:]
        if state.average is not None:
            state.average.update(state.model)
