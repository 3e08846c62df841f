"""The compiled tokenizer and its plain twin agree on anything, and nothing is lost in between."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.tokenizer import reference
from modelwright.tokenizer.splitting import pattern_named, split
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.training import train_tokenizer

# Characters that the split pattern treats specially, so that they meet often.
TRICKY = "aZé世ⅣΩ19²½ \t\n\u00a0\u2028\u3000'sdmtlvre!-_\u0301🙂\x00\x1c\x85"
texts = st.text(
    alphabet=st.one_of(st.sampled_from(TRICKY), st.characters(codec="utf-8")), max_size=60
)
broken_utf8 = st.lists(
    st.one_of(
        texts.map(str.encode),
        st.binary(max_size=5),
        st.sampled_from(
            [b"\xe2\x82", b"\xf0\x9f\x99", b"\xed\xa0\x80", b"\xc0\xa0", b"\xf4\x90\x80\x80"]
        ),
    ),
    max_size=6,
).map(b"".join)
documents = st.one_of(texts, broken_utf8)

# Few letters: ties, overlaps such as "aaa", and runs longer than the short way of merging takes.
repetitive = st.text(alphabet="ab ", max_size=40)
long_runs = st.one_of(
    st.text(alphabet="ab", min_size=60, max_size=200),
    st.builds(
        lambda unit, n: unit * n,
        st.text(alphabet="ab1", min_size=1, max_size=4),
        st.integers(1, 120),
    ),
)


def trained(documents: list, n_merges: int) -> Tokenizer:
    return train_tokenizer([*documents, "a"], vocab_size=257 + n_merges)


# Where o200k looks back, and all the patterns look ahead: runs of capitals, of caseless letters and
# of white space, and what may stand behind them.
words = st.lists(
    st.builds(
        lambda unit, n: unit * n,
        st.sampled_from(
            [
                "A",
                "a",
                "中",
                "中AAAA",
                "\u0301",
                "ʰ",
                "ǅ",
                "ſ",
                "é",
                "É",
                "K",
                "1",
                "½",
                "'",
                "'s",
                "'LL",
            ]
        )
        | st.sampled_from(["'\u017f", " ", "\u3000", "\u00a0", "\n", "\r\n", "/", "!"]),
        st.sampled_from([1, 1, 1, 2, 3, 4, 30, 70]),
    ),
    max_size=12,
).map("".join)


@pytest.mark.parametrize("digits_apart", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "cl100k", "llama3", "o200k"])
@given(document=st.one_of(documents, words))
@settings(max_examples=500, deadline=None)
def test_the_split_is_the_patterns(name: str, digits_apart: bool, document: str | bytes):
    pattern = pattern_named(name, digits_apart=digits_apart)
    assert split(document, pattern) == reference.split(document, pattern)


@given(
    st.lists(st.one_of(repetitive, documents, long_runs), max_size=8),
    st.integers(0, 40),
)
@settings(max_examples=200, deadline=None)
def test_the_learned_merges_are_the_references(corpus: list, n_merges: int):
    vocabulary = trained(corpus, n_merges).vocabulary
    merges = [
        (vocabulary.tokens[left], vocabulary.tokens[right]) for left, right in vocabulary.merges
    ]
    assert merges == reference.train([*corpus, "a"], n_merges)


@given(
    st.lists(st.one_of(repetitive, long_runs), min_size=1, max_size=6),
    st.one_of(documents, repetitive, long_runs),
)
@settings(max_examples=200, deadline=None)
def test_the_ids_are_the_references(corpus: list, document: str | bytes):
    tokenizer = trained([*corpus, document], 40)
    assert tokenizer.encode(document).tolist() == reference.encode(document, tokenizer.vocabulary)


@given(st.one_of(repetitive, long_runs), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_ids_are_the_references_for_merges_in_any_order(document: str, rng: random.Random):
    vocabulary = trained([document], 40).vocabulary
    merges = rng.sample(vocabulary.merges, len(vocabulary.merges))
    shuffled = replace(vocabulary, merges=tuple(merges))
    assert Tokenizer(shuffled).encode(document).tolist() == reference.encode(document, shuffled)


@given(
    st.text(alphabet="ab", min_size=4, max_size=12),
    st.integers(1, 80),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_the_ids_are_the_references_where_a_token_is_made_in_several_ways(
    unit: str, n: int, rng: random.Random
):
    """As in the file of Llama 3; the short way of merging and the long one, which starts at 129."""
    document = unit * n
    vocabulary = trained([document, "abab aabb bbaa abba"], 20).vocabulary
    ids = vocabulary.ordinary_ids
    every_way = [
        (ids[token[:cut]], ids[token[cut:]])
        for token in ids
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    rng.shuffle(every_way)
    shuffled = replace(vocabulary, merges=tuple(every_way))
    text = document[:300]
    assert Tokenizer(shuffled).encode(text).tolist() == reference.encode(text, shuffled)


@given(st.lists(st.one_of(documents, st.binary(max_size=200)), max_size=5))
@settings(deadline=None)
def test_every_byte_comes_back(corpus: list):
    tokenizer = trained(corpus, 50)
    ids, offsets = tokenizer.encode_documents(corpus, end_of_text=False)
    for document, start, stop in zip(corpus, offsets, offsets[1:], strict=False):
        data = document.encode() if isinstance(document, str) else document
        assert tokenizer.decode_bytes(ids[start:stop]) == data
        assert reference.decode(ids[start:stop].tolist(), tokenizer.vocabulary) == data


@given(documents)
@settings(deadline=None)
def test_the_streaming_decoder_agrees_with_the_whole_at_every_cut(document: str | bytes):
    tokenizer = trained([document], 5)
    ids = tokenizer.encode(document)
    for cut in range(len(ids) + 1):
        decoder = tokenizer.streaming_decoder()
        streamed = "".join(decoder.feed(int(token_id)) for token_id in ids[:cut])
        assert streamed + decoder.finish() == tokenizer.decode(ids[:cut])


@given(st.lists(st.sampled_from(["<|endoftext|>", "<|", "endoftext", "|>", " ", "a"]), max_size=8))
@settings(deadline=None)
def test_allowed_special_tokens_are_found_wherever_they_stand(parts: list[str]):
    text = "".join(parts)
    tokenizer = trained(["endoftext <||> endoftext"], 20)
    ids = tokenizer.encode(text, allowed_special=["<|endoftext|>"])
    assert np.count_nonzero(ids == tokenizer.end_of_text) == text.count("<|endoftext|>")
    assert tokenizer.decode(ids) == text
