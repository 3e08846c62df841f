"""The tokenizer gives what independent programs give: regex, Hugging Face's tokenizers, CS336."""

import json
import unicodedata
from importlib.metadata import metadata
from pathlib import Path

import pytest
import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from modelwright.tokenizer import reference
from modelwright.tokenizer.formats import read_vocab_and_merges
from modelwright.tokenizer.splitting import UNICODE_VERSION, split
from modelwright.tokenizer.tokenizer import END_OF_TEXT, Tokenizer
from modelwright.tokenizer.training import train_tokenizer

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


def test_every_code_point_is_cut_as_regex_cuts_it():
    # Each stands after a letter, a number, punctuation, a space, itself and a quote.
    for start in range(0, len(points := code_points_both_know()), 20_000):
        block = map(chr, points[start : start + 20_000])
        text = "".join(f"a{c}1{c}!{c} {c}{c}'{c}" for c in block)
        assert split(text) == reference.split(text)


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
