"""The world of one story: who is there, where they are, who holds what.

Plots change the world through these methods, and each change is checked: nobody gives away what
they do not hold, and nobody walks to where they already are. What happened is kept as a list of
events, the record by which the tests compare the text with the facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from modelwright.data.stories import cast
from modelwright.data.stories.chance import Draw
from modelwright.data.stories.places import Place, places_with
from modelwright.data.stories.telling import Forms, Telling
from modelwright.data.stories.things import Thing, thing_forms

Item = TypeVar("Item")

MOST_SENTENCES = 12
HOURS = ("morning", "afternoon", "evening", "night")
_ANIMAL_WORLD_CHANCE = 0.3
_OTHER_GENDER_CHANCE = 0.65


class Event(NamedTuple):
    """Something that happened: who did what, to which role or where."""

    verb: str
    who: str
    what: str = ""


class World:
    """The state of one story, and the page on which it is told."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        telling = Telling(draw)
        self.telling = telling
        self.say = telling.say
        self.say_of = telling.say_of
        self.line = telling.line
        self.paragraph = telling.paragraph
        self.bind = telling.bind
        self.words = telling.words
        self.kind = "animals" if draw() < _ANIMAL_WORLD_CHANCE else "people"
        self.events: list[Event] = []
        self.place: Place | None = None
        self.things: dict[str, Thing] = {}
        self.hour = 0
        self._fullness = self.one((0.1, 0.8, 1.3, 2.2))  # how readily what may be left out is told
        self._n_asides = self.one((0, 0, 0, 1, 1, 2))
        self._holder: dict[str, str] = {}
        self._names: list[str] = []

    # Drawing

    def one(self, options: Sequence[Item]) -> Item:
        """One of the options, each as likely."""
        return options[int(self._draw() * len(options))]

    def some(self, options: Sequence[Item], count: int) -> list[Item]:
        """`count` different options in random order."""
        rest = list(options)
        return [rest.pop(int(self._draw() * len(rest))) for _ in range(count)]

    def maybe(self, chance: float = 0.5) -> bool:
        """True with this chance."""
        return self._draw() < chance

    # Length

    @property
    def left(self) -> int:
        """How many more sentences the story may have."""
        return MOST_SENTENCES - self.telling.n_sentences

    def keep_short(self) -> None:
        """Tell no asides: this plot needs its sentences."""
        self._fullness = self.one((0.1, 0.8, 1.3, 2.2))  # how readily what may be left out is told
        self._n_asides = 0

    def aside(self, chance: float) -> bool:
        """True with this chance, for something beside the plot; at most twice in a story."""
        if self._n_asides and self._draw() < chance:
            self._n_asides -= 1
            return True
        return False

    def spare(self, chance: float, still: int = 0) -> bool:
        """About this chance of True, where a sentence more leaves room for `still` after it.

        It is lower in a story that is to be told briefly, and higher in one told at length.
        """
        return self.left > still and self._draw() < chance * self._fullness

    # The cast

    @property
    def talking_animals(self) -> bool:
        """Whether this is a world where animals live and talk like people."""
        return self.kind == "animals"

    def his(self, role: str = "hero") -> str:
        """ "his", "her" or "its", as the role has it."""
        return self.telling.forms(role)["his"]

    def cast_hero(self, role: str = "hero", pronoun: str = "") -> None:
        """A child, or a talking animal where this is their world."""
        self.bind(role, self._somebody(pronoun))

    def cast_friend(self, role: str = "friend") -> None:
        """Somebody like the hero, usually with the other pronoun, introduced as a friend."""
        other = self.other_pronoun()
        self.bind(role, cast.friend(self._somebody(other), self.his()))

    def other_pronoun(self, role: str = "hero") -> str:
        """A pronoun for a second person: mostly the one that the first does not have."""
        he = self.telling.forms(role)["he"]
        other = {"he": "she", "she": "he"}[he]
        return other if self._draw() < _OTHER_GENDER_CHANCE else he

    def _somebody(self, pronoun: str = "") -> Forms:
        pronoun = pronoun or ("she" if self._draw() < 0.5 else "he")
        if self.talking_animals:
            names = cast.SHE_ANIMALS if pronoun == "she" else cast.HE_ANIMALS
            look = self.one(cast.ANIMAL_LOOKS)
            return cast.animal(self._name(names), pronoun, look, self._name(cast.SPECIES))
        names = cast.GIRLS if pronoun == "she" else cast.BOYS
        return cast.child(self._name(names), pronoun, self.one(cast.CHILD_LOOKS))

    def _name(self, names: Sequence[str]) -> str:
        name = self.one([name for name in names if name not in self._names])
        self._names.append(name)
        return name

    def cast_relative(self, role: str = "elder", titles: Sequence[str] = ()) -> None:
        """Somebody older of the hero's family, as "her grandpa"."""
        family = cast.RELATIVES[self.kind]
        if titles:
            family = tuple(member for member in family if member[0] in titles)
        # A family is small: when everybody has a part already, somebody plays a second one.
        free = tuple(member for member in family if member[0] not in self._names)
        title, pronoun = self.one(free or family)
        self._names.append(title)
        self.bind(role, cast.relative(title, pronoun, self.his()), known=True)

    def cast_parent(self, role: str = "elder") -> None:
        """The hero's mother or father."""
        self.cast_relative(role, ("mom", "dad", "mother", "father"))

    def cast_neighbour(self, role: str = "helper") -> None:
        """A grown-up from outside the family, known by trade or kind: "an old baker"."""
        elders = cast.ANIMAL_ELDERS if self.talking_animals else cast.NEIGHBOURS
        kind, pronoun = self.one([elder for elder in elders if elder[0] not in self._names])
        self._names.append(kind)
        self.bind(role, cast.neighbour(kind, pronoun, self.one(cast.NEIGHBOUR_LOOKS)))

    def cast_helper(self, role: str = "helper") -> None:
        """Somebody to turn to: a relative, a neighbour or a friend."""
        draw = self._draw()
        if draw < 0.35:
            self.cast_relative(role)
        elif draw < 0.7:
            self.cast_neighbour(role)
        else:
            self.cast_friend(role)

    # Things

    def make(self, role: str, thing: Thing, *, known: bool = False) -> None:
        """Let a thing with one of its looks play the role."""
        self.things[role] = thing
        self.bind(role, thing.seen_as(self.one(thing.looks)), known=known)

    def tool(self, role: str, name: str, *, known: bool = False) -> None:
        """Let a plain thing play the role: the last word is its noun, as in "long stick"."""
        look, _, noun = name.rpartition(" ")
        self.bind(role, thing_forms(noun, look), known=known)

    def take(self, who: str, what: str) -> None:
        """`who` holds `what` from now on, and nobody may have held it before."""
        assert what not in self._holder, f"{what} is already with {self._holder[what]}"
        self._holder[what] = who
        self.events.append(Event("take", who, what))

    def give(self, who: str, what: str, to: str) -> None:
        """`what` goes from `who`, who must hold it, to somebody else."""
        assert self._holder.get(what) == who, f"{who} does not hold {what}"
        self._holder[what] = to
        self.events.append(Event("give", who, what))
        self.events.append(Event("get", to, what))

    def lose(self, who: str, what: str) -> None:
        """`who` no longer holds `what`, and nobody does."""
        assert self._holder.get(what) == who, f"{who} does not hold {what}"
        del self._holder[what]
        self.events.append(Event("lose", who, what))

    def holds(self, who: str, what: str) -> bool:
        """Whether `who` holds `what` now."""
        return self._holder.get(what) == who

    def note(self, verb: str, who: str = "hero", what: str = "") -> None:
        """Record that something happened that changes no possession."""
        self.events.append(Event(verb, who, what))

    # Places and time

    def go(self, trait: str = "", place: Place | None = None, role: str = "place") -> Place:
        """Move the story to a new place that has the trait."""
        if place is None:
            place = self.somewhere(trait)
        assert place is not self.place, f"already at {place.noun}"
        self.place = place
        self.bind(role, place.forms, known=True)
        self.events.append(Event("go", "hero", place.noun))
        return place

    def somewhere(self, trait: str = "") -> Place:
        """A place with the trait in this world, other than here."""
        return self.one([x for x in places_with(self.kind, trait) if x is not self.place])

    def until(self, hour: str) -> None:
        """Let time pass until `hour`; time never runs backwards."""
        later = HOURS.index(hour)
        assert later >= self.hour, f"{hour} comes before {HOURS[self.hour]}"
        self.hour = later
