"""Closings: how a day ends, and what somebody keeps from it."""

from __future__ import annotations

from collections.abc import Callable

from modelwright.data.stories.world import World

_SUPPERS = (
    "soup", "pancakes", "bread and cheese", "potatoes", "noodles", "fried eggs", "porridge",
    "warm rolls", "corn on the cob", "beans", "carrots with butter", "rice", "mushroom pie",
    "baked apples", "a big salad", "pumpkin soup", "dumplings", "toast with honey",
)  # fmt: skip
_LAST_SIGHTS = (
    "the moon came up over [the roofs|the trees|the hill]",
    "the first stars [came out|were shining]",
    "a cricket sang [under the window|in the grass]",
    "an owl called [from the woods|far away]",
    "the fire [crackled|burned low]",
    "the rain tapped [softly|gently] on the roof",
    "the wind went to sleep",
    "somebody [hummed|sang] a song in the next room",
    "the lamp [was turned down|burned with a small flame]",
    "the frogs [sang|croaked] in the distance",
)


def go_home(w: World) -> None:
    """The hero goes home, as the last thing of the day, where a sentence is left for it."""
    if w.left < 1:
        return
    w.until("evening")
    way = w.one(("supper", "bed", "plain"))
    if way == "supper":
        first, second = w.some(_SUPPERS, 2)
        w.bind("supper", {"": first, "second": second})
        w.say(
            "For supper they had {supper}[ and {supper.second}|], and {hero~}"
            " [ate for two|told the whole story|had much to tell].",
            "That evening, over {supper}, {hero~} [told the whole family about it"
            "|told everything from the beginning].",
            "At home they had {supper}, and {hero~} [fell asleep at the table|ate three helpings"
            "|was almost too tired to eat].",
            "{Hero} came home [hungry and happy|just in time for supper], and there was a plate of"
            " {supper} for {hero.him}.",
        )
    elif way == "bed":
        w.words(sight=w.one(_LAST_SIGHTS))
        w.say(
            "That night, while {sight}, {hero~} [lay awake for a while|smiled in the dark"
            "|thought of it all once more].",
            "{Hero~} went to bed early, while {sight}.",
            "In the evening, {sight}, and {hero~} was [tired and content|happy with the day].",
        )
    else:
        w.say(
            "When the sun went down, {hero} walked home [with a light heart|singing"
            "|very slowly, because it had been such a good day].",
            "That night, {hero} [slept well|fell asleep with a smile|dreamed of it].",
            "{Hero} went home [tired but happy|full of joy] and slept soundly that night.",
            "On the way home, {hero~} [hummed a little tune|kept smiling"
            "|told every bird about it|skipped over every stone].",
        )


def learned(w: World, *lessons: str) -> None:
    """What the hero knows from now on; each lesson follows "that".

    It is told where a sentence is left for it.
    """
    if w.left < 1:
        return
    w.words(lesson=w.one(lessons))
    w.say(
        "[From that day on|After that|Since then], {hero~} [knew|never forgot] that {lesson}.",
        "{Hero~} had learned that {lesson}.",
        "And {hero} [understood|had learned|knew now] that {lesson}.",
        "That day {hero~} learned [something important: {lesson}|that {lesson}].",
        "[Later|Much later], {hero~} [often thought|liked to tell others] that {lesson}.",
        "[So|And so|In this way] {hero~} [learned|found out] that {lesson}.",
        "{Lesson}, [as {hero} knew now|thought {hero}|as {hero} liked to say later].",
        "[Nobody|And nobody] ever had to tell {hero} again that {lesson}.",
        "{Lesson}: that was what {hero} [thought|told {hero.himself}] that [evening|night].",
    )


def habit_again(w: World) -> None:
    """A last look at what the hero liked from the start, where a sentence is left for it."""
    if w.left < 1:
        return
    w.say(
        "And {hero~} still [liked|loved] {habit.ing}[, of course|, now more than ever|].",
        "Then {hero~} went back to {habit.ing}.",
        "And the next day, {hero~} [had time again|was free] to {habit}.",
        "There was even [a little time|an hour] left for {hero.him} to {habit}.",
        "Only then did {hero~} remember that {hero.he} had wanted to {habit}.",
    )


def close(w: World, *lessons: str, other: Callable[[World], None] = go_home) -> None:
    """Perhaps end with what the hero learned, or with `other`; a story may also just be over."""
    if w.spare(0.5):
        if w.maybe(0.6):
            learned(w, *lessons)
        else:
            other(w)
