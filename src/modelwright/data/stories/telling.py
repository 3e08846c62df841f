"""Telling: patterns become sentences, with the right names and pronouns.

A pattern is plain English with two marks:

    [ran|walked|]       one of these, any of which may be empty or hold marks of its own
    {hero.his}          a form of whoever plays the role: his, her, its

The forms of a role are listed where the role is made (`cast.py`, `things.py`, `places.py`). Three
forms are decided while telling:

    {thing}    "a red kite" at the first mention, later "the kite" or "the red kite"
    {hero~}    as a subject: the name, or he or she when nobody could be mistaken
    {Hero~}    the same at the start of a sentence; any slot may have a capital
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from modelwright.data.stories.chance import Draw
from modelwright.data.stories.turns import with_turns

Forms = Mapping[str, str]

_PRONOUN_CHANCE = 0.75
_FULL_NAME_CHANCE = 0.3


class Slot(NamedTuple):
    """A place in a pattern that a role fills."""

    role: str
    form: str
    capital: bool


class Choice(NamedTuple):
    """A place in a pattern where one of several continuations is told."""

    options: tuple[Pattern, ...]


Pattern = tuple["str | Slot | Choice", ...]

# What comes after a speech that ends in "!" or "?" when it is its tag: "said Tom", "the fox cried".
_TAG = re.compile(
    r" (?:[a-z]|(?:[\w']+ ){1,4}?(?:said|asked|cried|called|whispered|thought|read|sighed)\b)"
)

_compiled: dict[str, Pattern] = {}


def compile_pattern(text: str) -> Pattern:
    """Read a pattern's marks once, so that telling it is a walk over ready parts.

    Raises:
        ValueError: if a bracket or brace is left open or closes nothing.
    """
    pattern, end = _read(text, 0, closers="")
    assert end == len(text)
    return pattern


def _read(text: str, start: int, *, closers: str) -> tuple[Pattern, int]:
    """Read parts from `start` up to one of `closers`, or to the end of the text."""
    parts: list[str | Slot | Choice] = []
    plain_from = at = start
    while at < len(text) and text[at] not in closers:
        mark = text[at]
        if mark not in "[{]}":
            at += 1
            continue
        if at > plain_from:
            parts.append(text[plain_from:at])
        if mark == "[":
            options: list[Pattern] = []
            while at < len(text) and text[at] != "]":
                option, at = _read(text, at + 1, closers="|]")
                options.append(option)
            parts.append(Choice(tuple(options)))
        elif mark == "{" and "}" in text[at:]:
            end = text.index("}", at)
            parts.append(_slot(text[at + 1 : end]))
            at = end
        else:
            raise ValueError(f"{mark!r} at character {at} closes or opens nothing in {text!r}")
        if at >= len(text):
            raise ValueError(f"a bracket is left open in {text!r}")
        at += 1
        plain_from = at
    if at > plain_from:
        parts.append(text[plain_from:at])
    return tuple(parts), at


def _slot(text: str) -> Slot:
    """`Hero~`, `hero.his` or `hero`, without the braces."""
    if text.endswith("~"):
        role, form = text[:-1], "~"
    else:
        role, _, form = text.partition(".")
    return Slot(role[0].lower() + role[1:], form, role[0].isupper())


def count_sentences(text: str) -> int:
    """How many sentences a piece of a paragraph has.

    A speech and its tag are one sentence, and so is a speech that stands alone, however many
    full stops are inside its quotation marks.
    """
    parts = text.split('"')
    count = sum(outside.count(stop) for outside in parts[0::2] for stop in ".!?")
    for speech, after in zip(parts[1::2], parts[2::2], strict=True):
        if speech[-1] in ".!?" and not _TAG.match(after):
            count += 1
    return count


class Telling:
    """One story on the page: who plays which role, who was just named, what has been written."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._roles: dict[str, Forms] = {}
        self._met: set[str] = set()
        self._cast: list[Forms] = []
        # For each pronoun, the role it would stand for now; "" when it could be one of two.
        self._meant: dict[str, str] = {}
        self._lines: list[list[str]] = [[]]
        self._after_speech = False
        self.n_sentences = 0

    def bind(self, role: str, forms: Forms, *, known: bool = False) -> None:
        """Let `forms` play the role; a known one needs no introduction such as "a red kite"."""
        self._roles[role] = forms
        if "he" in forms:
            self._cast.append(forms)
        if known:
            self._met.add(role)
        else:
            self._met.discard(role)

    def met(self, role: str) -> None:
        """Count the role as introduced."""
        self._met.add(role)

    def words(self, **patterns: str) -> None:
        """Let each pattern play the role of its name: it is told wherever that role is."""
        for role, text in patterns.items():
            self._roles[role] = {"": text}

    def forms(self, role: str) -> Forms:
        """The forms of whoever plays the role now."""
        return self._roles[role]

    def everybody(self) -> list[Forms]:
        """All who have played a role and have a pronoun, also if another plays it now."""
        return list(self._cast)

    def say(self, *patterns: str) -> None:
        """Write one of these patterns, drawn at random, after what is there."""
        sentence = self._told(patterns[int(self._draw() * len(patterns))])
        if "  " in sentence:  # around an empty option
            sentence = sentence.replace("  ", " ")
        if sentence[0].islower():
            sentence = sentence[0].upper() + sentence[1:]
        elif sentence[0] == '"' and sentence[1].islower():
            sentence = '"' + sentence[1].upper() + sentence[2:]
        if self._after_speech:
            self._lines.append([])
            self._after_speech = False
        self._lines[-1].append(sentence)
        self.n_sentences += count_sentences(sentence)

    def say_of(self, role: str, *patterns: str) -> None:
        """Write one of these patterns, in which "one" stands for the role."""
        pattern = patterns[int(self._draw() * len(patterns))]
        self.say(pattern.replace("{one", "{" + role).replace("{One", "{" + role.capitalize()))

    def line(self, *patterns: str) -> None:
        """Write a pattern on a line of its own, as for a speaker in a dialogue."""
        if self._lines[-1]:
            self._lines.append([])
        self._after_speech = False
        self.say(*patterns)
        self._after_speech = True

    def paragraph(self) -> None:
        """Start a new paragraph, where everyone is called by name again."""
        if self._lines[-1]:
            self._lines.append([])
        self._after_speech = False
        self._meant.clear()

    def text(self) -> str:
        """Everything written so far, one paragraph or speaker to a line."""
        return "\n".join([" ".join(line) for line in self._lines if line])

    def _told(self, text: str) -> str:
        """The pattern in the words of this story."""
        pattern = _compiled.get(text)
        if pattern is None:
            pattern = _compiled[text] = compile_pattern(with_turns(text))
        out: list[str] = []
        self._tell(pattern, out)
        return "".join(out)

    def _tell(self, pattern: Pattern, out: list[str]) -> None:
        for part in pattern:
            if isinstance(part, str):
                out.append(part)
            elif isinstance(part, Slot):
                text = self._fill(part.role, part.form)
                out.append(text[0].upper() + text[1:] if part.capital else text)
            else:
                self._tell(part.options[int(self._draw() * len(part.options))], out)

    def _fill(self, role: str, form: str) -> str:
        forms = self._roles[role]
        if len(forms) == 1:
            return self._told(forms[""])
        if form and form != "~":
            if form in ("'s", "name"):
                self._mention(role, forms)
            return forms[form]
        if form == "~" and self._meant.get(forms["he"]) == role and self._draw() < _PRONOUN_CHANCE:
            return forms["he"]
        self._mention(role, forms)
        if role not in self._met:
            self._met.add(role)
            return forms.get("first") or forms[""]
        if "long" in forms and self._draw() < _FULL_NAME_CHANCE:
            return forms["long"]
        return forms[""]

    def _mention(self, role: str, forms: Forms) -> None:
        pronoun = forms.get("he")
        if pronoun:
            before = self._meant.get(pronoun, role)
            # Naming a second "she" leaves the word open until someone is named again.
            self._meant[pronoun] = role if before in (role, "") else ""
