"""Looking at a folder of shards: how much is in it, how long its documents are, how they begin.

`inspect_data` reads headers, document starts and the first documents, so it takes no time even for
a large corpus, and believes what it reads. `verification.verify_data` reads everything instead.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelwright.data.shards import (
    SIDES,
    Shard,
    TokenSequence,
    folder_kind,
    header_bytes,
    open_shard,
)
from modelwright.runtime.manifest import read_manifest, require_file
from modelwright.tokenizer.tokenizer import END_OF_TEXT, Tokenizer

if TYPE_CHECKING:
    from modelwright.data.packing import PackingReport

chunk_tokens = 1 << 20  # how many tokens, or document starts, are checked at once
longest_excerpt = 400  # characters of a document that are shown
fewest_bins = 8  # of a histogram, unless the lengths are nearly all the same
finest_bins = 8  # to a doubling of length


@dataclass(frozen=True)
class Folder:
    """An opened folder of shards, none of whose bytes has been compared with the manifest."""

    path: Path
    tokenizer: Tokenizer
    shards: Mapping[str, Sequence[Shard]]
    """The shards of each side, in the order of their names."""
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Histogram:
    """Documents by length in tokens: bin i holds those from `edges[i]` to below `edges[i + 1]`."""

    edges: tuple[int, ...]
    n_documents: tuple[int, ...]
    n_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Lengths:
    """How long documents are, in tokens, the end-of-text token included."""

    least: int
    median: float
    mean: float
    percentile_90: float
    percentile_99: float
    most: int
    histogram: Histogram


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a document."""

    n_tokens: int
    text: str
    """As a person can read it: `visible` says how."""
    is_whole: bool


@dataclass(frozen=True)
class Side:
    """What is known about the documents of one side, or of one shard."""

    n_tokens: int
    n_documents: int
    n_bytes: int | None
    """Bytes of text; None where nobody counted them."""
    n_shards: int
    bytes_on_disk: int
    lengths: Lengths | None
    """None if there are no documents."""
    excerpts: tuple[Excerpt, ...]

    @property
    def bytes_per_token(self) -> float | None:
        """Bytes of text for each token."""
        return self.n_bytes / self.n_tokens if self.n_bytes is not None and self.n_tokens else None


@dataclass(frozen=True)
class DataInspection:
    """What a look at a folder of shards, or at a single one, gives."""

    path: Path
    sides: Mapping[str, Side]
    fingerprint: str
    n_vocab: int | None
    """None for a shard without a tokenizer."""
    facts: Mapping[str, Any]
    """What the manifest says; empty for a shard."""


def open_folder(folder: Path) -> Folder:
    """Open a finished folder without reading its tokens.

    Raises:
        FileNotFoundError: if it was never finished.
        ValueError: if a shard is missing, cut short or of another tokenizer.
    """
    manifest = read_data_manifest(folder)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    shards: dict[str, list[Shard]] = {side: [] for side in SIDES}
    for name in sorted(manifest["files"]):
        side = side_of(name)
        if side is None:
            continue
        require_file(folder, name)
        shard = open_shard(folder / name)
        require_tokenizer_of(shard, tokenizer, folder)
        shards[side].append(shard)
    return Folder(folder, tokenizer, shards, manifest["facts"])


def inspect_data(folder: Path, *, n_excerpts: int = 2) -> DataInspection:
    """Look at a folder of shards without reading all of it.

    Args:
        n_excerpts: how many documents are shown from the start of each side.
    """
    opened = open_folder(folder)
    splits = opened.facts.get("splits", {})
    looked_at = {
        side: _look(shards, splits.get(side, {}).get("n_bytes"), opened.tokenizer, n_excerpts)
        for side, shards in opened.shards.items()
    }
    tokenizer = opened.tokenizer
    return DataInspection(folder, looked_at, tokenizer.fingerprint, tokenizer.n_vocab, opened.facts)


def inspect_shard(
    path: Path, tokenizer: Tokenizer | None = None, *, n_excerpts: int = 2
) -> DataInspection:
    """Look at one shard; without a tokenizer there is no text to show.

    Raises:
        ValueError: if it is no shard, or one of another tokenizer.
    """
    shard = open_shard(path)
    if tokenizer is not None:
        require_tokenizer_of(shard, tokenizer, None)
    side = _look([shard], None, tokenizer, n_excerpts)
    n_vocab = None if tokenizer is None else tokenizer.n_vocab
    return DataInspection(path, {"shard": side}, shard.fingerprint, n_vocab, {})


