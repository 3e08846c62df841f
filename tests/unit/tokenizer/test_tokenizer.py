import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from modelwright.tokenizer.tokenizer import END_OF_TEXT, Ids, Tokenizer
from modelwright.tokenizer.training import train_tokenizer
from modelwright.tokenizer.vocabulary import Vocabulary

BYTES = tuple(bytes([value]) for value in range(256))
TEXT = "Once upon a time, a cat said: “Grüße, 世界 🙂!” It wasn't 3 o'clock.\n\n"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([TEXT * 3], vocab_size=300, special_tokens=("<|pad|>", END_OF_TEXT))


def tokenizer_with(n_vocab: int) -> Tokenizer:
    extra = tuple(b"token %d" % i for i in range(n_vocab - 257))
    tokens = (*BYTES, *extra, END_OF_TEXT.encode())
    return Tokenizer(Vocabulary(tokens, (), {END_OF_TEXT: n_vocab - 1}))


def test_decoding_undoes_encoding(tokenizer: Tokenizer):
    ids = tokenizer.encode(TEXT)
    assert len(ids) < len(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.decode_bytes(ids.tolist()) == TEXT.encode()


def test_no_text_has_no_ids_and_no_ids_have_no_text(tokenizer: Tokenizer):
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.encode("").dtype == tokenizer.id_dtype
    assert tokenizer.encode("", allowed_special=[END_OF_TEXT]).dtype == tokenizer.id_dtype
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode(tokenizer.encode("")) == ""


@pytest.mark.parametrize(("n_vocab", "dtype"), [(65536, np.uint16), (65537, np.uint32)])
def test_ids_take_two_bytes_as_long_as_they_fit(n_vocab: int, dtype: type):
    tokenizer = tokenizer_with(n_vocab)
    ids, _ = tokenizer.encode_documents(["a"])
    assert tokenizer.id_dtype == ids.dtype == dtype
    assert ids.tolist() == [ord("a"), n_vocab - 1]
    assert tokenizer.decode(ids) == "a" + END_OF_TEXT


def test_documents_are_concatenated_with_offsets(tokenizer: Tokenizer):
    documents = ["a time", "", b"a cat \xff", TEXT]
    ids, offsets = tokenizer.encode_documents(documents)
    assert offsets.dtype == np.int64
    assert offsets[0] == 0
    assert offsets[-1] == len(ids)
    for document, start, stop in zip(documents, offsets, offsets[1:], strict=False):
        assert ids[start:stop].tolist() == [*tokenizer.encode(document), tokenizer.end_of_text]


def test_end_of_text_is_left_out_when_not_wanted(tokenizer: Tokenizer):
    ids, offsets = tokenizer.encode_documents(["a time", "", "a cat"], end_of_text=False)
    parts = [tokenizer.encode("a time"), tokenizer.encode("a cat")]
    assert np.array_equal(ids, np.concatenate(parts))
    assert offsets.tolist() == [0, len(parts[0]), len(parts[0]), len(ids)]


def test_no_documents_have_no_ids(tokenizer: Tokenizer):
    ids, offsets = tokenizer.encode_documents([])
    assert ids.size == 0
    assert offsets.tolist() == [0]


def test_a_long_document_is_cut_into_slices_without_a_trace(tokenizer: Tokenizer):
    document = TEXT * 100_000  # more than one slice of native/binding.cpp
    ids, offsets = tokenizer.encode_documents(["a", document, "b"])
    assert offsets[1:3].tolist() == [2, len(ids) - 2]
    assert tokenizer.decode(ids[2:-3]) == document


def test_literal_special_tokens_are_plain_text_unless_allowed(tokenizer: Tokenizer):
    text = f"a{END_OF_TEXT}b<|pad|>"
    plain = tokenizer.encode(text)
    assert not set(plain.tolist()) & set(tokenizer.special_tokens.values())
    assert tokenizer.decode(plain) == text
    ids = tokenizer.encode(text, allowed_special=[END_OF_TEXT])
    rest = tokenizer.encode("b<|pad|>").tolist()
    assert ids.tolist() == [ord("a"), tokenizer.end_of_text, *rest]
    both = tokenizer.encode(text.encode(), allowed_special=tokenizer.special_tokens)
    assert both.tolist() == [
        ord("a"),
        tokenizer.end_of_text,
        ord("b"),
        tokenizer.special_tokens["<|pad|>"],
    ]
    assert both.dtype == tokenizer.id_dtype


def test_documents_cannot_end_themselves(tokenizer: Tokenizer):
    ids, _ = tokenizer.encode_documents([f"a{END_OF_TEXT}b"])
    assert (ids == tokenizer.end_of_text).sum() == 1


def test_of_overlapping_special_tokens_the_longest_is_taken():
    tokens = (*BYTES, b"<|a", b"<|a|>")
    tokenizer = Tokenizer(Vocabulary(tokens, (), {"<|a": 256, "<|a|>": 257}))
    ids = tokenizer.encode("<|a|><|a", allowed_special=["<|a", "<|a|>"])
    assert ids.tolist() == [257, 256]


def test_an_unknown_special_token_is_refused(tokenizer: Tokenizer):
    with pytest.raises(ValueError, match=r"lists '<s>', .* it has: <\|pad\|>, <\|endoftext\|>"):
        tokenizer.encode("a", allowed_special=["<s>"])


def test_all_special_tokens_can_be_allowed_at_once(tokenizer: Tokenizer):
    text = f"a{END_OF_TEXT}b<|pad|>"
    ids = tokenizer.encode(text, allowed_special="all")
    assert np.array_equal(ids, tokenizer.encode(text, allowed_special=[END_OF_TEXT, "<|pad|>"]))
    assert np.count_nonzero(np.isin(ids, list(tokenizer.special_tokens.values()))) == 2


def test_a_name_by_itself_is_taken_for_a_list_of_one(tokenizer: Tokenizer):
    ids = tokenizer.encode(f"a{END_OF_TEXT}", allowed_special=END_OF_TEXT)
    assert ids.tolist() == [ord("a"), tokenizer.end_of_text]


def test_a_disallowed_special_token_in_the_text_is_refused_with_its_place(tokenizer: Tokenizer):
    text = f"é{END_OF_TEXT}"
    message = r"holds the special token '<\|endoftext\|>', at byte 2, .* allowed_special to make"
    for disallowed in ([END_OF_TEXT], "all", END_OF_TEXT):
        with pytest.raises(ValueError, match=message):
            tokenizer.encode(text, disallowed_special=disallowed)
        with pytest.raises(ValueError, match=message):
            tokenizer.encode(text.encode(), disallowed_special=disallowed)
    plain = tokenizer.encode(text)
    assert np.array_equal(tokenizer.encode(text, disallowed_special=["<|pad|>"]), plain)
    # What is allowed is not disallowed, as in tiktoken.
    ids = tokenizer.encode(text, allowed_special=[END_OF_TEXT], disallowed_special="all")
    assert ids.tolist()[-1] == tokenizer.end_of_text
    with pytest.raises(ValueError, match="at byte 0"):
        tokenizer.encode("<|pad|>", allowed_special=[END_OF_TEXT], disallowed_special="all")


def test_an_unknown_token_is_refused_wherever_special_tokens_are_named(
    tokenizer: Tokenizer, tmp_path: Path
):
    path = tmp_path / "a.txt"
    path.write_text("a")
    with pytest.raises(ValueError, match="disallowed_special lists '<s>', which is no special"):
        tokenizer.encode("a", disallowed_special=["<s>"])
    with pytest.raises(ValueError, match="allowed_special lists '<s>'"):
        next(tokenizer.encode_chunks(["a"], allowed_special=["<s>"]))
    with pytest.raises(ValueError, match="allowed_special lists '<s>'"):
        next(tokenizer.encode_file(path, allowed_special=["<s>"]))


def test_fewer_than_one_thread_is_refused(tokenizer: Tokenizer):
    with pytest.raises(ValueError, match="n_threads is 0; the least is 1"):
        tokenizer.encode_documents(["a"], n_threads=0)


def test_a_vocabulary_without_end_of_text_says_so():
    tokenizer = Tokenizer(Vocabulary((*BYTES, b"<pad>"), (), {"<pad>": 256}))
    with pytest.raises(ValueError, match=r"no <\|endoftext\|> token .* are: <pad>"):
        _ = tokenizer.end_of_text
    with pytest.raises(ValueError, match=r"no <\|endoftext\|> token"):
        tokenizer.encode_documents(["a"])
    assert tokenizer.encode_documents(["a"], end_of_text=False)[0].tolist() == [ord("a")]


def test_a_single_text_is_not_taken_for_a_list_of_documents(tokenizer: Tokenizer):
    with pytest.raises(ValueError, match="documents is a single text"):
        tokenizer.encode_documents("abc")


def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer):
    with pytest.raises(ValueError, match="surrogates not allowed"):
        tokenizer.encode("a\ud800")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2, 300], "id 300 at position 2 is outside the vocabulary, whose ids are 0 to 299"),
        ([-1], "id -1 at position 0 is outside the vocabulary"),
        ([2**40], "id 1099511627776 at position 0 is outside the vocabulary"),
        ([1.5], "ids have the type float64"),
        ([2**80], "ids have the type object"),
        ([[1, 2], [3, 4]], r"ids have the shape \(2, 2\); decode one sequence at a time"),
    ],
)
def test_ids_that_stand_for_nothing_are_refused(tokenizer: Tokenizer, ids: list, message: str):
    assert tokenizer.n_vocab == 300
    with pytest.raises(ValueError, match=message):
        tokenizer.decode_bytes(ids)


