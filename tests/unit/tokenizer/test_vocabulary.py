import time
from dataclasses import replace

import pytest

from modelwright.tokenizer.splitting import PATTERNS
from modelwright.tokenizer.vocabulary import END_OF_TEXT, Vocabulary, unused_tokens

BYTES = tuple(bytes([value]) for value in range(256))
A, B = ord("a"), ord("b")


def small_vocabulary() -> Vocabulary:
    """The bytes, "ab", "ba" and one special token."""
    return Vocabulary(
        tokens=(*BYTES, b"ab", b"ba", END_OF_TEXT.encode()),
        merges=((A, B), (B, A)),
        special_tokens={END_OF_TEXT: 258},
    )


def test_special_tokens_come_in_the_order_of_their_ids():
    vocabulary = Vocabulary(
        tokens=(*BYTES, b"<a>", b"<b>"), merges=(), special_tokens={"<b>": 257, "<a>": 256}
    )
    assert list(vocabulary.special_tokens) == ["<a>", "<b>"]


def test_the_same_content_has_the_same_fingerprint():
    assert small_vocabulary().fingerprint == small_vocabulary().fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        replace(small_vocabulary(), merges=((B, A), (A, B))),
        replace(small_vocabulary(), merges=((A, B),)),
        replace(small_vocabulary(), tokens=(*BYTES, b"ba", b"ab", END_OF_TEXT.encode())),
        replace(small_vocabulary(), special_tokens={}),
        replace(small_vocabulary(), tokens=(*small_vocabulary().tokens, b"unused")),
        replace(small_vocabulary(), pattern=PATTERNS["o200k"]),
    ],
    ids=["merge order", "merges", "token order", "special tokens", "tokens", "pattern"],
)
def test_every_part_changes_the_fingerprint(changed: Vocabulary):
    assert changed.fingerprint != small_vocabulary().fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": (*BYTES[:-1], b"ff")}, "no token stands for the byte 0xff"),
        ({"tokens": (*BYTES, b"ab", b"ab")}, "ids 256 and 257 are both the token b'ab'"),
        ({"merges": ((A, 256),)}, "merge 0 joins id 256, which is no ordinary token"),
        ({"merges": ((A, -1),)}, "merge 0 joins id -1, which is no ordinary token"),
        ({"merges": ((A, B),)}, "merge 0 makes b'ab', which is not in the vocabulary"),
        (
            {"tokens": (*BYTES, b"ab"), "merges": ((A, B), (A, B))},
            r"the pair of ids \(97, 98\) is merged twice",
        ),
        ({"pattern": "[a"}, r"the split pattern '\[a' is not a regular expression: unterminated"),
        ({"special_tokens": {"": 0}}, "a special token is the empty string"),
        ({"special_tokens": {"<s>": 256}}, "'<s>' has id 256, but the vocabulary has 256 tokens"),
        ({"special_tokens": {"<s>": A}}, "'<s>' has id 97, which is the token b'a'"),
        (
            {"tokens": (*BYTES, b"a"), "special_tokens": {"a": 256}},
            "special token 'a' is also the ordinary token 97",
        ),
    ],
)
def test_a_broken_vocabulary_is_refused_with_the_reason(changes: dict, message: str):
    sound = Vocabulary(tokens=BYTES, merges=(), special_tokens={})
    with pytest.raises(ValueError, match=message):
        replace(sound, **changes)


def test_the_fingerprint_of_gpt2s_pattern_is_the_one_in_old_files():
    assert small_vocabulary().fingerprint == (
        "4cebad2610a2a97ce583c890d88954715193a5b62be44f235498c39486264481"
    )


def test_a_vocabulary_of_gpt2s_size_is_checked_in_a_moment():
    words = [b"%05x" % number for number in range(50_000)]
    tokens = (*BYTES, *words, *(word + b"." for word in words))
    merges = tuple((256 + i, ord(".")) for i in range(len(words)))
    start = time.perf_counter()
    Vocabulary(tokens, merges, {})
    # A quadratic check takes minutes.
    assert time.perf_counter() - start < 2


def test_unused_ids_are_named_after_themselves():
    assert unused_tokens([0, 1, 4, 2]) == {"<|unused_3|>": 3}
    assert unused_tokens([]) == {}
    with pytest.raises(ValueError, match="the highest id is 99999, but there are 1 tokens"):
        unused_tokens([99_999])
