"""Tokenizers on disk: Hugging Face's tokenizer.json, and GPT-2's pair vocab.json and merges.txt.

Both spell bytes as printable characters (GPT-2's byte alphabet), because JSON has no byte strings.
`docs/formats.md` says which settings of a tokenizer.json are understood; anything else is refused
rather than ignored, since the ids would differ in silence.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from modelwright.runtime.files import write_atomically
from modelwright.tokenizer.vocabulary import END_OF_TEXT, N_BYTE_VALUES, Vocabulary

_Section = TypeVar("_Section", dict[str, Any], list[Any])

_VOCAB_FILE = "vocab.json"
_MERGES_FILE = "merges.txt"
_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def tokenizer_json(vocabulary: Vocabulary) -> bytes:
    """Return the content of a tokenizer.json with this vocabulary."""
    added_tokens = [
        {
            "id": token_id,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for text, token_id in vocabulary.special_tokens.items()
    ]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens,
        "normalizer": None,
        "pre_tokenizer": _BYTE_LEVEL,
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": _spell_vocabulary(vocabulary),
            "merges": _spell_merges(vocabulary),
        },
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def parse_tokenizer_json(content: bytes) -> Vocabulary:
    """Read the content of a tokenizer.json.

    Raises:
        ValueError: if it is not one, or asks for something other than GPT-2's byte-level BPE.
    """
    document = _read_table(content)
    model = _section(document, "model", dict)
    _refuse_unsupported(document, model)
    special_tokens = _read_added_tokens(_section(document, "added_tokens", list))
    vocab = {**_section(model, "vocab", dict), **special_tokens}
    pairs = [_read_pair(merge) for merge in _section(model, "merges", list)]
    return _assemble(vocab, pairs, special_tokens)


def read_vocab_and_merges(
    vocab_path: Path, merges_path: Path, *, special_tokens: Sequence[str] = (END_OF_TEXT,)
) -> Vocabulary:
    """Read GPT-2's pair of files. Those of `special_tokens` that it holds are special.

    Raises:
        FileNotFoundError: if one of the files is missing.
        ValueError: if they are not such a pair.
    """
    vocab_content, merges_content = vocab_path.read_bytes(), merges_path.read_bytes()
    try:
        vocab = _read_table(vocab_content)
        lines = merges_content.decode().splitlines()
        has_header = bool(lines) and lines[0].startswith("#version")
        pairs = [_read_pair(line) for line in lines[has_header:] if line]
        return _assemble(
            vocab, pairs, {text: vocab[text] for text in special_tokens if text in vocab}
        )
    except ValueError as error:
        raise ValueError(f"{vocab_path} with {merges_path}: {error}") from None


def write_vocab_and_merges(vocabulary: Vocabulary, folder: Path) -> None:
    """Write GPT-2's pair of files, vocab.json and merges.txt, into an existing folder."""
    vocab = json.dumps(_spell_vocabulary(vocabulary), ensure_ascii=False)
    merges = ["#version: 0.2", *(f"{left} {right}" for left, right in _spell_merges(vocabulary))]
    write_atomically(folder / _VOCAB_FILE, vocab.encode())
    write_atomically(folder / _MERGES_FILE, ("\n".join(merges) + "\n").encode())


