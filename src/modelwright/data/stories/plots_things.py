"""Plots about things of one's own: they get out of reach, lost or broken."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import close
from modelwright.data.stories.moves import (
    feel_glad,
    feel_sad,
    happen,
    mishap_here,
    rescue,
    thing_for,
    try_in_vain,
)
from modelwright.data.stories.opening import begin, begin_day
from modelwright.data.stories.places import places_with
from modelwright.data.stories.things import TOYS, toys_with
from modelwright.data.stories.world import World


def out_of_reach(w: World) -> None:
    """A thing gets out of reach; a try fails; a remedy that fits brings it back."""
    w.cast_hero()
    mishap, place = mishap_here(w)
    w.make("thing", thing_for(w, mishap.thing))
    begin(w, place, thing="thing", purpose="[ to play| with {hero.his} {thing.noun}|]")
    happen(w, mishap)
    if w.spare(0.3):
        feel_sad(w)
    try_in_vain(w, mishap)
    if w.spare(0.25, 5):
        w.say(
            "[Waiting did not help either|Nobody was near], so {hero~} [sat down and"
            " thought|walked around and looked for help].",
            "{Hero~} tried [once more|twice more|again], but it was [no use|in vain].",
        )
    w.paragraph()
    rescue(w, mishap)
    if w.spare(0.35):
        feel_glad(w)
    if w.spare(0.4):
        w.say(
            "[After that|From then on|For the rest of the day], {hero~} held {thing}"
            " [tightly|with both {hero.hands}].",
            "{Hero~} looked at {thing.the} from all sides, [and it was as good as before|but"
            " nothing was broken|and it was a little dirty, but that was all].",
            "{Hero~} [dried|wiped|cleaned] {thing} [with a sleeve|on the grass|with some leaves]"
            " and [went on playing|smiled at it].",
        )
    close(
        w,
        "thinking helps more than crying",
        "there is nearly always a way",
        "it is good to ask for help",
        "the first try is not always the last",
        "one must not give up too soon",
    )


# What somebody did in the morning, the same after "while", and where a thing may be left then.
_ERRANDS = (
    ("picked berries", "picking berries", "under the berry bush"),
    ("climbed the apple tree", "climbing the apple tree", "at the foot of the apple tree"),
    ("washed at the well", "washing", "on the edge of the well"),
    ("carried wood for the fire", "carrying wood", "on top of the wood pile"),
    ("fed the hens", "feeding the hens", "next to the hen house"),
    ("drew pictures in the sand", "drawing in the sand", "half covered with sand"),
    ("built a little dam in the stream", "building the dam", "on the bank of the stream"),
    ("watched the ants on the old wall", "watching the ants", "on the old wall"),
    ("ate lunch on the stairs", "eating lunch", "on the third stair"),
    ("watered the beans", "watering the beans", "beside the watering can"),
    ("jumped over puddles", "jumping over puddles", "next to the biggest puddle"),
    ("rolled down the hill", "rolling down the hill", "in the grass below the hill"),
    ("made a chain of daisies", "making the chain", "among the daisies"),
    ("visited the ducks", "visiting the ducks", "in the reeds where the ducks lived"),
    ("hung up the washing", "hanging up the washing", "in the washing basket"),
    ("helped to bake bread", "baking", "on the shelf behind the flour"),
    ("swept the porch", "sweeping", "behind the broom"),
    ("looked for snails under the hedge", "looking for snails", "under the hedge"),
)


def lost_and_found(w: World) -> None:
    """A thing is gone; the hero goes over the day in thought and finds where it was left."""
    w.cast_hero()
    w.keep_short()
    w.make("thing", w.one(TOYS))
    begin_day(w, thing="thing")
    first, second, third = w.some(_ERRANDS, 3)
    last_had = second if w.maybe(0.5) else first
    w.bind("first", {"": first[0], "ing": first[1], "spot": first[2]})
    w.bind("second", {"": second[0], "ing": second[1], "spot": second[2]})
    w.bind("third", {"": third[0], "ing": third[1], "spot": third[2]})
    w.bind("left", {"": last_had[0], "ing": last_had[1], "spot": last_had[2]})
    w.say(
        "[That day|One busy day|One free day], {hero~} {first}, {second}, and [after that|then|last"
        " of all] {third}.",
        "First {hero~} {first}, then {hero.he} {second}, and [in the end|after that] {third}.",
        "[There was so much to do that day|What a busy day it was|It was a full day]: {hero~} {first}, {second} and {third}.",
    )
    w.say(
        "When {hero~} [came home|wanted to play again|felt in {hero.his} bag], {thing} was gone.",
        "But when {hero~} [looked around|was done], {hero.he} could not see {thing} anywhere.",
        "Only then did {hero~} see that {thing} was [missing|gone].",
        "In the evening {hero~} saw that {thing} was [missing|gone].",
    )
    w.until("afternoon")
    w.lose("hero", "thing")
    w.paragraph()
    if w.spare(0.25):
        feel_sad(w)
    w.say(
        "{Hero~} looked [under the bed|behind the door|in every pocket|under all the chairs] and"
        " [behind the curtain|in the big box|under the mat], but {thing} was not there.",
        "{Hero~} [ran around|looked in every corner|searched the whole house] and found [an"
        " old button|a lost sock|a dusty spoon] and [a ball of string|two crumbs|a bent pin], but"
        " not {thing}.",
    )
    w.cast_relative("elder")
    w.line(
        '"When did you [last have it|use it last|see it last]?" asked {elder}.',
        '"Do not run[ around|]. Think: where did you have it last?" said {elder}.',
        '"[Go over the whole day|Think it through, step by step|Sit down and think]," said'
        " {elder}[, who had been watching the search|].",
    )
    if last_had is second:
        w.line(
            '"I still had it after I {first}, but when I {third}, my {hero.hands} were empty,"'
            " said {hero}[ slowly|].",
            '"When I {first}, it was with me, and when I {third}, it was not, so I left it in'
            ' between!" said {hero}.',
        )
    else:
        w.line(
            '"I had it when I {first}, but when I {second}, I did not [have|see] it any more,"'
            " said {hero}[ slowly|].",
            '"In the morning I had it. Then I {first}, and I needed both {hero.hands}, so I put it'
            ' down!" said {hero}.',
        )
    w.say(
        "{Hero} ran [back|there as fast as {hero.he} could], and there it was, {left.spot}.",
        "They went back [together|hand in hand|to look], and {thing} lay {left.spot}[, just"
        " where {hero} had put it|].",
        "So it had to be where {hero} had been {left.ing}, and [yes|indeed], {thing} was"
        " {left.spot}.",
    )
    w.take("hero", "thing")
    if w.spare(0.3):
        feel_glad(w)
    if w.spare(0.4):
        w.say(
            "From then on, {thing} had its own [hook|shelf|box] by the door, and it was never"
            " lost again.",
            "[Now|After that] {hero~} tied a [red|blue|long] ribbon to {thing}, so that nobody"
            " could overlook it.",
        )
    else:
        close(
            w,
            "it is better to think first and search later",
            "a thing is mostly where one was busy last",
            "everything needs its own place",
            "looking calmly is faster than running",
        )


# How each material breaks, and what mends it: the trouble, the means, the work, the mark it leaves.
_REPAIRS = {
    "paper": (
        "[tore|ripped] [right down the middle|in two places|from one end to the other]",
        (
            ("glue", "spread the glue thinly and pressed the edges together", "a thin line"),
            ("tape", "laid the edges together and put the tape across them", "a shiny stripe"),
            ("colored paper", "cut out a star and pasted it over the tear", "a star"),
        ),
    ),
    "wood": (
        "[broke|cracked] [with a loud snap|into two pieces]",
        (
            ("wood glue", "put on the glue and tied a string around it until it was dry", "a small line"),
            ("a hammer and two nails", "held the pieces together and drove the nails in", "two shiny nails"),
            ("a strong string", "wound the string around it many times", "a neat band of string"),
        ),
    ),
    "cloth": (
        "[got caught on a nail|caught on a branch|got caught on a thorn] and [tore|ripped]",
        (
            ("a needle and thread", "sewed it up with small stitches", "a row of tiny stitches"),
            ("a patch of blue cloth", "sewed the patch over the hole", "a blue patch"),
            ("a patch with flowers", "sewed the patch over the hole", "a patch with flowers"),
        ),
    ),
    "clay": (
        "[fell to the ground|slipped and hit a stone] and broke into [two|three|four] pieces",
        (
            ("strong glue", "put the pieces together like a puzzle", "some fine lines"),
            ("glue and gold paint", "glued the pieces and painted over the lines with gold", "golden lines"),
        ),
    ),
    "straw": (
        "[got squashed|was bent] and came apart at one side",
        (
            ("a long straw", "wove the straw in and out until the hole was closed", "a lighter spot"),
            ("a ribbon", "pulled the ribbon through the hole and tied it", "a fine ribbon"),
        ),
    ),
    "wool": (
        "got caught on a [nail|twig], and a long thread came out of it",
        (
            ("a knitting needle", "knitted the thread in again, loop by loop", "a small knot"),
            ("some green wool", "closed the hole with the green wool", "a green spot"),
        ),
    ),
    "metal": (
        "fell on the stones and was bent[ out of shape|]",
        (
            ("a small hammer", "tapped it carefully back into shape", "a tiny dent"),
            ("a pair of pliers", "bent it back, a little at a time", "a small scratch"),
        ),
    ),
}  # fmt: skip


def broken_and_mended(w: World) -> None:
    """A thing breaks, somebody owns up to it, and it is mended in the way of its material."""
    w.cast_hero()
    material = w.one(tuple(_REPAIRS))
    breaks, ways = _REPAIRS[material]
    means, work, mark = w.one(ways)
    w.make("thing", w.one(toys_with(material)))
    w.words(breaks=breaks, means=means, work=work, mark=mark)
    begin(w, w.one(places_with(w.kind)), thing="thing", purpose=" with {hero.his} {thing.noun}")
    by_friend = w.maybe(0.5)
    if by_friend:
        w.cast_friend("friend")
        w.say(
            "{Friend} was there too, and [they played|the two played] [together|side by side]["
            " for a while|].",
            "There {hero.he} met {friend}, who [asked to|wanted to] try {thing}.",
        )
        w.say(
            "But {friend} [was in a hurry|was not careful|pulled too hard], and {thing} {breaks}.",
            "Then {friend} [stumbled|slipped|turned around too fast], and {thing} {breaks}.",
        )
    else:
        w.say(
            "[But|Then] {hero} [stumbled|was too wild|ran too fast], and {thing} {breaks}.",
            "{Hero~} was [thinking of something else|looking at a bird], and suddenly {thing}"
            " {breaks}.",
        )
    w.note("break", "friend" if by_friend else "hero", "thing")
    if w.spare(0.4):
        feel_sad(w)
    w.paragraph()
    if by_friend:
        w.line(
            '"I am [so|very] sorry. I did not [mean to do it|want that]," said {friend}.',
            '"It was my fault, and I am sorry," [whispered|said] {friend}[ with a red face|].',
        )
        w.line(
            '"[I know|I am sad, but I am not angry]. Will you help me mend it?" said {hero}.',
            '"[Let us mend it|Maybe we can mend it|Come, we will mend it]," said {hero}[ after a'
            " while|, who was not angry for long].",
        )
    else:
        w.cast_relative("friend")
        w.line(
            '"[Show it to me|Let me see|Bring it here]. [It can be mended|That is not so bad|We can'
            ' mend that]," said {friend}.',
        )
    w.say(
        "{Friend} [found|had|brought] {means}, and [together|side by side] they {work}.",
        "[They took it home|Together they went home], where there was {means} [in a drawer|on a"
        " shelf], and they {work}.",
        "{Hero} ran to get {means}, and then they [sat down and|carefully|slowly] {work}.",
    )
    w.note("mend", "hero", "thing")
    w.say(
        "When it was done, [only {mark} could be seen|there was only {mark} to see].",
        "Now {thing} had {mark}, and {hero} [liked it even more|thought that it looked fine].",
        "{Thing.the} was [whole|as good as new], but for {mark}.",
    )
    if w.spare(0.25):
        feel_glad(w)
    if w.spare(0.3):
        w.say(
            'Whenever somebody asked about it, {hero} said, "[That is the best part|That is how'
            ' I know it is mine]."',
            "From then on, {hero} [was more careful|played more gently].",
        )
    else:
        close(
            w,
            "broken things can often be mended",
            "saying sorry is the first step" if by_friend else "a good look comes before tears",
            "a mended thing tells a story",
            "being angry mends nothing",
        )


PLOTS = (
    out_of_reach,
    lost_and_found,
    broken_and_mended,
)
