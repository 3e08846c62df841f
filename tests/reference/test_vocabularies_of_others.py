"""Vocabularies cross over to other programs and back: same cuts, same ids.

The oracles are the installed tiktoken, Hugging Face's tokenizers and transformers.
"""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tokenizers
from tiktoken_ext import openai_public
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from modelwright.tokenizer import reference
from modelwright.tokenizer.formats import (
    parse_tokenizer_json,
    tokenizer_json,
    write_huggingface_folder,
)
from modelwright.tokenizer.rank_files import read_tiktoken, write_tiktoken
from modelwright.tokenizer.splitting import (
    PATTERNS,
    canonical_pattern,
    native_pattern,
    pattern_named,
    split_points,
)
from modelwright.tokenizer.vocabulary import END_OF_TEXT, Vocabulary

OWN = r"\p{Lu}?\p{L}+|\d|[^\s\p{L}]+"
ALL_PATTERNS = {
    **PATTERNS,
    "digits apart": pattern_named("cl100k", digits_apart=True),
    "own": OWN,
}
TEXTS = [
    "Once upon a time, there was a 'quoted' cat's meow; it WASN'T 3 o'clock, they'll see.",
    "  leading,   inner  and trailing spaces   ",
    "\n\n\tdef f(x):\r\n\t\treturn x ** 2  # ² 1234567\n  ",
    "HelloWorld HTTPServer's a//b/\n\n Grüße, мир. שלום 今日は世界 e\u0301 १२३ Ⅳ½ 🙂🙃",
    "a" * 50 + " " * 30 + "=" * 20,
    "",
]
ALPHABET = "aZbéé世ſK1½ \t\n\r\u3000\u00a0\x85'sSdmtlvre!/-\u0301🙂\u01c5\u02b0"


def fuzz(n_texts: int) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choices(ALPHABET, k=rng.randint(1, 12))) for _ in range(n_texts)]


def learned(pattern: str) -> Vocabulary:
    """A vocabulary of the slow twin, with the ids of a trained one."""
    pairs = reference.train(TEXTS * 2, 150, pattern=pattern)
    tokens = [bytes([value]) for value in range(256)] + [left + right for left, right in pairs]
    ids = {token: i for i, token in enumerate(tokens)}
    special = ("<|pad|>", END_OF_TEXT)
    return Vocabulary(
        tokens=(*tokens, *(text.encode() for text in special)),
        merges=tuple((ids[left], ids[right]) for left, right in pairs),
        special_tokens={text: len(tokens) + i for i, text in enumerate(special)},
        pattern=pattern,
    )


@pytest.fixture(scope="module", params=ALL_PATTERNS)
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    return learned(ALL_PATTERNS[request.param])


def encoding_of(vocabulary: Vocabulary, pattern: str) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        name="test",
        pat_str=pattern,
        mergeable_ranks=dict(vocabulary.ordinary_ids),
        special_tokens=dict(vocabulary.special_tokens),
    )


@pytest.mark.parametrize(
    ("name", "theirs"), [("gpt2", "r50k_base"), ("cl100k", "cl100k_base"), ("o200k", "o200k_base")]
)
def test_a_named_pattern_cuts_as_tiktokens_does(
    name: str, theirs: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
    their_pattern: str = getattr(openai_public, theirs)()["pat_str"]
    assert canonical_pattern(their_pattern) == PATTERNS[name]
    # Every part of a text is a token, so that tiktoken shows the pieces; it takes them whole.
    texts = fuzz(400)
    parts = {
        text[i:j].encode()
        for text in texts
        for i in range(len(text))
        for j in range(i + 1, len(text) + 1)
    }
    bytes_first = [bytes([value]) for value in range(256)]
    tokens = [*bytes_first, *sorted(parts - set(bytes_first))]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding(
        name="pieces", pat_str=their_pattern, mergeable_ranks=ranks, special_tokens={}
    )
    for text in texts:
        pieces = [tokens[token_id] for token_id in encoding.encode_ordinary(text)]
        assert reference.split(text, PATTERNS[name]) == pieces


def test_a_pattern_with_the_end_of_a_line_in_it_would_cut_elsewhere():
    """Why cl100k is not written down as tiktoken spells it."""
    text = "a  \nb"
    lines = Split(Regex(r"\s+$|\s"), "isolated").pre_tokenize_str(text)
    ends = Split(Regex(r"\s+(?![\s\S])|\s"), "isolated").pre_tokenize_str(text)
    assert [piece for piece, _ in lines] != [piece for piece, _ in ends]
    assert [piece for piece, _ in ends] == ["a", " ", " ", "\n", "b"]


@pytest.mark.parametrize("pattern", [*list(ALL_PATTERNS.values())[:3], OWN, r"x*", "(?=b)"])
def test_patterns_cut_as_hugging_faces_split_cuts(pattern: str):
    splitter = Split(Regex(pattern), "isolated")
    for text in [*TEXTS, *fuzz(1000)]:
        pieces = [piece.encode() for piece, _ in splitter.pre_tokenize_str(text)]
        assert reference.split(text, pattern) == pieces


def test_split_points_are_the_ends_of_the_references_pieces():
    rng = random.Random(1)
    for text in [*TEXTS, *fuzz(300)]:
        broken = bytearray(text.encode())
        for _ in range(rng.randint(0, 2) if broken else 0):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        for pattern in (OWN, PATTERNS["o200k"], r"\s*"):
            pieces = reference.split(bytes(broken), pattern)
            ends = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]
            assert split_points(bytes(broken), pattern).tolist() == ends


