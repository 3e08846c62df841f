"""How surprised a model is by text it was not trained on."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from modelwright.data.loader import Cut, not_a_target
from modelwright.evaluation.results import power
from modelwright.model.loss import next_token_loss
from modelwright.model.transformer import Transformer


@dataclass(frozen=True)
class Surprise:
    """The mean loss over some tokens.

    Attributes:
        loss: nats per token.
        n_tokens: how many tokens it is the mean of.
    """

    loss: float
    n_tokens: int

    @property
    def perplexity(self) -> float:
        """Among how many equally likely tokens the model seems to choose, or infinity."""
        return power(self.loss)

    def bits_per_byte(self, bytes_per_token: float) -> float:
        """The same surprise per byte of text, comparable with other tokenizers' models."""
        return self.loss / math.log(2) / bytes_per_token


class BrokenOff(Exception):
    """Someone asked the evaluation to stop before it had a result."""


@torch.no_grad()
def validation_loss(
    model: Transformer,
    cut: Cut,
    *,
    max_tokens: int,
    batch_size: int,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Surprise:
    """The mean loss over the first tokens: the same ones each time.

    Args:
        cut: the text in samples, with the borders of documents where the model was trained so.
        max_tokens: how many, rounded down to whole samples, of which at least one is read; 0 reads
            all there are.
        batch_size: sequences at once; changes the speed, not the answer.
        is_stopped: asked between batches.

    Raises:
        BrokenOff: if it was stopped, since the loss on less text is another one.
    """
    n_samples = len(cut)
    if max_tokens:
        n_samples = min(n_samples, max(1, max_tokens // cut.context))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total, n_tokens = 0.0, 0
    try:
        for first in range(0, n_samples, batch_size):
            if is_stopped():
                raise BrokenOff
            batch = cut.batch(np.arange(first, min(first + batch_size, n_samples)))
            total += next_token_loss(
                model,
                batch.inputs.to(device),
                batch.targets.to(device),
                positions=None if batch.positions is None else batch.positions.to(device),
                documents=None if batch.documents is None else batch.documents.to(device),
            ).item()
            n_tokens += int((batch.targets != not_a_target).sum())
    finally:
        model.train(was_training)
    return Surprise(total / n_tokens, n_tokens)
