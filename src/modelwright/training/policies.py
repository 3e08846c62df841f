"""What is done about a step that went wrong: a loss that is no number, or one far too high."""

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from modelwright.config.schema import settings

Action = Literal["take", "skip", "stop", "rewind"]


@settings
class PoliciesConfig:
    """What is done about a step that went wrong. Its samples are always put on record."""

    not_finite: Literal["stop", "skip", "rewind"] = "stop"
    """After a loss or gradient that is infinite or no number: save and stop, leave the step out, or
    go back to the newest checkpoint and leave that batch out from there on."""
    spike: Literal["flag", "skip", "rewind"] = "flag"
    """After a loss far above the ones before: learn from it and say so, leave the step out, or go
    back to the newest checkpoint and leave that batch out."""
    spike_factor: float = 2.0
    """How many times the median of the last losses makes a spike."""
    spike_window: int = 50
    """How many losses the median is of; fewer than a fifth of them make no spike. The newest is not
    among them: a GPU has begun the next step before it is known."""
    most_rewinds: int = 5
    """How often a run goes back before it stops instead."""

    def __post_init__(self) -> None:
        if self.spike_factor <= 1:
            raise ValueError(
                f"policies.spike_factor is {self.spike_factor}, but a spike is above the median; "
                "choose a number above 1, such as 2"
            )
        if self.spike_window < 5:
            raise ValueError(f"policies.spike_window is {self.spike_window}; the least is 5")
        if self.most_rewinds < 0:
            raise ValueError(f"policies.most_rewinds is {self.most_rewinds}; the least is 0")

    @property
    def may_rewind(self) -> bool:
        """Whether a checkpoint to go back to is needed from the beginning."""
        return "rewind" in (self.not_finite, self.spike)


def spike_threshold(config: PoliciesConfig, losses: Sequence[float]) -> float:
    """The loss above which a step is a spike.

    Args:
        losses: of the last steps, oldest first.
    """
    recent = losses[-config.spike_window :]
    if len(recent) < config.spike_window // 5:
        return math.inf
    return config.spike_factor * statistics.median(recent)


def batch_number(step: int, left_out: Sequence[int]) -> int:
    """Which batch a step learns from: the one with its number, unless some are left out.

    Args:
        step: from 0.
        left_out: numbers of batches that no step learns from.
    """
    number = step
    for left in sorted(left_out):
        if left <= number:
            number += 1
    return number
