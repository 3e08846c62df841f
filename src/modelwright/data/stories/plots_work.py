"""Plots about work: a skill, a task too big for one, a wish that needs steps."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.closing import close, habit_again, learned
from modelwright.data.stories.moves import feel_glad, feel_sad
from modelwright.data.stories.opening import begin_day, introduce_hero
from modelwright.data.stories.world import World

# A skill, how the first and the second try fail, the hint that helps, and the first success.
_SKILLS = (
    ("ride a bicycle", "fell into the hedge", "rode in a circle and hit the gate", "Look ahead, not at the wheel", "rode all the way to the corner"),
    ("whistle", "only blew air", "made a sound like a kettle", "Make your lips round and small", "whistled a whole song"),
    ("tie a bow", "made a big knot", "had two strings and no bow", "First the ear of a hare, then around it and through", "tied a bow that held all day"),
    ("swim", "swallowed half of the pond", "went under like a stone", "Lie on the water as if it were a bed", "swam from one side to the other"),
    ("knit", "dropped every second loop", "knitted a scarf with five holes", "Count the loops in every row", "made a scarf without a single hole"),
    ("juggle", "dropped one ball after the other", "hit the lamp with the second ball", "Throw only when the other is at the top", "kept three balls in the air"),
    ("play the flute", "made the neighbors close their windows", "played something like a squeaking door", "Blow as softly as if you cooled your soup", "played a song so well that the birds were silent"),
    ("bake bread", "got a loaf as hard as a brick", "got a loaf as flat as a plate", "Let the dough rest in a warm place", "took a round brown loaf out of the oven"),
    ("skip stones", "heard a single plop", "heard two plops and got wet feet", "Take a flat stone and keep your {hero.hand} low", "made a stone skip seven times"),
    ("row a boat", "went around in circles", "ran into the reeds", "Pull with both arms at the same time", "rowed straight to the other bank"),
    ("draw a horse", "drew something like a table", "drew something like a very thin dog", "Look at the horse more than at the paper", "drew a horse that seemed to run"),
    ("catch a ball", "closed both eyes and missed", "caught it for a moment and let it fall", "Watch the ball until you feel it", "caught it ten times in a row"),
    ("walk on stilts", "fell off before the first step", "took two steps and sat in the flowers", "Keep moving, do not stand still", "walked all around the house"),
    ("dance the round dance", "stepped on everybody's feet", "went left when all the others went right", "Listen to the drum and not to your feet", "danced until the last note"),
)  # fmt: skip


def learn_skill(w: World) -> None:
    """A skill: two failures, one hint, practice, success."""
    w.cast_hero()
    skill, first, second, hint, success = w.one(_SKILLS)
    w.words(skill=skill, first=first, second=second, hint=hint, success=success)
    introduce_hero(w)
    w.say(
        "But {hero~} could not {skill}[, although all the others could|].",
        "There was one thing {hero~} wanted to learn: to {skill}.",
        "[More than anything else|For a long time], {hero~} had wanted to {skill}.",
    )
    w.paragraph()
    if w.spare(0.35):
        w.cast_friend("friend")
    else:
        w.cast_relative("friend")
    if w.spare(0.5):
        w.say(
            "[One day|One morning|On a free day], {hero~} [tried|began], but {hero.he} {first}.",
            "The first time {hero~} tried, {hero.he} {first}.",
        )
        w.note("fail", "hero", skill)
        w.say(
            "{Hero~} tried again[ the next day|], and this time {hero.he} {second}.",
            "The second time was [not much better|no better], because {hero.he} {second}.",
        )
    else:
        w.note("fail", "hero", skill)
        w.say(
            "The first time {hero~} tried, {hero.he} {first}, and [the second time|the next"
            " time|after that] {hero.he} {second}.",
            "[One day|One morning|On a free day] {hero~} tried and {first}, and when {hero.he}"
            " tried again, {hero.he} {second}.",
        )
    w.note("fail", "hero", skill)
    if w.spare(0.3):
        feel_sad(w)
    elif w.spare(0.7):
        w.line('"[I will never learn it|I cannot do it|It is too hard]!" [cried|said] {hero}.')
    w.paragraph()
    w.line(
        '"[Nobody can do it the first time|I needed a whole month|I fell a hundred times].'
        ' {hint}," said {friend}, who [had been watching|came by].',
        '"{hint}," said {friend} and sat down next to {hero.him}.',
        '"{hint}. [That is the whole secret|That is how I learned it|Then try again]," said'
        " {friend}[, who had been watching|].",
    )
    w.say(
        "{Hero~} practiced every [day|evening], [in sun and rain|even when {hero.he} was tired|a"
        " little longer each time].",
        "So {hero~} tried again, and again, and [a hundred times|many more times] after that.",
    )
    w.say(
        "[And one day|Then, at last|After a week], {hero~} {success}.",
        "On the [tenth|seventh|twelfth] day, {hero~} {success}.",
    )
    w.note("succeed", "hero", skill)
    if w.spare(0.45):
        feel_glad(w)
    if w.spare(0.35):
        w.say(
            "Soon afterward, a small {hero.kind} came up and asked how it was done, and {hero}"
            ' said, "{hint}."',
            "That evening, {hero~} showed it to [everybody|the whole family], [twice|three times].",
        )
    elif w.spare(0.6):
        learned(
            w,
            "every master has failed many times",
            "practice makes hard things easy",
            "falling is a part of learning",
            "one more try can be the one that counts",
        )


# A task too big for one, why, and what each helper can do.
_TASKS = (
    ("bring in the hay before the storm", "the field was wide", ("raked", "carried", "drove the cart", "piled it up in the barn")),
    ("clear the path of fallen branches", "there were so many", ("dragged", "sawed", "piled them up", "swept the rest away")),
    ("paint the old fence", "the fence had no end", ("scraped", "stirred the paint", "painted the top", "painted the bottom")),
    ("pull out the giant turnip", "it did not move at all", ("pulled", "pushed", "dug around it", "counted to three for all of them")),
    ("build a bridge over the stream", "the logs were too heavy", ("measured", "rolled the logs", "tied the ropes", "laid the boards")),
    ("move the old boat to the water", "the boat was stuck in the sand", ("dug out the sand", "laid down round logs", "pulled in front", "pushed from behind")),
    ("pick all the apples before the frost", "there were fifty trees", ("climbed", "held the ladder", "carried the baskets", "sorted the apples")),
    ("clean up after the flood", "there was mud everywhere", ("scooped", "carried water", "scrubbed the floor", "hung the rugs in the sun")),
    ("make a quilt for the new baby", "it needed a hundred patches", ("cut", "matched the colors", "sewed", "ironed the seams")),
    ("decorate the square for the feast", "it was only one day away", ("made paper chains", "hung up the lanterns", "set the tables", "swept the stones")),
)  # fmt: skip


def big_task(w: World) -> None:
    """Too much for one: each helper does what they can do best."""
    w.cast_hero()
    task, why, jobs = w.one(_TASKS)
    w.words(task=task, why=why)
    begin_day(w)
    w.cast_relative("elder")
    w.say(
        "{Hero~} had [promised|offered] to {task}, because {elder} was [sick in bed|away|too"
        " tired].",
        "One day, {elder} had to {task}, but {elder.he} had hurt {elder.his} [back|foot], so"
        " {hero} [promised|offered] to do it.",
        '"I will {task}," said {hero}, because {elder} had hurt {elder.his} [back|foot].',
    )
    w.say(
        "{Hero~} began [early|at once] and worked [hard|all morning], but {why}.",
        "{Hero~} [worked and worked|did what {hero.he} could], but {why}.",
    )
    if w.spare(0.5):
        w.say(
            "At noon {hero~} [sat down, tired and hot|could hardly stand], and there was [as much to"
            " do as before|no end in sight].",
            '"[I will never finish|I cannot do it alone|This is too much for me]," [sighed|said]'
            " {hero}.",
        )
    w.paragraph()
    w.cast_friend("friend")
    w.cast_neighbour("helper")
    if w.spare(0.4):
        w.say(
            "Then {friend} came [by|along] and [wanted to help|asked what to do].",
            "{Friend} [heard about it|saw {hero.him} sitting there] and came over.",
        )
        w.say(
            "[A little later|Soon] {helper} stopped too, and [brought some tools along|wanted to"
            " help].",
            "{Friend} ran to get {helper}[, who was strong and had time|].",
        )
    else:
        w.line(
            '"[You only had to ask|You should have called me|Two are more than one]!" said {friend},'
            " and soon {helper} [came too|stopped to help as well].",
            "Then {friend} came [by|along] and [wanted to help|asked what to do], and {helper}, who"
            " was [strong|passing by], stopped too.",
        )
    mine, yours, third, rest = w.some(jobs, 4)
    w.words(mine=mine, yours=yours, third=third, rest=rest)
    w.say(
        "{Hero} {mine}, {friend} {yours}, and {helper} {third}.",
        "{Friend} {yours}, {helper} {third}, and {hero} {mine}.",
        "While {friend} {yours} and {helper} {third}, {hero} {mine}.",
    )
    if w.spare(0.5):
        w.say(
            "[And whoever came by|A passing stranger|Even the smallest child of the neighbors]"
            " {rest}.",
            "They [sang|joked] while they worked, and the time flew.",
            "With so many {hero.hands}, it went [ten times|three times] as fast.",
        )
    w.say(
        "[Before evening|When the sun went down|By supper], it was done.",
        "They finished just as the [first star|moon] came out.",
        "[Before evening|By supper], there was nothing left to do.",
    )
    w.note("finish", "hero", task)
    if w.spare(0.5):
        w.words(
            meal=w.one(
                (
                    "soup",
                    "pancakes",
                    "potatoes with butter",
                    "apple pie",
                    "noodles",
                    "bread and cheese",
                )
            )
        )
        w.say(
            "Afterward, they all sat together and ate {meal}.",
            "{Elder} [gave|sent] them {meal}, and [nothing was left|there was a lot of laughing].",
        )
    elif w.spare(0.75):
        learned(
            w,
            "many hands make a big thing small",
            "asking for help is no shame",
            "everybody can do something",
            "what is too heavy for one is light for four",
        )


# A wish and three steps to it, each needing the one before.
_WISHES = (
    ("a bird house", ("boards", "nails", "paint"), "hammered and painted", "a pair of robins moved in"),
    ("a big kite", ("thin sticks", "paper", "string"), "tied and glued", "it stood high above the roofs"),
    ("a swing", ("a strong board", "two ropes", "a thick branch"), "knotted and pulled", "it flew so high that one could touch the leaves"),
    ("a garden bed", ("earth", "seeds", "a watering can"), "dug and planted", "the first radishes came up"),
    ("a costume for the parade", ("an old curtain", "some buttons", "gold paper"), "cut and sewed", "nobody knew who was under it"),
    ("a raft", ("logs", "a rope", "an oar"), "tied and tested", "it carried two across the pond"),
    ("a lantern for the winter feast", ("a jar", "colored paper", "a candle"), "cut and pasted", "it shone in four colors"),
    ("a puppet theater", ("a big box", "a red cloth", "some old socks"), "cut and sewed", "the whole street came to the show"),
    ("a soap box car", ("a box", "four wheels", "a rope"), "hammered and screwed", "it rolled all the way down the hill"),
    ("a pillow fort", ("cushions", "a large sheet", "two chairs"), "pulled and stacked", "there was even room for a guest"),
)  # fmt: skip


_FROM_OTHERS = (
    "{What} came from {keeper}, for whom {hero} [swept the yard|fed the hens|carried the water].",
    "{Keeper} had {what} left over and gave {what.it} to {hero.him}.",
    "{Hero~} earned {what} by [picking apples|washing windows|pulling weeds] for {keeper}.",
    "{Hero~} asked {keeper} for {what}, and [got more than enough|{keeper.he} found {what.it} in the shed].",
    "For {what}, {hero~} gave {keeper} [a drawing|a jar of berries|a song].",
)  # fmt: skip


_FROM_FAMILY = _FROM_OTHERS[1:4]
_FOUND = (
    "{Hero~} found {what} [in the attic|in the shed|behind the house], [covered with dust|under some old sacks].",
    "{What} came to light in the [cellar|attic|corner of the barn].",
    "{Hero~} [looked|searched] for {what} a whole day and found {what.it} [at last|in the barn].",
)  # fmt: skip


def wish_in_steps(w: World) -> None:
    """A wish is taken apart into steps; each is done, and the wish comes true."""
    w.cast_hero()
    wish, parts, work, result = w.one(_WISHES)
    w.bind("parts", {"one": parts[0], "two": parts[1], "three": parts[2]})
    w.words(wish=wish, work=work, result=result)
    introduce_hero(w)
    w.paragraph()
    w.say(
        "{Hero~} [wished for|wanted|dreamed of] {wish}, but there was [no money for it|nobody"
        " who would build it].",
        '"I [wish I had|would love to have] {wish}," said {hero} one [day|morning|evening].',
    )
    w.cast_relative("elder")
    w.line(
        '"[Then make it yourself|You can build that|We can make that]. You need {parts.one},'
        ' {parts.two} and {parts.three}," said {elder}.',
        '"What would you need for that?" asked {elder}, and {hero} [counted|thought]: {parts.one},'
        " {parts.two} and {parts.three}.",
    )
    w.paragraph()
    w.cast_neighbour("keeper")
    found = w.one(parts)
    for part in parts:
        w.bind("what", {"": part, "it": "them" if part.endswith("s") else "it"})
        if part is found:
            w.say(*_FOUND)
        elif part is parts[0] or w.maybe():
            w.say(*_FROM_OTHERS)
        else:
            w.cast_relative("keeper")
            w.say(*_FROM_FAMILY)
        w.note("gather", "hero", part)
    w.say(
        "Then {hero~} {work} [for three days|the whole weekend|until it was dark], and {elder}"
        " [helped with the hard parts|held what had to be held].",
        "Now everything was there, and {hero} and {elder} {work}[ together|].",
        "[At last|Then] {hero~} {work}, and {hero.he} only had to start over once.",
    )
    w.say(
        "[It was a bit crooked, but it was done|It was finished], and {result}.",
        "And when it was [done|ready], {result}.",
        "[After a week|At the end of the month|Soon] {result}.",
    )
    if w.spare(0.3):
        feel_glad(w)
    elif w.spare(0.4):
        w.say('"[I made it myself|It is really mine]," said {hero}[ over and over|].')
    if w.spare(0.6):
        close(
            w,
            "a big wish is made of small steps",
            "what one makes is better than what one buys",
            "one begins with the first thing",
            "patience and work can make a wish come true",
            other=habit_again,
        )


PLOTS = (
    learn_skill,
    big_task,
    wish_in_steps,
)
