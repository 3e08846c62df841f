"""Text that comes in chunks, in files or on several threads has the ids and merges of the whole."""

import gzip
import random
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.tokenizer import reference, text_files
from modelwright.tokenizer.splitting import pattern_named
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.training import train_tokenizer
from modelwright.tokenizer.vocabulary import END_OF_TEXT

# One is the start of another, one holds a place where plain files are cut, one overlaps that one,
# and one is longer than what has to be seen after a piece to know where it ends.
LONG = "<|of many words, with spaces|>"
SPECIALS = ("<|a", "<|a|>", "ab c", "b cd", "中文", END_OF_TEXT, LONG)

PATTERN_NAMES = [
    (name, digits_apart)
    for name in ("gpt2", "cl100k", "llama3", "o200k")
    for digits_apart in (False, True)
]
each_pattern = pytest.mark.parametrize(
    ("name", "digits_apart"), PATTERN_NAMES, ids=[f"{n}{'-1' * d}" for n, d in PATTERN_NAMES]
)

VARIED = (
    "Once upon a time, there was a 'quoted' cat's meow; it WASN'T 3 o'clock, they'll see.\n\n"
    "\tdef f(x):\r\n\t\treturn x ** 2  # ² 1234567\r\n  HelloWorld HTTPServer's a//b/\n"
    "Grüße aus Köln! Здравствуй, мир. 今日は世界。中AAAAaa 中AAAA \u3000\u3000\u00a0x 안녕 १२३ Ⅳ½ 🙂🙃"
    "      ======= aaaaaaaaaaaaaaaaaaaaaaa AAAAAAAAAAAAAAAAAAAAAA e\u0301e\u0301 \x00\x07 ab cd ab"
)

TRICKY = "aZbAé中ΩǅʰſⅣ19²½ \t\r\n\u00a0\u2028\u3000'sdmtlvreLVE!/-_\u0301🙂\x00\x1c\x85"
characters = st.one_of(st.sampled_from(TRICKY), st.characters(codec="utf-8"))
runs = st.builds(
    lambda head, unit, n, tail: head + unit * n + tail,
    st.sampled_from(["", "", "中", "a", " ", "'"]),
    st.sampled_from(
        [" ", "\n", " \n", "\u3000", "\u00a0", "a", "A", "中", "中A", "ab ", "AAAA", "'", "é", "1"]
    ),
    st.integers(1, 90),
    st.sampled_from(["", "a", "中", "b's", " x", "\n", "!", "1", "'LL", "Aa", "\u0301"]),
)
parts = st.one_of(
    st.text(characters, max_size=12).map(str.encode),
    runs.map(str.encode),
    st.sampled_from(SPECIALS).map(str.encode),
    st.sampled_from(
        [
            b"<|",
            b"<|a|",
            b"ab ",
            b"b c",
            b"<|endof",
            LONG[:20].encode(),
            "中".encode()[:2],
            b"\xf0\x9f",
        ]
    ),
    st.binary(max_size=4),
)
streams = st.lists(parts, max_size=10).map(b"".join)


@cache
def trained(name: str, digits_apart: bool) -> Tokenizer:
    pattern = pattern_named(name, digits_apart=digits_apart)
    texts = [VARIED, VARIED.upper(), VARIED.swapcase()]
    return train_tokenizer(texts, vocab_size=500, special_tokens=SPECIALS, pattern=pattern)


def joined(arrays: list[np.ndarray]) -> list[int]:
    return [token_id for array in arrays for token_id in array.tolist()]


