"""Plots in which a thing changes hands: it is traded, or found and given back."""

from __future__ import annotations

from modelwright.data.stories.closing import close, habit_again
from modelwright.data.stories.opening import begin
from modelwright.data.stories.places import places_with
from modelwright.data.stories.things import TOYS
from modelwright.data.stories.world import World


def trade_chain(w: World) -> None:
    """Somebody wants one thing for another; the hero finds the start of the chain."""
    w.cast_hero()
    wanted, *links = w.some(TOYS, 3)
    w.make("thing", wanted)
    w.make("second", links[0])
    w.make("third", links[1])
    begin(w, w.one(places_with(w.kind)))
    w.cast_friend("owner")
    w.say(
        "There {hero.he} saw {owner} with {thing}[, and how {hero.he} wished for one like it|].",
        "{Owner} was there[ too|], {thing.using}, and {hero} [could not look away|wanted to have"
        " it].",
    )
    w.telling.met("thing")
    w.line(
        '"I will [trade it|give it to you] for {second.a}," said {owner}, but {hero} [had'
        " none|did not have one].",
        '"[Bring me|Get me|Give me] {second.a}, and it is yours," said {owner}.',
        '"You can have it [in exchange for|for] {second.a}. [I have always wanted one|That is what'
        ' I really want]," said {owner}.',
    )
    w.paragraph()
    w.cast_neighbour("keeper")
    w.telling.met("second")
    w.say(
        "{Keeper} had {second.one}[ and did not need it|], but [asked for|wanted] {third.a} in"
        " return.",
        '"I have {second.a}, and you can have it if you [bring|find] me {third.a}," said {keeper}[,'
        " whom {hero} asked first|, when {hero} came by].",
        "Now, {keeper} had {second.one} but [was looking for|would rather have] {third.a}.",
    )
    w.telling.met("third")
    way = w.one(("own", "work", "find"))
    if way == "own":
        w.cast_relative("giver")
        w.say(
            "[Now|Luckily], {hero} had {third.one} at home[, a present from {giver} that {hero.he}"
            " hardly ever used|].",
            "That was easy, because {hero} had {third.one} that {hero.he} [did not need any"
            " more|hardly ever used].",
        )
    elif way == "work":
        w.cast_relative("giver")
        w.say(
            "{Hero} asked {giver}, who had {third.one}, and [swept the whole house|pulled weeds"
            " for an hour|carried in all the wood] to earn it.",
        )
    else:
        w.say(
            "{Hero} looked [for a long time|all afternoon], and [at last|in the end] {hero.he}"
            " found {third.one} that somebody had [thrown away|left for anyone to take].",
        )
    w.take("hero", "third")
    w.take("keeper", "second")
    w.take("owner", "thing")
    w.paragraph()
    w.give("hero", "third", "keeper")
    w.say(
        "So {hero} gave {third.the} to {keeper} and got {second.the}.",
        "{Keeper} was [pleased|delighted] with {third.the} and handed over {second.the}.",
        "{Third.the} went to {keeper}, and {hero} walked off with {second.the}.",
    )
    w.give("keeper", "second", "hero")
    w.give("hero", "second", "owner")
    w.give("owner", "thing", "hero")
    w.say(
        "Then {hero.he} [hurried|ran] back to {owner}, gave {owner.him} {second.the} and got"
        " {thing.the}.",
        "Then {hero} traded {second.the} for {thing.the}, and {owner} [was happy too|laughed].",
        "{Owner} [clapped|beamed] at the sight of {second.the}, and {hero} got {thing.the}.",
    )
    if w.spare(0.4):
        w.say(
            "[Now|In the end] everybody had what they wanted.",
            "Three of them [were happy|had a smile on their faces] that day.",
            "It had been a long way to {thing.one}, and that made it [even better|worth more].",
        )
    if w.spare(0.5):
        w.say(
            "{Hero} spent the [evening|rest of the day] {thing.playing}.",
            "All the way home, {hero~} was {thing.playing}.",
        )
    else:
        close(
            w,
            "what one does not need may be a treasure for another",
            "a good trade makes both sides happy",
            "asking is the beginning of getting",
            other=habit_again,
        )


