"""The whole tokenizer in plain Python: slow, obvious, and the specification of the fast one.

Three steps. `split` cuts text into pieces. `train` learns which pairs of neighbouring tokens to
merge inside pieces. `encode` applies those merges to new text. Tokens are byte strings here; their
ids come from `Vocabulary`. The compiled core in `native/` gives the same answers, as tests show.

Needs the `regex` package, which is installed with the tests; nothing else imports this file.

Source: Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword
Units", algorithm 1. As in GPT-2 the symbols are bytes instead of characters.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import regex

from modelwright.tokenizer.splitting import SPLIT_PATTERN
from modelwright.tokenizer.vocabulary import Vocabulary

Token = bytes
Pair = tuple[Token, Token]


def split(document: str | bytes) -> list[bytes]:
    """Cut a document into pieces, none of which BPE merges across.

    A byte that is not UTF-8 becomes a lone surrogate, which the pattern takes for punctuation.
    """
    data = document.encode() if isinstance(document, str) else document
    text = data.decode("utf-8", errors="surrogateescape")
    pieces = regex.findall(SPLIT_PATTERN, text)
    return [piece.encode("utf-8", errors="surrogateescape") for piece in pieces]


def train(documents: Iterable[str | bytes], n_merges: int) -> list[Pair]:
    """Learn up to `n_merges` merges: fewer when no piece has two tokens left."""
    piece_counts = Counter(piece for document in documents for piece in split(document))
    words = {piece: single_bytes(piece) for piece in piece_counts}
    merges: list[Pair] = []
    while len(merges) < n_merges:
        pair_counts: Counter[Pair] = Counter()
        for piece, tokens in words.items():
            for pair in neighbours(tokens):
                pair_counts[pair] += piece_counts[piece]
        if not pair_counts:
            break
        # Of equally common pairs the greatest: byte strings in lexicographic order, left first.
        best = max(pair_counts, key=lambda pair: (pair_counts[pair], pair))
        merges.append(best)
        words = {piece: merge_everywhere(tokens, best) for piece, tokens in words.items()}
    return merges


def encode(document: str | bytes, vocabulary: Vocabulary) -> list[int]:
    """Turn a document into ids; what spells a special token is ordinary text."""
    tokens_by_id = vocabulary.tokens
    merges = [(tokens_by_id[left], tokens_by_id[right]) for left, right in vocabulary.merges]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    ids: list[int] = []
    for piece in split(document):
        tokens = single_bytes(piece)
        while known := [pair for pair in neighbours(tokens) if pair in ranks]:
            tokens = merge_first(tokens, min(known, key=lambda pair: ranks[pair]))
        ids += [vocabulary.ordinary_ids[token] for token in tokens]
    return ids


def decode(ids: Iterable[int], vocabulary: Vocabulary) -> bytes:
    """Turn ids back into bytes."""
    return b"".join(vocabulary.tokens[token_id] for token_id in ids)


def single_bytes(piece: bytes) -> list[Token]:
    """Cut a piece into one token a byte."""
    return [bytes([value]) for value in piece]


def neighbours(tokens: Sequence[Token]) -> list[Pair]:
    """Return every two tokens that stand side by side, from left to right."""
    return list(pairwise(tokens))


def merge_first(tokens: list[Token], pair: Pair) -> list[Token]:
    """Merge the leftmost occurrence of a pair that occurs."""
    at = neighbours(tokens).index(pair)
    return [*tokens[:at], pair[0] + pair[1], *tokens[at + 2 :]]


def merge_everywhere(tokens: list[Token], pair: Pair) -> list[Token]:
    """Merge the occurrences of a pair from left to right; in "aaa" that is the first "aa"."""
    merged: list[Token] = []
    at = 0
    while at < len(tokens):
        if tuple(tokens[at : at + 2]) == pair:
            merged.append(pair[0] + pair[1])
            at += 2
        else:
            merged.append(tokens[at])
            at += 1
    return merged
