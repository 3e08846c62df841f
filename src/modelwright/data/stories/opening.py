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
    if w.maybe(0.35):
        w.say(
            "Once upon a time, there was {hero.a} [named|called] {hero.name}"
            " who [liked|loved] to {habit}.",
            "{hero.name} was {hero.a} who [liked|loved] to {habit}.",
            "There [was once|once was] {hero.a} [named|called] {hero.name}, who [liked|loved]"
            " {habit.ing}.",
            "{hero.a} named {hero.name} [liked|loved] {habit.ing} [more than anything|best of"
            " all].",
            "Nobody [liked|loved] {habit.ing} more than {hero.name}, {hero.a} who lived {home}.",
            "{Home}, there lived {hero.a} who [liked|loved] to {habit}, and {hero.his} name was"
            " {hero.name}.",
            "For {hero.name}, {hero.a}, [the best thing in the world|the nicest thing of all|the"
            " greatest joy] was {habit.ing}.",
            "Every day, {hero.a} [named|called] {hero.name} found [time|a way] to {habit}.",
        )
        w.telling.met("hero")
        if w.aside(0.3):
            w.say(
                "{Hero~} was [very|always] {trait}[ and {trait.second}|].",
                "{Hero~} was the [youngest|oldest] of [three|four|five|six].",
            )
        return
    w.say(
        "Once upon a time, there was {hero.a} [named|called] {hero.name}.",
        "Once upon a time, {hero.a} [named|called] {hero.name} lived {home}.",
        "There once was {hero.a} [named|called] {hero.name} who lived {home}.",
        "{hero.name} was {hero.a} who lived {home}[ with {hero.his} family|].",
        "{hero.name}, {hero.a}, was [very|always] {trait}[ and {trait.second}|].",
        "{hero.name} was the [youngest|oldest] of [three|four|five|six], and a [very|rather]"
        " {trait} one.",
        "Everybody knew {hero.name}, {hero.a} who was [very|always] {trait}.",
        "{hero.a} named {hero.name} lived {home}.",
        "{Home}, there lived {hero.a} [named|called] {hero.name}.",
        "This is [the|a] story [of|about] {hero.a} named {hero.name}[, who lived {home}|].",
    )
    w.telling.met("hero")
    if w.aside(0.4):
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


def introduce_owner(w: World, thing: str = "thing") -> None:
    """Introduce the hero together with a thing of theirs and where it came from."""
    if w.maybe(0.4):
        introduce_hero(w)
        _introduce_thing(w, thing)
        return
    _draw_character(w)
    _own(w, thing)
    w.say(
        "Once upon a time, there was {hero.a} [named|called] {hero.name} who had {it.a}"
        "[ from {giver}|].",
        "{hero.a} [named|called] {hero.name} had {it.a} that {giver} had [made|bought|found] for"
        " {hero.him}.",
        "{hero.name} was {hero.a} who [never went anywhere without|took good care of] {hero.his}"
        " {it.full}.",
        "There once was {hero.a} [named|called] {hero.name} whose [favorite|dearest] thing was"
        " {it.a}.",
        "{hero.name}, {hero.a}, had saved for a [whole month|long time] to get {it.a}.",
        "{Home} lived {hero.a} [named|called] {hero.name}, who had {it.a} and loved to {it.play}.",
        "For {hero.his} birthday, {hero.a} [named|called] {hero.name} had been given {it.a}.",
        "Of all {hero.his} things, {hero.a} named {hero.name} loved {hero.his} {it.full} best.",
        "{hero.a} [named|called] {hero.name} lived {home} and owned only one [toy|treasure],"
        " {it.a}.",
    )
    w.telling.met("hero")
    w.telling.met(thing)
    if w.aside(0.3):
        _describe_thing(w)


def _own(w: World, thing: str) -> None:
    """The hero has the thing from somebody in the family."""
    w.take("hero", thing)
    w.bind("it", w.telling.forms(thing))
    w.cast_relative("giver")


def _introduce_thing(w: World, thing: str) -> None:
    """Give the hero, who has been named, a thing."""
    _own(w, thing)
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


def _describe_thing(w: World) -> None:
    """One more sentence on the thing, which is known."""
    w.say(
        "{Hero~} could spend [hours|a whole day] {it.playing}.",
        "Nobody else [in the village|nearby|{hero.he} knew] had {it.one} like it.",
        "Even at night, it lay [next to {hero.his} bed|where {hero.he} could see it].",
        "It was [very old|almost new|not very big|quite small], but {hero.he} [loved|liked]"
        " it [very much|more than all the others].",
    )


def _draw_day(w: World) -> str:
    """Draw weather and hour; returns how the day may be named."""
    weather, sky = w.one(WEATHERS)
    w.words(sky=sky)
    w.hour = 0 if w.maybe(0.7) else 1
    w.words(weather=weather, hour="morning" if w.hour == 0 else "afternoon")
    return "[One {weather} {hour}, |One day, |One {hour}, |On a {weather} {hour}, ]"


def _set_day(w: World) -> str:
    """Draw weather and hour, perhaps say how the sky looks; returns how the day is named next."""
    day = _draw_day(w)
    if w.aside(0.35):
        w.say("{Sky}")
        return "[That {hour}, |]"
    return day


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
    if w.aside(0.3):
        _look_around(w, place)


