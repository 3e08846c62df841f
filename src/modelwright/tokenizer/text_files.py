"""Text in files: which ones, plain or compressed, and how a large one is divided among threads."""

import gzip
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from modelwright import _native

if TYPE_CHECKING:
    import zstandard
    from _typeshed import WriteableBuffer as Buffer

TEXT_SUFFIXES = (".txt", ".text", ".md")
COMPRESSED_SUFFIXES = (".gz", ".zst")

_PART_BYTES = 1 << 24
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class FilePart:
    """Bytes `begin` to `end` of a file, cut so that it can be handled apart from the rest."""

    path: Path
    begin: int
    end: int


def text_files(sources: Path | Sequence[Path]) -> tuple[Path, ...]:
    """Return the files that are meant: each as it is, and of a folder every text file in it.

    Raises:
        FileNotFoundError: if one is not there.
        ValueError: if a folder holds no text files, or the files hold no text.
    """
    files: list[Path] = []
    for source in (sources,) if isinstance(sources, Path) else sources:
        if not source.exists():
            raise FileNotFoundError(
                f"there is no text at {source}; give a file or a folder of them"
            )
        files += _text_files_in(source) if source.is_dir() else [source]
    if not any(file.stat().st_size for file in files):
        names = ", ".join(map(str, files[:3])) or "the list of files"
        raise ValueError(f"{names}: there is no text in it; choose files with something in them")
    return tuple(files)


def _text_files_in(folder: Path) -> list[Path]:
    endings = tuple(
        ending + compressed for ending in TEXT_SUFFIXES for compressed in ("", *COMPRESSED_SUFFIXES)
    )
    found = sorted(
        path for path in folder.rglob("*") if path.name.endswith(endings) and path.is_file()
    )
    if not found:
        kinds = ", ".join(TEXT_SUFFIXES)
        raise ValueError(
            f"{folder} holds no text files ({kinds}, or these with .gz or .zst); choose another"
        )
    return found


def is_compressed(path: Path) -> bool:
    """Whether a file's name says that it is compressed."""
    return path.suffix in COMPRESSED_SUFFIXES


def chunks_of(path: Path) -> Iterator[bytes]:
    """Read a file from start to end in chunks of about a megabyte, decompressed if need be.

    Raises:
        ValueError: if a compressed file is damaged or cut short.
    """
    with path.open("rb") as raw:
        try:
            with _decompressed(path, raw) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
        except (EOFError, gzip.BadGzipFile, _zstandard_error(path)) as error:
            raise ValueError(f"{path}: the compressed file is damaged ({error})") from None


def _decompressed(path: Path, raw: BinaryIO) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]  # reads like one
    if path.suffix == ".zst":
        import zstandard  # loaded for such files only

        return io.BufferedReader(_Frames(raw, zstandard.ZstdDecompressor()), _CHUNK_BYTES)
    return raw


class _Frames(io.RawIOBase):
    """The text in Zstandard frames; zstandard's own reader takes one cut short for a whole one."""

    def __init__(self, raw: BinaryIO, decompressor: "zstandard.ZstdDecompressor") -> None:
        self._raw = raw
        self._decompressor = decompressor
        self._frame: zstandard.ZstdDecompressionObj | None = None  # the one that has begun
        self._compressed = b""
        self._text = b""
        self._n_given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer", /) -> int:
        while self._n_given == len(self._text):
            # A little at a time: of a text that repeats itself, a kilobyte may hold megabytes.
            self._compressed = self._compressed or self._raw.read(1 << 10)
            if not self._compressed and self._frame is not None:
                raise EOFError("it ends before its last frame does")
            if not self._compressed:
                return 0
            self._frame = self._frame or self._decompressor.decompressobj()
            self._text, self._n_given = self._frame.decompress(self._compressed), 0
            self._compressed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        place = memoryview(buffer)
        text = self._text[self._n_given : self._n_given + len(place)]
        place[: len(text)] = text
        self._n_given += len(text)
        return len(text)


def _zstandard_error(path: Path) -> type[Exception]:
    if path.suffix != ".zst":
        return EOFError
    import zstandard

    return zstandard.ZstdError


def parts_of(
    path: Path, known_pattern: tuple[str, bool], specials: _native.SpecialTokens
) -> Iterator[FilePart]:
    """Divide a plain file where every text is cut anyway; what the parts give adds up to the whole.

    Args:
        known_pattern: name and digits_apart of a pattern that the compiled core knows.
        specials: texts that no part may end inside of.
    """
    with path.open("rb") as file:
        n_bytes = file.seek(0, io.SEEK_END)
        begin = 0
        while begin < n_bytes:
            end = _native.next_cut(
                file.fileno(), min(begin + _PART_BYTES, n_bytes), *known_pattern, specials
            )
            yield FilePart(path, begin, end)
            begin = end


def documents_between(chunks: Iterable[bytes], borders: Sequence[bytes]) -> Iterator[bytes]:
    """Join chunks and yield what stands between two of `borders`, which are the longest first.

    Memory holds one document at a time.
    """
    if not borders:
        yield b"".join(chunks)
        return
    pattern = re.compile(b"|".join(map(re.escape, borders)))
    held = b""
    for chunk in chunks:
        held += chunk
        start = 0
        for match in pattern.finditer(held):
            # A longer border may start at the same place.
            if match.start() + len(borders[0]) > len(held):
                break
            yield held[start : match.start()]
            start = match.end()
        held = held[start:]
    yield from pattern.split(held)
