"""Whatever answers have in common, they are scored as if each stood alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import small
from modelwright.evaluation.encoding import Scored
from modelwright.evaluation.scoring import Scorer

model = small.model(dtype=torch.float64).eval()
token = st.integers(0, 3)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Scored, ...]:
    beginning = draw(st.lists(token, min_size=1, max_size=6))
    ends = draw(st.lists(st.lists(token, min_size=1, max_size=5), min_size=1, max_size=5))
    return tuple(Scored((*beginning, *end), len(end)) for end in ends)


@settings(max_examples=60)
@given(st.lists(questions(), min_size=1, max_size=4), st.integers(1, 60))
def test_shared_and_alone_are_the_same(asked: list[tuple[Scored, ...]], batch_tokens: int):
    together = Scorer(model, batch_tokens=batch_tokens)
    alone = [(text,) for question in asked for text in question]
    expected = {k: v for found in Scorer(model).outcomes(alone) for k, v in found.items()}
    found = {k: v for batch in together.outcomes(asked) for k, v in batch.items()}
    assert found.keys() == set(range(len(asked)))
    values = [value for place in range(len(asked)) for value in found[place].logprobs]
    # Logits are taken in fp32 whatever the model is in.
    assert values == pytest.approx([expected[k].logprobs[0] for k in range(len(alone))], abs=1e-4)
