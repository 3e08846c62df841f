"""How surprised a model is by text it was not trained on."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from modelwright.data.loader import Chunks, not_a_target
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
        """Among how many equally likely tokens the model seems to choose."""
        return math.exp(self.loss)

    def bits_per_byte(self, bytes_per_token: float) -> float:
        """The same surprise per byte of text, comparable with other tokenizers' models."""
        return self.loss / math.log(2) / bytes_per_token


@torch.inference_mode()
def validation_loss(
    model: Transformer, chunks: Chunks, *, max_tokens: int, batch_size: int
) -> Surprise:
    """The mean loss over the first tokens: the same ones each time.

    Args:
        max_tokens: how many, rounded down to whole samples, of which at least one is read; 0 reads
            all there are.
        batch_size: sequences at once; changes the speed, not the answer.
    """
    n_samples = len(chunks)
    if max_tokens:
        n_samples = min(n_samples, max(1, max_tokens // chunks.context))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total, n_tokens = 0.0, 0
    for first in range(0, n_samples, batch_size):
        samples = np.arange(first, min(first + batch_size, n_samples))
        batch = chunks.batch(samples)
        total += next_token_loss(model, batch.inputs.to(device), batch.targets.to(device)).item()
        n_tokens += int((batch.targets != not_a_target).sum())
    model.train(was_training)
    return Surprise(total / n_tokens, n_tokens)
