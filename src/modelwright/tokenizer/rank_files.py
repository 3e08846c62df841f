"""Rank files, as tiktoken reads them: a line for each token, its bytes in base64 and its rank.

The rank is the token's id. The file tells neither the merges, which follow from the ranks, nor the
special tokens, nor how text is cut; the reader is told these two.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from modelwright.runtime.files import write_atomically
from modelwright.tokenizer.merging import recover_merges
from modelwright.tokenizer.splitting import canonical_pattern
from modelwright.tokenizer.vocabulary import Vocabulary, unused_tokens


def read_tiktoken(
    path: Path, *, pattern: str, special_tokens: Mapping[str, int | None] | None = None
) -> Vocabulary:
    """Read a rank file; its lines may come in any order.

    Args:
        pattern: how text is cut, as a regular expression.
        special_tokens: their ids. None stands for the id that the file gives to that text, and
            otherwise for the next one after the last rank. Ids that no token has become special
            tokens named `<|unused_ID|>`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no rank file, or its ranks are not those of a byte-level BPE.
    """
    content = path.read_bytes()
    try:
        ranks = _parse(content)
        return _assemble(ranks, _place(special_tokens or {}, ranks), canonical_pattern(pattern))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_tiktoken(vocabulary: Vocabulary, path: Path) -> None:
    """Write the ordinary tokens as a rank file.

    The special tokens and the pattern do not go into it: whoever reads it has to name them again.

    Raises:
        ValueError: if tiktoken would give some text other ids.
    """
    _check_expressible(vocabulary)
    in_order = sorted(vocabulary.ordinary_ids.items(), key=lambda item: item[1])
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in in_order]
    write_atomically(path, "".join(lines))


def _parse(content: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    places: dict[int, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            spelled, rank_text = line.split()
            token, rank = base64.b64decode(spelled, validate=True), int(rank_text)
        except (ValueError, binascii.Error):
            token, rank = b"", -1
        if not token or rank < 0:
            raise ValueError(
                f"line {number} is {line[:60]!r}, but a line holds a token in base64 and its "
                "rank, such as 'SGVsbG8= 9906'"
            )
        if token in ranks:
            raise ValueError(f"line {number} gives token {token!r} a second rank")
        if rank in places:
            raise ValueError(f"lines {places[rank]} and {number} both have rank {rank}")
        ranks[token] = rank
        places[rank] = number
    if not ranks:
        raise ValueError("there is no token in it")
    return ranks


def _place(special_tokens: Mapping[str, int | None], ranks: Mapping[bytes, int]) -> dict[str, int]:
    """Find an id for each special token; raise if the file says otherwise."""
    placed: dict[str, int] = {}
    given = [token_id for token_id in special_tokens.values() if token_id is not None]
    following = max([*ranks.values(), *given]) + 1
    tokens_by_rank = {rank: token for token, rank in ranks.items()}
    for text, wanted in special_tokens.items():
        listed = ranks.get(text.encode())
        if wanted is None:
            placed[text] = following if listed is None else listed
            following += listed is None
            continue
        taken_by = tokens_by_rank.get(wanted)
        if listed not in (None, wanted):
            raise ValueError(
                f"special token {text!r} is to have id {wanted}, but the file gives it {listed}"
            )
        if taken_by is not None and taken_by != text.encode():
            raise ValueError(
                f"special token {text!r} is to have id {wanted}, which is the token {taken_by!r}; "
                f"the first id after the last rank is {max(ranks.values()) + 1}"
            )
        if wanted in placed.values():
            raise ValueError(f"two special tokens are to have id {wanted}; give each its own")
        placed[text] = wanted
    return placed


def _assemble(
    ranks: Mapping[bytes, int], special_tokens: Mapping[str, int], pattern: str
) -> Vocabulary:
    special = {text.encode() for text in special_tokens}
    ordinary = {token: rank for token, rank in ranks.items() if token not in special}
    unused = unused_tokens({*ordinary.values(), *special_tokens.values()})
    merges = recover_merges(ordinary)
    all_special = {**special_tokens, **unused}
    by_id = {rank: token for token, rank in ordinary.items()}
    by_id |= {token_id: text.encode() for text, token_id in all_special.items()}
    return Vocabulary(
        tokens=tuple(by_id[token_id] for token_id in range(len(by_id))),
        merges=tuple((ordinary[left], ordinary[right]) for left, right in merges.values()),
        special_tokens=all_special,
        pattern=pattern,
    )


def _check_expressible(vocabulary: Vocabulary) -> None:
    """Raise unless merging by the ids of the results, as tiktoken does, is what the merges do."""
    tokens = vocabulary.tokens
    last = -1
    for rank, (_, _, made) in enumerate(vocabulary.merge_rules):
        if made < last:
            raise ValueError(
                f"merge {rank} makes token {made} ({tokens[made]!r}) after a merge that makes "
                f"token {last}; tiktoken merges in the order of the ids, so it would give other "
                "ids; write a tokenizer.json instead"
            )
        last = made
    pairs = {(tokens[left], tokens[right]) for left, right in vocabulary.merges}
    for token, halves in recover_merges(vocabulary.ordinary_ids).items():
        if halves not in pairs:
            raise ValueError(
                f"tiktoken would make token {vocabulary.ordinary_ids[token]} ({token!r}) of "
                f"{halves[0]!r} and {halves[1]!r}, which do not merge in this vocabulary; write a "
                "tokenizer.json instead"
            )