def begin_day(w: World, *, thing: str = "") -> None:
    """Introduce the hero and the thing, and perhaps start the day, without going anywhere yet."""
    if thing:
        introduce_owner(w, thing)
    else:
        introduce_hero(w)
    w.paragraph()
    if not w.aside(0.45):
        return
    w.words(breakfast=w.one(BREAKFASTS))
    did, done = w.one(CHORES)
    w.bind("chore", {"": did, "done": done})
    w.say(
        "One [day|morning], {hero~} [had|ate] {breakfast} [for breakfast|in the kitchen]"
        " and [then|] {chore}.",
        "One [fine|clear|warm|cool] morning, {hero~} {chore}[ and had {breakfast}|].",
        "It began on a [Monday|Tuesday|Friday|Saturday], when {hero~} had just {chore.done}.",
        "One morning after {breakfast} [for breakfast|and a long yawn], {hero~} {chore}.",
        "One day, {hero~} [got up early|was up with the birds|jumped out of bed] and {chore}.",
    )


def begin(w: World, place: Place, *, thing: str = "", purpose: str = "") -> None:
    """Introduce the hero, the thing if there is one, and bring them to the place."""
    order = w.one(("hero", "hero", "brief", "place", "talk", "day", "thing" if thing else "brief"))
    if order == "hero":
        if thing:
            introduce_owner(w, thing)
        else:
            introduce_hero(w)
        w.paragraph()
        set_out(w, place, purpose)
        return
    _draw_character(w)
    if order == "thing":
        _begin_with_thing(w, thing)
        w.paragraph()
        set_out(w, place, purpose)
        return
    if thing:
        purpose = ""  # it may name the thing, which is introduced only afterwards
    w.go(place=place)
    if order == "place":
        w.say(w.one(place.sights))
        w.say(
            "{Hero.a} [named|called] {hero.name} [came|walked|ran] {place.to}" + purpose + ".",
            "That was how it [looked|was] {place.at} when {hero.a} named {hero.name} came"
            " [along|there|by].",
            "In the middle of it all was {hero.a} [named|called] {hero.name}, [very|always]"
            " {trait}[ and {trait.second}|].",
            "{Hero.a} [named|called] {hero.name}, who lived {home}, [stood|was] {place.at} and"
            " [looked around|watched it all].",
        )
    elif order == "brief":
        day = _draw_day(w)
        w.say(
            day + "{hero.a} [named|called] {hero.name}, who lived {home}, [went|walked|ran]"
            " {place.to}" + purpose + ".",
            day + "{hero.name}, {hero.a} who [liked|loved] to {habit}, [went|walked|ran]"
            " {place.to}" + purpose + ".",
            day + "{hero.a} [named|called] {hero.name}, who was always {trait}, set out for"
            " {place}" + purpose + ".",
            "Once upon a time, {hero.a} [named|called] {hero.name} [went|walked|ran] {place.to}"
            + purpose
            + ".",
            "{hero.name}, {hero.a}, was {place.at} one {weather} {hour}, [far from any"
            " trouble|thinking of nothing bad|as happy as could be].",
            "It was a {weather} {hour} when {hero.a} [named|called] {hero.name} [came|went]"
            " {place.to}" + purpose + ".",
            "On the way {place.to}, {hero.a} [named|called] {hero.name} was [singing|whistling|in a"
            " good mood|in a hurry].",
        )
    elif order == "talk":
        w.cast_parent("parent")
        w.say(
            '"[May I go out|Can I go outside|May I go and play]?" asked {hero.a} named'
            " {hero.name}, and {parent} [nodded|said yes|smiled].",
            '"[I am going out|See you later|I will be back soon]!" [called|cried] {hero.a} named'
            " {hero.name}[, who could hardly wait|].",
            '"[Be back for supper|Come home before dark|Take your jacket|Have fun]," {hero.name},'
            " {hero.a}, heard {parent} [say|call].",
        )
        w.say(
            "[A little later|Soon], {hero~} [went|walked|ran] {place.to}" + purpose + ".",
            "{Hero~} [ran|went|skipped|set off] {place.to}" + purpose + ".",
            "Then {hero~} was off {place.to}" + purpose + ".",
        )
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
    if w.aside(0.3):
        _describe_hero(w)
    w.paragraph()


def _begin_with_thing(w: World, thing: str) -> None:
    """Introduce the thing first, and the hero as its owner."""
    _own(w, thing)
    w.say(
        "There was once {it.a} that belonged to {hero.a} [named|called] {hero.name}.",
        "{It.a} [lay|stood] on a shelf and [was the treasure of|belonged to] {hero.name},"
        " {hero.a}.",
        "Everybody knew {hero.name}, {hero.a}, because {hero.he} was always {it.using}.",
        "{hero.name}, {hero.a}, had {it.a}, and {hero.he} loved to {it.play}.",
    )
    w.telling.met("hero")
    w.telling.met(thing)
    if w.aside(0.3):
        w.say(
            "{Giver} had [made it|found it|brought it home] [long ago|one winter|in spring].",
            "It was [the only one of its kind|much older than {hero.name}|a present from {giver}].",
            "{Hero~} would not have given it away for [anything|all the cakes in the world].",
        )


def _carry_thing(w: World, thing: str) -> None:
    """The hero, already on the way, has the thing along."""
    _own(w, thing)
    w.say(
        "{Hero~} had {it.a} with {hero.him}[, a present from {giver}|].",
        "{Hero~} [carried|had brought] {it.a}.",
        "{Hero~} was {it.using}.",
        "{Hero~} had brought {it.a} along, because {hero.he} loved to {it.play}.",
    )
    w.telling.met(thing)
