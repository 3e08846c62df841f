"""The tokenizer gives what independent programs give: regex, Hugging Face's tokenizers, CS336."""

import json
import unicodedata
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from modelwright.tokenizer import reference
from modelwright.tokenizer.formats import read_vocab_and_merges
from modelwright.tokenizer.splitting import PATTERNS, UNICODE_VERSION, split
from modelwright.tokenizer.tokenizer import END_OF_TEXT, Tokenizer
from modelwright.tokenizer.training import train_tokenizer
from modelwright.tokenizer.vocabulary import Vocabulary

VARIED_TEXT = [
    "Once upon a time, there was a 'quoted' cat's meow; it wasn't 3 o'clock, they'll see.",
    "  leading,   inner  and trailing spaces   ",
    "\n\n\tdef f(x):\r\n\t\treturn x ** 2  # ²\n",
    "Grüße aus Köln! ¿Qué tal? Здравствуй, мир. שלום עולם مرحبا بالعالم",
    "今日は世界。안녕하세요 세계 สวัสดี नमस्ते १२३",
    "🙂🙃👩‍👩‍👧‍👦 e\u0301 \u00a0\u2003\u3000 ﬁ Ⅳ ½ \x00\x07",
    "a" * 300 + " " * 90 + "=" * 120 + "ab" * 100,
    "",
]


def real_texts(data_folder: Path) -> list[str]:
    english = [
        (data_folder / name).read_bytes()[:400_000].decode(errors="ignore")
        for name in ("tinystories/tinystories_valid.txt", "english/train/peps.txt")
    ]
    lines = (data_folder / "unicode/udhr2.jsonl").read_text().splitlines()
    return [*english, *(json.loads(line)["text"][:2000] for line in lines)]


def code_points_both_know() -> list[int]:
    """Every code point; without those assigned lately, where regex has another edition of Unicode."""
    everything = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    description = metadata("regex").json["description"]
    if f"supports Unicode {UNICODE_VERSION}" in str(description):
        return everything
    return [point for point in everything if unicodedata.category(chr(point)) != "Cn"]


@pytest.mark.parametrize("name", ["gpt2", "cl100k", "llama3", "o200k"])
def test_every_code_point_is_cut_as_regex_cuts_it(name: str):
    # Each stands after a letter, a capital, a number, punctuation, a space, itself and a quote.
    for start in range(0, len(points := code_points_both_know()), 20_000):
        block = map(chr, points[start : start + 20_000])
        text = "".join(f"a{c}A{c}1{c}!{c} {c}{c}'{c}" for c in block)
        assert split(text, PATTERNS[name]) == reference.split(text, PATTERNS[name])


@pytest.fixture(scope="module")
def small_tokenizer() -> Tokenizer:
    return train_tokenizer(VARIED_TEXT, vocab_size=500, special_tokens=("<|pad|>", END_OF_TEXT))


def test_tokenizer_json_gives_the_same_ids_in_hugging_faces_library(
    small_tokenizer: Tokenizer, tmp_path: Path
):
    small_tokenizer.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.get_vocab_size() == small_tokenizer.n_vocab
    for text in [*VARIED_TEXT, f"one{END_OF_TEXT}two<|pad|> <|endof"]:
        ids = small_tokenizer.encode(text, allowed_special=small_tokenizer.special_tokens)
        assert theirs.encode(text).ids == ids.tolist()
        assert theirs.decode(ids.tolist(), skip_special_tokens=False) == text


def test_a_tokenizer_json_written_by_hugging_faces_library_is_read(
    small_tokenizer: Tokenizer, tmp_path: Path
):
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    small_tokenizer.save(ours)
    tokenizers.Tokenizer.from_file(str(ours)).save(str(theirs))
    assert theirs.read_bytes() != ours.read_bytes()
    assert Tokenizer.load(theirs).fingerprint == small_tokenizer.fingerprint


@pytest.mark.data
def test_training_reproduces_the_merges_of_cs336(data_folder: Path):
    """Their fixture was made by a trainer written independently, with the same rule for ties."""
    folder = data_folder / "gpt2" / "bpe_reference"
    theirs = read_vocab_and_merges(
        folder / "train-bpe-reference-vocab.json", folder / "train-bpe-reference-merges.txt"
    )
    ours = train_tokenizer([(folder / "corpus.en").read_bytes()], vocab_size=500).vocabulary
    assert ours.merges
    assert [(ours.tokens[left], ours.tokens[right]) for left, right in ours.merges] == [
        (theirs.tokens[left], theirs.tokens[right]) for left, right in theirs.merges
    ]
    assert sorted(ours.tokens) == sorted(theirs.tokens)


@pytest.mark.data
def test_gpt2s_files_give_the_ids_of_hugging_faces_library(data_folder: Path):
    vocab, merges = data_folder / "gpt2/gpt2_vocab.json", data_folder / "gpt2/gpt2_merges.txt"
    ours = Tokenizer(read_vocab_and_merges(vocab, merges))
    assert ours.n_vocab == 50257
    assert ours.end_of_text == 50256
    lines = merges.read_text().splitlines()
    pairs = [(left, right) for left, right in map(str.split, lines)]
    theirs = tokenizers.Tokenizer(BPE(json.loads(vocab.read_text()), pairs))
    theirs.pre_tokenizer = ByteLevel(add_prefix_space=False)  # type: ignore[misc]
    for text in [*VARIED_TEXT, *real_texts(data_folder)]:
        assert ours.encode(text).tolist() == theirs.encode(text).ids


