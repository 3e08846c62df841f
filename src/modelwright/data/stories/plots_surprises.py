"""Plots in which the day goes differently: by weather, by riddles, by a sound at night."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import learned
from modelwright.data.stories.opening import begin_day, introduce_hero
from modelwright.data.stories.things import TOYS, toys_with
from modelwright.data.stories.world import World

# Plans, the weather that spoils them, what is done instead, and what is good about it.
_PLANS = (
    ("have a picnic on the hill", "a basket full of bread and cheese", "it began to rain", "spread the blanket on the kitchen floor and ate under the table", "no ants came to this picnic"),
    ("fly a kite", "a new kite", "the wind stopped completely", "hung the kite from the ceiling and told stories about where it had been", "the kite flew all the way to the moon, at least in the story"),
    ("go swimming", "a big towel", "the sky turned black and it thundered", "filled the tub and played that it was the sea", "this sea was warm"),
    ("camp in the garden", "a tent of old sheets", "a storm came and shook the trees", "put the tent up between two chairs", "nobody had to be afraid of the storm"),
    ("pick cherries", "two big pails", "fog came, so thick that nobody could see the trees", "listened for the birds in the cherry trees and followed the sound", "they came home with full pails after all"),
    ("sail a boat on the pond", "a little boat with a white sail", "it poured so hard that nobody could see the pond", "waited for the rain to stop and sailed the boat in the biggest puddle", "the puddle was right in front of the house"),
    ("visit the fair", "some coins in a small purse", "the road was flooded by the rain", "made a fair at home, with a puppet show and a prize for everybody", "there was no line to wait in"),
    ("play ball", "a new ball", "hail fell, as big as peas", "gathered the hail in a bowl and made cold drinks with it", "they had never had ice from the sky before"),
    ("draw with chalk on the road", "a box of colored chalk", "a shower washed every picture away", "drew on the wet stones and watched the colors run together", "the new picture looked like a rainbow"),
    ("watch the stars", "a warm blanket", "clouds covered the whole sky", "made stars out of paper and hung them over the bed", "these stars stayed until morning"),
)  # fmt: skip


def weather_changes(w: World) -> None:
    """A plan for a fine day; the weather turns, and something else is just as good."""
    w.cast_hero()
    plan, baggage, weather, instead, good = w.one(_PLANS)
    w.words(plan=plan, baggage=baggage, storm=weather, instead=instead, good=good)
    introduce_hero(w)
    if w.spare(0.6):
        w.cast_friend("friend")
    else:
        w.cast_relative("friend")
    w.paragraph()
    w.say(
        "For days, {hero~} had been looking forward to [Saturday|this day], when {hero.he} and"
        " {friend} wanted to {plan}.",
        "One [bright|sunny|fine] morning, {hero~} and {friend} wanted to {plan}.",
        '"[Today is the day|Get up|Look at the sky]!" cried {hero}, who was going to {plan} with'
        " {friend}.",
    )
    if w.spare(0.5):
        w.say(
            "They had {baggage}[ ready|] and [a lot of good humor|big hopes].",
            "{Hero~} had packed {baggage} [the night before|long before breakfast].",
            "Everything was ready, even {baggage}.",
        )
    w.say(
        "But [just as they wanted to leave|before they had even begun|when they opened the"
        " door], {storm}.",
        "They had [hardly|only just] started when {storm}.",
        "Nobody had thought of the weather, and [suddenly|then] {storm}.",
    )
    w.note("weather")
    w.paragraph()
    if w.spare(0.65):
        w.say(
            '"[The whole day is spoiled|Now everything is spoiled|It is not fair]!" [said|cried]'
            " {hero}[, close to tears|].",
            "{Hero} pressed {hero.his} nose against the window[ and sighed|].",
            "{Hero} [stamped one foot|kicked the door|sat down in a corner].",
        )
    w.say(
        '"[We can have fun anyway|I have an idea|Wait and see]!" said {friend}[ and began to'
        " grin|, after looking at the sky for a while|].",
        'Then {friend} had an idea and said, "[We do not need good weather|There is another way]."',
        "{Friend} [thought for a while|looked at the sky], and then {friend.he} began to [smile"
        "|whisper into {hero.'s} ear].",
    )
    w.say(
        "So they {instead}.",
        "[Soon|A little later], {hero} [laughed again|forgot to be sad], because they {instead}.",
        "[That afternoon|In the end], the two of them {instead}.",
    )
    w.say(
        "And the best of it was: {good}.",
        "{Hero} [laughed|had to admit it]: {good}.",
        "{Good}[, and that was the best part|, as {friend} said].",
    )
    if w.spare(0.25):
        w.say(
            "[The next time|A week later] the sun shone, and {hero~} was almost [sorry|a little"
            " sad] about it.",
            "When {hero} went to bed, {hero.he} hoped for more [bad weather|such days].",
        )
    elif w.spare(0.55):
        learned(
            w,
            "a good day does not depend on the sky",
            "a spoiled plan can make room for a better one",
            "good ideas come when the weather is bad",
            "there is more than one way to have fun",
        )


_RIDDLES = (
    ("I have a face and two hands, but no legs", "the clock"),
    ("I have teeth, but I never bite", "the comb"),
    ("I have a neck, but no head", "the bottle"),
    ("I have four legs, but I cannot walk", "the table"),
    ("I am full of holes and still hold water", "the sponge"),
    ("I have a tongue, but I cannot speak", "the old shoe"),
    ("I get wet while I dry others", "the towel"),
    ("I go up and down without moving", "the stairs"),
    ("I have many leaves, but I am no tree", "the big book"),
    ("I have ears of gold, but I hear nothing", "the corn in the field"),
    ("I eat wood and drink no water", "the stove"),
    ("I fall every night and rise every day, right in your room", "the curtain"),
    ("I have an eye, but I cannot see", "the needle in the sewing box"),
    ("I wear a hat of straw and frighten the birds", "the scarecrow"),
)


def treasure_hunt(w: World) -> None:
    """Riddles lead from one place to the next, up to a small treasure."""
    w.cast_hero()
    w.keep_short()
    begin_day(w)
    w.cast_relative("elder")
    first, second = w.some(_RIDDLES, 2)
    w.bind("first", {"": first[0], "answer": first[1]})
    w.bind("second", {"": second[0], "answer": second[1]})
    w.line(
        "One day, {hero~} found a [note|piece of paper] from {elder} [on the table|under"
        ' {hero.his} cup|on {hero.his} pillow|in {hero.his} shoe]: "{First}."',
        "{Elder} gave {hero~} a folded [note|paper] and [winked|smiled], because it was a riddle:"
        ' "{First}."',
        '"{First}," {hero~} read on a [note|piece of paper] from {elder}.',
    )
    w.cast_friend("friend")
    w.say(
        "{Hero~} [read|whispered] it twice and called {friend}, who was [good at riddles|always"
        " ready for an adventure].",
        "{Hero} [thought and thought|scratched {hero.his} head], and {friend}, who had come to"
        " play, [thought along|had no idea either].",
        "{Hero} [showed|read] it to {friend}, and they [puzzled over it|put their heads together].",
    )
    if w.spare(0.3):
        w.line(
            '"Is it [the dog|the moon|the river|a snake|the door]?" asked {friend}, but that [did'
            " not fit|could not be right]."
        )
    w.line('"[I have it|I know|Of course], it is {first.answer}!" [cried|called] {hero}.')
    w.paragraph()
    w.line(
        'They [ran to look|hurried there], and there [was|lay] a [second|new] [note|piece of paper]: "{Second}."',
        'And there, [well hidden|folded small], was the next [note|riddle]: "{Second}."',
        '"{Second}," said the next [note|riddle], which was [hidden well|stuck there with a pin].',
    )
    w.line(
        "[They walked around the house twice|They sat on the stairs and thought], and then {friend}"
        ' [cried|called], "{Second.answer}!"',
        '"[That one is easy. It|That] must be {second.answer}!" said {friend}.',
        '"{Second.answer}!" [said|cried] {friend}[ after a while|, before {hero} had even read it'
        " twice].",
    )
    w.make("thing", w.one(TOYS))
    w.words(
        prize=w.one(
            (
                "two honey cakes",
                "a bag of roasted nuts",
                "two gingerbread hearts",
                "a jar of cherries",
                "two sugar mice",
                "a box of raisins",
            )
        )
    )
    w.say(
        "They [ran|went] to look, and there was the treasure: {thing.a} and {prize}.",
        "There stood a [small|little] box, and in it they found {thing.a} and {prize}.",
        "They ran there and [found|discovered] {thing.a} and {prize}.",
    )
    w.take("hero", "thing")
    w.telling.met("thing")
    if w.spare(0.7):
        w.say(
            "{Hero} and {friend} [shared everything|ate the sweet things at once] and took turns"
            " {thing.playing}.",
            "They [ate together|shared fairly], and the rest of the day they spent"
            " {thing.playing}.",
        )
    w.note("solve", "hero")
    if w.spare(0.3):
        w.say(
            "The next [day|morning], {elder} found a note in {elder.his} [shoe|hat|cup], because"
            " [now it was {elder.his} turn|{hero} had written a riddle too].",
            "That evening, {hero} [sat down|began] to write a riddle for {elder}.",
        )
    elif w.spare(0.5):
        learned(
            w,
            "two heads are better than one",
            "the looking is half of the fun",
            "a riddle is easy once one knows the answer",
        )


# What frightens at night: the sign, where, what it might be, what it is, and what is done about it.
_FRIGHTS = (
    ("a scratching sound", "at the window", "a claw", "a twig of the apple tree moving in the wind", "tied the twig back with a string"),
    ("a tall shadow", "on the wall", "a giant", "a coat on a hook, with a hat above it", "hung the coat behind the door"),
    ("a long, low howl", "in the chimney", "a wolf", "the wind blowing over the chimney", "howled back, just for fun"),
    ("two green lights", "under the bed", "the eyes of a monster", "the old cat, who had found a warm place", "let the cat sleep on the blanket"),
    ("a soft tapping", "on the roof", "a thief", "the first drops of rain", "listened to the rain until it sounded like music"),
    ("a bump and a roll", "in the attic", "a ghost", "a family of mice playing with a nut", "left some crumbs for the mice"),
    ("a white thing", "in the garden", "a ghost", "a sheet that had been left on the line", "folded the sheet and brought it in"),
    ("a deep humming", "behind the wall", "a dragon", "a swarm of bees that had moved in", "planned a new home for the bees"),
    ("a slow drip, drip, drip", "in the kitchen", "footsteps", "water falling into a pan", "turned the tap until it was silent"),
    ("a creaking", "on the stairs", "somebody with heavy boots", "the old wood getting cool after the hot day", "said good night to the stairs"),
    ("a flicker of light", "behind the shed", "a fire spirit", "a crowd of fireflies", "sat down to watch the fireflies"),
    ("a loud snore", "behind the door", "a bear", "the dog, lying on its back", "scratched the belly of the dog"),
)  # fmt: skip


def afraid_at_night(w: World) -> None:
    """A sound or shape in the dark; going to look shows what it is."""
    w.cast_hero()
    frights = _FRIGHTS if not w.talking_animals else tuple(
        fright for fright in _FRIGHTS if not any(word in fright[3] for word in ("cat", "dog", "mice"))
    )  # fmt: skip
    sign, where, guess, truth, done = w.one(frights)
    w.words(sign=sign, where=where, guess=guess, truth=truth, done=done)
    introduce_hero(w)
    if w.spare(0.6):
        w.say(
            "{Hero.he} was [afraid of|not fond of] the dark[, but told nobody|].",
            "In the sunshine, nothing [could frighten {hero.him}|was too high or too fast for"
            " {hero.him}], but [in the dark|after sunset] it was different.",
            "[By day|In the daytime] {hero.he} was [quite|very] brave, but the nights were long.",
            "Only one thing was hard for {hero.him}: going to sleep [alone|in the dark].",
        )
    w.paragraph()
    w.until("night")
    w.say(
        "One [cold|warm|long|] night, {hero~} [woke up|could not sleep|sat up in bed], because there was {sign} {where}.",
        "One [windy|dark|still] night, when [all the others were asleep|the house was silent|everybody else was asleep], there was {sign} {where}.",
        "One night, [when the moon was up|very late], {hero} was in bed and suddenly noticed {sign}"
        " {where}.",
    )
    w.say(
        '"[It is|That must be] {guess}," [thought|whispered] {hero}[ and pulled the blanket up|].',
        "{Hero~} [hid under the blanket|held {hero.his} breath|did not dare to move], because it"
        " [might be|could be] {guess}.",
        "{Hero~} thought of {guess} and [lay quite still|began to shiver].",
    )
    if w.spare(0.5):
        w.say(
            "The [night|dark] seemed [longer|deeper] than ever, and the [door|lamp|morning] very far away.",
            "{Hero~} wanted to call out, but {hero.his} [voice was gone|mouth was dry|lips did not move].",
            "{Hero.his} heart [beat|hammered] like a drum.",
            "{Hero~} counted to [ten|twenty|fifty], but it [did not go away|was still there|only got worse].",
            "There it was again, [a little louder|even clearer] this time.",
        )
    w.paragraph()
    company = w.one(("alone", "elder", "toy"))
    if company == "elder":
        w.cast_relative("elder")
        w.say(
            "{Hero} [ran|crept|tiptoed] to {elder}, who was [still awake|only half asleep], and"
            " told {elder.him} about it.",
            "So {hero} called {elder}, who [came with a lamp|was still awake|came at once].",
        )
        w.line(
            '"[Shall we look together?|Come, let us go and see!|Let us say hello to it!]"'
            " {elder} said[ and lit the lamp|]."
        )
        w.say(
            "[Hand in hand|Step by step], they went to look, and it was {truth}!",
            "So they went, [hand in hand|step by step], and found {truth}.",
        )
    elif company == "toy":
        w.make("thing", w.one(toys_with("cloth")))
        w.say(
            "{Hero} took {thing} in one {hero.hand} and the lamp in the other, [felt a bit"
            " braver|took a deep breath|held both tightly] and [went|set out|crept off] to look.",
        )
        w.say(
            "There was {truth}[, and nothing else|].",
            "But it was only {truth}.",
        )
    else:
        w.say(
            "{Hero~} [took a deep breath|lit the lamp|counted to three] and [went|tiptoed] to"
            " look, but it was only {truth}.",
            "[But|Then] {hero} thought that [it is better to know|not knowing is worse], [got"
            " up|put one foot on the floor], [went to look|crept closer] and [found|saw] {truth}.",
        )
    w.note("look", "hero", truth)
    w.say(
        '"[So that is all|Is that all]!" said {hero}, and [soon|then] {hero.he} {done}.',
        "{Hero} had to laugh[ out loud|], and then {hero.he} {done}.",
        "{Hero} [laughed|sighed with relief], {done} and went back to bed.",
    )
    if w.spare(0.35):
        w.say(
            "After that, {hero~} slept [soundly|like a stone].",
            "Since that night, whenever there was a strange sound, {hero~} [wanted to find out"
            " what it was|smiled and went to look].",
        )
    elif w.spare(0.5):
        learned(
            w,
            "a fear gets smaller when one looks at it",
            "most monsters are gone when the lamp is lit",
            "being brave means going to look although one is afraid",
            "the dark is full of ordinary things",
        )


PLOTS = (
    weather_changes,
    treasure_hunt,
    afraid_at_night,
)
