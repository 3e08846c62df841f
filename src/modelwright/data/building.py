"""From documents to a finished folder of token shards, in one piece or not at all.

    source ─ documents ─┬─ training ─── tokenizer training ─┐
                        └─ validation ──────────────────────┴─ tokens ─ shards ─ manifest

A document's own hash decides on which side it falls, so it stays there when others are added.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modelwright.config.schema import settings
from modelwright.data.shards import TokenSequence, open_shard, write_shard
from modelwright.data.sources import Source, open_source
from modelwright.runtime.files import folder_in_one_piece, require_writable
from modelwright.runtime.manifest import read_manifest, verify_files, write_manifest
from modelwright.runtime.progress import Listener, Progress, nobody
from modelwright.tokenizer.config import TokenizerConfig
from modelwright.tokenizer.tokenizer import END_OF_TEXT, Tokenizer
from modelwright.tokenizer.training import TrainingProgress, train_tokenizer

kind = "modelwright-data-1"
Split = Literal["train", "validation"]

batch_bytes = 4 << 20  # text that is tokenized at once, and so held in memory
fewest_for_hashing = 100  # with fewer documents, a share of them is too rough a cut


@settings
class DataConfig:
    """Which text a run learns from and where its tokens are kept."""

    folder: str = "data/stories"
    """Folder of token shards; built from `source` if it is not there."""
    source: str = "stories"
    """A text file, a folder of text files, or "stories" for the built-in corpus."""
    separator: str = END_OF_TEXT
    """The text that stands between two documents of a file; empty, and a file is one document."""
    stories_bytes: int = 10_000_000
    """How much of the built-in corpus to tell, in bytes."""
    stories_seed: int = 1
    """Which of the endless built-in corpora to tell."""
    validation_fraction: float = 0.02
    """Share of the documents that is kept out of training to measure the loss on."""
    shard_tokens: int = 100_000_000
    """Most tokens in one shard file; a document is never divided over two."""

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction <= 0.5:
            raise ValueError(
                f"data.validation_fraction is {self.validation_fraction}; choose a share above 0 "
                "and up to 0.5, such as 0.02"
            )
        for name in ("stories_bytes", "shard_tokens"):
            if getattr(self, name) < 1000:
                raise ValueError(f"data.{name} is {getattr(self, name)}; the least is 1000")
        if not self.folder:
            raise ValueError("data.folder is empty; name a folder, such as data/stories")


@dataclass(frozen=True)
class Data:
    """An opened folder of token shards with the tokenizer that made them."""

    folder: Path
    tokenizer: Tokenizer
    train: TokenSequence
    validation: TokenSequence
    facts: dict[str, Any]

    @property
    def validation_bytes_per_token(self) -> float:
        """Bytes of text for each validation token: turns nats per token into bits per byte."""
        counts = self.facts["splits"]["validation"]
        return counts["n_bytes"] / counts["n_tokens"]


def build_data(
    config: DataConfig, tokenizer_config: TokenizerConfig, on_progress: Listener = nobody
) -> Data:
    """Train or load the tokenizer, cut the text into tokens, write the folder, and open it.

    Raises:
        FileExistsError: if the folder is there already.
        ValueError, OSError: if the text or the tokenizer cannot be used; nothing is left behind.
    """
    folder = Path(config.folder)
    require_writable(folder)
    source = open_source(
        config.source,
        separator=config.separator,
        seed=config.stories_seed,
        n_bytes=config.stories_bytes,
    )
    split = choose_split(source, config.validation_fraction)
    with folder_in_one_piece(folder) as unfinished:
        training_texts = (text for text, side in split(source.documents()) if side == "train")
        tokenizer = _make_tokenizer(tokenizer_config, training_texts, source.n_bytes, on_progress)
        tokenizer.save(unfinished / "tokenizer.json")
        counts = _write_splits(unfinished, source, split, tokenizer, config, on_progress)
        facts = {
            "settings": settings_that_matter(config, tokenizer_config),
            "fingerprint": tokenizer.fingerprint,
            "n_vocab": tokenizer.n_vocab,
            "splits": counts,
        }
        write_manifest(unfinished, kind, facts)
    return open_data(folder)


def open_data(folder: Path) -> Data:
    """Open a finished folder of shards after comparing every byte with its manifest.

    Raises:
        FileNotFoundError: if there is no finished data in the folder.
        ValueError: if a file is missing or altered, or a shard is of another tokenizer.
    """
    manifest = read_manifest(folder, kind)
    verify_files(folder, manifest)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    sides: dict[str, TokenSequence] = {}
    for side in ("train", "validation"):
        shards = [open_shard(path) for path in sorted(folder.glob(f"{side}-*.shard"))]
        for shard in shards:
            if shard.fingerprint != tokenizer.fingerprint:
                raise ValueError(
                    f"{shard.path} was made by another tokenizer ({shard.fingerprint[:12]}) than "
                    f"{folder / 'tokenizer.json'} ({tokenizer.fingerprint[:12]}); build it anew"
                )
        sides[side] = TokenSequence(shards)
    return Data(folder, tokenizer, sides["train"], sides["validation"], manifest["facts"])


def require_same_settings(
    data: Data, config: DataConfig, tokenizer_config: TokenizerConfig
) -> None:
    """Refuse data that was built with other settings than the run's.

    Raises:
        ValueError: listing each setting with both values.
    """
    wanted = settings_that_matter(config, tokenizer_config)
    built = data.facts["settings"]
    differences = [
        f"{name} is {wanted.get(name)!r} here and {built.get(name)!r} there"
        for name in sorted(wanted.keys() | built.keys())
        if wanted.get(name) != built.get(name)
    ]
    if differences:
        raise ValueError(
            f"{data.folder} was built with other settings ({'; '.join(differences)}); choose "
            "another data.folder, or remove it to build it anew"
        )


def settings_that_matter(config: DataConfig, tokenizer_config: TokenizerConfig) -> dict[str, Any]:
    """The settings that decide what the tokens are, by dotted name."""
    values = {f"data.{name}": value for name, value in dataclasses.asdict(config).items()}
    values |= {
        f"tokenizer.{name}": value for name, value in dataclasses.asdict(tokenizer_config).items()
    }
    del values["data.folder"], values["tokenizer.file"]  # where things are is not what they are
    if tokenizer_config.file is not None:
        values["tokenizer"] = Tokenizer.load(Path(tokenizer_config.file)).fingerprint
    if config.source == "stories":
        del values["data.separator"]
    else:
        values["data.source"] = str(Path(config.source).resolve())
        del values["data.stories_bytes"], values["data.stories_seed"]
    return json.loads(json.dumps(values))


SidedDocuments = Iterator[tuple[bytes, Split]]


def choose_split(source: Source, fraction: float) -> Callable[[Iterable[bytes]], SidedDocuments]:
    """By document where there are many; where there are few, the end of each is for validation."""
    documents = source.documents()
    try:
        n_first = sum(1 for _, _ in zip(range(fewest_for_hashing), documents, strict=False))
    finally:
        documents.close()  # type: ignore[attr-defined]
    if n_first == 0:
        raise ValueError(f"there is no text in {source.name}; choose one with words in it")
    by = split_by_hash if n_first == fewest_for_hashing else split_off_tails
    return lambda documents: by(documents, fraction)


def split_by_hash(documents: Iterable[bytes], fraction: float) -> SidedDocuments:
    """Send a document to validation if its sha256, read as a number from 0 to 1, is small."""
    limit = int(fraction * 2**64)
    for document in documents:
        number = int.from_bytes(hashlib.sha256(document).digest()[:8], "big")
        yield document, "validation" if number < limit else "train"


def split_off_tails(documents: Iterable[bytes], fraction: float) -> SidedDocuments:
    """Cut each document in two at a white space, the shorter last part for validation."""
    for document in documents:
        wanted = len(document) - int(len(document) * fraction)
        cut = max(document.rfind(b"\n", 0, wanted), document.rfind(b" ", 0, wanted))
        # A text without white space is cut anyway, but never inside a UTF-8 character.
        cut = cut if cut > len(document) // 2 else wanted
        while 0 < cut < len(document) and document[cut] & 0xC0 == 0x80:
            cut -= 1
        if document[:cut].strip():
            yield document[:cut], "train"
        if document[cut:].strip():
            yield document[cut:], "validation"


def _make_tokenizer(
    config: TokenizerConfig, texts: Iterable[bytes], n_bytes: int, on_progress: Listener
) -> Tokenizer:
    if config.file is not None:
        tokenizer = Tokenizer.load(Path(config.file))
        if tokenizer.n_vocab != config.vocab_size:
            raise ValueError(
                f"tokenizer.vocab_size is {config.vocab_size}, but {config.file} has "
                f"{tokenizer.n_vocab} tokens; set tokenizer.vocab_size = {tokenizer.n_vocab}"
            )
        return tokenizer

    def tell(progress: TrainingProgress) -> None:
        on_progress(tokenizer_progress(progress, n_bytes))

    return train_tokenizer(
        texts,
        vocab_size=config.vocab_size,
        pattern=config.split_pattern,
        on_progress=tell,
    )


def tokenizer_progress(progress: TrainingProgress, n_bytes: float | None) -> Progress:
    """A tokenizer's progress in the terms that every listener knows."""
    if progress.phase == "counting":
        return Progress(
            phase="reading text",
            done=progress.n_bytes,
            total=n_bytes,
            unit="bytes",
            rate=progress.rate,
        )
    return Progress(
        phase="training the tokenizer",
        done=progress.n_merges,
        total=progress.n_merges_wanted,
        unit="merges",
        rate=progress.rate,
    )


