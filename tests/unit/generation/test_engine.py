from typing import Any

import pytest
import torch

import small
from modelwright.generation.config import SamplingConfig
from modelwright.generation.engine import generate, start_tokens, stream

tokenizer = small.tokenizer()
model = small.model(vocab_size=tokenizer.n_vocab, context=24).eval()


def test_greedy_text_is_what_one_token_at_a_time_gives():
    ids = start_tokens(model, tokenizer, "Once")[0].tolist()
    n_prompt = len(ids)
    with torch.inference_mode():
        for _ in range(30):  # beyond the context, only its last part is seen
            ids.append(int(model(torch.tensor([ids[-24:]]))[0, -1].argmax()))
    greedy = generate(
        model, tokenizer, "Once", max_tokens=30, sampling=SamplingConfig(temperature=0)
    )
    added = ids[n_prompt:]
    if tokenizer.end_of_text in added:
        added = added[: added.index(tokenizer.end_of_text)]
    assert greedy[0].continuation == tokenizer.decode(added)
    assert greedy[0].text == "Once" + tokenizer.decode(added)


def test_a_seed_draws_the_same_texts_again_and_another_seed_others():
    def texts(seed: int) -> list[str]:
        return [
            g.text for g in generate(model, tokenizer, "A", n_samples=3, max_tokens=20, seed=seed)
        ]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)
    assert len(set(texts(1))) == 3


def test_streaming_gives_the_same_text_in_pieces():
    settings: Any = {"max_tokens": 25, "seed": 5}
    pieces = list(stream(model, tokenizer, "The", **settings))
    assert "".join(pieces) == generate(model, tokenizer, "The", **settings)[0].continuation
    assert len(pieces) > 1


def test_a_text_ends_where_the_model_ends_it():
    ending = small.model(vocab_size=tokenizer.n_vocab)
    with torch.no_grad():  # all embeddings alike, that of end-of-text the longest: its logit wins
        for name, parameter in ending.named_parameters():
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
        ending.embedding.weight.fill_(0.1)
        ending.embedding.weight[tokenizer.end_of_text] = 1
    ended = generate(ending, tokenizer, "x", sampling=SamplingConfig(temperature=0), max_tokens=5)
    assert (ended[0].ended, ended[0].n_tokens, ended[0].continuation) == (True, 1, "")


def test_an_empty_prompt_starts_a_document():
    assert start_tokens(model, tokenizer, "").tolist() == [[tokenizer.end_of_text]]


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused():
    with pytest.raises(ValueError, match="use the tokenizer it was trained with"):
        generate(small.model(vocab_size=37), tokenizer, "x")


def test_counts_below_one_are_refused():
    with pytest.raises(ValueError, match="the least of each is 1"):
        generate(model, tokenizer, "x", n_samples=0)


def test_the_padding_of_the_vocabulary_is_never_drawn():
    tokenizer = small.tokenizer()
    model = small.model(vocab_size=tokenizer.n_vocab, vocab_multiple=1024, context=16)
    with torch.no_grad():
        model.embedding.weight[: tokenizer.n_vocab].mul_(3)  # so that many logits are negative
    sampling = SamplingConfig(temperature=1.0, top_p=1.0)
    texts = generate(model, tokenizer, "Once", n_samples=4, max_tokens=20, sampling=sampling)
    assert all(text.n_tokens for text in texts)  # an id beyond the vocabulary could not be decoded
