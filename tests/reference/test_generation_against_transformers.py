"""Hugging Face's processors, generation and beam search give the same, on the same numbers."""

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import small
from modelwright.generation.beam import beam_search
from modelwright.generation.config import SamplingConfig
from modelwright.generation.engine import Engine, start_tokens
from modelwright.generation.requests import Request
from modelwright.generation.sampling import narrowed, penalised
from modelwright.model.transformer import Transformer

tokenizer = small.tokenizer()
ours = small.model(
    vocab_size=tokenizer.n_vocab,
    context=40,
    norm="layernorm",
    positions="learned",
    mlp="gelu_tanh",
    bias=True,
    n_kv_heads=None,
).eval()
names = {
    "attention.qkv": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "attention_norm": "ln_1",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
    "embedding": "wte",
    "positions": "wpe",
    "norm": "ln_f",
}


def theirs_of(model: Transformer) -> Any:
    """Hugging Face's GPT-2 around the same weights."""
    shape = model.config
    config = GPT2Config(
        vocab_size=shape.known_vocab,
        n_positions=shape.context,
        n_embd=shape.d_model,
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        n_inner=shape.d_hidden,
        bos_token_id=None,
        eos_token_id=tokenizer.end_of_text,
        pad_token_id=tokenizer.end_of_text,
    )
    made = GPT2LMHeadModel(config)
    weights = {}
    for path, weight in model.named_parameters():
        owner, kind = path.rsplit(".", 1)
        head, place = "", owner
        if owner.startswith("blocks."):
            _, layer, place = owner.split(".", 2)
            head = f"h.{layer}."
        is_turned = bool(head) and weight.ndim == 2  # their layers hold the transposed matrix
        weights[f"{head}{names[place]}.{kind}"] = weight.T if is_turned else weight
    made.transformer.load_state_dict(weights)
    return made.eval()


theirs = theirs_of(ours)
random_logits = 3 * torch.randn(16, 500, generator=torch.Generator().manual_seed(0))
seen_ids: Any = torch.randint(500, (16, 30), generator=torch.Generator().manual_seed(1))


def warpers(config: SamplingConfig) -> LogitsProcessorList:
    """Theirs with our settings, in the order in which their `generate` applies them."""
    made = LogitsProcessorList([TemperatureLogitsWarper(float(config.temperature))])
    if config.top_k:
        made.append(TopKLogitsWarper(config.top_k))
    if config.top_p < 1:
        made.append(TopPLogitsWarper(config.top_p))
    if config.min_p:
        made.append(MinPLogitsWarper(config.min_p))
    return made


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7, "top_p": 1},
        {"temperature": 1.0, "top_p": 1, "top_k": 20},
        {"temperature": 1.0, "top_p": 1, "top_k": 1000},
        {"temperature": 1.0, "top_p": 0.8},
        {"temperature": 1.0, "top_p": 0.001},
        {"temperature": 1.0, "top_p": 1, "min_p": 0.1},
        {"temperature": 1.0, "top_p": 1, "min_p": 1.0},
        {"temperature": 1.4, "top_p": 0.9, "top_k": 40, "min_p": 0.05},
        {"temperature": 0.3, "top_p": 0.7, "top_k": 3, "min_p": 0.3},
    ],
    ids=str,
)
def test_what_narrows_the_choice_leaves_the_same_logits(settings: dict[str, Any]):
    config = SamplingConfig(**settings)
    expected = warpers(config)(seen_ids, random_logits.clone())
    found = narrowed(random_logits, config)
    assert found.equal(expected)  # the same operations
    tied = random_logits.round()  # many tokens are equally likely
    assert (
        narrowed(tied, config)
        .isinf()
        .sum(-1)
        .equal(warpers(config)(seen_ids, tied.clone()).isinf().sum(-1))
    )


@pytest.mark.parametrize("penalty", [0.5, 1.3, 5.0])
def test_the_penalty_is_theirs(penalty: float):
    seen = torch.zeros(16, 500, dtype=torch.bool).scatter_(1, seen_ids, True)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(seen_ids, random_logits.clone())
    torch.testing.assert_close(penalised(random_logits, seen, penalty), expected)


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_texts_are_theirs(penalty: float):
    sampling = SamplingConfig(temperature=0, repetition_penalty=penalty)
    engine = Engine(ours, tokenizer, n_slots=3)
    prompts = ["Once", "The dog", "A little girl"]
    handles = [
        engine.submit(Request(prompt=prompt, max_tokens=20, sampling=sampling))
        for prompt in prompts
    ]
    engine.run()
    for handle, prompt in zip(handles, prompts, strict=True):
        start: Any = start_tokens(ours, tokenizer, prompt)
        written = theirs.generate(
            start,
            attention_mask=torch.ones_like(start),
            max_new_tokens=20,
            do_sample=False,
            repetition_penalty=penalty,
        )
        assert handle.tokens == written[0, start.shape[1] :].tolist()


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("likeliness_of_the_end", [1.0, 3.0, 6.0])
def test_beam_search_finds_their_texts(likeliness_of_the_end: float, length_penalty: float):
    eager = small.model(seed=3, **vars(ours.config)).eval()
    with torch.no_grad():  # so that some texts end early and others do not
        eager.embedding.weight[tokenizer.end_of_text].mul_(likeliness_of_the_end)
    other = theirs_of(eager)
    n_ended = 0
    for prompt in ("Once", "The dog was", "", "One"):
        start = start_tokens(eager, tokenizer, prompt)
        expected = other.generate(
            start,
            attention_mask=torch.ones_like(start),
            max_new_tokens=14,
            do_sample=False,
            num_beams=4,
            num_return_sequences=4,
            length_penalty=length_penalty,
            early_stopping=False,
            output_scores=True,
            return_dict_in_generate=True,
        )
        found = beam_search(
            eager, tokenizer, prompt, n_beams=4, max_tokens=14, length_penalty=length_penalty
        )
        assert len(found) == 4
        for beam, theirs_ids, score in zip(
            found, expected.sequences, expected.sequences_scores, strict=True
        ):
            padded = theirs_ids[start.shape[1] :].tolist()
            assert beam.tokens == padded[: len(beam.tokens)]
            assert set(padded[len(beam.tokens) :]) <= {tokenizer.end_of_text}
            # A penalty of -1 multiplies by the length: fp32 has steps of 6e-5 at such numbers.
            assert beam.score == pytest.approx(float(score), rel=1e-6, abs=1e-4)
            n_ended += beam.ended == "end_of_text"
    if likeliness_of_the_end == 6.0:
        assert n_ended > 0


def test_a_beam_of_one_is_greedy():
    engine = Engine(ours, tokenizer, n_slots=1)
    greedy = SamplingConfig(temperature=0)
    handle = engine.submit(Request(prompt="Once", max_tokens=12, sampling=greedy))
    engine.run()
    assert beam_search(ours, tokenizer, "Once", n_beams=1, max_tokens=12)[0].tokens == handle.tokens


def test_more_beams_find_a_likelier_text():
    one, four = (
        beam_search(ours, tokenizer, "The", n_beams=n, max_tokens=12, length_penalty=0.0)[0].score
        for n in (1, 8)
    )
    assert four > one


def test_beam_search_says_what_it_does_not_do():
    with pytest.raises(ValueError, match="n_beams is 0"):
        beam_search(ours, tokenizer, "", n_beams=0)
    with pytest.raises(ValueError, match="together 41, but model.context is 40"):
        beam_search(ours, tokenizer, "", max_tokens=40)
