import math

import numpy as np
import pytest
import torch

import small
from modelwright.data.loader import Chunks
from modelwright.data.packing import Packed
from modelwright.data.shards import Shard, TokenSequence
from modelwright.evaluation.perplexity import BrokenOff, Surprise, validation_loss


def chunks(n_tokens: int = 100, context: int = 11) -> Chunks:
    return Chunks(small.tokens(n_tokens), context)


def test_the_loss_is_the_mean_over_every_target():
    model, data = small.model(), chunks()
    tokens = data.tokens.read(0, 100)
    total, n_tokens = 0.0, 0
    for start in range(0, 99, 11):
        piece = torch.tensor(tokens[start : start + 12])[None]
        logits = model(piece[:, :-1])[0]
        total += torch.nn.functional.cross_entropy(logits, piece[0, 1:], reduction="sum").item()
        n_tokens += piece.shape[1] - 1
    found = validation_loss(model, data, max_tokens=10_000, batch_size=4)
    assert n_tokens == found.n_tokens == 99
    assert found.loss == pytest.approx(total / n_tokens, rel=1e-5)


def test_the_batch_size_does_not_change_the_answer():
    losses = [
        validation_loss(small.model(), chunks(95), max_tokens=10_000, batch_size=size).loss
        for size in (1, 4, 100)
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_a_limit_reads_the_first_tokens():
    limited = validation_loss(small.model(), chunks(100), max_tokens=33, batch_size=2)
    assert limited.n_tokens == 33
    whole = validation_loss(small.model(), chunks(34), max_tokens=10_000, batch_size=2)
    assert limited.loss == pytest.approx(whole.loss, rel=1e-6)


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large():
    model = small.model()
    with torch.no_grad():
        model.embedding.weight.zero_()
    found = validation_loss(model, chunks(), max_tokens=1000, batch_size=8)
    assert found.perplexity == pytest.approx(37, rel=1e-4)


def test_bits_per_byte_spread_the_loss_over_the_text():
    assert Surprise(loss=math.log(2) * 6, n_tokens=10).bits_per_byte(4.0) == pytest.approx(1.5)


def test_measuring_leaves_the_model_in_the_mode_it_was_in():
    model = small.model().train()
    validation_loss(model, chunks(), max_tokens=20, batch_size=2)
    assert model.training


def test_a_limit_of_zero_reads_all():
    everything = validation_loss(small.model(), chunks(95), max_tokens=10_000, batch_size=4)
    assert validation_loss(small.model(), chunks(95), max_tokens=0, batch_size=4) == everything
    assert everything.n_tokens == 94


def test_perplexity_is_the_exponential_of_the_loss():
    assert Surprise(loss=math.log(7), n_tokens=1).perplexity == pytest.approx(7)


def packed(context: int = 11) -> Packed:
    """Random documents of four to nine tokens, each ending in token 0."""
    lengths = np.random.default_rng(1).integers(4, 10, 20)
    starts = np.concatenate([[0], lengths.cumsum()])
    tokens = np.random.default_rng(2).integers(1, 37, starts[-1]).astype(np.uint16)
    tokens[starts[1:] - 1] = 0
    shard = Shard(None, tokens, starts.astype(np.uint64), "")  # type: ignore[arg-type]
    return Packed(TokenSequence([shard]), context, 0)


def test_packed_documents_are_measured_each_for_itself():
    """What stands before a document in its row changes nothing, as if each were alone."""
    model, cut = small.model(dtype=torch.float64), packed()
    found = validation_loss(model, cut, max_tokens=0, batch_size=3)
    tokens = cut.tokens.read(0, len(cut.tokens))
    total, n_tokens = 0.0, 0
    for document in np.split(tokens, np.flatnonzero(tokens == 0) + 1)[:-1]:
        ids = torch.tensor([0, *document.tolist()])[None]
        logits = model(ids[:, :-1])[0]
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        n_tokens += ids.shape[1] - 1
    assert found.n_tokens == n_tokens
    assert found.loss == pytest.approx(total / n_tokens, rel=1e-9)


def test_a_request_to_stop_breaks_it_off_between_batches():
    model = small.model().train()
    asked: list[int] = []

    def is_stopped() -> bool:
        asked.append(1)
        return len(asked) == 3

    with pytest.raises(BrokenOff):
        validation_loss(model, chunks(), max_tokens=0, batch_size=2, is_stopped=is_stopped)
    assert len(asked) == 3
    assert model.training


def test_dropout_is_no_part_of_a_measurement():
    def measured(dropout: float) -> float:
        model = small.model(dropout=dropout, attention="plain")
        return validation_loss(model, chunks(), max_tokens=0, batch_size=4).loss

    assert measured(0.5) == measured(0.0)


@pytest.mark.parametrize("loss", [709.0, 728.2, math.inf])
def test_the_perplexity_of_a_lost_model_has_no_bound(loss: float):
    assert Surprise(loss, 1).perplexity > 1e300
