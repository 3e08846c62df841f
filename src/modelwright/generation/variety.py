"""How varied texts are: how many of their word sequences differ, within a text and between texts.

All measures are of words and marks, so that models with different tokenizers can be compared. Each
of them depends on how many texts there are and how long they are: compare only what is equal there.
"""

import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Ngram = tuple[str, ...]

fewest_to_measure = 8  # texts, of which each is compared with others
longest = 4  # words of a sequence in self-BLEU and repetition
# What stands in for no shared sequence at all, in sequences: BLEU is a product, and one empty
# factor would make all of it nothing.
almost_none = 0.1


@dataclass(frozen=True, kw_only=True)
class Variety:
    """How varied some texts are.

    Attributes:
        distinct_1, distinct_2, distinct_3: the share of words, pairs and triples that differ, in
            all texts together: 1 if none comes twice.
        self_bleu: how much each text is like the others, from 0 to 1.
        repetition: the share of a text's sequences of four words that it had before; their mean.
    """

    distinct_1: float
    distinct_2: float
    distinct_3: float
    self_bleu: float
    repetition: float


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The mean of a measure over groups of texts, and the standard error of that mean."""

    mean: float
    standard_error: float


def variety(texts: Sequence[str]) -> Variety:
    """Measure texts.

    Raises:
        ValueError: if there are fewer than two.
    """
    if len(texts) < 2:
        raise ValueError(f"{len(texts)} texts cannot be compared with each other; give at least 2")
    words = [words_of(text) for text in texts]
    return Variety(
        distinct_1=distinct(words, 1),
        distinct_2=distinct(words, 2),
        distinct_3=distinct(words, 3),
        self_bleu=self_bleu(words),
        repetition=statistics.fmean(1 - distinct([one], longest) for one in words),
    )


def variety_of_groups(texts: Sequence[str], *, n_groups: int) -> dict[str, Spread]:
    """Each measure of groups of equally many texts, which shows how sure it is.

    Raises:
        ValueError: if there are fewer than two groups, or two texts in each.
    """
    size = len(texts) // n_groups if n_groups else 0
    if n_groups < 2 or size < 2:
        raise ValueError(
            f"{len(texts)} texts do not make {n_groups} groups of at least 2 each, and two groups "
            "are the fewest; write more texts"
        )
    groups = [variety(texts[i * size : (i + 1) * size]) for i in range(n_groups)]
    found: dict[str, Spread] = {}
    for name in Variety.__dataclass_fields__:
        values = [getattr(group, name) for group in groups]
        error = statistics.stdev(values) / math.sqrt(n_groups)
        found[name] = Spread(mean=statistics.fmean(values), standard_error=error)
    return found


def words_of(text: str) -> list[str]:
    """The words and marks of a text, in small letters."""
    return re.findall(r"\w+(?:['’]\w+)*|[^\w\s]", text.lower())


def ngrams(words: Sequence[str], n: int) -> Counter[Ngram]:
    """How often each sequence of n words comes."""
    return Counter(zip(*(words[i:] for i in range(n)), strict=False))


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """The share of sequences of n words that differ; 1 where there are none.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation
    Models", section 5.3.
    """
    counts: Counter[Ngram] = Counter()
    for words in texts:
        counts += ngrams(words, n)
    return len(counts) / counts.total() if counts else 1.0


def self_bleu(texts: Sequence[Sequence[str]]) -> float:
    """The mean over texts of BLEU with all others as references, up to sequences of four words.

    Where a text shares no sequence of some length, a tenth of one stands for it, as method 1 of
    Chen & Cherry 2014, "A Systematic Comparison of Smoothing Techniques for Sentence-Level BLEU".
    A text shorter than four words is compared by what it has.

    Source: Zhu et al. 2018, "Texygen", section 3.2; Papineni et al. 2002, "BLEU", section 2.3.
    """
    counts = [[ngrams(words, n) for words in texts] for n in range(1, longest + 1)]
    most = [_two_highest(of_length) for of_length in counts]
    lengths = [len(words) for words in texts]
    return statistics.fmean(
        _bleu([of_length[i] for of_length in counts], most, i, lengths) for i in range(len(texts))
    )


# For a sequence of words: the text that has it most often, how often, and how often at most
# another text has it.
Highest = dict[Ngram, tuple[int, int, int]]


def _two_highest(counts: Sequence[Counter[Ngram]]) -> Highest:
    found: Highest = {}
    for text, counter in enumerate(counts):
        for ngram, count in counter.items():
            owner, first, second = found.get(ngram, (-1, 0, 0))
            if count > first:
                found[ngram] = (text, count, first)
            elif count > second:
                found[ngram] = (owner, first, count)
    return found


def _bleu(
    own: Sequence[Counter[Ngram]], most: Sequence[Highest], text: int, lengths: Sequence[int]
) -> float:
    logs: list[float] = []
    for counter, highest in zip(own, most, strict=True):
        if not counter:
            continue
        shared = 0
        for ngram, count in counter.items():
            owner, first, second = highest[ngram]
            shared += min(count, second if owner == text else first)
        logs.append(math.log((shared or almost_none) / counter.total()))
    if not logs:
        return 0.0
    n_words = lengths[text]
    others = [length for i, length in enumerate(lengths) if i != text]
    nearest = min(others, key=lambda length: (abs(length - n_words), length))
    brevity = 0.0 if n_words >= nearest else 1 - nearest / n_words
    return math.exp(brevity + statistics.fmean(logs))
