"""All plots, and how one becomes a story."""

from __future__ import annotations

from collections.abc import Callable

from modelwright.data.stories import (
    plots_animals,
    plots_friends,
    plots_home,
    plots_journeys,
    plots_pride,
    plots_surprises,
    plots_things,
    plots_trades,
    plots_trust,
    plots_wanting,
    plots_wonder,
    plots_work,
)
from modelwright.data.stories.chance import N_TRIES, draws
from modelwright.data.stories.world import MOST_SENTENCES, World

Plot = Callable[[World], None]

PLOTS: tuple[Plot, ...] = (
    *plots_things.PLOTS,
    *plots_trades.PLOTS,
    *plots_friends.PLOTS,
    *plots_trust.PLOTS,
    *plots_pride.PLOTS,
    *plots_wanting.PLOTS,
    *plots_journeys.PLOTS,
    *plots_surprises.PLOTS,
    *plots_animals.PLOTS,
    *plots_work.PLOTS,
    *plots_home.PLOTS,
    *plots_wonder.PLOTS,
)


def simulate(seed: int, index: int) -> tuple[Plot, World]:
    """Live through story number `index`, and return its plot and the world it left behind.

    The few stories that come out longer than they may are drawn anew. That more than one in ten to
    the ten stays too long would need a fault in a plot, and the last attempt is told in any case.
    """
    for attempt in range(N_TRIES):
        draw = draws(seed, index, attempt)
        plot = PLOTS[int(draw() * len(PLOTS))]
        world = World(draw)
        plot(world)
        if world.telling.n_sentences <= MOST_SENTENCES:
            break
    return plot, world