def compare_cuts(path: Path, context: int) -> dict[str, dict[str, "PackingReport"]]:
    """How both ways of cutting the text into rows of `context` tokens fare, for each side.

    Args:
        path: a folder of shards, or a single one.

    Returns:
        For each side that has documents, a report on "packed" and one on "contiguous".
    """
    from modelwright.data.packing import Packed, report_contiguous  # brings torch

    if context < 1:
        raise ValueError(f"the context is {context}; the least is 1")
    shards = {"shard": [open_shard(path)]} if path.is_file() else open_folder(path).shards
    reports: dict[str, dict[str, PackingReport]] = {}
    for side, its_shards in shards.items():
        tokens = TokenSequence(list(_in_order(its_shards)))
        if not len(tokens):
            continue
        end_of_text = int(its_shards[-1].tokens[-1])
        reports[side] = {
            "packed": Packed(tokens, context, end_of_text).report(),
            "contiguous": report_contiguous(tokens, context),
        }
    return reports


def training_histogram(folder: Path) -> dict[str, list[int]] | None:
    """The lengths of the training documents in a form that JSON holds; None if there are none."""
    lengths = lengths_of(open_folder(folder).shards["train"])
    if lengths is None:
        return None
    return {name: list(values) for name, values in dataclasses.asdict(lengths.histogram).items()}


def lengths_of(shards: Iterable[Shard]) -> Lengths | None:
    """How long the documents of some shards are; None if there are none.

    Raises:
        ValueError: if a shard's document starts are out of order.
    """
    parts = [np.diff(shard.document_starts.astype(np.int64)) for shard in _in_order(shards)]
    lengths = np.concatenate(parts) if parts else np.array([], np.int64)
    if not len(lengths):
        return None
    median, percentile_90, percentile_99 = np.percentile(lengths, [50, 90, 99])
    return Lengths(
        int(lengths.min()),
        float(median),
        float(lengths.mean()),
        float(percentile_90),
        float(percentile_99),
        int(lengths.max()),
        histogram_of(lengths),
    )


def histogram_of(lengths: npt.NDArray[np.int64]) -> Histogram:
    """Sort lengths into bins of equal ratio, as fine as it takes to show their shape.

    The edges are powers of two, or whole numbers that divide each doubling in 2, 4 or 8.
    """
    least, most = int(lengths.min()), int(lengths.max())
    per_doubling = 1
    edges = _edges(least, most, per_doubling)
    while len(edges) <= fewest_bins and per_doubling < finest_bins:
        per_doubling *= 2
        edges = _edges(least, most, per_doubling)
    n_documents, _ = np.histogram(lengths, edges)
    n_tokens, _ = np.histogram(lengths, edges, weights=lengths)
    return Histogram(tuple(edges), tuple(map(int, n_documents)), tuple(round(n) for n in n_tokens))


def visible(text: bytes) -> str:
    """Text as a person can read it, lines kept.

    Characters that a terminal would obey or not show are spelled with a backslash, as are bytes
    that are no UTF-8.
    """
    return "".join(map(_visible_character, text.decode("utf-8", errors="surrogateescape")))


def text_bytes_of_ids(tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    """How many bytes of text each id stands for; the end-of-text token for none."""
    n_bytes = np.array([len(token) for token in tokenizer.vocabulary.tokens], np.int64)
    n_bytes[tokenizer.end_of_text] = 0
    return n_bytes


def check_shard(shard: Shard, n_vocab: int, end_of_text: int) -> None:
    """Check what a shard's bytes mean: its documents and its ids.

    Raises:
        ValueError: naming the shard and the first token or document that is at fault.
    """
    wanted_bytes = 2 if n_vocab <= np.iinfo(np.uint16).max + 1 else 4
    found_bytes = shard.tokens.dtype.itemsize
    if found_bytes != wanted_bytes:
        raise ValueError(
            f"{shard.path} has ids of {found_bytes} bytes, but a vocabulary of {n_vocab:,} tokens "
            f"takes {wanted_bytes}"
        )
    _check_starts(shard)
    ends = shard.document_starts[1:].astype(np.int64)
    for begin in range(0, len(shard.tokens), chunk_tokens):
        # Read and not mapped: pages of a map would stay in memory with all that has been checked.
        offset = header_bytes + begin * found_bytes
        part = np.fromfile(shard.path, shard.tokens.dtype, chunk_tokens, offset=offset)
        part = part[: len(shard.tokens) - begin]
        if part.max() >= n_vocab:
            index = int(np.argmax(part >= n_vocab))
            raise ValueError(
                f"{shard.path}: token {begin + index:,} is the id {part[index]}, but the "
                f"vocabulary has {n_vocab:,} tokens"
            )
        first, last = np.searchsorted(ends, [begin + 1, begin + len(part) + 1])
        places = ends[first:last] - 1 - begin  # of the last tokens of documents
        is_other = part[places] != end_of_text
        if is_other.any():
            document = int(np.argmax(is_other))
            index = int(places[document])
            raise ValueError(
                f"{shard.path}: document {first + document:,} ends at token {begin + index:,} with "
                f"the id {part[index]} instead of the end-of-text token {end_of_text}"
            )


def read_data_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder of shards; without one, the folder was never finished."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder at {folder}")
    return read_manifest(folder, folder_kind)


