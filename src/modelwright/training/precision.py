"""The factor that keeps small gradients from vanishing in fp16."""

from typing import Any

import torch


class LossScale:
    """A factor on the loss that falls when gradients overflow and slowly rises again.

    The gradients are divided by it before they are used, so it changes only what fp16 loses.

    Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.2.
    """

    def __init__(self, value: float = 2.0**16, *, patience: int = 2000, least: float = 1.0) -> None:
        """Args:
        patience: steps without an overflow before it doubles.
        """
        self.value = value
        self.patience = patience
        self.least = least
        self.n_good = 0  # steps since it changed

    def can_fall(self) -> bool:
        """Whether an overflow may be its fault."""
        return self.value > self.least

    def after_step(self, *, overflowed: bool) -> None:
        """Halve it after an overflow, double it after enough steps without one."""
        self.n_good = 0 if overflowed else self.n_good + 1
        if overflowed:
            self.value = max(self.least, self.value / 2)
        elif self.n_good == self.patience:
            self.value, self.n_good = self.value * 2, 0

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"value": self.value, "n_good": self.n_good}

    def restore(self, facts: dict[str, Any]) -> None:
        """Go on where a checkpoint was; one of a run without a loss scale leaves it as it is."""
        self.value = facts.get("value", self.value)
        self.n_good = facts.get("n_good", self.n_good)


class NoLossScale(LossScale):
    """One, for number formats with the range of fp32."""

    def __init__(self) -> None:
        super().__init__(1.0)

    def after_step(self, *, overflowed: bool) -> None:
        """It stays."""

    def facts(self) -> dict[str, Any]:
        """Nothing, so that a run that goes on in fp16 begins with a scale of its own."""
        return {}

    def restore(self, facts: dict[str, Any]) -> None:
        """It stays one, whatever number format the run had before."""


def make_loss_scale(dtype: torch.dtype) -> LossScale:
    """What products in a number format need."""
    return LossScale() if dtype == torch.float16 else NoLossScale()
