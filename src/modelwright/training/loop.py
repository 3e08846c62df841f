"""The training loop: step after step, and in between whatever was asked to happen now and then."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from modelwright.data.loader import Batch, Loader, StoppedWaiting
from modelwright.model.transformer import Transformer
from modelwright.runtime.device import memory_bytes
from modelwright.runtime.interrupts import StopRequest
from modelwright.runtime.progress import Listener, Progress
from modelwright.runtime.seeding import stream_seed
from modelwright.training import policies
from modelwright.training.averaging import Average
from modelwright.training.config import RunConfig
from modelwright.training.lanes import Lanes
from modelwright.training.precision import LossScale
from modelwright.training.schedules import learning_rate
from modelwright.training.step import StepResult, training_step
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


class Action(Protocol):
    """Something that happens now and then: evaluate, sample, save."""

    every_steps: int

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        """Do it after `state.step` steps and return what belongs in the metrics."""
        ...


class SaveAction(Action, Protocol):
    """Saving, which goes on in the background."""

    def wait(self) -> None:
        """Return when everything saved so far is on the disk."""
        ...


class Interrupted(Exception):
    """Someone asked the run to stop; its state is saved."""

    def __init__(self, step: int, signal_number: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step
        self.signal_number = signal_number


def run_loop(
    state: TrainingState,
    config: RunConfig,
    loader: Loader,
    *,
    actions: Sequence[Action],
    save: SaveAction,
    rewind: Callable[[TrainingState], None],
    record: Callable[[dict[str, Any]], None],
    on_progress: Listener,
    stop: StopRequest,
    step_flops: int,
    peak_flops: float,
) -> None:
    """Train from `state.step` to the last step, changing `state` in place.

    Args:
        rewind: brings the state of the newest checkpoint back.
        step_flops: the work of a step, as `accounting.flops` counts it.
        peak_flops: operations a second that the device is good for.

    Raises:
        Interrupted: after saving, if a stop was requested.
        FloatingPointError: after saving, if a loss or gradient is not finite and the policy is to
            stop; the weights are those before that step.
    """
    n_steps = config.training.n_steps
    on_progress(_progress(state, config, "starting"))
    if _is_unmeasured(state, config):
        record({"step": state.step} | _results(actions, state, n_steps))
    if state.step == 0 and config.policies.may_rewind:
        save(state)
    while state.step < n_steps:
        _end_if_asked(stop, state, save)
        try:
            metrics, action = take_step(state, config, loader, is_stopped=lambda: stop.requested)
        except StoppedWaiting:
            continue
        if action == "stop":
            record(metrics)
            save(state)
            save.wait()
            raise FloatingPointError(
                f"step {metrics['step']} has {metrics['found']}, so it was not taken, and the run "
                "is saved as it was before; a lower schedule.peak_lr is what most often helps, and "
                f"{_policy_that_goes_on(config, metrics)} leaves such batches out"
            )
        if action == "rewind":
            left_out = [*state.left_out, metrics["batch"]]
            rewind(state)
            state.left_out = left_out
            record(metrics | {"step": state.step, "from_step": metrics["step"]})
            continue
        metrics["mfu"] = round(step_flops / metrics["step_seconds"] / peak_flops, 4)
        metrics |= _results(actions, state, n_steps)
        record(metrics)  # before the save, so that a checkpoint's lines are always there
        _results([save], state, n_steps)
        on_progress(_progress(state, config, _note(state, metrics)))
    _end_if_asked(stop, state, save)


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
        MemoryError: if the portions may not be made smaller.
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
            reason = str(error).partition("\n")[0]
        # Here the failed step's tensors are gone.
        state.optimizer.zero_grad()
        if config.training.micro_batch != "auto" or state.micro_batch == 1:
            raise MemoryError(_does_not_fit(state.micro_batch, config.model.context, reason))
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


def _is_unmeasured(state: TrainingState, config: RunConfig) -> bool:
    """Whether an evaluation is due after the last step that it never had, or a stop broke off."""
    is_due = state.step % config.evaluation.every_steps == 0
    is_last = state.step == config.training.n_steps
    return (is_due or is_last) and state.validation_loss is None


def _end_if_asked(stop: StopRequest, state: TrainingState, save: SaveAction) -> None:
    """Save and leave if someone asked for it."""
    if stop.requested:
        save(state)
        save.wait()
        raise Interrupted(state.step, stop.signal_number or 0)


def _policy_that_goes_on(config: RunConfig, metrics: dict[str, Any]) -> str:
    """The setting with which a run that was stopped could have gone on."""
    name = metrics["event"]
    if getattr(config.policies, name) == "rewind":
        return f"a larger policies.most_rewinds than {config.policies.most_rewinds}"
    return f"policies.{name} = 'skip' or 'rewind'"


def _results(actions: Sequence[Action], state: TrainingState, n_steps: int) -> dict[str, Any]:
    """What the actions whose turn it is have to say."""
    found: dict[str, Any] = {}
    for action in actions:
        if state.step % action.every_steps == 0 or state.step == n_steps:
            found |= action(state)
    return found


def _note(state: TrainingState, metrics: dict[str, Any]) -> str:
    """What stands beside the progress bar."""
    last = state.recent_losses[-20:]
    loss = f"loss {sum(last) / len(last):.3f} · " if last else ""
    return f"{loss}{metrics['tokens_per_second']:,.0f} tokens/s · {metrics['mfu']:.0%} of peak"


def _progress(state: TrainingState, config: RunConfig, note: str) -> Progress:
    return Progress(
        phase="training",
        done=state.step,
        total=config.training.n_steps,
        unit="steps",
        note=note,
    )
