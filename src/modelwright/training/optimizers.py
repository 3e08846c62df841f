"""How gradients become updates."""

from typing import TYPE_CHECKING

from modelwright.config.schema import settings

if TYPE_CHECKING:
    import torch

    from modelwright.model.transformer import Transformer


@settings
class OptimizerConfig:
    """AdamW, with weight decay on matrices and embeddings only."""

    beta1: float = 0.9
    """How much of the running mean of gradients is kept each step."""
    beta2: float = 0.95
    """How much of the running mean of squared gradients is kept each step."""
    epsilon: float = 1e-8
    """Added to the root of the squares before dividing by it."""
    weight_decay: float = 0.1
    """Share of a weight, times the learning rate, that is taken away each step."""
    clip_norm: float = 1.0
    """Largest global gradient norm; longer gradients are scaled down to it. 0 never clips."""

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"optimizer.{name} is {getattr(self, name)}; choose a number from 0 up to, "
                    "but not, 1, such as 0.9"
                )
        for name in ("weight_decay", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"optimizer.{name} is {getattr(self, name)}; the least is 0")
        if self.epsilon <= 0:
            raise ValueError(f"optimizer.epsilon is {self.epsilon}; choose a number above 0")


def make_optimizer(model: "Transformer", config: OptimizerConfig) -> "torch.optim.AdamW":
    """AdamW over a model's parameters; the step sets the learning rate.

    Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    """
    import torch

    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=0.0, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True
    )
