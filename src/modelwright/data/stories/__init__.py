"""Stories: the corpus that comes with the house, endless and the same everywhere.

Short stories for children from a small simulated world: somebody wants, loses, fears or promises
something, and what happens next follows from that. Story number `index` of corpus `seed` depends on
these two numbers alone.

Read `plots_things.py` first, to see how a plot is written, then `telling.py` for the marks in its
sentences, then `world.py` for what is checked while a story happens.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelwright.data.stories.plots import simulate

__all__ = ["stories", "story"]


def story(seed: int, index: int) -> str:
    """Story number `index` of the endless corpus named `seed`, without a final newline.

    Raises:
        ValueError: if one of them is negative.
    """
    _, world = simulate(seed, index)
    return world.telling.text()


def stories(seed: int, start: int = 0) -> Iterator[str]:
    """The endless corpus named `seed`, from story number `start` on."""
    index = start
    while True:
        yield story(seed, index)
        index += 1
