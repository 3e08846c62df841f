"""A build in tasks: how the input is divided, and what is done with each part.

A task reads some spans of one source, chooses documents and writes their tokens to the folder
`parts`, as `000012.train` and `000012.validation` (both in the format of shards), and when these
are whole, what they hold as `000012.json`. So a build that died goes on with the tasks that have
none.
How the input is divided follows from the input alone.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelwright.data.fetching import fetch
from modelwright.data.reading import Document, Span, documents_in, open_parquet
from modelwright.data.selecting import Selection, choose, fitting, hashes_of
from modelwright.data.shards import SIDES, ShardWriter, Side
from modelwright.data.sources import InputFile
from modelwright.runtime.files import file_in_one_piece, sha256_of
from modelwright.runtime.workers import Report, ignore
from modelwright.tokenizer.tokenizer import Tokenizer

task_bytes = 4 << 20  # of text, about; a document that is longer makes a longer task


@dataclass(frozen=True)
class Task:
    """Spans of one source that are read together.

    Attributes:
        repetition: 0 for the first time in an epoch that they are read.
        first: the task that reads the same spans for the first time; itself, if it is that one.
    """

    index: int
    source: int
    repetition: int
    first: int
    spans: tuple[Span, ...]

    @property
    def n_bytes(self) -> int:
        """About how much of the files on disk it reads."""
        return sum(span.n_bytes for span in self.spans)


@dataclass(frozen=True)
class Job:
    """What all tasks of a build need to know."""

    work: Path
    inputs: tuple[InputFile, ...]
    selection: Selection
    keeps_downloads: bool
    fingerprint: str = ""  # of the tokenizer, once there is one


@dataclass
class Counts:
    """How much there is of one side."""

    n_documents: int = 0
    n_bytes: int = 0
    n_tokens: int = 0

    def __iadd__(self, other: "Counts") -> "Counts":
        self.n_documents += other.n_documents
        self.n_bytes += other.n_bytes
        self.n_tokens += other.n_tokens
        return self


@dataclass(frozen=True)
class Finished:
    """What a task has written.

    Nobody waits until it is on the disk, so after a power cut its hashes tell whether it is there.
    """

    sides: dict[Side, Counts]
    dropped: dict[str, int]
    hashes: dict[Side, str]  # sha256 of each part


def divide(inputs: Sequence[InputFile], weights: Sequence[float]) -> list[Task]:
    """Divide the input into tasks, in the order in which their tokens follow each other."""
    tasks: list[Task] = []
    for source, weight in enumerate(weights):
        portions = list(_portions(inputs, source))
        first = len(tasks)
        for repetition in range(math.ceil(weight)):
            tasks += [
                Task(len(tasks) + number, source, repetition, first + number, portion)
                for number, portion in enumerate(portions)
            ]
    return tasks


def _portions(inputs: Sequence[InputFile], source: int) -> Iterator[tuple[Span, ...]]:
    portion: list[Span] = []
    n_bytes = 0.0
    for index, file in enumerate(inputs):
        if file.source != source:
            continue
        growth = file.text_bytes / file.n_bytes
        for span in _spans(file, index):
            if portion and n_bytes + span.n_bytes * growth > task_bytes:
                yield tuple(portion)
                portion, n_bytes = [], 0.0
            portion.append(span)
            n_bytes += span.n_bytes * growth
    if portion:
        yield tuple(portion)


def _spans(file: InputFile, index: int) -> Iterator[Span]:
    if file.hub is not None or file.compression or (file.kind == "text" and not file.separator):
        yield Span(index, 0, None, file.n_bytes)
    elif file.kind == "parquet":
        yield from _spans_of_parquet(file, index)
    else:
        for begin in range(0, file.n_bytes, task_bytes):
            end = min(begin + task_bytes, file.n_bytes)
            yield Span(index, begin, end, end - begin)


def _spans_of_parquet(file: InputFile, index: int) -> Iterator[Span]:
    with open_parquet(file) as parquet:
        metadata = parquet.metadata
        column = parquet.schema_arrow.get_field_index(file.text_field)
        sizes = [
            metadata.row_group(group).column(column).total_compressed_size
            for group in range(metadata.num_row_groups)
        ]
    for group, n_bytes in enumerate(sizes):
        yield Span(index, group, group + 1, n_bytes)


def documents_of(job: Job, task: Task, report: Report = ignore) -> Iterator[list[Document]]:
    """The documents of a task, in batches; a file of the hub is fetched first.

    Args:
        report: is told how many bytes have been fetched since it was told last, and 0 after
            each batch, so that it has occasion to stop the task.
    """
    for span in task.spans:
        file = job.inputs[span.file]
        if file.hub is not None:
            fetch(file.hub, _download_folder(file), report)
        for documents in documents_in(file, span):
            yield documents
            report(0)


def _download_folder(file: InputFile) -> Path:
    """The folder in which the repository's own folders begin."""
    assert file.hub is not None
    return file.path.parents[len(Path(file.hub.path).parts) - 1]


