"""Plots with a little magic: wishes that go wrong, and things that speak."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.cast import creature
from modelwright.data.stories.closing import close, habit_again
from modelwright.data.stories.moves import feel_glad
from modelwright.data.stories.opening import begin, begin_day
from modelwright.data.stories.places import places_with
from modelwright.data.stories.world import World

_GIVERS = (
    ("fish", "golden", "water", "was caught in the weeds", "pulled the weeds away"),
    ("toad", "gray", "grass", "was stuck under a stone", "lifted the stone"),
    ("snail", "silver", "grass", "had fallen into a cup", "tipped the cup over"),
    ("bird", "white", "tree", "had its foot in a snare", "loosened the knot"),
    ("beetle", "green", "grass", "was lying on its back", "turned it over"),
    ("turtle", "old", "water", "was tangled in a string", "untied the string"),
)


# A wish said too quickly, how it comes true, and why that is no joy.
_HASTY = (
    ("that everything was made of cake", "the chairs, the bed and the door turned into cake", "the roof began to drip with cream, and there was nothing to sit on"),
    ("that it was never bedtime", "the sun stayed in the sky and did not move", "everybody was so tired that they fell asleep in their soup"),
    ("to be as big as a tree", "{hero.he} grew and grew", "{hero.he} did not fit through any door and nobody could hear {hero.him}"),
    ("to be as small as an ant", "{hero.he} shrank until the grass was like a forest", "a drop of rain was like a bucket of water"),
    ("that nobody could tell {hero.him} what to do", "everybody became silent", "it was so quiet that {hero.he} could hear the clock in the next house"),
    ("that all things could talk", "the cups, the shoes and the spoons began to talk", "they all talked at the same time and never stopped"),
    ("to fly", "{hero.he} rose into the air like a balloon", "{hero.he} did not know how to come down"),
    ("that it was always summer", "the heat came and stayed", "the pond dried up and the flowers hung their heads"),
    ("for a hundred puppies", "a hundred puppies came running through the door", "they ate everything, and two hundred eyes asked for more"),
    ("that everything {hero.he} touched turned blue", "everything {hero.he} touched turned blue", "even the soup was blue, and {hero.his} own nose"),
)  # fmt: skip


def hasty_wish(w: World) -> None:
    """A freed animal grants two wishes; the first is hasty, the second must undo it."""
    w.cast_hero()
    w.keep_short()
    kind, look, trait, trouble, freeing = w.one(_GIVERS)
    wish, comes_true, no_joy = w.one(
        tuple(h for h in _HASTY if not (w.talking_animals and "puppies" in h[0]))
    )
    w.words(trouble=trouble, freeing=freeing)
    w.words(wish=wish, comes_true=comes_true, no_joy=no_joy)
    begin(w, w.one(places_with(w.kind, trait)))
    w.bind("giver", creature(kind, look))
    w.say(
        "There {hero.he} [saw|found] {giver} that {trouble}, and {hero.he} {freeing}.",
        "{Giver.a} {trouble}, and {hero~} [bent down|took pity] and {freeing}.",
    )
    w.telling.met("giver")
    w.line(
        '"[Thank you|You have a kind heart]! [You have two wishes|Two wishes are yours|I can grant you two wishes], so [use them well|think before'
        ' you speak]," said {giver}[, for it was a magic one|].',
        '"You [have helped|saved|were good to] me, and now [I will grant you two wishes|two wishes are yours|you may wish for two things]," {giver} said [in a clear'
        " voice|softly].",
    )
    w.say(
        "{Hero.his} [mouth|jaw] fell open, and {hero.he} said the first thing that came [to mind|up|out]:"
        " {hero.he} wished {wish}.",
        "{Hero~} [thought for one second|hardly waited|took no time to think|jumped up and down] and wished {wish}.",
        "{Hero} was [so|much too] [surprised|excited|happy] [to think|to stop and think] and wished {wish}.",
        "{Hero} [laughed|could not believe it|turned red with joy|clapped] and [quickly|] wished {wish}.",
    )
    w.note("wish", "hero", wish)
    w.paragraph()
    w.say(
        "[And so it was|In a blink it came true|There was a flash|No sooner said than done]:"
        " {comes_true}.",
        "[The air shook|A spark flew|Something went pop|The grass turned silver for a moment],"
        " and then {comes_true}.",
    )
    w.say(
        "[At first it was great fun|{Hero} was delighted|{Hero} clapped and shouted], but"
        " [soon|after an hour|then] {no_joy}.",
        "But [soon|after an hour|before long|that evening|by noon] {no_joy}.",
        "That was fine [for as long as it was new|for a few minutes], but then {no_joy}.",
    )
    if w.spare(0.3):
        w.line(
            "It was [awful|terrible|no fun any more], and {hero~} [thought of the day before|longed"
            " for yesterday].",
            "{Hero} [wanted to cry|felt dizzy|missed how it had been].",
            '"[This is not what I wanted!|What have I done?]" [whispered|said] {hero}.',
        )
    if w.spare(0.25):
        w.say(
            "Luckily there was a second wish, and although {hero~} [had planned something great for"
            " it|had wanted to save it], now it was [badly|urgently] needed.",
            "There was [one|still one] wish left, and {hero} [knew|saw clearly] [what to say|what it had to be].",
            "{Hero~} [ran|found the way] back to {giver} as [well|fast] as {hero.he} could.",
        )
    w.line(
        '"Please[, please|], let [everything|it all|the whole world] be as it was [before|this morning]," {hero} said to'
        " {giver}.",
        '"[My second wish is|I wish|What I wish for now is] that everything [is|stays] as it was [before|this morning]," said {hero} to'
        " {giver}.",
    )
    w.note("unwish", "hero")
    w.say(
        "{Giver} [nodded|smiled|closed both eyes], and everything was [as before|as it should be|as if nothing had happened|just as it had"
        " always been].",
        "[A soft wind blew|The air turned warm|It hummed for a moment|There was a [sound like a little bell|puff of silver smoke|tiny clap of thunder]], and all was [as before|as it had been that morning|well"
        " again].",
    )
    if w.spare(0.4, 1):
        w.say(
            "How [good|lovely|wonderful] it was for {hero.him} to [sit on a plain chair|hear the"
            " ordinary birds|eat plain bread|go to bed at bedtime|scrub the floor like every"
            " week]!",
            "{Hero~} [touched|looked at] the old table and [laughed|sighed with joy]: it was only a"
            " table, and it [kept quiet|stayed what it was].",
            "{Hero} went home and [liked|loved|looked at] every [plain|ordinary|little] thing there[ as if it were new|].",
        )
    close(
        w,
        "one should think before one wishes",
        "ordinary days are a treasure",
        "not every wish is a good wish",
        "having everything one wants is not so nice",
        other=habit_again,
    )


# Things with a voice, what they are sad about, and what makes them glad.
_VOICES = (
    ("clock", "old", "it had stood still for years, and nobody looked at it any more", "wound it up and oiled its wheels", "ticked all day like a happy heart"),
    ("scarecrow", "crooked", "all the birds flew away from it, and it was lonely", "put a bowl of seeds in its hat", "had a bird on each arm"),
    ("lamp", "dusty", "it had not been lit since the new lamp came", "cleaned the glass and lit the wick", "shone until late at night"),
    ("boat", "leaky", "it lay on the sand and dreamed of the water", "closed the holes with tar", "rocked on the water and sang softly"),
    ("snow globe", "little", "nobody had shaken it for a year", "shook it, once every day", "let it snow with joy"),
    ("piano", "silent", "it knew a hundred songs, but nobody touched it", "played one note, then two, then a whole tune", "hummed long after the last note"),
    ("apple tree", "bent", "nobody had sat under it since the swing broke", "hung up a new swing", "dropped the reddest apple right at the swing"),
    ("book", "thick", "it was full of stories, and its pages were stuck together", "turned the pages one by one and read aloud", "smelled of far countries"),
    ("bench", "broken", "it had only three legs, and nobody sat down", "made a new leg from a strong branch", "was never empty again"),
    ("bell", "rusty", "it had not rung since the school was closed", "rubbed off the rust and pulled the rope", "rang so clearly that everybody came out"),
)  # fmt: skip


def thing_with_a_voice(w: World) -> None:
    """An old thing speaks to the one who listens, and is useful again."""
    w.cast_hero()
    kind, look, sorrow, care, joy = w.one(_VOICES)
    w.words(sorrow=sorrow, care=care, joy=joy)
    begin_day(w)
    w.bind("voice", creature(kind, look))
    w.say(
        "One day, {hero~} was alone and heard [a sigh|a soft voice], and it came from {voice}!",
        "In a corner where nobody ever went, {hero~} found {voice} that could talk.",
        "One [quiet|still] day, {hero~} heard a soft voice, looked [left and right|behind the"
        " door] and found {voice}.",
    )
    w.telling.met("voice")
    w.line(
        '"[At last somebody listens|You can hear me|Do not be afraid]," said {voice}.',
        '"[Good day|Hello]! [It is long since anybody came by|I have been waiting for you]," said'
        " {voice}.",
    )
    if w.spare(0.5):
        w.line('"[Why are you so sad|What is the matter with you|Who are you]?" asked {hero}.')
    w.say(
        "{Voice} told {hero.him} everything: {sorrow}.",
        "Then {voice} [told its story|explained its sorrow]: {sorrow}.",
    )
    w.note("listen", "hero", kind)
    w.paragraph()
    if w.spare(0.5):
        w.line(
            "[That made {hero} sad too|{Hero} knew how that felt], and {hero.he} wanted to do"
            " something.",
            '"[I can help you|Wait here]," said {hero}[ and ran off|].',
        )
    if w.spare(0.4):
        w.cast_relative("elder")
        w.say(
            "{Elder} did not believe that {voice} could talk, but {elder.he} [was glad to"
            " help|gave {hero.him} what {hero.he} needed]."
        )
    w.say(
        "{Hero~} {care}.",
        "[Carefully|The same day|With much patience], {hero~} {care}.",
    )
    w.say(
        "[And from then on|After that|From that hour on], {voice} {joy}.",
        "{Voice} [was happy again|thanked {hero.him}] and {joy}.",
    )
    if w.spare(0.3):
        feel_glad(w)
    elif w.spare(0.4):
        w.say("Nobody but {hero} ever heard it talk[, but that did not matter|].")
    close(
        w,
        "old things have stories too",
        "whoever is quiet can hear more",
        "everybody wants to be needed",
        "a little care can wake up what was asleep",
    )


PLOTS = (
    hasty_wish,
    thing_with_a_voice,
)
