import dataclasses
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import small
from modelwright.accounting.flops import forward_flops, training_flops
from modelwright.model.config import ModelConfig
from modelwright.model.transformer import Transformer

small_gpt2: dict[str, Any] = {"n_layers": 12, "d_model": 768, "n_heads": 12}
medium_gpt2: dict[str, Any] = {"n_layers": 24, "d_model": 1024, "n_heads": 16}
large_gpt2: dict[str, Any] = {"n_layers": 36, "d_model": 1280, "n_heads": 20}
xl_gpt2: dict[str, Any] = {"n_layers": 48, "d_model": 1600, "n_heads": 25}


def gpt2_with_swiglu(shape: dict[str, Any], context: int) -> ModelConfig:
    """GPT-2's shape with an MLP of three matrices, as in the first table of shared/figures.md."""
    return ModelConfig(
        vocab_size=50257, context=context, mlp="swiglu", d_ff=4 * shape["d_model"], **shape
    )


@pytest.mark.parametrize(
    ("shape", "seq", "published"),
    [
        (small_gpt2, 1024, 349_630_365_696),
        (medium_gpt2, 1024, 1_033_109_504_000),
        (large_gpt2, 1024, 2_257_754_521_600),
        (xl_gpt2, 1024, 4_513_336_524_800),
        (xl_gpt2, 16_384, 149_522_795_724_800),
    ],
)
def test_a_forward_pass_costs_the_published_figure(shape: dict[str, Any], seq: int, published: int):
    assert forward_flops(gpt2_with_swiglu(shape, seq), batch=1, seq=seq).total == published


def test_gpt2_xl_as_it_was_published_has_an_mlp_of_two_matrices():
    config = ModelConfig(vocab_size=50257, context=1024, mlp="gelu_tanh", bias=True, **xl_gpt2)
    assert forward_flops(config, batch=1, seq=1024).total == 3_506_703_564_800


options: list[dict[str, Any]] = [
    {},
    {"n_kv_heads": None},
    {"n_kv_heads": 1},
    {"mlp": "gelu"},
    {"mlp": "gelu_tanh"},
    {"mlp": "silu"},
    {"mlp": "relu2"},
    {"mlp": "swiglu", "d_ff": None},
    {"d_head": 10},
    {"qk_norm": True},
    {"norm": "none"},
    {"norm": "layernorm", "bias": True},
    {"positions": "learned"},
    {"tie_embeddings": False},
    {"vocab_multiple": 16},
    {"window": 3},
    {"placement": "post"},
]


@pytest.mark.parametrize("changes", options, ids=str)
def test_the_closed_form_counts_what_the_model_multiplies(changes: dict[str, Any]):
    config = small.model_config(**changes)
    batch, seq = 3, 7
    with torch.device("meta"):
        model = Transformer(config, attention="plain")
        counter = FlopCounterMode(display=False)
        with counter:
            model(torch.zeros(batch, seq, dtype=torch.int64))
    assert forward_flops(config, batch=batch, seq=seq).total == counter.get_total_flops()


def test_each_component_is_that_of_the_traced_module():
    config = small.model_config(n_layers=1)
    with torch.device("meta"):
        model = Transformer(config, attention="plain")
        counter = FlopCounterMode(display=False)
        with counter:
            model(torch.zeros(2, 5, dtype=torch.int64))
    traced = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    flops = forward_flops(config, batch=2, seq=5)
    block = "Transformer.blocks.0"
    assert flops.mlp == traced[f"{block}.mlp"]
    assert flops.unembedding == traced["Transformer.unembedding"]
    attention = flops.projections + flops.attention_scores + flops.attention_values
    assert attention == traced[f"{block}.attention"]
    projections = traced[f"{block}.attention.qkv"] + traced[f"{block}.attention.output"]
    assert flops.projections == projections


def test_the_components_sum_to_the_total():
    flops = forward_flops(gpt2_with_swiglu(small_gpt2, 1024), batch=2, seq=1024)
    assert sum(dataclasses.asdict(flops).values()) == flops.total


def test_a_backward_pass_costs_two_forward_passes():
    config = small.model_config()
    model = Transformer(config, attention="plain")
    counter = FlopCounterMode(display=False)
    with counter:
        model(small.ids(2, 6)).sum().backward()
    assert training_flops(config, batch=2, seq=6) == counter.get_total_flops()


def test_without_a_vocabulary_there_is_no_count():
    with pytest.raises(ValueError, match="vocab_size is not set"):
        forward_flops(ModelConfig(), batch=1, seq=1)
