"""Mishaps: how a thing gets where nobody can reach it, and how it comes back.

A mishap needs a place and a thing that allow it (a kite, a tree). Each has first tries that fail
for a reason, and remedies: a tool that is at hand or must be fetched, a tall grown-up, an animal.
"""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mishap:
    """A way of losing reach of a thing.

    Args:
        place: the trait that the place must have.
        thing: the traits of which the thing must have one.
        happens: patterns for how it comes about.
        tries: patterns for first tries that fail, each with its reason.
        tools: pairs of a tool and the patterns for how it solves the problem.
        animals: pairs of an animal and what it does.
        elder: patterns for what a grown-up does.
    """

    place: str
    thing: tuple[str, ...]
    happens: tuple[str, ...]
    tries: tuple[str, ...]
    tools: tuple[tuple[str, str], ...]
    animals: tuple[tuple[str, str], ...]
    elder: tuple[str, ...]


IN_TREE = Mishap(
    place="tree",
    thing=("flies",),
    happens=(
        "[Suddenly|Then|All at once], [a strong|a sudden|the] wind [blew|lifted|carried] {thing}"
        " [up into|into the top of] a tall tree.",
        "A gust of wind [came|rushed by], and {thing} flew up and [caught|got stuck] on a high branch.",
        "{Hero~} let go for only a moment, and the wind took {thing} and hung it"
        " [in the top of a tree|on a branch far above].",
    ),
    tries=(
        "{Hero~} jumped [up and down|as high as {hero.he} could], but the branch was [much|far] too high.",
        "{Hero~} shook the [trunk|tree] with both {hero.hands}, but only [leaves|a few leaves and a beetle] came down.",
        "{Hero~} tried to climb up, but the [trunk|bark] was too [smooth|slippery].",
        "{Hero~} threw [a pine cone|a small stick|an old shoe] at it and missed[ three times|].",
    ),
    tools=(
        ("long stick", "{Hero~} reached up with {tool} and [pushed|poked] [gently|and poked] until {thing} [slid off the branch|came loose] and floated down."),
        ("tall ladder", "{Hero~} leaned {tool} against the trunk, climbed up step by step and [took|lifted] {thing} from the branch."),
        ("long rope", "{Hero~} threw one end of {tool} over the branch and pulled, and the branch bent so low that {thing} slid off."),
        ("garden rake", "With {tool}, {hero} could [just|easily] reach the branch, and {hero.he} [pulled|combed] {thing} down."),
        ("fishing net", "{Hero~} held up {tool} and caught {thing} as it came loose from the twigs."),
    ),
    animals=(
        ("squirrel", "ran up the trunk, [pulled|bit] the twig aside and let {thing} fall"),
        ("crow", "flew up, took {thing} in its beak and dropped it [softly|right] at {hero.his} feet"),
        ("blackbird", "hopped along the branch and pushed {thing} off with its wing"),
    ),
    elder=(
        "{Helper~} lifted {hero} up [high|onto {helper.his} shoulders], and now {hero.he} could reach {thing}.",
        "{Helper~} was tall enough to bend the branch down, and {hero} picked {thing} from it like an apple.",
    ),
)  # fmt: skip

IN_WATER = Mishap(
    place="water",
    thing=("floats",),
    happens=(
        "[Suddenly|Then], {hero} [tripped over a root|slipped on a wet stone], and {thing} fell into the water and floated away from the bank.",
        "{Thing} [slipped from {hero.his} {hero.hands}|fell from {hero.his} arms] and landed in the water with a splash.",
        "{Hero~} put {thing} down too near the edge, and [a wave|the wind] pushed it into the water.",
    ),
    tries=(
        "{Hero~} stretched out one arm, but {thing} was [already|] too far [away|from the bank].",
        "{Hero~} threw stones behind it to make waves, but the waves pushed it [even|] farther away.",
        "{Hero~} put one foot in the water, but it was [too cold|too deep] there.",
    ),
    tools=(
        ("long stick", "{Hero~} [lay down on the bank|knelt on the bank], reached out with {tool} and drew {thing} [slowly|bit by bit] to the shore."),
        ("fishing net", "{Hero~} swung {tool} over the water and [scooped|fished] {thing} out[, dripping wet|]."),
        ("garden rake", "{Hero~} held {tool} out over the water and pulled {thing} in, together with [some weeds|a lot of green weeds]."),
        ("small boat", "{Hero~} [climbed|got] into {tool} with {helper}, and together they rowed out and lifted {thing} from the water."),
        ("long rope", "{Hero~} made a loop in {tool}, threw it around {thing} at the third try and pulled."),
    ),
    animals=(
        ("duck", "swam out and pushed {thing} back to the bank with its beak"),
        ("swan", "came gliding over and [nudged|pushed] {thing} to the shore"),
        ("otter", "slipped into the water, took {thing} between its teeth and brought it back"),
    ),
    elder=(
        "{Helper~} [rolled up {helper.his} sleeves|took off {helper.his} shoes], stepped into the water and [picked up|caught] {thing}.",
        "{Helper~} [waited|showed {hero} how to wait] for the wind to turn, and soon it blew {thing} back to the bank.",
    ),
)  # fmt: skip

