from dataclasses import replace

import numpy as np
import pytest

from modelwright.tokenizer import reference
from modelwright.tokenizer.inspection import (
    compression_by_size,
    corpus_cost,
    first_merges,
    inspect_tokenizer,
    measure_compression,
    parse_size,
    pattern_name,
    sample_documents,
    shown,
)
from modelwright.tokenizer.splitting import PATTERNS, pattern_named
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.training import train_tokenizer
from modelwright.tokenizer.vocabulary import END_OF_TEXT

DOCUMENTS = [b"the cat sat on the mat", b"the mat", b"", b"thethethe cat"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(DOCUMENTS, vocab_size=257 + 9)


def test_an_inspection_counts_what_is_in_the_vocabulary(tokenizer: Tokenizer):
    seen = inspect_tokenizer(tokenizer)
    ordinary = tokenizer.vocabulary.ordinary_ids
    assert seen.n_tokens == 266
    assert seen.special_tokens == {END_OF_TEXT: 265}
    assert seen.pattern_name == "gpt2"
    assert seen.fingerprint == tokenizer.fingerprint
    assert sum(seen.n_tokens_by_length.values()) == len(ordinary) == 265
    assert seen.n_tokens_by_length[1] == 256
    assert len(seen.longest_tokens[0][1]) == max(map(len, ordinary))
    assert all(ordinary[token] == token_id for token_id, token in seen.longest_tokens)
    assert seen.sample is None


def test_the_special_token_is_not_among_the_longest(tokenizer: Tokenizer):
    longest = [token for _, token in inspect_tokenizer(tokenizer).longest_tokens]
    assert END_OF_TEXT.encode() not in longest


def test_compression_is_bytes_over_tokens(tokenizer: Tokenizer):
    documents = [document for document in DOCUMENTS if document]
    counts = [len(reference.encode(document, tokenizer.vocabulary)) for document in documents]
    ratios = [len(document) / n for document, n in zip(documents, counts, strict=True)]
    found = measure_compression(tokenizer, DOCUMENTS)
    assert (found.n_documents, found.n_bytes) == (3, sum(map(len, documents)))
    assert found.n_tokens == sum(counts)
    assert found.bytes_per_token == sum(map(len, documents)) / sum(counts)
    assert found.mean_bytes_per_token == pytest.approx(np.mean(ratios))
    assert found.interval is not None
    half = 1.96 * np.std(ratios, ddof=1) / np.sqrt(3)
    assert found.interval == pytest.approx((np.mean(ratios) - half, np.mean(ratios) + half))


def test_one_document_gives_no_interval_and_no_text_is_an_error(tokenizer: Tokenizer):
    assert measure_compression(tokenizer, [b"the cat"]).interval is None
    with pytest.raises(ValueError, match="there is no text to encode"):
        measure_compression(tokenizer, [b""])


def test_the_cost_of_a_corpus_is_arithmetic():
    cost = corpus_cost(
        825 * 10**9, bytes_per_second=12.86e6, bytes_per_token=5.5, id_dtype=np.dtype(np.uint16)
    )
    assert cost.hours == pytest.approx(17.8, abs=0.05)
    assert cost.bytes_on_disk == 300 * 10**9
    assert cost.id_type == "uint16"
    wide = corpus_cost(100, bytes_per_second=1, bytes_per_token=4, id_dtype=np.dtype(np.uint32))
    assert (wide.bytes_on_disk, wide.id_type, wide.hours) == (100, "uint32", 100 / 3600)


def test_an_inspection_of_a_sample_measures_it(tokenizer: Tokenizer):
    seen = inspect_tokenizer(tokenizer, DOCUMENTS, corpus_bytes=10**9, with_curve=True).sample
    assert seen is not None
    assert seen.compression == measure_compression(tokenizer, DOCUMENTS)
    assert seen.corpus is not None
    assert seen.corpus.hours == pytest.approx(10**9 / seen.bytes_per_second / 3600)
    assert seen.bytes_per_token_by_size[256] == 1
    plain = inspect_tokenizer(tokenizer, DOCUMENTS).sample
    assert plain is not None
    assert plain.corpus is None
    assert not plain.bytes_per_token_by_size


def test_a_corpus_without_a_sample_is_refused(tokenizer: Tokenizer):
    with pytest.raises(ValueError, match="follows from encoding a sample .* with --text"):
        inspect_tokenizer(tokenizer, corpus_bytes=10)


def test_the_curve_rises_to_the_whole_vocabularys_compression(tokenizer: Tokenizer):
    curve = compression_by_size(tokenizer, DOCUMENTS)
    assert list(curve) == sorted(curve)
    assert list(curve.values()) == sorted(curve.values())
    assert max(curve) == tokenizer.n_vocab - 1  # without the special token
    assert curve[max(curve)] == measure_compression(tokenizer, DOCUMENTS).bytes_per_token


def test_the_first_merges_are_those_of_a_smaller_training(tokenizer: Tokenizer):
    smaller = train_tokenizer(DOCUMENTS, vocab_size=256 + 4, special_tokens=()).vocabulary
    assert first_merges(tokenizer.vocabulary, 4) == smaller
    cut = replace(tokenizer.vocabulary, pattern=PATTERNS["o200k"])
    assert first_merges(cut, 4).pattern == cut.pattern


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("825GB", 825 * 10**9),
        ("825 GB", 825 * 10**9),
        ("10GiB", 10 * 2**30),
        ("1.5 kb", 1500),
        ("2K", 2000),
        ("1e12", 10**12),
        ("17", 17),
        ("3 TiB", 3 * 2**40),
        ("12 b", 12),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, n_bytes: int):
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 GX", "0", "1e99999", "nan", "1,5GB"])
def test_what_is_no_size_is_refused_with_examples(text: str):
    with pytest.raises(ValueError, match=f"the size '{text}' is not .* as 825GB, 10GiB or 1e12"):
        parse_size(text)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (b" the", "␣the"),
        (b"\n\t", r"\n\t"),
        ("é世🙂".encode(), "é世🙂"),
        (b"\xf0\x9f", r"\xf0\x9f"),
        (b"a\xffb", r"a\xffb"),
        (b"'\"\\", "'\"\\"),
        ("\u200b".encode(), r"\u200b"),
    ],
)
def test_tokens_are_shown_so_that_a_person_can_read_them(token: bytes, text: str):
    assert shown(token) == text


def test_patterns_have_names():
    assert pattern_name(PATTERNS["none"]) == "none"
    assert pattern_name(pattern_named("o200k", digits_apart=True)) == "o200k, digits apart"
    assert pattern_name(r"\d") == r"its own: \d"


def test_a_sample_has_the_size_asked_for_and_every_document_a_chance():
    documents = [b"%d" % number for number in range(50)]
    assert sample_documents(documents, 50) == documents
    assert sample_documents(documents, 99) == documents
    drawn = [sample_documents(documents, 10, seed=seed) for seed in range(300)]
    assert all(len(set(sample)) == 10 for sample in drawn)
    assert all(sample == sorted(sample, key=int) for sample in drawn)
    times = [sum(document in sample for sample in drawn) for document in documents]
    # 60 expected, with a standard deviation of 7.
    assert min(times) > 25
    assert max(times) < 95
    assert sample_documents(documents, 10, seed=1) == drawn[1]
    with pytest.raises(ValueError, match="to have 0 documents; choose 1 or more"):
        sample_documents(documents, 0)
