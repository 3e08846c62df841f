"""Openings: who the story is about, what they have, and the day on which it happens.

The facts that a plot needs are told in one of several orders, so that a story may begin with its
hero, with the weather, with the thing, with the place or in the middle of a talk.
"""

from __future__ import annotations

from modelwright.data.stories.opening_words import (
    BREAKFASTS,
    CHORES,
    HABITS,
    HOUSE_LOOKS,
    HOUSE_PLACES,
    NESTS,
    TRAITS,
    WAYSIDE,
    WEATHERS,
)
from modelwright.data.stories.places import Place
from modelwright.data.stories.world import World


def introduce_hero(w: World) -> None:
    """Say who the story is about, beginning with them."""
    _draw_character(w)
    if w.maybe(0.3):
        w.say(
            "Once upon a time, there was {hero.a} [named|called] {hero.name}"
            " who [liked|loved] to {habit}.",
            "{hero.name} was {hero.a} who [liked|loved] to {habit}.",
            "There [was once|once was] {hero.a} who [liked|loved] {habit.ing}."
            " {Hero.his} name was {hero.name}.",
            "{hero.a} named {hero.name} [liked|loved] {habit.ing} [more than anything|best of"
            " all].",
            "Nobody [liked|loved] {habit.ing} more than {hero.name}, {hero.a} who lived {home}.",
        )
        w.telling.met("hero")
        if w.maybe(0.3):
            w.say(
                "{Hero~} was [very|always] {trait}[ and {trait.second}|].",
                "{Hero~} was the [youngest|oldest] of [two|three|four|five].",
            )
        return
    w.say(
        "Once upon a time, there was {hero.a} [named|called] {hero.name}.",
        "Once upon a time, {hero.a} [named|called] {hero.name} lived {home}.",
        "There once was {hero.a} [named|called] {hero.name} who lived {home}.",
        "{hero.name} was {hero.a} who lived {home}[ with {hero.his} family|].",
        "{hero.name} lived {home}. {Hero.he} was {hero.a}, and a [very|rather] {trait} one.",
        "{hero.a} named {hero.name} lived {home}.",
        "{Home}, there lived {hero.a} [named|called] {hero.name}.",
        "This is [the|a] story [of|about] {hero.a} named {hero.name}.",
    )
    w.telling.met("hero")
    if w.maybe(0.55):
        _describe_hero(w)


def _draw_character(w: World) -> None:
    """Give the hero a home, two traits and something they like to do."""
    habit, liking = w.one(HABITS)
    w.bind("habit", {"": habit, "ing": liking})
    house = f"in {w.one(HOUSE_LOOKS)} {w.one(HOUSE_PLACES)}"
    w.words(home=w.one(NESTS) if w.talking_animals else house)
    first, second = w.some(TRAITS, 2)
    w.bind("trait", {"": first, "second": second})


def _describe_hero(w: World) -> None:
    """One more sentence on the hero, who has been named."""
    w.say(
        "{Hero~} was [very|always] {trait.second}[, and everybody knew it|].",
        "{Hero~} [liked|loved] {habit.ing}, and {hero.he} was very {trait.second}.",
        "[Most of all|More than anything], {hero~} [liked|loved] to {habit}.",
        "Every day, {hero~} found [time|a way] to {habit}.",
        "Everybody said that {hero~} was [very|so] {trait.second}.",
        "When there was nothing else to do, {hero~} [liked|loved] to {habit}.",
        "For {hero.him}, [the best thing in the world|the nicest thing of all|the greatest joy] was"
        " {habit.ing}.",
    )


