"""The cast: children, their families, neighbours, and animals that talk or do not.

Everyone is a table of forms (see `telling.py`). All of them have the pronouns and these:

    ""      the name in the telling         name    the name inside a dialogue
    's      the name as an owner            first   at the first mention, where it differs
    a       "a little girl"                 kind    "girl", "rabbit"; `one` is "a girl"

Heroes and their friends also have `hand` (a hand or a paw), `hands` and `hair` (hair or fur).
"""

from __future__ import annotations

from functools import cache

from modelwright.data.stories.telling import Forms


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


GIRLS = _listed(
    """
    Ada Amy Anna Bella Betty Cara Clara Daisy Dora Ella Emma Eva Fay Fern Flora Gemma Grace Hana
    Holly Ida Ivy Jane June Kate Kim Lena Lily Lola Lucy Maya Mia Mina Molly Nell Nina Nora
    Olive Pam Penny Polly Rita Rosa Ruby Sally Sara Sue Tara Tess Vera Wendy Willa Zara Zoe
    """
)
BOYS = _listed(
    """
    Adam Alex Andy Anton Ben Billy Bobby Carl Colin Dan David Eli Evan Felix Finn Fred Gus Hal
    Hugo Ian Jack Jacob Jamie Joe Jonas Josh Karl Kofi Leo Liam Luke Mark Max Milo Ned Nick Noah
    Omar Oscar Otto Paul Pete Ravi Sam Sid Simon Ted Theo Tim Toby Tom Victor Will Zack
    """
)
SHE_ANIMALS = _listed(
    """
    Bramble Clover Cocoa Dot Dusty Fluff Ginger Hazel Honey Juniper Maple Mimi Nutmeg Pepper Pip
    Poppy Rosie Sandy Snow Starry Sunny Tilly Velvet Violet Winnie
    """
)
HE_ANIMALS = _listed(
    """
    Acorn Barney Basil Benny Bruno Chester Chip Dusk Ferdy Flip Hopper Jasper Monty Mossy
    Nibbles Oakley Patch Pebble Robin Rufus Rusty Scout Smoky Tucker Whiskers
    """
)

# Heroes of the stories in which animals talk, live in homes and play with things.
SPECIES = _listed(
    """
    rabbit fox bear mouse squirrel hedgehog badger otter raccoon beaver mole kitten puppy
    """
)

CHILD_LOOKS = ("little", "small", "young", "", "cheerful", "curious", "quiet", "bright", "dreamy")
ANIMAL_LOOKS = ("little", "small", "young", "", "cheerful", "curious", "brown", "gray", "busy")

# Grown-ups outside the family, each with the pronoun.
NEIGHBOURS = (
    ("baker", "he"),
    ("baker", "she"),
    ("gardener", "he"),
    ("gardener", "she"),
    ("farmer", "he"),
    ("farmer", "she"),
    ("fisherman", "he"),
    ("painter", "she"),
    ("painter", "he"),
    ("carpenter", "he"),
    ("carpenter", "she"),
    ("tailor", "he"),
    ("shopkeeper", "she"),
    ("shopkeeper", "he"),
    ("librarian", "she"),
    ("mail carrier", "he"),
    ("bus driver", "she"),
    ("teacher", "she"),
    ("teacher", "he"),
    ("doctor", "she"),
    ("clock maker", "he"),
    ("beekeeper", "she"),
)
ANIMAL_ELDERS = (
    ("owl", "he"),
    ("owl", "she"),
    ("turtle", "he"),
    ("turtle", "she"),
    ("badger", "he"),
    ("bear", "she"),
    ("goose", "she"),
    ("crow", "he"),
    ("goat", "he"),
    ("toad", "he"),
    ("beaver", "she"),
    ("heron", "he"),
    ("mole", "she"),
)
NEIGHBOUR_LOOKS = ("old", "kind", "friendly", "tall", "cheerful", "busy", "wise", "round")

_PRONOUNS = {
    "she": {"he": "she", "him": "her", "his": "her", "himself": "herself"},
    "he": {"he": "he", "him": "him", "his": "his", "himself": "himself"},
    "it": {"he": "it", "him": "it", "his": "its", "himself": "itself"},
}


def with_article(words: str) -> str:
    """ "red kite" becomes "a red kite", "orange kite" becomes "an orange kite"."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _described(look: str, kind: str) -> str:
    return with_article(f"{look} {kind}" if look else kind)


@cache
def child(name: str, pronoun: str, look: str) -> Forms:
    """A boy or a girl."""
    kind = "girl" if pronoun == "she" else "boy"
    return {
        **_PRONOUNS[pronoun],
        "": name,
        "name": name,
        "'s": f"{name}'s",
        "kind": kind,
        "one": with_article(kind),
        "a": _described(look, kind),
        "hand": "hand",
        "hands": "hands",
        "hair": "hair",
    }


@cache
def animal(name: str, pronoun: str, look: str, species: str) -> Forms:
    """An animal with a name: a hero of the talking kind, or a pet."""
    return {
        **_PRONOUNS[pronoun],
        "": name,
        "name": name,
        "'s": f"{name}'s",
        "first": f"{name} the {species}",
        "kind": species,
        "one": with_article(species),
        "a": _described(look, species),
        "hand": "paw",
        "hands": "paws",
        "hair": "fur",
    }


def friend(who: Forms, his: str) -> Forms:
    """The same child or animal, introduced as a friend of the hero with the possessive `his`."""
    kind = who["kind"]
    name = who["name"]
    title = f"{his} friend {name}"
    if kind not in ("girl", "boy"):
        title = f"{title} the {kind}"
    return {**who, "first": title}


@cache
def relative(title: str, pronoun: str, his: str) -> Forms:
    """Mom, dad and the others, as seen by the hero with the possessive `his`."""
    name = f"{his} {title}"
    return {
        **_PRONOUNS[pronoun],
        "": name,
        "name": "Auntie" if title == "aunt" else title.capitalize(),
        "'s": f"{name}'s",
        "kind": title,
        "a": name,
    }


@cache
def neighbour(kind: str, pronoun: str, look: str) -> Forms:
    """A grown-up who is called by trade: first "an old baker", then "the baker"."""
    return {
        **_PRONOUNS[pronoun],
        "": f"the {kind}",
        "name": kind,
        "'s": f"the {kind}'s",
        "first": _described(look, kind),
        "kind": kind,
        "a": _described(look, kind),
    }


@cache
def creature(kind: str, look: str, pronoun: str = "it") -> Forms:
    """An animal without a name: first "a small bird", then "the bird"."""
    return {
        **_PRONOUNS[pronoun],
        "": f"the {kind}",
        "name": kind,
        "'s": f"the {kind}'s",
        "first": _described(look, kind),
        "long": f"the {look} {kind}" if look else f"the {kind}",
        "kind": kind,
        "a": _described(look, kind),
    }


RELATIVES = {
    "people": (
        ("mom", "she"),
        ("dad", "he"),
        ("grandma", "she"),
        ("grandpa", "he"),
        ("aunt", "she"),
        ("uncle", "he"),
    ),
    "animals": (
        ("mother", "she"),
        ("father", "he"),
        ("grandmother", "she"),
        ("grandfather", "he"),
    ),
}