def tiktokens(ours: Vocabulary, pattern: str) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        name="ours",
        pat_str=pattern,
        mergeable_ranks=dict(ours.ordinary_ids),
        special_tokens=dict(ours.special_tokens),
    )


# As tiktoken's own definitions spell the patterns, which is not how they stand in `PATTERNS`.
THEIR_DEFINITIONS = {"gpt2": "r50k_base", "cl100k": "cl100k_base", "o200k": "o200k_base"}


@pytest.fixture(scope="module", params=THEIR_DEFINITIONS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Tokenizer, tiktoken.Encoding]]:
    """A tokenizer trained here, and tiktoken with its ranks and with tiktoken's own pattern."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
        their_pattern = getattr(openai_public, THEIR_DEFINITIONS[request.param])()["pat_str"]
    texts = [*VARIED_TEXT, *(text.upper() for text in VARIED_TEXT)] * 2
    ours = train_tokenizer(
        texts,
        vocab_size=700,
        # None is the start of another: there tiktoken may miss the longer one.
        special_tokens=("<|a|>", "ab c", END_OF_TEXT),
        pattern=PATTERNS[request.param],
    )
    # tiktoken takes ids for ranks; in a vocabulary trained here they are in the order of the merges.
    yield ours, tiktokens(ours.vocabulary, their_pattern)


@given(
    st.lists(
        st.one_of(
            st.text(
                st.sampled_from("aZé中ǅ19² \t\r\n\u00a0\u3000'sdLlre!/\u0301🙂\x00\x85"),
                max_size=15,
            ),
            st.text(max_size=8),
            st.builds(
                lambda unit, n: unit * n,
                st.sampled_from(["a", "A", "中AA", " ", "\n", " \n", "=", "1", "\u3000"]),
                st.integers(1, 150),
            ),
            st.sampled_from(["<|a", "<|a|>", "ab c", END_OF_TEXT, "it's", "I'LL", *VARIED_TEXT]),
        ),
        max_size=6,
    ).map("".join)
)
@settings(max_examples=600, deadline=None)
def test_the_ids_of_any_text_are_tiktokens(pair: tuple[Tokenizer, tiktoken.Encoding], text: str):
    ours, theirs = pair
    assert ours.encode(text).tolist() == theirs.encode_ordinary(text)
    assert ours.encode(text.encode()).tolist() == theirs.encode_ordinary(text)
    for allowed in ({END_OF_TEXT}, {"<|a|>", "ab c"}):
        their_ids = theirs.encode(text, allowed_special=allowed, disallowed_special=())
        assert ours.encode(text, allowed_special=allowed).tolist() == their_ids


def gpt2s(data_folder: Path) -> Tokenizer:
    folder = data_folder / "gpt2"
    return Tokenizer(read_vocab_and_merges(folder / "gpt2_vocab.json", folder / "gpt2_merges.txt"))


def starts_of_files(data_folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file, of the large ones the start; not cut in the middle of a character."""
    for path in sorted(path for path in data_folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            data = file.read(3_000_000)
            while file.peek(1) and (file.peek(1)[0] & 0xC0) == 0x80:
                data += file.read(1)
        yield path, data


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.data
def test_gpt2s_ids_are_tiktokens_on_every_file_there_is(data_folder: Path):
    ours = gpt2s(data_folder)
    theirs = tiktokens(ours.vocabulary, openai_public.r50k_pat_str)
    n_files = 0
    for path, data in starts_of_files(data_folder):
        if not is_utf8(data):
            continue
        text = data.decode()
        ids = theirs.encode_to_numpy(text, disallowed_special=())
        assert np.array_equal(ours.encode(text), ids), path
        assert np.array_equal(ours.encode(data), ids), path
        assert ours.decode_bytes(ids) == data, path
        n_files += 1
    assert n_files > 30


@pytest.mark.data
def test_files_that_are_not_utf8_come_back_and_get_the_references_ids(data_folder: Path):
    """tiktoken takes only a str, which cannot hold them."""
    ours = gpt2s(data_folder)
    n_files = 0
    for path, data in starts_of_files(data_folder):
        if is_utf8(data):
            continue
        assert ours.decode_bytes(ours.encode(data)) == data, path
        start = data[:4000]
        assert ours.encode(start).tolist() == reference.encode(start, ours.vocabulary), path
        n_files += 1
    assert n_files > 10


@pytest.mark.data
def test_real_text_is_cut_as_regex_cuts_it(data_folder: Path):
    for text in real_texts(data_folder):
        assert split(text) == reference.split(text)
    for path in sorted((data_folder / "unicode").rglob("*.bin")):
        assert split(path.read_bytes()) == reference.split(path.read_bytes())


@pytest.mark.data
def test_training_on_real_text_is_the_references(data_folder: Path):
    text = (data_folder / "tinystories/tinystories_valid.txt").read_text()[:100_000]
    documents = text.split(END_OF_TEXT)
    vocabulary = train_tokenizer(documents, vocab_size=257 + 200).vocabulary
    merges = [
        (vocabulary.tokens[left], vocabulary.tokens[right]) for left, right in vocabulary.merges
    ]
    assert merges == reference.train(documents, 200)
