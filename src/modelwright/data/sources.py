"""Where documents come from: files, folders and globs of them, the hub, standard input, stories.

What a recipe names becomes a list of `InputFile`; standard input and the built-in stories are first
written to a file, so that from there on there are only files. `reading` reads them.
"""

import glob
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from modelwright.data.config import (
    DataConfig,
    SourceConfig,
    is_on_hub,
    is_standard_input,
    is_stories,
)
from modelwright.data.hub import HubFile, hub_source, list_files
from modelwright.data.stories import stories
from modelwright.runtime.files import file_in_one_piece, sha256_of
from modelwright.runtime.progress import Listener, Progress
from modelwright.tokenizer.text_files import COMPRESSED_SUFFIXES, TEXT_SUFFIXES
from modelwright.tokenizer.vocabulary import END_OF_TEXT

FileKind = Literal["text", "jsonl", "parquet"]

kind_of_suffix: dict[str, FileKind] = {
    **dict.fromkeys(TEXT_SUFFIXES, "text"),
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
growth_by_suffix = {"": 1.0, ".gz": 3.0, ".zst": 3.0}  # about what text gains by compression
growth_of_parquet = 2.0
_n_bytes_between_reports = 1 << 20


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file of documents.

    Attributes:
        path: where it is, or, for one of the hub, where it will be when it has been fetched.
        n_bytes: its size on disk.
        stamp: what changes when the file does: its time in nanoseconds, or a hash.
        source: which of the sources it belongs to.
        hub: the file of the hub, if it is to be fetched from there.
    """

    path: Path
    kind: FileKind
    n_bytes: int
    stamp: str
    separator: bytes
    text_field: str
    source: int
    hub: HubFile | None = None

    @property
    def compression(self) -> str:
        """ ".gz", ".zst" or nothing; Parquet files are compressed inside."""
        return self.path.suffix if self.path.suffix in COMPRESSED_SUFFIXES else ""

    @property
    def text_bytes(self) -> int:
        """About how much text it holds."""
        growth = growth_of_parquet if self.kind == "parquet" else growth_by_suffix[self.compression]
        return int(self.n_bytes * growth)


def find_inputs(
    config: DataConfig,
    work: Path,
    on_progress: Listener,
    *,
    known_on_hub: Mapping[str, list[HubFile]] | None = None,
) -> list[InputFile]:
    """The files that a recipe's sources name, in the order in which they are read.

    Args:
        work: folder in which standard input and the stories are written down and where files of the
            hub are put.
        known_on_hub: what the hub listed for a source when the work began.

    Raises:
        FileNotFoundError: if there is nothing at a path.
        ValueError: if there is no text there.
    """
    inputs: list[InputFile] = []
    for index, source in enumerate(config.sources):
        found = _files_of(source, index, config, work, on_progress, known_on_hub or {})
        if not any(file.n_bytes for file in found):
            raise ValueError(f"{source.path} is empty; choose a text with something in it")
        inputs += [file for file in found if file.n_bytes]
    return inputs


def _files_of(
    source: SourceConfig,
    index: int,
    config: DataConfig,
    work: Path,
    on_progress: Listener,
    known_on_hub: Mapping[str, list[HubFile]],
) -> list[InputFile]:
    if is_on_hub(source.path):
        return _files_on_hub(source, index, config, work, known_on_hub.get(source.path))
    separator = config.separator if source.separator is None else source.separator
    text_field = source.text_field or config.text_field
    if is_stories(source.path):
        path = _write_stories(config, work / "spool", on_progress)
        return [local_file(path, separator=END_OF_TEXT, source=index, stamp="told")]
    if is_standard_input(source.path):
        path = _write_standard_input(source.path, work / "spool", on_progress)
        return [local_file(path, separator, text_field, source=index, stamp=sha256_of(path))]
    return [
        local_file(path, separator, text_field, source=index) for path in local_files(source.path)
    ]


def local_file(
    path: Path,
    separator: str,
    text_field: str = "text",
    *,
    source: int = 0,
    stamp: str | None = None,
) -> InputFile:
    """A file that is here."""
    status = path.stat()
    return InputFile(
        path=path,
        kind=file_kind(path),
        n_bytes=status.st_size,
        stamp=str(status.st_mtime_ns) if stamp is None else stamp,
        separator=separator.encode(),
        text_field=text_field,
        source=source,
    )


def local_files(name: str) -> list[Path]:
    """The files at a path: itself, those in a folder, or those that a glob matches; sorted.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if a folder holds no files that can be read.
    """
    path = Path(name)
    if path.is_dir():
        return _files_in(path)
    if path.exists():
        return [path.absolute()]
    matches = sorted(
        Path(match)
        for match in glob.iglob(name, recursive=True)  # noqa: PTH207 - a path may be absolute
    )
    files = [match.absolute() for match in matches if match.is_file()]
    if not files:
        raise FileNotFoundError(
            f"there is no text at {name}; data.source is a file, a folder of text files, a glob "
            "such as 'web/*.jsonl.gz', 'hub:NAME', '-' for standard input, or 'stories' for the "
            "built-in corpus"
        )
    return files


def file_kind(path: Path) -> FileKind:
    """What kind of file a name says it is; a name that says nothing is taken for text."""
    suffix = path.suffix
    if suffix in COMPRESSED_SUFFIXES:
        suffix = Path(path.stem).suffix
    return kind_of_suffix.get(suffix, "text")


def _files_in(folder: Path) -> list[Path]:
    endings = (*kind_of_suffix, *(k + c for k in kind_of_suffix for c in COMPRESSED_SUFFIXES))
    found = sorted(
        path.absolute()
        for path in folder.rglob("*")
        if path.name.endswith(endings) and path.is_file() and not _is_hidden(path, folder)
    )
    if not found:
        kinds = ", ".join(kind_of_suffix)
        raise ValueError(
            f"{folder} holds no text files ({kinds}, or these with .gz or .zst); choose another "
            "folder"
        )
    return found


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _files_on_hub(
    source: SourceConfig, index: int, config: DataConfig, work: Path, known: list[HubFile] | None
) -> list[InputFile]:
    dataset = hub_source(source.path.removeprefix("hub:"))
    folder = Path(config.downloads) if config.downloads else work / "downloads"
    separator = config.separator if source.separator is None else source.separator
    return [
        InputFile(
            path=(folder / file.repository / file.path).absolute(),
            kind=file_kind(Path(file.path)),
            n_bytes=file.n_bytes,
            stamp=f"{file.revision} {file.sha256}",
            separator=separator.encode(),
            text_field=source.text_field or dataset.text_field or config.text_field,
            source=index,
            hub=file,
        )
        for file in known or list_files(dataset)
    ]


def hub_listing(inputs: list[InputFile], config: DataConfig) -> dict[str, list[dict[str, Any]]]:
    """What the hub listed for each of its sources, as JSON, to be pinned while the work lasts."""
    listing: dict[str, list[dict[str, Any]]] = {}
    for file in inputs:
        if file.hub is not None:
            listing.setdefault(config.sources[file.source].path, []).append(asdict(file.hub))
    return listing


def told_stories(seed: int, n_bytes: int) -> Iterator[bytes]:
    """Stories of the built-in corpus until they hold `n_bytes`."""
    told = 0
    for story in stories(seed):
        if told >= n_bytes:
            return
        document = story.encode()
        told += len(document)
        yield document


def _write_stories(config: DataConfig, folder: Path, on_progress: Listener) -> Path:
    path = folder / f"stories-{config.stories_seed}-{config.stories_bytes}.txt"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    told = reported = 0
    with file_in_one_piece(path) as file:
        for document in told_stories(config.stories_seed, config.stories_bytes):
            file.write(document + f"\n{END_OF_TEXT}\n".encode())
            told += len(document)
            if told - reported >= _n_bytes_between_reports:
                reported = told
                _tell(on_progress, "telling stories", told, config.stories_bytes)
    _tell(on_progress, "telling stories", told, told)
    return path


def _write_standard_input(name: str, folder: Path, on_progress: Listener) -> Path:
    """Keep what is piped in, since it is read more than once."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"stdin{name.removeprefix('-') or '.txt'}"
    with file_in_one_piece(path) as file:
        _copy(sys.stdin.buffer, file, on_progress)
    return path


def _copy(source: BinaryIO, target: BinaryIO, on_progress: Listener) -> None:
    n_bytes = 0
    while piece := source.read(_n_bytes_between_reports):
        target.write(piece)
        n_bytes += len(piece)
        _tell(on_progress, "reading standard input", n_bytes, None)


def _tell(on_progress: Listener, phase: str, done: int, total: int | None) -> None:
    on_progress(Progress(phase=phase, done=done, total=total, unit="bytes"))