SUNK = Mishap(
    place="water",
    thing=("sinks",),
    happens=(
        "[Suddenly|Then], {thing} slipped [from {hero.his} {hero.hands}|out of {hero.his} hand], fell into the water and sank to the bottom.",
        "{Hero~} bent down to look at a fish, and [plop|splash], {thing} dropped into the water and was gone.",
    ),
    tries=(
        "{Hero~} pushed {hero.his} arm into the water, but {hero.he} could not [reach|touch] the bottom.",
        "{Hero~} stirred the water with a twig, but that only made it muddy.",
        "{Hero~} stared into the water, but {hero.he} [saw nothing but|could only see] {hero.his} own face.",
    ),
    tools=(
        ("fishing net", "{Hero~} pulled {tool} along the bottom, once, twice, and the third time {thing} [was in it|came up with the mud]."),
        ("tin bucket", "{Hero~} [scooped|lifted] mud from the bottom with {tool}, and in the fourth load {hero.he} found {thing}."),
        ("garden rake", "{Hero~} drew {tool} [slowly|carefully] over the bottom until {thing} came up between its teeth."),
    ),
    animals=(
        ("frog", "jumped in, dived to the bottom and came up with {thing}"),
        ("otter", "dived down, and bubbles came up, and then {thing} came up too"),
        ("duck", "put its head under the water and came up with {thing} in its beak"),
    ),
    elder=(
        "{Helper~} waited until the mud had settled, reached down with {helper.his} long arm and brought {thing} up.",
    ),
)  # fmt: skip

IN_THORNS = Mishap(
    place="thorns",
    thing=("rolls", "flies", "tiny"),
    happens=(
        "[Suddenly|Then], {thing} [slipped away|jumped out of {hero.his} {hero.hands}] and [landed|disappeared] in the middle of a thorn bush.",
        "{Hero~} turned around too fast, and {thing} flew out of {hero.his} {hero.hand} and into a bush full of thorns.",
    ),
    tries=(
        "{Hero~} put one {hero.hand} into the bush and pulled it back at once. The thorns were [too sharp|as sharp as needles].",
        "{Hero~} tried to crawl under the bush, but the thorns [caught {hero.his} {hero.hair}|held {hero.him} back].",
        "{Hero~} shook the bush, but {thing} only sank [deeper|farther] into it.",
    ),
    tools=(
        ("long stick", "{Hero~} pushed {tool} under the branches and rolled {thing} out on the other side."),
        ("thick blanket", "{Hero~} spread {tool} over the thorns, leaned across it and picked {thing} out."),
        ("leather glove", "With {tool} on one {hero.hand}, {hero} [reached|could reach] right through the thorns and take {thing} out."),
        ("garden rake", "{Hero~} held the branches aside with {tool} and picked {thing} up from the ground."),
    ),
    animals=(
        ("mouse", "ran in under the thorns and pushed {thing} out with its nose"),
        ("hedgehog", "walked into the bush as if there were no thorns at all and rolled {thing} out"),
        ("wren", "slipped between the thorns and came back with {thing}"),
    ),
    elder=(
        "{Helper~} [carefully|slowly] bent the branches apart, one by one, until {hero} could take {thing} out.",
    ),
)  # fmt: skip

IN_HOLE = Mishap(
    place="hole",
    thing=("rolls", "tiny"),
    happens=(
        "[Suddenly|Then], {thing} [rolled|slipped] away over the leaves and dropped into a [deep|dark] hole between the roots.",
        "{Hero~} tripped over a root, and {thing} rolled down into a [narrow|deep] hole in the ground.",
    ),
    tries=(
        "{Hero~} put {hero.his} arm into the hole up to the shoulder, but {hero.he} could not [feel|touch] the bottom.",
        "{Hero~} tried to dig with {hero.his} {hero.hands}, but the roots were in the way.",
        "{Hero~} called into the hole, but only an echo [answered|came back].",
    ),
    tools=(
        ("sticky stick", "{Hero~} pushed {tool} down the hole, and when {hero.he} pulled it up, {thing} was stuck to it."),
        ("long spoon", "{Hero~} reached down with {tool} and lifted {thing} up [bit by bit|very slowly]."),
        ("little shovel", "{Hero~} dug with {tool} beside the roots until the hole was wide enough for an arm, and there was {thing}."),
    ),
    animals=(
        ("mole", "dug down from the other side and pushed {thing} up into the light"),
        ("mouse", "slipped down the hole and rolled {thing} up again, puffing"),
        ("weasel", "was thin enough to slide down and bring {thing} up"),
    ),
    elder=(
        "{Helper~} bent a wire into a hook, let it down into the hole and pulled {thing} up.",
        "{Helper~} [lay down on the ground|rolled up a sleeve], reached in with {helper.his} long arm and got hold of {thing}.",
    ),
)  # fmt: skip

MISHAPS = (IN_TREE, IN_WATER, SUNK, IN_THORNS, IN_HOLE)
