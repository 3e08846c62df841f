"""Hugging Face's models of the catalogue's shapes hold as many parameters as we count.

The hyperparameters are written here again, from the configs released with the weights, so that a
slip in the catalogue shows. Everything is on the meta device, at full size.
"""

from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    DbrxConfig,
    DbrxForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from modelwright.accounting.catalogue import (
    active_parameters,
    catalogue,
    component_parameters,
    router_parameters,
    total_parameters,
)


def gpt2(width: int, layers: int, heads: int, context: int = 1024) -> GPT2Config:
    return GPT2Config(
        vocab_size=50257, n_positions=context, n_embd=width, n_layer=layers, n_head=heads
    )


def gated(
    vocabulary: int, width: int, layers: int, heads: int, key_heads: int, inner: int, **more: Any
) -> dict[str, Any]:
    """The names that Llama's, Mistral's, Gemma's and Cohere's configs share."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "intermediate_size": inner,
        "tie_word_embeddings": False,
    } | more


def mixtral(*shape: int) -> MixtralConfig:
    return MixtralConfig(**gated(*shape, num_local_experts=8, num_experts_per_tok=2))


published_configs: dict[str, Any] = {
    "gpt2-small": gpt2(768, 12, 12),
    "gpt2-medium": gpt2(1024, 24, 16),
    "gpt2-large": gpt2(1280, 36, 20),
    "gpt2-xl": gpt2(1600, 48, 25),
    "gpt3-175b": gpt2(12288, 96, 96, context=2048),
    "llama-2-7b": LlamaConfig(**gated(32000, 4096, 32, 32, 32, 11008)),
    "llama-2-13b": LlamaConfig(**gated(32000, 5120, 40, 40, 40, 13824)),
    "llama-2-70b": LlamaConfig(**gated(32000, 8192, 80, 64, 8, 28672)),
    "llama-3-8b": LlamaConfig(**gated(128256, 4096, 32, 32, 8, 14336)),
    "llama-3-70b": LlamaConfig(**gated(128256, 8192, 80, 64, 8, 28672)),
    "mistral-7b": MistralConfig(**gated(32000, 4096, 32, 32, 8, 14336)),
    "mixtral-8x7b": mixtral(32000, 4096, 32, 32, 8, 14336),
    "mixtral-8x22b": mixtral(32000, 6144, 56, 48, 8, 16384),
    "gemma-7b": GemmaConfig(
        **gated(256000, 3072, 28, 16, 16, 24576, head_dim=256, tie_word_embeddings=True)
    ),
    "dbrx": DbrxConfig(
        d_model=6144,
        n_heads=48,
        n_layers=40,
        max_seq_len=32768,
        vocab_size=100352,
        attn_config={"clip_qkv": 8, "kv_n_heads": 8, "rope_theta": 500000},
        ffn_config={
            "ffn_hidden_size": 10752,
            "moe_num_experts": 16,
            "moe_top_k": 4,
        },
    ),
    "command-r": CohereConfig(
        **gated(256000, 8192, 40, 64, 64, 22528, attention_bias=False, tie_word_embeddings=True)
    ),
}
classes: dict[type, Any] = {
    GPT2Config: GPT2LMHeadModel,
    LlamaConfig: LlamaForCausalLM,
    MistralConfig: MistralForCausalLM,
    MixtralConfig: MixtralForCausalLM,
    GemmaConfig: GemmaForCausalLM,
    DbrxConfig: DbrxForCausalLM,
    CohereConfig: CohereForCausalLM,
}


@cache
def held(key: str) -> Counter[str]:
    """How many parameters their model has in each part, a shared one once."""
    config = published_configs[key]
    with torch.device("meta"):
        model: nn.Module = classes[type(config)](config)
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[part_of(name)] += parameter.numel()
    return counts


def part_of(name: str) -> str:
    """To which of our components a parameter of theirs belongs."""
    words = name.replace("norm_attn_norm.", "").split(".")
    if any("norm" in word or word.startswith("ln_") for word in words):
        return "norms"
    owners = {
        "wte": "token_embedding",
        "embed_tokens": "token_embedding",
        "wpe": "position_embedding",
        "lm_head": "unembedding",
        "attn": "attention",
        "self_attn": "attention",
        "experts": "experts",
    }
    return next((owners[word] for word in words if word in owners), "mlp")


def test_every_model_of_the_catalogue_is_compared():
    assert published_configs.keys() == catalogue.keys()


@pytest.mark.parametrize("key", list(published_configs))
def test_our_total_is_what_their_model_holds(key: str):
    assert total_parameters(catalogue[key]) == held(key).total()


@pytest.mark.parametrize("key", list(published_configs))
def test_our_components_are_those_of_their_model(key: str):
    count, theirs = component_parameters(catalogue[key]), held(key)
    assert count.mlp == theirs["mlp"] + theirs["experts"]
    for part in ("token_embedding", "position_embedding", "attention", "norms", "unembedding"):
        assert getattr(count, part) == theirs[part], part


@pytest.mark.parametrize(
    ("key", "n_experts", "active_experts"),
    [("mixtral-8x7b", 8, 2), ("mixtral-8x22b", 8, 2), ("dbrx", 16, 4)],
)
def test_a_token_meets_all_but_the_experts_it_does_not_pass_through(
    key: str, n_experts: int, active_experts: int
):
    one_expert, rest = divmod(held(key)["experts"], n_experts)
    assert not rest
    skipped = (n_experts - active_experts) * one_expert
    assert active_parameters(catalogue[key]) == held(key).total() - skipped
    # Beside the experts, their MLP has nothing but the router.
    assert router_parameters(catalogue[key]) == held(key)["mlp"]


def test_a_dense_model_has_no_router():
    assert router_parameters(catalogue["mistral-7b"]) == 0
    assert held("mistral-7b")["experts"] == 0
