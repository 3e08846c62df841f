"""Plots about trust: promises, secrets and the truth."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import close, habit_again, learned
from modelwright.data.stories.opening import begin_day
from modelwright.data.stories.things import TOYS
from modelwright.data.stories.world import World

_PROMISES = (
    ("water the beans", "before noon", "the leaves were hanging down", "the leaves stood up straight and green"),
    ("feed the hens", "before dark", "the hens were calling sadly", "the hens ate and went to sleep"),
    ("close the gate", "at once", "the goat had eaten half of the cabbages", "the goat and the cabbages were both safe"),
    ("bring in the washing", "before the rain", "all the shirts were wet again", "all the shirts were dry and warm"),
    ("carry soup to a sick neighbor", "while it is hot", "the soup was cold", "the soup was still hot"),
    ("watch the bread in the oven", "for ten minutes", "the bread was as black as coal", "the bread was golden brown"),
    ("take the letter to the mill", "before noon", "the mail cart had already left", "the mail cart was still there"),
    ("pick up the baby's toys", "before supper", "everybody stumbled over them", "nobody stumbled over anything"),
    ("light the lamp by the door", "before dark", "the family could not see the path", "the family found the path home easily"),
)  # fmt: skip


_TEMPTATIONS = (
    "a puppet show had come to the square",
    "some friends were flying a big kite",
    "a boat with a yellow sail was on the water",
    "the others were sliding down the hay",
    "a band was playing music down the road",
    "there was a new swing under the big tree",
    "everybody was splashing in the stream",
    "somebody was giving rides on a cart",
)


def promise(w: World) -> None:
    """A promise meets a temptation; it is kept or broken, and both have their consequence."""
    w.cast_hero()
    w.keep_short()
    task, by_when, failed, done = w.one(_PROMISES)
    w.words(task=task, by=by_when, failed=failed, done=done, fun=w.one(_TEMPTATIONS))
    begin_day(w)
    w.cast_parent("elder")
    w.line(
        '"Will you {task} {by}?" asked {elder}[, who had to go out|, who had so much to do|].',
        '"[I have to go out|I cannot do it today|I have so much to do]. Will you {task} {by}?"'
        " {elder} asked one day.",
    )
    w.line(
        '"[Yes, I promise|I promise|You can count on me]," said {hero}.',
        "{Hero} [gave|promised it and gave] {hero.his} word.",
    )
    w.note("promise", "hero", task)
    w.cast_friend("friend")
    w.say(
        "But then {friend} [came running|knocked at the door] and [said|called out] that {fun}.",
        '"[Come with me|Come quickly|Hurry up]!" [called|cried] {friend}[ a little later|],'
        " because {fun}.",
        "[A little later|Soon], {fun}, and {friend} came to get {hero}.",
    )
    w.paragraph()
    if w.maybe(0.5):
        w.say(
            "{Hero~} [took two steps toward the gate|already had one foot outside], but then"
            " {hero.he} remembered {hero.his} promise.",
            "{Hero} [wanted to go very much|looked down the road], but {hero.he} thought of"
            " {hero.his} promise.",
            "{Hero.his} feet wanted to [run|go|jump up] at once, but a promise [is|was] a promise.",
        )
        w.line(
            '"[I will come later|Not yet|You go first]. First I have to {task}," said {hero}.',
            '"[I want to|I would love to], but first I have to {task}," said {hero}.',
        )
        if w.maybe(0.5):
            w.say(
                "So {friend} [stayed and helped|helped {hero.him}], and together they were done"
                " [in no time|before long|quickly]."
            )
        else:
            w.say(
                "{Hero} did it [carefully|as well as {hero.he} could], although {hero.he} could"
                " hear the others [laughing|shouting|singing] [far away|in the distance]."
            )
        w.note("keep", "hero", task)
        w.line(
            'When {elder} came back, {done}, and {elder.he} said, "I knew that I could [trust|count'
            ' on] you."',
            '{Done}, and "I knew that I could [trust|count on] you," was what {elder} said.',
            '"I knew that I could [trust|count on] you," said {elder}, because {done}.',
        )
        w.say(
            "Afterward, {hero.he} [ran|hurried] along too, and it was [twice the fun|the best hour"
            " of the week], because nothing [pressed on {hero.his} heart|was left to do].",
            "Then {hero} ran to the others, and it was [even more fun|not too late at all].",
            "And there was still [time|enough time] for fun, and {hero} enjoyed it with a light"
            " heart.",
        )
    else:
        w.say(
            '"It will not take long," thought {hero}, and off they ran.',
            "{Hero} forgot {hero.his} promise and ran along.",
        )
        w.note("break", "hero", task)
        w.say(
            "It was [great|wonderful|splendid] fun, and [only much later|only after hours|only when the sun was low] {hero~}"
            " remembered and ran home.",
            "They [laughed and played|ran and shouted] [for hours|until their legs were tired], and then {hero}"
            " [turned pale|stood still|stopped] and [thought of|remembered] the promise.",
        )
        w.say("But it was too late: {failed}.", "When {hero~} got there, {failed}.")
        w.line(
            '"I [forgot|broke] my promise, and I am sorry," {hero} told {elder}[ with tears in'
            " {hero.his} eyes|].",
            '"I [forgot|broke] my promise, [but|and] I want to make it good again," {hero}'
            " [whispered|said].",
        )
        w.say(
            "{Elder} was [not pleased|sad], but together they [put things right|did what could"
            " still be done].",
            "{Elder} [was glad to hear the truth|put an arm around {hero.him}|nodded] and helped to [put"
            " things right|do what could still be done].",
            "{Elder} showed {hero.him} how to [make it good|put it right], and {hero} worked [hard|] until [evening|it"
            " was dark].",
        )
    close(
        w,
        "a promise comes first",
        "a promise is easy to give and harder to keep",
        "fun can wait, but a promise cannot",
        "people count on what one says",
        other=habit_again,
    )


_SURPRISES = (
    ("a paper star", "had glue on {friend.his} {friend.hands}"),
    ("a cake with berries on top", "had flour on {friend.his} nose"),
    ("a picture of the two of them", "had blue paint on {friend.his} chin"),
    ("a song", "was humming something and stopped at once"),
    ("a crown of flowers", "had leaves in {friend.his} {friend.hair}"),
    ("a little wooden boat", "had sawdust on {friend.his} sleeves"),
    ("a warm scarf", "had threads of wool all over"),
    ("a tent of old blankets", "was carrying a huge blanket"),
    ("a small drum", "hid something round behind {friend.his} back"),
)


def misunderstanding(w: World) -> None:
    """A friend keeps a secret; the hero thinks the worst, and it is a surprise."""
    w.cast_hero()
    w.keep_short()
    gift, trace = w.one(_SURPRISES)
    w.words(gift=gift, trace=trace)
    begin_day(w)
    w.cast_friend("friend")
    w.say(
        "One day, {hero~} wanted to play with {friend}, but {friend} [shook {friend.his}"
        " head|would not open the door].",
        "{Hero} [ran|went] to the house of {friend} and knocked, but {friend} opened the door"
        " only a little.",
    )
    w.telling.met("friend")
    w.line(
        '"[I have no time|Not today|I cannot play now]. [Maybe tomorrow|Go away, please|I am'
        ' busy]," said {friend}, who {trace}.',
        '"[I have no time|Not today|I cannot play now]," said {friend}, and {hero} saw that'
        " {friend.he} {trace}.",
    )
    if w.spare(0.3):
        w.say(
            "[Later|In the afternoon], {friend} was whispering with some of the others, and they"
            " [stopped|were silent] when {hero} came near.",
            "[The next day|Later] it was the same, and {friend} [ran off|hid something] when"
            " {hero} came.",
        )
    w.paragraph()
    w.say(
        '"{Friend.he} does not like me any more," thought {hero}[ and walked home slowly|, close to'
        " tears|].",
        "[Now|So] {hero~} was sure that {friend} was [angry with {hero.him}|no longer {hero.his}"
        " friend].",
    )
    brave = w.maybe(0.5)
    if brave:
        w.cast_relative("elder")
        w.line(
            '"[You only know half of it|Guessing is not knowing]. [Go and ask {friend.him}|You'
            ' should ask {friend.him}]," said {elder}.',
            '"[Why do you not ask {friend.him}|Have you asked {friend.him}]?" said {elder}.',
        )
        w.line(
            'So {hero} [took heart|was brave], went back and asked, "[Are you angry with me|Did I'
            ' do something wrong]?"'
        )
        w.say(
            "{Friend} [turned red|laughed] and pulled {hero.him} [inside|in|into the house], and there was {gift}, made"
            " for {hero}."
        )
    else:
        w.say(
            "{Hero} stayed at home [all day|and talked to nobody], and {hero.he} did not even want"
            " to {habit}.",
            "For two days {hero~} kept away from {friend}.",
        )
        w.say(
            "Then there was a [knock|soft knock|loud knock] at the door, and {friend} [was standing|stood] there with {gift}.",
            "But on the third day, {friend} came [running|up the path] with {gift}.",
        )
    w.line(
        '"[Happy birthday|Surprise|This is for you]! [I worked on it for days|It had to be a'
        ' secret|I wanted to surprise you]!" cried {friend}.'
    )
    w.say(
        "{Hero} did not know whether to laugh or cry, so {hero.he} did both.",
        "{Hero} [felt silly|was ashamed], but most of all {hero.he} was happy.",
        "[How {hero} laughed|How glad {hero} was], and how {hero.he} hugged {friend}!",
    )
    if w.spare(0.45):
        learned(
            w,
            "it is better to ask than to guess",
            "a secret can be a kind one",
            "friends should be trusted",
            "half a story is not the whole story",
        )
    elif w.spare(0.4):
        w.say("They [laughed about it|told the story] for years.")


_FRAGILE = tuple(
    f"{look} {noun}"
    for noun in ("vase", "jug", "plate", "mirror", "lamp", "teapot")
    for look in ("blue", "old", "white", "painted", "fine")
)


_BLAMED = ("the cat", "the wind", "a bird", "the dog", "a mouse")


def the_truth(w: World) -> None:
    """The hero breaks something and blames another; a clue and a bad feeling bring out the truth."""
    w.cast_hero()
    w.keep_short()
    w.cast_relative("elder")
    begin_day(w)
    w.tool("thing", w.one(_FRAGILE))
    w.words(
        blamed=w.one(_BLAMED if not w.talking_animals else ("the wind", "a magpie", "the rain"))
    )
    w.say(
        "{Elder} had {thing} that {elder.he} [loved very much|had had since {elder.he} was"
        " small], and nobody was allowed to [touch it|play with it].",
        "On the shelf stood {elder.'s} dearest thing, {thing}, which nobody was allowed to touch.",
        '"Please do not [touch it|play with it]," {elder} always said about {thing} on the shelf.',
    )
    w.telling.met("thing")
    w.say(
        "One [day|afternoon], when {elder} was [in the garden|at the market|asleep], {hero~} took"
        " it down, [tripped|was not careful], and it broke.",
        "[But|For one moment,] {hero} was alone and [took it down|wanted to look at it only"
        " once], and it [slipped|fell] from {hero.his} {hero.hands} and broke.",
        "{Hero} [climbed on a chair|reached up] to [hold it for a moment|see it better], and"
        " [crash|bang], it lay on the floor in pieces.",
    )
    w.note("break", "hero", "thing")
    w.paragraph()
    w.line(
        '"It was {blamed}," said {hero} when {elder} [came in|asked who had done it|saw the'
        " pieces].",
        '"Who did this?" asked {elder}, and {hero} said, "It was {blamed}."',
    )
    w.note("lie", "hero")
    if w.spare(0.4):
        w.say(
            "{Elder} only [nodded slowly|picked up the biggest piece|raised {elder.his} eyebrows].",
            "{Elder} said nothing[ and swept up the pieces|].",
            "{Elder} [looked at {hero.him} for a long time|sighed and got the broom].",
        )
    w.say(
        "All [day|evening], {hero~} [saw the pieces in front of {hero.him}|thought of nothing"
        " else|walked around it in a wide circle].",
        "When {elder} was [kind|friendly] to {hero.him}, it [only|] made things worse.",
        "At supper, {hero} could not eat, and in bed, {hero.he} could not sleep.",
        "The lie sat in {hero.his} stomach like a [cold stone|heavy stone|lump of dough].",
        "{Hero~} tried to {habit}, but {hero.he} could not enjoy it.",
    )
    w.say(
        '"{Blamed} did not do it. I did," {hero~} [said|whispered] [late that night|before'
        " breakfast].",
        "[At last|In the end] {hero.he} [got up|went to {elder}] and [told {elder.him} the"
        " truth|said how it had really been].",
        'Then {hero~} could not bear it any longer and [said|whispered], "[It was me|I broke it]."',
    )
    w.note("truth", "hero")
    w.line(
        '"I knew. [There was a chair under the shelf|Your shoe was lying beside the pieces|{Blamed}'
        ' was not even in the house]," said {elder}.',
        '"[I am glad that you told me|I was waiting for you to say it|I thought so]," said'
        " {elder}[, who had known it all along|].",
    )
    repair = w.one(("glue", "new", "chores"))
    if repair == "glue":
        w.say(
            "The next morning, they [sat at the table|sat down together] and glued the pieces,"
            " one by one."
        )
    elif repair == "new":
        w.make("gift", w.one(TOYS))
        w.say(
            "[In its place|Instead], {hero} put {hero.his} own {gift.full} on the shelf, and"
            " {elder} [left it there|dusted it every day|would not move it again].",
            "{Hero} had no money, but {hero.he} had {gift.a}, and now it stood on the shelf.",
        )
    else:
        w.say(
            "To make up for it, {hero} [washed the dishes|swept the floor|watered the garden]"
            " for a whole week, and {hero.he} did it gladly."
        )
    if w.spare(0.35):
        w.say(
            "That night, {hero} slept [very well|like a stone].",
            "[After that|Now] {hero.his} stomach was light again.",
        )
    elif w.spare(0.4):
        learned(
            w,
            "a lie weighs more than the truth",
            "the truth may be hard, but it feels better",
            "everybody breaks something once, but nobody has to lie about it",
        )


PLOTS = (
    promise,
    misunderstanding,
    the_truth,
)
