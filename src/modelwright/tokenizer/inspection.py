"""What a tokenizer is worth: its tokens, how much it compresses, how fast, what a corpus costs.

Speed is measured here and now, on the sample of text that is given.
"""

import math
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelwright.tokenizer.splitting import native_pattern
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.vocabulary import N_BYTE_VALUES, Vocabulary

_N_LONGEST = 10
_N_TIMED_PASSES = 5
_N_CURVE_POINTS = 10
_NORMAL_95_PERCENT = 1.96  # standard errors to either side
_SECONDS_PER_HOUR = 3600
_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{end}": base**power
    for power, prefix in enumerate("KMGTP", start=1)
    for end, base in (("", 1000), ("B", 1000), ("IB", 1024))
}


@dataclass(frozen=True, kw_only=True)
class Compression:
    """How many bytes of text a token stands for."""

    n_documents: int
    n_bytes: int
    n_tokens: int
    mean_bytes_per_token: float
    """Each document counts once, whatever its length."""
    interval: tuple[float, float] | None
    """Holds the mean over all such documents with 95 %; None for a single document."""

    @property
    def bytes_per_token(self) -> float:
        """Of the whole sample."""
        return self.n_bytes / self.n_tokens


@dataclass(frozen=True, kw_only=True)
class CorpusCost:
    """What it takes to turn a corpus into ids."""

    n_bytes: int
    hours: float
    id_type: str
    bytes_on_disk: int


@dataclass(frozen=True, kw_only=True)
class SampleFacts:
    """What encoding a sample of text showed."""

    compression: Compression
    bytes_per_second: float
    corpus: CorpusCost | None
    bytes_per_token_by_size: Mapping[int, float]
    """Number of tokens, from the byte values alone to the whole vocabulary, to compression."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All there is to know about a tokenizer; `sample` only if there was text to encode."""

    n_tokens: int
    special_tokens: Mapping[str, int]
    pattern_name: str
    fingerprint: str
    longest_tokens: tuple[tuple[int, bytes], ...]
    n_tokens_by_length: Mapping[int, int]
    """Length in bytes to number of ordinary tokens."""
    sample: SampleFacts | None


def inspect_tokenizer(
    tokenizer: Tokenizer,
    documents: Sequence[bytes] = (),
    *,
    corpus_bytes: int | None = None,
    with_curve: bool = False,
) -> Inspection:
    """Look at a tokenizer, and at what it makes of a sample of documents.

    Args:
        corpus_bytes: size of the corpus whose cost is wanted.
        with_curve: also encode the sample with smaller vocabularies, which takes longer.

    Raises:
        ValueError: if there are documents but no text in them, or a corpus but no documents.
    """
    vocabulary = tokenizer.vocabulary
    ordinary = {token_id: token for token, token_id in vocabulary.ordinary_ids.items()}
    longest_first = sorted(ordinary.items(), key=lambda item: (-len(item[1]), item[0]))
    lengths = Counter(len(token) for token in ordinary.values())
    if corpus_bytes is not None and not documents:
        raise ValueError(
            "the cost of a corpus follows from encoding a sample of text; give some with --text"
        )
    return Inspection(
        n_tokens=tokenizer.n_vocab,
        special_tokens=tokenizer.special_tokens,
        pattern_name=pattern_name(vocabulary.pattern),
        fingerprint=tokenizer.fingerprint,
        longest_tokens=tuple(longest_first[:_N_LONGEST]),
        n_tokens_by_length=dict(sorted(lengths.items())),
        sample=_sample_facts(tokenizer, documents, corpus_bytes, with_curve) if documents else None,
    )


def pattern_name(pattern: str) -> str:
    """Say in a few words how text is cut."""
    known = native_pattern(pattern)
    if known is None:
        return f"its own: {pattern}"
    name, digits_apart = known
    return f"{name}, digits apart" if digits_apart else name


def measure_compression(tokenizer: Tokenizer, documents: Sequence[bytes]) -> Compression:
    """Encode documents and compare bytes with tokens.

    Raises:
        ValueError: if there is no text.
    """
    documents = [document for document in documents if document]
    if not documents:
        raise ValueError("there is no text to encode; give documents with something in them")
    _, offsets = tokenizer.encode_documents(documents, end_of_text=False)
    n_tokens = np.diff(offsets)
    n_bytes = np.array([len(document) for document in documents])
    ratios = n_bytes / n_tokens
    mean, interval = float(ratios.mean()), None
    if len(documents) > 1:
        error = _NORMAL_95_PERCENT * float(ratios.std(ddof=1)) / math.sqrt(len(documents))
        interval = (mean - error, mean + error)
    return Compression(
        n_documents=len(documents),
        n_bytes=int(n_bytes.sum()),
        n_tokens=int(n_tokens.sum()),
        mean_bytes_per_token=mean,
        interval=interval,
    )


