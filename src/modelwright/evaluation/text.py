"""How surprised a model is by any text, above all in bits per byte.

Documents stand alone: each begins as after the end of another one, and none sees its neighbour. One
that is longer than the context is read in windows that overlap, and each of its tokens is scored
once, where it has the most before it. Tokens of another tokenizer are longer or shorter, but the
bytes are the same, so bits per byte can be compared where perplexities cannot.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelwright.data.folder import open_data
from modelwright.data.reading import documents_at
from modelwright.data.shards import folder_kind
from modelwright.data.sources import local_files
from modelwright.evaluation.encoding import Scored
from modelwright.evaluation.perplexity import Surprise
from modelwright.evaluation.results import finite, power
from modelwright.evaluation.scoring import Scorer
from modelwright.runtime.files import sha256_of
from modelwright.runtime.manifest import file_name
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.vocabulary import END_OF_TEXT

portion_tokens = 1 << 18  # that are read and scored at once


@dataclass(frozen=True)
class TextScore:
    """The surprise of some text, as sums over its windows, so that parts can be added.

    Attributes:
        nats: of all tokens together.
        n_bytes: of the text as it stands in the file, without what divides documents.
        squares: of nats, of nats times bytes, and of bytes, for the uncertainty.
    """

    nats: float = 0.0
    n_tokens: int = 0
    n_bytes: int = 0
    n_documents: int = 0
    n_windows: int = 0
    squares: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __add__(self, other: "TextScore") -> "TextScore":
        (nats, both, n_bytes), theirs = self.squares, other.squares
        return TextScore(
            self.nats + other.nats,
            self.n_tokens + other.n_tokens,
            self.n_bytes + other.n_bytes,
            self.n_documents + other.n_documents,
            self.n_windows + other.n_windows,
            (nats + theirs[0], both + theirs[1], n_bytes + theirs[2]),
        )

    @property
    def surprise(self) -> Surprise:
        """The same as a mean over tokens."""
        return Surprise(self.nats / self.n_tokens, self.n_tokens)

    @property
    def perplexity(self) -> float:
        """Of a token; comparable only between models with the same tokenizer."""
        return power(self.surprise.loss)

    @property
    def bits_per_byte(self) -> float:
        """What the text costs to send with the model's help; comparable between any two models."""
        return self.surprise.bits_per_byte(self.n_bytes / self.n_tokens)

    @property
    def stderr(self) -> float | None:
        """Of the bits per byte, as if windows were drawn by chance; None for a single one.

        Source: Cochran 1977, "Sampling Techniques", equation 6.9 without the finite population.
        """
        if self.n_windows < 2:
            return None
        ratio = self.nats / self.n_bytes
        of_nats, of_both, of_bytes = self.squares
        spread = max(0.0, of_nats - 2 * ratio * of_both + ratio**2 * of_bytes)
        variance = self.n_windows / (self.n_windows - 1) * spread
        return math.sqrt(variance) / self.n_bytes / math.log(2)

    def facts(self) -> dict[str, Any]:
        """All of it for a JSON file."""
        return {
            "bits_per_byte": self.bits_per_byte,
            "bits_per_byte_stderr": self.stderr,
            "perplexity_per_token": finite(self.perplexity),
            **asdict(self),
        }


Ids = npt.NDArray[np.integer]


def is_shards(path: Path) -> bool:
    """Whether a folder holds token shards rather than text."""
    return (path / file_name).is_file() and folder_kind in (path / file_name).read_text()


def text_sha256(path: Path) -> str:
    """The sha256 of a text file; for a folder, of all it is made of."""
    if is_shards(path):
        return sha256_of(path / file_name)
    files = local_files(str(path))
    if len(files) == 1:
        return sha256_of(files[0])
    import hashlib

    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()


def documents_of(path: Path, tokenizer: Tokenizer) -> Iterator[Ids]:
    """The tokens of each document of a text file, of a folder of them, or of validation shards.

    Raises:
        FileNotFoundError: if there is nothing there.
        ValueError: if shards are made by another tokenizer than the model's, or there is no text.
    """
    if is_shards(path):
        return _shard_documents(path, tokenizer)
    return (tokenizer.encode(document) for document in documents_at(str(path), END_OF_TEXT))


def _shard_documents(path: Path, tokenizer: Tokenizer) -> Iterator[Ids]:
    data = open_data(path)
    if data.tokenizer.fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"{path} is made with the tokenizer {data.tokenizer.fingerprint[:16]}, but the model "
            f"was trained with {tokenizer.fingerprint[:16]}; give the text itself instead"
        )
    starts = data.validation.document_starts
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        tokens = data.validation.read(begin, end)
        yield tokens[:-1] if len(tokens) and tokens[-1] == tokenizer.end_of_text else tokens


@dataclass(frozen=True)
class Window:
    """A part of a document, of which the last tokens are scored."""

    text: Scored
    n_bytes: int  # of what is scored
    begins_document: bool


def windows(tokens: Ids, tokenizer: Tokenizer, *, context: int, stride: int) -> Iterator[Window]:
    """A document in windows that score each token once.

    Args:
        stride: how many tokens a window scores after the first one, which scores all it has.

    Raises:
        ValueError: if the stride is none that a window can make.
    """
    if not 1 <= stride <= context:
        raise ValueError(
            f"--stride is {stride}, but it has to be from 1 to the model's context, {context}"
        )
    ids = np.concatenate([np.array([tokenizer.end_of_text], tokens.dtype), tokens])
    done = 0
    while done < len(tokens):
        end = min(done + (stride if done else context), len(tokens))
        seen = tuple(ids[max(0, end - context) : end + 1].tolist())
        n_bytes = len(tokenizer.decode_bytes(tokens[done:end]))
        yield Window(Scored(seen, end - done), n_bytes, begins_document=not done)
        done = end


def portions_of(found: Iterable[Window]) -> Iterator[list[Window]]:
    """As many windows at a time as are worth some batches."""
    portion: list[Window] = []
    n_tokens = 0
    for window in found:
        portion.append(window)
        n_tokens += len(window.text.ids)
        if n_tokens >= portion_tokens:
            yield portion
            portion, n_tokens = [], 0
    if portion:
        yield portion


def score_windows(scorer: Scorer, portion: Sequence[Window]) -> TextScore:
    """The surprise of the scored tokens of windows."""
    nats = np.zeros(len(portion))
    for found in scorer.outcomes([(window.text,) for window in portion]):
        for place, outcome in found.items():
            nats[place] = -outcome.logprobs[0]
    n_bytes = np.array([window.n_bytes for window in portion], float)
    return TextScore(
        nats=float(nats.sum()),
        n_tokens=sum(window.text.n_scored for window in portion),
        n_bytes=int(n_bytes.sum()),
        n_documents=sum(window.begins_document for window in portion),
        n_windows=len(portion),
        squares=(float(nats @ nats), float(nats @ n_bytes), float(n_bytes @ n_bytes)),
    )


def default_stride(context: int) -> int:
    """Half a context: each token but a document's first ones sees at least the other half."""
    return math.ceil(context / 2)
