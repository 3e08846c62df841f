import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modelwright import _native
from modelwright.tokenizer.tokenizer import END_OF_TEXT
from modelwright.tokenizer.training import TrainingProgress, train_tokenizer

N_BASE = 257  # byte values and end of text


def learned_tokens(*documents: str | bytes, n_merges: int) -> list[bytes]:
    vocabulary = train_tokenizer(documents, vocab_size=N_BASE + n_merges).vocabulary
    return list(vocabulary.tokens[256:-1])


def test_ids_are_bytes_then_merges_then_special_tokens():
    tokenizer = train_tokenizer(["abab"], vocab_size=260, special_tokens=("<pad>", END_OF_TEXT))
    assert tokenizer.vocabulary.tokens[:256] == tuple(bytes([value]) for value in range(256))
    assert tokenizer.vocabulary.tokens[256:] == (b"ab", b"abab", b"<pad>", END_OF_TEXT.encode())
    assert tokenizer.special_tokens == {"<pad>": 258, END_OF_TEXT: 259}


def test_the_commonest_pair_is_merged_first():
    assert learned_tokens("xy ab ab", n_merges=1) == [b"ab"]


def test_pieces_count_as_often_as_they_occur_over_all_documents():
    assert learned_tokens("ab", "cd", b"ab", n_merges=1) == [b"ab"]


def test_of_equally_common_pairs_the_greatest_bytes_are_merged():
    assert learned_tokens("ab cd", n_merges=1) == [b"cd"]
    assert learned_tokens("ba bc", n_merges=1) == [b"bc"]
    # Compared as byte strings, not as ids: "zz" has a higher id than any byte, yet "é" beats it.
    assert learned_tokens("zzzz zzzz é", n_merges=2)[0] == b"zz"
    assert learned_tokens("zzz.zzz.zzz.é-é-é", n_merges=2) == [b"zz", b"\xc3\xa9"]


def test_no_merge_crosses_a_piece_or_a_document():
    assert learned_tokens("a1", "a1", n_merges=5) == []
    assert learned_tokens("a", "b", "a", "b", n_merges=5) == []


def test_overlapping_pairs_are_merged_from_the_left():
    assert learned_tokens("aaa", n_merges=2) == [b"aa", b"aaa"]
    tokenizer = train_tokenizer(["aaa"], vocab_size=N_BASE + 1)
    assert tokenizer.encode("aaa").tolist() == [256, ord("a")]


def test_the_vocabulary_is_smaller_when_the_text_runs_out_of_pairs():
    assert train_tokenizer(["abc"], vocab_size=1000).n_vocab == N_BASE + 2


def test_the_text_of_a_special_token_is_ordinary_text():
    tokens = learned_tokens(END_OF_TEXT * 3, n_merges=20)
    assert b"endoftext" in tokens
    assert not any(b"<|e" in token for token in tokens)


@pytest.mark.parametrize("n_special", [1, 2])
def test_a_vocabulary_too_small_names_the_smallest_that_works(n_special: int):
    special_tokens = ("<|a|>", "<|b|>")[:n_special]
    smallest = 256 + n_special
    message = rf"tokenizer\.vocab_size is {smallest - 1}, .* need at least {smallest}$"
    with pytest.raises(ValueError, match=message):
        train_tokenizer(["abc"], vocab_size=smallest - 1, special_tokens=special_tokens)
    tokenizer = train_tokenizer(["abc"], vocab_size=smallest, special_tokens=special_tokens)
    assert tokenizer.n_vocab == smallest


def test_no_text_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="there are no documents to train a tokenizer on"):
        train_tokenizer([], vocab_size=300)
    with pytest.raises(ValueError, match=r"there is no text .*: 2 empty documents"):
        train_tokenizer(["", b""], vocab_size=300)


def test_a_single_text_is_not_taken_for_a_list_of_characters():
    with pytest.raises(ValueError, match="documents is a single text; put it in a list"):
        train_tokenizer("abc", vocab_size=300)


@pytest.mark.parametrize(
    ("special_tokens", "message"),
    [
        (("<a>", "<a>"), "special token '<a>' is listed twice"),
        (("the",), "special token 'the' is a single piece of text"),
        (("",), "a special token is the empty string"),
    ],
)
def test_a_special_token_that_cannot_work_is_refused(special_tokens: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(["abc"], vocab_size=300, special_tokens=special_tokens)


def test_progress_tells_both_phases_and_ends_with_everything_done():
    seen: list[TrainingProgress] = []
    train_tokenizer(["abcd", "é"], vocab_size=N_BASE + 3, on_progress=seen.append)
    whole = {"n_bytes": 6, "n_documents": 2, "n_merges_wanted": 3}
    assert seen == [
        TrainingProgress(phase="counting", n_merges=0, **whole),
        TrainingProgress(phase="merging", n_merges=3, **whole),
    ]


@contextmanager
def third_alarm_raises_keyboard_interrupt() -> Iterator[None]:
    """Ring every few milliseconds. A call that looks for signals only when it ends hears one ring."""
    n_heard = 0

    def on_alarm(*_: object) -> None:
        nonlocal n_heard
        n_heard += 1
        if n_heard == 3:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_counting_one_long_document_can_be_interrupted():
    document = b"the cat sat on a mat " * 2_000_000
    counter = _native.PieceCounter()
    with pytest.raises(KeyboardInterrupt), third_alarm_raises_keyboard_interrupt():
        counter.count(document)


def test_encoding_one_long_document_can_be_interrupted():
    document = b"the cat sat on a mat " * 2_000_000
    tokenizer = train_tokenizer(["the cat"], vocab_size=260)
    with pytest.raises(KeyboardInterrupt), third_alarm_raises_keyboard_interrupt():
        tokenizer.encode(document)
