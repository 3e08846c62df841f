"""Plots about animals: in need, far from their mother, or caught by a bigger one."""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

from modelwright.data.stories.cast import creature
from modelwright.data.stories.closing import close, learned
from modelwright.data.stories.moves import feel_glad
from modelwright.data.stories.opening import begin
from modelwright.data.stories.places import places_with
from modelwright.data.stories.world import World

# Where an animal is hurt or in trouble, how one sees it, and what helps.
_HURTS = (
    ("bird", "had a hurt wing and could only hop", "made a splint from a thin twig and a strip of cloth", "flew up to the roof and sang"),
    ("fox cub", "had a thorn in its foot", "held the foot gently and pulled out the thorn", "ran three times around the tree"),
    ("turtle", "was lying on its back and could not turn over", "rolled it over, back onto its feet", "put out its head and walked off"),
    ("hedgehog", "was caught in an old net", "cut the net, string by string", "curled up once and then trotted away"),
    ("rabbit", "was stuck under a root", "dug the earth away until it was free", "hopped off with a flash of its white tail"),
    ("duckling", "had fallen into a deep ditch and could not get out", "laid a board into the ditch like a bridge", "climbed up and waddled to the pond"),
    ("kitten", "was shivering on a wet branch, too afraid to come down", "climbed up and carried it down inside a jacket", "began to purr"),
    ("bee", "had fallen into a puddle and was too wet to fly", "held out a leaf and let it dry in the sun", "buzzed and flew off"),
    ("lamb", "had its leg caught in the fence", "bent the wire apart", "jumped up and ran to its mother"),
    ("frog", "was sitting in the hot sun, far from any water", "carried it to the water in two wet leaves", "dived in with a splash"),
    ("owl chick", "had fallen out of its nest", "put it into a basket and pulled it up to the nest on a rope", "called softly from above"),
    ("butterfly", "was caught in a spider web", "loosened the threads with a straw", "opened its wings and rose into the air"),
)  # fmt: skip


def hurt_animal(w: World) -> None:
    """An animal needs help; care helps it, and later it gives something back."""
    w.kind = "people"
    w.cast_hero()
    kind, trouble, care, well = w.one(_HURTS)
    w.words(kind=kind, trouble=trouble, care=care, well=well)
    place = w.one(places_with(w.kind, "grass"))
    begin(w, place)
    w.bind(
        "animal",
        creature(
            kind, w.one(("little", "small", "young", "brown")) if kind != "owl chick" else "little"
        ),
    )
    w.words(spot=w.one(place.spots))
    w.say(
        "[Suddenly|Then] {hero~} heard a [soft|tiny|strange] sound and found {animal} that"
        " {trouble}.",
        "{Spot}, {hero~} [discovered|saw|found] {animal} that {trouble}.",
        "Then {hero.he} [saw|found] {animal} {spot}, and it {trouble}.",
    )
    w.telling.met("animal")
    w.line(
        '"[Do not be afraid|I will help you|Poor little thing|Shh, hold still],"'
        " [said|whispered] {hero}.",
        '"[Oh, you poor thing|Wait, I will help you]!" said {hero}.',
        "{Hero} [felt sorry for it|wanted to help at once].",
    )
    w.paragraph()
    if w.spare(0.4):
        w.say(
            "At first {animal} [trembled|would not hold still], so {hero~} [sat down and"
            " waited|spoke very softly] until it was calm.",
            "{Hero.he} [sang softly|waited], and little by little {animal} [grew calm|looked up].",
        )
    alone = w.maybe(0.45)
    if alone:
        w.say(
            "Then, with careful hands, {hero} {care}.",
            "[Very slowly|As gently as {hero.he} could], {hero~} {care}.",
        )
    else:
        if w.maybe():
            w.cast_relative("helper")
        else:
            w.cast_neighbour("helper")
        w.say(
            "{Hero} [ran|hurried] to get {helper}[, who knew a lot about animals|], and [together|side"
            " by side] they {care}.",
            "Luckily, {helper} [was near|came along] and knew [what to do|how to help], and so they"
            " {care}.",
        )
    w.note("heal", "hero", kind)
    if kind in ("bird", "fox cub", "owl chick") and w.maybe():
        w.say(
            "For [three days|a week|some days], {hero} brought it [water|food] every"
            " [morning|evening]."
        )
    w.say(
        "[Soon|After a while|At last] {animal} {well}.",
        "The {kind} [looked at {hero.him}|stayed still] for a moment, and then it {well}.",
    )
    if w.spare(0.4):
        feel_glad(w)
    if w.spare(0.4):
        w.say(
            "[A week later|Some days later|The next morning], there was something in front of"
            " {hero.his} door: [a round nut|a blue feather|a shiny stone|a red berry|a yellow"
            " flower].",
            "After that, {animal} came [back|by] every [morning|evening], and {hero} [always|]"
            " had [a kind word|something good] for it.",
        )
    else:
        close(
            w,
            "even a small hand can be a great help",
            "gentle hands and a quiet voice work wonders",
            "whoever is small needs friends",
            "one should never pass by when somebody needs help",
        )


