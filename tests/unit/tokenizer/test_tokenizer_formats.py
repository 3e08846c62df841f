import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelwright.tokenizer.formats import (
    parse_tokenizer_json,
    read_vocab_and_merges,
    tokenizer_json,
    write_huggingface_folder,
    write_vocab_and_merges,
)
from modelwright.tokenizer.splitting import PATTERNS, pattern_named
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


def split_by(regex: Any, behavior: str = "Isolated", **changes: Any) -> dict[str, Any]:
    """A pre_tokenizer as the files of Llama 3 and GPT-4o have it."""
    split = {"type": "Split", "pattern": regex, "behavior": behavior, "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False} | changes
    return {"type": "Sequence", "pretokenizers": [split | changes, level]}


@pytest.mark.parametrize(
    "pattern",
    [*PATTERNS.values(), pattern_named("o200k", digits_apart=True), r"\w+|[^\w\s]+|\s+"],
    ids=[*PATTERNS, "digits apart", "own"],
)
def test_every_pattern_round_trips_and_only_gpt2s_is_the_default(pattern: str, tmp_path: Path):
    vocabulary = replace(VOCABULARY, pattern=pattern)
    assert parse_tokenizer_json(tokenizer_json(vocabulary)) == vocabulary
    assert (tokenizer_json(vocabulary) == tokenizer_json(VOCABULARY)) == (
        pattern == PATTERNS["gpt2"]
    )
    write_vocab_and_merges(vocabulary, tmp_path)
    files = tmp_path / "vocab.json", tmp_path / "merges.txt"
    assert read_vocab_and_merges(*files, pattern=pattern) == vocabulary


def test_another_spelling_of_a_known_pattern_is_read_as_that_pattern():
    spelled = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    assert (
        parse_tokenizer_json(changed("pre_tokenizer", split_by({"Regex": spelled}))) == VOCABULARY
    )


def test_removing_what_a_known_pattern_leaves_over_is_read_as_that_pattern():
    setting = split_by({"Regex": PATTERNS["o200k"]}, "Removed", invert=True)
    read = parse_tokenizer_json(changed("pre_tokenizer", setting))
    assert read == replace(VOCABULARY, pattern=PATTERNS["o200k"])
    own = split_by({"Regex": r"\w+"}, "Removed", invert=True)
    with pytest.raises(ValueError, match="with the behavior Isolated and not inverted"):
        parse_tokenizer_json(changed("pre_tokenizer", own))


def test_unused_ids_before_a_special_token_get_names():
    document = copy.deepcopy(DOCUMENT)
    document["model"]["vocab"].pop(END_OF_TEXT)
    n_ordinary = len(document["model"]["vocab"])
    document["added_tokens"][0]["id"] = n_ordinary + 2
    read = parse_tokenizer_json(json.dumps(document).encode())
    assert read.special_tokens == {
        f"<|unused_{n_ordinary}|>": n_ordinary,
        f"<|unused_{n_ordinary + 1}|>": n_ordinary + 1,
        END_OF_TEXT: n_ordinary + 2,
    }
    document["added_tokens"][0]["id"] = 10**9
    with pytest.raises(ValueError, match=r"the highest id is 1000000000, but there are \d+ tokens"):
        parse_tokenizer_json(json.dumps(document).encode())


def test_ignore_merges_is_followed_where_it_changes_nothing():
    assert parse_tokenizer_json(changed("model.ignore_merges", True)) == VOCABULARY
    document = copy.deepcopy(DOCUMENT)
    document["model"]["ignore_merges"] = True
    left, right = document["model"]["merges"].pop()
    with pytest.raises(ValueError, match=r'"model\.ignore_merges" is on, which takes token \d+'):
        parse_tokenizer_json(json.dumps(document).encode())
    document["model"]["ignore_merges"] = False
    assert left + right in document["model"]["vocab"]
    assert len(parse_tokenizer_json(json.dumps(document).encode()).merges) < len(VOCABULARY.merges)


def test_a_template_is_left_out_only_on_request():
    level, template = {"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": []}
    assert parse_tokenizer_json(changed("post_processor", level)) == VOCABULARY
    for setting in (template, {"type": "Sequence", "processors": [level, template]}):
        content = changed("post_processor", setting)
        with pytest.raises(ValueError, match="TemplateProcessing.*unless drop_template is on"):
            parse_tokenizer_json(content)
        assert parse_tokenizer_json(content, drop_template=True) == VOCABULARY
    only_bytes = {"type": "Sequence", "processors": [level]}
    assert parse_tokenizer_json(changed("post_processor", only_bytes)) == VOCABULARY


def test_a_folder_for_transformers_names_the_end_of_text_only_if_there_is_one(tmp_path: Path):
    write_huggingface_folder(VOCABULARY, tmp_path)
    assert parse_tokenizer_json((tmp_path / "tokenizer.json").read_bytes()) == VOCABULARY
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["eos_token"] == END_OF_TEXT
    bare = replace(VOCABULARY, tokens=VOCABULARY.tokens[:-1], special_tokens={})
    write_huggingface_folder(bare, tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["eos_token"] is None


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
            "no token has id 0, but the ids have to run without gaps from 0 to .* 7",
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
        (changed("normalizer", {"type": "NFC"}), r'"normalizer" is \{\'type\': \'NFC\'\}'),
        (changed("truncation", {"max_length": 8}), '"truncation" is'),
        (changed("pre_tokenizer", None), '"pre_tokenizer" is null; supported are ByteLevel'),
        (changed("pre_tokenizer.type", "Metaspace"), '"pre_tokenizer" is .*Metaspace'),
        (changed("pre_tokenizer.add_prefix_space", True), "without a prefix space"),
        (changed("pre_tokenizer", split_by({"String": " "})), "supported are ByteLevel"),
        (changed("pre_tokenizer", split_by({"Regex": ""})), "supported are ByteLevel"),
        (changed("pre_tokenizer", split_by({"Regex": "a"}, "Removed")), "the behavior Isolated"),
        (changed("pre_tokenizer", split_by({"Regex": "a"}, invert=True)), "not inverted"),
        (changed("pre_tokenizer", split_by({"Regex": "a"}, use_regex=True)), "use_regex off"),
        (
            changed("pre_tokenizer", split_by({"Regex": "a"}, add_prefix_space=True)),
            "without a prefix space",
        ),
        (changed("pre_tokenizer", split_by({"Regex": "(a"})), r"'\(a' is not a regular expression"),
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
