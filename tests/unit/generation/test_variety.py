"""How varied texts are, beside sums by hand and a slow way to the same numbers."""

import math
import random
from collections import Counter

import pytest

from modelwright.generation.variety import (
    distinct,
    ngrams,
    self_bleu,
    variety,
    variety_of_groups,
    words_of,
)


def plain_bleu(text: list[str], references: list[list[str]]) -> float:
    """BLEU as its equation has it."""
    product = 1.0
    for n in range(1, 5):
        own = ngrams(text, n)
        shared = sum(
            min(count, max(ngrams(other, n)[ngram] for other in references))
            for ngram, count in own.items()
        )
        product *= ((shared or 0.1) / own.total()) ** 0.25
    nearest = min((abs(len(other) - len(text)), len(other)) for other in references)[1]
    return product * (1.0 if len(text) >= nearest else math.exp(1 - nearest / len(text)))


def test_words_and_marks_are_told_apart_and_small():
    assert words_of("Tom's dog, big!  NO") == ["tom's", "dog", ",", "big", "!", "no"]


def test_distinct_is_the_share_of_sequences_that_differ():
    texts = [["a", "b", "a"], ["a", "b"]]
    assert ngrams(texts[0], 2) == Counter({("a", "b"): 1, ("b", "a"): 1})
    assert distinct(texts, 1) == 2 / 5
    assert distinct(texts, 2) == 2 / 3
    assert distinct(texts, 4) == 1.0  # there are none


def test_self_bleu_is_the_mean_of_plain_bleu():
    chance = random.Random(1)
    texts = [chance.choices("abcdefg", k=chance.randint(6, 25)) for _ in range(9)]
    by_hand = [plain_bleu(text, texts[:i] + texts[i + 1 :]) for i, text in enumerate(texts)]
    assert self_bleu(texts) == pytest.approx(sum(by_hand) / len(by_hand))


def test_equal_texts_are_as_alike_as_can_be_and_unlike_ones_hardly():
    same = "the cat sat on the mat today ."
    assert variety([same, same, same]).self_bleu == pytest.approx(1)
    assert variety([same, "one two three four five six seven eight"]).self_bleu < 0.05


def test_a_text_that_goes_in_circles_is_repetitive():
    circles = " ".join(["round and round"] * 10)
    found = variety([circles, circles + " it goes"])
    assert found.repetition > 0.8
    assert variety(["a b c d e f g", "h i j k l m"]).repetition == 0


def test_short_and_empty_texts_have_measures_too():
    found = variety(["", "one", "one two"])
    assert 0 <= found.self_bleu <= 1
    assert found.repetition == 0


def test_groups_show_the_spread():
    texts = ["a b c d e"] * 4 + ["f g h i j", "k l m n o", "p q r s t", "u v w x y"]
    spread = variety_of_groups(texts, n_groups=2)["distinct_1"]
    assert spread.mean == pytest.approx((0.25 + 1) / 2)
    assert spread.standard_error == pytest.approx(0.75 / 2)


def test_too_few_texts_are_refused():
    with pytest.raises(ValueError, match="1 texts cannot be compared"):
        variety(["one"])
    with pytest.raises(ValueError, match="7 texts do not make 4 groups of at least 2"):
        variety_of_groups(["one"] * 7, n_groups=4)
