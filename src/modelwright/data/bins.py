"""Token files of other programs: nanoGPT's and llm.c's `.bin`, to and from a folder of shards.

The formats are written down in `docs/formats.md`. nanoGPT puts the end-of-text token after each
document, llm.c before it, so that a file of the latter begins with one and stops without.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modelwright.data.inspection import open_folder, text_bytes_of_ids
from modelwright.data.shards import Tokens, folder_kind, write_shard_parts
from modelwright.data.verification import verify_data
from modelwright.runtime.files import file_in_one_piece, folder_in_one_piece, require_writable
from modelwright.runtime.manifest import write_manifest
from modelwright.runtime.progress import Listener, Progress, nobody
from modelwright.tokenizer.tokenizer import Tokenizer

Format = Literal["nanogpt", "llmc"]

header_numbers = 256
header_bytes = 4 * header_numbers
magic_of_evaluations = 20240522  # llm.c's other file, of questions with answers
most_tokens_in_header = 2**31 - 1  # the count is a signed number
part_tokens = 1 << 20  # how many are in memory at once


@dataclass(frozen=True)
class Edition:
    """A kind of llm.c file: what its header starts with and how wide its ids are."""

    magic: int
    version: int
    dtype: np.dtype


editions = (
    Edition(20240520, 1, np.dtype("<u2")),  # GPT-2's vocabulary, and modded-nanogpt's files
    Edition(20240801, 7, np.dtype("<u4")),  # Llama 3's
)


@dataclass(frozen=True)
class Bin:
    """One opened file; `tokens` is a view of it that starts at byte `starts_at`."""

    path: Path
    format: Format
    tokens: Tokens
    starts_at: int


def open_bin(path: Path, format: Format | None = None) -> Bin:
    """Map a token file into memory after checking its header against its size.

    Args:
        format: what it has to be; None recognises llm.c's files by their first four bytes and
            takes any other for one of nanoGPT's, which has no header.

    Raises:
        ValueError: if it is cut short, empty or of another kind; the message names it.
    """
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(header_bytes)
    magic = struct.unpack("<i", header[:4])[0] if len(header) >= 4 else None
    if magic == magic_of_evaluations and format is None:
        raise ValueError(
            f"{path} starts with {magic}, so it holds llm.c's questions for an evaluation; give "
            "a file of tokens"
        )
    edition = next((edition for edition in editions if edition.magic == magic), None)
    if format == "nanogpt" or (format is None and edition is None):
        return _open_nanogpt(path, n_bytes)
    if edition is None:
        wanted = " or ".join(str(edition.magic) for edition in editions)
        raise ValueError(
            f"{path} starts with the number {magic} where an llm.c file has {wanted}; it is not "
            "one, or it was altered"
        )
    return _open_llmc(path, n_bytes, header, edition)


def import_bins(
    train: Sequence[Path],
    validation: Sequence[Path],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    shard_tokens: int = 100_000_000,
    format: Format | None = None,
    on_progress: Listener = nobody,
) -> dict[str, Any]:
    """Make a finished folder of shards out of token files, as if the data had been built here.

    The files of a side are read in the order given. A document of llm.c's may go on from one file
    into the next; of nanoGPT's the end of a file is the end of a document. Files are read twice,
    so that a fault in one is found before anything is written. Memory holds a few megabytes, and
    eight bytes for each document.

    Args:
        tokenizer: the one that made the ids; they do not say so themselves.
        shard_tokens: most tokens in a shard; a longer document has one to itself.
        format: what all files have to be; None recognises it, as `open_bin` does.

    Returns:
        The facts of the folder's manifest.

    Raises:
        FileExistsError: if the folder is there already.
        ValueError: naming the file that is at fault, and the byte of an id beyond the vocabulary.
    """
    if shard_tokens < 1:
        raise ValueError(f"shard_tokens is {shard_tokens}; the least is 1")
    for side, paths in (("train", train), ("validation", validation)):
        if not paths:
            raise ValueError(f"no files are given for {side}; name one or more")
    require_writable(folder)
    end_of_text = tokenizer.end_of_text
    sides = {
        side: _Stream([open_bin(path, format) for path in paths], end_of_text)
        for side, paths in (("train", train), ("validation", validation))
    }
    total = sum(stream.n_tokens for stream in sides.values())
    with folder_in_one_piece(folder) as unfinished:
        progress = _Counter("checking ids", total, on_progress)
        scans = {side: _scan(stream, tokenizer, progress) for side, stream in sides.items()}
        progress = _Counter("writing shards", total, on_progress)
        for side, stream in sides.items():
            bounds = _shard_bounds(scans[side].document_ends, shard_tokens)
            for index, (begin, end) in enumerate(bounds):
                write_shard_parts(
                    unfinished / f"{side}-{index:05}.shard",
                    _as(tokenizer.id_dtype, progress.counting(stream.parts(begin, end))),
                    dtype=tokenizer.id_dtype,
                    end_of_text=end_of_text,
                    fingerprint=tokenizer.fingerprint,
                )
            scans[side].n_shards = len(bounds)
        tokenizer.save(unfinished / "tokenizer.json")
        facts = {
            "settings": {
                "data.imported": {side: stream.names for side, stream in sides.items()},
                "data.shard_tokens": shard_tokens,
            },
            "fingerprint": tokenizer.fingerprint,
            "n_vocab": tokenizer.n_vocab,
            "splits": {side: scan.counts() for side, scan in scans.items()},
            "sources": [],  # of a mixture; here nobody knows them
            "dropped": {},
        }
        write_manifest(unfinished, folder_kind, facts)
    return facts


def export_bins(
    folder: Path, out: Path, format: Format, *, on_progress: Listener = nobody
) -> dict[str, int]:
    """Write the tokens of a folder of shards as another program's files, after verifying it.

    nanoGPT gets `train.bin` and `val.bin`; llm.c a file for each shard, `train_000000.bin` and on.

    Returns:
        The number of tokens of each file by name.

    Raises:
        FileExistsError: if `out` is there already and is not empty.
        ValueError: if the folder is damaged, or the format cannot hold its ids.
    """
    require_writable(out)
    data = open_folder(folder)
    if format == "nanogpt" and data.tokenizer.id_dtype.itemsize != 2:
        raise ValueError(
            f"{folder} has a vocabulary of {data.tokenizer.n_vocab:,} tokens, but a file of "
            f"nanoGPT's cannot hold ids above {np.iinfo(np.uint16).max:,}; export it as llmc"
        )
    files: dict[str, list[Tokens]] = {}
    for side, short in (("train", "train"), ("validation", "val")):
        arrays = [shard.tokens for shard in data.shards[side] if len(shard.tokens)]
        if format == "llmc":
            files |= {f"{short}_{index:06}.bin": [array] for index, array in enumerate(arrays)}
        elif arrays:
            files[f"{short}.bin"] = arrays
    n_tokens = {name: sum(map(len, arrays)) for name, arrays in files.items()}
    for name, n in n_tokens.items():
        if format == "llmc" and n > most_tokens_in_header:
            raise ValueError(
                f"{name} would have {n:,} tokens, but llm.c counts up to "
                f"{most_tokens_in_header:,}; build the data with a smaller data.shard_tokens"
            )
    verify_data(folder, on_progress)
    progress = _Counter("writing files", sum(n_tokens.values()), on_progress)
    with folder_in_one_piece(out) as unfinished:
        for name, arrays in files.items():
            with file_in_one_piece(unfinished / name) as file:
                parts = _parts(arrays, 0, n_tokens[name])
                if format == "llmc":
                    edition = editions[data.tokenizer.id_dtype.itemsize // 4]
                    header = np.zeros(header_numbers, "<i4")
                    header[:3] = edition.magic, edition.version, n_tokens[name]
                    file.write(header.tobytes())
                    parts = _moved_to_front(parts, data.tokenizer.end_of_text)
                for part in progress.counting(parts):
                    file.write(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).data)
    return n_tokens


def _open_nanogpt(path: Path, n_bytes: int) -> Bin:
    if n_bytes % 2:
        raise ValueError(
            f"{path} has {n_bytes:,} bytes, an odd number, but each id of a nanoGPT file takes "
            "two; it was cut short, or it is another kind of file"
        )
    if n_bytes == 0:
        raise ValueError(f"{path} is empty; give a file with tokens in it")
    return Bin(path, "nanogpt", np.memmap(path, "<u2", "r"), 0)


def _open_llmc(path: Path, n_bytes: int, header: bytes, edition: Edition) -> Bin:
    if len(header) < header_bytes:
        raise ValueError(
            f"{path} has {n_bytes:,} bytes, but the header of an llm.c file alone takes "
            f"{header_bytes:,}; it was cut short"
        )
    _, version, n_tokens = struct.unpack("<3i", header[:12])
    if version != edition.version:
        raise ValueError(
            f"{path} is an llm.c file ({edition.magic}) of version {version}; this program reads "
            f"version {edition.version}"
        )
    if n_tokens < 1:
        raise ValueError(
            f"{path} says that it has {n_tokens:,} tokens; give a file with some in it"
        )
    expected = header_bytes + n_tokens * edition.dtype.itemsize
    if n_bytes != expected:
        raise ValueError(
            f"{path} has {n_bytes:,} bytes where its header, with {n_tokens:,} tokens, asks for "
            f"{expected:,}; it was cut short or altered"
        )
    tokens = np.memmap(path, edition.dtype, "r", offset=header_bytes, shape=(n_tokens,))
    return Bin(path, "llmc", tokens, header_bytes)


class _Stream:
    """The files of one side as one array, in which the end-of-text token ends each document."""

    def __init__(self, bins: Sequence[Bin], end_of_text: int) -> None:
        formats = {opened.format for opened in bins}
        if len(formats) > 1:
            odd = next(opened for opened in bins if opened.format != bins[0].format)
            raise ValueError(
                f"{bins[0].path} is of the format {bins[0].format} and {odd.path} of "
                f"{odd.format}, which divide documents in different ways; import them apart"
            )
        self.bins, self.end_of_text = bins, end_of_text
        self.names = [opened.path.name for opened in bins]
        end = np.array([end_of_text], np.uint32)
        self.arrays: list[Tokens] = [opened.tokens for opened in bins]
        if formats == {"llmc"}:
            # The leading one goes to the end. A file from the middle of a corpus has none: it
            # begins inside a document.
            if self.arrays[0][0] == end_of_text:
                self.arrays[0] = self.arrays[0][1:]
            self.arrays.append(end)
        else:
            self.arrays = [
                array
                for tokens in self.arrays
                for array in ([tokens] if tokens[-1] == end_of_text else [tokens, end])
            ]
        self.n_tokens = sum(map(len, self.arrays))

    def parts(self, begin: int, end: int) -> Iterator[Tokens]:
        return _parts(self.arrays, begin, end)

    def require_ids_below(self, n_vocab: int) -> None:
        """Name the first id beyond the vocabulary; called when there is one."""
        for opened in self.bins:
            for begin in range(0, len(opened.tokens), part_tokens):
                found = np.flatnonzero(opened.tokens[begin : begin + part_tokens] >= n_vocab)
                if len(found):
                    index = begin + int(found[0])
                    at = opened.starts_at + index * opened.tokens.itemsize
                    raise ValueError(
                        f"{opened.path} has the id {opened.tokens[index]} at byte {at:,}, but the "
                        f"vocabulary has {n_vocab:,} tokens; give the tokenizer that made the file"
                    )


def _parts(arrays: Sequence[Tokens], begin: int, end: int) -> Iterator[Tokens]:
    """Tokens `begin` up to `end` of several arrays end to end, in views of bounded length."""
    first = 0
    for array in arrays:
        last = min(end - first, len(array))
        for start in range(max(begin - first, 0), last, part_tokens):
            yield array[start : min(start + part_tokens, last)]
        first += len(array)


def _as(dtype: np.dtype, parts: Iterable[Tokens]) -> Iterator[Tokens]:
    for part in parts:
        yield part.astype(dtype, copy=False)


def _moved_to_front(parts: Iterable[Tokens], end_of_text: int) -> Iterator[Tokens]:
    """Put the end-of-text token before each document instead of after it."""
    last = end_of_text
    for part in parts:
        yield np.concatenate([np.array([last], part.dtype), part[:-1]])
        last = int(part[-1])
    assert last == end_of_text


@dataclass
class _Scan:
    """What a first reading of a side tells."""

    document_ends: npt.NDArray[np.int64]
    n_bytes: int
    n_shards: int = 0

    def counts(self) -> dict[str, int]:
        return {
            "n_documents": len(self.document_ends),
            "n_bytes": self.n_bytes,
            "n_tokens": int(self.document_ends[-1]),
            "n_shards": self.n_shards,
        }


def _scan(stream: _Stream, tokenizer: Tokenizer, progress: "_Counter") -> _Scan:
    """Check every id, find where documents end, and add up the bytes of their text."""
    n_bytes_of_id = text_bytes_of_ids(tokenizer)
    ends: list[npt.NDArray[np.int64]] = []
    done = n_bytes = 0
    for part in progress.counting(stream.parts(0, stream.n_tokens)):
        if part.max() >= tokenizer.n_vocab:
            stream.require_ids_below(tokenizer.n_vocab)
        ends.append(np.flatnonzero(part == stream.end_of_text) + (done + 1))
        n_bytes += int(n_bytes_of_id[part].sum())
        done += len(part)
    return _Scan(np.concatenate(ends), n_bytes)


def _shard_bounds(document_ends: npt.NDArray[np.int64], shard_tokens: int) -> list[tuple[int, int]]:
    """Begin and end of each shard: as many whole documents as it takes, or one that is longer."""
    bounds: list[tuple[int, int]] = []
    first = begin = 0
    while first < len(document_ends):
        last = int(np.searchsorted(document_ends, begin + shard_tokens, side="right"))
        last = max(last, first + 1)
        end = int(document_ends[last - 1])
        bounds.append((begin, end))
        first, begin = last, end
    return bounds


class _Counter:
    """Tells a listener how many tokens of a phase have passed."""

    def __init__(self, phase: str, total: int, on_progress: Listener) -> None:
        self.phase, self.total, self.on_progress = phase, total, on_progress
        self.done = 0

    def counting(self, parts: Iterable[Tokens]) -> Iterator[Tokens]:
        for part in parts:
            yield part
            self.done += len(part)
            self.on_progress(
                Progress(phase=self.phase, done=self.done, total=self.total, unit="tokens")
            )
