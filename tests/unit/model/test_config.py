import re
from typing import Any

import pytest

import small
from modelwright.model.config import InitialConfig, ModelConfig
from modelwright.model.transformer import Transformer

refusals: list[tuple[dict[str, Any], str]] = [
    ({"vocab_size": 0}, "model.vocab_size is 0; the least is 1"),
    ({"vocab_multiple": 0}, "model.vocab_multiple is 0; the least is 1"),
    ({"context": 0}, "model.context is 0; the least is 1"),
    ({"d_model": -4}, "model.d_model is -4; the least is 1"),
    ({"n_layers": 0}, "model.n_layers is 0; the least is 1"),
    ({"n_heads": 0}, "model.n_heads is 0; the least is 1"),
    ({"n_kv_heads": 0}, "model.n_kv_heads is 0; the least is 1"),
    ({"d_head": 0}, "model.d_head is 0; the least is 1"),
    ({"d_ff": 0}, "model.d_ff is 0; the least is 1"),
    ({"window": 0}, "model.window is 0; the least is 1"),
    (
        {"d_model": 25},
        "model.d_model is 25, which does not split into model.n_heads = 4 equal heads; "
        "the next width that works is 32, or set model.d_head",
    ),
    ({"d_model": 25, "positions": "learned"}, "the next width that works is 28"),
    (
        {"n_kv_heads": 3},
        "model.n_kv_heads is 3, but model.n_heads = 4 query heads share them evenly; "
        "choose one of [1, 2, 4]",
    ),
    (
        {"dropout": 1.0},
        "model.dropout is 1.0, but it is a chance; choose a number from 0 up to, but not, 1, "
        "such as 0.1",
    ),
    ({"dropout": -0.1}, "model.dropout is -0.1, but it is a chance"),
    (
        {"norm_epsilon": 0.0},
        "model.norm_epsilon is 0.0; choose a number above 0, such as 1e-5",
    ),
    (
        {"d_model": 12},
        "the head size (model.d_head, or model.d_model / model.n_heads) is 3, but rotary positions "
        "turn pairs of numbers; choose an even head size, or model.positions = 'learned'",
    ),
    ({"d_head": 5}, "is 5, but rotary positions turn pairs of numbers"),
    ({"rope_theta": 1.0}, "model.rope_theta is 1.0; choose a number above 1"),
    (
        {"rope_factor": 0.5},
        "model.rope_factor is 0.5, but wavelengths are only made longer; "
        "choose 1 (none) or more, such as 8",
    ),
    (
        {"rope_low_frequency": 4.0},
        "model.rope_low_frequency is 4.0 and model.rope_high_frequency 4.0; the low one is above 0 "
        "and below the high one, such as 1 and 4",
    ),
    ({"rope_low_frequency": 0.0}, "model.rope_low_frequency is 0.0 and"),
    ({"rope_original_context": 0}, "model.rope_original_context is 0; the least is 1"),
]


@pytest.mark.parametrize(
    ("change", "message"), refusals, ids=[str(change) for change, _ in refusals]
)
def test_an_impossible_shape_is_refused_with_one_that_works(change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        small.model_config(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"d_model": 32},
        {"d_model": 28, "positions": "learned"},
        {"d_model": 25, "d_head": 6},
        *({"n_kv_heads": n} for n in (1, 2, 4)),
        {"dropout": 0.1},
        {"dropout": 0.0},
        {"norm_epsilon": 1e-5},
        {"d_model": 12, "positions": "learned"},
        {"rope_factor": 8.0},
        {"rope_low_frequency": 1.0, "rope_high_frequency": 4.0},
    ],
    ids=str,
)
def test_what_the_refusals_propose_is_taken(change: dict[str, Any]):
    Transformer(small.model_config(**change))


def test_what_only_rotary_positions_need_is_not_asked_of_others():
    small.model_config(positions="learned", d_head=5, rope_theta=0.0, rope_factor=0.0)


@pytest.mark.parametrize("std", [0.0, -0.02])
def test_weights_without_a_width_are_refused(std: float):
    message = f"initial.std is {std}; choose a number above 0, such as 0.02"
    with pytest.raises(ValueError, match=re.escape(message)):
        InitialConfig(std=std)


def test_a_model_needs_to_know_its_vocabulary():
    message = "model.vocab_size is not set; give the number of the tokenizer's tokens"
    with pytest.raises(ValueError, match=re.escape(message)):
        Transformer(ModelConfig())


def test_what_is_left_out_follows_from_the_rest():
    config = ModelConfig(vocab_size=50_257, vocab_multiple=64, d_model=512, n_heads=8)
    assert (config.head_width, config.key_heads) == (64, 8)
    assert (config.known_vocab, config.padded_vocab) == (50_257, 50_304)
    given = ModelConfig(d_model=512, n_heads=8, n_kv_heads=2, d_head=80, d_ff=99)
    assert (given.head_width, given.key_heads, given.d_hidden) == (80, 2, 99)


@pytest.mark.parametrize(
    ("mlp", "d_model", "width"),
    [
        ("swiglu", 512, 1344),  # 8/3 of it is 1365.3, nearest to 21 * 64
        ("swiglu", 768, 2048),
        ("swiglu", 8, 64),
        ("gelu", 512, 2048),
        ("gelu_tanh", 768, 3072),
        ("silu", 8, 32),
        ("relu2", 8, 32),
    ],
)
def test_the_width_of_the_mlp_follows_from_its_kind(mlp: Any, d_model: int, width: int):
    assert ModelConfig(d_model=d_model, mlp=mlp).d_hidden == width


def test_a_vocabulary_that_fits_gets_no_padding():
    assert ModelConfig(vocab_size=128, vocab_multiple=64).padded_vocab == 128


@pytest.mark.parametrize(
    ("window", "masked"), [(None, False), (10, True), (11, False), (12, False)]
)
def test_a_window_as_wide_as_the_context_hides_nothing(window: int | None, masked: bool):
    assert small.model_config(window=window).masked_beyond_causal == masked
