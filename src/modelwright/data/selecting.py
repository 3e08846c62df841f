"""Which documents are taken, and which of them are kept out of training for validation.

Every decision about a document follows from its own bytes, so it stays the same when files are
added or moved, and does not depend on who reads it; only a duplicate depends on what came before.
"""

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelwright.data.config import DataConfig
from modelwright.data.reading import Document
from modelwright.data.shards import SIDES, Side

fewest_for_hashing = 100  # with fewer documents, a share of them is too rough a cut
n_hashes_at_once = 1 << 22  # how many are sorted together, and so held in memory twice

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What decides about every document.

    Attributes:
        weights: how often a document of each source comes in an epoch.
        by_hash: whether whole documents are kept out for validation, and not the end of each.
    """

    min_bytes: int
    max_bytes: int | None
    validation_fraction: float
    weights: tuple[float, ...]
    by_hash: bool
    deduplicate: bool

    @classmethod
    def of(cls, config: DataConfig, *, by_hash: bool) -> "Selection":
        """The selection that a recipe asks for."""
        return cls(
            min_bytes=config.min_bytes,
            max_bytes=config.max_bytes,
            validation_fraction=config.validation_fraction,
            weights=tuple(source.weight for source in config.sources),
            by_hash=by_hash,
            deduplicate=config.deduplicate,
        )


@dataclass
class Chosen:
    """The documents of a batch that are taken, and why others are not."""

    sides: dict[Side, list[bytes]] = field(default_factory=lambda: {side: [] for side in SIDES})
    dropped: Counter[str] = field(default_factory=Counter)


def fitting(
    documents: Sequence[Document], selection: Selection, dropped: Counter[str]
) -> list[bytes]:
    """The documents that are neither empty nor too short or too long; the others are counted."""
    least, most = selection.min_bytes, selection.max_bytes
    texts = [document for document in documents if document]
    dropped["empty"] += len(documents) - len(texts)
    if least > 1:
        n_before = len(texts)
        texts = [text for text in texts if len(text) >= least]
        dropped["too short"] += n_before - len(texts)
    if most is not None:
        n_before = len(texts)
        texts = [text for text in texts if len(text) <= most]
        dropped["too long"] += n_before - len(texts)
    return texts


def choose(
    documents: Sequence[Document],
    selection: Selection,
    *,
    source: int,
    repetition: int,
    is_first: Iterator[np.bool_] | None,
) -> Chosen:
    """Take documents of one source for one of the times that it is read in an epoch.

    Args:
        repetition: from 0; a source of weight 2.5 is read at 0, 1 and 2, half of it at 2.
        is_first: for each fitting document whether it is no duplicate; None if all are taken.
    """
    chosen = Chosen()
    texts = fitting(documents, selection, chosen.dropped)
    if is_first is not None:
        n_fitting = len(texts)
        texts = [text for text, first in zip(texts, is_first, strict=False) if first]
        chosen.dropped["duplicate"] += n_fitting - len(texts)
    share = min(1.0, selection.weights[source] - repetition)
    if share < 1:
        drawn = _as_head(share)
        texts = [text for text in texts if hashlib.sha256(text).digest()[8:16] < drawn]
    train, validation = chosen.sides["train"], chosen.sides["validation"]
    if selection.by_hash:
        limit, sha256 = _as_head(selection.validation_fraction), hashlib.sha256
        for text in texts:
            (train if sha256(text).digest()[:8] >= limit else validation).append(text)
    else:
        for text in texts:
            head, tail = split_off_tail(text, selection.validation_fraction)
            if head.strip():
                train.append(head)
            if tail.strip():
                validation.append(tail)
    if repetition > 0:  # nothing is measured twice
        validation.clear()
    return chosen


def _as_head(share: float) -> bytes:
    """The eight bytes below which, as a number, a share of all hashes begin."""
    return int(share * 2**64).to_bytes(9, "big")[1:]


def split_off_tail(document: bytes, fraction: float) -> tuple[bytes, bytes]:
    """Cut a document in two at a white space, the shorter last part for validation."""
    wanted = len(document) - int(len(document) * fraction)
    cut = max(document.rfind(b"\n", 0, wanted), document.rfind(b" ", 0, wanted))
    # A text without white space is cut anyway, but never inside a UTF-8 character.
    cut = cut if cut > len(document) // 2 else wanted
    while 0 < cut < len(document) and document[cut] & 0xC0 == 0x80:
        cut -= 1
    return document[:cut], document[cut:]


def hashes_of(texts: Sequence[bytes]) -> Hashes:
    """What duplicates share: 128 bits of sha256 of each normalised text, [n, 2]."""
    digests = b"".join(hashlib.sha256(normalised(text)).digest()[:16] for text in texts)
    return np.frombuffer(digests, dtype="<u8").reshape(-1, 2)


def normalised(text: bytes) -> bytes:
    """A text in lower case, Unicode's composed form (NFC), and with single spaces between words."""
    if text.isascii():
        return b" ".join(text.lower().split())
    string = unicodedata.normalize("NFC", text.decode("utf-8", "surrogateescape").lower())
    return " ".join(string.split()).encode("utf-8", "surrogateescape")


def first_of_equals(parts: Sequence[Hashes]) -> list[npt.NDArray[np.bool_]]:
    """For every hash, part by part, whether none before it is the same.

    Memory: 16 bytes for each document in the parts, and up to 300 MB to sort them, however many.
    """
    n_hashes = sum(map(len, parts))
    is_first = np.zeros(n_hashes, dtype=bool)
    n_rounds = -(-n_hashes // n_hashes_at_once)
    for turn in range(n_rounds):
        places, hashes, before = [], [], 0
        for part in parts:
            here = np.flatnonzero(part[:, 0] % np.uint64(n_rounds) == turn)
            places.append(here + before)
            hashes.append(part[here])
            before += len(part)
        place, rows = np.concatenate(places), np.concatenate(hashes)
        order = np.lexsort((rows[:, 0], rows[:, 1]))  # stable, so the first comes first
        ordered = rows[order]
        is_new = np.ones(len(order), dtype=bool)
        is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        is_first[place[order[is_new]]] = True
    ends = np.cumsum([len(part) for part in parts])
    return np.split(is_first, ends[:-1]) if parts else []
