"""Where pairs are equally common, training follows the rule of the program that it is asked to.

The oracles are CS336's fixtures (lexicographic), rustbpe (smallest ids) and Hugging Face's trainer.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import rustbpe
import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from modelwright.tokenizer import reference
from modelwright.tokenizer.formats import read_vocab_and_merges
from modelwright.tokenizer.spelling import unspell
from modelwright.tokenizer.splitting import PATTERNS, SPLIT_PATTERN
from modelwright.tokenizer.training import train_tokenizer

Merges = list[tuple[bytes, bytes]]

# Few letters, so that ties are everywhere. Where the three rules number bytes differently (a space,
# a byte above 0x7f, a control character) they must part.
ALPHABETS = ["ab", "abc", "aé ", "ab!1", "世a", "\x00 b\n", "aÿ\xad", "ab\t ~"]


def corpus(alphabet: str, seed: int) -> list[str]:
    rng = random.Random(seed)

    def word() -> str:
        return "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 9)))

    return [" ".join(word() for _ in range(rng.randint(1, 25))) for _ in range(3)]


CORPORA = [corpus(alphabet, seed) for seed in range(6) for alphabet in ALPHABETS]


def fast(documents: Sequence[str | bytes], n_merges: int, **settings: object) -> Merges:
    """Merges of the compiled trainer."""
    vocabulary = train_tokenizer(
        documents,
        vocab_size=256 + n_merges,
        special_tokens=(),
        **settings,  # type: ignore[arg-type]
    ).vocabulary
    tokens = vocabulary.tokens
    return [(tokens[left], tokens[right]) for left, right in vocabulary.merges]


def hugging_faces(documents: Sequence[str], n_merges: int, **settings: int) -> Merges:
    tokenizer = tokenizers.Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)  # type: ignore[misc]
    trainer = BpeTrainer(
        vocab_size=256 + n_merges,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
        **settings,  # type: ignore[arg-type]
    )
    tokenizer.train_from_iterator(documents, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(unspell(left), unspell(right)) for left, right in merges]


def rustbpes(documents: Sequence[str], n_merges: int, pattern: str) -> list[bytes]:
    """Merged tokens; it tells their bytes and not their halves."""
    tokenizer = rustbpe.Tokenizer()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.train_from_iterator(documents, 256 + n_merges, pattern=pattern)
    ranked = sorted(tokenizer.get_mergeable_ranks(), key=lambda entry: entry[1])
    return [bytes(token) for token, _ in ranked[256:]]


def joined(merges: Merges) -> list[bytes]:
    return [left + right for left, right in merges]


def test_the_rules_part_on_these_corpora():
    for documents in CORPORA[1:8:2]:
        learned = [reference.train(documents, 40, ties=ties) for ties in RULES]
        assert learned[0] != learned[1]
    differing = [
        documents
        for documents in CORPORA
        if reference.train(documents, 40, ties="smallest-ids")
        != reference.train(documents, 40, ties="huggingface")
    ]
    assert len(differing) > len(CORPORA) / 2


RULES: tuple[reference.Ties, ...] = ("lexicographic", "smallest-ids", "huggingface")


def test_the_reference_with_hugging_faces_rule_learns_what_its_trainer_learns():
    for documents in CORPORA:
        merges = reference.train(documents, 40, ties="huggingface")
        assert merges == hugging_faces(documents, 40)


def test_the_fast_trainer_with_hugging_faces_rule_learns_what_its_trainer_learns():
    for documents in CORPORA:
        assert fast(documents, 40, ties="huggingface") == hugging_faces(documents, 40)


@pytest.mark.parametrize("min_frequency", [0, 1, 2, 5])
def test_min_frequency_stops_where_hugging_faces_trainer_stops(min_frequency: int):
    stopped = 0
    for documents in CORPORA:
        theirs = hugging_faces(documents, 60, min_frequency=min_frequency)
        settings = {"ties": "huggingface", "min_frequency": min_frequency}
        assert reference.train(documents, 60, **settings) == theirs  # type: ignore[arg-type]
        stopped += len(theirs) < 60
    assert stopped


@pytest.mark.parametrize("min_frequency", [0, 1, 2, 5])
def test_min_frequency_stops_the_fast_trainer_there_too(min_frequency: int):
    for documents in CORPORA:
        theirs = hugging_faces(documents, 60, min_frequency=min_frequency)
        assert fast(documents, 60, ties="huggingface", min_frequency=min_frequency) == theirs


# Their setting is one more than the longest token that they make, except that they always make
# tokens of two bytes.
@pytest.mark.parametrize("longest", [2, 3, 4, 6])
def test_max_token_length_leaves_out_what_hugging_faces_trainer_leaves_out(longest: int):
    for documents in CORPORA:
        theirs = hugging_faces(documents, 40, max_token_length=longest + 1)
        merges = reference.train(documents, 40, ties="huggingface", max_token_length=longest)
        assert merges == theirs
        assert max(map(len, joined(merges)), default=0) <= longest


@pytest.mark.parametrize("longest", [2, 3, 4, 6])
def test_max_token_length_bounds_the_fast_trainer_alike(longest: int):
    for documents in CORPORA:
        theirs = hugging_faces(documents, 40, max_token_length=longest + 1)
        assert fast(documents, 40, ties="huggingface", max_token_length=longest) == theirs


@pytest.mark.parametrize(
    "pattern", [SPLIT_PATTERN, PATTERNS["cl100k"], PATTERNS["o200k"], r"\w+|\s"]
)
def test_the_reference_with_the_smallest_ids_learns_what_rustbpe_learns(pattern: str):
    for documents in CORPORA:
        if pattern == r"\w+|\s":  # what its pattern does not match rustbpe leaves out
            documents = [text for text in documents if not set(text) & set("!~\x00\xad")]
        merges = reference.train(documents, 40, ties="smallest-ids", pattern=pattern)
        assert joined(merges) == rustbpes(documents, 40, pattern)


@pytest.mark.parametrize("pattern", [SPLIT_PATTERN, PATTERNS["cl100k"], PATTERNS["o200k"]])
def test_the_fast_trainer_with_the_smallest_ids_learns_what_rustbpe_learns(pattern: str):
    for documents in CORPORA:
        merges = fast(documents, 40, ties="smallest-ids", pattern=pattern)
        assert joined(merges) == rustbpes(documents, 40, pattern)


@pytest.mark.parametrize("ties", RULES)
@pytest.mark.parametrize("pattern", [*PATTERNS.values(), r"\w+|\s"], ids=[*PATTERNS, "own"])
def test_the_fast_trainer_is_the_reference_for_every_rule(ties: reference.Ties, pattern: str):
    for documents in CORPORA:
        merges = reference.train(documents, 40, ties=ties, pattern=pattern)
        assert fast(documents, 40, ties=ties, pattern=pattern) == merges


@pytest.mark.data
def test_the_reference_with_the_lexicographic_rule_learns_the_merges_of_cs336(data_folder: Path):
    folder = data_folder / "gpt2" / "bpe_reference"
    theirs = read_vocab_and_merges(
        folder / "train-bpe-reference-vocab.json", folder / "train-bpe-reference-merges.txt"
    )
    documents = [(folder / "corpus.en").read_bytes()]
    merges = reference.train(documents, len(theirs.merges), special_tokens=["<|endoftext|>"])
    assert merges == [(theirs.tokens[left], theirs.tokens[right]) for left, right in theirs.merges]


def test_nothing_merges_across_a_special_token_and_its_text_is_not_counted():
    documents = ["ab<|x|>ab<|x|><|x|>b", "<|x|>"]
    whole = reference.train(documents, 20, pattern="", special_tokens=["<|x|>"])
    assert whole == [(b"a", b"b")]
    without = reference.train(["ab", "ab", "b"], 20, pattern="")
    assert whole == without
    assert reference.train(documents, 20, pattern="") != whole


def test_of_special_tokens_at_one_place_the_longest_is_the_border():
    # Were "<a" the border, ">>" would be left over and merge.
    special_tokens = ["<a", "<a>>"]
    assert reference.train(["<a>><a>>"], 9, pattern="", special_tokens=special_tokens) == []
    assert reference.train(["<a>>"], 9, pattern="", special_tokens=["<a"]) == [(b">", b">")]


def test_the_fast_trainer_takes_special_tokens_for_borders_too():
    special_tokens = ("<|x|>", "<|x|>>")
    documents = ["ab<|x|>ab<|x|>>>ab>>", b"\xff<|x|>\xffab", "abab"]
    merges = reference.train(documents, 20, special_tokens=special_tokens)
    trained = train_tokenizer(documents, vocab_size=256 + 2 + 20, special_tokens=special_tokens)
    tokens = trained.vocabulary.tokens
    assert [(tokens[left], tokens[right]) for left, right in trained.vocabulary.merges] == merges
