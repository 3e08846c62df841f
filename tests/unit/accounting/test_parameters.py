import dataclasses
import itertools
import random
from collections import Counter
from typing import Any

import pytest
import torch

import small
from modelwright.accounting.parameters import count_parameters, tensor_counts
from modelwright.model.config import ModelConfig
from modelwright.model.initialise import initialise
from modelwright.model.presets import presets
from modelwright.model.transformer import Transformer
from modelwright.training.optimizers import OptimizerConfig
from modelwright.training.updates import parameter_groups

options: dict[str, list[Any]] = {
    "norm": ["layernorm", "rmsnorm", "none"],
    "placement": ["pre", "post"],
    "qk_norm": [True, False],
    "positions": ["learned", "rope", "none"],
    "mlp": ["gelu", "relu2", "swiglu"],
    "bias": [True, False],
    "tie_embeddings": [True, False],
    "n_kv_heads": [None, 2],
    "d_head": [None, 10],
    "d_ff": [None, 40],
    "vocab_multiple": [1, 16],
}
combinations = random.Random(0).sample(list(itertools.product(*options.values())), 150)


def preset_config(preset: str, **changes: Any) -> ModelConfig:
    return ModelConfig(**(presets[preset] | changes))


def held(model: Transformer) -> Counter[str]:
    """The model's own tensors by component, a shared one once."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        owners = name.split(".")[:-1]
        if owners[-1].endswith("norm"):
            component = "norms"
        else:
            component = owners[2] if owners[0] == "blocks" else owners[0]
        counts[component] += parameter.numel()
    return counts


def on_meta(config: ModelConfig) -> Transformer:
    with torch.device("meta"):
        return Transformer(config)


def small_config(choice: tuple[Any, ...]) -> ModelConfig:
    chosen = dict(zip(options, choice, strict=True))
    return ModelConfig(vocab_size=101, d_model=24, n_layers=3, context=9, **chosen)


@pytest.mark.parametrize("choice", combinations)
def test_the_closed_form_counts_what_the_model_holds(choice: tuple[Any, ...]):
    config = small_config(choice)
    count, tensors = count_parameters(config), held(on_meta(config))
    assert count.total + count.padding == tensors.total()
    assert (count.attention, count.mlp, count.norms, count.position_embedding) == tuple(
        tensors[name] for name in ("attention", "mlp", "norms", "positions")
    )
    matrices = tensors["embedding"] + tensors["unembedding"]
    assert count.token_embedding + count.unembedding + count.padding == matrices
    assert count.padding == (config.padded_vocab - 101) * 24 * (1 if config.tie_embeddings else 2)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_padding_is_what_starts_as_zeros_and_is_not_in_the_total(tie_embeddings: bool):
    config = small.model_config(vocab_multiple=16, tie_embeddings=tie_embeddings)
    model = Transformer(config)
    initialise(model, seed=0)
    n_zeros = sum(int(parameter.eq(0).sum()) for parameter in model.parameters())
    count = count_parameters(config)
    assert count.padding == n_zeros > 0
    assert count.total == count_parameters(dataclasses.replace(config, vocab_multiple=1)).total


published: dict[str, int] = {
    "gpt2-small": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt2-xl-swiglu": 2_127_057_600,
    "gpt3-175b": 174_604_259_328,
    "fast-12": 135_288_576,  # 2 V D + L (12 D² + 2 D + 2 · 128) + D
    "fast-20": 477_159_680,
    "fast-26": 973_042_304,
    "tinystories-17m": 22_696_448,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "mistral-7b": 7_241_732_096,
}


@pytest.mark.parametrize("preset", list(published))
def test_a_published_model_has_its_number_of_parameters(preset: str):
    config = preset_config(preset)
    assert count_parameters(config).total == published[preset]
    assert held(on_meta(config)).total() == published[preset]


def test_every_preset_with_a_vocabulary_is_counted():
    assert set(presets) - set(published) == {"laptop"}  # whose vocabulary its tokenizer brings


def test_gpt2_with_a_rounded_vocabulary_has_the_number_others_give():
    config = preset_config("gpt2-small", vocab_size=50_304)
    assert count_parameters(config).total == 124_475_904
    padded = count_parameters(preset_config("gpt2-small", vocab_multiple=64))
    assert padded.total == 124_439_808
    assert padded.total + padded.padding == 124_475_904


def test_the_laptop_preset_builds_for_a_tokenizer_of_any_size():
    config = preset_config("laptop", vocab_size=4096)
    assert count_parameters(config).total == held(on_meta(config)).total()


def test_the_components_sum_to_the_total_and_the_padding():
    count = count_parameters(preset_config("gpt2-small", vocab_multiple=64))
    assert sum(dataclasses.asdict(count).values()) == count.total + count.padding


def test_without_a_vocabulary_there_is_no_count():
    with pytest.raises(ValueError, match="vocab_size is not set"):
        count_parameters(ModelConfig())


def shapes_of(model: Transformer) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(parameter.shape)) for name, parameter in model.named_parameters()]


@pytest.mark.parametrize("choice", combinations)
def test_the_table_of_tensors_is_the_models_own(choice: tuple[Any, ...]):
    config = small_config(choice)
    table = tensor_counts(config)
    assert [(tensor.name, tensor.shape) for tensor in table] == shapes_of(on_meta(config))


@pytest.mark.parametrize("preset", list(presets))
def test_the_table_of_a_presets_tensors_is_the_models_own(preset: str):
    config = preset_config(preset, vocab_multiple=64)
    if config.vocab_size is None:
        config = dataclasses.replace(config, vocab_size=4096)
    table, model = tensor_counts(config), on_meta(config)
    assert [(tensor.name, tensor.shape) for tensor in table] == shapes_of(model)
    n_held = sum(parameter.numel() for parameter in model.parameters())
    assert sum(tensor.n_parameters for tensor in table) == n_held


@pytest.mark.parametrize("choice", combinations)
def test_the_table_of_tensors_sums_to_the_closed_form_by_component(choice: tuple[Any, ...]):
    config = small_config(choice)
    sums = Counter[str]()
    for tensor in tensor_counts(config):
        sums[tensor.component] += tensor.n_parameters
    padding = (config.padded_vocab - config.known_vocab) * config.d_model
    expected = dataclasses.asdict(count_parameters(config))
    assert expected.pop("padding") == padding * (1 if config.tie_embeddings else 2)
    expected["token_embedding"] += padding
    expected["unembedding"] += 0 if config.tie_embeddings else padding
    assert {name: sums[name] for name in expected} == expected


@pytest.mark.parametrize("choice", combinations[:40])
def test_the_matrices_are_what_weight_decay_shrinks(choice: tuple[Any, ...]):
    config = small_config(choice)
    decayed = {
        name
        for group in parameter_groups(on_meta(config), OptimizerConfig(weight_decay=0.1))
        for name in group.names
        if group.weight_decay
    }
    assert {tensor.name for tensor in tensor_counts(config) if tensor.is_matrix} == decayed


def test_gpt2_decays_the_tensors_that_others_say_it_does():
    config = preset_config("gpt2-small", vocab_size=50_304)
    table = tensor_counts(config)
    split = [
        [tensor.n_parameters for tensor in table if tensor.is_matrix is decays]
        for decays in (True, False)
    ]
    assert [(len(sizes), sum(sizes)) for sizes in split] == [(50, 124_354_560), (98, 121_344)]
    groups = parameter_groups(on_meta(config), OptimizerConfig(weight_decay=0.1))
    assert [(len(sizes), sum(sizes)) for sizes in split] == [
        (group.n_tensors, group.n_parameters) for group in groups
    ]


def test_without_a_vocabulary_there_is_no_table():
    with pytest.raises(ValueError, match="vocab_size is not set"):
        tensor_counts(ModelConfig())
