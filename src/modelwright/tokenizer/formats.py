"""Tokenizers on disk: Hugging Face's tokenizer.json, and GPT-2's pair vocab.json and merges.txt.

Both spell bytes as printable characters (GPT-2's byte alphabet), because JSON has no byte strings.
`docs/formats.md` says which settings of a tokenizer.json are understood; anything else is refused
rather than ignored, since the ids would differ in silence.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from modelwright.runtime.files import write_atomically
from modelwright.tokenizer.merging import check_whole_tokens
from modelwright.tokenizer.spelling import spell, unspell
from modelwright.tokenizer.splitting import SPLIT_PATTERN, canonical_pattern, native_pattern
from modelwright.tokenizer.vocabulary import END_OF_TEXT, Vocabulary, unused_tokens

_Section = TypeVar("_Section", dict[str, Any], list[Any])

_VOCAB_FILE = "vocab.json"
_MERGES_FILE = "merges.txt"
_TOKENIZER_FILE = "tokenizer.json"
_CONFIG_FILE = "tokenizer_config.json"
_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
_BYTES_ONLY = {**_BYTE_LEVEL, "use_regex": False}


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
        "pre_tokenizer": _pre_tokenizer(vocabulary.pattern),
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
            "vocab": None,
            "merges": None,
        },
    }
    # The compiled encoder does not indent, and the other one takes longer than all the rest. A
    # quotation mark inside a text is escaped, so what is replaced stands nowhere else.
    vocab = json.dumps(
        _spell_vocabulary(vocabulary), ensure_ascii=False, separators=(",\n   ", ": ")
    )
    merges = json.dumps(_spell_merges(vocabulary), ensure_ascii=False)
    return (
        json.dumps(document, ensure_ascii=False, indent=1)
        .replace('"vocab": null', f'"vocab": {vocab}')
        .replace('"merges": null', '"merges": ' + merges.replace('"], ["', '"],\n   ["'))
        .encode()
    ) + b"\n"


def parse_tokenizer_json(content: bytes, *, drop_template: bool = False) -> Vocabulary:
    """Read the content of a tokenizer.json.

    Args:
        drop_template: read a file whose `post_processor` puts special tokens around every text,
            and leave them out.

    Raises:
        ValueError: if it is not one, or asks for something other than byte-level BPE.
    """
    document = _read_table(content)
    model = _section(document, "model", dict)
    _refuse_unsupported(document, model)
    if not drop_template:
        _refuse_template(document.get("post_processor"))
    special_tokens = _read_added_tokens(_section(document, "added_tokens", list))
    vocab = {**_section(model, "vocab", dict), **special_tokens}
    pairs = [_read_pair(merge) for merge in _section(model, "merges", list)]
    pattern = _read_pattern(document.get("pre_tokenizer"))
    vocabulary = _assemble(vocab, pairs, special_tokens, pattern)
    if model.get("ignore_merges"):
        check_whole_tokens(vocabulary)
    return vocabulary


def write_huggingface_folder(vocabulary: Vocabulary, folder: Path) -> None:
    """Write what `transformers.AutoTokenizer.from_pretrained` opens, into an existing folder."""
    end_of_text = END_OF_TEXT if END_OF_TEXT in vocabulary.special_tokens else None
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,  # else decoding would move punctuation
        "eos_token": end_of_text,
    }
    write_atomically(folder / _TOKENIZER_FILE, tokenizer_json(vocabulary))
    write_atomically(folder / _CONFIG_FILE, json.dumps(config, indent=1) + "\n")


def read_vocab_and_merges(
    vocab_path: Path,
    merges_path: Path,
    *,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
    pattern: str = SPLIT_PATTERN,
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
        special_ids = {text: vocab[text] for text in special_tokens if text in vocab}
        return _assemble(vocab, pairs, special_ids, canonical_pattern(pattern))
    except ValueError as error:
        raise ValueError(f"{vocab_path} with {merges_path}: {error}") from None


def write_vocab_and_merges(vocabulary: Vocabulary, folder: Path) -> None:
    """Write GPT-2's pair of files, vocab.json and merges.txt, into an existing folder."""
    vocab = json.dumps(_spell_vocabulary(vocabulary), ensure_ascii=False)
    merges = ["#version: 0.2", *(f"{left} {right}" for left, right in _spell_merges(vocabulary))]
    write_atomically(folder / _VOCAB_FILE, vocab.encode())
    write_atomically(folder / _MERGES_FILE, ("\n".join(merges) + "\n").encode())