_YOUNG = (
    ("duckling", "duck", "quacking", "by the water"),
    ("lamb", "sheep", "bleating", "on the hill"),
    ("kitten", "cat", "meowing", "behind the barn"),
    ("puppy", "dog", "barking", "at the farm"),
    ("calf", "cow", "mooing", "behind the fence"),
    ("chick", "hen", "clucking", "near the hen house"),
    ("piglet", "pig", "grunting", "in the mud"),
    ("fawn", "deer", "calling", "at the edge of the trees"),
)


def lost_young(w: World) -> None:
    """A baby animal has lost its mother; sounds and tracks lead to her."""
    w.kind = "people"
    w.cast_hero()
    young, mother, calling, where = w.one(_YOUNG)
    w.bind("young", creature(young, w.one(("little", "tiny", "lost", "white"))))
    w.bind("mother", creature(mother, "", "she"))
    w.words(calling=calling, where=where)
    begin(w, w.one(places_with(w.kind, "tree")))
    w.say(
        "There {hero.he} [met|found] {young}, [all alone|quite alone] on the path.",
        "A [thin|tiny|sad] little voice came from [behind a bush|under a cart|the ditch], and"
        " there [sat|stood] {young}.",
        "Something soft [bumped against|touched] {hero.his} leg, and it was {young}.",
        "{Young} came [running|tumbling] out of the [grass|bushes|leaves] and [followed {hero.him}|stopped in"
        " front of {hero.him}].",
    )
    w.telling.met("young")
    w.line(
        '"[Where is your mother|Are you lost|Where do you belong]?" asked {hero}[, but of course'
        " it did not answer|].",
        "{Hero~} [looked in every direction|looked all around], but there was no {mother.kind}"
        " to be seen.",
        "It [trembled a little|was hungry and tired], and it [did not want to stay alone|would"
        " not go away].",
    )
    w.paragraph()
    if w.spare(0.4):
        w.say(
            "{Hero~} [knocked at two doors|went from house to house], but [nobody was at"
            " home|nobody could help].",
            "[First|At first] {hero} [took|carried] it to [the nearest house|the road], but"
            " nobody there [knew it|had lost it].",
            "{Hero~} asked [a woman with a basket|a man on a cart|two boys with a ball], but"
            " nobody [had seen its mother|knew anything].",
        )
    if w.spare(0.5):
        w.say(
            "Then {hero~} saw the small tracks of {young} in the [mud|sand|soft earth] and followed"
            " them [back|the way they had come].",
            "The [mud|sand|soft earth] was full of its small tracks, and {hero~} followed them"
            " [back|the way they had come].",
        )
    else:
        w.say(
            "Then {hero~} stood very still and [listened|closed {hero.his} eyes], and [from far away|very faintly] came the"
            " sound of {calling}.",
            "[From far away|Very faintly], {hero~} heard [something|a voice] {calling}, and went"
            " after the sound.",
        )
    if w.spare(0.5):
        w.say(
            "[Step by step|Slowly], with {young} in {hero.his} arms, {hero} went on, [over a little"
            " bridge|through a gap in the hedge|past the old well|through the tall grass].",
            "{Hero~} picked {young} up, and it [fell asleep|held still|felt warm] in {hero.his} arms while"
            " they walked.",
        )
    w.say(
        "{Where}, {mother.a} was running [up and down|to and fro|in circles] and {calling}[ loudly|].",
        "And there, {where}, stood its mother, {calling} [louder and louder|with all her might].",
    )
    w.say(
        "{Hero~} [let {young} go|put {young} down], and it ran [straight|as fast as it could] to her.",
        "When the {mother.kind} saw {young}, she [came running|ran to meet it|stopped and stared], and the [little|small|lost]"
        " one [pushed close to her|hid under her].",
    )
    w.note("reunite", "hero", young)
    if w.spare(0.5):
        if w.maybe():
            feel_glad(w)
        else:
            w.say(
                "{Hero~} watched them [go|for a long time|until they were out of sight].",
                "[How they rubbed their noses|What a welcome that was]!",
            )
    if w.spare(0.35):
        w.cast_parent("parent")
        w.say(
            "Then {hero~} [ran home|went home], and for some reason {hero.he} [hugged|kissed|held] {parent}"
            " [very tightly|a little longer than usual]."
        )
    elif w.spare(0.6):
        learned(
            w,
            "listening can show the way",
            "every little one belongs to somebody",
            "it is good to take the time to help",
        )


