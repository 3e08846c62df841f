"""Plots between friends: they share, quarrel and comfort each other."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import close, habit_again, learned
from modelwright.data.stories.opening import begin
from modelwright.data.stories.places import places_with
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
        " {friend} {spot}, [pale and hungry|without any lunch].",
        "Then {friend} came by, who had [dropped|lost|forgotten] {friend.his} own lunch[ on the"
        " way|].",
        "{Friend} was sitting {spot}, and {friend.his} stomach made a [loud|funny] noise.",
        "{Friend}, who had [eaten nothing since breakfast|no lunch that day], looked at the"
        " {treat.noun} with big eyes.",
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
            "But it did not taste [good|as good as {hero.he} had hoped], and {hero.he} could not"
            " forget {friend.his} face.",
            "[Afterward|But then] {hero~} saw {friend.his} [sad|pale] face and felt"
            " [ashamed|sorry].",
            "Soon {hero.his} stomach hurt, and when {friend} [sat there with empty"
            " {friend.hands}|turned away without a word], {hero.he} felt worse.",
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
            '"[I am sorry|I was greedy]. [Next time I will share at once|Please take as much as'
            ' you want]," said {hero}.'
        )
        if w.spare(0.5):
            w.say(
                "{Friend} [was not angry for long|forgave {hero.him} with a full mouth].",
                "They ate [side by side|together], and it tasted [better than before|wonderful].",
            )
    else:
        w.say(
            "The {treat.noun} was not very big, but {hero} {divide} and gave {friend} [one"
            " part|the first piece].",
            "{Hero~} thought for a moment, and then {hero.he} {divide}.",
            "Without [a word|waiting], {hero~} {divide}, and {friend} got the [first|best] piece.",
        )
        w.line(
            '"[Here|This is for you|Take this]! [It tastes better together|There is enough for'
            ' two|I cannot eat while you are hungry]," said {hero}.'
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
    close(
        w,
        "half of a thing can be worth more than all of it",
        "sharing makes two people happy",
        "nothing tastes good while a friend is hungry",
        "a shared meal tastes best",
    )


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
    w.keep_short()
    plan, mine, yours, both, alone = w.one(_QUARRELS)
    w.words(plan=plan, mine=mine, yours=yours, both=both, alone=alone)
    begin(w, w.one(places_with(w.kind)), purpose=" to meet a friend")
    w.cast_friend("friend")
    w.say(
        "There {hero.he} met {friend}, because they had planned to {plan}.",
        "{Friend} was [already waiting|there first], and together they wanted to {plan}.",
        "{Friend} came too, and they [began|got ready] to {plan}.",
    )
    w.line(
        '"I want {mine}," said {hero}, but {friend} [shouted|said|answered], "[No|But no], I want'
        ' {yours}!"',
        "{Hero} wanted {mine}, but {friend} [would not hear of it and|] asked for {yours}.",
        '"{Yours}!" said {friend}, but {hero} [wanted {mine}|shook {hero.his} head and asked for'
        " {mine}].",
    )
    w.say(
        "One word led to another, [and the words were not nice|until both had red faces], and"
        " [{friend}|at last {friend}] [marched off|ran away].",
        "[Soon|Before long] they were both [shouting|very loud|red in the face], and [neither of them|neither] [listened|gave in].",
        "They got louder and louder, until {friend} stamped {friend.his} foot and [marched off|ran away].",
        '"[Then do it alone|Then I will do it without you]!" cried {hero}, and they turned their'
        " backs on each other.",
    )
    w.paragraph()
    w.note("quarrel", "hero", "friend")
    w.say(
        "{Hero} [tried|began] without {friend}, but {hero.he} {alone}[, and there was nobody to laugh with|].",
        "{Hero} [worked|tried] by {hero.himself} for a while, but {hero.he} {alone}.",
        "Now {hero} {alone}, and it was [very quiet|no fun at all].",
        "Without {friend}, {hero} {alone}, and nothing was [right|any fun].",
    )
    way = w.one(("hero", "friend", "elder", "thing"))
    if way == "elder":
        w.cast_relative("elder")
        w.line(
            '"[Must one of you be wrong|Why not have both]?" asked {elder}, who had heard the'
            " shouting[, and so {hero} went to {friend}|]."
        )
    elif way == "friend":
        w.say(
            "After a while there was a [cough|small cough|sound], and {friend} stood there, looking at {friend.his}"
            " feet.",
            "Then {friend} came back, [very slowly|step by step], with {friend.his} head down.",
        )
    elif way == "thing":
        w.say(
            "On a stone lay a [flower|shiny shell|drawing of two friends], and {friend}, who had"
            " left it there, looked out from behind a tree."
        )
    else:
        w.say(
            "So {hero} went to {friend}, who sat alone [on a log|under a tree|by the path].",
            "{Hero} [missed|thought of] {friend} and {friend.his} jokes, and went to look for"
            " {friend.him}.",
        )
    w.line(
        '"[I am sorry I shouted|I was wrong to shout|I do not want to fight]," said {hero}.',
        '"[Let us be friends again|I am sorry]," said {hero}[, and {hero.he} meant it|].',
    )
    w.line(
        '"[I am sorry too|So am I]. What about {both}?" asked {friend}.',
        '"[Me too|I know]! [We could have|How about] {both}?" asked {friend}.',
    )
    w.say(
        "They [looked at each other and grinned|shook on it], and [in no time|soon] they were"
        " busy.",
        "That was [better than|even better than] both ideas, so they [shook"
        " {hero.hands}|laughed] and began at once.",
        "{Hero} [laughed|nodded], and they [started|went to work] together.",
    )
    if w.spare(0.35):
        w.say(
            "And [while they worked|all afternoon], neither of them could remember [how the"
            " quarrel had begun|why they had been so angry].",
            "When evening came, it was finished, and it was the best thing they had ever done.",
            "From then on, when they did not agree, they [first listened|sat down and thought of"
            " a third way].",
        )
    elif w.spare(0.35):
        learned(
            w,
            "two wishes can often fit together",
            "a friend is worth more than being right",
            "shouting closes the ears",
            "the best ideas belong to two",
        )


# Ways to cheer somebody up, and whether they can work for anybody.
_CHEERS = (
    ("told a joke about a cow", "{friend~} did not laugh"),
    ("made the funniest face in the world", "{friend~} did not even look up"),
    ("sang a merry song", "{friend~} put both {friend.hands} over {friend.his} ears"),
    ("brought a big cookie", "{friend~} was not hungry"),
    ("stood on {hero.his} head", "{friend~} only sighed"),
    ("offered to play a game", "{friend~} shook {friend.his} head"),
    ("picked a bunch of flowers", "{friend~} thanked {hero.him} without a smile"),
    ("danced like a bear", "{friend~} looked the other way"),
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
    """A friend is sad; a trick does not help, but listening shows what does."""
    w.cast_hero()
    why, idea, deed, result = w.one(_SORROWS)
    w.words(why=why, idea=idea, deed=deed, result=result)
    begin(w, w.one(places_with(w.kind)))
    w.cast_friend("friend")
    w.say(
        "There {hero.he} found {friend}, who was [sitting alone|very quiet|staring at the ground].",
        "{Friend} sat there with a [long|sad|pale] face.",
        "{Friend} was there too, but [did not look up|said nothing|would not play].",
    )
    (first, no), (second, no_again) = w.some(_CHEERS, 2)
    w.words(first=first, no=no, second=second, no_again=no_again)
    if w.spare(0.4, 7):
        w.say(
            "To cheer {friend.him} up, {hero} {first}, but {no}.",
            "{Hero} wanted to help and {first}, but {no}.",
        )
        w.say(
            "Then {hero} {second}, but {no_again}.",
            "[Next|After that], {hero.he} {second}, but {no_again}.",
        )
    else:
        w.say(
            "To cheer {friend.him} up, {hero} {first} and then {second}, but {no_again}.",
            "{Hero} wanted to help, so {hero.he} {first}, but {no}.",
            "First {hero} {first}, then {hero.he} {second}, but {no_again}.",
        )
    w.paragraph()
    w.say(
        "[At last|In the end] {hero} [had no more ideas|gave up] and simply sat down [beside"
        " {friend.him}|next to {friend.him}][, and neither said a word|].",
        'So {hero} stopped, sat down [close to {friend}|on the ground] and asked, "[What is'
        ' wrong|Do you want to tell me]?"',
    )
    w.say("[Then|At last] {friend} [began to talk|told {hero.him} why|opened up]: {why}.")
    w.note("listen", "hero", "friend")
    w.line(
        '"[I see|Now I understand|That is sad]. [We could|Let us] {idea}[ together|]," said'
        " {hero}.",
        '"[Let us|Why don\'t we|We could] {idea}[ together|]," said {hero} [after a while|when'
        " {hero.he} had heard it all].",
    )
    w.say(
        "{Friend} [looked up|wiped {friend.his} eyes|nodded slowly], and they {deed}.",
        "So they {deed}.",
        "[That same day|The same evening|Then] they {deed}.",
    )
    w.say("{Result}.")
    if w.spare(0.5):
        w.say(
            "And {friend} [smiled|laughed] for the first time [in days|that week].",
            "{Friend} [hugged|thanked] {hero}[ and laughed|].",
        )
    close(
        w,
        "listening is the best help",
        "one must first ask what is wrong",
        "a sad friend needs ears more than jokes",
        other=habit_again,
    )


PLOTS = (
    sharing,
    quarrel,
    cheer_up,
)
