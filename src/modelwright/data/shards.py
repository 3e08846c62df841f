"""Token shards: a small header, the tokens, and where each document begins.

The format is written down in `docs/formats.md`. A shard is read through a memory map, so opening
one costs nothing and processes share its pages.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

magic = b"MWSHARD\x01"
header_format = struct.Struct(
    "<8sIIQQ32s"
)  # magic, version, token bytes, tokens, documents, sha256
header_bytes = 128
version = 1

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


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
    header = header_format.pack(
        magic,
        version,
        tokens.dtype.itemsize,
        len(tokens),
        len(document_starts) - 1,
        bytes.fromhex(fingerprint),
    )
    token_bytes = tokens.astype(tokens.dtype.newbyteorder("<")).tobytes()
    padding = -len(token_bytes) % 8
    with path.open("wb") as file:
        file.write(header.ljust(header_bytes, b"\0"))
        file.write(token_bytes + b"\0" * padding)
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
