"""Things: what a child may own, lose, break, lend or wish for, and what each is good for.

Everything in a story follows from these columns: only what flies is blown into a tree, only what
sinks must be fished up from the bottom, and paper is not mended with a needle.
"""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from modelwright.data.stories.cast import with_article
from modelwright.data.stories.telling import Forms


@dataclass(frozen=True)
class Thing:
    """One kind of thing.

    Args:
        noun: what it is called.
        material: what it is made of, which decides how it breaks and how it is mended.
        traits: how it moves (`flies`, `rolls`, `floats`, `sinks`), `tiny` if it fits a pocket.
        looks: colours and other properties; a story keeps to one.
        play: what a child does with it, after "to": "fly it".
        playing: the same after "was": "flying it".
    """

    noun: str
    material: str
    traits: frozenset[str]
    looks: tuple[str, ...]
    play: str
    playing: str

    def seen_as(self, look: str) -> Forms:
        """The forms of this thing with one of its looks, as in "the red kite"."""
        return thing_forms(self.noun, look, self.play, self.playing)


@cache
def thing_forms(noun: str, look: str, play: str = "", playing: str = "") -> Forms:
    """The forms of a thing: `full` is "red kite", `a` "a red kite", `the` "the red kite"."""
    full = f"{look} {noun}" if look else noun
    return {
        "": f"the {noun}",
        "first": with_article(full),
        "long": f"the {full}",
        "the": f"the {full}",
        "noun": noun,
        "full": full,
        "look": look,
        "a": with_article(full),
        "one": with_article(noun),
        "play": play,
        "playing": playing,
        "using": f" {playing} ".replace(" it ", f" {with_article(full)} ", 1).strip(),
    }


_TOYS = """
kite        | paper  | flies          | red,blue,green,yellow,purple,striped,orange      | fly it in the wind      | flying it in the wind
ball        | rubber | rolls floats   | red,blue,green,yellow,orange,striped,bouncy      | kick it high            | kicking it high
balloon     | rubber | flies floats   | red,blue,yellow,green,pink,silver,purple         | run with it on a string | running with it on a string
hat         | straw  | flies floats   | yellow,blue,white,red,green,pointed,floppy       | wear it everywhere      | wearing it everywhere
scarf       | cloth  | flies floats   | red,blue,green,striped,purple,warm,long          | wear it on cold days    | wearing it
paper plane | paper  | flies floats   | white,blue,red,green,yellow,spotted              | throw it far            | throwing it far
feather     | quill  | flies floats   | white,blue,gray,golden,green,spotted             | tickle people with it   | waving it in the air
boat        | wood   | floats         | wooden,red,blue,white,little,green,toy           | sail it on the water    | sailing it on the water
duck        | rubber | floats         | yellow,orange,white,rubber,green                 | splash with it          | splashing with it
drum        | wood   | rolls floats   | red,blue,wooden,golden,round,loud                | beat it with two sticks | beating it with two sticks
wagon       | wood   | rolls big      | red,blue,green,wooden,yellow,old                 | pull it along the path  | pulling it along the path
truck       | wood   | rolls          | red,blue,yellow,toy,wooden,green                 | fill it with sand       | filling it with sand
train       | wood   | rolls          | red,black,wooden,green,toy,blue                  | push it around the room | pushing it along
top         | wood   | rolls tiny     | red,blue,wooden,green,striped,yellow             | make it spin            | making it spin
doll        | cloth  | floats         | rag,little,old,pretty,blue-eyed,soft             | sing songs to it        | singing to it
teddy bear  | cloth  | floats         | brown,white,old,soft,fluffy,gray                 | hug it at night         | hugging it
blanket     | cloth  | floats flies   | blue,yellow,warm,soft,pink,striped,green         | make tents with it      | making a tent with it
puppet      | cloth  | floats         | funny,green,blue,wooden,red,little               | do shows with it        | doing a show with it
bell        | metal  | rolls sinks tiny | silver,golden,little,brass,shiny               | ring it loudly          | ringing it
whistle     | metal  | sinks tiny     | silver,red,tin,shiny,blue,little                 | blow it like a bird     | blowing it
coin        | metal  | rolls sinks tiny | shiny,golden,silver,old,copper                 | make it shine           | tossing it in the air
key         | metal  | sinks tiny     | small,golden,silver,old,rusty,iron               | wear it on a string     | swinging it on a string
ring        | metal  | rolls sinks tiny | silver,golden,little,shiny,pretty              | look at it in the sun   | turning it in the light
spoon       | metal  | sinks          | silver,big,shiny,wooden,little                   | dig little holes with it | digging with it
marble      | glass  | rolls sinks tiny | blue,green,red,purple,shiny,clear              | roll it down the hill   | rolling it along the ground
button      | glass  | rolls sinks tiny | green,blue,shiny,round,big,red                 | look at it in the light | turning it between two fingers
bead        | glass  | rolls sinks tiny | blue,red,green,golden,purple                   | hold it up to the sun   | holding it up to the sun
cup         | clay   | sinks          | blue,white,yellow,green,painted,little           | drink warm milk from it | filling it and pouring it out
bowl        | clay   | sinks          | blue,brown,yellow,painted,round,white            | fill it with berries    | filling it with berries
pot         | clay   | rolls sinks    | brown,red,painted,blue,little,round              | grow flowers in it      | filling it with soil
flute       | wood   | floats         | wooden,little,long,brown,painted                 | play merry tunes on it  | playing a tune on it
picture book | paper | floats         | big,blue,old,thick,new,green                     | read it over and over   | reading it
map         | paper  | flies floats   | old,yellow,big,folded,colorful                   | plan long trips with it | following the lines on it
lantern     | paper  | flies floats   | red,yellow,round,orange,blue,white               | carry it in the dark    | swinging it
basket      | straw  | rolls floats   | brown,round,little,big,yellow                    | fill it with flowers    | filling it with flowers
mitten      | wool   | floats tiny    | red,blue,green,striped,warm,white                | wear it in the snow     | wearing it
sock        | wool   | floats tiny    | red,striped,blue,green,spotted,warm              | make a puppet of it     | making it talk like a puppet
jump rope   | string | floats         | red,long,blue,yellow,new,green                   | jump over it            | jumping over it
toy horse   | wood   | floats         | brown,white,wooden,black,painted                 | make it gallop          | making it gallop
crown       | paper  | flies floats   | golden,yellow,silver,paper,red                   | wear it like a king     | wearing it
paintbrush  | wood   | floats         | thin,red,blue,new,long,soft                      | paint the sky with it   | painting with it
shell       | shell  | sinks tiny     | pink,white,big,shiny,brown,pretty                | listen to the sea in it | holding it to one ear
stone       | stone  | rolls sinks tiny | smooth,round,white,green,black,flat,spotted    | keep it in a pocket     | rubbing it until it shone
"""


def _read_things(table: str) -> tuple[Thing, ...]:
    things = []
    for row in table.strip().splitlines():
        noun, material, traits, looks, play, playing = (cell.strip() for cell in row.split("|"))
        names = tuple(looks.split(","))
        things.append(Thing(noun, material, frozenset(traits.split()), names, play, playing))
    return tuple(things)


TOYS = _read_things(_TOYS)


@cache
def toys_with(trait: str) -> tuple[Thing, ...]:
    """All toys with a trait or of a material."""
    return tuple(toy for toy in TOYS if trait in toy.traits or trait == toy.material)