def measure_speed(
    vocabulary: Vocabulary, documents: Sequence[bytes], *, n_passes: int = _N_TIMED_PASSES
) -> float:
    """Return bytes per second: the median of timed passes over a sample.

    Each pass starts with a tokenizer that has seen no text. One that had would find every piece of
    the sample in its cache, which no corpus offers. The larger the sample, the truer the speed.
    """
    n_bytes = sum(map(len, documents))
    seconds: list[float] = []
    for _ in range(n_passes):
        fresh = Tokenizer(vocabulary)
        start = time.perf_counter()
        fresh.encode_documents(documents, end_of_text=False)
        seconds.append(time.perf_counter() - start)
    return n_bytes / statistics.median(seconds)


def corpus_cost(
    n_bytes: int, *, bytes_per_second: float, bytes_per_token: float, id_dtype: np.dtype
) -> CorpusCost:
    """What a corpus takes at a speed and a compression."""
    return CorpusCost(
        n_bytes=n_bytes,
        hours=n_bytes / bytes_per_second / _SECONDS_PER_HOUR,
        id_type=id_dtype.name,
        bytes_on_disk=round(n_bytes / bytes_per_token) * id_dtype.itemsize,
    )


def first_merges(vocabulary: Vocabulary, n_merges: int) -> Vocabulary:
    """Return a vocabulary as it was after its first merges, without special tokens."""
    tokens = [bytes([value]) for value in range(N_BYTE_VALUES)]
    ids = {token: i for i, token in enumerate(tokens)}
    merges: list[tuple[int, int]] = []
    for left, right in vocabulary.merges[:n_merges]:
        halves = vocabulary.tokens[left], vocabulary.tokens[right]
        for token in (*halves, halves[0] + halves[1]):
            if token not in ids:
                ids[token] = len(tokens)
                tokens.append(token)
        merges.append((ids[halves[0]], ids[halves[1]]))
    return Vocabulary(tuple(tokens), tuple(merges), {}, vocabulary.pattern)


def compression_by_size(tokenizer: Tokenizer, documents: Sequence[bytes]) -> dict[int, float]:
    """Encode a sample with the first merges alone, for numbers of merges that double or so."""
    n_merges = len(tokenizer.vocabulary.merges)
    grid = np.unique(np.geomspace(1, n_merges + 1, _N_CURVE_POINTS).round().astype(int) - 1)
    curve: dict[int, float] = {}
    for count in grid.tolist():
        smaller = Tokenizer(first_merges(tokenizer.vocabulary, count))
        curve[smaller.n_vocab] = measure_compression(smaller, documents).bytes_per_token
    return curve


def sample_documents(documents: Iterable[bytes], n_documents: int, *, seed: int = 0) -> list[bytes]:
    """Draw documents of a corpus, each with the same chance, in the order they stand in it.

    Source: Vitter 1985, "Random Sampling with a Reservoir", algorithm R.

    Raises:
        ValueError: if less than one document is wanted.
    """
    if n_documents < 1:
        raise ValueError(f"the sample is to have {n_documents} documents; choose 1 or more")
    rng = random.Random(seed)
    drawn: list[tuple[int, bytes]] = []
    for place, document in enumerate(documents):
        if place < n_documents:
            drawn.append((place, document))
        elif (slot := rng.randrange(place + 1)) < n_documents:
            drawn[slot] = (place, document)
    return [document for _, document in sorted(drawn, key=lambda entry: entry[0])]


def parse_size(text: str) -> int:
    """Read a number of bytes such as "825 GB", "10GiB" or "1e12".

    Raises:
        ValueError: if it is not one.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:e\+?\d{1,2})?)\s*([a-z]*)\s*", text, re.IGNORECASE)
    unit = _UNITS.get(found[2].upper()) if found else None
    n_bytes = round(float(found[1]) * unit) if found and unit else 0
    if not n_bytes:
        raise ValueError(
            f"the size {text!r} is not a number of bytes; write it as 825GB, 10GiB or 1e12"
        )
    return n_bytes


def shown(token: bytes) -> str:
    """Write a token so that a person can read it; bytes that are no UTF-8 as \\xff."""
    text = token.decode("utf-8", errors="surrogateescape")
    return "".join(_shown_character(character) for character in text)


def _shown_character(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character == " ":
        return "␣"
    # repr knows which characters a terminal cannot show, and spells those with a backslash.
    return character if character in "'\"\\" else repr(character)[1:-1]


def _sample_facts(
    tokenizer: Tokenizer, documents: Sequence[bytes], corpus_bytes: int | None, with_curve: bool
) -> SampleFacts:
    compression = measure_compression(tokenizer, documents)
    bytes_per_second = measure_speed(tokenizer.vocabulary, documents)
    corpus = None
    if corpus_bytes is not None:
        corpus = corpus_cost(
            corpus_bytes,
            bytes_per_second=bytes_per_second,
            bytes_per_token=compression.bytes_per_token,
            id_dtype=tokenizer.id_dtype,
        )
    return SampleFacts(
        compression=compression,
        bytes_per_second=bytes_per_second,
        corpus=corpus,
        bytes_per_token_by_size=compression_by_size(tokenizer, documents) if with_curve else {},
    )
