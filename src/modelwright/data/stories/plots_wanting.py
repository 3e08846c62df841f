"""Plots about wanting it all, or wanting it now."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import close, learned
from modelwright.data.stories.moves import feel_glad, feel_sad
from modelwright.data.stories.opening import begin_day, introduce_hero
from modelwright.data.stories.opening_words import HABITS
from modelwright.data.stories.world import World

# Good things to have too much of: the thing, where it is, the advice, what goes wrong, what is left.
_GREEDY = (
    ("plums", "on the tree behind the mill", "The branch is thin", "the branch broke, and all the plums rolled into the stream", "one plum"),
    ("nuts", "in a jar with a narrow neck", "Take a few at a time", "the full fist was stuck in the jar", "three nuts"),
    ("honey", "in the hollow oak", "Leave some for the bees", "the bees came home and were very angry", "a sticky finger"),
    ("berries", "on the far side of the meadow", "The basket is old", "the bottom of the basket fell out on the way", "a handful of berries"),
    ("apples", "in the orchard on the hill", "A full sack is heavy", "the sack tore, and the apples rolled all the way down", "two apples"),
    ("shells", "on the sand below the rocks", "The water will come back", "the waves took the whole pile", "one white shell"),
    ("cookies", "on the kitchen table", "Two for each of us", "an awful stomach ache came, and it lasted all day", "nothing but crumbs"),
    ("eggs", "in the hen house", "Do not pile them up", "the top ones fell, and then all the others", "a single egg"),
    ("mushrooms", "under the birch trees", "Carry them gently", "they were all crushed at the bottom of the bag", "one whole mushroom"),
)  # fmt: skip


def too_much(w: World) -> None:
    """Somebody takes too much against good advice, and loses nearly all of it."""
    w.cast_hero()
    goods, where, advice, cost, left = w.one(_GREEDY)
    w.words(goods=goods, where=where, advice=advice, cost=cost, left=left)
    begin_day(w)
    w.words(many="much" if goods == "honey" else "many")
    if w.maybe():
        w.cast_relative("elder")
    else:
        w.cast_friend("elder")
    w.say(
        "One day, {hero~} and {elder} [found|discovered] {goods} {where}.",
        "Never before had {hero} seen so {many} {goods} as {where}, and {elder} [came"
        " along|showed {hero.him} the way].",
        "[One day|One morning], {hero~} and {elder} went to get {goods}, and there were a lot"
        " {where}."
        if goods != "honey"
        else "{Hero~} and {elder} knew that there was {goods} {where}.",
    )
    w.line(
        '"[Take only what you need|We should not take too {many}|Let us take some and come back'
        ' tomorrow]. {Advice}," said {elder}.',
        '"{Advice}," {elder} warned {hero.him}[, but it was no use|].',
    )
    w.say(
        '"[But I want everything|I want more|More is better]!" [said|cried] {hero}, and {hero.he}'
        " took more and more.",
        "{Hero~} took more and more[, and did not listen|].",
        "{Elder} took [a little|only what was needed], but {hero} [could not stop|wanted every last"
        " bit].",
    )
    w.note("greed", "hero", goods)
    w.paragraph()
    w.say(
        "[Then|Suddenly|A moment later], {cost}.",
        "It went well [for a while|at first], but then {cost}.",
    )
    if w.spare(0.4):
        feel_sad(w)
    w.say(
        "All that {hero} had now was {left}.",
        "In the end there was {left} for {hero}, and no more.",
        "{Hero} [counted|looked at] what was [there|left]: {left}.",
    )
    if w.spare(0.7):
        w.say(
            "{Elder} [did not laugh|said nothing], but [sat down beside {hero}|came closer] and"
            " [gave {hero.him} half of {elder.his} share|shared with {hero.him} what {elder.he}"
            " had].",
            "{Elder} still had [enough|plenty], and gave {hero} some of it.",
        )
        if w.spare(0.6):
            w.line(
                '"Next time [I will listen to you|I will take less|I will stop in time]," said'
                " {hero}[ in a small voice|]."
            )
    if w.spare(0.3) and goods not in ("cookies", "honey"):
        w.say(
            "The next day {hero~} [went there again|came back] with a [small|little] bag, and"
            " this time it was just [right|enough]."
        )
    else:
        close(
            w,
            "too much can be less than enough",
            "who wants everything may end with nothing",
            "good advice is worth more than a full bag",
            "enough is as good as a feast",
        )


_PLANTS = (
    ("sunflower", "taller than the door, with a face like the sun"),
    ("pumpkin", "so big that two had to carry it"),
    ("bean", "all the way up to the roof"),
    ("tulip", "red as a sunset"),
    ("carrot", "as long as an arm"),
    ("pea", "with pods full of sweet green balls"),
    ("cherry tree", "small, but with three white blossoms"),
    ("strawberry", "with five red berries under its leaves"),
    ("rose", "with a smell that filled the whole garden"),
)


def patience(w: World) -> None:
    """A seed in the ground; the hero cannot wait, spoils it or learns to wait."""
    w.cast_hero()
    w.keep_short()
    plant, result = w.one(_PLANTS)
    w.words(plant=plant, result=result)
    introduce_hero(w)
    if w.spare(0.6):
        w.cast_relative("elder")
    else:
        w.cast_neighbour("elder")
    w.paragraph()
    w.say(
        "In spring, {elder} gave {hero~} a [tiny|small|little] seed, from which a {plant} would"
        " grow.",
        "One [fine|cool] spring day, {hero~} got the [small|tiny|brown] seed of a {plant} from"
        " {elder}.",
        '"[It will be|One day it will be] a {plant}," said {elder} one spring day and gave {hero} a'
        " [tiny|small|little] seed.",
    )
    w.say(
        "{Hero~} chose a [sunny|quiet|good] spot [by the wall|near the gate|between two stones],"
        " loosened the earth and [tucked the seed in like a child|laid the seed in it|gave the seed a place to"
        " sleep].",
        "{Hero~} [made|dug] a hole [behind the house|near the fence|in a pot], [put|laid] the"
        " seed in and [watered it|gave it water].",
        "{Hero~} pushed it into the [soft|dark] earth, [just as deep|about as deep] as one {hero.hand}, and"
        " [watered it|gave it water].",
    )
    w.say(
        "{Hero~} lay down next to it [for an hour|the whole afternoon] and [watched|waited], but"
        " the earth did not even [move|crack].",
        "[Three|Four] days went by, but the [earth|ground|spot] [stayed brown and bare|looked just as before|did not change].",
        "[The next morning|On the second day], {hero~} [ran out to look|looked at once], but there"
        " was nothing [but earth|to see].",
        "Every [hour|morning] {hero~} went to look, but nothing [happened|grew|came up|showed].",
    )
    if w.spare(0.35):
        w.line(
            '"[Why does it not grow|When will it come up|Is it broken|Did I do something wrong|How'
            ' long does it take]?" asked {hero}.'
        )
    w.line(
        '"[Give it time|It is growing where you cannot see it|A seed has its own clock|Wait a'
        " little|First it makes roots, in the dark|Even the tallest oak began like this|It is"
        ' asleep and will wake when it is warm]," said {elder}.'
    )
    w.paragraph()
    spoiled = w.maybe(0.45)
    if spoiled:
        w.say(
            "{Hero~} thought that it was too [dark|cold|lonely] for the seed down there, and {hero.he} [took"
            " it out|laid it on the window sill], and it [dried up|was eaten by a bird].",
            "But {hero~} could not [wait|bear it] and dug the seed up [to look|to see it grow], and its [thin|tiny] white root"
            " broke.",
            "{Hero} wanted to help and [poured on|gave it] [so much water|such a lot of water] that the seed [swam away|was washed away|rotted].",
            "{Hero} pulled at the first green tip to [make it grow faster|help it up], and [it came|the whole thing came] out of the"
            " ground.",
        )
        w.note("spoil", "hero", plant)
        if w.spare(0.35):
            feel_sad(w)
        w.say(
            "{Elder} had [one more seed|a second seed], and [this time|now] {hero} [only gave it"
            " water|left it in peace|only watched], and [counted the days|waited|told it stories]."
        )
    else:
        w.words(how=w.one(HABITS)[1])
        w.say(
            "So {hero} [spent the days {how}|passed the time {how}|went on {how}], and gave"
            " the seed [a cup of water|some water] every evening.",
            "{Hero~} made a mark on the [wall|fence|door] for every day, and [watered the seed"
            " every evening|told the seed a story every night].",
            "Every evening {hero.he} [carried out a cup of water|watered it], said good night to it"
            " and [went inside|did not look too closely].",
        )
    w.say(
        "[One rainy morning|On the tenth day|After two weeks|One Sunday|When {hero.he} had"
        " almost forgotten it], a [tiny|small|pale|bright] green [tip|leaf|point] [came out of|stood in|looked out of] the"
        " [earth|ground].",
        "Then, after [a warm night|a long rain], [something green|a green tip|a small leaf] [looked out of|broke through|pushed through]"
        " the earth.",
    )
    if w.spare(0.35, 1):
        feel_glad(w)
    w.say(
        "[By summer|In summer|When summer came], the {plant} [stood there|was fully grown|had grown], {result}."
    )
    w.note("grow", "hero", plant)
    if w.spare(0.3):
        w.say(
            "{Hero} [kept|saved] one seed [of it|from it] for [the next spring|the year after|another year], [for somebody who could not"
            " wait|to give it to a friend]."
        )
    elif w.spare(0.6):
        learned(
            w,
            "good things need time",
            "some things grow best when nobody pulls at them",
            "waiting is a kind of helping",
            "one cannot hurry a seed",
        )


PLOTS = (
    too_much,
    patience,
)
