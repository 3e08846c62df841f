import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from modelwright import _native
from modelwright.tokenizer import reference
from modelwright.tokenizer.tokenizer import END_OF_TEXT, Tokenizer, native_specials
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


def test_nothing_is_learned_from_the_text_of_a_special_token():
    assert learned_tokens(END_OF_TEXT * 3, n_merges=20) == []
    without = train_tokenizer([END_OF_TEXT * 3], vocab_size=280, special_tokens=()).vocabulary
    assert b"endoftext" in without.tokens


def test_a_special_token_is_a_border_as_the_end_of_a_document_is():
    joined = f"ab{END_OF_TEXT}cd  {END_OF_TEXT}{END_OF_TEXT}ab"
    assert learned_tokens(joined, n_merges=9) == learned_tokens("ab", "cd  ", "ab", n_merges=9)
    assert learned_tokens("abcd  ab", n_merges=9) != learned_tokens(joined, n_merges=9)


def test_a_word_may_be_a_special_token_and_is_then_never_learned():
    documents = ["the cat sat on the mat, other than that"] * 3
    tokenizer = train_tokenizer(documents, vocab_size=300, special_tokens=("the",))
    assert tokenizer.vocabulary.tokens.count(b"the") == 1
    assert not any(b"the" in token for token in tokenizer.vocabulary.tokens[:-1])
    assert tokenizer.special_tokens == {"the": tokenizer.n_vocab - 1}


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
    with pytest.raises(ValueError, match="source is a single text; put it in a list"):
        train_tokenizer("abc", vocab_size=300)


@pytest.mark.parametrize(
    ("special_tokens", "message"),
    [
        (("<a>", "<a>"), "special token '<a>' is listed twice"),
        (("a",), r"special token 'a' is a single byte, .* choose a longer one, such as '<\|endof"),
        (("",), "a special token is the empty string"),
    ],
)
def test_a_special_token_that_cannot_work_is_refused(special_tokens: tuple[str, ...], message: str):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(["abc"], vocab_size=300, special_tokens=special_tokens)


def test_progress_tells_both_phases_and_ends_with_everything_done():
    seen: list[TrainingProgress] = []
    train_tokenizer(["abcd", "é"], vocab_size=N_BASE + 3, on_progress=seen.append)
    assert all(progress.seconds >= 0 for progress in seen)
    whole = {"n_bytes": 6, "n_documents": 2, "n_merges_wanted": 3, "seconds": 0.0}
    assert [replace(progress, seconds=0.0) for progress in seen] == [
        TrainingProgress(phase="counting", n_merges=0, **whole),
        TrainingProgress(phase="merging", n_merges=3, **whole),
    ]


def test_the_rate_is_of_bytes_while_counting_and_of_merges_after_that():
    known = {"n_bytes": 600, "n_documents": 2, "n_merges_wanted": 3, "n_merges": 3}
    assert TrainingProgress(phase="counting", seconds=2.0, **known).rate == 300
    assert TrainingProgress(phase="merging", seconds=2.0, **known).rate == 1.5
    assert TrainingProgress(phase="merging", seconds=0.0, **known).rate == 0


def test_the_report_says_what_was_read_and_learned(tmp_path: Path):
    tokenizer = train_tokenizer(["ab ab", "cd"], vocab_size=N_BASE + 2, ties="smallest-ids")
    report = tokenizer.training
    assert report is not None
    counted = (report.n_bytes, report.n_pieces, report.n_merges, report.ties)
    assert counted == (7, 3, 2, "smallest-ids")
    assert report.peak_memory_bytes > 1 << 20
    tokenizer.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json").training is None


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
    counter = _native.PieceCounter("gpt2", False)
    with pytest.raises(KeyboardInterrupt), third_alarm_raises_keyboard_interrupt():
        counter.count(document, native_specials({}))


def test_encoding_one_long_document_can_be_interrupted():
    document = b"the cat sat on a mat " * 2_000_000
    tokenizer = train_tokenizer(["the cat"], vocab_size=260)
    with pytest.raises(KeyboardInterrupt), third_alarm_raises_keyboard_interrupt():
        tokenizer.encode(document)


def test_pairs_rarer_than_min_frequency_are_not_merged():
    def learned(min_frequency: int) -> list[bytes]:
        documents = ["ab ab ab cd cd ef"]
        tokenizer = train_tokenizer(documents, vocab_size=300, min_frequency=min_frequency)
        return list(tokenizer.vocabulary.tokens[256:-1])

    assert learned(4) == []
    assert learned(3) == [b"ab"]
    assert learned(2) == [b"ab", b"cd", b" cd", b" ab"]
    assert learned(0) == learned(1)
    assert b"ef" in learned(1)


def test_no_learned_token_is_longer_than_max_token_length():
    documents = ["abcdefgh abcdefgh aaaaaaaa"] * 3
    for longest in (1, 2, 3, 5, 8):
        tokenizer = train_tokenizer(documents, vocab_size=320, max_token_length=longest)
        tokens = tokenizer.vocabulary.tokens[256:-1]
        assert max(map(len, tokens), default=1) == longest
        pairs = reference.train(documents, 320 - N_BASE, max_token_length=longest)
        assert [left + right for left, right in pairs] == list(tokens)


