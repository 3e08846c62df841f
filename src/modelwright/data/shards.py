"""Token shards: a small header, the tokens, and where each document begins.

The format is written down in `docs/formats.md`. A shard is read through a memory map, so opening
one costs nothing and processes share its pages.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from modelwright.runtime.files import file_in_one_piece

magic = b"MWSHARD\x01"
header_format = struct.Struct(
    "<8sIIQQ32s"
)  # magic, version, token bytes, tokens, documents, sha256
header_bytes = 128
version = 1

Tokens = npt.NDArray[np.uint16 | np.uint32]


def write_shard(
    path: Path, tokens: Tokens, document_starts: npt.NDArray[np.int64], fingerprint: str
) -> None:
    """Write one shard.

    Args:
        tokens: ids as uint16 or uint32.
        document_starts: index of each document's first token, and at the end the token count.
        fingerprint: sha256 in hexadecimal of the tokenizer that made the ids.
    """
    assert tokens.dtype in (np.uint16, np.uint32)
    assert document_starts[-1] == len(tokens)
    with path.open("wb") as file:
        file.write(
            _header(tokens.dtype.itemsize, len(tokens), len(document_starts) - 1, fingerprint)
        )
        file.write(np.ascontiguousarray(tokens, tokens.dtype.newbyteorder("<")).data)
        _write_starts(file, tokens.nbytes, document_starts)


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
    little = dtype.newbyteorder("<")
    ends: list[npt.NDArray[np.int64]] = []
    n_tokens = 0
    last = end_of_text
    with file_in_one_piece(path) as file:
        file.write(b"\0" * header_bytes)
        for part in parts:
            if not len(part):
                continue
            file.write(np.ascontiguousarray(part, little).data)
            ends.append(np.flatnonzero(part == end_of_text) + (n_tokens + 1))
            n_tokens += len(part)
            last = int(part[-1])
        if last != end_of_text:
            file.write(np.array([end_of_text], little).tobytes())
            n_tokens += 1
            ends.append(np.array([n_tokens], np.int64))
        starts = np.concatenate([np.zeros(1, np.int64), *ends])
        _write_starts(file, n_tokens * little.itemsize, starts)
        file.seek(0)
        file.write(_header(little.itemsize, n_tokens, len(starts) - 1, fingerprint))
    return n_tokens, len(starts) - 1


def _header(token_bytes: int, n_tokens: int, n_documents: int, fingerprint: str) -> bytes:
    header = header_format.pack(
        magic, version, token_bytes, n_tokens, n_documents, bytes.fromhex(fingerprint)
    )
    return header.ljust(header_bytes, b"\0")


def _write_starts(
    file: BinaryIO, n_bytes_before: int, document_starts: npt.NDArray[np.int64]
) -> None:
    file.write(b"\0" * (-n_bytes_before % 8))
    file.write(document_starts.astype("<u8").tobytes())


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

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

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
