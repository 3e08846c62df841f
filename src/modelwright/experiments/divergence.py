"""When a run has diverged: what it once knew is gone, and it knows less than how often tokens come.

A loss or gradient that is no finite number ends a run by itself. A run can also stay finite and be
lost, and one that learns slowly must not be taken for it. So both have to hold, of means over
blocks of steps, from a stated share of the run on:

- the loss stays above that of a model which knows only how often each token comes (the entropy of
  single tokens), which a run that works has left behind long before. A single step whose loss is
  fifty nats higher lifts the mean of its block, and the next block is as if nothing had been;
- at some time the loss rose, from its lowest so far, by a stated number of nats. The first loss
  counts as a low, so a run that explodes at once has risen too; a slow one only falls.
"""

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelwright.data.shards import TokenSequence

most_steps_in_a_block = 20
stays_for = 0.05  # of the run: spikes of tens of steps were seen that left no trace
tokens_counted = 20_000_000  # the shares of frequent tokens do not change any more


class Diverged(Exception):
    """A run is lost; the message says how that was seen."""


@dataclass
class Watch:
    """Follows the training losses of a run, and says when it has diverged.

    Attributes:
        token_loss: nats per token of knowing only how often each token comes.
        after: the share of the run before which nothing is judged.
        rise: how far the loss has to have risen, in nats.
    """

    n_steps: int
    token_loss: float
    after: float
    rise: float
    losses: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)

    @property
    def block(self) -> int:
        """Steps whose losses make one level."""
        return max(1, min(most_steps_in_a_block, self.n_steps // 10))

    def add(self, metrics: dict[str, Any]) -> None:
        """Take in a step's metrics; a step that is taken again replaces what came after it."""
        step, loss = metrics["step"], metrics.get("loss")
        if loss is None or step < 1:
            return
        if step <= len(self.losses):
            del self.losses[step - 1 :]
            del self.levels[1 + len(self.losses) // self.block :]
        self.losses.append(loss)
        if not self.levels:
            self.levels.append(loss)
        if len(self.losses) % self.block == 0:
            self.levels.append(statistics.fmean(self.losses[-self.block :]))

    @property
    def n_lasting(self) -> int:
        """Over how many blocks the loss has to stay high."""
        return max(2, math.ceil(stays_for * self.n_steps / self.block))

    @property
    def is_due(self) -> bool:
        """Whether there is something new to be judged."""
        is_whole = len(self.losses) % self.block == 0
        return is_whole and len(self.losses) >= self.after * self.n_steps

    def verdict(self) -> str | None:
        """How it is seen that the run has diverged; None if it has not."""
        last = self.levels[1:][-self.n_lasting :]  # the first loss is a level, but no block
        if len(last) < self.n_lasting or min(last) <= self.token_loss:
            return None
        lowest, highest_rise = math.inf, 0.0
        for level in self.levels:
            lowest = min(lowest, level)
            highest_rise = max(highest_rise, level - lowest)
        if highest_rise < self.rise:
            return None
        return (
            f"after {len(self.losses)} of {self.n_steps} steps the loss is {self.levels[-1]:.3f}, "
            f"above the {self.token_loss:.3f} of knowing only how often each token comes, and it "
            f"has risen by {highest_rise:.3f} on the way"
        )


def token_loss(tokens: TokenSequence, n_vocab: int) -> float:
    """The entropy of single tokens in nats: the loss of knowing only how often each one comes.

    Of a long text only the first tokens are counted.
    """
    n_counted = min(len(tokens), tokens_counted)
    counts = np.zeros(n_vocab, np.int64)
    for first in range(0, n_counted, 1 << 20):
        part = tokens.read(first, min(n_counted, first + (1 << 20)))
        counts += np.bincount(part, minlength=n_vocab)
    shares = counts[counts > 0] / n_counted
    return float(-(shares * np.log(shares)).sum())
