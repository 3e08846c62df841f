"""Turns of phrase: ways of saying the same that suit any story.

They are offered wherever a pattern uses one of them, so that a pattern may be written plainly and
is still told in several ways.
"""

# ruff: noqa: E501 (a row of a table stays on one line)

from __future__ import annotations

import re

# A pattern that says the first of a group is told with any of the group.
_SAME = (
    ("did not", "didn't"),
    ("could not", "couldn't"),
    ("was not", "wasn't"),
    ("were not", "weren't"),
    ("would not", "wouldn't"),
    ("had not", "hadn't"),
    ("do not", "don't"),
    ("does not", "doesn't"),
    ("is not", "isn't"),
    ("have not", "haven't"),
    ("cannot", "can't"),
    ("will not", "won't"),
    ("I am", "I'm"),
    ("I will", "I'll"),
    ("You are", "You're"),
    ("you are", "you're"),
    ("Let us", "Let's"),
    ("everybody", "everyone"),
    ("nobody", "no one"),
    ("somebody", "someone"),
    ("at once", "right away"),
    ("began to", "started to"),
    ("for a while", "for some time", "for a little while"),
    ("All at once", "All of a sudden"),
    ("Suddenly", "All of a sudden", "Suddenly"),
    ("hurried", "rushed", "hurried"),
    ("because", "since", "because"),
    ("had an idea", "thought of something", "got an idea"),
    ("when {hero.he} saw", "when {hero.he} noticed"),
    ("noticed", "spotted"),
    ("walked", "went", "strolled"),
    ("a little later", "after a little while", "soon after"),
    ("very sad", "terribly sad", "full of sorrow"),
    ("From that day on", "From then on", "Ever since that day"),
    ("as fast as {hero.he} could", "as quickly as {hero.he} could"),
    ("in no time", "in a wink", "very quickly"),
    ("wanted to help", "wished to help", "wanted to help"),
    ("smiled", "beamed", "smiled"),
    ("laughed", "giggled", "laughed"),
    ("wanted to", "wished to", "wanted to"),
    ("in the end", "at last", "finally"),
    ("at last", "finally"),
    ("every day", "each day"),
    ("every morning", "each morning"),
    ("every evening", "each evening"),
    ("all the others", "all the rest"),
    ("again and again", "over and over"),
    ("although", "though", "even though"),
    ("next to", "beside", "close to"),
    ("the rest of the day", "the rest of that day", "what was left of the day"),
    ("never forgot", "always remembered"),
    ("ran home", "hurried home", "raced home"),
    ("came back", "returned"),
    ("by the door", "near the door", "beside the door"),
    ("One day", "One fine day", "One day"),
    ("One morning", "Early one morning", "One morning"),
    ("tried again", "tried once more"),
    ("told {helper.him} everything", "told {helper.him} the whole story"),
    ("told {hero.him} everything", "told {hero.him} the whole story"),
    ("a moment later", "the next moment"),
    ("until", "till", "until"),
    ("did not want to", "had no wish to"),
    ("could not stop", "was not able to stop"),
    ("That day", "On that day"),
    ("That night", "Later that night"),
    ("not far away", "quite near"),
)

# A turn, and the same with a capital, each with the choice that takes its place.
_TURNS: dict[str, str] = {}
for _group in _SAME:
    _TURNS[_group[0]] = "[" + "|".join(dict.fromkeys(_group)) + "]"
    _capital = [words[0].upper() + words[1:] for words in dict.fromkeys(_group)]
    _TURNS.setdefault(_capital[0], "[" + "|".join(_capital) + "]")

_ANY_TURN = re.compile(
    r"\b(?:" + "|".join(re.escape(words) for words in sorted(_TURNS, key=len, reverse=True)) + r")\b"
)  # fmt: skip
_SPEAKER = re.compile(r'" (said|asked|cried|called|whispered) (\{[a-z]+\})(?! \w+ing|[^.]*, who)')


def with_turns(text: str) -> str:
    """The pattern with a choice for each turn of phrase in it, and for "said Tom" or "Tom said"."""
    text = _ANY_TURN.sub(lambda found: _TURNS[found[0]], text)
    return _SPEAKER.sub(r'" [\1 \2|\2 \1]', text)
