"""The tokenizer that other rooms hold: text to ids and back, a file, and a fingerprint.

The work is done by `native/encode.cpp`; `reference.encode` is the same in plain Python.
"""

import codecs
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelwright import _native
from modelwright.runtime.files import write_atomically
from modelwright.tokenizer.formats import parse_tokenizer_json, tokenizer_json
from modelwright.tokenizer.vocabulary import END_OF_TEXT, Vocabulary

Ids = npt.NDArray[np.uint16 | np.uint32]


class Tokenizer:
    """Byte-level BPE with a given vocabulary. Every text has ids, and they decode to that text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._encoder = _native.Encoder(
            vocabulary.tokens, vocabulary.byte_ids, vocabulary.merge_rules
        )

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

    def encode(self, text: str | bytes, *, allowed_special: Collection[str] = ()) -> Ids:
        """Turn text into ids.

        Args:
            text: bytes may be anything, UTF-8 or not; a str may not hold lone surrogates.
            allowed_special: special tokens whose text stands for them. Where it is not listed here,
                a literal "<|endoftext|>" is ordinary text, so that a document cannot end itself.

        Raises:
            ValueError: if a token in `allowed_special` is not in the vocabulary, or a str has no
                UTF-8 form.
        """
        if not allowed_special:
            return self.encode_documents([text], end_of_text=False)[0]
        data = text.encode() if isinstance(text, str) else text
        parts: list[Ids] = []
        # A capturing group makes re.split keep the separators, at the odd places.
        for i, part in enumerate(re.split(self._pattern_of(allowed_special), data)):
            if i % 2:
                parts.append(np.array([self.special_tokens[part.decode()]], dtype=self.id_dtype))
            else:
                parts.append(self.encode(part))
        return np.concatenate(parts)

    def encode_documents(
        self, documents: Sequence[str | bytes], *, end_of_text: bool = True
    ) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Encode many documents into one array.

        Args:
            end_of_text: whether the end-of-text id follows each document.

        Returns:
            The ids, end to end, and the offsets [n_documents + 1]: document i is
            `ids[offsets[i] : offsets[i + 1]]`, its end-of-text id included.
        """
        if isinstance(documents, str | bytes):
            raise ValueError("documents is a single text; put it in a list, or use encode")
        return self._encoder.encode_documents(documents, self.end_of_text if end_of_text else None)

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
        outside = np.flatnonzero((array < 0) | (array >= self.n_vocab))
        if outside.size:
            position = int(outside[0])
            raise ValueError(
                f"id {array[position]} at position {position} is outside the vocabulary, "
                f"whose ids are 0 to {self.n_vocab - 1}"
            )
        return self._encoder.decode(np.ascontiguousarray(array, dtype=np.uint32))

    def streaming_decoder(self) -> "StreamingDecoder":
        """Return a decoder that takes one id at a time, as a model writes them."""
        return StreamingDecoder(self)

    def save(self, path: Path) -> None:
        """Write a tokenizer.json, in the format of Hugging Face's tokenizers library."""
        write_atomically(path, tokenizer_json(self.vocabulary))

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
            return cls(parse_tokenizer_json(path.read_bytes()))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def _pattern_of(self, allowed_special: Collection[str]) -> re.Pattern[bytes]:
        names = [allowed_special] if isinstance(allowed_special, str) else list(allowed_special)
        for name in names:
            if name not in self.special_tokens:
                raise ValueError(
                    f"allowed_special lists {name!r}, which is no special token of this "
                    f"vocabulary; it has: {', '.join(self.special_tokens) or 'none'}"
                )
        longest_first = sorted((name.encode() for name in names), key=len, reverse=True)
        return re.compile(b"(" + b"|".join(map(re.escape, longest_first)) + b")")


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