def introduce_thing(w: World, thing: str = "thing") -> None:
    """Give the hero a thing, with where it came from and what it is good for."""
    w.take("hero", thing)
    w.bind("it", w.telling.forms(thing))
    w.cast_relative("giver")
    w.say(
        "{Hero~} had {it.a}[ and {hero.he} loved to {it.play}|"
        ", and {hero.he} loved to {it.play}|].",
        "{Hero~} had {it.a} that {giver} had [made|bought|found] for {hero.him}.",
        "{Giver} had given {hero.him} {it.a} for {hero.his} birthday.",
        "Of all {hero.his} things, {hero~} loved {hero.his} {it.full} best.",
        "{Hero.his} [favorite|dearest|best] thing was {it.a}.",
        "{Hero~} [never went anywhere without|always carried|took good care of]"
        " {hero.his} {it.full}.",
        "{Hero~} owned only one [toy|treasure], {it.a}[ from {giver}|].",
        "In [spring|summer|winter|the fall], {giver} had [brought|sent] {hero.him} {it.a}"
        " from [the market|a faraway town|the coast|the mountains].",
        "{Hero~} had saved for a [whole month|long time] to get {it.a}.",
    )
    w.telling.met(thing)
    if w.maybe(0.5):
        w.say(
            "{Hero~} liked to {it.play}.",
            "It was a present from {giver}.",
            "It was [very old|almost new|not very big|quite small], but {hero.he} [loved|liked]"
            " it [very much|more than all the others].",
            "{Hero~} could spend [hours|a whole day] {it.playing}.",
            "Nobody else [in the village|nearby|{hero.he} knew] had {it.one} like it.",
            "Even at night, it lay [next to {hero.his} bed|where {hero.he} could see it].",
        )


def _set_day(w: World) -> str:
    """Draw weather and hour, perhaps say how the sky looks; returns how the day is named next."""
    weather, sky = w.one(WEATHERS)
    w.words(sky=sky)
    w.hour = 0 if w.maybe(0.7) else 1
    w.words(weather=weather, hour="morning" if w.hour == 0 else "afternoon")
    if w.maybe(0.35):
        w.say("It was a {weather} {hour}. {Sky}", "{Sky}")
        return "[That {hour}, |]"
    return "[One {weather} {hour}, |One day, |One {hour}, |On a {weather} {hour}, ]"


def _look_around(w: World, place: Place) -> None:
    """Something seen on the way or on arriving."""
    if w.maybe():
        w.say(w.one(place.sights))
    else:
        passer = w.one(WAYSIDE[w.kind])
        w.words(passer=passer)
        w.say(
            "On the way, {hero~} [met|saw|passed] {passer}.",
            "{Passer} [looked up|nodded|stopped] when {hero~} came by.",
            "{Hero~} [waved to|greeted|said hello to] {passer}.",
            "{Hero~} had to [make room|step aside] for {passer}.",
        )


def set_out(w: World, place: Place, purpose: str = "") -> None:
    """One day, the hero goes somewhere. `purpose` is a pattern such as " to play"."""
    w.go(place=place)
    day = _set_day(w)
    purpose = purpose or "[ to play|]"
    w.say(
        day + "{hero~} [went|walked|ran|skipped|hurried] {place.to}" + purpose + ".",
        day + "{hero~} was {place.at}.",
        day + "{hero~} set out for {place}" + purpose + ".",
        day + "{hero~} wanted to [go|walk] {place.to}, and off {hero.he} went.",
    )
    if w.maybe(0.4):
        _look_around(w, place)


def begin_day(w: World, *, thing: str = "") -> None:
    """Introduce the hero and the thing, and start a day without going anywhere yet."""
    introduce_hero(w)
    if thing:
        introduce_thing(w, thing)
    w.paragraph()
    w.words(breakfast=w.one(BREAKFASTS))
    did, done = w.one(CHORES)
    w.bind("chore", {"": did, "done": done})
    if w.maybe(0.3):
        w.say(w.one(WEATHERS)[1])
    if w.maybe(0.6):
        w.say(
            "One [day|morning], {hero~} [had|ate] {breakfast} [for breakfast|in the kitchen]"
            " and [then|] {chore}.",
            "One [fine|clear|warm|cool] morning, {hero~} {chore}[ and had {breakfast}|].",
            "It began on a [Monday|Tuesday|Friday|Saturday]. {Hero~} had just {chore.done}.",
            "After {breakfast} [for breakfast|and a long yawn], {hero~} {chore}.",
        )
    else:
        w.say(
            "One day, {hero~} [got up early|was up with the birds|jumped out of bed].",
            "One morning, {hero~} [had breakfast and ran outside|put on {hero.his} jacket and"
            " went out|woke up and stretched].",
            "It was [a free day|a long summer day|the first warm day of the year"
            "|the day after the spring feast|the last day of the week].",
            "One [fine|clear|warm] morning, {hero~} had many plans.",
        )