def hash_task(job: Job, task: Task, report: Report) -> Task:
    """Write down the hash of every fitting document, from which duplicates are told."""
    parts = [np.empty((0, 2), "<u8")]
    for documents in documents_of(job, task, report):
        parts.append(hashes_of(fitting(documents, job.selection, Counter())))
    save_array(hashes_path(job.work, task), np.concatenate(parts))
    return task


def hashes_path(work: Path, task: Task) -> Path:
    """Where the hashes of a task's documents are."""
    return work / "hashes" / f"{task.first:06}.npy"


def firsts_path(work: Path, task: Task) -> Path:
    """Where it is written which of a task's documents are no duplicates."""
    return work / "hashes" / f"{task.first:06}.first.npy"


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array as .npy, whole or not at all."""
    with file_in_one_piece(path) as file:
        np.save(file, array, allow_pickle=False)


def first_of_duplicates(job: Job, task: Task) -> Iterator[np.bool_] | None:
    """For each fitting document of a task whether it is kept; None where all are."""
    if not job.selection.deduplicate:
        return None
    return iter(np.load(firsts_path(job.work, task), allow_pickle=False))


def tokenize_task(job: Job, task: Task, report: Report) -> Task:
    """Write the tokens of a task's documents, and then what they are."""
    tokenizer = _load_once(job.work / "tokenizer.json", job.fingerprint)
    writers: dict[Side, ShardWriter] = {}
    counts: dict[Side, Counts] = {side: Counts() for side in SIDES}
    dropped: Counter[str] = Counter()
    is_first = first_of_duplicates(job, task)
    try:
        for documents in documents_of(job, task, report):
            chosen = choose(
                documents,
                job.selection,
                source=task.source,
                repetition=task.repetition,
                is_first=is_first,
            )
            dropped += chosen.dropped
            for side, texts in chosen.sides.items():
                if not texts:
                    continue
                tokens, offsets = tokenizer.encode_documents(texts)
                if side not in writers:
                    path = part_path(job.work, task.index, side)
                    writers[side] = ShardWriter(
                        path, tokens.dtype, tokenizer.fingerprint, survives_power_cut=False
                    )
                writers[side].add(tokens, offsets[1:])
                counts[side] += Counts(len(texts), sum(map(len, texts)), len(tokens))
        hashes: dict[Side, str] = {}
        while writers:
            side, writer = writers.popitem()
            writer.finish()
            hashes[side] = sha256_of(part_path(job.work, task.index, side))
    finally:
        for writer in writers.values():
            writer.discard()
    finished = Finished(counts, dict(dropped), hashes)
    with file_in_one_piece(finished_path(job.work, task.index), survives_power_cut=False) as file:
        file.write(json.dumps(asdict(finished)).encode())
    _let_go(job, task)
    return task


@lru_cache(maxsize=1)
def _load_once(path: Path, fingerprint: str) -> Tokenizer:
    """The tokenizer of this build; another build may have one of its own at the same path."""
    tokenizer = Tokenizer.load(path)
    assert tokenizer.fingerprint == fingerprint
    return tokenizer


def _let_go(job: Job, task: Task) -> None:
    """Remove what was fetched for the task alone and is not read again."""
    weight = job.selection.weights[task.source]
    if job.keeps_downloads or task.repetition < math.ceil(weight) - 1:
        return
    for span in task.spans:
        if job.inputs[span.file].hub is not None:
            job.inputs[span.file].path.unlink(missing_ok=True)


def part_path(work: Path, task: int, side: Side) -> Path:
    """Where the tokens of one side of a task are."""
    return work / "parts" / f"{task:06}.{side}"


def finished_path(work: Path, task: int) -> Path:
    """What is there when a task has been done."""
    return work / "parts" / f"{task:06}.json"


def read_finished(work: Path, task: int) -> Finished | None:
    """What a task has written; None if it has not been done."""
    try:
        content = json.loads(finished_path(work, task).read_text())
        sides: dict[Side, Counts] = {s: Counts(**content["sides"][s]) for s in SIDES}
        return Finished(sides, content["dropped"], content["hashes"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # the latter after a power cut
        return None


def forget_damaged(work: Path, task: int, sides: Sequence[Side]) -> None:
    """Take a task for not done if what it wrote and is still needed is not as it was written.

    Args:
        sides: whose parts are still needed.
    """
    finished = read_finished(work, task)
    if finished is not None:
        needed: list[Side] = [side for side in sides if side in finished.hashes]
        paths = [part_path(work, task, side) for side in needed]
        if all(path.exists() for path in paths) and [sha256_of(path) for path in paths] == [
            finished.hashes[side] for side in needed
        ]:
            return
    finished_path(work, task).unlink(missing_ok=True)
