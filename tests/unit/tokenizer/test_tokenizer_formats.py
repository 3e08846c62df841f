import copy
import json
from pathlib import Path
from typing import Any

import pytest

from modelwright.tokenizer.formats import (
    parse_tokenizer_json,
    read_vocab_and_merges,
    tokenizer_json,
    write_vocab_and_merges,
)
from modelwright.tokenizer.tokenizer import END_OF_TEXT
from modelwright.tokenizer.training import train_tokenizer
from modelwright.tokenizer.vocabulary import Vocabulary

VOCABULARY = train_tokenizer(["low lower \x00\xad é 世界 " * 3], vocab_size=275).vocabulary
DOCUMENT = json.loads(tokenizer_json(VOCABULARY))


def changed(path: str, value: Any) -> bytes:
    """A sound tokenizer.json with one setting changed."""
    document = copy.deepcopy(DOCUMENT)
    *outer, last = path.split(".")
    table = document
    for name in outer:
        table = table[name]
    table[last] = value
    return json.dumps(document).encode()


def test_tokenizer_json_round_trips():
    assert parse_tokenizer_json(tokenizer_json(VOCABULARY)) == VOCABULARY


def test_merges_written_as_strings_are_read_too():
    merges = [" ".join(pair) for pair in DOCUMENT["model"]["merges"]]
    assert parse_tokenizer_json(changed("model.merges", merges)) == VOCABULARY


def test_special_tokens_may_be_listed_among_the_added_tokens_only():
    vocab = {text: i for text, i in DOCUMENT["model"]["vocab"].items() if text != END_OF_TEXT}
    assert parse_tokenizer_json(changed("model.vocab", vocab)) == VOCABULARY


def test_gpt2s_pair_of_files_round_trips(tmp_path: Path):
    write_vocab_and_merges(VOCABULARY, tmp_path)
    assert read_vocab_and_merges(tmp_path / "vocab.json", tmp_path / "merges.txt") == VOCABULARY


def test_the_version_line_of_merges_txt_may_be_missing(tmp_path: Path):
    write_vocab_and_merges(VOCABULARY, tmp_path)
    merges = tmp_path / "merges.txt"
    merges.write_text("".join(merges.read_text().splitlines(keepends=True)[1:]))
    assert read_vocab_and_merges(tmp_path / "vocab.json", merges) == VOCABULARY


def test_a_pair_that_does_not_belong_together_is_refused_by_name(tmp_path: Path):
    write_vocab_and_merges(VOCABULARY, tmp_path)
    (tmp_path / "merges.txt").write_text("q q\n")
    with pytest.raises(ValueError, match=r"merges\.txt: merge 0 makes b'qq', which is not in"):
        read_vocab_and_merges(tmp_path / "vocab.json", tmp_path / "merges.txt")
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        read_vocab_and_merges(tmp_path / "vocab.json", tmp_path / "absent.txt")


def test_a_special_token_that_this_format_cannot_tell_apart_is_refused():
    tokens = (*VOCABULARY.tokens[:256], b" a", "Ġa".encode())
    vocabulary = Vocabulary(tokens, ((ord(" "), ord("a")),), {"Ġa": 257})
    with pytest.raises(ValueError, match="ids 256 and 257 are both spelled 'Ġa'"):
        tokenizer_json(vocabulary)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this is not JSON"),
        (b"\xff\xfe\x00", "this is not JSON"),
        (b"[" * 100_000, "this is not JSON"),
        (b"[1]", "this is a JSON list, not a table"),
        (b"{}", 'it has no dict "model"'),
        (changed("model.vocab", None), 'it has no dict "vocab"'),
        (changed("model.merges", "a b"), 'it has no list "merges"'),
        (changed("model.merges", ["abc"]), "'abc' is not a merge of two tokens"),
        (changed("model.merges", [["a", 1]]), r"\['a', 1\] is not a merge of two tokens"),
        (changed("model.merges", [["a", "世"]]), "merge 0 joins '世', which is not in the vocab"),
        (
            changed("model.vocab", {"a": 7}),
            "token 'a' has id 7, but the 2 tokens need the ids 0 to 1",
        ),
        (changed("model.vocab.a", "7"), "token 'a' has id '7'"),
        (changed("model.vocab.a", True), "token 'a' has id True"),
        (changed("model.vocab.a", 98), "id 98 is given to"),
        (
            changed("model.vocab.世", len(VOCABULARY.tokens)),
            "token '世' holds '世', which stands for no byte",
        ),
        (changed("model.type", "Unigram"), 'of type "Unigram"; only "BPE" is supported'),
        (changed("model.dropout", 0.1), r'"model\.dropout" is 0\.1, which is not supported'),
        (changed("model.byte_fallback", True), r'"model\.byte_fallback" is True'),
        (changed("model.ignore_merges", True), r'"model\.ignore_merges" is True'),
        (changed("normalizer", {"type": "NFC"}), r'"normalizer" is \{\'type\': \'NFC\'\}'),
        (changed("truncation", {"max_length": 8}), '"truncation" is'),
        (changed("pre_tokenizer", None), '"pre_tokenizer" is null; only ByteLevel'),
        (changed("pre_tokenizer.type", "Metaspace"), '"pre_tokenizer" is .*Metaspace'),
        (changed("pre_tokenizer.add_prefix_space", True), "without a prefix space"),
        (changed("pre_tokenizer.use_regex", False), "only ByteLevel with its regex"),
        (changed("post_processor", {"type": "TemplateProcessing"}), "may add tokens to every text"),
        (changed("added_tokens", None), 'it has no list "added_tokens"'),
        (changed("added_tokens", ["<s>"]), "'<s>' in added_tokens is not a token"),
        (changed("added_tokens", [{"content": "<s>", "id": 0}]), "'<s>' is not special"),
        (changed("added_tokens", [{"content": "<s>", "special": True}]), "'<s>' has id None"),
        (
            changed("added_tokens", [{"content": "<s>", "id": 0, "special": True, "lstrip": True}]),
            "'<s>' has lstrip on, which is not supported",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(content: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        parse_tokenizer_json(content)
