"""The learning rate over a run."""

import math

from modelwright.config.schema import settings


@settings
class ScheduleConfig:
    """Linear warm-up to the peak, then cosine decay to a floor.

    Source: Loshchilov & Hutter 2017, "SGDR", equation 5, for the cosine.
    """

    peak_lr: float = 3e-3
    """Learning rate at the end of the warm-up."""
    warmup_fraction: float = 0.05
    """Share of the steps over which the rate rises from zero."""
    floor: float = 0.1
    """Fraction of peak_lr kept at the last step."""

    def __post_init__(self) -> None:
        if self.peak_lr <= 0:
            raise ValueError(
                f"schedule.peak_lr is {self.peak_lr}; choose a number above 0, such as 0.003"
            )
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(
                f"schedule.warmup_fraction is {self.warmup_fraction}, but it is a share of the "
                "steps; choose a number from 0 up to, but not, 1"
            )
        if not 0 <= self.floor <= 1:
            raise ValueError(
                f"schedule.floor is {self.floor}, but it is a fraction of peak_lr; "
                "choose a number from 0 to 1"
            )


def learning_rate(config: ScheduleConfig, *, step: int, n_steps: int) -> float:
    """The rate of one step.

    Args:
        step: from 0; the first step already moves, the last one has the floor.
    """
    n_warmup = round(config.warmup_fraction * n_steps)
    if step < n_warmup:
        return config.peak_lr * (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - 1 - n_warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return config.peak_lr * (config.floor + (1 - config.floor) * cosine)
