"""Many requests at once: who gets which text, with which chances, and why it ends."""

from typing import Any

import pytest
import torch

import small
from modelwright.generation.config import SamplingConfig
from modelwright.generation.engine import Engine, generate, seed_of, stream
from modelwright.generation.requests import Handle, Request

tokenizer = small.tokenizer()
model = small.model(vocab_size=tokenizer.n_vocab, context=24).eval()
greedy = SamplingConfig(temperature=0)


def finished(requests: list[Request], n_slots: int = 3, **settings: Any) -> list[Handle]:
    engine = Engine(settings.pop("model", model), tokenizer, n_slots=n_slots, **settings)
    handles = [engine.submit(request) for request in requests]
    engine.run()
    return handles


def recomputed(n: int, prompt: str, model: Any = model) -> list[int]:
    """Greedy tokens, each from all of the text that the model can see."""
    ids = [tokenizer.end_of_text, *tokenizer.encode(prompt).tolist()]
    with torch.inference_mode():
        for _ in range(n):
            visible = torch.tensor([ids[-model.config.context :]])
            ids.append(int(model(visible)[0, -1, : tokenizer.n_vocab].argmax()))
    return ids[-n:]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positions": "learned"},
        {"window": 5},
        {"n_kv_heads": 1, "qk_norm": True},
        {"placement": "post", "mlp": "gelu_tanh", "norm": "layernorm", "bias": True},
        {"mlp": "relu2", "vocab_multiple": 64},
        {"mlp": "silu", "positions": "none"},
    ],
    ids=str,
)
def test_greedy_texts_are_those_without_a_cache_alone_and_in_a_batch(changes: dict[str, Any]):
    other = small.model(vocab_size=tokenizer.n_vocab, context=24, **changes).eval()
    # Prompts of several lengths; some texts outgrow the context, one prompt does alone.
    prompts = ["Once", "The little dog", "A", "", "One day a girl and a boy went to the park"]
    requests = [
        Request(prompt=prompt, max_tokens=8 + 4 * place, sampling=greedy, ignore_end=True)
        for place, prompt in enumerate(prompts)
    ]
    for handle, request in zip(finished(requests, model=other), requests, strict=True):
        expected = recomputed(request.max_tokens, request.prompt, other)
        assert handle.tokens == expected
        assert finished([request], model=other)[0].tokens == expected


def test_a_request_has_its_text_whatever_is_beside_it():
    asked = Request(prompt="Once", seed=3, max_tokens=15)
    others = [Request(prompt="A dog", seed=seed, max_tokens=5 + seed) for seed in range(5)]
    alone = finished([asked])[0].text
    assert finished([*others, asked])[5].text == alone
    assert finished([asked, *others], n_slots=6)[0].text == alone
    assert finished([Request(prompt="Once", seed=4, max_tokens=15)])[0].text != alone


def test_several_samples_are_requests_with_seeds_of_their_own():
    texts = generate(model, tokenizer, "The", n_samples=20, max_tokens=6, seed=9)
    for sample in (0, 1, 19):
        request = Request(prompt="The", max_tokens=6, seed=seed_of(9, sample))
        assert texts[sample].continuation == finished([request])[0].text
    assert "".join(stream(model, tokenizer, "The", max_tokens=6, seed=9)) == texts[0].continuation


def test_settings_of_each_request_are_its_own():
    hot = SamplingConfig(temperature=3.0, top_p=1.0)
    requests = [
        Request(prompt="Once", max_tokens=12, sampling=sampling, seed=1, ignore_end=True)
        for sampling in (greedy, hot, SamplingConfig(repetition_penalty=5.0, temperature=0))
    ]
    together = [handle.tokens for handle in finished(requests)]
    assert together == [finished([request])[0].tokens for request in requests]
    assert together[0] == recomputed(12, "Once")
    assert together[2] != together[0] != together[1]


def test_a_strong_penalty_leaves_no_token_twice():
    sampling = SamplingConfig(temperature=0, repetition_penalty=1e6)
    tokens = finished([Request(prompt="Once", max_tokens=40, sampling=sampling, ignore_end=True)])[
        0
    ].tokens
    assert len(set(tokens)) == len(tokens) == 40


