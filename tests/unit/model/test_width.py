import math

import pytest
import torch

import small
from modelwright.model.config import InitialConfig
from modelwright.model.initialise import base_std, initialise
from modelwright.model.transformer import Transformer
from modelwright.model.width import initial_factor, rate_factor, role_of


@pytest.mark.parametrize(
    ("name", "n_axes", "is_tied", "role"),
    [
        ("blocks.0.attention.qkv.weight", 2, True, "hidden"),
        ("blocks.3.mlp.down.weight", 2, False, "hidden"),
        ("blocks.3.mlp.down.bias", 1, False, "constant"),
        ("blocks.1.mlp_norm.weight", 1, True, "constant"),
        ("embedding.weight", 2, True, "constant"),
        ("positions.weight", 2, True, "constant"),
        ("norm.weight", 1, True, "output"),
        ("norm.bias", 1, True, "output"),
        ("norm.weight", 1, False, "constant"),
        ("unembedding.weight", 2, False, "output"),
    ],
)
def test_each_parameter_has_its_role(name, n_axes, is_tied, role):
    assert role_of(name, n_axes=n_axes, is_tied=is_tied) == role


def test_twice_the_width_halves_the_rate_and_divides_the_size_by_its_root():
    assert rate_factor("hidden", 0.5, "adamw") == 0.5
    assert rate_factor("output", 0.5, "adamw") == 0.5
    assert rate_factor("constant", 0.5, "adamw") == 1.0
    assert rate_factor("hidden", 0.25, "muon") == 0.5
    assert initial_factor("hidden", 0.25) == 0.5
    assert initial_factor("output", 0.25) == 0.25
    assert initial_factor("constant", 0.25) == 1.0


@pytest.mark.parametrize("is_tied", [True, False])
def test_initial_weights_follow_from_the_base_width(is_tied: bool):
    width, base = 256, 64
    model = Transformer(
        small.model_config(d_model=width, d_ff=width, vocab_size=301, tie_embeddings=is_tied)
    )
    initialise(model, seed=0, base_width=base)
    std = base_std(InitialConfig(), base)
    found = {name: p.detach() for name, p in model.named_parameters()}
    # Of so many numbers, the standard deviation is off by one percent or two.
    assert found["embedding.weight"].std() == pytest.approx(std, rel=0.05)
    assert found["blocks.0.mlp.up.weight"].std() == pytest.approx(std / 2, rel=0.05)
    assert found["blocks.0.mlp.down.weight"].std() == pytest.approx(std / 4, rel=0.05)
    if is_tied:
        assert torch.equal(found["norm.weight"], torch.full((width,), 0.25))
    else:
        assert found["unembedding.weight"].std() == pytest.approx(std / 4, rel=0.05)
        assert torch.equal(found["norm.weight"], torch.ones(width))
    assert torch.equal(found["blocks.1.mlp_norm.weight"], torch.ones(width))


def test_the_small_rule_makes_hidden_matrices_as_it_does_without_a_base_width():
    # It divides by the root of the width itself.
    std = base_std(InitialConfig(), 256)
    assert math.sqrt(64 / 256) * base_std(InitialConfig(), 64) == pytest.approx(std)


def test_the_width_that_was_tuned_has_the_same_bits_with_and_without_the_rule():
    plain, ruled = (Transformer(small.model_config()) for _ in range(2))
    initialise(plain, seed=3)
    initialise(ruled, seed=3, base_width=plain.config.d_model)
    for one, other in zip(plain.parameters(), ruled.parameters(), strict=True):
        assert torch.equal(one, other)
