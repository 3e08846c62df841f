"""Plots at home: a meal that lacks something, a gift made in secret, somebody new next door."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import close, learned
from modelwright.data.stories.moves import feel_sad
from modelwright.data.stories.opening import begin_day, introduce_hero
from modelwright.data.stories.things import TOYS
from modelwright.data.stories.world import World

_DISHES = (
    ("pancakes", "eggs", "sour milk"), ("an apple pie", "sugar", "honey"),
    ("vegetable soup", "carrots", "sweet pumpkin"), ("a birthday cake", "butter", "cream"),
    ("bread", "yeast", "a spoon of old dough"), ("plum jam", "plums", "ripe pears"),
    ("noodles with sauce", "tomatoes", "red peppers"), ("a nut cake", "nuts", "sunflower seeds"),
    ("hot chocolate", "milk", "cream and water"), ("potato salad", "potatoes", "white beans"),
    ("porridge", "oats", "wheat"), ("berry pudding", "strawberries", "blueberries"),
)  # fmt: skip


def missing_ingredient(w: World) -> None:
    """Something is to be cooked and one thing is missing: it is borrowed or replaced."""
    w.cast_hero()
    dish, missing, instead = w.one(_DISHES)
    w.words(dish=dish, missing=missing, instead=instead)
    begin_day(w)
    w.cast_relative("elder")
    w.cast_relative("guest")
    w.say(
        "{Guest} was coming to visit, and {hero~} and {elder} wanted to make {dish}.",
        "It was {guest.'s} birthday, and {hero} and {elder} wanted to surprise {guest.him} with"
        " {dish}.",
        "One day, {hero~} and {elder} wanted to make {dish} for {guest}.",
    )
    w.say(
        "They [set everything on the table|got out the bowls|lit the stove|read the recipe twice], but [one|the most important] thing [was missing|could"
        " not be found]: {missing}.",
        '"[Oh no|Oh dear], we have no {missing}[ in the house|]," said {elder}.',
    )
    w.paragraph()
    way = w.one(("borrow", "replace", "both"))
    if way in ("borrow", "both"):
        w.cast_neighbour("lender")
        w.line(
            "{Hero} took a [cup|basket|bowl], [ran|went] to {lender} next door and asked for [some|a little]"
            " {missing}.",
            'So {hero} knocked at the door of {lender} and asked, "[Could you lend us some|May we'
            ' have some|Do you have any] {missing}[ for {dish}|, please|]?"',
        )
    if way == "borrow":
        w.line(
            '"[Gladly|Take as much as you need|I have plenty]! [But I want to taste it|Save a bite'
            ' for me|I can smell it already]," said {lender}.'
        )
        if w.spare(0.4):
            w.say(
                "{Hero} [carried|brought] the {missing} home [very carefully|like a treasure]["
                " and did not lose any|]."
            )
        last = "missing"
    else:
        if way == "both":
            w.line(
                '"[I am sorry|Oh dear], I have none myself, but [why not try it with|have you'
                ' thought of] {instead}?" said {lender}.'
            )
        else:
            w.say(
                "{Hero} looked [through the pantry|on every shelf] and found {instead}.",
                '"[Could we take|What if we take] {instead} instead?" asked {hero}, who had looked'
                " [through the pantry|on every shelf].",
            )
        w.line(
            '"[Well, why not|We will see|That might work]," said {elder}, who had never tried that.',
            "{Elder} [frowned|had never tried that], but {elder.he} [nodded|took it] in the end.",
        )
        last = "instead"
    w.say(
        "They [stirred|mixed|chopped] and [tasted|cooked|sang], and [soon|before long] the [whole house|kitchen|house] smelled"
        " [wonderful|good].",
        "{Hero} was allowed to stir, and {hero.he} [got flour in {hero.his} {hero.hair}|licked"
        " the spoon].",
    )
    w.note("cook", "hero", dish)
    w.say(
        "{Guest} [took a second helping|ate three plates|closed {guest.his} eyes at the first"
        " bite].",
        '"[What is in it|How did you make this]?" asked {guest} [after the first bite|with a'
        " full mouth].",
        "When {guest} tasted it, [there was not a word, only chewing|{guest.he} wanted more and"
        " more].",
    )
    if last == "missing":
        w.say(
            "And {hero} brought a [big|full] plate to {lender}, [while it was still warm|to say"
            " thank you]."
        )
    elif w.spare(0.6):
        w.say("From then on, they [always made it with {instead}|called it the dish of {hero}].")
    close(
        w,
        "good neighbors are worth more than a full pantry"
        if last == "missing"
        else "a mistake can be the start of something new",
        "something good can be made out of what is there"
        if last == "instead"
        else "borrowing and giving belong together",
    )


_HANDMADE = (
    ("a picture of the whole family", "drew and colored", "under the bed"),
    ("a warm hat", "knitted loop by loop", "in an old boot"),
    ("a box covered with shells", "glued shell after shell", "behind the firewood"),
    ("a book about a brave snail", "wrote and drew", "under a loose board"),
    ("a necklace of painted beads", "painted bead after bead", "in a flower pot"),
    ("a wooden spoon with a flower on it", "carved and sanded", "behind the clock"),
    ("a pillow with an embroidered star", "sewed and stuffed", "in the laundry basket"),
    ("a song with five verses", "wrote and practiced", "in a notebook"),
    ("a bird made of clay", "shaped and painted", "on top of the wardrobe"),
)


def secret_gift(w: World) -> None:
    """A gift is made in secret, nearly found out, saved by a trick, and given."""
    w.cast_hero()
    w.keep_short()
    gift, work, hideout = w.one(_HANDMADE)
    w.bind("gift", {"": gift, "the": "the " + gift.partition(" ")[2]})
    w.words(work=work, hideout=hideout)
    introduce_hero(w)
    w.cast_relative("elder")
    w.paragraph()
    w.say(
        "{Elder} had a birthday [coming|in a few days|soon], but {hero~} had only [two|three|five] pennies, so it had"
        " to be something made by {hero.hand}: {gift}.",
        "[Soon|In a few days] {elder} [would be|was going to be] a year older, and {hero~} wanted to make"
        " {elder.him} {gift}.",
        "In [a week|ten days|two weeks], it would be {elder.'s} birthday, and {hero~} had no money,"
        " but {hero.he} had an idea: {gift}!",
        "{Hero~} wanted to give {elder} something [special|very special] for {elder.his}"
        " birthday, and it was to be {gift}.",
    )
    w.say(
        "{Hero~} {work}[ until {hero.his} eyes were tired|, a little every day], and [each"
        " time|afterward] {hero.he} put it {hideout}.",
        "Every [evening|day after lunch|morning before breakfast], {hero~} {work} [in"
        " secret|behind the closed door|when nobody was looking], and then hid everything"
        " {hideout}.",
        "[Day after day|Night after night], {hero~} {work}, and [the rest of the time|in between|by day], it lay hidden"
        " {hideout}.",
    )
    w.paragraph()
    trouble = w.one(("found", "asked", "ruined"))
    if trouble == "found":
        w.say(
            "[One day|Then, one afternoon], {elder} [wanted to clean up|was looking for"
            " something] and came [very|much too] close to the [hiding place|secret|gift]."
        )
        w.line('"[Wait|Stop]! [There is a spider in there|I will do that for you]!" cried {hero}.')
        w.say("{Elder} was [surprised|puzzled], but {elder.he} [let {hero.him} do it|went away].")
    elif trouble == "asked":
        w.line(
            '"[What are you doing all the time|Why is your door always closed|Why are your'
            ' {hero.hands} so dirty]?" asked {elder} [one day|at supper].'
        )
        w.line(
            '"[Nothing|Oh, nothing]. I am [practicing something|learning something]," said {hero}'
            " and turned [red|pink]."
        )
        if w.spare(0.5):
            w.say(
                "It was hard to say no more, because [a secret wants to jump out|the secret tickled"
                " in {hero.his} mouth|a secret is like a frog in a pocket].",
                "{Elder} [raised {elder.his} eyebrows|smiled a little] and asked [nothing more|no"
                " further].",
            )
    else:
        w.say(
            "[Then|But two days before], {hero} [spilled a cup of milk|sneezed too"
            " hard|stumbled], and [a part|half] of it was [spoiled|ruined]."
        )
        if w.spare(0.5):
            feel_sad(w)
        w.say(
            "But there was still [a little time|one night left|a day or two], so {hero~} got up [early|at night] and made it"
            " again, [even better than before|with more care]."
        )
    w.note("make", "hero", gift)
    w.line(
        "[At last|Finally] the birthday came, and {hero~} [put|laid] the [gift|present|little packet] next to {elder.'s}"
        " [cup|plate|pillow|hat] and [waited|held {hero.his} breath|hid behind the door].",
        '"[Guess|Close your eyes]," said {hero} [on the morning of the birthday|on the great day|that morning] and held {gift.the}'
        " behind {hero.his} back.",
    )
    w.line(
        "{Elder} [looked at it for a long time|did not know what to say|turned it around and around|was quiet for a moment], and then {elder.he}"
        " [hugged {hero.him}|had tears in {elder.his} eyes].",
        '"[You made this yourself|This is the best present of all|So that was your secret]!"'
        " said {elder}.",
    )
    w.note("present", "hero", gift)
    if w.spare(0.6):
        w.say(
            "Years later, {elder} still [had it|kept it] [close by|in the best place of the house].",
            '"[Next year|For the next birthday]," thought {hero}, "I will [start earlier|make two'
            ' of them]."',
            "{Gift.the} had a [place of honor|special place|place on the wall] from that day on.",
            "And {hero} was even happier than {elder}.",
            "After that, {elder} showed it to everybody who [came|visited].",
        )
    elif w.spare(0.6):
        learned(
            w,
            "time and love make the best presents",
            "keeping a happy secret is hard and sweet",
            "giving can be nicer than getting",
        )


def newcomer(w: World) -> None:
    """Somebody new and shy; the same liking makes two strangers friends."""
    w.cast_hero()
    introduce_hero(w)
    w.cast_friend("friend")
    w.telling.met("friend")
    w.make("thing", w.one(TOYS))
    w.paragraph()
    w.say(
        "One [day|morning], a new family moved into the [empty|old] house next door, with"
        " {friend.a} named {friend.name}.",
        "{Friend.a}, {friend.name}, had [just|only just] come to live [nearby|next door|across the road], and knew nobody.",
        "There was somebody new [on the road|nearby], {friend.a} called {friend.name}.",
    )
    w.say(
        "{Friend} was so shy that {friend.he} [hid behind the fence|never said a word|looked"
        " away] when {hero} came by.",
        "{Hero} said hello, but {friend} [ran inside|turned red and looked down].",
        "{Hero} waved, but {friend} [only looked|did not wave back] and [ran off|closed the door].",
    )
    if w.spare(0.6):
        w.line(
            '"[Maybe {friend.he} does not like me|I think {friend.he} does not want to'
            ' play|{Friend.he} must be angry with me]," thought {hero}.',
            "{Hero} [thought|was afraid] that {friend} did not [like {hero.him}|want to play].",
        )
    w.paragraph()
    way = w.one(("thing", "gift", "help"))
    w.telling.met("thing")
    if way == "thing":
        w.take("hero", "thing")
        w.say(
            "[But one day|Then, one afternoon], {hero} was outside, {thing.using}, when {hero.he}"
            " [heard|saw] something behind the fence."
        )
        w.say(
            "{Friend} was watching, with {thing.one} of {friend.his} own!",
            "It was {friend}, and {friend.he} held {thing.one} too!",
        )
        w.line(
            '"You have one too! [Do you want to play with me|Shall we play together]?" said {hero}.'
        )
        w.line(
            '"[Yes, please|I would love to]," said {friend}, and it was the first thing {friend.he}'
            " had ever said to {hero.him}."
        )
    elif way == "gift":
        w.take("hero", "thing")
        w.say(
            "So {hero} [left|put] {thing.a} in front of {friend.his} door, with a [note|card]:"
            ' "From your neighbor {hero.name}."'
        )
        w.say(
            "The next [day|morning], there was a [drawing|small cake|chain of flowers] in front"
            ' of {hero.his} own door: "From {friend.name}. [Thank you.|Will you play with me?]"'
        )
        w.give("hero", "thing", "friend")
    else:
        w.say(
            "Then [a storm|a strong wind] came and blew [the washing|all the papers] of the new"
            " family over the [road|fields]."
        )
        w.say(
            "{Hero} ran out and [helped to catch it all|picked up everything with them], and"
            " {friend} [ran beside {hero.him}|smiled for the first time].",
            "{Hero} and {friend} ran after it, and both of them [laughed until they could not run"
            " any more|ended up in the same hedge, laughing].",
        )
    w.say(
        "From that day on, they [played together every day|were friends].",
        "It turned out that {friend} also loved to {habit}[, and they did it together|].",
        "Soon the two were [never seen apart|the best of friends].",
    )
    w.note("befriend", "hero", "friend")
    close(
        w,
        "being shy is not the same as being unkind",
        "somebody has to take the first step",
        "a stranger may be a friend one does not know yet",
    )


PLOTS = (
    missing_ingredient,
    secret_gift,
    newcomer,
)
