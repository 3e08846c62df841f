"""Plots between friends: they share, quarrel, comfort each other, and find a new one."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import go_home, habit_again, learned
from modelwright.data.stories.moves import feel_sad
from modelwright.data.stories.opening import begin, introduce_hero
from modelwright.data.stories.places import places_with
from modelwright.data.stories.things import TOYS
from modelwright.data.stories.world import World

# Treats, and how one is divided in two.
_TREATS = (
    ("pear", "sweet ripe big", "cut it in two halves"),
    ("cake", "little honey round", "cut it right down the middle"),
    ("bun", "warm sweet raisin", "broke it in two"),
    ("pie", "berry plum warm", "cut it into equal pieces"),
    ("apple", "red juicy big", "cut it in two with a small knife"),
    ("cookie", "big nut round", "broke it in two"),
    ("pancake", "thick golden warm", "tore it down the middle"),
    ("melon", "ripe green heavy", "cut it into slices"),
    ("loaf of bread", "fresh warm", "broke off half of it"),
    ("orange", "big sweet", "peeled it and counted the pieces"),
)


def sharing(w: World) -> None:
    """One treat and two who are hungry; it is kept or shared, and what follows fits."""
    w.cast_hero()
    noun, looks, divide = w.one(_TREATS)
    w.tool("treat", f"{w.one(looks.split())} {noun}" if " " not in noun else noun)
    w.words(divide=divide)
    place = w.one(places_with(w.kind))
    begin(w, place)
    w.cast_relative("giver")
    w.say(
        "{Hero~} had {treat} with {hero.him}, which {giver} had [given {hero.him}|packed for"
        " {hero.him}].",
        "In {hero.his} bag was {treat}, because {giver} knew that {hero.he} [was always"
        " hungry|loved sweet things].",
        "For lunch, {giver} had given {hero.him} {treat}.",
    )
    w.telling.met("treat")
    w.cast_friend("friend")
    w.words(spot=w.one(place.spots))
    w.say(
        "Just as {hero.he} [wanted to take the first bite|sat down to eat], {hero.he} saw"
        " {friend} sitting {spot}.",
        "Then {friend} came by[, tired and pale,|] and sat down.",
    )
    w.say(
        "{Friend} had [dropped|lost|forgotten] {friend.his} own lunch[ on the way|] and was"
        " [very|so] hungry.",
        "{Friend.his} stomach made a [loud|funny] noise. {Friend.he} had nothing to eat.",
        "{Friend~} said nothing, but {friend.he} looked at the {treat.noun} with big eyes.",
    )
    w.paragraph()
    greedy = w.maybe(0.4)
    if greedy:
        w.say(
            "{Hero} [turned away|hid behind a tree] and ate it all [alone|very fast].",
            '"It is mine," thought {hero}, and {hero.he} ate up the whole {treat.noun} [alone|in'
            " a hurry].",
        )
        w.say(
            "But it did not taste [good|as good as {hero.he} had hoped], and soon {hero.his}"
            " stomach hurt.",
            "[Afterward|But then] {hero~} felt [strange|bad], and not only in {hero.his} stomach.",
        )
        feel_sad(w, "friend")
        w.say(
            "{Hero} could not forget {friend.his} face.",
            "When {hero} saw that, {hero.he} felt [ashamed|sorry].",
        )
        w.words(
            sweet=w.one(
                (
                    "a basket of berries",
                    "two apples",
                    "a bag of nuts",
                    "a bowl of soup",
                    "some cheese and bread",
                )
            )
        )
        w.say(
            "{Hero~} ran home and came back with {sweet}, and this time {hero.he} gave {friend}"
            " the bigger part.",
            "So {hero~} hurried home, got {sweet} and shared it with {friend}.",
        )
        w.line(
            '"[I am sorry|I was greedy]," said {hero}. "[Next time I will share at once|Please'
            ' take as much as you want]."'
        )
    else:
        w.say(
            "{Hero} looked at the {treat.noun}. It was not very big. [Still|But then], {hero.he}"
            " {divide} and gave {friend} [one part|the bigger part].",
            "{Hero~} thought for a moment. Then {hero.he} {divide}.",
        )
        w.line(
            '"[Here|This is for you|Take this]," said {hero}. "[It tastes better together|There'
            ' is enough for two|I cannot eat while you are hungry]."'
        )
        w.say(
            "{Friend} [smiled|thanked {hero.him} with a full mouth|ate every crumb].",
            "They [sat side by side and ate|ate together and swung their feet].",
        )
        back = w.one(("nuts", "place", "later"))
        if back == "nuts":
            w.say(
                "[The next day|A week later], {hero} had nothing with {hero.him}, and it was"
                " {friend} who shared [a bag of nuts|a cheese bun|a handful of cherries] with"
                " {hero.him}."
            )
        elif back == "place":
            w.say(
                "Then {friend} showed {hero.him} a [secret|hidden] place where [wild"
                " strawberries|the sweetest berries|blue plums] grew, and they ate until they"
                " could eat no more."
            )
        else:
            w.say(
                "After lunch they had [so much|enough] strength for a long game of [tag|hide and"
                " seek|catch]."
            )
    w.note("share", "hero", "treat")
    if w.maybe(0.6):
        learned(
            w,
            "half of a thing can be worth more than all of it",
            "sharing makes two people happy",
            "nothing tastes good while a friend is hungry",
            "a shared meal tastes best",
        )
    else:
        go_home(w)


# What two friends do together: the plan, what each wants, why it fails alone, how both wishes fit.
_QUARRELS = (
    ("build a tree house", "a big window", "a high tower", "a tower with a window on each side", "could not hold the boards and hammer at the same time"),
    ("paint a sign", "a red border", "a blue border", "a border of red and blue stripes", "could not draw a straight line while holding the board"),
    ("play a game", "hide and seek", "catch", "first hide and seek and then catch", "found out that a game for one is no game"),
    ("bake a cake", "nuts in it", "raisins in it", "a cake with nuts and raisins", "could not stir and hold the bowl together"),
    ("put on a show", "a story about a king", "a story about the sea", "a story about a king who went to sea", "had nobody to answer on the stage"),
    ("build a raft", "a white sail", "a long oar", "a raft with a sail and an oar", "could not tie the logs alone, because they rolled away"),
    ("plant a flower bed", "yellow flowers", "blue flowers", "a ring of blue flowers around the yellow ones", "could not carry the big watering can alone"),
    ("make a hut out of leaves and sticks", "a round door", "a long hall", "a long hall with a round door", "saw the sticks fall down again and again"),
    ("sing at the spring feast", "a merry song", "a quiet song", "a song that began quietly and ended merrily", "sounded thin alone"),
)  # fmt: skip


def quarrel(w: World) -> None:
    """Two friends want different things, part, fail alone, and find what suits both."""
    w.cast_hero()
    plan, mine, yours, both, alone = w.one(_QUARRELS)
    w.words(plan=plan, mine=mine, yours=yours, both=both, alone=alone)
    begin(w, w.one(places_with(w.kind)), purpose=" to meet a friend")
    w.cast_friend("friend")
    w.say(
        "There {hero.he} met {friend}. They had planned to {plan}[ for a long time|].",
        "{Friend} was [already waiting|there first], and together they wanted to {plan}.",
    )
    w.line('"I want {mine}," said {hero}.')
    w.line('"[No|But no]! I want {yours}," said {friend}.')
    w.say(
        "One word led to another, [and the words were not nice|until both had red faces].",
        "[Soon|Before long] they were both shouting, and neither of them listened.",
        "They got louder and louder. [In the end|At last] {friend} stamped {friend.his} foot and"
        " walked away.",
        '"[Then do it alone|Then I will do it without you]!" cried {hero}, and they turned their'
        " backs on each other.",
    )
    w.paragraph()
    w.note("quarrel", "hero", "friend")
    w.say(
        "{Hero} [tried|began] alone. But {hero.he} {alone}.",
        "{Hero} [worked|tried] by {hero.himself} for a while, but {hero.he} {alone}.",
    )
    w.say(
        "There was nobody to [laugh with|talk to|hold the other end].",
        "It was [very quiet|no fun]. {Hero~} missed {friend}[ and {friend.his} jokes|].",
        "[Without {friend}|Alone], nothing was [right|any fun].",
    )
    way = w.one(("hero", "friend", "elder", "thing"))
    if way == "elder":
        w.cast_relative("elder")
        w.line(
            '"[Must one of you be wrong|Why not have both]?" asked {elder}, who had heard the'
            " shouting."
        )
        w.say("{Hero} thought about it and [went|ran] to {friend}.")
    elif way == "friend":
        w.say(
            "After a while there was a cough. {Friend} stood there, looking at {friend.his} feet."
        )
    elif way == "thing":
        w.say(
            "On a stone {hero~} [saw|found] a [flower|shiny shell|drawing of two friends]."
            " {Friend} had left it there, and now {friend.he} looked out from behind a tree."
        )
    else:
        w.say("So {hero} went to {friend}, who sat alone [on a log|under a tree|by the path].")
    w.line('"[I am sorry I shouted|I was wrong to shout|I do not want to fight]," said {hero}.')
    w.line(
        '"[I am sorry too|And I am sorry too|Let us be friends again]," said {friend}. "What'
        ' about {both}?"'
    )
    w.say(
        "Why not? They [looked at each other and grinned|shook on it], and [in no time|soon]"
        " they were busy.",
        "That was [better than|even better than] both ideas. They [shook {hero.hands}|laughed]"
        " and began at once.",
        "{Hero} [laughed|nodded]. Why had they not thought of that before? They [started|went to"
        " work] together.",
    )
    if w.maybe(0.5):
        learned(
            w,
            "two wishes can often fit together",
            "a friend is worth more than being right",
            "shouting closes the ears",
            "the best ideas belong to two",
        )
    else:
        w.say(
            "And [while they worked|all afternoon], neither of them could remember [how the"
            " quarrel had begun|why they had been so angry].",
            "When evening came, it was finished, and it was the best thing they had ever done.",
            "From then on, when they did not agree, they [first listened|sat down and thought of"
            " a third way].",
        )


# Ways to cheer somebody up, and whether they can work for anybody.
_CHEERS = (
    ("told a joke about a cow", "{Friend} did not laugh"),
    ("made the funniest face in the world", "{Friend} did not even look up"),
    ("sang a merry song", "{Friend} put both {friend.hands} over {friend.his} ears"),
    ("brought a big cookie", "{Friend} was not hungry"),
    ("stood on {hero.his} head", "{Friend} only sighed"),
    ("offered to play a game", "{Friend} shook {friend.his} head"),
    ("picked a bunch of flowers", "{Friend} thanked {hero.him}, but did not smile"),
    ("danced like a bear", "{Friend} looked the other way"),
)


_SORROWS = (
    ("{friend.his} best friend had moved away", "write a long letter", "wrote a letter together, with pictures on every page", "Two weeks later, an answer came"),
    ("{friend.his} grandmother was sick", "cook a pot of soup", "cooked a pot of soup and carried it to the sick bed", "The grandmother smiled and ate two bowls"),
    ("nobody had remembered {friend.his} birthday", "have a party after all", "made a small party with candles and cake", "It was late, but it was a real birthday"),
    ("{friend.he} had been the last in the race", "practice a little every day", "ran around the field together every evening", "By autumn {friend.he} was one of the fastest"),
    ("{friend.his} tower of blocks had fallen down", "build it again with a wider base", "built it again, wide at the bottom", "It stood until supper, and longer"),
    ("{friend.he} could not read the big words", "read a page every day", "read one page a day, word by word", "After a month {friend.he} read a whole book aloud"),
    ("{friend.his} drawing had been rained on", "make a new picture out of the spots", "turned every spot into an animal", "It was a better picture than the first"),
    ("the others had laughed at {friend.his} hat", "make a hat for each of them", "made six crazy hats out of paper", "Soon everybody wanted one"),
)  # fmt: skip


def cheer_up(w: World) -> None:
    """A friend is sad; tricks do not help, but listening shows what does."""
    w.cast_hero()
    why, idea, deed, result = w.one(_SORROWS)
    w.words(why=why, idea=idea, deed=deed, result=result)
    begin(w, w.one(places_with(w.kind)))
    w.cast_friend("friend")
    w.say(
        "There {hero.he} found {friend}, who was [sitting alone|very quiet|staring at the ground].",
        "{Friend} sat there with a [long|sad|pale] face.",
    )
    (first, no), (second, no_again) = w.some(_CHEERS, 2)
    w.words(first=first, no=no, second=second, no_again=no_again)
    w.say(
        '"I will cheer {friend.him} up," thought {hero}. {Hero.he} {first}. {No}.',
        "{Hero} wanted to help. First {hero.he} {first}. {No}.",
    )
    if w.maybe(0.65):
        w.say(
            "Then {hero} {second}. {No_again}.",
            "[Next|After that], {hero.he} {second}. {No_again}.",
        )
    w.paragraph()
    w.say(
        "[At last|In the end] {hero} [had no more ideas|gave up] and simply sat down [beside"
        " {friend.him}|next to {friend.him}]. For a [long|good] while, neither said a word.",
        "So {hero} stopped. {Hero.he} sat down [close to {friend}|on the ground] and asked,"
        ' "[What is wrong|Do you want to tell me]?"',
    )
    w.say("[Then|At last] {friend} [began to talk|told {hero.him} why|opened up]: {why}.")
    w.note("listen", "hero", "friend")
    w.line(
        '"[I see|Now I understand|That is sad]," said {hero}. "[We could|Let us] {idea}['
        ' together|]."'
    )
    w.say("{Friend} [looked up|wiped {friend.his} eyes|nodded slowly]. They {deed}.")
    w.say("{Result}.")
    if w.maybe(0.6):
        w.say(
            "And {friend} [smiled|laughed] for the first time [in days|that week].",
            "{Friend} [hugged|thanked] {hero}[ and laughed|].",
        )
    if w.maybe(0.6):
        learned(
            w,
            "listening is the best help",
            "one must first ask what is wrong",
            "a sad friend needs ears more than jokes",
        )
    else:
        habit_again(w)


def newcomer(w: World) -> None:
    """Somebody new and shy; the same liking makes two strangers friends."""
    w.cast_hero()
    introduce_hero(w)
    w.cast_friend("friend")
    w.telling.met("friend")
    w.make("thing", w.one(TOYS))
    w.paragraph()
    w.say(
        "One [day|morning], a new family moved into the [empty|old] house next door. They had"
        " {friend.a} named {friend.name}.",
        "{Friend.a}, {friend.name}, had just come to live nearby, and knew nobody.",
        "There was somebody new [on the road|nearby], {friend.a} called {friend.name}.",
    )
    w.say(
        "{Friend} was [so|very] shy that {friend.he} [hid behind the fence|never said a"
        " word|looked away] when {hero} came by.",
        "{Hero} said hello, but {friend} [ran inside|turned red and looked down].",
        "{Hero} waved. {Friend} [almost waved back|did not wave back], and [ran off|closed the"
        " door].",
    )
    w.line(
        '"[Maybe {friend.he} does not like me|I think {friend.he} does not want to'
        ' play|{Friend.he} must be angry with me]," thought {hero}.'
    )
    w.paragraph()
    way = w.one(("thing", "gift", "help"))
    w.telling.met("thing")
    if way == "thing":
        w.take("hero", "thing")
        w.say(
            "[But one day|Then, one afternoon], {hero} was outside, {thing.using}. {Hero.he}"
            " [heard|saw] something behind the fence. {Friend} was watching, with {thing.one} of"
            " {friend.his} own!"
        )
        w.line(
            '"You have one too!" said {hero}. "[Do you want to play with me|Shall we play'
            ' together]?"'
        )
        w.line(
            '"[Yes, please|I would love to]," said {friend}. It was the first thing {friend.he}'
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
            " family over the [road|fields]. {Hero} ran out and [helped to catch it all|picked"
            " up everything with them]."
        )
        w.say(
            "{Friend} ran beside {hero.him}, and both of them [laughed until they could not run"
            " any more|ended up in the same hedge, laughing]."
        )
    w.say(
        "From that day on, they [played together every day|were friends].",
        "It turned out that {friend} also loved to {habit}[, and they did it together|].",
        "Soon the two were [never seen apart|the best of friends].",
    )
    w.note("befriend", "hero", "friend")
    if w.maybe(0.6):
        learned(
            w,
            "being shy is not the same as being unkind",
            "somebody has to take the first step",
            "a stranger may be a friend one does not know yet",
        )
    elif w.maybe():
        go_home(w)


PLOTS = (
    sharing,
    quarrel,
    cheer_up,
    newcomer,
)
