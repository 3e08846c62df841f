"""Learning a vocabulary from text: count its pieces, then merge the commonest pairs.

The work is done by `native/count.cpp` and `native/train.cpp`, in slices, so that Ctrl-C and
progress reports get a turn; `reference.train` is the same in plain Python.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from modelwright import _native
from modelwright.tokenizer.splitting import (
    SPLIT_PATTERN,
    check_pattern,
    native_pattern,
    split_points,
)
from modelwright.tokenizer.text_files import (
    FilePart,
    chunks_of,
    documents_between,
    is_compressed,
    parts_of,
    text_files,
)
from modelwright.tokenizer.tokenizer import Tokenizer, native_specials
from modelwright.tokenizer.vocabulary import END_OF_TEXT, N_BYTE_VALUES, Vocabulary

TieRule = Literal["lexicographic", "smallest-ids", "huggingface"]
"""Which of equally common pairs is merged.

`lexicographic`: the greatest pair of byte strings, left before right, as in CS336.
`smallest-ids`: the smallest pair of ids, where the byte values come first, as in rustbpe.
`huggingface`: the same, with the byte values in the order of GPT-2's printable alphabet.
"""

_N_BYTES_BETWEEN_REPORTS = 1 << 22
_N_MERGES_IN_A_SLICE = 256
_MOST_PIECES_OF_A_THREAD = 1_000_000  # then they are added up, so that no piece is kept many times
_NO_LIMIT = 2**63 - 1

Listener = Callable[["TrainingProgress"], None]
Documents = Iterable[str | bytes]


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """How far the training of a tokenizer has come."""

    phase: Literal["counting", "merging"]
    seconds: float  # since the phase began
    n_bytes: int  # of UTF-8 read so far
    n_documents: int  # 0 while files are read, which are not divided into documents
    n_merges: int
    n_merges_wanted: int

    @property
    def rate(self) -> float:
        """Bytes, or merges, a second in this phase."""
        done = self.n_bytes if self.phase == "counting" else self.n_merges
        return done / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """Where the time and the memory of a training went."""

    n_bytes: int
    n_pieces: int  # distinct ones
    n_merges: int
    counting_seconds: float
    merging_seconds: float
    peak_memory_bytes: int  # of the whole process so far
    n_threads: int
    ties: str


def report_path(tokenizer_path: Path) -> Path:
    """Where the report of a training stands, beside the tokenizer."""
    return tokenizer_path.with_name(f"{tokenizer_path.stem}.training.json")


def report_json(report: TrainingReport) -> str:
    """Spell a report as JSON."""
    return json.dumps(asdict(report), indent=1) + "\n"


def read_report(path: Path) -> TrainingReport:
    """Read a report.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is not one.
    """
    try:
        return TrainingReport(**json.loads(path.read_bytes()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the report of a training ({error})") from None


def train_tokenizer(
    source: Documents | Path | Sequence[Path],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
    pattern: str = SPLIT_PATTERN,
    ties: TieRule = "lexicographic",
    min_frequency: int = 1,
    max_token_length: int | None = None,
    n_threads: int | None = None,
    max_pieces: int | None = None,
    on_progress: Listener | None = None,
) -> Tokenizer:
    """Learn a byte-level BPE vocabulary.

    Ids 0 to 255 are the byte values, then come the merges in the order they were learned, then the
    special tokens. The same text gives the same vocabulary whatever the number of threads.

    Memory grows with the distinct pieces (about 150 bytes each), not with the text. Files are read
    in parts on several threads; a pattern of the user's own and documents that come one by one take
    one thread.

    Args:
        source: documents, read once, one after the other; or text files, also in folders and
            compressed with gzip or Zstandard.
        vocab_size: number of tokens wanted, byte values and special tokens included. The vocabulary
            is smaller when the text runs out of pairs to merge.
        special_tokens: in the order of their ids. Where one stands in the text is a border: nothing
            is learned from it, and no merge reaches across it.
        pattern: the regular expression that cuts text into pieces; `splitting.PATTERNS` has those
            that are fast.
        ties: which of equally common pairs comes first; see `TieRule`.
        min_frequency: how often a pair has to occur to be merged.
        max_token_length: in bytes; None for no limit.
        n_threads: None for as many as there are processors.
        max_pieces: where memory is short: when there are more distinct pieces than this, the rarest
            are forgotten. That changes the result a little, and takes one thread. None keeps all.

    Returns:
        The tokenizer; its `training` says where the time went.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a setting makes no sense, a special token could not be told from ordinary
            text, or there is no text.
    """
    n_merges_wanted = vocab_size - N_BYTE_VALUES - len(special_tokens)
    if n_merges_wanted < 0:
        raise ValueError(
            f"tokenizer.vocab_size is {vocab_size}, but the {N_BYTE_VALUES} byte values and "
            f"{len(special_tokens)} special tokens need at least {vocab_size - n_merges_wanted}"
        )
    _check_special_tokens(special_tokens)
    _check_options(ties, min_frequency, max_token_length, n_threads, max_pieces)
    check_pattern(pattern)
    counting = _Counting(pattern, special_tokens, max_pieces, n_merges_wanted, on_progress)
    if max_pieces is not None or native_pattern(pattern) is None:
        n_threads = 1
    n_threads = n_threads or len(os.sched_getaffinity(0))
    files = _files_in(source)
    if files is not None:
        counting.read_files(text_files(files), n_threads)
    else:
        counting.read_documents(cast(Documents, source))
    counted = counting.finish()
    n_pieces = counting.counter.n_distinct
    learner = _native.MergeLearner(
        counting.counter, ties, min_frequency, max_token_length or _NO_LIMIT
    )
    merges, merging_seconds = _learn_merges(learner, counted, on_progress)
    tokenizer = Tokenizer(_assemble(merges, special_tokens, pattern))
    tokenizer.training = TrainingReport(
        n_bytes=counted.n_bytes,
        n_pieces=n_pieces,
        n_merges=len(merges),
        counting_seconds=counted.seconds,
        merging_seconds=merging_seconds,
        peak_memory_bytes=_peak_memory_bytes(),
        n_threads=n_threads,
        ties=ties,
    )
    return tokenizer


def _files_in(source: Documents | Path | Sequence[Path]) -> Sequence[Path] | None:
    """The files that are meant; None if `source` is documents."""
    if isinstance(source, Path):
        return [source]
    if isinstance(source, list | tuple) and source and isinstance(source[0], Path):
        return cast(Sequence[Path], source)
    return None


def _check_special_tokens(special_tokens: Sequence[str]) -> None:
    for i, text in enumerate(special_tokens):
        if text in special_tokens[:i]:
            raise ValueError(f"special token {text!r} is listed twice; list it once")
        if not text:
            raise ValueError("a special token is the empty string; give it some text")
        if len(text.encode()) == 1:
            raise ValueError(
                f"special token {text!r} is a single byte, which is an ordinary token already; "
                f"choose a longer one, such as {END_OF_TEXT!r}"
            )


def _check_options(
    ties: str,
    min_frequency: int,
    max_token_length: int | None,
    n_threads: int | None,
    max_pieces: int | None,
) -> None:
    if ties not in get_args(TieRule):
        raise ValueError(f"ties is {ties!r}; choose one of {', '.join(get_args(TieRule))}")
    for name, value, least in (
        ("min_frequency", min_frequency, 0),
        ("max_token_length", max_token_length, 1),
        ("n_threads", n_threads, 1),
        ("max_pieces", max_pieces, 1000),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}; the least is {least}")


class _Counting:
    """Pieces of text counted so far, and what is told about it."""

    def __init__(
        self,
        pattern: str,
        special_tokens: Sequence[str],
        max_pieces: int | None,
        n_merges_wanted: int,
        on_progress: Listener | None,
    ) -> None:
        self.pattern = pattern
        self.known_pattern = native_pattern(pattern)
        # Pieces of an own pattern come cut; the counter's rule is not asked then.
        self.counter = _native.PieceCounter(*(self.known_pattern or ("none", False)))
        self.borders = sorted((text.encode() for text in special_tokens), key=len, reverse=True)
        self.specials = native_specials(dict.fromkeys(special_tokens, 0))
        self.max_pieces = max_pieces
        self.least_count = 1
        self.n_merges_wanted = n_merges_wanted
        self.on_progress = on_progress
        self.start = time.perf_counter()
        self.n_bytes = self.n_documents = self.n_bytes_reported = 0

    def read_documents(self, documents: Documents) -> None:
        if isinstance(documents, str | bytes):
            raise ValueError("source is a single text; put it in a list to train on one document")
        for document in documents:
            self.n_documents += 1
            self._add(self._count(document))
        if self.n_documents == 0:
            raise ValueError("there are no documents to train a tokenizer on")

    def read_files(self, paths: Sequence[Path], n_threads: int) -> None:
        known = self.known_pattern
        plain = [path for path in paths if known is not None and not is_compressed(path)]
        if known is not None and plain:
            self._read_parts(
                (part for path in plain for part in parts_of(path, known, self.specials)), n_threads
            )
        for path in paths:
            if path not in plain:
                self._read_chunks(path)

    def finish(self) -> TrainingProgress:
        """Tell that counting is done.

        Raises:
            ValueError: if there was nothing to count.
        """
        if self.n_bytes == 0:
            what = f"{self.n_documents} empty documents" if self.n_documents else "empty files"
            raise ValueError(f"there is no text to train a tokenizer on: {what}")
        if self.on_progress:
            self.on_progress(self._progress())
        return self._progress()

    def _count(self, document: str | bytes) -> int:
        if self.known_pattern is not None:
            return self.counter.count(document, self.specials)
        data = document.encode() if isinstance(document, str) else document
        for part in documents_between([data], self.borders):
            if part:
                self.counter.count_pieces(part, split_points(part, self.pattern))
        return len(data)

    def _read_chunks(self, path: Path) -> None:
        if self.known_pattern is None:
            for document in documents_between(chunks_of(path), self.borders):
                self._add(self._count(document))
            return
        stream = _native.CountingStream(self.counter, self.specials)
        for chunk in chunks_of(path):
            stream.feed(chunk)
            self._add(len(chunk))
        stream.finish()

    def _read_parts(self, parts: Iterator[FilePart], n_threads: int) -> None:
        if n_threads == 1:
            for part in parts:
                self._add(_count_part(self.counter, part, self.specials))
            return
        assert self.known_pattern is not None
        idle = [_native.PieceCounter(*self.known_pattern) for _ in range(n_threads)]
        counters = list(idle)
        working: dict[Future[int], _native.PieceCounter] = {}
        with ThreadPoolExecutor(n_threads) as pool:
            for part in parts:
                if not idle:
                    self._collect(working, idle)
                counter = idle.pop()
                working[pool.submit(_count_part, counter, part, self.specials)] = counter
            while working:
                self._collect(working, idle)
        for counter in counters:
            self._absorb(counter)

    def _collect(
        self, working: dict[Future[int], _native.PieceCounter], idle: list[_native.PieceCounter]
    ) -> None:
        for future in wait(working, return_when=FIRST_COMPLETED).done:
            counter = working.pop(future)
            if counter.n_distinct > _MOST_PIECES_OF_A_THREAD:
                self._absorb(counter)
            idle.append(counter)
            self._add(future.result())

    def _absorb(self, counter: _native.PieceCounter) -> None:
        self.counter.absorb(counter)
        counter.clear()

    def _add(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        if self.max_pieces is not None:
            while self.counter.n_distinct > self.max_pieces:
                self.least_count += 1
                self.counter.prune(self.least_count)
        if self.on_progress and self.n_bytes - self.n_bytes_reported >= _N_BYTES_BETWEEN_REPORTS:
            self.n_bytes_reported = self.n_bytes
            self.on_progress(self._progress())

    def _progress(self) -> TrainingProgress:
        return TrainingProgress(
            phase="counting",
            seconds=time.perf_counter() - self.start,
            n_bytes=self.n_bytes,
            n_documents=self.n_documents,
            n_merges=0,
            n_merges_wanted=self.n_merges_wanted,
        )


def _count_part(
    counter: _native.PieceCounter, part: FilePart, specials: _native.SpecialTokens
) -> int:
    with part.path.open("rb") as file:
        return counter.count_range(file.fileno(), part.begin, part.end, specials)


def _learn_merges(
    learner: _native.MergeLearner, counted: TrainingProgress, on_progress: Listener | None
) -> tuple[list[tuple[int, int]], float]:
    start = time.perf_counter()
    merges: list[tuple[int, int]] = []
    while len(merges) < counted.n_merges_wanted:
        n_left = counted.n_merges_wanted - len(merges)
        if learner.learn(min(n_left, _N_MERGES_IN_A_SLICE)) == 0:
            break  # no pair is left that may be merged
        merges += learner.merges_from(len(merges))
        if on_progress:
            seconds = time.perf_counter() - start
            on_progress(replace(counted, phase="merging", seconds=seconds, n_merges=len(merges)))
    return merges, time.perf_counter() - start


def _assemble(
    merges: list[tuple[int, int]], special_tokens: Sequence[str], pattern: str
) -> Vocabulary:
    tokens = [bytes([value]) for value in range(N_BYTE_VALUES)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    first_special = len(tokens)
    tokens += [text.encode() for text in special_tokens]
    return Vocabulary(
        tokens=tuple(tokens),
        merges=tuple(merges),
        special_tokens={text: first_special + i for i, text in enumerate(special_tokens)},
        pattern=pattern,
    )


def _peak_memory_bytes() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
