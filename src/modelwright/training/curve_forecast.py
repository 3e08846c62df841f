"""Where a run's validation loss is going to end, told while it trains.

The loss is taken to fall as a power of the learning done, and once more as the rate goes down:

    log L(s) = a - alpha log S(s) - h (1 - r(s) / peak)

where r is the learning rate and S the sum of r / peak over the steps. The sum of the rates in the
place of the steps, and a gain of its own for the decay, are those of Tissue et al. 2024, "Scaling
Law with Learning Rate Annealing", equation 1. That law has a floor under the loss besides, which
nothing shows in the first third of a run.

How much a decay is going to gain cannot be seen before it begins. So both alpha and h start from
what other runs came to, as normal distributions, and the curve corrects them (ridge regression).
In nats, and not as shares, those runs are most alike.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from modelwright.evaluation.results import power
from modelwright.training.metrics import is_taken
from modelwright.training.schedules import ScheduleConfig, learning_rate, warmup_steps

Floats: TypeAlias = NDArray[np.floating[Any]]

earliest = 0.3  # of the steps
fewest_steps = 50  # that a forecast is made from: the newer half of those that there are
n_means = 12
n_deviations = 1.96  # on each side, for 95 %


@dataclass(frozen=True)
class Usual:
    """How runs usually go, in nats at the loss that a run has now.

    The values are the likeliest for the runs in docs/results/curve-forecast.md, by their ends.

    Attributes:
        fall: for each factor of e in S; alpha is this over the loss.
        gain: by a decay to zero; h is this over the loss.
        wiggle: of a mean of losses, beside the noise of its batches.
        error: of what is said, however little is to come: no curve is a power exactly.
        error_share: the same as a share of what is still to come.
    """

    fall: float = 0.0
    fall_spread: float = 0.13
    gain: float = 0.35
    gain_spread: float = 0.24
    wiggle: float = 0.001
    error: float = 0.016
    error_share: float = 0.25


@dataclass(frozen=True)
class Forecast:
    """The validation loss after the last step, in nats per token, with its interval of 95 %."""

    loss: float
    low: float
    high: float

    def __str__(self) -> str:
        """As people say it: "1.84 (1.79 to 1.90)"."""
        return f"{self.loss:.2f} ({self.low:.2f} to {self.high:.2f})"


class Curve:
    """The training losses of a run so far, and what they say of its end."""

    def __init__(
        self, schedule: ScheduleConfig, *, n_steps: int, usual: Usual | None = None
    ) -> None:
        self.schedule = schedule
        self.usual = usual or Usual()
        self.losses = np.full(n_steps, np.nan)  # nan where a step has none

    @cached_property
    def terms(self) -> Floats:
        """What alpha and h stand beside in the law, by step: -log S and -(1 - r / peak)."""
        n_steps, peak = len(self.losses), self.schedule.peak_lr
        rates = (learning_rate(self.schedule, step=k, n_steps=n_steps) for k in range(n_steps))
        shares = np.fromiter(rates, float, n_steps) / peak
        return np.stack([-np.log(np.cumsum(shares)), shares - 1], axis=1)

    def add(self, metrics: dict[str, Any]) -> None:
        """Take the loss of a step from its record, if it has one."""
        if (
            is_taken(metrics)
            and metrics.get("loss") is not None
            and metrics["step"] <= len(self.losses)
        ):
            self.losses[metrics["step"] - 1] = metrics["loss"]

    def forget_after(self, step: int) -> None:
        """Drop the steps that are going to be taken again."""
        self.losses[step:] = np.nan

    def forecast(self, step: int, validation_loss: float) -> Forecast | None:
        """Where the validation loss is going to be after the last step.

        Args:
            validation_loss: after `step` steps.

        Returns:
            None before 30 % of the run, at its end, and from a curve that is too short.
        """
        n_steps = len(self.losses)
        if not earliest * n_steps <= step < n_steps or not 0 < validation_loss < math.inf:
            return None
        first = max(warmup_steps(self.schedule, n_steps), step // 2)
        known = first + np.flatnonzero(np.isfinite(self.losses[first:step]))
        if len(known) < fewest_steps:
            return None
        exponents, covariance = fit(
            self.losses[known], self.terms[known], near=validation_loss, usual=self.usual
        )
        to_come = self.terms[-1] - self.terms[step - 1]
        change = float(to_come @ exponents)
        spread = math.sqrt(
            to_come @ covariance @ to_come
            + (self.usual.error / validation_loss) ** 2
            + (self.usual.error_share * change) ** 2
        )
        low, loss, high = (
            validation_loss * power(change + n * spread) for n in (-n_deviations, 0, n_deviations)
        )
        return Forecast(loss, low, high)


def fit(losses: Floats, terms: Floats, *, near: float, usual: Usual) -> tuple[Floats, Floats]:
    """Alpha and h by means of the losses, oldest first, and their covariance.

    The noise of a mean is known by how much the losses of neighbours differ.

    Args:
        near: the loss at which nats are made shares of it.
    """
    parts = np.array_split(np.arange(len(losses)), n_means)
    means = np.array([losses[part].mean() for part in parts])
    regressors = np.stack([np.append(1, terms[part].mean(axis=0)) for part in parts])
    deviation = math.sqrt(np.mean(np.diff(losses) ** 2) / 2)
    noise = deviation / means / np.sqrt([len(part) for part in parts])
    weights = 1 / (noise**2 + (usual.wiggle / near) ** 2)
    expected = np.array([0, usual.fall, usual.gain]) / near
    certainty = np.array([0, (near / usual.fall_spread) ** 2, (near / usual.gain_spread) ** 2])
    covariance = np.linalg.inv((regressors.T * weights) @ regressors + np.diag(certainty))
    found = covariance @ ((regressors.T * weights) @ np.log(means) + certainty * expected)
    return found[1:], covariance[1:, 1:]