def found_owner(w: World) -> None:
    """A thing lies there; a clue on it leads to its owner."""
    w.cast_hero()
    w.make("thing", w.one(TOYS))
    place = w.one(places_with(w.kind))
    begin(w, place)
    w.words(spot=w.one(place.spots))
    w.say(
        "{Spot}, {hero~} [saw|found|discovered] {thing}.",
        "Something was lying {spot}, and it was {thing.a}.",
        "There, {spot}, lay {thing}[, all alone|].",
    )
    w.telling.met("thing")
    w.take("hero", "thing")
    w.say(
        "[There was nobody around|Nobody else was there], and {hero~} [wanted|would have loved] to"
        " keep it.",
        '"[Finders keepers|Now it is mine|What a treasure]!" thought {hero} at first.',
        "{Hero~} picked it up and [liked it at once|wanted to take it home].",
    )
    if w.maybe():
        w.cast_friend("owner")
    else:
        w.cast_neighbour("owner")
    w.paragraph()
    w.say(
        "But [somebody must be missing it|somebody was surely looking for it], [{hero.he}"
        " thought|thought {hero}].",
        "But then {hero~} thought of [the day {hero.he} had lost a shoe|how sad it is to lose"
        " something].",
    )
    clue = w.one(("asked", "smell", "crying", "trail"))
    if clue == "asked":
        w.say(
            "{Hero~} asked everybody [on the way|who came by], and [at last|in the end] somebody"
            " said that {owner} had been looking for {thing.one}.",
            "[Two|Three|Four] shook their heads when {hero~} asked, but the next one said that"
            " {owner} had lost {thing.one}.",
        )
    elif clue == "smell":
        w.say(
            "A bit of [blue|green|white|red|yellow] paint was on {thing.the}, and the only door in"
            " that color was the door of {owner}.",
            "{Thing.the} smelled of [smoke|fresh bread|mint|wet wool|lavender], just like the house"
            " of {owner}.",
        )
    elif clue == "crying":
        w.say(
            "Then {hero~} heard somebody [crying softly|calling and searching], and it was"
            " {owner}.",
            "[A little farther on|Not far away], {owner} was [crawling through the grass|looking"
            " under every bush] and searching.",
        )
    else:
        w.say(
            "{Hero~} followed the footprints [in the mud|on the soft ground] [past the well|over"
            " the bridge|around the corner], and they ended at the feet of {owner}.",
        )
    w.line(
        '"[Is this yours|Did you lose this]?" asked {hero} and held out {thing.the}.',
    )
    w.give("hero", "thing", "owner")
    w.line(
        '"[Yes|Oh yes]! [I have looked for it everywhere|I thought it was gone forever]!" cried'
        " {owner}.",
        '"My {thing.noun}! [Thank you|You found it]!" cried {owner}[, and danced for joy|].',
    )
    reward = w.one(("play", "food", "feeling"))
    if reward == "play":
        w.say(
            "They spent the rest of the day together, and {hero} was allowed to {thing.play} as"
            " often as {hero.he} [liked|wanted]."
        )
    elif reward == "food":
        w.words(
            treat=w.one(
                ("a bag of nuts", "a big red apple", "a warm bun", "three plums", "a jar of honey")
            )
        )
        w.say(
            "{Owner} gave {hero} {treat}[ to say thank you|], and it tasted [wonderful|better"
            " than anything]."
        )
    else:
        w.say("{Hero} went home with empty {hero.hands} and a [warm heart|light heart].")
    close(
        w,
        "giving back feels better than keeping",
        "an honest heart finds friends",
        "somebody is always happy to get back what was lost",
        other=habit_again,
    )


PLOTS = (
    trade_chain,
    found_owner,
)
