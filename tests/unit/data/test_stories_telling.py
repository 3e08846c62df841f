"""How stories are told: what the world refuses, and the marks of a pattern."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from modelwright.data.stories.chance import draws
from modelwright.data.stories.telling import Telling, compile_pattern
from modelwright.data.stories.things import TOYS
from modelwright.data.stories.world import World


def telling_of(draw_seed: int) -> Telling:
    return Telling(draws(draw_seed, 0))


def sentences(text: str) -> list[str]:
    """The text cut after every full stop."""
    return re.split(r"(?<=\.) ", text)


def test_the_world_refuses_what_cannot_happen():
    world = World(draws(0, 0))
    world.take("hero", "thing")
    with pytest.raises(AssertionError, match="already with hero"):
        world.take("friend", "thing")
    with pytest.raises(AssertionError, match="friend does not hold thing"):
        world.give("friend", "thing", "hero")
    world.until("evening")
    with pytest.raises(AssertionError, match="morning comes before evening"):
        world.until("morning")
    place = world.go()
    with pytest.raises(AssertionError, match="already at"):
        world.go(place=place)


def test_each_option_of_a_choice_is_told():
    told = set()
    for seed in range(40):
        telling = telling_of(seed)
        telling.say("[One|Two|] [fish|bird].")
        told.add(telling.text())
    assert told == {"One fish.", "Two fish.", " fish.", "One bird.", "Two bird.", " bird."}


def test_a_thing_is_introduced_once():
    telling = telling_of(0)
    kite = next(toy for toy in TOYS if toy.noun == "kite")
    telling.bind("thing", kite.seen_as("orange"))
    telling.say("{Thing} flew.")
    telling.say("Then {thing} fell.")
    first, second = sentences(telling.text())
    assert first == "An orange kite flew."
    assert second in ("Then the kite fell.", "Then the orange kite fell.")


def test_a_pronoun_is_used_only_for_who_was_named_last():
    ann = {"": "Ann", "he": "she"}
    eve = {"": "Eve", "he": "she"}
    bob = {"": "Bob", "he": "he"}
    seen = Counter()
    for seed in range(60):
        telling = telling_of(seed)
        telling.bind("ann", ann)
        telling.bind("eve", eve)
        telling.bind("bob", bob)
        telling.say("{Ann} met {bob}.")
        telling.say("{Ann~} sang.")
        telling.say("{Ann} met {eve}.")
        telling.say("{Eve~} sang.")
        _, alone, _, open_to_two = sentences(telling.text())
        seen[alone] += 1
        assert open_to_two == "Eve sang."
    assert set(seen) == {"She sang.", "Ann sang."}


@pytest.mark.parametrize("text", ["[one|two", "one]", "{hero", "a } b"])
def test_a_mark_left_open_is_refused(text: str):
    with pytest.raises(ValueError, match=r"closes or opens nothing|left open"):
        compile_pattern(text)
