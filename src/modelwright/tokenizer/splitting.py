"""Cutting text into pieces: words, numbers, punctuation, white space. BPE never merges across two.

The compiled splitter behind `split` follows `SPLIT_PATTERN` exactly; `reference.split` is the same
with a regular expression.
"""

from modelwright import _native

# GPT-2's pattern. Source: openai/gpt-2, src/encoder.py, Encoder.pat.
SPLIT_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# The edition of Unicode that says which characters are letters, numbers and white space.
UNICODE_VERSION = _native.UNICODE_VERSION


def split(document: str | bytes) -> list[bytes]:
    """Cut a document into pieces, whose concatenation is its UTF-8.

    A byte that belongs to no well-formed UTF-8 sequence counts as one punctuation character.
    """
    return _native.split(document)
