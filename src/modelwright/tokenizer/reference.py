"""The whole tokenizer in plain Python: slow, obvious, and the specification of the fast one.

Three steps. `split` cuts text into pieces. `train` learns which pairs of neighbouring tokens to
merge inside pieces. `encode` applies those merges to new text. Tokens are byte strings here; their
ids come from `Vocabulary`. The compiled core in `native/` gives the same answers, as tests show.

Source: Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword
Units", algorithm 1. As in GPT-2 the symbols are bytes instead of characters.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import regex

from modelwright.tokenizer.spelling import spell
from modelwright.tokenizer.splitting import SPLIT_PATTERN
from modelwright.tokenizer.vocabulary import N_BYTE_VALUES, Vocabulary

Token = bytes
Pair = tuple[Token, Token]
Ties = Literal["lexicographic", "smallest-ids", "huggingface"]


def split(document: str | bytes, pattern: str = SPLIT_PATTERN) -> list[bytes]:
    """Cut a document into pieces, none of which BPE merges across.

    Text between two matches is a piece too. A byte that is not UTF-8 becomes a lone surrogate,
    which the patterns take for punctuation.
    """
    data = document.encode() if isinstance(document, str) else document
    if not pattern:
        return [data] if data else []
    text = data.decode("utf-8", errors="surrogateescape")
    cuts = {place for match in regex.finditer(pattern, text) for place in match.span()}
    pieces = [text[start:end] for start, end in pairwise(sorted(cuts | {0, len(text)}))]
    return [piece.encode("utf-8", errors="surrogateescape") for piece in pieces]


def split_at_special(document: str | bytes, special_tokens: Collection[str]) -> list[bytes]:
    """Cut out special tokens, which then are at the odd places: the leftmost, then the longest."""
    data = document.encode() if isinstance(document, str) else document
    longest_first = sorted((text.encode() for text in special_tokens), key=len, reverse=True)
    either = b"(" + b"|".join(map(re.escape, longest_first)) + b")"
    return re.split(either, data) if longest_first else [data]


def train(
    documents: Iterable[str | bytes],
    n_merges: int,
    *,
    pattern: str = SPLIT_PATTERN,
    special_tokens: Sequence[str] = (),
    ties: Ties = "lexicographic",
    min_frequency: int = 0,
    max_token_length: int | None = None,
) -> list[Pair]:
    """Learn up to `n_merges` merges: fewer when no pair is left that may be merged.

    Args:
        special_tokens: their text in a document is not counted, and nothing merges across it.
        min_frequency: pairs that are rarer are not merged.
        max_token_length: of a merged token, in bytes.
    """
    parts = [part for text in documents for part in split_at_special(text, special_tokens)[::2]]
    piece_counts = Counter(piece for part in parts for piece in split(part, pattern))
    words = {piece: single_bytes(piece) for piece in piece_counts}
    ids = first_ids(ties)
    merges: list[Pair] = []
    while len(merges) < n_merges:
        pair_counts: Counter[Pair] = Counter()
        for piece, tokens in words.items():
            for pair in pairwise(tokens):
                if max_token_length is None or len(pair[0] + pair[1]) <= max_token_length:
                    pair_counts[pair] += piece_counts[piece]
        if max(pair_counts.values(), default=0) < max(1, min_frequency):
            break
        best = best_pair(pair_counts, ids, ties)
        merges.append(best)
        ids.setdefault(best[0] + best[1], len(ids))
        words = {piece: merge_everywhere(tokens, best) for piece, tokens in words.items()}
    return merges


def first_ids(ties: Ties) -> dict[Token, int]:
    """Number the byte values: by value, or by the character that Hugging Face writes for them."""
    tokens = single_bytes(bytes(range(N_BYTE_VALUES)))
    ordered = sorted(tokens, key=spell) if ties == "huggingface" else tokens
    return {token: i for i, token in enumerate(ordered)}


def best_pair(pair_counts: Mapping[Pair, int], ids: Mapping[Token, int], ties: Ties) -> Pair:
    """Choose among the commonest pairs: the greatest byte strings, or the smallest ids."""
    highest = max(pair_counts.values())
    tied = [pair for pair, count in pair_counts.items() if count == highest]
    if ties == "lexicographic":
        return max(tied)
    return min(tied, key=lambda pair: (ids[pair[0]], ids[pair[1]]))


def encode(
    document: str | bytes, vocabulary: Vocabulary, allowed_special: Collection[str] = ()
) -> list[int]:
    """Turn a document into ids; a special token that is not allowed is ordinary text."""
    tokens_by_id = vocabulary.tokens
    merges = [(tokens_by_id[left], tokens_by_id[right]) for left, right in vocabulary.merges]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    ids: list[int] = []
    for i, part in enumerate(split_at_special(document, allowed_special)):
        if i % 2:
            ids.append(vocabulary.special_tokens[part.decode()])
            continue
        for piece in split(part, vocabulary.pattern):
            tokens = single_bytes(piece)
            while known := [pair for pair in pairwise(tokens) if pair in ranks]:
                tokens = merge_first(tokens, min(known, key=lambda pair: ranks[pair]))
            ids += [vocabulary.ordinary_ids[token] for token in tokens]
    return ids


def decode(ids: Iterable[int], vocabulary: Vocabulary) -> bytes:
    """Turn ids back into bytes."""
    return b"".join(vocabulary.tokens[token_id] for token_id in ids)


def single_bytes(piece: bytes) -> list[Token]:
    """Cut a piece into one token a byte."""
    return [bytes([value]) for value in piece]


def merge_first(tokens: list[Token], pair: Pair) -> list[Token]:
    """Merge the leftmost occurrence of a pair that occurs."""
    at = list(pairwise(tokens)).index(pair)
    return [*tokens[:at], pair[0] + pair[1], *tokens[at + 2 :]]


def merge_everywhere(tokens: list[Token], pair: Pair) -> list[Token]:
    """Merge the occurrences of a pair from left to right; in "aaa" that is the first "aa"."""
    merged: list[Token] = []
    for token in tokens:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return merged
