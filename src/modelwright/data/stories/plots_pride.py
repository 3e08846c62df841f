"""Plots about wanting too much: to win, to be admired, to have it all, to have it now."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import go_home, learned
from modelwright.data.stories.moves import feel_glad, feel_sad
from modelwright.data.stories.opening import begin, begin_day, introduce_hero
from modelwright.data.stories.opening_words import HABITS
from modelwright.data.stories.places import places_with
from modelwright.data.stories.world import World

_CONTESTS = (
    ("a race around the pond", "ran", "stumbled over a root and fell", "run with a calm breath"),
    ("a race up the hill", "ran", "had no breath left and had to sit down", "go slowly at first"),
    ("a swimming race", "swam", "swallowed water and had to stop", "breathe between the strokes"),
    ("a kite contest", "flew", "let out too much string, so that the kite fell", "feel the wind in the string"),
    ("a sack race", "hopped", "jumped too far and fell flat", "make small hops"),
    ("an egg race with spoons", "went", "looked back and dropped the egg", "keep both eyes on the egg"),
    ("a boat race on the stream", "sailed", "got caught in the reeds", "look for the fast water"),
    ("a climbing contest", "climbed", "looked down and got stuck", "test every branch first"),
)  # fmt: skip


_CONTEST_LESSONS = {
    "win": ("practice helps more than boasting", "one should not laugh too early"),
    "help": ("being first is not everything", "a friend is worth more than a prize"),
    "follow": ("being better than before is also a prize", "practice is never for nothing"),
}


def contest(w: World) -> None:
    """A contest with practice, a mishap of the one in front, and a choice: win or help."""
    w.cast_hero()
    race, past, fails, secret = w.one(_CONTESTS)
    w.words(race=race, ran=past, fails=fails, secret=secret)
    begin_day(w)
    w.cast_friend("friend")
    w.say(
        "In [three days|a week] there would be {race}, and {hero~} [wanted to take part|could"
        " think of nothing else].",
        "Everybody was talking about {race} [on the next day|that was to come].",
    )
    w.say(
        '{Friend} was [the fastest|the strongest] of all and [laughed|smiled]. "[Nobody can beat'
        ' me|I will win again]!"',
        '"I will win, as always," said {friend}[, who had never lost|].',
    )
    w.cast_relative("elder")
    w.say(
        "So {hero} practiced every [day|morning] with {elder}, who taught {hero.him} to {secret}.",
        '{Elder} helped {hero} to practice. "[The trick is to|You must] {secret}," {elder.he}'
        " said.",
    )
    w.paragraph()
    w.say(
        "On the great day, [flags were hanging everywhere|the whole place was full]. [A horn"
        " blew|A drum rolled], and they [were off|all began].",
        "[At last|Finally] the [great|big] day came. Everybody {ran} as [well|hard] as they could.",
        "Then the day was there. [One, two, three, go|Ready, set, go]!",
    )
    w.say(
        "{Friend} [took the lead|led from the start] and [was already smiling|looked very sure]."
        " Then it happened: {friend.he} {fails}.",
        "At first {friend} was [far|well] ahead. But then {friend.he} {fails}.",
        "{Friend} was in front, [waved to the crowd|turned to laugh], and {fails}.",
    )
    outcome = w.one(("win", "help", "follow"))
    if outcome == "win":
        w.say(
            "{Hero} [remembered|thought of] what {elder} had said, and {hero.he} passed [one"
            " after another|them all]. {Hero.he} was the first at the [finish|end]!"
        )
        feel_glad(w)
        w.line(
            '"[You were better today|You have earned it|Well done]," said {friend}[ and held out'
            ' a {friend.hand}|]. "Will you show me how you did it?"'
        )
    elif outcome == "help":
        w.say(
            "{Hero} could have won now. But {hero.he} [stopped|turned back] and helped {friend}"
            " [first|up], and others passed them both."
        )
        w.line('"[Why did you do that|But you could have won]?" asked {friend}.')
        w.line(
            '"[Because you are my friend|Winning alone is no fun|You needed help]," said {hero}.'
        )
        w.say(
            "They came in last, {hero.hand} in {hero.hand}, and [nobody was cheered as loudly as"
            " they were|the crowd clapped the most for them]."
        )
    else:
        w.say(
            "{Hero} was [second|third] in the end, right behind somebody [nobody knew|who had"
            " practiced even more]."
        )
        w.say(
            "Was {hero.he} sad? Not [at all|for long]. {Hero.he} had [done better than"
            " ever|beaten {hero.his} own best].",
            "{Hero~} was [a little sad|not sad at all], because {hero.he} had never been so"
            " [good|quick] before.",
        )
        w.line('"Next year we will practice together," said {friend}.')
    w.note(outcome, "hero")
    if w.maybe(0.6):
        learned(w, *_CONTEST_LESSONS[outcome])
    else:
        go_home(w)


_BOASTS = (
    ("whistle louder than anybody", "only a thin hiss came out", "wet {hero.his} lips and blow softly first"),
    ("jump over the stream", "landed right in the middle with a splash", "take a longer run"),
    ("carry five baskets at the same time", "dropped all of them on the stairs", "carry two and go three times"),
    ("bake the best bread", "took a flat black stone out of the oven", "let the dough rest before baking"),
    ("swim across the pond", "came back after ten strokes, coughing", "practice near the bank"),
    ("climb the tallest tree", "was stuck on the second branch and had to be lifted down", "look for good branches first"),
    ("tame the wild goat", "ended up sitting in the mud", "wait quietly with some salt in one {hero.hand}"),
    ("stay awake all night", "was snoring before the moon was up", "sleep a little in the afternoon"),
    ("make the wheel turn faster than the wind", "got dizzy and fell over", "push it slowly and steadily"),
    ("catch a fish with bare {hero.hands}", "caught nothing but a wet sleeve", "stand still until the fish came near"),
)  # fmt: skip


def boasting(w: World) -> None:
    """A boast is put to the test and fails; help turns it into something true."""
    w.cast_hero()
    boasts = tuple(b for b in _BOASTS if "goat" not in b[0]) if w.talking_animals else _BOASTS
    claim, failure, lesson = w.one(boasts)
    w.words(claim=claim, failure=failure, lesson=lesson)
    begin(w, w.one(places_with(w.kind)))
    w.cast_friend("friend")
    w.say("{Friend} was there with some [others|of the others].", "There {hero.he} met {friend}.")
    w.line(
        '"[Nobody is like me|Look at me|I am the greatest|Guess what|You will not believe it],"'
        ' said {hero}. "I can {claim}!"',
        '"I can {claim}," said {hero}. "[It is easy|I do it every day|You will be surprised]."',
    )
    w.line(
        '"[Really|Can you|Is that true]?" asked {friend}. "[Show us|Then show us|I want to see'
        ' that]."'
    )
    w.say(
        "{Hero~} [swallowed|scratched one ear]. [It had sounded so easy|Why had {hero.he} said"
        " that]? But everybody was [looking|waiting].",
        "{Hero} [had never done it before|felt a little hot], but now {hero.he} had to try.",
        "Now there was no way back[, and {hero} knew it|].",
    )
    w.say("{Hero.he} [tried|began] with [a proud face|a loud shout], but {hero.he} {failure}.")
    w.note("fail", "hero")
    w.paragraph()
    kind = w.maybe(0.5)
    w.words(answer="We learned it together" if kind else "I had a good teacher")
    w.say(
        "Somebody giggled, then another, and soon [they were all laughing|the whole crowd was"
        " laughing]. {Hero~} [looked at the ground|did not know where to look].",
        "[For a moment|First] nobody said a word. Then everybody [laughed|had to laugh], and"
        " {hero} [turned red|wanted to sink into the ground].",
        "{Hero.his} [face|ears] turned [hot|red].",
    )
    if kind:
        w.line(
            '"[I could not do it either|I cannot do it either]," said {friend}[ kindly|]. "[Let'
            ' us practice together.|Shall we learn it together?]"'
        )
    else:
        w.cast_neighbour("helper")
        w.say("{Helper} had [seen|watched] it all and [did not laugh|came closer].")
        w.telling.met("helper")
        w.line(
            '"[I was like you once|Everybody starts small]," said {helper}. "[Shall I show you'
            ' how it is done|Do you want to know the trick]?"'
        )
    w.say(
        "{Hero} learned that one had to {lesson}. It took [many days|a whole week|two weeks],"
        " but in the end {hero.he} could [do it|really do it].",
    )
    w.say(
        "Now that it was true, {hero.he} [had no need to shout about it|kept quiet about it and"
        " only smiled].",
        "This time {hero.he} did not [boast|talk] about it. {Hero.he} simply [did it|showed it],"
        " and everybody clapped.",
        'And when somebody asked, {hero.he} only said, "{answer}."',
    )
    if w.maybe(0.5):
        learned(
            w,
            "doing is better than boasting",
            "it is no shame to learn",
            "big words need big work",
            "a true thing needs no loud voice",
        )
    else:
        go_home(w)


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
        "{Hero~} and {elder} [found|discovered] {goods} {where}.",
        "Never before had {hero} seen so {many} {goods} as {where}, and {elder} [came"
        " along|showed {hero.him} the way].",
    )
    w.line(
        '"[Take only what you need|We should not take too {many}|Let us take some and come back'
        ' tomorrow]," said {elder}. "{Advice}."'
    )
    w.line('"[But I want everything|I want more|More is better]!" said {hero}.')
    w.say(
        "{Hero~} took more and more[, and did not listen|].",
        "{Elder} took [a little|only what was needed]. {Hero} [could not stop|wanted every last"
        " bit].",
    )
    w.note("greed", "hero", goods)
    w.paragraph()
    w.say(
        "But [then|suddenly|a moment later], {cost}.",
        "It went well [for a while|at first]. Then {cost}.",
    )
    feel_sad(w)
    w.say(
        "All that {hero} had now was {left}.",
        "In the end there was {left} for {hero}, and no more.",
    )
    if w.maybe(0.7):
        w.say(
            "{Elder} [did not laugh|said nothing]. {Elder.he} [sat down beside {hero}|came"
            " closer] and [gave {hero.him} half of {elder.his} share|shared with {hero.him} what"
            " {elder.he} had].",
            "{Elder} still had [enough|plenty], and gave {hero} some of it.",
        )
        w.line('"Next time [I will listen to you|I will take less]," said {hero}.')
    if w.maybe(0.7):
        learned(
            w,
            "too much can be less than enough",
            "who wants everything may end with nothing",
            "good advice is worth more than a full bag",
            "enough is as good as a feast",
        )
    else:
        if goods not in ("cookies", "honey"):
            w.say(
                "The next day {hero~} [went there again|came back] with a [small|little] bag, and"
                " this time it was just [right|enough]."
            )
        else:
            go_home(w)


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
    plant, result = w.one(_PLANTS)
    w.words(plant=plant, result=result)
    introduce_hero(w)
    if w.maybe(0.6):
        w.cast_relative("elder")
    else:
        w.cast_neighbour("elder")
    w.paragraph()
    w.say(
        'In spring, {elder} gave {hero~} a [tiny|small|little] seed. "[It will be|One day it'
        ' will be] a {plant}," {elder.he} said.',
        "One [fine|cool] spring day, {hero~} got a [small|tiny|brown] seed from {elder}. It was"
        " the seed of a {plant}.",
    )
    w.say(
        "{Hero~} chose a [sunny|quiet|good] spot [by the wall|near the gate|between two stones],"
        " loosened the earth and [tucked the seed in like a child|gave the seed a place to"
        " sleep].",
        "{Hero~} [made|dug] a hole [behind the house|near the fence|in a pot], [put|laid] the"
        " seed in and [watered it|gave it water].",
        "{Hero~} pushed it into the [soft|dark] earth, just as deep as one {hero.hand}, and"
        " [watered it|gave it water].",
    )
    w.say(
        "{Hero~} lay down next to it [for an hour|the whole afternoon] and [watched|waited], but"
        " the earth did not even [move|crack].",
        "[Three|Four] days went by. The earth [stayed brown and bare|looked just as before].",
        "[The next morning|On the second day], {hero~} [ran out to look|looked at once]. There"
        " was nothing [but earth|to see].",
        "Every [hour|morning] {hero~} went to look, but nothing happened.",
    )
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
            "{Hero~} thought that it was too dark for the seed down there, and {hero.he} [took"
            " it out|laid it on the window sill], and it [dried up|was eaten by a bird].",
            "But {hero~} could not wait. {Hero.he} dug the seed up to look, and its [thin|tiny]"
            " white root broke.",
            "{Hero} wanted to help. {Hero.he} [poured on|gave it] so much water that the seed"
            " swam away.",
            "{Hero} pulled at the first green tip to make it grow faster, and it came out of the"
            " ground.",
        )
        w.note("spoil", "hero", plant)
        feel_sad(w)
        w.say(
            "{Elder} had [one more seed|a second seed]. This time {hero} [only gave it"
            " water|left it in peace], and [counted the days|waited]."
        )
    else:
        w.words(how=w.one(HABITS)[1])
        w.say(
            "So {hero} waited. To make the time pass, {hero.he} spent the days {how}, and gave"
            " the seed [a cup of water|some water] every evening.",
            "{Hero~} made a mark on the [wall|fence|door] for every day, and [watered the seed"
            " every evening|told the seed a story every night].",
            "{Hero~} decided to think of other things. Every evening {hero.he} [carried out a"
            " cup of water|watered it], said good night to it and [went inside|did not look too"
            " closely].",
        )
    w.say(
        "[One rainy morning|On the tenth day|After two weeks|One Sunday|When {hero.he} had"
        " almost forgotten it], a [tiny|small|pale|bright] green tip came out of the"
        " [earth|ground].",
        "Then, after [a warm night|a long rain], something green [looked out of|broke through]"
        " the earth.",
    )
    feel_glad(w)
    w.say("[By summer|In summer|When summer came], the {plant} stood there, {result}.")
    w.note("grow", "hero", plant)
    if w.maybe(0.6):
        learned(
            w,
            "good things need time",
            "some things grow best when nobody pulls at them",
            "waiting is a kind of helping",
            "one cannot hurry a seed",
        )
    else:
        w.say(
            "{Hero} [kept|saved] one seed of it for the next spring, [for somebody who could not"
            " wait|to give it to a friend]."
        )


PLOTS = (
    contest,
    boasting,
    too_much,
    patience,
)
