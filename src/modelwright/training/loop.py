"""The training loop: step after step, and in between whatever was asked to happen now and then."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from modelwright.data.loader import Loader, StoppedWaiting
from modelwright.runtime.interrupts import StopRequest
from modelwright.runtime.progress import Listener, Progress
from modelwright.training.attempt import TrainingState, take_step
from modelwright.training.config import RunConfig


class Action(Protocol):
    """Something that happens now and then: evaluate, score, sample, save."""

    name: str
    every_steps: int

    def __call__(self, state: TrainingState) -> dict[str, Any]:
        """Do it after `state.step` steps and return what belongs in the metrics.

        Nothing is returned by what was broken off, and is due again when the run goes on.
        """
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
    missing = [action for action in actions if action.name not in state.measured]
    found = _results(missing, state, n_steps)
    if found or state.step == 0:  # the first line makes it a run, also of one that is stopped here
        record({"step": state.step} | found)
    if state.step == 0 and config.policies.may_rewind:
        save(state)
    while state.step < n_steps:
        if state.ahead is None:
            _end_if_asked(stop, state, save)
        is_alone = any(_is_due(action, state.step + 1, n_steps) for action in (*actions, save))
        try:
            metrics, action = take_step(
                state,
                config,
                loader,
                is_stopped=lambda: stop.requested,
                is_followed=not (is_alone or stop.requested),
            )
        except StoppedWaiting:
            continue
        if action == "stop":
            record(metrics)
            save(state)
            save.wait()
            raise FloatingPointError(_why_it_stops(config, metrics))
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


def _end_if_asked(stop: StopRequest, state: TrainingState, save: SaveAction) -> None:
    """Save and leave if someone asked for it."""
    if stop.requested:
        save(state)
        save.wait()
        raise Interrupted(state.step, stop.signal_number or 0)


def _why_it_stops(config: RunConfig, metrics: dict[str, Any]) -> str:
    """What went wrong in a step, and the setting with which the run could have gone on."""
    name = metrics["event"]
    other = f"policies.{name} = 'skip' or 'rewind'"
    if getattr(config.policies, name) == "rewind":
        other = f"a larger policies.most_rewinds than {config.policies.most_rewinds}"
    return (
        f"step {metrics['step']} has {metrics['found']}, so it was not taken, and the run is saved "
        "as it was before; a lower schedule.peak_lr is what most often helps, and "
        f"{other} leaves such batches out"
    )


def _results(actions: Sequence[Action], state: TrainingState, n_steps: int) -> dict[str, Any]:
    """What the actions whose turn it is have to say."""
    found: dict[str, Any] = {}
    for action in actions:
        if _is_due(action, state.step, n_steps):
            told = _with_room(action, state)
            if told:
                state.measured.append(action.name)
            found |= told
    return found


def _with_room(action: Action, state: TrainingState) -> dict[str, Any]:
    """What an action has to say; a recorded step gives its memory to one that lacks some."""
    try:
        return action(state)
    except torch.OutOfMemoryError:
        if state.recorded is None or not state.recorded.give_back():
            raise
    # Here the tensors of what went wrong are gone.
    torch.cuda.empty_cache()
    return action(state)


def _is_due(action: Action, step: int, n_steps: int) -> bool:
    """Whether it is an action's turn after so many steps."""
    return step % action.every_steps == 0 or step == n_steps


def _note(state: TrainingState, metrics: dict[str, Any]) -> str:
    """What stands beside the progress bar."""
    last = state.recent_losses[-20:]
    loss = f"loss {sum(last) / len(last):.3f} · " if last else ""
    end = f"end at about {state.forecast} · " if state.forecast else ""
    speed = f"{metrics['tokens_per_second']:,.0f} tokens/s · {metrics['mfu']:.0%} of peak"
    return f"{loss}{end}{speed}"


def _progress(state: TrainingState, config: RunConfig, note: str) -> Progress:
    return Progress(
        phase="training",
        done=state.step,
        total=config.training.n_steps,
        unit="steps",
        note=note,
    )
