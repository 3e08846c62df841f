"""Merging one short byte string in plain Python, to look into a vocabulary and not to encode text.

A file that lists tokens without saying how they are made gets its merges back here, and a file that
takes tokens whole, without merging, is checked for doing no harm.
"""

import sys
from collections.abc import Callable, Mapping

from modelwright.tokenizer.vocabulary import Vocabulary

_NEVER = sys.maxsize


def merge_below(
    piece: bytes, rank_of: Callable[[bytes, bytes], int], limit: int = _NEVER
) -> list[bytes]:
    """Merge the neighbours of lowest rank, leftmost first, until none is below the limit."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    ranks = [rank_of(parts[i], parts[i + 1]) for i in range(len(parts) - 1)]
    while ranks:
        lowest = min(ranks)
        if lowest >= limit:
            break
        at = ranks.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        del ranks[at]
        if at < len(ranks):
            ranks[at] = rank_of(parts[at], parts[at + 1])
        if at > 0:
            ranks[at - 1] = rank_of(parts[at - 1], parts[at])
    return parts


def recover_merges(ranks: Mapping[bytes, int]) -> dict[bytes, tuple[bytes, bytes]]:
    """Find the two halves of each token of several bytes, in the order of their ranks.

    The bytes of a token, merged with only the tokens of lower rank, have to leave two parts. In any
    text the bytes then take the same way to that token, so that one merge for each is enough.

    Raises:
        ValueError: if some token is left in one part or in more than two; the message names it.
    """

    def rank_of(left: bytes, right: bytes) -> int:
        return ranks.get(left + right, _NEVER)

    merges: dict[bytes, tuple[bytes, bytes]] = {}
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = merge_below(token, rank_of, rank)
        if len(parts) != 2:
            raise ValueError(
                f"token {token!r} of rank {rank} is not made of two tokens of lower rank, but of "
                f"{len(parts)}: {parts[:8]}; so the ranks are not the order of merges. Name it as "
                "a special token if it is one; otherwise take the vocabulary's tokenizer.json"
            )
        merges[token] = (parts[0], parts[1])
    return merges


def check_whole_tokens(vocabulary: Vocabulary) -> None:
    """Refuse a vocabulary with a token that its own bytes do not merge to.

    Raises:
        ValueError: naming the first such token.
    """
    tokens = vocabulary.tokens
    ranks: dict[tuple[bytes, bytes], int] = {}
    for rank, (left, right) in enumerate(vocabulary.merges):
        ranks.setdefault((tokens[left], tokens[right]), rank)

    def rank_of(left: bytes, right: bytes) -> int:
        return ranks.get((left, right), _NEVER)

    for token, token_id in vocabulary.ordinary_ids.items():
        parts = merge_below(token, rank_of)
        if len(parts) != 1:
            raise ValueError(
                f'"model.ignore_merges" is on, which takes token {token_id} ({token!r}) whole, but '
                f"merging its bytes gives {parts[:8]}; only files where both give the same can be "
                "followed"
            )
