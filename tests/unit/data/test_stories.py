"""The built-in stories: told the same everywhere, all different, well formed and consistent."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from hashlib import blake2b
from itertools import islice

import pytest

from modelwright.data.stories import stories, story
from modelwright.data.stories.chance import draws
from modelwright.data.stories.plots import PLOTS, simulate
from modelwright.data.stories.telling import Telling, compile_pattern
from modelwright.data.stories.things import TOYS
from modelwright.data.stories.world import World

N_MANY = 20_000
SEED = 17

# Words that begin with a vowel letter and a consonant sound, or the other way around.
SOUNDS_LIKE_A_CONSONANT = ("one", "once", "unicorn", "useful")
SOUNDS_LIKE_A_VOWEL = ("hour", "honest", "honor")

PRONOUNS = {"she": ("she", "her", "hers", "herself"), "he": ("he", "him", "his", "himself")}


@pytest.fixture(scope="module")
def many() -> list[str]:
    return list(islice(stories(SEED), N_MANY))


@pytest.fixture(scope="module")
def simulated() -> list[tuple[str, World]]:
    """The plot and the world left behind, for some stories."""
    lived = (simulate(SEED, index) for index in range(4000))
    return [(plot.__name__, world) for plot, world in lived]


def sentences(text: str) -> list[str]:
    """The text cut after every full stop, question mark and exclamation mark."""
    return [part for part in re.split(r"(?<=[.!?])(?:\"?\s|\"?$)", text) if part]


def telling_of(draw_seed: int) -> Telling:
    return Telling(draws(draw_seed, 0))


# The same everywhere


def test_a_story_depends_on_seed_and_index_alone():
    alone = story(SEED, 5000)
    list(islice(stories(SEED + 1), 50))
    assert story(SEED, 5000) == alone
    assert next(stories(SEED, start=5000)) == alone


def test_streaming_and_asking_for_one_agree():
    assert list(islice(stories(3, start=7), 20)) == [story(3, index) for index in range(7, 27)]


def test_hash_randomisation_does_not_change_a_story():
    code = "from modelwright.data.stories import story; print(*(story(5, i) for i in range(60)))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2", "3")
    }
    assert len(told) == 1


def test_different_seeds_tell_different_stories():
    first, second = (set(islice(stories(seed), 2000)) for seed in (1, 2))
    assert not first & second


def test_the_stories_need_only_the_standard_library():
    code = (
        "import sys; from modelwright.data.stories import story; story(0, 0); "
        "print(sorted({'torch', 'numpy', 'modelwright._native'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1), (0, 1 << 64)])
def test_a_seed_or_index_out_of_range_is_refused(seed: int, index: int):
    with pytest.raises(ValueError, match="use (zero or a positive number|a number from 0)"):
        story(seed, index)


# All different


def test_no_two_of_100_000_stories_are_equal():
    digests = {
        blake2b(text.encode(), digest_size=16).digest() for text in islice(stories(0), 100_000)
    }
    assert len(digests) == 100_000


def test_every_plot_is_told_about_equally_often():
    """Each plot is drawn with the same chance; five standard deviations leave room for luck."""
    n_stories = 6000
    told = Counter(simulate(2, index)[0] for index in range(n_stories))
    expected = n_stories / len(PLOTS)
    assert set(told) == set(PLOTS)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in told.values())


def test_there_are_many_ways_to_begin(many: list[str]):
    openings = Counter(" ".join(text.split()[:4]) for text in many)
    assert len(openings) > 1000
    assert openings.most_common(1)[0][1] < N_MANY * 0.25


# Well formed


def test_a_story_has_6_to_32_sentences_counting_what_is_said(many: list[str]):
    lengths = [len(sentences(text)) for text in many]
    assert min(lengths) >= 6
    assert max(lengths) <= 32
    assert 14 <= sum(lengths) / len(lengths) <= 19


def test_a_story_has_60_to_280_words(many: list[str]):
    lengths = [len(text.split()) for text in many]
    assert min(lengths) >= 60
    assert max(lengths) <= 280
    assert 120 <= sum(lengths) / len(lengths) <= 170


def test_only_a_small_set_of_characters_is_used(many: list[str]):
    used = set().union(*many)
    assert not used - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \n.,!?'\":;-")


def test_spaces_and_punctuation_are_in_order(many: list[str]):
    odd = re.compile(
        r"  | \n|\n | [.,!?;:]|[,;:][.,!?;:]|[.!?][.,;:]|\.\.|\n\n|[.!?,][A-Za-z]|^\s|\s$|\"\""
    )
    assert [found[0] + " in " + text for text in many if (found := odd.search(text))] == []


def test_every_line_closes_its_quotation_marks(many: list[str]):
    assert [line for text in many for line in text.split("\n") if line.count('"') % 2] == []


def test_every_sentence_begins_with_a_capital_and_every_line_ends_with_a_stop(many: list[str]):
    small = re.compile(r"(?:^|\n)\"?[a-z]|[.!?] \"?[a-z]")
    assert [found[0] + " in " + text for text in many if (found := small.search(text))] == []
    unended = re.compile(r"[^.!?\"](?:\n|$)|[^.!?,]\"(?:\n|$)")
    assert [found[0] + " in " + text for text in many if (found := unended.search(text))] == []


def test_a_and_an_agree_with_the_next_word(many: list[str]):
    article = re.compile(r"\b([Aa]n?) ([a-z]+)")
    wrong = set()
    for text in many:
        for found in article.finditer(text):
            word = found[2]
            vowel = word[0] in "aeiou" and not word.startswith(SOUNDS_LIKE_A_CONSONANT)
            vowel = vowel or word.startswith(SOUNDS_LIKE_A_VOWEL)
            if vowel != (found[1].lower() == "an"):
                wrong.add(found[0])
    assert not wrong


def test_no_word_is_doubled(many: list[str]):
    """ "drip, drip" has a comma between; "again and again" and "had had" are English."""
    doubled = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)
    found = {match[0] for text in many for match in doubled.finditer(text)}
    assert found <= {"had had", "that that"}


# Consistent


def test_the_hero_of_the_beginning_is_there_at_the_end(simulated: list[tuple[str, World]]):
    for plot, world in simulated:
        text = world.telling.text()
        hero = world.telling.forms("hero")
        last = " ".join(sentences(text)[-3:])
        words = set(re.findall(r"[A-Za-z]+", last))
        present = {hero["name"], "they", "They", "them", "their"} | set(PRONOUNS[hero["he"]])
        present |= {word.capitalize() for word in present}
        assert hero["name"] in " ".join(sentences(text)[:6]), (plot, text)
        assert words & present, (plot, text)


def test_nobody_is_he_in_a_story_of_girls_and_women(simulated: list[tuple[str, World]]):
    n_checked = 0
    for plot, world in simulated:
        cast = {forms.get("he") for forms in world.telling.everybody()}
        for pronoun in PRONOUNS:
            if pronoun not in cast:
                n_checked += 1
                words = set(re.findall(r"[a-z]+", world.telling.text().lower()))
                assert not words & set(PRONOUNS[pronoun]), (plot, world.telling.text())
    assert n_checked > 100


def test_a_thing_keeps_its_look_all_through(simulated: list[tuple[str, World]]):
    n_checked = 0
    for plot, world in simulated:
        text = world.telling.text()
        nouns = Counter(thing.noun for thing in world.things.values())
        for role, thing in world.things.items():
            if nouns[thing.noun] > 1:
                continue
            look = world.telling.forms(role)["look"]
            for other in thing.looks:
                if other != look:
                    n_checked += 1
                    assert not re.search(rf"\b{other} {thing.noun}\b", text), (plot, text)
    assert n_checked > 1000


def test_nobody_gives_what_they_do_not_hold(simulated: list[tuple[str, World]]):
    """The events replayed by an independent account of who has what."""
    n_given = 0
    for _, world in simulated:
        holder: dict[str, str] = {}
        for event in world.events:
            if event.verb in ("take", "get"):
                assert event.what not in holder
                holder[event.what] = event.who
            elif event.verb in ("give", "lose"):
                n_given += 1
                assert holder.pop(event.what) == event.who
    assert n_given > 100


def test_what_got_lost_is_found_again(simulated: list[tuple[str, World]]):
    n_lost = 0
    for plot, world in simulated:
        if any(event.verb == "lose" for event in world.events):
            n_lost += 1
            assert world.holds("hero", "thing"), plot
    assert n_lost > 50


def test_a_broken_promise_is_regretted_and_a_kept_one_praised(
    simulated: list[tuple[str, World]],
):
    told = {"keep": 0, "break": 0}
    for plot, world in simulated:
        if plot != "promise":
            continue
        text = world.telling.text()
        outcome = next(event.verb for event in world.events if event.verb in told)
        told[outcome] += 1
        assert ("count on you" in text or "trust you" in text) == (outcome == "keep")
        assert ("my promise," in text) == (outcome == "break")
    assert min(told.values()) > 10


def test_animals_speak_only_where_they_may(simulated: list[tuple[str, World]]):
    """Among people an animal is "it" and silent, unless it grants wishes or is a thing with a voice."""
    speaker = re.compile(r'" (?:said|asked|cried|called|whispered) (?:the |[A-Z])')
    n_silent = 0
    for plot, world in simulated:
        if world.talking_animals or plot in ("hasty_wish", "thing_with_a_voice"):
            continue
        for forms in world.telling.everybody():
            if forms.get("he") == "it":
                n_silent += 1
                named = re.escape(forms[""])
                assert not re.search(rf'" (?:said|asked) {named}\b', world.telling.text()), plot
    assert n_silent > 50
    assert speaker.search(" ".join(world.telling.text() for _, world in simulated))


# The world and the marks of a pattern


def test_the_world_refuses_what_cannot_happen():
    world = World(draws(0, 0))
    world.take("hero", "thing")
    with pytest.raises(AssertionError, match="already with hero"):
        world.take("friend", "thing")
    with pytest.raises(AssertionError, match="friend does not hold thing"):
        world.give("friend", "thing", "hero")
    world.until("evening")
    with pytest.raises(AssertionError, match="morning comes before evening"):
        world.until("morning")
    place = world.go()
    with pytest.raises(AssertionError, match="already at"):
        world.go(place=place)


def test_each_option_of_a_choice_is_told():
    told = set()
    for seed in range(40):
        telling = telling_of(seed)
        telling.say("[One|Two|] [fish|bird].")
        told.add(telling.text())
    assert told == {"One fish.", "Two fish.", " fish.", "One bird.", "Two bird.", " bird."}


def test_a_thing_is_introduced_once():
    telling = telling_of(0)
    kite = next(toy for toy in TOYS if toy.noun == "kite")
    telling.bind("thing", kite.seen_as("orange"))
    telling.say("{Thing} flew.")
    telling.say("Then {thing} fell.")
    first, second = sentences(telling.text())
    assert first == "An orange kite flew."
    assert second in ("Then the kite fell.", "Then the orange kite fell.")


def test_a_pronoun_is_used_only_for_who_was_named_last():
    ann = {"": "Ann", "he": "she"}
    eve = {"": "Eve", "he": "she"}
    bob = {"": "Bob", "he": "he"}
    seen = Counter()
    for seed in range(60):
        telling = telling_of(seed)
        telling.bind("ann", ann)
        telling.bind("eve", eve)
        telling.bind("bob", bob)
        telling.say("{Ann} met {bob}.")
        telling.say("{Ann~} sang.")
        telling.say("{Ann} met {eve}.")
        telling.say("{Eve~} sang.")
        _, alone, _, open_to_two = sentences(telling.text())
        seen[alone] += 1
        assert open_to_two == "Eve sang."
    assert set(seen) == {"She sang.", "Ann sang."}


@pytest.mark.parametrize("text", ["[one|two", "one]", "{hero", "a } b"])
def test_a_mark_left_open_is_refused(text: str):
    with pytest.raises(ValueError, match=r"closes or opens nothing|left open"):
        compile_pattern(text)