def test_tokenizer_json_gives_the_same_ids_in_hugging_faces_library(
    vocabulary: Vocabulary, tmp_path: Path
):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer_json(vocabulary))
    theirs = tokenizers.Tokenizer.from_file(str(path))
    for text in [*TEXTS, *fuzz(100), f"one{END_OF_TEXT}two<|pad|> <|endof"]:
        ids = reference.encode(text, vocabulary, vocabulary.special_tokens)
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == text
    again = tmp_path / "again.json"
    theirs.save(str(again))
    assert parse_tokenizer_json(again.read_bytes()) == vocabulary


def test_a_folder_opens_in_transformers_with_the_same_ids(vocabulary: Vocabulary, tmp_path: Path):
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    write_huggingface_folder(vocabulary, tmp_path)
    from_folder: Any = AutoTokenizer.from_pretrained(str(tmp_path))
    from_file: Any = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert from_folder.eos_token_id == vocabulary.special_tokens[END_OF_TEXT]
    for text in [*TEXTS, f"one{END_OF_TEXT}two , it 's"]:
        ids = reference.encode(text, vocabulary, vocabulary.special_tokens)
        assert from_folder(text)["input_ids"] == ids
        assert from_file(text)["input_ids"] == ids
        assert from_folder.decode(ids) == text


def test_a_rank_file_gives_the_same_ids_in_tiktoken(vocabulary: Vocabulary, tmp_path: Path):
    path = tmp_path / "x.tiktoken"
    write_tiktoken(vocabulary, path)
    special_tokens = dict.fromkeys(vocabulary.special_tokens)
    read = read_tiktoken(path, pattern=vocabulary.pattern, special_tokens=special_tokens)
    assert read == vocabulary
    if native_pattern(vocabulary.pattern) is None or not vocabulary.pattern:
        return  # tiktoken leaves out what a pattern does not match
    theirs = encoding_of(read, vocabulary.pattern)
    for text in [*TEXTS, *fuzz(100), f"one{END_OF_TEXT}two<|pad|>"]:
        ids = reference.encode(text, read, read.special_tokens)
        assert theirs.encode(text, allowed_special="all") == ids
        assert theirs.encode_ordinary(text) == reference.encode(text, read)


def test_a_file_in_the_style_of_llama_3_is_followed():
    """All ways to make a token listed as merges, tokens taken whole, and a cut of its own."""
    llama = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    plain = learned(llama)
    known = plain.ordinary_ids
    merges = [
        (known[token[:cut]], known[token[cut:]])
        for token in known
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]
    every_way = replace(plain, merges=tuple(merges))
    assert len(merges) > len(plain.merges)
    content = tokenizer_json(every_way).replace(b'"ignore_merges": false', b'"ignore_merges": true')
    read = parse_tokenizer_json(content)
    theirs = tokenizers.Tokenizer.from_str(content.decode())
    for text in [*TEXTS, *fuzz(200)]:
        ids = reference.encode(text, read)
        assert theirs.encode(text).ids == ids
        assert encoding_of(plain, llama).encode_ordinary(text) == ids


@pytest.mark.data
def test_gpt2_goes_through_a_rank_file_unchanged(data_folder: Path, tmp_path: Path):
    from modelwright.tokenizer.formats import read_vocab_and_merges

    folder = data_folder / "gpt2"
    gpt2 = read_vocab_and_merges(folder / "gpt2_vocab.json", folder / "gpt2_merges.txt")
    write_tiktoken(gpt2, tmp_path / "gpt2.tiktoken")
    special_tokens = {END_OF_TEXT: None}
    read = read_tiktoken(
        tmp_path / "gpt2.tiktoken", pattern=gpt2.pattern, special_tokens=special_tokens
    )
    assert read == gpt2
    theirs = encoding_of(read, openai_public.r50k_pat_str)
    for text in TEXTS:
        assert theirs.encode_ordinary(text) == reference.encode(text, gpt2)


@pytest.mark.data
def test_a_rank_file_whose_ranks_are_not_the_order_of_merges_is_refused(data_folder: Path):
    """GPT-NeoX moved its runs of spaces behind the other tokens after it had learned them."""
    path = data_folder / "gpt2" / "gpt_neox_20b.tiktoken"
    special_tokens = {END_OF_TEXT: 0, "<|padding|>": 1}
    with pytest.raises(ValueError, match="token b' {7}' of rank 467 .* not the order of merges"):
        read_tiktoken(path, pattern=PATTERNS["gpt2"], special_tokens=special_tokens)
