"""Samples cut from the token sequence, ready for the model."""

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from modelwright.data.shards import TokenSequence

not_a_target = -1  # a position whose next token another sample counts


class Chunks:
    """The token sequence cut into pieces of one context, overlapping by one token.

    Piece i has the tokens i·context … i·context + context, the last of which is only a target.
    So every token but the very first is a target exactly once. The last piece is moved back to
    be full, and the targets that the piece before it counts already are marked `not_a_target`.
    """

    def __init__(self, tokens: TokenSequence, context: int) -> None:
        """Raises:
        ValueError: if there are not enough tokens for one piece.
        """
        if len(tokens) < context + 1:
            raise ValueError(
                f"the text has {len(tokens):,} tokens, fewer than one context of "
                f"{context} + 1; choose a longer text or a model.context of at most "
                f"{max(1, len(tokens) - 1)}"
            )
        self.tokens = tokens
        self.context = context

    def __len__(self) -> int:
        return -(-(len(self.tokens) - 1) // self.context)

    def batch(
        self, samples: np.ndarray
    ) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
        """Inputs and targets of the given samples, as int64 on the CPU."""
        rows = np.stack([self._row(int(sample)) for sample in samples])
        targets = rows[:, 1:].copy()
        n_repeated = len(self) * self.context - (len(self.tokens) - 1)
        targets[samples == len(self) - 1, :n_repeated] = not_a_target
        return torch.from_numpy(rows[:, :-1].copy()), torch.from_numpy(targets)

    def _row(self, sample: int) -> np.ndarray:
        start = min(sample * self.context, len(self.tokens) - self.context - 1)
        return self.tokens.read(start, start + self.context + 1)
