"""Plots on the way: lost in the woods, and sent on an errand."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import close, habit_again
from modelwright.data.stories.opening import begin, begin_day
from modelwright.data.stories.places import places_with
from modelwright.data.stories.world import World

_LANDMARKS = (
    "a crooked pine", "a stone like a sleeping bear", "a red mushroom as big as a plate",
    "a little bridge", "an old cart without wheels", "a stream with white stones",
    "a tree with two trunks", "a wall covered with moss", "a ring of birch trees",
    "a nest in a low bush", "a broken gate", "a field of blue flowers",
    "a well with a green roof", "a hollow oak", "a scarecrow with a black hat",
    "a row of beehives", "a rock with a hole in it", "a fallen tree",
)  # fmt: skip


_LURES = (
    "a blue butterfly", "a rabbit with a white tail", "a strange bird song", "a trail of berries",
    "a leaf that danced in the wind", "a shiny beetle", "a dragonfly", "a smell of wild mint",
    "a snail with a striped house", "a squirrel with a nut",
)  # fmt: skip


def _definite(mark: str) -> str:
    """ "a little bridge" seen again is "the little bridge"."""
    article, _, rest = mark.partition(" ")
    assert article in ("a", "an")
    return f"the {rest}"


def lost_way(w: World) -> None:
    """Led astray, the hero finds the way home by what was passed, in the other order."""
    w.cast_hero()
    w.keep_short()
    begin(w, w.one(places_with(w.kind, "tree")))
    first, second, third = w.some(_LANDMARKS, 3)
    for role, mark in (("first", first), ("second", second), ("third", third)):
        w.bind(role, {"a": mark, "the": _definite(mark)})
    w.words(lure=w.one(_LURES))
    w.say(
        "There {hero.he} [came upon|noticed] {lure} and followed it [farther and farther|away"
        " from the path].",
        "Then [{hero.he} came upon|there was] {lure}, and {hero.he} went after it[ without"
        " thinking|].",
        "{Lure} [led|drew] {hero.him} [farther and farther|away] from the path.",
    )
    w.say(
        "{Hero~} [passed|went by] {first.a}, [then|and later] {second.a}, and [at last|in the"
        " end] {third.a}.",
        "On the way, {hero~} [passed|saw] {first.a}, a bit farther on {second.a}, and [behind"
        " it|then] {third.a}.",
        "The way led [past|by] {first.a}, [along|past] {second.a} and [up to|around] {third.a}.",
    )
    w.say(
        "[There|Here] the path ended, and when {hero~} turned around, [every tree looked the"
        " same|nothing looked familiar].",
        "When {hero.he} looked [up|around], {hero.he} did not know where {hero.he} was.",
        "[Suddenly|Then] it was gone, and {hero} stood [all alone|quite alone] in a place"
        " {hero.he} had never seen.",
    )
    w.note("lost")
    w.paragraph()
    if w.spare(0.2):
        w.say(
            "{Hero.his} throat felt tight, because [nobody knew where {hero.he} was|the shadows"
            " were getting long].",
            "{Hero~} [called|shouted], but only [the wind|an echo] answered.",
            "{Hero~} wanted to run, but [which way|where to]?",
            "It was [already|slowly] getting [late|cold], and {hero~} felt very small.",
        )
    how = w.one(("self", "owl", "rhyme"))
    if how == "owl":
        w.cast_relative("elder")
        w.say(
            'Then {hero~} remembered what {elder} always said: "[When you are lost, stop and'
            ' think|Look behind you as often as you look ahead|Do not run when you are lost]."'
        )
    elif how == "rhyme":
        w.say(
            "{Hero~} sat down, closed {hero.his} eyes and went back over the way [in {hero.his}"
            " mind|step by step], like a story told backward.",
            "Then {hero~} had an idea: if {hero.he} could [only|] remember everything in order,"
            " the way back would [tell itself|be easy].",
        )
    else:
        w.say(
            "{Hero~} [took a deep breath|sat down on a root] and [thought|tried to remember] what"
            " had come [last|just before this].",
        )
    w.line(
        '"[The last thing I passed was|Last of all came] {third.the}, [before that came|and before'
        ' it] {second.the}, and first of all, {first.the}," {hero.he} said [aloud|to'
        " {hero.himself}].",
        '"[First|There was first] {first.the}, then {second.the}, then {third.the}, so [back|on the'
        ' way home] I [must go|have to go] the other way around," said {hero}.',
    )
    w.say(
        "{Hero~} [looked around|climbed on a rock] and [saw|found] {third.the}, and from there it"
        " was not far to {second.the}.",
        "So {hero} [went|walked] to {third.the}, and from there to {second.the}.",
        "{Third.the} was [easy to find|not far away], and [behind it|a bit farther on]"
        " {hero.he} found {second.the}.",
    )
    w.say(
        "[Behind|After] {first.the}, {hero.he} could see the [smoke|roof|lights] of home.",
        "When {first.the} [came into sight|appeared], {hero.he} [began to run|knew the way].",
    )
    if w.spare(0.25):
        w.cast_parent("parent")
        w.say(
            "{Parent} was [already|] standing [at the door|in front of the house] and [hugged"
            " {hero.him}|took {hero.him} in {parent.his} arms].",
            "At home, {parent} had [kept supper warm|put a candle in the window].",
        )
    close(
        w,
        "whoever knows the way there also knows the way back",
        "it helps to look around while walking",
        "thinking is better than running",
        "the path remembers those who look at it",
        other=habit_again,
    )


_ERRAND_GOODS = (
    "a pot of soup", "a basket of eggs", "a letter", "a jar of honey", "a warm loaf of bread",
    "a bottle of medicine", "a bunch of flowers", "a sack of flour", "a plum cake", "a wool blanket",
)  # fmt: skip


_BLOCKS = (
    ("the bridge was broken", "took off {hero.his} shoes and crossed where the water was low", "a heron was standing in the water, and it came only up to its knees"),
    ("a big tree lay across the path", "crawled under it, where the branches made a tunnel", "a hare came out from under it"),
    ("an angry goose stood in the way", "put some bread on the ground and walked around it", "the goose kept looking at the bag"),
    ("a herd of cows filled the whole road", "opened the gate of the pasture, and the cows walked in", "the first cow was pushing against a gate"),
    ("thick fog covered the road", "walked along the fence with one {hero.hand} on it", "the fence ran all the way to the village"),
    ("the path was deep in mud", "stepped from stone to stone along the wall", "there were flat stones along the wall"),
    ("the signpost had fallen down", "held it so that the arm with the name of home pointed back", "one arm of the sign had the name of home on it"),
    ("the gate was locked", "found the key under the flower pot", "a flower pot stood there without a flower"),
)  # fmt: skip


def errand(w: World) -> None:
    """Something must be brought to somebody; the way is blocked, and a detail shows how to go on."""
    w.cast_hero()
    w.keep_short()
    block, solution, detail = w.one(_BLOCKS)
    if w.talking_animals and ("cow" in block or "goose" in block):
        block, solution, detail = _BLOCKS[1]
    if "shoes" in solution and w.talking_animals:
        solution = "crossed where the water was low"
    goods = w.one(_ERRAND_GOODS)
    w.words(block=block, solution=solution, detail=detail)
    w.bind("goods", {"": goods, "the": _definite(goods)})
    begin_day(w)
    w.cast_parent("elder")
    w.cast_neighbour("receiver")
    w.line(
        '"[Can you|Will you|Could you please] take {goods} to {receiver.a} [in the next'
        ' village|on the other side of the hill|beyond the woods]?" asked {elder}.',
        "One day, {elder} [asked {hero.him} to|sent {hero.him} out to] take {goods} to {receiver.a}"
        " [in the next village|on the other side of the hill|beyond the woods].",
    )
    w.telling.met("receiver")
    w.line(
        '"[Of course|Yes|I can do that]," said {hero}[ proudly|], and {hero.he} set out with'
        " {goods.the}.",
        "{Hero} [nodded|was proud to be asked|put on {hero.his} hat|packed a bit of bread] and [set out|went off|was soon on the way] with {goods.the}.",
    )
    w.paragraph()
    w.say(
        "The way was long, but {hero~} [sang|whistled|counted {hero.his} steps], until {hero.he}"
        " had to stop: {block}.",
        "The sun was [hot|warm], {goods.the} got heavier [with every step|and heavier], and"
        " then {block}.",
        "At first all went well, but [halfway|behind the mill], {block}.",
        "{Hero~} had [walked|gone] for [half an hour|an hour|a good while] when there was [trouble|a surprise]: {block}.",
    )
    if w.spare(0.2):
        w.say(
            "{Hero~} [put down {goods.the} and rested|sat down on a stone], because [there had to be"
            " a way|giving up was not an answer].",
            "[Should {hero.he} turn back|What now]? {Hero~} thought of {receiver}, who was"
            " waiting.",
            "{Hero~} could have gone home, but [somebody was waiting|somebody needed {goods.the}|{hero.he} had given"
            " {hero.his} word].",
        )
    w.say(
        "{Hero~} looked [around|closely] and saw that {detail}.",
        "Then {hero~} noticed [something|one thing]: {detail}.",
        "But {detail}, and [that gave {hero.him} an idea|{hero.he} understood].",
    )
    w.say("So {hero~} {solution}.", "{Hero~} {solution}[, and the way was free|].")
    w.note("deliver", "hero", "receiver")
    w.paragraph()
    w.say(
        "It was [noon|almost dark|later than planned] when {hero~} [arrived|got there], but"
        " {goods.the} was [safe|in good order], and {receiver} [clapped for joy|could hardly"
        " believe [it|such luck]].",
        "{Receiver} was [standing at the window|sitting by the fire|already waiting] and"
        " [beamed|was very glad] when {hero} [knocked|came in].",
        "[At last|Soon after], {hero} knocked at the door of {receiver} and handed over"
        " {goods.the}.",
    )
    if w.spare(0.6):
        w.line(
            '"[You came all this way|I thought nobody could get through today|How good that you are'
            ' here]! [Thank you|Come in and rest]!" said {receiver}[ and hugged {hero.him}|, and {hero} was glad].'
        )
    if w.spare(0.45):
        w.words(
            treat=w.one(
                (
                    "a cup of hot milk",
                    "a piece of cake",
                    "a handful of walnuts",
                    "a ripe pear",
                    "a slice of bread with jam",
                )
            )
        )
        w.say(
            "{Hero~} got {treat} and told {receiver.him} [everything|about the way].",
            "There was {treat} for {hero.him}, and it tasted [twice as good as usual|wonderful"
            " after the long walk].",
        )
    close(
        w,
        "a closer look often opens a way",
        "it is worth going on when somebody is waiting",
        "a blocked road is not the end of the road",
    )


PLOTS = (
    lost_way,
    errand,
)
