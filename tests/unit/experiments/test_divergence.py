"""Which curves count as diverged, and which do not."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelwright.data.shards import Shard, TokenSequence
from modelwright.experiments.divergence import Watch, token_loss

n_steps = 400
first = 9.2
Curve = Callable[[float], float]


def watch_of(curve: Curve, *, noise: float = 0.3) -> Watch:
    """A watch that saw a curve, given by the share of the run, to its end."""
    chance = random.Random(1)
    watch = Watch(n_steps=n_steps, token_loss=6.0, after=0.25, rise=0.5)
    for step in range(1, n_steps + 1):
        loss = first if step == 1 else curve(step / n_steps) + chance.gauss(0, noise)
        watch.add({"step": step, "loss": loss})
    return watch


def well(share: float) -> float:
    return 2 + (first - 2) * math.exp(-10 * share)


def slow(share: float) -> float:
    return first - 1.5 * share


def lost(share: float) -> float:
    """It falls while the rate rises, and is lost from then on."""
    return first - 60 * share if share < 0.08 else 7.0


def exploding(share: float) -> float:
    return first + 40 * math.exp(-80 * share) if share < 0.1 else 7.0


def with_a_spike(share: float) -> float:
    return well(share) + (8 if 0.5 < share < 0.55 else 0)


def with_spikes(share: float) -> float:
    """Now and then a step is far off, as without norms, and the last one of all too."""
    return well(share) + (100 if round(share * n_steps) % 50 == 0 else 0)


def worse_than_tokens_and_flat(_: float) -> float:
    return 7.0


@pytest.mark.parametrize("curve", [lost, exploding], ids=lambda curve: curve.__name__)
def test_a_run_that_lost_what_it_knew_has_diverged(curve: Curve):
    verdict = watch_of(curve).verdict()
    assert verdict is not None
    assert "above the 6.000 of knowing only how often each token comes" in verdict


@pytest.mark.parametrize(
    "curve",
    [well, slow, with_a_spike, with_spikes, worse_than_tokens_and_flat],
    ids=lambda curve: curve.__name__,
)
def test_a_run_that_learns_well_or_slowly_has_not(curve: Curve):
    assert watch_of(curve).verdict() is None


def test_nothing_is_judged_before_the_stated_share():
    watch = Watch(n_steps=100, token_loss=6.0, after=0.5, rise=0.5)
    due = []
    for step in range(1, 101):
        watch.add({"step": step, "loss": 7.0})
        due += [step] if watch.is_due else []
    assert due == [50, 60, 70, 80, 90, 100]


def test_steps_that_are_taken_again_replace_what_came_after_them():
    once, again = (Watch(n_steps=100, token_loss=6.0, after=0, rise=0.5) for _ in range(2))
    for step in range(1, 60):
        once.add({"step": step, "loss": float(step)})
        again.add({"step": step, "loss": float(step)})
    for step in range(33, 60):
        again.add({"step": step, "loss": float(step)})
    assert (again.losses, again.levels) == (once.losses, once.levels)
    again.add({"step": 20, "loss": 1.0})
    assert len(again.losses) == 20 and len(again.levels) == 3


def test_records_without_a_loss_are_passed_over():
    watch = Watch(n_steps=10, token_loss=6.0, after=0, rise=0.5)
    watch.add({"step": 0, "validation_loss": 9.0})
    watch.add({"step": 1, "event": "not_finite"})
    assert watch.losses == [] and watch.verdict() is None


def test_the_loss_of_knowing_only_the_tokens_is_their_entropy():
    ids = np.array([0, 1, 1, 2, 2, 2, 2, 0], np.uint16)  # shares of 1/4, 1/4 and 1/2
    shard = Shard(Path("text.shard"), ids, np.array([0, len(ids)], np.uint64), "")
    assert token_loss(TokenSequence([shard]), 5) == pytest.approx(1.5 * math.log(2))