@each_pattern
@given(data=st.data(), text=streams)
@settings(max_examples=150, deadline=None)
def test_chunks_cut_anywhere_have_the_ids_of_the_whole(
    name: str, digits_apart: bool, data: st.DataObject, text: bytes
):
    tokenizer = trained(name, digits_apart)
    allowed = data.draw(st.sets(st.sampled_from(SPECIALS)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
    whole = tokenizer.encode(text, allowed_special=allowed).tolist()
    assert joined(list(tokenizer.encode_chunks(chunks, allowed_special=allowed))) == whole
    assert whole == reference.encode(text, tokenizer.vocabulary, allowed)


@each_pattern
@given(text=streams)
@settings(max_examples=60, deadline=None)
def test_single_bytes_have_the_ids_of_the_whole(name: str, digits_apart: bool, text: bytes):
    tokenizer = trained(name, digits_apart)
    for allowed in ((), SPECIALS):
        chunks = [text[i : i + 1] for i in range(len(text))]
        whole = tokenizer.encode(text, allowed_special=allowed).tolist()
        assert joined(list(tokenizer.encode_chunks(chunks, allowed_special=allowed))) == whole


@each_pattern
def test_long_texts_in_chunks_of_every_small_size_have_the_ids_of_the_whole(
    name: str, digits_apart: bool
):
    """Long enough that much of the text is given out before the end."""
    tokenizer = trained(name, digits_apart)
    text = (VARIED * 2 + " 中" + "A" * 300 + "a" + " " * 300 + "".join(SPECIALS) * 2 + "x").encode()
    whole = tokenizer.encode(text, allowed_special="all").tolist()
    for n_bytes in (*range(1, 40), 63, 64, 65, 127, 500):
        chunks = [text[i : i + n_bytes] for i in range(0, len(text), n_bytes)]
        given_out = list(tokenizer.encode_chunks(chunks, allowed_special="all"))
        assert joined(given_out) == whole
        assert len(given_out) > 3


def test_chunks_may_be_str():
    tokenizer = trained("o200k", False)
    whole = tokenizer.encode(VARIED).tolist()
    assert joined(list(tokenizer.encode_chunks(list(VARIED)))) == whole


# ---- files


def random_text(seed: int, n_parts: int) -> bytes:
    """Words, with all that the stories of this room leave out in between."""
    rng = random.Random(seed)
    odd = [*SPECIALS, VARIED[:90], "中AAAA", "AAAA", "   ", "\n\n", "\u3000", "\u00a0", "it's"]
    words = ["cat", "Sat", "on", "THE", "mat", "ab", "cd", "é", "123456", "b"]

    def part() -> bytes:
        if rng.random() < 0.03:
            return rng.randbytes(3)
        return (rng.choice(odd) if rng.random() < 0.1 else rng.choice(words)).encode()

    return b"".join(part() + rng.choice([b" ", b" ", b" ", b"\n", b""]) for _ in range(n_parts))


@pytest.fixture
def tiny_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_PART_BYTES", 50)
    monkeypatch.setattr(text_files, "_CHUNK_BYTES", 37)


def written(folder: Path, text: bytes) -> list[Path]:
    """The text in a plain file, in one of gzip, and in one of Zstandard with two frames."""
    half = len(text) // 2
    contents = {
        "text.txt": text,
        "text.txt.gz": gzip.compress(text),
        "text.txt.zst": zstandard.compress(text[:half]) + zstandard.compress(text[half:]),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


@each_pattern
@pytest.mark.usefixtures("tiny_parts")
def test_a_file_has_the_ids_of_its_text_whatever_its_kind_and_the_threads(
    name: str, digits_apart: bool, tmp_path: Path
):
    tokenizer = trained(name, digits_apart)
    for seed, n_parts in enumerate((0, 1, 3, 2000)):
        text = random_text(seed, n_parts)
        for allowed in ((), ("<|a", "<|a|>"), SPECIALS):
            whole = tokenizer.encode(text, allowed_special=allowed).tolist()
            for path in written(tmp_path, text):
                for n_threads in (1, 2, 4):
                    encoded = list(
                        tokenizer.encode_file(path, allowed_special=allowed, n_threads=n_threads)
                    )
                    assert joined(encoded) == whole
                    assert n_parts < 2000 or len(encoded) > 10


@each_pattern
@pytest.mark.usefixtures("tiny_parts")
def test_training_on_a_file_gives_the_tokenizer_of_its_text_byte_for_byte(
    name: str, digits_apart: bool, tmp_path: Path
):
    pattern = pattern_named(name, digits_apart=digits_apart)
    text = random_text(5, 1500)
    saved = tmp_path / "tokenizer.json"

    def result(source: object, **settings: Any) -> tuple[tuple, bytes]:
        tokenizer = train_tokenizer(
            source,  # type: ignore[arg-type]
            vocab_size=450,
            special_tokens=SPECIALS,
            pattern=pattern,
            **settings,
        )
        tokenizer.save(saved)
        return tokenizer.vocabulary.merges, saved.read_bytes()

    whole = result([text])
    assert len(whole[0]) > 100
    for path in written(tmp_path, text):
        for n_threads in (1, 2, 4):
            assert result(path, n_threads=n_threads) == whole
    # What follows a border or starts a file starts a document.
    texts = [random_text(seed, 400) for seed in (6, 7, 8)]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "1.txt").write_bytes(texts[0])
    (folder / "2.md.gz").write_bytes(gzip.compress(texts[1]))
    (folder / "3.text.zst").write_bytes(zstandard.compress(texts[2]))
    for n_threads in (1, 2, 4):
        assert result(folder, n_threads=n_threads) == result(texts)


def test_one_thread_and_several_give_the_same_from_parts_as_from_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The other tests' parts are tiny; that they are parts at all is what this shows."""
    path = tmp_path / "text.txt"
    path.write_bytes(random_text(9, 2000))
    monkeypatch.setattr(text_files, "_PART_BYTES", 1000)
    tokenizer = trained("gpt2", False)
    some = list(tokenizer.encode_file(path, n_threads=2))
    monkeypatch.setattr(text_files, "_PART_BYTES", 1 << 24)
    (whole,) = tokenizer.encode_file(path, n_threads=2)
    assert len(some) > 3
    assert joined(some) == whole.tolist()


# ---- many documents, offsets, decoding


@each_pattern
@given(documents=st.lists(st.one_of(streams, st.text(characters, max_size=20)), max_size=6))
@settings(max_examples=40, deadline=None)
def test_documents_are_encoded_alike_on_any_number_of_threads(
    name: str, digits_apart: bool, documents: list[str | bytes]
):
    tokenizer = trained(name, digits_apart)
    each = [tokenizer.encode(document).tolist() for document in documents]
    for n_threads in (1, 2, 4):
        ids, offsets = tokenizer.encode_documents(documents, n_threads=n_threads)
        assert ids.tolist() == [i for one in each for i in (*one, tokenizer.end_of_text)]
        assert offsets.tolist() == np.cumsum([0, *(len(one) + 1 for one in each)]).tolist()
        batch = tokenizer.encode_batch(documents, n_threads=n_threads)
        assert [one.tolist() for one in batch] == each


@each_pattern
def test_a_document_larger_than_a_slice_is_encoded_alike_on_any_number_of_threads(
    name: str, digits_apart: bool
):
    tokenizer = trained(name, digits_apart)
    unit = random_text(10, 3000)
    large = unit * ((9 << 20) // len(unit) + 1)  # slices of native/binding.cpp are smaller
    documents = [unit, large, b"", unit[:99], b"A" * (5 << 20), b"x"]
    whole = [tokenizer.encode(document) for document in documents]
    ids, offsets = tokenizer.encode_documents(documents, n_threads=1)
    for i, one in enumerate(whole):
        assert np.array_equal(ids[offsets[i] : offsets[i + 1] - 1], one)
    for n_threads in (2, 4):
        same_ids, same_offsets = tokenizer.encode_documents(documents, n_threads=n_threads)
        assert np.array_equal(same_ids, ids)
        assert np.array_equal(same_offsets, offsets)
    assert tokenizer.decode_bytes(whole[1]) == large


@cache
def theirs(name: str, digits_apart: bool) -> tokenizers.Tokenizer:
    from modelwright.tokenizer.formats import tokenizer_json

    content = tokenizer_json(trained(name, digits_apart).vocabulary)
    return tokenizers.Tokenizer.from_str(content.decode())


@each_pattern
@given(text=st.lists(st.one_of(st.text(characters, max_size=20), runs), max_size=4).map("".join))
@settings(max_examples=60, deadline=None)
def test_offsets_tell_where_each_token_stands(name: str, digits_apart: bool, text: str):
    tokenizer = trained(name, digits_apart)
    data = text.encode()
    ids, byte_offsets = tokenizer.encode_with_offsets(data)
    assert ids.tolist() == tokenizer.encode(text).tolist()
    assert b"".join(data[start:end] for start, end in byte_offsets) == data
    for token_id, (start, end) in zip(ids, byte_offsets, strict=True):
        assert data[start:end] == tokenizer.decode_bytes([token_id])
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert offsets.shape == (len(ids), 2)
    for token_id, (start, end) in zip(ids, offsets, strict=True):
        token = tokenizer.decode_bytes([token_id])
        assert token in text[start:end].encode()
        if (token_text := token.decode(errors="replace")).encode() == token:
            assert text[start:end] == token_text


@each_pattern
def test_offsets_are_those_of_hugging_faces_library(name: str, digits_apart: bool):
    rng = random.Random(11)
    texts = ["".join(rng.choices(TRICKY.replace("\x00", ""), k=30)) for _ in range(200)]
    for text in [VARIED, *texts]:
        if any(special in text for special in SPECIALS):
            text = text.replace("ab c", "").replace("b cd", "")
        encoding = theirs(name, digits_apart).encode(text)
        ids, offsets = trained(name, digits_apart).encode_with_offsets(text)
        assert encoding.ids == ids.tolist()
        assert encoding.offsets == [tuple(pair) for pair in offsets.tolist()]


@given(text=streams)
@settings(max_examples=60, deadline=None)
def test_ids_decode_alike_in_every_type_and_layout(text: bytes):
    tokenizer = trained("gpt2", False)
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == text
    assert tokenizer.decode_bytes(ids.tolist()) == text
    assert tokenizer.decode_bytes(tuple(map(int, ids))) == text
    for kind in "iu":
        for n_bytes in (2, 4, 8):
            for order in "<>":
                assert tokenizer.decode_bytes(ids.astype(f"{order}{kind}{n_bytes}")) == text
        small = ids[ids < 128]
        expected = tokenizer.decode_bytes(small)
        assert tokenizer.decode_bytes(small.astype(f"{kind}1")) == expected
    for name in ("intc", "longlong", "ulonglong", "long"):
        assert tokenizer.decode_bytes(ids.astype(name)) == text
    spread = np.zeros((len(ids), 3), np.int64)
    spread[:, 1] = ids
    assert tokenizer.decode_bytes(spread[:, 1]) == text
    assert tokenizer.decode_bytes(ids[::-1].copy()[::-1]) == text
    frozen = ids.copy()
    frozen.flags.writeable = False
    assert tokenizer.decode_bytes(frozen) == text
