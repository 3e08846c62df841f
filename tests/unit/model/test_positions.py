import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import small
from modelwright.model.positions import LearnedPositions, Rotary, rotary_frequencies, stretched
from modelwright.model.positions import turned as turn


def turns(n_tokens: int, positions: torch.Tensor | None = None):
    return Rotary(50, rotary_frequencies(8, theta=100.0))(n_tokens, positions, torch.float64)


def test_rotated_products_depend_on_the_distance_alone():
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 8, generator=generator, dtype=torch.float64)
    rows = turn(torch.stack([query, key])[None, :, None].expand(1, 2, 50, 8), turns(50))
    products = rows[0, 0] @ rows[0, 1].T
    for distance in (0, 1, 7, 30):
        diagonal = products.diagonal(-distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-12)
    assert not torch.allclose(products.diagonal(0)[0], products.diagonal(-1)[0], atol=1e-2)


def test_a_turn_keeps_lengths_and_leaves_the_first_position():
    x = torch.randn(1, 2, 50, 8, dtype=torch.float64)
    rotated = turn(x, turns(50))
    assert torch.equal(rotated[:, :, 0], x[:, :, 0])
    lengths = [torch.hypot(y[..., :4], y[..., 4:]) for y in (x, rotated)]
    assert torch.allclose(*lengths, rtol=1e-14)


def test_the_pairs_turn_at_frequencies_from_one_down_to_nearly_the_inverse_of_theta():
    frequencies = rotary_frequencies(128, theta=500_000.0)
    assert frequencies[0] == 1
    assert frequencies[-1].item() == pytest.approx(500_000.0 ** -(126 / 128), rel=1e-14)
    ratios = frequencies[1:] / frequencies[:-1]
    assert torch.allclose(ratios, ratios[0].expand_as(ratios), rtol=1e-14)


def test_given_positions_are_looked_up():
    positions = torch.tensor([[3, 0, 49], [1, 1, 2]])
    whole, picked = turns(50), turns(3, positions)
    for all_of_them, these in zip(whole, picked, strict=True):
        assert these.shape == (2, 1, 3, 4)
        assert torch.equal(these[:, 0], all_of_them[0, 0][positions])


def test_angles_are_exact_far_out():
    frequencies = rotary_frequencies(8, theta=10_000.0)
    _, sines = Rotary(100_001, frequencies)(100_001, None, torch.float32)
    for pair, frequency in enumerate(frequencies.tolist()):
        # An angle in fp32 would be off by a few thousandths here.
        assert sines[0, 0, -1, pair].item() == pytest.approx(math.sin(1e5 * frequency), abs=1e-7)


def test_what_follows_from_the_config_is_not_saved_with_the_weights():
    assert not [name for name in small.model().state_dict() if "sin" in name or "cos" in name]


def test_learned_positions_are_added_by_number():
    table = LearnedPositions(5, 3)
    torch.nn.init.normal_(table.weight)
    x = torch.randn(2, 4, 3)
    assert torch.equal(table(x, None), x + table.weight[:4])
    positions = torch.tensor([[0, 1, 0, 1], [4, 3, 2, 2]])
    assert torch.equal(table(x, positions), x + table.weight[positions])


@pytest.mark.parametrize("factor", [1.0, 8.0, 32.0])
@pytest.mark.parametrize(("low", "high"), [(1.0, 4.0), (2.0, 3.0)])
@pytest.mark.parametrize("original_context", [8192, 64])
@pytest.mark.parametrize("theta", [500_000.0, 10_000.0])
def test_stretched_frequencies_are_those_of_llama_3(
    factor: float, low: float, high: float, original_context: int, theta: float
):
    config = LlamaConfig(
        hidden_size=256,
        num_attention_heads=2,
        max_position_embeddings=131_072,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original_context,
        },
    )
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    ours = stretched(
        rotary_frequencies(128, theta=theta),
        factor=factor,
        low=low,
        high=high,
        original_context=original_context,
    )
    assert torch.allclose(ours.float(), theirs, rtol=2e-6)  # theirs are computed in fp32
    if factor == 1:
        assert torch.equal(ours, rotary_frequencies(128, theta=theta))