def _spell_vocabulary(vocabulary: Vocabulary) -> dict[str, int]:
    """Return the id of each token as these files spell it, special tokens as their own text."""
    special_ids = {token_id: text for text, token_id in vocabulary.special_tokens.items()}
    spelled: dict[str, int] = {}
    for token_id, token in enumerate(vocabulary.tokens):
        text = special_ids.get(token_id) or spell(token)
        if text in spelled:
            raise ValueError(
                f"ids {spelled[text]} and {token_id} are both spelled {text!r} in this format; "
                "rename the special token"
            )
        spelled[text] = token_id
    return spelled


def _spell_merges(vocabulary: Vocabulary) -> list[list[str]]:
    tokens = vocabulary.tokens
    return [[spell(tokens[left]), spell(tokens[right])] for left, right in vocabulary.merges]


def _assemble(
    vocab: Mapping[str, Any],
    pairs: Iterable[tuple[str, str]],
    special_tokens: Mapping[str, int],
    pattern: str,
) -> Vocabulary:
    """Turn spelled tokens and merges into a vocabulary."""
    tokens: dict[int, bytes] = {}
    last_ordinary = -1
    for text, token_id in vocab.items():
        if type(token_id) is not int or token_id < 0:
            raise ValueError(
                f"token {text!r} has id {token_id!r}; the ids are the whole numbers from 0"
            )
        if token_id in tokens:
            raise ValueError(f"id {token_id} is given to {text!r} and to another token")
        tokens[token_id] = text.encode() if text in special_tokens else unspell(text)
        if text not in special_tokens:
            last_ordinary = max(last_ordinary, token_id)
    # Unused ids are common, but only among the special tokens, which follow the ordinary ones.
    unused = unused_tokens(tokens)
    if unused and min(unused.values()) < last_ordinary:
        raise ValueError(
            f"no token has id {min(unused.values())}, but the ids have to run without gaps from 0 "
            f"to that of the last ordinary token, {last_ordinary}"
        )
    tokens |= {token_id: text.encode() for text, token_id in unused.items()}
    merges: list[tuple[int, int]] = []
    for rank, pair in enumerate(pairs):
        for half in pair:
            if half not in vocab:
                raise ValueError(f"merge {rank} joins {half!r}, which is not in the vocabulary")
        merges.append((vocab[pair[0]], vocab[pair[1]]))
    return Vocabulary(
        tokens=tuple(tokens[token_id] for token_id in range(len(tokens))),
        merges=tuple(merges),
        special_tokens={**special_tokens, **unused},
        pattern=pattern,
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
    }
    for name, value in must_be_off.items():
        if value:
            raise ValueError(f'"{name}" is {value!r}, which is not supported; it has to be off')


def _refuse_template(post_processor: Any) -> None:
    """Raise for a post-processor that may add tokens to a text."""
    is_sequence = isinstance(post_processor, dict) and post_processor.get("type") == "Sequence"
    parts = post_processor.get("processors") if is_sequence else [post_processor]
    for part in parts if isinstance(parts, list) else [parts]:
        if part and (not isinstance(part, dict) or part.get("type") != "ByteLevel"):
            raise ValueError(
                f'"post_processor" is {json.dumps(part)[:200]}, which may add tokens to every '
                "text; only ByteLevel, which adds none, is supported, unless drop_template is on"
            )


def _pre_tokenizer(pattern: str) -> dict[str, Any]:
    """Return the setting that cuts text with a pattern."""
    if pattern == SPLIT_PATTERN:
        return _BYTE_LEVEL
    if not pattern:
        return _BYTES_ONLY
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return {"type": "Sequence", "pretokenizers": [split, _BYTES_ONLY]}


def _read_pattern(pre_tokenizer: Any) -> str:
    """Return the pattern that a `pre_tokenizer` cuts with."""
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return SPLIT_PATTERN if pre_tokenizer.get("use_regex", True) else ""
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(regex)}} as split,
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if regex:
            pattern = canonical_pattern(regex)
            how = (split.get("behavior"), split.get("invert"))
            # To remove what does not match leaves the same, if the pattern matches everything.
            matches_everything = native_pattern(pattern) is not None
            if how == ("Isolated", False) or (how == ("Removed", True) and matches_everything):
                return pattern
    raise ValueError(
        f'"pre_tokenizer" is {json.dumps(pre_tokenizer)[:400]}; supported are ByteLevel without a '
        "prefix space, and a Sequence of Split by a Regex, with the behavior Isolated and not "
        "inverted, and such a ByteLevel with use_regex off"
    )
