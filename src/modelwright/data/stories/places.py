"""Places: where stories happen, what is found there, and how they look.

`traits` say what can happen in a place: only where there is a tree can a kite be caught in one.
`spots` are where a thing may lie; `marks` are what a traveller remembers on the way.
"""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from modelwright.data.stories.telling import Forms


@dataclass(frozen=True)
class Place:
    """One place; `at` is how to say where: "in the garden", "on the beach"."""

    noun: str
    at: str
    worlds: frozenset[str]
    traits: frozenset[str]
    spots: tuple[str, ...]
    sights: tuple[str, ...]

    @property
    def forms(self) -> Forms:
        """The forms for the telling: "the park", and `at` "at the park"."""
        return place_forms(self.noun, self.at)


@cache
def place_forms(noun: str, at: str) -> Forms:
    """The forms of a place: `to` is "to the park", `at` is "in the park"."""
    return {"": f"the {noun}", "noun": noun, "at": f"{at} the {noun}", "to": f"to the {noun}"}


_PLACES = """
park       | in | people         | tree grass bench pond | under the bench; behind the big oak; near the swings; beside the pond; in the tall grass; by the gate | Children were playing on the swings.; Two ducks were swimming on the pond.; A man was feeding the birds.; The grass was soft and green.
garden     | in | people animals | tree grass fence thorns shed | behind the shed; under the rose bush; among the carrots; beside the path; next to the old pot; under the apple tree | Bees were humming in the flowers.; The beans had grown taller than the fence.; The roses smelled sweet.; A row of tomatoes shone in the sun.
meadow     | in | people animals | grass tree thorns open | in the tall grass; behind a round stone; under a yellow flower; near the old stump; beside the path | Yellow flowers grew everywhere.; Butterflies danced over the grass.; The tall grass moved like water.; A lark was singing high above.
woods      | in | people animals | tree thorns hole stream | under a pile of leaves; behind a mossy log; between two roots; beside the stream; in a hollow tree; among the ferns | The leaves whispered above.; Sunlight fell between the trees.; It smelled of moss and mushrooms.; A woodpecker was knocking somewhere.
beach      | on | people         | sand water open | behind a big rock; under a pile of seaweed; near the boats; in the sand; beside a pool | The waves came and went.; White birds cried above the water.; Little crabs ran over the sand.; The sea was blue and wide.
river bank | on | people animals | water grass tree | between the reeds; behind a flat rock; under the bridge; in the mud; beside the old boat | The water sang over the stones.; A dragonfly sat on a reed.; Small fish were jumping.; The river ran fast and clear.
pond       | at | people animals | water grass tree | between the reeds; under a big leaf; behind the willow; in the mud; beside a flat stone | Frogs were calling to each other.; Water lilies covered half of the pond.; The water was as still as a mirror.; A duck led some ducklings along the bank.
hill       | on | people animals | grass open tree | behind a big rock; in the tall grass; under the lone pine; near the top; beside the path | The whole village could be seen from the top.; The wind always blew there.; The sky felt very near.; A few sheep were eating grass.
schoolyard | in | people         | tree bench fence | under the slide; behind the door; near the big tree; beside the steps; under the bench | Some children were skipping rope.; A bell rang somewhere inside.; Chalk pictures covered the ground.; The swings moved in the wind.
market     | at | people         | stalls crowd | under a table; behind the fruit stand; between two baskets; beside the well; near the bread stand | People were calling out what they had to sell.; It smelled of bread and oranges.; Apples were piled up like little hills.; A man was playing a fiddle.
farm       | on | people         | fence barn hay tree pond | behind the barn; in the hay; under the cart; near the hen house; beside the gate; by the pond | The hens were scratching in the dirt.; A pink pig was sleeping in the mud.; The cows looked up slowly.; A rooster was standing on the fence.
orchard    | in | people animals | tree grass fence | under the pear tree; behind a ladder; between two roots; in the tall grass; beside a basket | The branches were heavy with fruit.; Red apples lay in the grass.; It smelled of ripe pears.; Bees were busy everywhere.
playground | on | people         | sand bench fence tree | under the slide; in the sandbox; behind the bench; near the swings; beside the water tap | The slide shone in the sun.; Some big boys were climbing.; Somebody had built a castle of sand.; The swings were all full.
glade      | in | animals        | tree grass hole thorns | behind a mossy log; under a big mushroom; among the ferns; between two roots; in a pile of leaves | Blue flowers grew in the shade.; Sunlight fell in golden spots.; Small mushrooms stood in a ring.; Somewhere a bird was singing.
old mill   | at | people animals | water barn grass | behind the wheel; under the stairs; beside a sack; near the bridge; in the tall grass | The big wheel turned slowly.; White ducks were resting in the shade.; The water fell with a soft roar.; Swallows flew in and out.
"""


def _read_places(table: str) -> tuple[Place, ...]:
    places = []
    for row in table.strip().splitlines():
        noun, at, worlds, traits, spots, sights = (cell.strip() for cell in row.split("|"))
        places.append(
            Place(
                noun,
                at,
                frozenset(worlds.split()),
                frozenset(traits.split()),
                tuple(spot.strip() for spot in spots.split(";")),
                tuple(sight.strip() for sight in sights.split(";")),
            )
        )
    return tuple(places)


PLACES = _read_places(_PLACES)


@cache
def places_with(world: str, trait: str = "") -> tuple[Place, ...]:
    """The places of a world ("people" or "animals") that have a trait; all of them for ""."""
    return tuple(
        place for place in PLACES if world in place.worlds and (not trait or trait in place.traits)
    )
