"""However requests come and go, each gets the text that it has alone."""

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

import small
from modelwright.generation.config import SamplingConfig
from modelwright.generation.engine import Engine
from modelwright.generation.requests import Handle, Request

tokenizer = small.tokenizer()
model = small.model(vocab_size=tokenizer.n_vocab, context=16, n_layers=1).eval()
samplings = (
    SamplingConfig(temperature=0),
    SamplingConfig(),
    SamplingConfig(temperature=1.0, top_k=20, top_p=0.9, min_p=0.02, repetition_penalty=1.3),
)
# Made into a request only in the test: the checker of shapes looks at what it likes, by chance.
asked = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["", "A", "Once upon", "One day a girl went out"]),
        "max_tokens": st.integers(1, 14),
        "sampling": st.sampled_from(samplings),
        "seed": st.integers(0, 3),
        "stop": st.sampled_from([(), ("e",), ("th", " a")]),
    }
)


@cache
def alone(request: Request) -> Handle:
    engine = Engine(model, tokenizer, n_slots=1)
    handle = engine.submit(request)
    engine.run()
    return handle


@settings(max_examples=25)
@given(
    arrivals=st.lists(st.tuples(asked, st.integers(0, 3)), min_size=1, max_size=7),
    n_slots=st.integers(1, 4),
)
def test_each_request_gets_the_text_it_has_alone(arrivals: list[tuple[dict, int]], n_slots: int):
    engine = Engine(model, tokenizer, n_slots=n_slots)
    handles: list[tuple[Request, Handle]] = []
    for settings_of_one, n_steps in arrivals:
        request = Request(**settings_of_one)
        handles.append((request, engine.submit(request)))
        for _ in range(n_steps):
            assert len(engine.step()) <= n_slots
    engine.run()
    for request, handle in handles:
        lonely = alone(request)
        assert (handle.tokens, handle.text, handle.ended) == (
            lonely.tokens,
            lonely.text,
            lonely.ended,
        )
