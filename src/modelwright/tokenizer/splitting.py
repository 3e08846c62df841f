"""Cutting text into pieces: words, numbers, punctuation, white space. BPE never merges across two.

`PATTERNS` names the ways of cutting that the compiled core knows; any other regular expression is
followed with the `regex` package, more slowly. `reference.split` is both in a few plain lines.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from modelwright import _native

_ENGLISH_ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_WORD_START = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        # Source: openai/gpt-2, src/encoder.py, Encoder.pat.
        "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        # Source: openai/tiktoken, tiktoken_ext/openai_public.py, cl100k_base. It writes the end of
        # a text as `$`, which other engines take for the end of a line. White space there is one
        # piece, even with a line break in it.
        "cl100k": (
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?![\s\S])|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        # Source: the tokenizer.json that ships with Llama 3: cl100k without its rule for the end.
        "llama3": (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        # Source: tiktoken as above, o200k_base.
        "o200k": (
            f"{_WORD_START}{_UPPER}*{_LOWER}+{_ENGLISH_ENDINGS}"
            f"|{_WORD_START}{_UPPER}+{_LOWER}*{_ENGLISH_ENDINGS}"
            r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        "none": "",  # a document is one piece
    }
)
SPLIT_PATTERN = PATTERNS["gpt2"]

# How each pattern takes numbers, between two other choices.
_NUMBERS = {
    "gpt2": r"| ?\p{N}+|",
    "cl100k": r"|\p{N}{1,3}|",
    "llama3": r"|\p{N}{1,3}|",
    "o200k": r"|\p{N}{1,3}|",
}
_SINGLE_DIGITS = r"|\p{N}|"

# The edition of Unicode that says which characters are letters, numbers and white space.
UNICODE_VERSION = _native.UNICODE_VERSION


# The same cuts in other words, as files of other programs have them.
_OTHER_SPELLINGS = {
    # openai/gpt-2, and programs that copied its pattern
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
    # openai/tiktoken: r50k_base and cl100k_base
    (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"): "gpt2",
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ): "cl100k",
}


def pattern_named(name: str, *, digits_apart: bool = False) -> str:
    """Return the regular expression of a way of cutting.

    Args:
        name: one of `PATTERNS`.
        digits_apart: make every digit, or other number character, a piece of its own.

    Raises:
        ValueError: if there is no such name, or its pattern does not look for numbers.
    """
    if name not in PATTERNS:
        raise ValueError(
            f"the split pattern is named {name!r}, which is not known; choose one of "
            f"{', '.join(PATTERNS)}, or give a regular expression"
        )
    if not digits_apart:
        return PATTERNS[name]
    if name not in _NUMBERS:
        raise ValueError(
            f"digits_apart is on, but the split pattern {name!r} does not cut at digits; "
            f"choose one of {', '.join(_NUMBERS)}, or turn digits_apart off"
        )
    return PATTERNS[name].replace(_NUMBERS[name], _SINGLE_DIGITS, 1)


def pattern_of(name_or_pattern: str, *, digits_apart: bool = False) -> str:
    """Return the regular expression that a setting means: by name, or as it stands.

    Raises:
        ValueError: if `digits_apart` is on for a pattern of the user's own.
    """
    if name_or_pattern in PATTERNS:
        return pattern_named(name_or_pattern, digits_apart=digits_apart)
    if digits_apart:
        raise ValueError(
            "digits_apart is on beside a split pattern of your own; write \\p{N} into the pattern "
            f"instead, or choose one of {', '.join(_NUMBERS)}"
        )
    return name_or_pattern


def native_pattern(pattern: str) -> tuple[str, bool] | None:
    """Return the (name, digits_apart) of a regular expression; None if it is the user's own."""
    return _NAMES.get(pattern)


_NAMES: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {pattern: (name, False) for name, pattern in PATTERNS.items()}
    | {pattern_named(name, digits_apart=True): (name, True) for name in _NUMBERS}
)


def canonical_pattern(pattern: str) -> str:
    """Return the regular expression of `PATTERNS` that cuts alike, or else the same one."""
    return PATTERNS[_OTHER_SPELLINGS[pattern]] if pattern in _OTHER_SPELLINGS else pattern


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that no text can be cut with.

    Raises:
        ValueError: if it is not a regular expression; the message says where it goes wrong.
    """
    if native_pattern(pattern) is None:
        _compile(pattern)


def split(document: str | bytes, pattern: str = SPLIT_PATTERN) -> list[bytes]:
    """Cut a document into pieces, whose concatenation is its UTF-8.

    A byte that belongs to no well-formed UTF-8 sequence counts as one punctuation character.

    Raises:
        ValueError: if `pattern` is not a regular expression, or a str has no UTF-8 form.
    """
    known = native_pattern(pattern)
    if known is not None:
        return _native.split(document, *known)
    if not isinstance(document, str | bytes):
        raise TypeError(f"a document is str or bytes, not {type(document).__name__}")
    data = document.encode() if isinstance(document, str) else document
    ends = [0, *split_points(data, pattern).tolist()]
    return [data[start:end] for start, end in pairwise(ends)]


def split_points(document: str | bytes, pattern: str) -> npt.NDArray[np.uint64]:
    """Return where the pieces of a document end, as offsets in the bytes of its UTF-8.

    Every match is a piece, and so is the text between two matches; a match of nothing cuts where
    it stands. That is the `Split` of Hugging Face's tokenizers with `behavior="Isolated"`.

    Args:
        pattern: a regular expression; not "", which does not cut.

    Raises:
        ValueError: if `pattern` is not a regular expression, or a str has no UTF-8 form.
    """
    data = document.encode() if isinstance(document, str) else document
    text = data.decode("utf-8", errors="surrogateescape")
    points: list[int] = []
    for match in _compile(pattern).finditer(text):
        points += match.span()
    points.append(len(text))
    characters = np.unique(np.array(points, dtype=np.int64))
    characters = characters[characters > 0]
    if len(text) == len(data):  # a byte a character
        return characters.astype(np.uint64)
    return _bytes_before_each(text)[characters]


def _bytes_before_each(text: str) -> npt.NDArray[np.uint64]:
    """Return the offset in bytes of every character, and of the end."""
    code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    n_bytes = np.ones(len(code_points), dtype=np.uint64)
    for first_longer in (0x80, 0x800, 0x10000):
        n_bytes += code_points >= first_longer
    n_bytes[(code_points >= 0xDC80) & (code_points <= 0xDCFF)] = 1  # an escaped byte
    return np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(n_bytes, dtype=np.uint64)])


def _compile(pattern: str) -> re.Pattern[str]:
    import regex  # the standard library's engine knows no \p{L}

    try:
        return regex.compile(pattern)  # type: ignore[return-value]  # made alike
    except regex.error as error:
        raise ValueError(
            f"the split pattern {pattern!r} is not a regular expression: {error}; one that works "
            rf"is '\p{{L}}+|\s+|[^\p{{L}}\s]+'"
        ) from None
