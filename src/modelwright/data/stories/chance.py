"""Chance: the draws behind one story.

Every story has its own stream, named by the corpus seed and the story's number, so any story can be
told without telling the ones before it.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Draw = Callable[[], float]

_INDEX_BITS = 64
N_TRIES = 8


def draws(seed: int, index: int, attempt: int = 0) -> Draw:
    """The stream of story number `index`: each call gives a float from 0 up to, not including, 1.

    A story that became too long is told anew from the stream of its next attempt, of which there
    are at most `N_TRIES`; no stream is used by two stories.

    Python promises the same sequence from `Random.random` for the same integer seed in every
    version. It promises nothing of the kind for `choice` or `shuffle`, so nothing here uses them.

    Raises:
        ValueError: if the seed or the index is negative, or the index does not fit its 64 bits.
    """
    assert 0 <= attempt < N_TRIES
    if seed < 0:
        raise ValueError(f"the seed of the stories is {seed}; use zero or a positive number")
    if not 0 <= index < 1 << _INDEX_BITS:
        raise ValueError(f"the story index is {index}; use a number from 0 to 2**{_INDEX_BITS} - 1")
    return Random((seed << _INDEX_BITS | index) * N_TRIES + attempt).random