@pytest.mark.parametrize("ties", ["lexicographic", "smallest-ids", "huggingface"])
def test_ties_names_the_rule_that_the_reference_follows(ties: reference.Ties):
    documents = ["ba ca ab \x00\x00 ~~ éé ac bb"]
    tokenizer = train_tokenizer(documents, vocab_size=N_BASE + 6, ties=ties)
    tokens = tokenizer.vocabulary.tokens
    merges = [(tokens[left], tokens[right]) for left, right in tokenizer.vocabulary.merges]
    assert merges == reference.train(documents, 6, ties=ties)


def test_max_pieces_bounds_the_pieces_and_forgets_the_rare_ones():
    rng = random.Random(0)
    letters = "bcdfghjklmnpqrstvwxz"
    documents = [
        "".join(f" {''.join(rng.choices(letters, k=8))}" for _ in range(300)) + " often always" * 20
        for _ in range(40)
    ]

    def train(max_pieces: int | None) -> Tokenizer:
        return train_tokenizer(documents, vocab_size=275, max_pieces=max_pieces, n_threads=4)

    bounded, whole = train(1000), train(None)
    assert bounded.training is not None
    assert whole.training is not None
    assert whole.training.n_pieces > 10_000
    assert bounded.training.n_pieces <= 1000
    assert bounded.training.n_bytes == whole.training.n_bytes
    assert bounded.training.n_threads == 1
    assert {b" often", b" always"} <= set(bounded.vocabulary.tokens)
    assert bounded.vocabulary != whole.vocabulary
    assert bounded.vocabulary == train(1000).vocabulary
    assert train(100_000).vocabulary == whole.vocabulary


def test_pruning_forgets_counts_below_the_least_and_keeps_the_others():
    counter = _native.PieceCounter("gpt2", False)
    counter.count("once twice, twice, often often often " + "long" * 9, native_specials({}))
    assert counter.n_distinct == 5
    counter.prune(2)  # ",", " twice" and " often" are left
    assert counter.n_distinct == 3
    counter.prune(3)
    assert counter.n_distinct == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ties": "random"}, "ties is 'random'; choose one of lexicographic, smallest-ids, hugg"),
        ({"min_frequency": -1}, "min_frequency is -1; the least is 0"),
        ({"max_token_length": 0}, "max_token_length is 0; the least is 1"),
        ({"n_threads": 0}, "n_threads is 0; the least is 1"),
        ({"max_pieces": 999}, "max_pieces is 999; the least is 1000"),
        ({"pattern": "("}, "the split pattern '\\(' is not a regular expression"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_before_the_text_is_read(
    settings: dict, message: str
):
    def documents() -> Iterator[str]:
        raise AssertionError("read")
        yield ""

    with pytest.raises(ValueError, match=message):
        train_tokenizer(documents(), vocab_size=300, **settings)


# ---- patterns that the compiled core does not know

OWN_PATTERNS = [r"\p{Lu}?\p{Ll}+|\d|[^\s\p{L}]+", r"\s*", r"(?=b)", "[aeiou]+"]
OWN_TEXTS = [
    "HelloWorld  the cat's 1234 ab c\n\nab c HelloWorld Grüße 世界 <|x|>the<|x|>>",
    b"\xff\xfe the \xe4\xb8 cat \x00 the",
    "",
    "aeiou bcb" * 30,
]


@pytest.mark.parametrize("pattern", OWN_PATTERNS)
def test_a_pattern_of_ones_own_gives_the_references_merges_and_ids(pattern: str, tmp_path: Path):
    special_tokens = ("<|x|>", "<|x|>>", "ab c")
    tokenizer = train_tokenizer(
        OWN_TEXTS, vocab_size=330, pattern=pattern, special_tokens=(*special_tokens, END_OF_TEXT)
    )
    vocabulary = tokenizer.vocabulary
    merges = [
        (vocabulary.tokens[left], vocabulary.tokens[right]) for left, right in vocabulary.merges
    ]
    assert len(merges) > 5
    expected = reference.train(
        OWN_TEXTS, len(merges), pattern=pattern, special_tokens=special_tokens
    )
    assert merges == expected
    path = tmp_path / "text.txt"
    for text in OWN_TEXTS:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        for allowed in ((), special_tokens):
            ids = reference.encode(text, vocabulary, allowed)
            assert tokenizer.encode(text, allowed_special=allowed).tolist() == ids
            from_file = tokenizer.encode_file(path, allowed_special=allowed, n_threads=2)
            assert [i for part in from_file for i in part.tolist()] == ids
    each = [reference.encode(text, vocabulary) for text in OWN_TEXTS]
    ids, offsets = tokenizer.encode_documents(OWN_TEXTS, n_threads=2)
    assert ids.tolist() == [i for one in each for i in (*one, tokenizer.end_of_text)]
    assert offsets.tolist()[-1] == len(ids)
    assert [one.tolist() for one in tokenizer.encode_batch(OWN_TEXTS)] == each


def test_a_pattern_of_ones_own_is_followed_in_files_as_in_documents(tmp_path: Path):
    texts = [f"the HelloWorld {i}{END_OF_TEXT}ab cd ab 世界{i}" for i in range(9)]
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_text(text)

    def train(source: list[str] | Path) -> Tokenizer:
        return train_tokenizer(source, vocab_size=300, pattern=OWN_PATTERNS[0])

    assert train(tmp_path).vocabulary == train(texts).vocabulary


def test_chunks_are_refused_with_a_pattern_of_ones_own():
    tokenizer = train_tokenizer(["abc"], vocab_size=258, pattern=OWN_PATTERNS[0])
    with pytest.raises(ValueError, match="pattern of your own, which needs whole texts; join the"):
        next(tokenizer.encode_chunks(["a", "b"]))
