import dataclasses
import itertools

import pytest
import torch

from modelwright.accounting.parameters import count_parameters
from modelwright.model.config import ModelConfig
from modelwright.model.transformer import Transformer

options = {
    "norm": ["layernorm", "rmsnorm"],
    "positions": ["learned", "rope", "none"],
    "mlp": ["gelu", "swiglu"],
    "bias": [True, False],
    "tie_embeddings": [True, False],
    "n_kv_heads": [None, 2],
}
gpt2 = {"context": 1024, "norm": "layernorm", "positions": "learned", "mlp": "gelu", "bias": True}


@pytest.mark.parametrize("choice", list(itertools.product(*options.values())))
def test_the_closed_form_counts_what_the_model_holds(choice: tuple):
    config = ModelConfig(
        vocab_size=101,
        d_model=24,
        n_layers=3,
        d_ff=40,
        context=9,
        **dict(zip(options, choice, strict=True)),
    )
    with torch.device("meta"):
        model = Transformer(config)
    count = count_parameters(config)
    assert count.total == sum(parameter.numel() for parameter in model.parameters())
    held = dict.fromkeys(("attention", "mlp", "norms"), 0)
    for name, parameter in model.named_parameters():
        owner = name.split(".")[-3] if name.count(".") > 1 else ""
        if owner in held:
            held[owner] += parameter.numel()
        elif "norm." in name:
            held["norms"] += parameter.numel()
    assert (count.attention, count.mlp, count.norms) == tuple(held.values())


@pytest.mark.parametrize(
    ("shape", "published"),
    [
        ({"n_layers": 12, "d_model": 768, "n_heads": 12}, 124_439_808),
        ({"n_layers": 24, "d_model": 1024, "n_heads": 16}, 354_823_168),
        ({"n_layers": 36, "d_model": 1280, "n_heads": 20}, 774_030_080),
        ({"n_layers": 48, "d_model": 1600, "n_heads": 25}, 1_557_611_200),
    ],
)
def test_gpt2_has_its_published_number_of_parameters(shape: dict, published: int):
    assert count_parameters(ModelConfig(vocab_size=50257, **gpt2, **shape)).total == published


def test_the_components_sum_to_the_total():
    count = count_parameters(ModelConfig(vocab_size=50257, **gpt2))
    assert sum(dataclasses.asdict(count).values()) == count.total


def test_without_a_vocabulary_there_is_no_count():
    with pytest.raises(ValueError, match="vocab_size is not set"):
        count_parameters(ModelConfig())
