"""Token shards: a small header, the tokens, and where each document begins.

The format is written down in `docs/formats.md`. A shard is read through a memory map, so opening
one costs nothing and processes share its pages.
"""

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from modelwright.runtime.files import file_in_one_piece

magic = b"MWSHARD\x01"
header_format = struct.Struct(
    "<8sIIQQ32s"
)  # magic, version, token bytes, tokens, documents, sha256
header_bytes = 128
version = 1

folder_kind = "modelwright-data-1"  # in the manifest of a folder of shards

Side = Literal["train", "validation"]
SIDES: tuple[Side, ...] = ("train", "validation")

Tokens = npt.NDArray[np.uint16 | np.uint32]


class ShardWriter:
    """Writes one shard bit by bit; the file appears whole when it is finished, or not at all.

    Memory holds the document starts, 8 bytes each.
    """

    def __init__(
        self, path: Path, dtype: np.dtype, fingerprint: str, *, survives_power_cut: bool = True
    ) -> None:
        """Args:
        dtype: uint16 or uint32.
        fingerprint: sha256 in hexadecimal of the tokenizer that made the ids.
        survives_power_cut: as in `file_in_one_piece`.
        """
        assert dtype in (np.uint16, np.uint32)
        self.n_tokens = self.n_documents = 0
        self._dtype = dtype.newbyteorder("<")
        self._fingerprint = fingerprint
        self._starts: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._whole = file_in_one_piece(path, survives_power_cut=survives_power_cut)
        self._file = self._whole.__enter__()
        self._file.write(b"\0" * header_bytes)

    def add(self, tokens: Tokens, document_ends: npt.NDArray[np.int64]) -> None:
        """Add tokens.

        Args:
            tokens: ids; they may go on with the last document and leave another one unfinished.
            document_ends: index in `tokens` after each document that ends in them.
        """
        assert tokens.dtype.itemsize == self._dtype.itemsize
        self._file.write(np.ascontiguousarray(tokens, self._dtype).data)
        self._starts.append(document_ends.astype(np.int64) + self.n_tokens)
        self.n_tokens += len(tokens)
        self.n_documents += len(document_ends)

    def finish(self) -> None:
        """Write what is left, the header last, and give the file its name."""
        starts = np.concatenate(self._starts)
        assert starts[-1] == self.n_tokens
        try:
            self._file.write(b"\0" * (-self.n_tokens * self._dtype.itemsize % 8))
            self._file.write(starts.astype("<u8").data)
            self._file.seek(0)
            header = header_format.pack(
                magic,
                version,
                self._dtype.itemsize,
                self.n_tokens,
                self.n_documents,
                bytes.fromhex(self._fingerprint),
            )
            self._file.write(header)
        except BaseException:
            self.discard()
            raise
        self._whole.__exit__(None, None, None)

    def discard(self) -> None:
        """Leave nothing behind."""
        with suppress(_Discarded):
            self._whole.__exit__(_Discarded, _Discarded(), None)


class _Discarded(Exception):
    """What an unfinished file is told, so that it vanishes."""


def write_shard(
    path: Path, tokens: Tokens, document_starts: npt.NDArray[np.int64], fingerprint: str
) -> None:
    """Write one shard.

    Args:
        tokens: ids as uint16 or uint32.
        document_starts: index of each document's first token, and at the end the token count.
        fingerprint: sha256 in hexadecimal of the tokenizer that made the ids.
    """
    writer = ShardWriter(path, tokens.dtype, fingerprint)
    writer.add(tokens, document_starts[1:])
    writer.finish()


def write_shard_parts(
    path: Path, parts: Iterable[Tokens], *, dtype: np.dtype, end_of_text: int, fingerprint: str
) -> tuple[int, int]:
    """Write one shard from ids that come in parts; memory holds one part and the document starts.

    Args:
        parts: ids in which `end_of_text` ends each document; a last one that is not ended is.
        dtype: uint16 or uint32.

    Returns:
        The numbers of tokens and of documents.
    """
    writer = ShardWriter(path, dtype, fingerprint)
    last = end_of_text
    try:
        for part in parts:
            if len(part):
                writer.add(part, np.flatnonzero(part == end_of_text) + 1)
                last = int(part[-1])
        if last != end_of_text:
            writer.add(np.array([end_of_text], dtype), np.ones(1, np.int64))
    except BaseException:
        writer.discard()
        raise
    writer.finish()
    return writer.n_tokens, writer.n_documents


@dataclass(frozen=True)
class Shard:
    """One opened shard; the arrays are views of the file."""

    path: Path
    tokens: Tokens
    document_starts: npt.NDArray[np.uint64]
    fingerprint: str


def open_shard(path: Path) -> Shard:
    """Map a shard into memory after checking its header against its size.

    Raises:
        ValueError: if it is no shard, of another version, or cut short; the message names it.
    """
    n_bytes = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(header_bytes)
    if len(header) < header_bytes or not header.startswith(magic):
        raise ValueError(f"{path} is not a token shard")
    _, found_version, token_bytes, n_tokens, n_documents, fingerprint = header_format.unpack(
        header[: header_format.size]
    )
    if found_version != version or token_bytes not in (2, 4):
        raise ValueError(
            f"{path} is a shard of version {found_version} with {token_bytes}-byte tokens; "
            f"this program reads version {version} with 2 or 4"
        )
    starts_at = header_bytes + n_tokens * token_bytes + -(n_tokens * token_bytes) % 8
    expected = starts_at + 8 * (n_documents + 1)
    if n_bytes != expected:
        raise ValueError(
            f"{path} has {n_bytes:,} bytes where its header says {expected:,}; it was cut short "
            "or altered, so build the data anew"
        )
    dtype = np.dtype("<u2" if token_bytes == 2 else "<u4")
    return Shard(
        path,
        np.memmap(path, dtype, "r", offset=header_bytes, shape=(n_tokens,)),
        np.memmap(path, "<u8", "r", offset=starts_at, shape=(n_documents + 1,)),
        fingerprint.hex(),
    )


class TokenSequence:
    """Several shards read as one long sequence of tokens."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._tokens = [shard.tokens for shard in shards]
        self._ends = np.cumsum([len(tokens) for tokens in self._tokens])
        self._document_starts = [shard.document_starts for shard in shards]

    @property
    def parts(self) -> Sequence[Tokens]:
        """The tokens of each shard, as they are mapped."""
        return self._tokens

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def document_starts(self) -> npt.NDArray[np.int64]:
        """Index of each document's first token, and at the end the token count; made anew."""
        firsts = [0, *self._ends[:-1].tolist()]
        starts = [
            own[:-1].astype(np.int64) + first
            for own, first in zip(self._document_starts, firsts, strict=False)
        ]
        return np.concatenate([*starts, np.array([len(self)], np.int64)])

    def read(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Tokens `start` up to `stop`, copied; a read may cross from one shard to the next."""
        assert 0 <= start <= stop <= len(self)
        out = np.empty(stop - start, np.int64)
        shard = int(np.searchsorted(self._ends, start, side="right"))
        filled = 0
        while filled < len(out):
            tokens = self._tokens[shard]
            begin = start + filled - (int(self._ends[shard]) - len(tokens))
            piece = tokens[begin : begin + len(out) - filled]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
            shard += 1
        return out