def begin(w: World, place: Place, *, thing: str = "", purpose: str = "") -> None:
    """Introduce the hero, the thing if there is one, and bring them to the place."""
    order = w.one(("hero", "hero", "hero", "place", "talk", "day", "thing" if thing else "hero"))
    if order == "hero":
        introduce_hero(w)
        if thing:
            introduce_thing(w, thing)
        w.paragraph()
        set_out(w, place, purpose)
        return
    _draw_character(w)
    if order == "thing":
        _begin_with_thing(w, thing)
        w.paragraph()
        set_out(w, place, purpose)
        return
    w.go(place=place)
    if order == "place":
        w.say(w.one(place.sights))
        w.say(
            "{Hero.a} [named|called] {hero.name} [came|walked|ran] {place.to}" + purpose + ".",
            "That was how it [looked|was] {place.at} when {hero.a} named {hero.name} came"
            " [along|there|by].",
            "In the middle of it all was {hero.a} [named|called] {hero.name}.",
        )
    elif order == "talk":
        w.cast_parent("parent")
        w.say(
            '"[May I go out|Can I go outside|May I go and play]?" asked {hero.a} named'
            " {hero.name}.",
            '"[I am going out|See you later|I will be back soon]!" [called|cried] {hero.a} named'
            " {hero.name}.",
        )
        w.line(
            '"[Be back for supper|Come home before dark|Take your jacket|Have fun]," said {parent}'
            "[ and smiled|, who was busy|].",
        )
        w.say("{Hero~} [ran|went|skipped] {place.to}" + purpose + ".")
    else:
        day = _set_day(w)
        w.say(
            day
            + "{hero.a} [named|called] {hero.name} [went|walked|ran] {place.to}"
            + purpose
            + ".",
            day + "{hero.a} [named|called] {hero.name} was {place.at}.",
        )
    w.telling.met("hero")
    if thing:
        _carry_thing(w, thing)
    if w.maybe(0.5):
        _describe_hero(w)
    w.paragraph()


def _begin_with_thing(w: World, thing: str) -> None:
    """Introduce the thing first, and the hero as its owner."""
    w.take("hero", thing)
    w.bind("it", w.telling.forms(thing))
    w.cast_relative("giver")
    w.say(
        "There was once {it.a} that belonged to {hero.a} [named|called] {hero.name}.",
        "{It.a} [lay|stood] on a shelf. It [was the treasure of|belonged to] {hero.name},"
        " {hero.a}.",
        "Everybody knew {hero.name}, {hero.a}, because {hero.he} was always {it.using}.",
        "{hero.name}, {hero.a}, had {it.a}, and {hero.he} loved to {it.play}.",
    )
    w.telling.met("hero")
    w.telling.met(thing)
    if w.maybe():
        w.say(
            "{Giver} had [made it|found it|brought it home] [long ago|one winter|in spring].",
            "It was [the only one of its kind|much older than {hero.name}|a present from {giver}].",
            "{Hero~} would not have given it away for [anything|all the cakes in the world].",
        )


def _carry_thing(w: World, thing: str) -> None:
    """The hero, already on the way, has the thing along."""
    w.take("hero", thing)
    w.bind("it", w.telling.forms(thing))
    w.cast_relative("giver")
    w.say(
        "{Hero~} had {it.a} with {hero.him}[, a present from {giver}|].",
        "{Hero~} [carried|had brought] {it.a}.",
        "{Hero~} was {it.using}.",
        "{Hero~} had brought {it.a} along, because {hero.he} loved to {it.play}.",
    )
    w.telling.met(thing)
