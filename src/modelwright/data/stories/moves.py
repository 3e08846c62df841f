"""Moves: what people in any story do. They ask, fetch, try, thank, comfort and feel.

Each move changes the world and tells it. Plots are made of moves and of what only they know.
"""

from __future__ import annotations

from modelwright.data.stories.cast import creature
from modelwright.data.stories.mishaps import MISHAPS, Mishap
from modelwright.data.stories.places import Place, places_with
from modelwright.data.stories.things import TOYS, Thing
from modelwright.data.stories.world import World

_LYING_AROUND = ("long stick", "sticky stick")


def feel_sad(w: World, role: str = "hero") -> None:
    """Show that somebody is sad."""
    w.say_of(
        role,
        "{One~} [felt|was] [very sad|so sad|sad and small].",
        "{One.his} eyes filled with tears.",
        "A tear [rolled|ran] down {one.his} [cheek|nose].",
        "{One~} [sat down|dropped down] and [began to cry|hid {one.his} face].",
        "{One~} did not know what to do[ now|].",
        "{One~} [wanted to cry|tried hard not to cry].",
        '"Oh no! What [now|can I do]?" {one} [whispered|cried|said].',
        "{One~} [swallowed hard|was close to tears].",
    )


def feel_glad(w: World, role: str = "hero") -> None:
    """Show that somebody is glad."""
    w.say_of(
        role,
        "{One~} [was so|was very|felt] happy.",
        "{One~} [laughed|jumped for joy|clapped and laughed|danced around in a circle].",
        "A [big|wide] smile [spread over|lit up] {one.his} face.",
        "{One~} [could not stop smiling|smiled from ear to ear].",
        "{One.his} heart [felt light|beat fast with joy].",
        "{One~} [gave a shout of joy|hopped from one foot to the other].",
        "How {one} [laughed|beamed|jumped and sang]!",
    )


def thank(w: World, helper: str = "helper") -> None:
    """The hero thanks somebody."""
    w.say_of(
        helper,
        '"Thank you[, thank you|]!" [said|cried|called] {hero}[, and {hero.he} meant it|].',
        "{Hero~} [thanked {one} with all {hero.his} heart|hugged {one} tightly].",
        "{Hero~} [hugged|thanked] {one} [again and again|many times].",
        '"[You are so kind|I will never forget this|That was so kind of you],"'
        " {hero} said to {one}.",
    )


def turn_to_helper(w: World) -> None:
    """The helper learns what is wrong."""
    way = w.one(("come", "told", "asked"))
    if way == "come":
        w.say(
            "[Just then|At that moment|After a while], {helper} came [by|along|down the path]"
            " and [saw {hero.his} sad face|asked what was wrong|asked what had happened].",
            "{Helper} [heard {hero.him}|saw it all] and came [over|closer|to see].",
        )
    elif way == "asked":
        w.line(
            '"[What is wrong|What happened|Why do you look so sad|What is the matter],'
            ' {hero.name}?" asked {helper}, and {hero} [told {helper.him} everything|pointed at it'
            "|began to explain].",
            '"[Can I help you|Do you need help|May I help]?" asked {helper}, who was coming'
            " [by|along|down the path].",
        )
    else:
        w.say(
            "{Hero} [ran|went|hurried] to find {helper} and [told {helper.him} everything|asked"
            " {helper.him} for help].",
            "So {hero} [went to|looked for] {helper} and [told {helper.him} what had"
            " happened|asked what to do].",
        )


def get_tool(w: World, name: str) -> None:
    """The hero gets hold of a tool: it lies nearby, is at home, or somebody lends it."""
    w.tool("tool", name)
    if name in _LYING_AROUND:
        w.say(
            "Then {hero~} [saw|noticed|found] {tool} [on the ground|under a bush|not far away].",
            "{Hero~} looked around and [found|picked up] {tool}.",
            "[A little farther on|Not far away], {hero} found {tool}.",
        )
    elif w.maybe(0.4):
        w.say(
            "Then {hero~} [remembered|thought of] something, ran home and [came"
            " back|soon returned] with {tool}.",
            "{Hero~} [thought hard|sat down and thought], until {hero.he} remembered {tool} at"
            " home and ran to [get|fetch] it.",
            "[At last|Then] {hero~} [had an idea|knew what to do] and hurried home for {tool}.",
            "There was {tool} at home, and {hero~} [ran|hurried] to [get|fetch] it.",
        )
    else:
        w.cast_neighbour("lender")
        w.say(
            "{Lender} [who worked nearby|from the house next door|on the other side of the path]"
            " had {tool} and [was glad to lend it|lent it to {hero.him} at once|let {hero.him}"
            " borrow it until evening].",
            "Then {hero~} saw {lender} with {tool} and asked[ very politely|] if {hero.he} could"
            " borrow it.",
            "{Hero} asked {lender} for {tool}, and [got it for an hour|got it in return for a"
            " little help|{lender.he} gave it to {hero.him} with a smile].",
        )
    w.take("hero", "tool")


def happen(w: World, mishap: Mishap) -> None:
    """The thing gets out of reach."""
    w.say(*mishap.happens)
    w.lose("hero", "thing")


def try_in_vain(w: World, mishap: Mishap) -> None:
    """The hero tries first and fails."""
    w.say(*mishap.tries)


def rescue(w: World, mishap: Mishap) -> None:
    """The thing comes back, by one of the mishap's remedies."""
    way = w.one(("tool", "tool", "elder", "animal"))
    if way == "tool":
        name, solution = w.one(mishap.tools)
        if "{helper}" in solution:
            w.cast_relative("helper")
            turn_to_helper(w)
        get_tool(w, name)
        w.say(solution)
    elif way == "elder":
        if w.maybe():
            w.cast_relative("helper")
        else:
            w.cast_neighbour("helper")
        turn_to_helper(w)
        w.say(*mishap.elder)
        w.take("hero", "thing")
        thank(w)
        return
    else:
        kind, deed = w.one(mishap.animals)
        pronoun = ("she" if w.maybe() else "he") if w.talking_animals else "it"
        w.bind("helper", creature(kind, w.one(("little", "small", "gray", "brown", "")), pronoun))
        w.words(deed=deed)
        if w.talking_animals:
            turn_to_helper(w)
            w.say("{Helper~} {deed}.")
            w.take("hero", "thing")
            thank(w)
            return
        w.say(
            "Now, {helper} lived nearby, and {hero} had often given it"
            " [bread|seeds|crumbs|something to eat].",
            "{Helper} that {hero} had once helped when it was [hurt|hungry|cold] had been"
            " watching[ all the time|].",
        )
        w.say("[Now it|It|Then it] {deed}.", "[As if it understood|Without a sound], it {deed}.")
    w.take("hero", "thing")


def thing_for(w: World, traits: tuple[str, ...]) -> Thing:
    """A toy with one of the traits."""
    fitting = [toy for toy in TOYS if any(trait in toy.traits for trait in traits)]
    return w.one(fitting)


def mishap_here(w: World) -> tuple[Mishap, Place]:
    """A mishap and a place of this world where it can happen."""
    mishap = w.one(MISHAPS)
    return mishap, w.one(places_with(w.kind, mishap.place))
