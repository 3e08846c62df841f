"""Documents out of a file, or out of a part of one.

A document is bytes, exactly as they stand in the file, so that invalid UTF-8 and NUL bytes survive.
A large plain file is divided into spans of bytes that are read apart; where they are cut follows
from the file and the positions alone, so the documents are the same however many read them.
"""

import json
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelwright.data.config import DataConfig, is_stories
from modelwright.data.sources import InputFile, local_file, local_files, told_stories
from modelwright.tokenizer.text_files import chunks_of

if TYPE_CHECKING:
    import pyarrow.parquet

batch_bytes = 4 << 20  # text that is handed on at once, and so held in memory

Document = bytes | None
"""The text of a document; None where a field has no value."""


@dataclass(frozen=True)
class Span:
    """A part of a file.

    Attributes:
        file: its place in the list of inputs.
        begin, end: bytes of a plain file; row groups of a Parquet file; 0 and None for the whole of
            any file.
        n_bytes: about how much of the file on disk it is.
    """

    file: int
    begin: int
    end: int | None
    n_bytes: int


def documents_in(file: InputFile, span: Span) -> Iterator[list[Document]]:
    """The documents of a span, in batches of a few megabytes.

    Raises:
        ValueError: naming file and place, if it cannot be read as what it is.
    """
    if file.kind == "parquet":
        yield from _batches(_parquet_texts(file, span))
    elif file.compression or (file.kind == "text" and not file.separator):
        yield from _batches(_streamed(file))
    else:
        yield _plain(file, span)


def documents_at(name: str, separator: str, text_field: str = "text") -> Iterator[bytes]:
    """The documents of local files or of the built-in corpus, whose names are checked at once.

    Args:
        name: a file, a folder, a glob, or "stories".
    """
    if is_stories(name):
        defaults = DataConfig()
        return told_stories(defaults.stories_seed, defaults.stories_bytes)
    files = [
        local_file(path, separator=separator, text_field=text_field) for path in local_files(name)
    ]
    if not any(file.n_bytes for file in files):
        raise ValueError(f"{name} is empty; choose a text with something in it")
    return (
        document
        for file in files
        if file.n_bytes
        for batch in documents_in(file, Span(0, 0, None, file.n_bytes))
        for document in batch
        if document
    )


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    n_bytes = 0
    for document in documents:
        batch.append(document)
        n_bytes += len(document or b"") + 1
        if n_bytes >= batch_bytes:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _border(file: InputFile) -> bytes:
    """What divides a file into documents."""
    return b"\n" if file.kind == "jsonl" else file.separator


def _plain(file: InputFile, span: Span) -> list[Document]:
    border = _border(file)
    with file.path.open("rb") as raw:
        begin = cut_after(raw.fileno(), border, span.begin)
        end = cut_after(raw.fileno(), border, file.n_bytes if span.end is None else span.end)
        raw.seek(begin)
        data = raw.read(end - begin)
    if len(data) != end - begin:
        raise ValueError(f"{file.path} grew shorter while it was read; build the data again")
    is_last = end >= file.n_bytes
    if file.kind == "jsonl":
        lines = data.split(b"\n")
        return [
            _text_of_line(line, file, _Place(file.path, begin, number))
            for number, line in enumerate(lines)
            if line and not line.isspace()
        ]
    *whole, last = data.split(border)
    del data
    documents: list[Document] = [
        trimmed for document in whole if (trimmed := without_separator_line(document))
    ]
    last = without_separator_line(last, is_last=True)
    if is_last and last.strip():
        documents.append(last)
    return documents


def cut_after(descriptor: int, border: bytes, at: int) -> int:
    """The end of the first border that ends at or after a position, or of the file.

    A border that another one overlaps is passed over, since which of them counts would depend on
    where the reading began: with a blank line as the border, three line breaks in a row do that.
    """
    if at <= 0:
        return 0
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        if at >= len(content):
            return len(content)
        before = -len(border)
        place = content.find(border, max(0, at - 2 * len(border)))
        while place >= 0:
            if place + len(border) >= at and place - before >= len(border):
                return place + len(border)
            before, place = place, content.find(border, place + 1)
        return len(content)


def without_separator_line(document: bytes, *, is_last: bool = False) -> bytes:
    """Take off the line break after the previous separator and the one before the next."""
    if document[:1] == b"\n":
        document = document[1:]
    elif document[:2] == b"\r\n":
        document = document[2:]
    if not is_last and document[-1:] == b"\n":
        document = document[:-2] if document[-2:] == b"\r\n" else document[:-1]
    return document


