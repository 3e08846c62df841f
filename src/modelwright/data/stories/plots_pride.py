"""Plots about wanting to be first or to be admired."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import close
from modelwright.data.stories.moves import feel_glad
from modelwright.data.stories.opening import begin, begin_day
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
        "Everybody was talking about {race}, and {hero~} [wanted to take part|dreamed of winning].",
        "{Hero~} wanted to win {race}, [which was only a week away|although all the others were"
        " bigger].",
    )
    w.line(
        '"[Nobody can beat me|I will win again]!" said {friend}, who was [the fastest|the'
        " strongest] of all.",
        '"I will win, as always," said {friend}[, who had never lost|].',
        "{Friend}, who had never lost, only [laughed|smiled] about {hero.him}.",
    )
    w.cast_relative("elder")
    w.say(
        "So {hero} practiced every [day|morning] with {elder}, who taught {hero.him} to {secret}.",
        '"[The trick is to|You must] {secret}," said {elder}, and {hero} practiced it every'
        " [day|morning].",
        "{Elder} showed {hero} how to {secret}, and they practiced [until it was dark|in every free"
        " hour].",
    )
    w.paragraph()
    w.say(
        "On the great day, {friend} [took the lead|led from the start] and [was already"
        " smiling|looked very sure], until {friend.he} {fails}.",
        "[At last|Finally] the [great|big] day came, and {friend} was [far|well] ahead, but then"
        " {friend.he} {fails}.",
        "When [a horn blew|a drum rolled|the flag fell], everybody {ran} as [well|hard] as they"
        " could, but {friend}, who was in front, {fails}.",
        "[One, two, three, go|Ready, set, go]! {Friend} was in front, [waved to the crowd|turned to"
        " laugh], and {fails}.",
    )
    outcome = w.one(("win", "help", "follow"))
    if outcome == "win":
        w.say(
            "{Hero} [remembered|thought of] what {elder} had said, passed [one after another|them"
            " all] and was the first at the [finish|end]!",
            "{Hero} did just what {elder} had taught {hero.him}, and soon {hero.he} had passed"
            " [them all|one after another] and won.",
        )
        if w.spare(0.4):
            feel_glad(w)
        w.line(
            '"[You were better today|You have earned it|Well done]. Will you show me how you did'
            ' it?" {friend} asked {hero}[ and held out a {friend.hand}|].'
        )
    elif outcome == "help":
        w.say(
            "{Hero} could have won now, but {hero.he} [stopped|turned back] and helped {friend}"
            " [first|up], and others passed them both.",
            "Now the way to the prize was free, but {hero} [stopped|turned back] and helped"
            " {friend} up.",
        )
        w.line(
            '"[Why did you do that|But you could have won]?" asked {friend}.',
            "{Friend} could not [believe|understand] it.",
        )
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
            "{Hero~} was [a little sad|not sad at all], because {hero.he} had never been so"
            " [good|quick] before.",
            "But {hero.he} had [done better than ever|beaten {hero.his} own best], and [that made"
            " {hero.him} proud|that was what counted].",
        )
        w.line('"Next year we will practice together," said {friend}.')
    w.note(outcome, "hero")
    close(w, *_CONTEST_LESSONS[outcome])


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
    w.keep_short()
    boasts = tuple(b for b in _BOASTS if "goat" not in b[0]) if w.talking_animals else _BOASTS
    claim, failure, lesson = w.one(boasts)
    w.words(claim=claim, failure=failure, lesson=lesson)
    begin(w, w.one(places_with(w.kind)))
    w.cast_friend("friend")
    w.line(
        '"[Nobody is like me|Look at me|I am the greatest|Guess what|You will not believe it], I'
        ' can {claim}!" said {hero} to {friend}.',
        '"I can {claim}. [It is easy|I do it every day|You will be surprised]," {hero} told'
        " {friend}[, who was there with some others|].",
        "There {hero.he} [met|saw] {friend} and [said|boasted|claimed|told everybody] that {hero.he} could {claim}.",
    )
    if w.spare(0.6):
        w.line(
            '"[Really|Can you|Is that true]? [Show us|Then show us|I want to see that]!" said {friend}.',
            "{Friend} [called the others|called everybody together] and [wanted to see it|asked for a show|said that they would all watch].",
        )
    w.say(
        "{Hero~} [swallowed|scratched one ear], because {hero.he} had never [done|tried] it before, but"
        " everybody was [looking|waiting].",
        "{Hero} [had never done it before|felt a little hot|wanted to run away], but now {hero.he} had to [try|show it].",
        "[Now there was no way back|It was too late to stop][, and {hero} knew it|, although {hero.his} knees shook|].",
    )
    w.say(
        "{Hero.he} [tried|began|started] with [a proud face|a loud shout|a big smile|a deep bow], but {hero.he} {failure}."
    )
    w.note("fail", "hero")
    w.paragraph()
    kind = w.maybe(0.5)
    w.words(answer="We learned it together" if kind else "I had a good teacher")
    w.say(
        "Somebody [giggled|coughed|smiled], then another, and soon [they were all laughing|the whole crowd was"
        " laughing].",
        "[For a moment|First] nobody said a word, but then everybody [laughed|had to laugh|burst out laughing], and"
        " {hero} [turned red|wanted to [sink into the ground|hide|run home]].",
        "{Hero.his} [face|ears] turned [hot|red], and {hero.he} [looked at the ground|wished to be far away|did not know"
        " where to look].",
    )
    if kind:
        w.line(
            '"[I could not do it either|I cannot do it either]. [Let us practice together|We will'
            ' learn it together]," said {friend}[ kindly|].',
            '"[Come|Never mind], [let us practice together|we will learn it together]," said'
            " {friend}[, who could not do it either|].",
        )
    else:
        w.cast_neighbour("helper")
        w.line(
            '"[I was like you once|Everybody starts small]. [Shall I show you how it is done|Do you'
            ' want to know the trick]?" asked {helper}, who had [seen|watched] it all.'
        )
        w.telling.met("helper")
    w.say(
        "{Hero} learned to {lesson}, and [after many days|after a week|after two weeks] {hero.he}"
        " could [do it|really do it|do it with ease].",
        "One had to {lesson}, it turned out, and [many days later|in the end] {hero} could"
        " [do it|really do it].",
    )
    w.say(
        "Now that it was true, {hero.he} [had no need to shout about it|felt no wish to boast|kept quiet about it and"
        " only smiled].",
        "This time {hero.he} did not [boast|talk] about it but simply [did it|showed it], [once and well|with a smile|again and again], and"
        " everybody clapped.",
        'And when somebody asked, {hero.he} only said, "{answer}."',
    )
    close(
        w,
        "doing is better than boasting",
        "it is no shame to learn",
        "big words need big work",
        "a true thing needs no loud voice",
    )


PLOTS = (
    contest,
    boasting,
)
