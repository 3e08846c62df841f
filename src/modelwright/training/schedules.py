"""The learning rate over a run."""

import math
from typing import Literal

from modelwright.config.schema import settings


@settings
class ScheduleConfig:
    """Linear warm-up to the peak, then one of several ways down to a floor.

    Source: Loshchilov & Hutter 2017, "SGDR", equation 5, for the cosine; Hu et al. 2024,
    "MiniCPM", section 4, for wsd (warm-up, stable, decay), whose decay is a straight line here.
    """

    kind: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """After the warm-up: half a cosine, a straight line, the peak and then a straight line, or
    the peak to the end."""
    peak_lr: float = 3e-3
    """Learning rate at the end of the warm-up."""
    warmup: int | float = 0.05
    """Steps over which the rate rises from zero: a whole number of them, or a share of the run
    from 0 up to, but not, 1. A run that is no longer than its warm-up ends in it."""
    decay: int | float = 0.2
    """Last steps of wsd, over which the rate falls to the floor: a whole number of them, or a
    share of the run; at most what the warm-up leaves. The other kinds have no use for it."""
    floor: float = 0.1
    """Fraction of peak_lr kept at the last step; constant has no use for it."""

    def __post_init__(self) -> None:
        if self.peak_lr <= 0:
            raise ValueError(
                f"schedule.peak_lr is {self.peak_lr}; choose a number above 0, such as 0.003"
            )
        for name, examples in (("warmup", "100 or 0.05"), ("decay", "1000 or 0.2")):
            value = getattr(self, name)
            if value < 0 or (isinstance(value, float) and value >= 1):
                raise ValueError(
                    f"schedule.{name} is {value}, but it is a whole number of steps or a share "
                    f"of them, from 0 up to, but not, 1; choose one such as {examples}"
                )
        if self.decay == 0:
            raise ValueError(
                f"schedule.decay is {self.decay}, which leaves no step for the way to the floor; "
                "choose at least 1 step, or schedule.kind = 'constant'"
            )
        if not 0 <= self.floor <= 1:
            raise ValueError(
                f"schedule.floor is {self.floor}, but it is a fraction of peak_lr; "
                "choose a number from 0 to 1"
            )


def learning_rate(config: ScheduleConfig, *, step: int, n_steps: int) -> float:
    """The rate of one step.

    The first step already moves. The last one has the floor, unless it belongs to the warm-up,
    or is the only one and has the peak.

    Args:
        step: from 0 to n_steps - 1.
    """
    n_warmup = warmup_steps(config, n_steps)
    if step < n_warmup:
        return config.peak_lr * (step + 1) / n_warmup
    n_left = n_steps - 1 - n_warmup  # after the first step that is not warm-up
    match config.kind:
        case "constant":
            height = 1.0
        case "wsd":
            n_decay = max(1, _count(config.decay, n_steps))
            height = 1 - _progress(step, n_steps, min(n_decay, n_left))
        case "linear":
            height = 1 - _progress(step, n_steps, n_left)
        case "cosine":
            height = (1 + math.cos(math.pi * _progress(step, n_steps, n_left))) / 2
    return config.peak_lr * (config.floor + (1 - config.floor) * height)


def warmup_steps(config: ScheduleConfig, n_steps: int) -> int:
    """How many steps the warm-up has."""
    return _count(config.warmup, n_steps)


def _count(setting: int | float, n_steps: int) -> int:
    return setting if isinstance(setting, int) else round(setting * n_steps)


def _progress(step: int, n_steps: int, n_last: int) -> float:
    """How much of the last `n_last` steps is over after a step, from 0 to 1."""
    if n_last == 0:
        return 0.0 if n_steps == 1 else 1.0
    return max(0, step - (n_steps - 1 - n_last)) / n_last
