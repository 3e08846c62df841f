"""Learning a vocabulary from documents: count their pieces, then merge the commonest pairs.

The work is done by `native/train.cpp`, in slices, so that Ctrl-C and progress reports get a turn;
`reference.train` is the same in plain Python.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from modelwright import _native
from modelwright.tokenizer.splitting import split
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.vocabulary import END_OF_TEXT, N_BYTE_VALUES, Vocabulary

_N_BYTES_BETWEEN_REPORTS = 1 << 22
_N_MERGES_IN_A_SLICE = 64


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """How far the training of a tokenizer has come."""

    phase: Literal["counting", "merging"]
    n_bytes: int  # of UTF-8 read so far
    n_documents: int
    n_merges: int
    n_merges_wanted: int


def train_tokenizer(
    documents: Iterable[str | bytes],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
    on_progress: Callable[[TrainingProgress], None] | None = None,
) -> Tokenizer:
    """Learn a byte-level BPE vocabulary.

    Ids 0 to 255 are the byte values, then come the merges in the order they were learned, then the
    special tokens. The merge learned next is of the commonest pair; among equally common ones, of
    the pair whose byte strings are lexicographically greatest.

    Args:
        documents: read once, one after the other. What spells a special token in them is ordinary
            text, cut like any other: documents arrive already separated.
        vocab_size: number of tokens wanted, byte values and special tokens included. The vocabulary
            is smaller when the text runs out of pairs to merge.
        special_tokens: in the order of their ids.

    Raises:
        ValueError: if `vocab_size` is too small, a special token could not be told from ordinary
            text, or there is no text.
    """
    n_merges_wanted = vocab_size - N_BYTE_VALUES - len(special_tokens)
    if n_merges_wanted < 0:
        raise ValueError(
            f"tokenizer.vocab_size is {vocab_size}, but the {N_BYTE_VALUES} byte values and "
            f"{len(special_tokens)} special tokens need at least {vocab_size - n_merges_wanted}"
        )
    _check_special_tokens(special_tokens)
    counter, progress = _count(documents, n_merges_wanted, on_progress)
    merges = _learn_merges(counter, progress, on_progress)
    return Tokenizer(_assemble(merges, special_tokens))


def _check_special_tokens(special_tokens: Sequence[str]) -> None:
    for i, text in enumerate(special_tokens):
        if text in special_tokens[:i]:
            raise ValueError(f"special token {text!r} is listed twice; list it once")
        if not text:
            raise ValueError("a special token is the empty string; give it some text")
        if len(split(text)) == 1:
            raise ValueError(
                f"special token {text!r} is a single piece of text, which could be learned as an "
                f"ordinary token too; choose one of several pieces, such as {END_OF_TEXT!r}"
            )


def _count(
    documents: Iterable[str | bytes],
    n_merges_wanted: int,
    on_progress: Callable[[TrainingProgress], None] | None,
) -> tuple[_native.PieceCounter, TrainingProgress]:
    if isinstance(documents, str | bytes):
        raise ValueError("documents is a single text; put it in a list to train on one document")
    counter = _native.PieceCounter()
    n_bytes = n_documents = n_bytes_reported = 0

    def progress() -> TrainingProgress:
        return TrainingProgress(
            phase="counting",
            n_bytes=n_bytes,
            n_documents=n_documents,
            n_merges=0,
            n_merges_wanted=n_merges_wanted,
        )

    for document in documents:
        n_bytes += counter.count(document)
        n_documents += 1
        if on_progress and n_bytes - n_bytes_reported >= _N_BYTES_BETWEEN_REPORTS:
            n_bytes_reported = n_bytes
            on_progress(progress())
    if n_documents == 0:
        raise ValueError("there are no documents to train a tokenizer on")
    if n_bytes == 0:
        raise ValueError(f"there is no text to train a tokenizer on: {n_documents} empty documents")
    if on_progress:
        on_progress(progress())
    return counter, progress()


def _learn_merges(
    counter: _native.PieceCounter,
    progress: TrainingProgress,
    on_progress: Callable[[TrainingProgress], None] | None,
) -> list[tuple[int, int]]:
    learner = _native.MergeLearner(counter)
    merges: list[tuple[int, int]] = []
    while len(merges) < progress.n_merges_wanted:
        n_left = progress.n_merges_wanted - len(merges)
        if learner.learn(min(n_left, _N_MERGES_IN_A_SLICE)) == 0:
            break  # every piece is a single token
        merges += learner.merges_from(len(merges))
        if on_progress:
            on_progress(replace(progress, phase="merging", n_merges=len(merges)))
    return merges


def _assemble(merges: list[tuple[int, int]], special_tokens: Sequence[str]) -> Vocabulary:
    tokens = [bytes([value]) for value in range(N_BYTE_VALUES)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    first_special = len(tokens)
    tokens += [text.encode() for text in special_tokens]
    return Vocabulary(
        tokens=tuple(tokens),
        merges=tuple(merges),
        special_tokens={text: first_special + i for i, text in enumerate(special_tokens)},
    )
