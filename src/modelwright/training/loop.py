"""The training loop: step after step, and in between whatever was asked to happen now and then."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from modelwright.data.loader import Loader
from modelwright.model.transformer import Transformer
from modelwright.runtime.interrupts import StopRequest
from modelwright.runtime.progress import Listener, Progress
from modelwright.training.config import RunConfig
from modelwright.training.schedules import learning_rate
from modelwright.training.step import training_step


@dataclass
class TrainingState:
    """All that changes while a run goes on."""

    model: Transformer
    optimizer: torch.optim.Optimizer
    step: int = 0  # finished steps
    seconds: float = 0.0  # spent in steps, over all resumes
    last_losses: list[float] = field(default_factory=list)


class Action(Protocol):
    """Something that happens now and then: evaluate, sample, save."""

    every_steps: int

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        """Do it after `state.step` steps and return what belongs in the metrics."""
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
    save: Action,
    record: Callable[[dict[str, Any]], None],
    on_progress: Listener,
    stop: StopRequest,
) -> None:
    """Train from `state.step` to the last step, changing `state` in place.

    Raises:
        Interrupted: after saving, if a stop was requested.
        FloatingPointError: if a loss or gradient is not finite; the weights are those before it.
    """
    n_steps = config.training.n_steps
    on_progress(_progress(state, config, "starting"))
    if state.step == 0:
        record({"step": 0} | _results(actions, state, n_steps))
    while state.step < n_steps:
        metrics = take_step(state, config, loader)
        metrics |= _results(actions, state, n_steps)
        record(metrics)  # before the save, so that a checkpoint's lines are always there
        _results([save], state, n_steps)
        state.last_losses = [*state.last_losses[-19:], metrics["loss"]]
        loss = sum(state.last_losses) / len(state.last_losses)
        speed = metrics["tokens_per_second"]
        on_progress(_progress(state, config, f"loss {loss:.3f} · {speed:,.0f} tokens/s"))
        if stop.signal_number is not None and state.step < n_steps:
            save(state)
            raise Interrupted(state.step, stop.signal_number)


def take_step(state: TrainingState, config: RunConfig, loader: Loader) -> dict[str, Any]:
    """Take one step and return its metrics."""
    began = time.perf_counter()
    batch = loader.batch(state.step)
    data_seconds = time.perf_counter() - began
    assert batch.documents is None  # the model attends over whole rows
    rate = learning_rate(config.schedule, step=state.step, n_steps=config.training.n_steps)
    result = training_step(
        state.model,
        state.optimizer,
        batch.inputs,
        batch.targets,
        learning_rate=rate,
        clip_norm=config.optimizer.clip_norm,
        micro_batch=config.training.micro_batch,
    )
    loss, gradient_norm = result.loss.item(), result.gradient_norm.item()
    if not (torch.isfinite(result.loss) and torch.isfinite(result.gradient_norm)):
        raise FloatingPointError(
            f"step {state.step + 1} has loss {loss} and gradient norm {gradient_norm}, so it was "
            "not taken; a lower schedule.peak_lr is what most often helps"
        )
    seconds = time.perf_counter() - began
    state.step += 1
    state.seconds += seconds
    return {
        "step": state.step,
        "loss": loss,
        "learning_rate": rate,
        "gradient_norm": gradient_norm,
        "n_tokens": state.step * config.training.batch_tokens,
        "seconds": round(state.seconds, 3),
        "data_seconds": round(data_seconds, 6),
        "tokens_per_second": round(config.training.batch_tokens / seconds, 1),
    }


def _results(actions: Sequence[Action], state: TrainingState, n_steps: int) -> dict[str, Any]:
    """What the actions whose turn it is have to say."""
    found: dict[str, Any] = {}
    for action in actions:
        if state.step % action.every_steps == 0 or state.step == n_steps:
            found |= action(state)
    return found


def _progress(state: TrainingState, config: RunConfig, note: str) -> Progress:
    return Progress(
        phase="training",
        done=state.step,
        total=config.training.n_steps,
        unit="steps",
        note=note,
    )
