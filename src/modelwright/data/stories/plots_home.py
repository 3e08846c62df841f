"""Plots at home: a meal that lacks something, and a gift made in secret."""

from __future__ import annotations

from modelwright.data.stories.closing import go_home, learned
from modelwright.data.stories.moves import feel_sad
from modelwright.data.stories.opening import begin_day, introduce_hero
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
        "It was {guest.'s} birthday. {Hero} and {elder} wanted to surprise {guest.him} with"
        " {dish}.",
        "{Hero~} was hungry for {dish}, and {elder} [put on an apron|said that {hero.he} could"
        " help].",
    )
    w.say(
        "They [set everything on the table|got out the bowls]. But one thing [was missing|could"
        " not be found]: {missing}.",
        '"[Oh no|Oh dear]," said {elder}. "We have no {missing}[ in the house|]."',
    )
    w.paragraph()
    way = w.one(("borrow", "replace", "both"))
    if way in ("borrow", "both"):
        w.cast_neighbour("lender")
        w.say(
            "{Hero} took a [cup|basket|bowl] and [ran|went] to {lender} next door.",
            "So {hero} knocked at the door of {lender}.",
        )
        w.line(
            '"[Good day|Excuse me]," said {hero}. "[Could you lend us some|May we have some|Do'
            ' you have any] {missing}[ for {dish}|, please|]?"'
        )
    if way == "borrow":
        w.line(
            '"[Gladly|Take as much as you need|I have plenty]," said {lender}. "[But I want to'
            ' taste it|Save a bite for me|I can smell it already]."'
        )
        w.say(
            "{Hero} [carried|brought] the {missing} home [very carefully|like a treasure][ and"
            " did not lose any|]."
        )
        last = "missing"
    else:
        if way == "both":
            w.line(
                '"[I am sorry|Oh dear], I have none myself," said {lender}. "But [why not try it'
                ' with|have you thought of] {instead}?"'
            )
        else:
            w.say("{Hero} looked [through the pantry|on every shelf] and found {instead}.")
            w.line('"[Could we take|What if we take] {instead} instead?" asked {hero}.')
        w.say(
            '{Elder} [had never tried that|frowned]. "[Well, why not|We will see|That might'
            ' work]," {elder.he} said.'
        )
        last = "instead"
    w.say(
        "They [stirred|mixed] and [tasted|cooked], and soon the whole house smelled"
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
        "When it was on the table, [nobody said a word, because everybody was eating|even the"
        " last crumb was eaten].",
    )
    if last == "missing":
        w.say(
            "And {hero} brought a [big|full] plate to {lender}, [while it was still warm|to say"
            " thank you]."
        )
    else:
        w.say("From then on, they [always made it with {instead}|called it the dish of {hero}].")
    if w.maybe(0.5):
        learned(
            w,
            "good neighbors are worth more than a full pantry"
            if last == "missing"
            else "a mistake can be the start of something new",
            "something good can be made out of what is there"
            if last == "instead"
            else "borrowing and giving belong together",
        )
    else:
        go_home(w)


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
    gift, work, hideout = w.one(_HANDMADE)
    w.bind("gift", {"": gift, "the": "the " + gift.partition(" ")[2]})
    w.words(work=work, hideout=hideout)
    introduce_hero(w)
    w.cast_relative("elder")
    w.paragraph()
    w.say(
        "{Elder} had a birthday coming, and {hero~} [emptied {hero.his} pockets|counted"
        " {hero.his} coins]: [two|three|five] pennies. So it had to be something made by"
        " {hero.hand}: {gift}.",
        "[Soon|In a few days] {elder} would be a year older. What could {hero~} give"
        " {elder.him}? {Gift}, that was it!",
        "In [a week|ten days|two weeks], it would be {elder.'s} birthday. {Hero~} had no money,"
        " but {hero.he} had an idea: {gift}!",
        "{Hero~} wanted to give {elder} something [special|very special] for {elder.his}"
        " birthday. It was to be {gift}.",
    )
    w.say(
        "It was not [easy|quick]. {Hero~} {work}[ until {hero.his} eyes were tired|, a little"
        " every day], and [each time|afterward] {hero.he} put it {hideout}.",
        "Every [evening|day after lunch|morning before breakfast], {hero~} {work} [in"
        " secret|behind the closed door|when nobody was looking], and then hid everything"
        " {hideout}.",
        "[Day after day|Night after night], {hero~} {work}. The rest of the time, it lay hidden"
        " {hideout}.",
    )
    w.paragraph()
    trouble = w.one(("found", "asked", "ruined"))
    if trouble == "found":
        w.say(
            "[One day|Then, one afternoon], {elder} [wanted to clean up|was looking for"
            " something] and came very close to the hiding place."
        )
        w.line(
            '"[Wait|Stop]!" cried {hero}. "[There is a spider in there|I will do that for you]!"'
        )
        w.say(
            "{Elder} was [surprised|puzzled], but {elder.he} [let {hero.him} do it|went away]."
            " [That was close|It had been close]!"
        )
    elif trouble == "asked":
        w.line(
            '"[What are you doing all the time|Why is your door always closed|Why are your'
            ' {hero.hands} so dirty]?" asked {elder} [one day|at supper].'
        )
        w.line(
            '"[Nothing|Oh, nothing]," said {hero} and turned [red|pink]. "I am [practicing'
            ' something|learning something]."'
        )
        w.say(
            "It was hard to say no more. [A secret wants to jump out|The secret tickled in"
            " {hero.his} mouth|A secret is like a frog in a pocket].",
            "{Elder} [raised {elder.his} eyebrows|smiled a little] and asked [nothing more|no"
            " further].",
        )
    else:
        w.say(
            "[Then|But two days before], {hero} [spilled a cup of milk|sneezed too"
            " hard|stumbled], and a part of it was spoiled."
        )
        feel_sad(w)
        w.say(
            "But there was still a little time. {Hero~} got up [early|at night] and made it"
            " again, [even better than before|with more care]."
        )
    w.note("make", "hero", gift)
    w.say(
        "[At last|Finally] the birthday came. {Hero~} [put|laid] the gift next to {elder.'s}"
        " [cup|plate|pillow|hat] and [waited|held {hero.his} breath|hid behind the door].",
        "On the morning of the birthday, {hero~} held {gift.the} behind {hero.his} back."
        ' "[Guess|Close your eyes]," {hero.he} said.',
    )
    w.say(
        "{Elder} [looked at it for a long time|did not know what to say]. Then {elder.he}"
        " [hugged {hero.him}|had tears in {elder.his} eyes].",
        '"[You made this yourself|This is the best present of all|So that was your secret]!"'
        " said {elder}.",
    )
    w.note("present", "hero", gift)
    w.say(
        "Years later, {elder} still [had it|kept it] [close by|in the best place of the house].",
        '"[Next year|For the next birthday]," thought {hero}, "I will [start earlier|make two of'
        ' them]."',
        "{Gift.the} had a place of honor from that day on.",
        "And {hero}? {Hero.he} was even happier than {elder}.",
        "After that, {elder} showed it to everybody who [came|visited].",
    )
    if w.maybe(0.35):
        learned(
            w,
            "time and love make the best presents",
            "keeping a happy secret is hard and sweet",
            "giving can be nicer than getting",
        )


PLOTS = (
    missing_ingredient,
    secret_gift,
)