@cache
def _byte_alphabet() -> tuple[str, ...]:
    """The character that stands for each byte value.

    Printable characters of Latin-1 stand for themselves; the other bytes take the characters from
    U+0100 on, in order. Source: openai/gpt-2, src/encoder.py, bytes_to_unicode.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)}
    printable |= set(range(ord("®"), ord("ÿ") + 1))
    unprintable = [value for value in range(N_BYTE_VALUES) if value not in printable]
    stand_ins = {value: chr(N_BYTE_VALUES + i) for i, value in enumerate(unprintable)}
    return tuple(stand_ins.get(value, chr(value)) for value in range(N_BYTE_VALUES))


@cache
def _byte_of_character() -> Mapping[str, int]:
    return {character: value for value, character in enumerate(_byte_alphabet())}


def _spell(token: bytes) -> str:
    alphabet = _byte_alphabet()
    return "".join([alphabet[value] for value in token])


def _unspell(text: str) -> bytes:
    values = _byte_of_character()
    try:
        return bytes([values[character] for character in text])
    except KeyError as error:
        raise ValueError(
            f"token {text!r} holds {error.args[0]!r}, which stands for no byte in GPT-2's "
            "alphabet; only byte-level vocabularies can be read"
        ) from None


def _spell_vocabulary(vocabulary: Vocabulary) -> dict[str, int]:
    """Return the id of each token as these files spell it, special tokens as their own text."""
    special_ids = {token_id: text for text, token_id in vocabulary.special_tokens.items()}
    spelled: dict[str, int] = {}
    for token_id, token in enumerate(vocabulary.tokens):
        text = special_ids.get(token_id) or _spell(token)
        if text in spelled:
            raise ValueError(
                f"ids {spelled[text]} and {token_id} are both spelled {text!r} in this format; "
                "rename the special token"
            )
        spelled[text] = token_id
    return spelled


def _spell_merges(vocabulary: Vocabulary) -> list[list[str]]:
    tokens = vocabulary.tokens
    return [[_spell(tokens[left]), _spell(tokens[right])] for left, right in vocabulary.merges]


def _assemble(
    vocab: Mapping[str, Any], pairs: Iterable[tuple[str, str]], special_tokens: Mapping[str, int]
) -> Vocabulary:
    """Turn spelled tokens and merges into a vocabulary."""
    tokens: list[bytes | None] = [None] * len(vocab)
    for text, token_id in vocab.items():
        if type(token_id) is not int or not 0 <= token_id < len(vocab):
            raise ValueError(
                f"token {text!r} has id {token_id!r}, but the {len(vocab)} tokens need the ids "
                f"0 to {len(vocab) - 1}, without gaps"
            )
        if tokens[token_id] is not None:
            raise ValueError(f"id {token_id} is given to {text!r} and to another token")
        tokens[token_id] = text.encode() if text in special_tokens else _unspell(text)
    merges: list[tuple[int, int]] = []
    for rank, pair in enumerate(pairs):
        for half in pair:
            if half not in vocab:
                raise ValueError(f"merge {rank} joins {half!r}, which is not in the vocabulary")
        merges.append((vocab[pair[0]], vocab[pair[1]]))
    return Vocabulary(
        tokens=tuple(token for token in tokens if token is not None),
        merges=tuple(merges),
        special_tokens=special_tokens,
    )


def _read_table(content: bytes) -> dict[str, Any]:
    try:
        table = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is not JSON ({error})") from None
    if not isinstance(table, dict):
        raise ValueError(f"this is a JSON {type(table).__name__}, not a table of names and values")
    return table


def _section(table: Mapping[str, Any], name: str, kind: type[_Section]) -> _Section:
    section = table.get(name)
    if not isinstance(section, kind):
        raise ValueError(f'this is not a tokenizer.json: it has no {kind.__name__} "{name}"')
    return section


def _read_pair(merge: Any) -> tuple[str, str]:
    """Read one merge: "left right", or since version 0.20 of tokenizers ["left", "right"]."""
    halves = merge.split(" ") if isinstance(merge, str) else merge
    is_pair = isinstance(halves, list) and len(halves) == 2
    if not is_pair or not all(isinstance(half, str) and half for half in halves):
        raise ValueError(f"{merge!r} is not a merge of two tokens")
    return halves[0], halves[1]


def _read_added_tokens(added_tokens: list[Any]) -> dict[str, Any]:
    special_tokens: dict[str, Any] = {}
    for token in added_tokens:
        if not isinstance(token, dict) or not isinstance(token.get("content"), str):
            raise ValueError(f"{token!r} in added_tokens is not a token")
        text = token["content"]
        if not token.get("special"):
            raise ValueError(
                f"added token {text!r} is not special; only special ones are supported"
            )
        for option in ("single_word", "lstrip", "rstrip"):
            if token.get(option):
                raise ValueError(f"added token {text!r} has {option} on, which is not supported")
        special_tokens[text] = token.get("id")  # checked with the others when put together
    return special_tokens


def _refuse_unsupported(document: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Raise for every setting that would change the ids and that this room does not follow."""
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f'the model is of type "{model["type"]}"; only "BPE" is supported')
    must_be_off = {
        "normalizer": document.get("normalizer"),
        "truncation": document.get("truncation"),
        "padding": document.get("padding"),
        "model.dropout": model.get("dropout"),
        "model.unk_token": model.get("unk_token"),
        "model.continuing_subword_prefix": model.get("continuing_subword_prefix"),
        "model.end_of_word_suffix": model.get("end_of_word_suffix"),
        "model.byte_fallback": model.get("byte_fallback"),
        "model.ignore_merges": model.get("ignore_merges"),
    }
    for name, value in must_be_off.items():
        if value:
            raise ValueError(f'"{name}" is {value!r}, which is not supported; it has to be off')
    pre_tokenizer = document.get("pre_tokenizer")
    is_gpt2_split = (
        isinstance(pre_tokenizer, dict)
        and pre_tokenizer.get("type") == "ByteLevel"
        and pre_tokenizer.get("add_prefix_space") is False
        and pre_tokenizer.get("use_regex", True) is True
    )
    if not is_gpt2_split:
        raise ValueError(
            f'"pre_tokenizer" is {json.dumps(pre_tokenizer)[:200]}; only ByteLevel with its regex '
            "and without a prefix space (GPT-2's way of splitting) is supported"
        )
    post_processor = document.get("post_processor")
    adds_tokens = bool(post_processor) and (
        not isinstance(post_processor, dict) or post_processor.get("type") != "ByteLevel"
    )
    if adds_tokens:
        raise ValueError(
            f'"post_processor" is {json.dumps(post_processor)[:200]}, which may add tokens to '
            "every text; only ByteLevel, which adds none, is supported"
        )
