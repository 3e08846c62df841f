"""Where documents come from: text files, folders of them, or the built-in stories.

A document is bytes, exactly as they stand in the file, so that invalid UTF-8 and NUL bytes
survive. A source can be read as often as needed and gives the same documents each time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelwright.data.stories import stories
from modelwright.tokenizer.text_files import TEXT_SUFFIXES

read_size = 1 << 20


class Source(Protocol):
    """Documents that can be read again and again."""

    @property
    def name(self) -> str:
        """What a recipe calls it."""
        ...

    def documents(self) -> Iterator[bytes]:
        """All documents, in a fixed order, none of them empty."""
        ...

    @property
    def n_bytes(self) -> int:
        """About how many bytes the documents hold together, known before they are read."""
        ...


@dataclass(frozen=True)
class Stories:
    """The built-in corpus: stories of one seed until `n_bytes` are told."""

    seed: int
    n_bytes: int
    name: str = "stories"

    def documents(self) -> Iterator[bytes]:
        told = 0
        for story in stories(self.seed):
            if told >= self.n_bytes:
                return
            document = story.encode()
            told += len(document)
            yield document


@dataclass(frozen=True)
class TextFiles:
    """Text files, each cut into documents at a separator."""

    name: str
    paths: tuple[Path, ...]
    separator: bytes

    @property
    def n_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.paths)

    def documents(self) -> Iterator[bytes]:
        for path in self.paths:
            yield from split_documents(path, self.separator)


def split_documents(path: Path, separator: bytes) -> Iterator[bytes]:
    """The documents of one file, read in pieces; the separator's own line is not part of any.

    Args:
        separator: the text between documents; empty, and the whole file is one document.
    """
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(read_size):
            rest += piece
            if not separator:
                continue
            *whole, rest = rest.split(separator)
            for document in whole:
                if trimmed := _without_separator_line(document):
                    yield trimmed
    last = _without_separator_line(rest, at_end=True) if separator else rest
    if last.strip():
        yield last


def _without_separator_line(document: bytes, *, at_end: bool = False) -> bytes:
    """Take off the line break after the previous separator and the one before the next."""
    document = (
        document.removeprefix(b"\r\n") if document[:1] == b"\r" else document.removeprefix(b"\n")
    )
    if not at_end:
        document = document.removesuffix(b"\n").removesuffix(b"\r")
    return document


def open_source(name: str, *, separator: str, seed: int, n_bytes: int) -> Source:
    """The source that a recipe names.

    Args:
        name: "stories", or the path of a text file or of a folder of text files.
        seed: which endless corpus of stories.
        n_bytes: how much of it.

    Raises:
        FileNotFoundError: if there is no such path.
        ValueError: if there is no text in it.
    """
    if name == "stories":
        return Stories(seed, n_bytes)
    path = Path(name)
    if not path.exists():
        raise FileNotFoundError(
            f"there is no text at {name}; data.source is a file, a folder of text files, or "
            "'stories' for the built-in corpus"
        )
    paths = _text_files_in(path) if path.is_dir() else (path,)
    if not any(file.stat().st_size for file in paths):
        raise ValueError(f"{name} is empty; choose a text with something in it")
    return TextFiles(name, paths, separator.encode())


def _text_files_in(folder: Path) -> tuple[Path, ...]:
    paths = tuple(
        sorted(
            path for path in folder.rglob("*") if path.suffix in TEXT_SUFFIXES and path.is_file()
        )
    )
    if not paths:
        kinds = ", ".join(TEXT_SUFFIXES)
        raise ValueError(f"{folder} holds no text files ({kinds}); choose another folder")
    return paths