def test_errors_says_what_becomes_of_bytes_that_are_not_utf8(tokenizer: Tokenizer):
    assert tokenizer.decode([0xE2, 0x82]) == "\N{REPLACEMENT CHARACTER}"
    assert tokenizer.decode([0xE2, 0x82], errors="ignore") == ""
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode([0xE2, 0x82], errors="strict")


def test_the_streaming_decoder_holds_back_half_a_character(tokenizer: Tokenizer):
    decoder = tokenizer.streaming_decoder()
    assert [decoder.feed(value) for value in "a€".encode()] == ["a", "", "", "€"]
    assert decoder.finish() == ""
    assert decoder.feed(0xE2) == ""
    assert decoder.finish() == "\N{REPLACEMENT CHARACTER}"


def test_a_saved_tokenizer_is_the_same_when_loaded(tokenizer: Tokenizer, tmp_path: Path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.fingerprint == tokenizer.fingerprint
    assert np.array_equal(loaded.encode(TEXT), tokenizer.encode(TEXT))


def test_a_missing_file_is_named(tmp_path: Path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"there is no tokenizer file at {path}"):
            Tokenizer.load(path)


def test_the_name_of_a_garbage_file_is_in_the_message(tmp_path: Path):
    path = tmp_path / "garbage.json"
    path.write_bytes(b"\x00garbage")
    with pytest.raises(ValueError, match=f"{path}: this is not JSON"):
        Tokenizer.load(path)


def distinct_words(n_words: int, first: int = 0) -> str:
    """Words of letters alone, so that each is one piece."""
    digits_to_letters = str.maketrans("0123456789", "ghijklmnop")
    words = " ".join(f"{number:x}" for number in range(first, first + n_words))
    return words.translate(digits_to_letters)


def test_the_ids_of_a_text_do_not_depend_on_what_was_encoded_before(tokenizer: Tokenizer):
    # More distinct pieces than the cache holds, so it is emptied on the way.
    used = Tokenizer(tokenizer.vocabulary)
    for text in (TEXT, distinct_words(300_000), TEXT):
        assert np.array_equal(used.encode(text), Tokenizer(tokenizer.vocabulary).encode(text))


def test_threads_can_share_a_tokenizer(tokenizer: Tokenizer):
    shared = Tokenizer(tokenizer.vocabulary)
    texts = [distinct_words(60_000, first=60_000 * i) for i in range(4)]
    start = threading.Barrier(len(texts))

    def work(text: str) -> Ids:
        start.wait()
        return shared.encode(text)

    with ThreadPoolExecutor(len(texts)) as pool:
        for text, ids in zip(texts, pool.map(work, texts), strict=True):
            assert np.array_equal(ids, Tokenizer(tokenizer.vocabulary).encode(text))


@pytest.mark.parametrize("unit", ["a", "ab", " ", "世"])
def test_the_time_for_one_long_run_grows_in_proportion(unit: str):
    vocabulary = train_tokenizer([unit * 1000], vocab_size=270).vocabulary

    def seconds(n_bytes: int) -> float:
        text = unit * (n_bytes // len(unit.encode()))
        times = []
        for _ in range(3):
            tokenizer = Tokenizer(vocabulary)  # with an empty cache
            start = time.perf_counter()
            tokenizer.encode(text)
            times.append(time.perf_counter() - start)
        return min(times)

    # Sixteen times the text takes about sixteen times as long; 256 times if it were quadratic.
    assert seconds(200_000) < 64 * seconds(12_500)


def test_importing_the_room_does_not_import_torch():
    code = "import sys, modelwright.tokenizer.training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
