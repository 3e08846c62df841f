"""Which rule turns gradients into updates; `updates.py` is where it happens."""

from typing import TYPE_CHECKING, Literal

from modelwright.config.schema import settings

if TYPE_CHECKING:
    from torch import nn

    from modelwright.training.updates import Optimizer

UpdateRule = Literal["adamw", "sgd", "muon"]


@settings
class OptimizerConfig:
    """The update rule and its numbers, with weight decay on matrices and embeddings only."""

    kind: UpdateRule = "adamw"
    """AdamW, gradient descent with momentum, or Muon in the blocks and AdamW for the rest."""
    beta1: float = 0.9
    """How much of the running mean of gradients AdamW keeps each step."""
    beta2: float = 0.95
    """How much of the running mean of squared gradients AdamW keeps each step."""
    epsilon: float = 1e-8
    """What AdamW adds to the root of the squares before dividing by it."""
    momentum: float = 0.95
    """How much of the past gradients sgd (their sum) and muon (their mean) keep each step."""
    weight_decay: float = 0.1
    """Share of a weight, times the learning rate, that is taken away each step; sgd adds it to
    the gradient, so it passes through the momentum."""
    clip_norm: float = 1.0
    """Largest global gradient norm; longer gradients are scaled down to it. 0 never clips."""

    def __post_init__(self) -> None:
        for name, usual in (("beta1", 0.9), ("beta2", 0.95), ("momentum", 0.95)):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"optimizer.{name} is {getattr(self, name)}; choose a number from 0 up to, "
                    f"but not, 1, such as {usual}"
                )
        for name in ("weight_decay", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"optimizer.{name} is {getattr(self, name)}; the least is 0")
        if self.epsilon <= 0:
            raise ValueError(
                f"optimizer.epsilon is {self.epsilon}; choose a number above 0, such as 1e-8"
            )


def make_optimizer(
    model: "nn.Module", config: OptimizerConfig, *, width_ratio: float = 1.0
) -> "Optimizer":
    """The optimizer of a model's parameters; each step is told its learning rate.

    Args:
        width_ratio: of the model that the learning rate was found with to this one.
    """
    from modelwright.training.updates import Optimizer  # loads torch, which a config must not

    return Optimizer(model, config, width_ratio=width_ratio)
