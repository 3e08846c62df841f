"""The plain data of a tokenizer: the bytes of each id, the merges, and how text is cut."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from modelwright.tokenizer.splitting import SPLIT_PATTERN, check_pattern

END_OF_TEXT = "<|endoftext|>"
N_BYTE_VALUES = 256
_MOST_UNUSED_IDS = 1 << 16  # so that a mistaken id does not make billions of tokens


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, merges in the order they were learned, and the ids of the special tokens.

    Ids may come in any order: a vocabulary trained here starts with the byte values, GPT-2's starts
    with the printable ones.

    Raises:
        ValueError: if a byte value has no token, two ordinary tokens are the same, a merge makes no
            token, a special token is not where `special_tokens` says, or the pattern is no regular
            expression.
    """

    tokens: tuple[bytes, ...]  # a special token's entry is the UTF-8 of its text
    merges: tuple[tuple[int, int], ...]  # ids of the left and right half
    special_tokens: Mapping[str, int]
    pattern: str = SPLIT_PATTERN  # cuts text into pieces; a regular expression

    def __post_init__(self) -> None:
        in_order = sorted(self.special_tokens.items(), key=lambda item: item[1])
        object.__setattr__(self, "special_tokens", MappingProxyType(dict(in_order)))
        self._check_special_tokens()
        self._check_ordinary_tokens()
        self._check_merges()
        check_pattern(self.pattern)

    @cached_property
    def ordinary_ids(self) -> Mapping[bytes, int]:
        """The id of each token that ordinary text can turn into."""
        special_ids = set(self.special_tokens.values())
        return {token: i for i, token in enumerate(self.tokens) if i not in special_ids}

    @property
    def byte_ids(self) -> list[int]:
        """The id of each byte value from 0 to 255."""
        return [self.ordinary_ids[bytes([value])] for value in range(N_BYTE_VALUES)]

    @property
    def merge_rules(self) -> list[tuple[int, int, int]]:
        """For each merge the ids of its left half, its right half and what they make."""
        tokens, ids = self.tokens, self.ordinary_ids
        return [(left, right, ids[tokens[left] + tokens[right]]) for left, right in self.merges]

    @cached_property
    def fingerprint(self) -> str:
        """A sha256 in hexadecimal that differs whenever some text could get other ids.

        It covers the split pattern, the tokens, the merges and the special tokens. Every part is
        preceded by its length, so that no two vocabularies spell out the same bytes.
        """
        digest = hashlib.sha256(b"modelwright tokenizer 1")

        def add(parts: list[bytes]) -> None:
            digest.update(len(parts).to_bytes(8, "little"))
            for part in parts:
                digest.update(len(part).to_bytes(8, "little"))
                digest.update(part)

        add([self.pattern.encode()])
        add(list(self.tokens))
        add([f"{left} {right}".encode() for left, right in self.merges])
        add([f"{token_id} {text}".encode() for text, token_id in self.special_tokens.items()])
        return digest.hexdigest()

    def _check_special_tokens(self) -> None:
        for text, token_id in self.special_tokens.items():
            if not text:
                raise ValueError("a special token is the empty string; give it some text")
            if not 0 <= token_id < len(self.tokens):
                raise ValueError(
                    f"special token {text!r} has id {token_id}, but the vocabulary has "
                    f"{len(self.tokens)} tokens"
                )
            if self.tokens[token_id] != text.encode():
                raise ValueError(
                    f"special token {text!r} has id {token_id}, which is the token "
                    f"{self.tokens[token_id]!r}"
                )
            if text.encode() in self.ordinary_ids:
                raise ValueError(
                    f"special token {text!r} is also the ordinary token "
                    f"{self.ordinary_ids[text.encode()]}; choose a text that cannot be learned"
                )

    def _check_ordinary_tokens(self) -> None:
        for value in range(N_BYTE_VALUES):
            if bytes([value]) not in self.ordinary_ids:
                raise ValueError(
                    f"no token stands for the byte 0x{value:02x}, so some text has no encoding; "
                    "a byte-level vocabulary needs all 256"
                )
        if len(self.ordinary_ids) + len(self.special_tokens) == len(self.tokens):
            return
        special_ids = set(self.special_tokens.values())
        for token_id, token in enumerate(self.tokens):
            if token_id not in special_ids and self.ordinary_ids[token] != token_id:
                raise ValueError(
                    f"ids {token_id} and {self.ordinary_ids[token]} are both the token {token!r}"
                )

    def _check_merges(self) -> None:
        ordinary = set(self.ordinary_ids.values())
        for rank, (left, right) in enumerate(self.merges):
            for half in (left, right):
                if half not in ordinary:
                    raise ValueError(f"merge {rank} joins id {half}, which is no ordinary token")
            merged = self.tokens[left] + self.tokens[right]
            if merged not in self.ordinary_ids:
                raise ValueError(f"merge {rank} makes {merged!r}, which is not in the vocabulary")
        if len(set(self.merges)) < len(self.merges):
            ((repeated, _),) = Counter(self.merges).most_common(1)
            raise ValueError(f"the pair of ids {repeated} is merged twice")


def unused_tokens(taken: Collection[int]) -> dict[str, int]:
    """Name the ids below the highest one that no token has, as special tokens.

    Raises:
        ValueError: if they are so many that one of the ids must be a mistake.
    """
    n_ids = max(taken, default=-1) + 1
    n_unused = n_ids - len(set(taken))
    if n_unused > _MOST_UNUSED_IDS:
        raise ValueError(
            f"the highest id is {n_ids - 1}, but there are {len(set(taken))} tokens, which leaves "
            f"{n_unused} ids unused; at most {_MOST_UNUSED_IDS} may be"
        )
    known = set(taken)
    return {f"<|unused_{i}|>": i for i in range(n_ids) if i not in known}
