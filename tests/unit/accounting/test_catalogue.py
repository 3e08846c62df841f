import dataclasses
from typing import Any

import pytest
import torch

from modelwright.accounting.catalogue import (
    CatalogueModel,
    active_parameters,
    catalogue,
    component_parameters,
    parameters_as_published,
    rounded_like,
    router_parameters,
    total_parameters,
    weight_matrix_parameters,
)
from modelwright.accounting.parameters import count_parameters
from modelwright.model.config import ModelConfig
from modelwright.model.presets import presets
from modelwright.model.transformer import Transformer

mixtures = [key for key, model in catalogue.items() if model.n_experts > 1]


def small_model(**changes: Any) -> CatalogueModel:
    shape = ModelConfig(vocab_size=10, d_model=4, n_heads=2, n_layers=3, d_ff=5, context=8)
    values: dict[str, Any] = {
        "name": "Small",
        "maker": "us",
        "shape": shape,
        "shape_source": "this test",
        "unlike_ours": ("something",),
    }
    return CatalogueModel(**(values | changes))


@pytest.mark.parametrize(
    ("key", "total"),
    [
        ("gpt2-small", 124_439_808),
        ("gpt3-175b", 174_604_259_328),
        ("llama-2-7b", 6_738_415_616),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3-70b", 70_553_706_496),
        ("mistral-7b", 7_241_732_096),
        ("mixtral-8x7b", 46_702_792_704),
        ("gemma-7b", 8_537_680_896),
    ],
)
def test_a_model_has_the_total_that_its_weights_are_known_to_have(key: str, total: int):
    assert total_parameters(catalogue[key]) == total


@pytest.mark.parametrize("key", list(catalogue))
def test_our_count_rounds_to_the_published_figure(key: str):
    published = catalogue[key].published
    assert published is not None
    n_parameters = parameters_as_published(catalogue[key])
    assert rounded_like(n_parameters, published.total) == published.total


@pytest.mark.parametrize("key", mixtures)
def test_our_count_of_active_parameters_rounds_to_the_published_figure(key: str):
    published = catalogue[key].published
    assert published is not None
    assert published.active is not None
    assert rounded_like(active_parameters(catalogue[key]), published.active) == published.active


def test_gemmas_printed_figures_are_ours_with_more_rows_of_embedding():
    count = component_parameters(catalogue["gemma-7b"])
    assert count.total - count.token_embedding == 7_751_248_896
    assert 786_825_216 - count.token_embedding == 128 * catalogue["gemma-7b"].shape.d_model


def test_gpt3_as_weight_matrices_with_an_output_of_its_own():
    assert weight_matrix_parameters(catalogue["gpt3-175b"]) == 175_181_291_520


@pytest.mark.parametrize("key", [key for key in catalogue if key in presets])
def test_a_shape_that_is_a_preset_counts_what_our_model_holds(key: str):
    with torch.device("meta"):
        model = Transformer(catalogue[key].shape)
    held = sum(parameter.numel() for parameter in model.parameters())
    assert total_parameters(catalogue[key]) == held == active_parameters(catalogue[key])


def test_the_weight_matrices_are_those_of_the_model_and_an_output_matrix():
    shape = catalogue["gpt2-small"].shape
    with torch.device("meta"):
        model = Transformer(dataclasses.replace(shape, tie_embeddings=False))
    held = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and name != "positions.weight"
    )
    assert weight_matrix_parameters(catalogue["gpt2-small"]) == held


def test_an_expert_adds_an_mlp_and_a_row_of_the_router_to_every_block():
    two, three = (component_parameters(small_model(n_experts=n_experts)) for n_experts in (2, 3))
    one_mlp = 3 * 4 * 5
    assert three.mlp - two.mlp == 3 * (one_mlp + 4)
    assert dataclasses.replace(three, mlp=two.mlp) == two


def test_an_active_expert_adds_an_mlp_to_what_a_token_meets_but_not_to_the_total():
    one, two = (small_model(n_experts=4, active_experts=n) for n in (1, 2))
    assert total_parameters(one) == total_parameters(two)
    assert active_parameters(two) - active_parameters(one) == 3 * (3 * 4 * 5)
    assert active_parameters(one) == count_parameters(one.shape).total + router_parameters(one)


def test_a_block_with_one_norm_has_one_norm_less():
    shape = ModelConfig(
        vocab_size=10, d_model=4, n_heads=2, n_layers=3, norm="layernorm", bias=True, qk_norm=True
    )
    two = component_parameters(small_model(shape=shape))
    one = component_parameters(small_model(shape=shape, norms_per_block=1))
    assert two.norms - one.norms == 3 * (4 + 4)
    assert dataclasses.replace(one, norms=two.norms) == two


@pytest.mark.parametrize(
    ("n_parameters", "figure", "expected"),
    [
        (46_702_792_704, "46.7B", "46.7B"),
        (46_750_000_000, "46.7B", "46.8B"),
        (46_749_999_999, "46.7B", "46.7B"),
        (7_000_000_000, "46.7B", "7.0B"),
        (68_976_648_192, "70B", "70B"),
        (64_999_999_999, "70B", "60B"),
        (64_999_999_999, "71B", "65B"),
        (174_604_259_328, "174,600M", "174,600M"),
        (174_604_259_328, "175.0B", "174.6B"),
        (1_557_611_200, "1558M", "1558M"),
        (1_557_611_200, "1,558M", "1,558M"),
        (7_751_248_897, "7,751,248,896", "7,751,248,897"),
        (1_499, "2K", "1K"),
        (2_500_000_000_000, "1T", "3T"),
    ],
)
def test_a_count_is_written_to_the_last_digit_of_a_figure(
    n_parameters: int, figure: str, expected: str
):
    assert rounded_like(n_parameters, figure) == expected


@pytest.mark.parametrize("figure", ["", "B", "0B", "0.00B", "8x7B", "-7B", "7 B", "seven"])
def test_what_is_no_figure_is_refused(figure: str):
    with pytest.raises(ValueError, match=f"'{figure}' is no figure to round to; one is '46.7B'"):
        rounded_like(1, figure)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"active_experts": 2}, "active_experts is 2.* at most all of n_experts = 1"),
        ({"active_experts": 0}, "active_experts is 0.* at least one"),
        ({"norms_per_block": 3}, "norms_per_block is 3; choose 1 or 2"),
        ({"n_experts": 2, "unlike_ours": ()}, "Small has n_experts = 2 .* say so in unlike_ours"),
        ({"norms_per_block": 1, "unlike_ours": ()}, "norms_per_block = 1, .* unlike_ours"),
    ],
)
def test_a_model_that_cannot_be_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        small_model(**changes)


def test_without_a_published_figure_there_is_nothing_to_compare():
    with pytest.raises(ValueError, match="no figure is published for Small"):
        parameters_as_published(small_model())
