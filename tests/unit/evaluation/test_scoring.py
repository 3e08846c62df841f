import math

import pytest
import torch

import small
from modelwright.evaluation.encoding import Scored, encode_items, require_fitting, scored_end
from modelwright.evaluation.items import Item, Outcome
from modelwright.evaluation.scoring import Scorer, batches_of, rows_of
from modelwright.generation.packing import least_packed_bytes
from modelwright.model.transformer import Transformer

tokenizer = small.tokenizer()


def scored_one_by_one(model: Transformer, text: Scored) -> tuple[float, bool]:
    """The slow, obvious twin: the whole text alone, all its logits."""
    with torch.no_grad():
        logits = model(torch.tensor([text.inputs]))[0].log_softmax(-1)
    places = range(len(text.inputs) - text.n_scored, len(text.inputs))
    picked = [logits[place] for place in places]
    logprob = sum(float(row[token]) for row, token in zip(picked, text.targets, strict=True))
    return logprob, all(
        int(row.argmax()) == token for row, token in zip(picked, text.targets, strict=True)
    )


def outcomes(model: Transformer, questions: list[tuple[Scored, ...]], **choice: int):
    found: dict[int, Outcome] = {}
    for batch in Scorer(model, **choice).outcomes(questions):
        assert not found.keys() & batch.keys()
        found |= batch
    return [found[place] for place in range(len(questions))]


def answers(*texts: list[int], n_scored: int = 2) -> tuple[Scored, ...]:
    return tuple(Scored(tuple(text), n_scored) for text in texts)


questions = [
    answers([1, 2, 3, 4, 5], [1, 2, 3, 6, 7], [1, 2, 3, 4, 9]),
    answers([9, 8, 7, 6], n_scored=1),
    answers([5, 1, 2, 30], [6, 1, 2, 30]),  # nothing in common
    answers([3, 4, 10], [3, 4, 11], n_scored=1),  # all in common
    answers([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23, 24]),
]
shapes = {
    "gpt2": {"norm": "layernorm", "positions": "learned", "mlp": "gelu_tanh", "bias": True},
    "llama": {"norm": "rmsnorm", "positions": "rope", "mlp": "swiglu"},
    "window": {"positions": "rope", "window": 3},
}


@pytest.mark.parametrize("shape", shapes)
def test_answers_side_by_side_score_as_each_alone(shape: str):
    model = small.model(**shapes[shape]).eval()
    for question, outcome in zip(questions, outcomes(model, questions), strict=True):
        expected = [scored_one_by_one(model, text) for text in question]
        assert outcome.logprobs == pytest.approx([one for one, _ in expected], abs=1e-5)
        assert outcome.greedy == tuple(greedy for _, greedy in expected)
        assert outcome.n_tokens == tuple(text.n_scored for text in question)


@pytest.mark.parametrize("batch_tokens", [1, 7, 20, 10_000])
def test_the_size_of_batches_does_not_change_the_scores(batch_tokens: int):
    model = small.model().eval()
    expected = outcomes(model, questions)
    found = outcomes(model, questions, batch_tokens=batch_tokens)
    for one, another in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(another.logprobs, abs=1e-5)


def test_matrices_that_are_packed_give_the_same_scores():
    model = small.model(d_model=256, n_heads=4, d_ff=1024).eval()
    assert any(matrix.nbytes >= least_packed_bytes for matrix in model.parameters())
    for question, outcome in zip(questions, outcomes(model, questions), strict=True):
        expected = [scored_one_by_one(model, text)[0] for text in question]
        assert outcome.logprobs == pytest.approx(expected, abs=1e-4)


def test_chances_of_all_next_tokens_add_up_to_one():
    model = small.model().eval()
    question = tuple(Scored((1, 2, 3, token), 1) for token in range(37))
    [outcome] = outcomes(model, [question])
    assert sum(map(math.exp, outcome.logprobs)) == pytest.approx(1, abs=1e-5)
    assert sum(outcome.greedy) == 1


def test_a_common_beginning_stands_in_a_row_once():
    [row] = rows_of(questions[0], 0, 11, shares=True)
    assert row.ids == [1, 2, 3, 4, 6, 4]
    assert row.positions == [0, 1, 2, 3, 3, 3]
    assert row.parts == [0, 0, 0, 1, 2, 3]
    assert [part.places for part in row.scored] == [[2, 3], [2, 4], [2, 5]]


def test_answers_that_differ_in_their_last_token_need_no_more_than_the_context():
    [row] = rows_of(questions[3], 0, 11, shares=True)
    assert row.ids == [3, 4] and row.parts == [0, 0]


def test_answers_that_do_not_fit_into_one_row_stand_in_more():
    rows = rows_of(questions[4], 0, 11, shares=True)
    assert [len(row.ids) for row in rows] == [11, 11]
    assert all(row.ids[:7] == [1, 2, 3, 4, 5, 6, 7] for row in rows)


def test_a_batch_has_no_more_tokens_than_asked_for_unless_a_row_is_longer():
    rows = [row for question in questions for row in rows_of(question, 0, 11, shares=True)]
    rows.sort(key=lambda row: -len(row.ids))
    for batch in batches_of(rows, 13):
        assert len(batch) == 1 or len(batch) * len(batch[0].ids) <= 13
    assert sum(map(len, batches_of(rows, 13))) == len(rows)


def test_the_model_is_left_as_it_was():
    model = small.model()
    before = model(small.ids())
    visibility = model.visibility
    outcomes(model, questions)
    assert model.training and model.visibility is visibility
    assert torch.equal(model(small.ids()), before)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="--batch-tokens is 0; choose at least 1"):
        Scorer(small.model(), batch_tokens=0)


def item(*pairs: tuple[str, str]) -> Item:
    return Item(pairs, 0, tuple(after for _, after in pairs))


def encoded(*pairs: tuple[str, str], context: int = 50) -> tuple[Scored, ...]:
    [found] = encode_items([item(*pairs)], tokenizer, context=context)
    return found


def test_a_continuation_is_what_the_whole_text_has_more_than_its_context():
    [text] = encoded(("Once upon", " a time"))
    assert tokenizer.decode(text.ids) == "Once upon a time"
    assert tokenizer.decode(text.targets) == " a time"


def test_white_space_at_the_end_of_a_context_belongs_to_the_continuation():
    [text] = encoded(("Once upon  \n", "a time"))
    assert tokenizer.decode(text.targets) == "  \na time"


def test_a_text_without_context_follows_the_end_of_a_document():
    [text] = encoded(("", "Once upon"))
    assert text.ids[0] == tokenizer.end_of_text
    assert tokenizer.decode(text.targets) == "Once upon"


def test_a_long_context_loses_its_beginning():
    whole, cut = encoded(("Once upon a time", " there was")), None
    n_ids = len(whole[0].ids)
    [cut] = encoded(("Once upon a time", " there was"), context=n_ids - 3)
    assert cut.truncated and not whole[0].truncated
    assert cut.ids == whole[0].ids[2:] and cut.targets == whole[0].targets
    [just] = encoded(("Once upon a time", " there was"), context=n_ids - 1)
    assert not just.truncated


def test_what_is_scored_has_to_fit_into_the_context():
    with pytest.raises(ValueError, match=r"has 3 tokens, but model.context is 2"):
        scored_end([1], [2, 3, 4], 2)
    with pytest.raises(ValueError, match=r"has 0 tokens"):
        scored_end([1], [], 2)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused():
    require_fitting(tokenizer, small.model_config(vocab_size=300))
    with pytest.raises(ValueError, match=r"has 300 tokens, but the model knows 37"):
        require_fitting(tokenizer, small.model_config())