# Somebody strong and hungry, and tricks to get away.
_BIG_ONES = ("wolf", "lynx", "hawk", "wildcat", "big gray fox", "stoat")


_TRICKS = (
    ("I am only a snack. Behind the hill there is a whole cheese,", "showed the moon in the pond", "jumped into the water for it"),
    ("Yes, eat me. But first let me sing one last song,", "sang as loudly as possible", "did not hear the farmer's dogs until they were quite near"),
    ("You are surely strong. But can you fit into this old pot?", "pointed at a pot with a lid", "climbed in, and the lid fell shut"),
    ("I have been rolling in pepper. Please smell it first,", "held up a dusty paw", "sneezed so hard that the leaves flew"),
    ("Somebody even stronger lives in this well,", "pointed down at the water", "saw an angry face down there and ran away from it"),
    ("Wait until I am clean. Nobody should eat dirty food,", "washed very, very slowly", "fell asleep while waiting"),
    ("The hunter is looking for you. Quick, hide in this hollow log,", "pointed at the log", "got stuck in it up to the belly"),
    ("Let us see who can stand longer on one leg,", "stood on one leg like a heron", "fell over and rolled down the bank"),
)  # fmt: skip


def clever_escape(w: World) -> None:
    """Among animals: a small one is caught by a big one and gets away by wit."""
    w.kind = "animals"
    w.cast_hero()
    say, does, falls = w.one(_TRICKS)
    w.words(say=say, does=does, falls=falls)
    begin(
        w,
        w.one(places_with(w.kind)),
        purpose=w.one(
            (" to look for berries", " to visit a cousin", " to gather nuts", " for a walk")
        ),
    )
    pronoun = "he" if w.maybe() else "she"
    kind = w.one(_BIG_ONES)
    w.bind(
        "hunter",
        creature(
            kind.removeprefix("big gray "),
            "big" if "gray" in kind else w.one(("big", "hungry", "gray")),
            pronoun,
        ),
    )
    if w.spare(0.3):
        w.say(
            "{Hero~} [hummed a song|counted the flowers|was thinking of supper] and did not look"
            " around.",
            "It was [very quiet|too quiet], and even the birds were silent.",
        )
    w.say(
        "[Suddenly|All at once], {hunter} stood [in the way|in front of {hero.him}].",
        "Then [the bushes moved|a twig broke|the grass parted|something rustled], and out [came|stepped|jumped] {hunter}.",
        "{Hunter} had been [waiting|hiding] [behind a rock|in the shadows|under a bush] and [jumped out|blocked the way].",
    )
    w.telling.met("hunter")
    w.line(
        '"[What a nice little lunch|I have not eaten all day|You come [just in time|as if called] for my'
        ' dinner]," said {hunter}[ with a smile|].'
    )
    w.note("caught", "hero")
    w.paragraph()
    w.say(
        "{Hero~} felt [cold|hot] all over, but [a cool thought came|an idea jumped up like a"
        " frog].",
        "{Hero} was [small|afraid|trembling], but {hero.he} was [not stupid|not slow|also clever].",
        "{Hero.his} [knees|{hero.hands}] shook, but {hero.his} head was clear.",
        "[Running|Crying|Shouting] was no use, and {hero} had to think of something.",
    )
    w.line(
        '"{Say}" said {hero}, and {hero.he} {does}.',
        '"{Say}" said {hero} [as calmly as {hero.he} could|in a friendly voice] and {does}.',
    )
    w.say(
        "{Hunter} [was very greedy|believed every word|did not think for long] and {falls}.",
        "{Hunter} {falls}.",
    )
    w.note("trick", "hero", "hunter")
    w.say(
        "{Hero} [slipped into the bushes|was gone between the trees] and only stopped [at home|at"
        " {hero.his} own door].",
        "{Hero} [ran|raced] home [as fast as {hero.his} legs could carry {hero.him}|without looking back|and locked the door].",
        "And {hero} was over the hill and gone [before anybody could count to ten|like the wind].",
    )
    if w.spare(0.4):
        w.cast_relative("elder")
        w.say(
            "{Elder} [hugged {hero.him}|shook {elder.his} head and laughed] when {elder.he}"
            " heard [the story|about it].",
            "At supper, {elder} wanted to hear the story [three times|again and again].",
        )
    if w.spare(0.25):
        w.say(
            "Since then, {hunter} has made a wide circle around every {hero.kind}.",
            "Since then, {hunter} never came near {hero.one} again.",
        )
    elif w.spare(0.6):
        learned(
            w,
            "a quick mind is better than long teeth",
            "small ones must be clever",
            "fear is no reason to stop thinking",
            "who is greedy does not look closely",
        )


PLOTS = (
    hurt_animal,
    lost_young,
    clever_escape,
)