def _write_splits(
    folder: Path,
    source: Source,
    split: Callable[[Iterable[bytes]], SidedDocuments],
    tokenizer: Tokenizer,
    config: DataConfig,
    on_progress: Listener,
) -> dict[str, dict[str, int]]:
    """Tokenize every document and write both sides; returns the counts for the manifest."""
    writers = {
        side: _SplitWriter(folder, side, tokenizer, config.shard_tokens)
        for side in ("train", "validation")
    }
    done = 0
    for document, side in split(source.documents()):
        writers[side].add(document)
        done += len(document)
        if writers[side].n_pending_bytes == 0:
            on_progress(
                Progress(
                    phase="cutting text into tokens", done=done, total=source.n_bytes, unit="bytes"
                )
            )
    counts = {side: writer.finish() for side, writer in writers.items()}
    on_progress(Progress(phase="cutting text into tokens", done=done, total=done, unit="bytes"))
    return counts


class _SplitWriter:
    """Collects the documents of one side and writes them out shard by shard."""

    def __init__(self, folder: Path, side: str, tokenizer: Tokenizer, shard_tokens: int) -> None:
        self.folder, self.side = folder, side
        self.tokenizer, self.shard_tokens = tokenizer, shard_tokens
        self.pending: list[bytes] = []
        self.n_pending_bytes = 0
        self.tokens: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []
        self.n_tokens = 0  # of the shard in hand
        self.counts = {"n_documents": 0, "n_bytes": 0, "n_tokens": 0, "n_shards": 0}

    def add(self, document: bytes) -> None:
        self.pending.append(document)
        self.n_pending_bytes += len(document)
        if self.n_pending_bytes >= batch_bytes:
            self._tokenize()

    def finish(self) -> dict[str, int]:
        self._tokenize()
        if self.n_tokens:
            self._write()
        return self.counts

    def _tokenize(self) -> None:
        if not self.pending:
            return
        tokens, offsets = self.tokenizer.encode_documents(self.pending)
        self.counts["n_documents"] += len(self.pending)
        self.counts["n_bytes"] += self.n_pending_bytes
        self.counts["n_tokens"] += len(tokens)
        self.pending, self.n_pending_bytes = [], 0
        first, n_documents = 0, len(offsets) - 1
        while first < n_documents:  # as many whole documents as the shard in hand still takes
            room = offsets[first] + self.shard_tokens - self.n_tokens
            last = int(np.searchsorted(offsets, room, side="right")) - 1
            if last <= first and self.n_tokens:
                self._write()
                continue
            last = max(last, first + 1)  # a document longer than a shard has one to itself
            self.tokens.append(tokens[offsets[first] : offsets[last]])
            self.lengths.append(np.diff(offsets[first : last + 1]))
            self.n_tokens += int(offsets[last] - offsets[first])
            first = last

    def _write(self) -> None:
        starts = np.concatenate([[0], np.cumsum(np.concatenate(self.lengths))]).astype(np.int64)
        path = self.folder / f"{self.side}-{self.counts['n_shards']:05}.shard"
        write_shard(path, np.concatenate(self.tokens), starts, self.tokenizer.fingerprint)
        self.counts["n_shards"] += 1
        self.tokens, self.lengths, self.n_tokens = [], [], 0