def require_tokenizer_of(shard: Shard, tokenizer: Tokenizer, folder: Path | None) -> None:
    """Refuse a shard of another tokenizer, showing both fingerprints."""
    if shard.fingerprint != tokenizer.fingerprint:
        other = "the tokenizer given" if folder is None else folder / "tokenizer.json"
        raise ValueError(
            f"{shard.path} was made by another tokenizer ({shard.fingerprint[:12]}) than {other} "
            f"({tokenizer.fingerprint[:12]})"
        )


def _check_starts(shard: Shard) -> None:
    """Document starts rise from 0 to the number of tokens."""
    starts, n_tokens = shard.document_starts, len(shard.tokens)
    first, last = int(starts[0]), int(starts[-1])
    if first != 0 or last != n_tokens:
        raise ValueError(
            f"{shard.path}: its documents go from token {first:,} to {last:,}, but it has the "
            f"tokens from 0 to {n_tokens:,}"
        )
    for begin in range(0, len(starts) - 1, chunk_tokens):
        part = starts[begin : begin + chunk_tokens + 1].astype(np.int64)
        falls = np.diff(part) <= 0
        if falls.any():
            document = int(np.argmax(falls))
            raise ValueError(
                f"{shard.path}: document {begin + document:,} starts at token "
                f"{part[document]:,} and the next one at {part[document + 1]:,}; they have to rise"
            )


def _in_order(shards: Iterable[Shard]) -> Iterable[Shard]:
    for shard in shards:
        _check_starts(shard)
        yield shard


def side_of(name: str) -> str | None:
    """The side that a file belongs to by its name; None if it is no shard."""
    return next(
        (side for side in SIDES if name.startswith(f"{side}-") and name.endswith(".shard")), None
    )


def _look(
    shards: Sequence[Shard], n_bytes: int | None, tokenizer: Tokenizer | None, n_excerpts: int
) -> Side:
    return Side(
        n_tokens=sum(len(shard.tokens) for shard in shards),
        n_documents=sum(len(shard.document_starts) - 1 for shard in shards),
        n_bytes=n_bytes,
        n_shards=len(shards),
        bytes_on_disk=sum(shard.path.stat().st_size for shard in shards),
        lengths=lengths_of(shards),
        excerpts=() if tokenizer is None else _excerpts(shards, tokenizer, n_excerpts),
    )


def _excerpts(
    shards: Sequence[Shard], tokenizer: Tokenizer, n_excerpts: int
) -> tuple[Excerpt, ...]:
    found: list[Excerpt] = []
    for shard in shards:
        starts = shard.document_starts[: n_excerpts - len(found) + 1].astype(np.int64).tolist()
        found += [_excerpt(shard, start, end, tokenizer) for start, end in pairwise(starts)]
    return tuple(found)


def _excerpt(shard: Shard, start: int, end: int, tokenizer: Tokenizer) -> Excerpt:
    # A token is at least a byte of text, and a character at most four.
    ids = shard.tokens[start : min(end, start + 4 * longest_excerpt + 1)]
    if len(ids) == end - start and ids[-1] == tokenizer.special_tokens.get(END_OF_TEXT):
        ids = ids[:-1]
    try:
        text = tokenizer.decode_bytes(ids)
    except ValueError as error:
        raise ValueError(f"{shard.path}: {error}") from None
    characters = text.decode("utf-8", errors="surrogateescape")
    is_whole = len(characters) <= longest_excerpt
    shown = characters[:longest_excerpt].encode("utf-8", errors="surrogateescape")
    return Excerpt(end - start, visible(shown), is_whole)


def _edges(least: int, most: int, per_doubling: int) -> list[int]:
    """Whole numbers in equal ratios, the first at most `least` and the last above `most`."""
    n = per_doubling * int(most).bit_length() + 1
    edges = sorted({round(2 ** (i / per_doubling)) for i in range(n)})
    first = max(i for i, edge in enumerate(edges) if edge <= least)
    last = min(i for i, edge in enumerate(edges) if edge > most)
    return edges[first : last + 1]


def _visible_character(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    # repr knows which characters a terminal cannot show, and spells those with a backslash.
    if character == "\n" or character.isprintable():
        return character
    return repr(character)[1:-1]
