"""The tokenizer that other rooms hold: text to ids and back, a file, and a fingerprint.

The work is done by `native/encode.cpp`; `reference.encode` is the same in plain Python.
"""

import codecs
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from modelwright import _native
from modelwright.runtime.files import write_atomically
from modelwright.tokenizer.formats import parse_tokenizer_json, tokenizer_json
from modelwright.tokenizer.splitting import native_pattern, split_points
from modelwright.tokenizer.text_files import chunks_of, documents_between, is_compressed, parts_of
from modelwright.tokenizer.vocabulary import END_OF_TEXT, Vocabulary

if TYPE_CHECKING:
    from modelwright.tokenizer.training import TrainingReport

Ids = npt.NDArray[np.uint16 | np.uint32]
Specials = Collection[str] | Literal["all"]


def native_specials(special_tokens: Mapping[str, int]) -> _native.SpecialTokens:
    """Prepare special tokens, by text, for being looked for."""
    return _native.SpecialTokens(
        [text.encode() for text in special_tokens], list(special_tokens.values())
    )


class Tokenizer:
    """Byte-level BPE with a given vocabulary. Every text has ids, and they decode to that text.

    May be used from several threads at once. It remembers the ids of pieces it has met, in up to
    about 48 MB for each thread that encodes.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.training: TrainingReport | None = None
        """Where time and memory went, if this tokenizer was trained and not loaded."""
        self._known_pattern = native_pattern(vocabulary.pattern)
        # Pieces of an own pattern come cut; the codec's rule is not asked then.
        self._codec = _native.Codec(
            vocabulary.tokens,
            vocabulary.byte_ids,
            vocabulary.merge_rules,
            *(self._known_pattern or ("none", False)),
        )
        self._encode = self._codec.encode if self._known_pattern else self._encode_own_pattern
        self._n_bytes_of_token = np.array([len(token) for token in vocabulary.tokens], np.int64)

    @property
    def n_vocab(self) -> int:
        """The number of tokens, special ones included."""
        return len(self.vocabulary.tokens)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The id of each special token, in the order of the ids."""
        return self.vocabulary.special_tokens

    @property
    def end_of_text(self) -> int:
        """The id that ends a document.

        Raises:
            ValueError: if the vocabulary has no such token.
        """
        if END_OF_TEXT not in self.special_tokens:
            raise ValueError(
                f"this vocabulary has no {END_OF_TEXT} token to end documents with; its special "
                f"tokens are: {', '.join(self.special_tokens) or 'none'}"
            )
        return self.special_tokens[END_OF_TEXT]

    @property
    def fingerprint(self) -> str:
        """A sha256 in hexadecimal; two tokenizers that share it give the same ids to every text."""
        return self.vocabulary.fingerprint

    @property
    def id_dtype(self) -> np.dtype:
        """The type of encoded ids: uint16 where every id fits, else uint32."""
        n_ids_in_16_bits = np.iinfo(np.uint16).max + 1
        return np.dtype(np.uint16 if self.n_vocab <= n_ids_in_16_bits else np.uint32)

    def encode(
        self,
        text: str | bytes,
        *,
        allowed_special: Specials = (),
        disallowed_special: Specials = (),
    ) -> Ids:
        """Turn text into ids.

        Args:
            text: bytes may be anything, UTF-8 or not; a str may not hold lone surrogates.
            allowed_special: special tokens whose text stands for them, or "all". Where it is not
                listed here, a literal "<|endoftext|>" is ordinary text, so that a document cannot
                end itself.
            disallowed_special: special tokens whose text must not occur, or "all" for those that
                are not allowed. tiktoken's default is "all".

        Raises:
            ValueError: if a token listed is not in the vocabulary, a disallowed one occurs, or a
                str has no UTF-8 form.
        """
        if not allowed_special and not disallowed_special:
            return self._encode(text)
        allowed = self._specials_named(allowed_special, "allowed_special")
        self._refuse(text, self._specials_named(disallowed_special, "disallowed_special"), allowed)
        if not allowed:
            return self._encode(text)
        specials = native_specials(allowed)
        if self._known_pattern is not None:
            return self._codec.encode_with_specials(text, specials)
        return self._encode_own_pattern_with_specials(text, allowed)

    def encode_documents(
        self, documents: Sequence[str | bytes], *, end_of_text: bool = True, n_threads: int = 1
    ) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Encode many documents into one array.

        Args:
            end_of_text: whether the end-of-text id follows each document.
            n_threads: how many share the work; the ids do not depend on it.

        Returns:
            The ids, end to end, and the offsets [n_documents + 1]: document i is
            `ids[offsets[i] : offsets[i + 1]]`, its end-of-text id included.
        """
        if isinstance(documents, str | bytes):
            raise ValueError("documents is a single text; put it in a list, or use encode")
        if n_threads < 1:
            raise ValueError(f"n_threads is {n_threads}; the least is 1")
        end = self.end_of_text if end_of_text else None
        if self._known_pattern is not None:
            return self._codec.encode_documents(documents, end, n_threads)
        ending = np.array([] if end is None else [end], dtype=self.id_dtype)
        parts = [np.concatenate([self._encode(document), ending]) for document in documents]
        offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return np.concatenate([np.array([], dtype=self.id_dtype), *parts]), offsets

    def encode_batch(self, texts: Sequence[str | bytes], *, n_threads: int = 1) -> list[Ids]:
        """Encode many texts, each into an array of its own; all of them share one memory."""
        ids, offsets = self.encode_documents(texts, end_of_text=False, n_threads=n_threads)
        return [ids[start:end] for start, end in pairwise(offsets.tolist())]

    def encode_with_offsets(self, text: str | bytes) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Encode a text and say which part of it each token is.

        Returns:
            The ids, and [n_ids, 2]: start and end of each token, in characters for a str and in
            bytes for bytes. A token that is only part of a character spans the whole of it.
        """
        ids = self.encode(text)
        ends = np.cumsum(self._n_bytes_of_token[ids])
        starts = ends - self._n_bytes_of_token[ids]
        if isinstance(text, str) and not text.isascii():
            data = np.frombuffer(text.encode(), dtype=np.uint8)
            # How many characters have started by the end of each byte.
            n_started = np.cumsum((data & 0xC0) != 0x80)
            starts, ends = n_started[starts] - 1, n_started[ends - 1]
        return ids, np.stack([starts, ends], axis=1)

    def encode_chunks(
        self, chunks: Iterable[str | bytes], *, allowed_special: Specials = ()
    ) -> Iterator[Ids]:
        """Encode a text that comes in chunks, wherever these are cut; even inside a character.

        The ids are those of the whole text. Memory stays near the size of a chunk.

        Raises:
            ValueError: if the tokenizer cuts text with a pattern of the user's own: with such a one
                the end of a text can change how its start is cut.
        """
        if self._known_pattern is None:
            raise ValueError(
                "this tokenizer cuts text with a pattern of your own, which needs whole texts; "
                "join the chunks and use encode"
            )
        allowed = self._specials_named(allowed_special, "allowed_special")
        stream = _native.EncodingStream(self._codec, native_specials(allowed))
        for chunk in chunks:
            if (ids := stream.feed(chunk)).size:
                yield ids
        if (ids := stream.finish()).size:
            yield ids

    def encode_file(
        self, path: Path, *, allowed_special: Specials = (), n_threads: int = 1
    ) -> Iterator[Ids]:
        """Encode a text file, plain or compressed (.gz, .zst), part by part and in order.

        The ids are those of the whole text. Memory holds a few megabytes for each thread.
        """
        allowed = self._specials_named(allowed_special, "allowed_special")
        if self._known_pattern is None:
            yield from self._encode_file_with_own_pattern(path, allowed)
        elif is_compressed(path):
            yield from self.encode_chunks(chunks_of(path), allowed_special=list(allowed))
        else:
            yield from self._encode_plain_file(path, native_specials(allowed), n_threads)

    def decode(
        self, ids: Sequence[int] | npt.NDArray[np.integer], *, errors: str = "replace"
    ) -> str:
        """Turn ids into text; `errors` says what to do with bytes that are not UTF-8."""
        return self.decode_bytes(ids).decode("utf-8", errors=errors)

    def decode_bytes(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> bytes:
        """Turn ids into the bytes they stand for.

        Raises:
            ValueError: naming the first id that the vocabulary does not have, and its position.
        """
        array = np.asarray(ids)
        if array.ndim != 1:
            raise ValueError(f"ids have the shape {array.shape}; decode one sequence at a time")
        if array.size == 0:
            return b""
        if array.dtype.kind not in "iu":
            raise ValueError(
                f"ids have the type {array.dtype}; they have to be whole numbers of up to 64 bits"
            )
        if array.itemsize == 1 or not array.dtype.isnative:
            array = array.astype(np.int64)
        return self._codec.decode(np.ascontiguousarray(array))

    def decode_batch(
        self, batch: Iterable[Sequence[int] | npt.NDArray[np.integer]], *, errors: str = "replace"
    ) -> list[str]:
        """Turn many sequences of ids into text."""
        return [self.decode(ids, errors=errors) for ids in batch]

    def streaming_decoder(self) -> "StreamingDecoder":
        """Return a decoder that takes one id at a time, as a model writes them."""
        return StreamingDecoder(self)

    def save(self, path: Path) -> None:
        """Write a tokenizer.json, in the format of Hugging Face's tokenizers library."""
        content = tokenizer_json(self.vocabulary)
        write_atomically(path, content)
        remembered = copy(self)
        remembered.training = None  # the file does not tell of it
        _remember(content, remembered)

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """Read a tokenizer.json.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not a tokenizer.json, or asks for something other than the
                byte-level BPE of this room.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no tokenizer file at {path}; train one, or give the path of a "
                "tokenizer.json"
            )
        try:
            content = path.read_bytes()
            known = _of_content.get(sha256(content).digest())
            return known or _remember(content, cls(parse_tokenizer_json(content)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def _specials_named(self, names: Specials, option: str) -> Mapping[str, int]:
        if names == "all":
            return self.special_tokens
        named = [names] if isinstance(names, str) else names
        for name in named:
            if name not in self.special_tokens:
                raise ValueError(
                    f"{option} lists {name!r}, which is no special token of this vocabulary; it "
                    f"has: {', '.join(self.special_tokens) or 'none'}"
                )
        return {name: self.special_tokens[name] for name in named}

    def _refuse(
        self, text: str | bytes, disallowed: Mapping[str, int], allowed: Mapping[str, int]
    ) -> None:
        for name in disallowed:
            if name in allowed:
                continue
            at = native_specials({name: 0}).find(text)
            if at >= 0:
                raise ValueError(
                    f"the text holds the special token {name!r}, at byte {at}, which "
                    "disallowed_special forbids; put it in allowed_special to make it that token, "
                    "or leave it out of disallowed_special to take it for ordinary text"
                )

    def _encode_plain_file(
        self, path: Path, specials: _native.SpecialTokens, n_threads: int
    ) -> Iterator[Ids]:
        from collections import deque
        from concurrent.futures import Future, ThreadPoolExecutor

        assert self._known_pattern is not None
        parts = parts_of(path, self._known_pattern, specials)
        with path.open("rb") as file, ThreadPoolExecutor(n_threads) as pool:
            working: deque[Future[Ids]] = deque()
            for part in parts:
                working.append(
                    pool.submit(
                        self._codec.encode_range, file.fileno(), part.begin, part.end, specials
                    )
                )
                if len(working) > n_threads:
                    yield working.popleft().result()
            while working:
                yield working.popleft().result()

    def _encode_own_pattern(self, text: str | bytes) -> Ids:
        if not isinstance(text, str | bytes):
            raise TypeError(f"a document is str or bytes, not {type(text).__name__}")
        if not text:
            return np.array([], dtype=self.id_dtype)
        data = text.encode() if isinstance(text, str) else text
        return self._codec.encode_pieces(data, split_points(data, self.vocabulary.pattern))

    def _encode_own_pattern_with_specials(
        self, text: str | bytes, allowed: Mapping[str, int]
    ) -> Ids:
        data = text.encode() if isinstance(text, str) else text
        longest_first = sorted((name.encode() for name in allowed), key=len, reverse=True)
        parts: list[Ids] = []
        at = 0
        for document in documents_between([data], longest_first):
            parts.append(self._encode(document))
            at += len(document)
            for name in longest_first:
                if data.startswith(name, at):
                    parts.append(np.array([allowed[name.decode()]], dtype=self.id_dtype))
                    at += len(name)
                    break
        return np.concatenate(parts)

    def _encode_file_with_own_pattern(
        self, path: Path, allowed: Mapping[str, int]
    ) -> Iterator[Ids]:
        data = b"".join(chunks_of(path))
        yield self.encode(data, allowed_special=list(allowed))


_most_remembered = 2
_of_content: dict[bytes, Tokenizer] = {}  # by sha256 of a tokenizer.json, the newest last


def _remember(content: bytes, tokenizer: Tokenizer) -> Tokenizer:
    """Keep a tokenizer, so that loading its file again gives the same one at once."""
    _of_content[sha256(content).digest()] = tokenizer
    for oldest in list(_of_content)[:-_most_remembered]:
        _of_content.pop(oldest, None)
    return tokenizer


class StreamingDecoder:
    """Decodes one id at a time, holding back a character until its last byte has come.

    The parts add up to what `Tokenizer.decode` makes of all the ids at once.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token_id: int) -> str:
        """Take the next id and return the text that is certain by now, perhaps none."""
        return self._utf8.decode(self._tokenizer.decode_bytes([token_id]))

    def finish(self) -> str:
        """Return what is left: a replacement character if a character was never completed."""
        return self._utf8.decode(b"", final=True)
