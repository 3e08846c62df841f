"""One step of a run as it may go: well, short of memory, or with a loss not to be trusted."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from modelwright.data.loader import Batch, Loader, StoppedWaiting
from modelwright.model.transformer import Transformer
from modelwright.runtime.device import memory_bytes, reserved_bytes
from modelwright.runtime.gpu_memory import figures_in
from modelwright.runtime.seeding import stream_seed
from modelwright.training import policies
from modelwright.training.averaging import Average
from modelwright.training.capture import RecordedStep
from modelwright.training.config import RunConfig
from modelwright.training.curve_forecast import Forecast
from modelwright.training.lanes import Lanes
from modelwright.training.out_of_memory import OutOfMemory
from modelwright.training.precision import LossScale
from modelwright.training.schedules import learning_rate
from modelwright.training.step import StartedStep, StepResult, in_short, training_step
from modelwright.training.updates import Optimizer


@dataclass
class TrainingState:
    """All that changes while a run goes on.

    Attributes:
        micro_batch: sequences that go through the model at once.
        average: of the weights; None if it is not wanted.
        lanes: in how many portions are worked on at the same time.
        looks_ahead: whether a step may be started before the one before it is looked at.
        recorded: the step as a CUDA graph; None takes it operation by operation.
        step: finished steps.
        seconds: spent in steps, over all resumes.
        left_out: numbers of the batches that are not learned from.
        recent_losses: of the last steps, oldest first.
        validation_loss: measured after this very step, if it was.
        forecast: of the loss at the end, made when it was last measured; None if there is none.
        measured: the names of what happens now and then that is on record of this very step.
        gate: 1 on the device while steps come to nothing, as `training_step` takes it.
        ahead: the step after the last one, where it was started already.
        looked_at: when the last step was found to be done.
    """

    model: Transformer
    optimizer: Optimizer
    loss_scale: LossScale
    micro_batch: int
    average: Average | None = None
    lanes: Lanes = field(default_factory=Lanes)
    looks_ahead: bool = False
    recorded: RecordedStep | None = None
    step: int = 0
    seconds: float = 0.0
    left_out: list[int] = field(default_factory=list)
    recent_losses: list[float] = field(default_factory=list)
    validation_loss: float | None = None
    forecast: Forecast | None = None
    measured: list[str] = field(default_factory=list)
    gate: Tensor = field(init=False)
    ahead: "Attempt | None" = None
    looked_at: float = 0.0

    def __post_init__(self) -> None:
        self.gate = torch.zeros((), dtype=torch.float32, device=self.device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.embedding.weight.device

    def give_up_what_is_ahead(self) -> None:
        """Let the step that was started ahead have been nothing; the gate keeps it from moving."""
        self.ahead = None
        self.gate.zero_()


@dataclass(frozen=True)
class Attempt:
    """A step that was started.

    Attributes:
        number: of its batch.
        spike_at: the loss above which it is a spike.
        shrunk: whether the portions had to be made smaller for it.
        began: when.
        data_seconds: that it waited for its batch.
        memory_bytes: that the run held.
    """

    number: int
    batch: Batch
    started: StartedStep
    learning_rate: float
    spike_at: float
    shrunk: bool
    began: float
    data_seconds: float
    memory_bytes: int


def take_step(
    state: TrainingState,
    config: RunConfig,
    loader: Loader,
    *,
    is_stopped: Callable[[], bool] = lambda: False,
    is_followed: bool = False,
) -> tuple[dict[str, Any], policies.Action]:
    """Take one step.

    A step that is followed by another at once, with nothing to be done in between, may have the
    other one started before it is looked at, so that a GPU never waits for the host. Where it turns
    out not to be taken, the other one comes to nothing and is started anew: the same numbers come
    out as with one after the other.

    Args:
        is_followed: whether the state is left alone until the next step.

    Returns:
        Its metrics, and what came of it. After "stop" and "rewind" nothing has changed, and the
        metrics only say why.

    Raises:
        StoppedWaiting: if the data did not come before `is_stopped`.
    """
    attempt, state.ahead = state.ahead, None
    if attempt is None:
        known = state.recent_losses[:-1]  # the newest one is not known yet if a step is ahead
        attempt = _start(state, config, loader, state.step, known, is_stopped)
    if is_followed and state.looks_ahead:
        with suppress(StoppedWaiting):
            known = state.recent_losses
            state.ahead = _start(state, config, loader, state.step + 1, known, is_stopped)
    result, number, batch = attempt.started.result(), attempt.number, attempt.batch
    action, event = _judge(state, config, result, attempt.spike_at)
    if not result.taken:
        state.give_up_what_is_ahead()
    now = time.perf_counter()
    seconds = now - max(attempt.began, state.looked_at)
    state.looked_at = now
    metrics: dict[str, Any] = {
        "step": state.step + 1,
        "loss": result.loss,
        "learning_rate": attempt.learning_rate,
        "gradient_norm": result.gradient_norm,
        "n_tokens": (state.step + 1) * config.training.batch_tokens,
        "seconds": round(state.seconds + seconds, 3),
        "step_seconds": round(seconds, 6),
        "data_seconds": round(attempt.data_seconds, 6),
        "tokens_per_second": round(config.training.batch_tokens / seconds, 1),
        "memory_bytes": attempt.memory_bytes,
        "data_ids": hashlib.sha256(batch.samples.tobytes()).hexdigest()[:12],
    }
    if (held := reserved_bytes(state.device)) is not None:
        metrics["reserved_bytes"] = held
    if config.training.precision == "fp16" or state.loss_scale.value != 1:
        metrics["loss_scale"] = state.loss_scale.value
    if attempt.shrunk:
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


def _start(
    state: TrainingState,
    config: RunConfig,
    loader: Loader,
    step: int,
    known: Sequence[float],
    is_stopped: Callable[[], bool],
) -> Attempt:
    """Start a step.

    Args:
        step: how many come before it.
        known: the losses that say what a spike is.

    Raises:
        StoppedWaiting: if the data did not come before `is_stopped`; nothing was started.
    """
    began = time.perf_counter()
    number = policies.batch_number(step, state.left_out)
    batch = loader.batch(number, is_stopped=is_stopped)
    data_seconds = time.perf_counter() - began
    rate = learning_rate(config.schedule, step=step, n_steps=config.training.n_steps)
    spike_at = policies.spike_threshold(config.policies, known)
    started, shrunk = _start_within_memory(
        state,
        batch,
        config,
        step=step,
        learning_rate=rate,
        loss_limit=math.inf if config.policies.spike == "flag" else spike_at,
    )
    return Attempt(
        number=number,
        batch=batch,
        started=started,
        learning_rate=rate,
        spike_at=spike_at,
        shrunk=shrunk,
        began=began,
        data_seconds=data_seconds,
        memory_bytes=memory_bytes(state.device),
    )


def _start_within_memory(
    state: TrainingState,
    batch: Batch,
    config: RunConfig,
    *,
    step: int,
    learning_rate: float,
    loss_limit: float,
) -> tuple[StartedStep, bool]:
    """Start a step; where it does not fit into memory, halve the portions and start it again.

    Returns:
        The step, and whether the portions are smaller now.

    Raises:
        OutOfMemory: if the portions may not be made smaller, or the update does not fit.
    """
    had = state.micro_batch
    dropout_seed = stream_seed(config.seed, f"dropout/{step}") if config.model.dropout else None
    while True:
        try:
            settings: dict[str, Any] = {
                "learning_rate": learning_rate,
                "clip_norm": config.optimizer.clip_norm,
                "micro_batch": state.micro_batch,
                "loss_scale": state.loss_scale.value,
                "loss_limit": loss_limit,
                "lanes": state.lanes,
                "gate": state.gate,
            }
            if state.recorded is not None:
                found = state.recorded(batch, **settings)
            else:
                found = training_step(
                    state.model, state.optimizer, batch, dropout_seed=dropout_seed, **settings
                )
            if state.average is not None:
                state.average.update(state.model, found[2])
            return StartedStep(found), state.micro_batch < had
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
    state.measured = []
    if result.taken:
        state.loss_scale.after_step(overflowed=False)
        n_kept = config.policies.spike_window + 1  # the newest is not part of the median yet
        state.recent_losses = [*state.recent_losses, result.loss][-n_kept:]