def test_a_slot_that_is_used_again_remembers_nothing_of_what_was_seen():
    sampling = SamplingConfig(temperature=0, repetition_penalty=3.0)
    requests = [
        Request(prompt=prompt, max_tokens=9, sampling=sampling) for prompt in ("A", "The dog", "On")
    ]
    one_by_one = [handle.tokens for handle in finished(requests, n_slots=1)]
    assert one_by_one == [finished([request])[0].tokens for request in requests]


def test_log_probabilities_are_those_of_the_model_before_any_setting():
    sampling = SamplingConfig(temperature=0.5, top_k=5, repetition_penalty=1.3)
    requests = [
        Request(prompt="Once", max_tokens=6, sampling=sampling, seed=2, n_logprobs=n)
        for n in (3, None, 0)
    ]
    several, none, own = finished(requests)
    assert none.logprobs == []
    assert [place.likeliest for place in own.logprobs] == [[]] * len(own.tokens)
    for at, place in enumerate(several.logprobs):
        ids = torch.tensor([several.prompt_ids + several.tokens[:at]])
        with torch.inference_mode():
            expected = model(ids)[0, -1].log_softmax(-1)
        assert place.token == several.tokens[at]
        assert place.logprob == pytest.approx(float(expected[place.token]), abs=1e-5)
        best = expected.topk(3)
        assert [token for token, _ in place.likeliest] == best.indices.tolist()
        assert [value for _, value in place.likeliest] == pytest.approx(
            best.values.tolist(), abs=1e-5
        )


def test_a_stop_text_is_in_no_piece_and_the_text_ends_there():
    text = finished([Request(prompt="Once", max_tokens=18, sampling=greedy)])[0].text
    stop = text[5:8]
    at = text.index(stop)
    engine = Engine(model, tokenizer, n_slots=1)
    handle = engine.submit(Request(prompt="Once", max_tokens=18, sampling=greedy, stop=[stop]))
    pieces = []
    while handle.ended is None:
        engine.step()
        pieces.append(handle.take())
    assert "".join(pieces) == handle.text == text[:at]
    assert handle.ended == "stop" and engine.is_idle


def test_a_request_that_is_cancelled_leaves_and_the_others_stay():
    engine = Engine(model, tokenizer, n_slots=2)
    settings: Any = {"max_tokens": 12, "ignore_end": True}
    first, second, third = (
        engine.submit(Request(prompt=prompt, seed=5, **settings)) for prompt in ("A", "On", "The")
    )
    engine.step()
    engine.cancel(first)
    engine.cancel(first)
    engine.run()
    assert (first.ended, len(first.tokens)) == ("cancelled", 1)
    for handle, prompt in ((second, "On"), (third, "The")):
        assert handle.tokens == finished([Request(prompt=prompt, seed=5, **settings)])[0].tokens
    waiting = Engine(model, tokenizer, n_slots=1)
    waiting.submit(Request(prompt="A", max_tokens=2))
    never = waiting.submit(Request(prompt="A"))
    waiting.cancel(never)
    waiting.run()
    assert (never.ended, never.tokens) == ("cancelled", [])


def test_a_text_beyond_the_context_is_refused_if_it_is_to_be():
    with pytest.raises(ValueError, match="together 24, but model.context is 12.* overflow be 'sli"):
        short = small.model(vocab_size=tokenizer.n_vocab, context=12)
        finished([Request(prompt="", max_tokens=23, overflow="error")], model=short)
    exact = Request(prompt="", max_tokens=23, overflow="error", ignore_end=True)
    assert len(finished([exact])[0].tokens) == 23


def test_a_text_beyond_the_memory_of_a_slot_is_refused():
    with pytest.raises(ValueError, match="holds 10 tokens; make it with n_tokens = 24 or more"):
        finished([Request(prompt="", max_tokens=40)], n_tokens=10)


def test_an_engine_without_slots_is_refused():
    with pytest.raises(ValueError, match="n_slots is 0"):
        Engine(model, tokenizer, n_slots=0)


def test_tokens_that_the_tokenizer_does_not_know_are_never_drawn():
    larger = small.model(vocab_size=tokenizer.n_vocab + 500, context=24).eval()
    sampling = SamplingConfig(temperature=2.0, top_p=1.0)
    request = Request(prompt="A", max_tokens=20, sampling=sampling, ignore_end=True)
    assert max(finished([request], model=larger)[0].tokens) < tokenizer.n_vocab