def _streamed(file: InputFile) -> Iterator[Document]:
    """The documents of a file that can only be read from its start, or that is one document."""
    border = _border(file)
    if not border:
        whole = b"".join(chunks_of(file.path))
        if whole.strip():
            yield whole
        return
    number = -1
    for number, (part, is_last) in enumerate(parts_between(chunks_of(file.path), border)):
        if file.kind == "jsonl":
            if part and not part.isspace():
                yield _text_of_line(part, file, _Place(file.path, 0, number))
        elif (text := without_separator_line(part, is_last=is_last)) and (
            not is_last or text.strip()
        ):
            yield text


def parts_between(chunks: Iterable[bytes], border: bytes) -> Iterator[tuple[bytes, bool]]:
    """What stands between borders, each with whether it is the last; each byte is searched once."""
    held = bytearray()
    searched = 0
    for chunk in chunks:
        held += chunk
        begin = 0
        while (place := held.find(border, searched)) >= 0:
            yield bytes(held[begin:place]), False
            begin = searched = place + len(border)
        del held[:begin]
        searched = max(0, len(held) - len(border) + 1)
    yield bytes(held), True


@dataclass(frozen=True)
class _Place:
    """Where a line is: the `number`-th, from 0, after a byte of a file."""

    path: Path
    begin: int
    number: int

    def __str__(self) -> str:
        before = 0
        if self.begin:
            with self.path.open("rb") as file:
                before = file.read(self.begin).count(b"\n")
        return f"{self.path}, line {before + self.number + 1}"


def _text_of_line(line: bytes, file: InputFile, place: _Place) -> Document:
    """The text in a line of JSON."""
    try:
        row = json.loads(line)
    except UnicodeDecodeError:  # bytes that are no UTF-8 are kept as they are
        try:
            row = json.loads(line.decode("utf-8", "surrogateescape"))
        except ValueError as error:
            raise ValueError(f"{place} is not JSON ({error})") from None
    except ValueError as error:
        raise ValueError(f"{place} is not JSON ({error}); a line of JSON is wanted") from None
    except RecursionError:
        raise ValueError(f"{place} is JSON that is nested too deeply to be read") from None
    if not isinstance(row, dict) or file.text_field not in row:
        fields = ", ".join(map(str, row)) if isinstance(row, dict) else f"a {type(row).__name__}"
        raise ValueError(
            f"{place} has no field {file.text_field!r}; it has: {fields or 'nothing'}; set "
            "data.text_field to the one that holds the text"
        )
    text = row[file.text_field]
    if text is not None and not isinstance(text, str):
        raise ValueError(
            f"{place}: the field {file.text_field!r} holds {json.dumps(text)[:40]}, which is not "
            "text; set data.text_field to the one that holds the text"
        )
    return None if text is None else _bytes_of(text)


def _bytes_of(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass
    try:
        return text.encode("utf-8", "surrogateescape")  # bytes that were no UTF-8 come back
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")  # half of a pair, written as an escape


def _parquet_texts(file: InputFile, span: Span) -> Iterator[Document]:
    import pyarrow as pa

    with open_parquet(file) as parquet:
        end = parquet.num_row_groups if span.end is None else span.end
        try:
            for batch in parquet.iter_batches(
                batch_size=1024,
                row_groups=list(range(span.begin, end)),
                columns=[file.text_field],
                use_threads=False,
            ):
                yield from batch.column(0).cast(pa.large_binary()).to_pylist()
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{file.path}: the Parquet file is damaged ({error})") from None
        finally:
            pa.default_memory_pool().release_unused()  # it keeps what it has got otherwise


def open_parquet(file: InputFile) -> "pyarrow.parquet.ParquetFile":
    """Open a Parquet file after looking whether it has the text column.

    Raises:
        ValueError: if pyarrow is missing, or it is no Parquet file or has no such column of text.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError(
            f"reading {file.path} needs the package pyarrow: pip install 'modelwright[parquet]'"
        ) from None
    try:
        parquet = pq.ParquetFile(file.path, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file.path} cannot be read as a Parquet file ({error})") from None
    schema = parquet.schema_arrow
    names = {field.name: field.type for field in schema}
    kind: Any = names.get(file.text_field)
    is_text = kind is not None and any(
        test(kind)
        for test in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_binary,
            pa.types.is_large_binary,
        )
    )
    if not is_text:
        parquet.close()
        columns = ", ".join(f"{name} ({type_})" for name, type_ in names.items())
        raise ValueError(
            f"{file.path} has no column of text named {file.text_field!r}; it has: {columns}; set "
            "data.text_field to the one that holds the text"
        )
    return parquet
