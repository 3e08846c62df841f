"""With the same weights, Hugging Face's GPT-2, Llama, Mistral and Qwen3 give the same numbers.

Logits, loss and the gradient of every parameter. In fp64 nothing but rounding is left; for that,
Hugging Face's few operations that are in fp32 whatever the model are replaced (see `exact`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

import small
from modelwright.accounting.parameters import count_parameters
from modelwright.data.loader import not_a_target
from modelwright.model.config import ModelConfig
from modelwright.model.loss import next_token_loss
from modelwright.model.presets import presets
from modelwright.model.transformer import Transformer

llama3_rope = {
    "rope_theta": 100.0,
    "rope_factor": 4.0,
    "rope_low_frequency": 1.0,
    "rope_high_frequency": 4.0,
    "rope_original_context": 64,
}
gpt2 = {
    "norm": "layernorm",
    "positions": "learned",
    "mlp": "gelu_tanh",
    "bias": True,
    "n_kv_heads": None,
}
llama: dict[str, Any] = {"norm_epsilon": 1e-6}


@dataclass(frozen=True)
class Pair:
    """One architecture under its two names."""

    family: str
    options: dict[str, Any]

    def __str__(self) -> str:
        usual = {"gpt2": gpt2}.get(self.family, llama)
        changes = {name: value for name, value in self.options.items() if name not in usual}
        return f"{self.family}-{changes}"


def llama_pairs(family: str, *changes: dict[str, Any]) -> list[Pair]:
    return [Pair(family, llama | change) for change in changes]


pairs = [
    Pair("gpt2", gpt2),
    Pair("gpt2", gpt2 | {"tie_embeddings": False}),
    Pair("gpt2", gpt2 | {"mlp": "gelu"}),
    Pair("gpt2", gpt2 | {"norm_epsilon": 0.1}),
    *llama_pairs(
        "llama",
        {},
        {"tie_embeddings": False},
        {"n_kv_heads": None},
        {"n_kv_heads": 1},
        {"d_head": 10},
        {"rope_theta": 50.0},
        llama3_rope,
        {"bias": True},
        {"norm_epsilon": 0.1},
        {"vocab_multiple": 16},
        {"bias": True, "tie_embeddings": False, "n_kv_heads": 1, "d_head": 8, **llama3_rope},
    ),
    *llama_pairs("mistral", {"window": 3}, {"window": 1, "d_head": 8}, {"tie_embeddings": False}),
    *llama_pairs(
        "qwen3",
        {"qk_norm": True},
        {"qk_norm": True, "d_head": 8, "tie_embeddings": False, "rope_theta": 50.0},
    ),
]


def theirs_of(family: str, config: ModelConfig) -> Any:
    """Hugging Face's config of the same model, with no room for a default to differ."""
    if family == "gpt2":
        return GPT2Config(
            vocab_size=config.known_vocab,
            n_positions=config.context,
            n_embd=config.d_model,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            n_inner=config.d_hidden,
            activation_function={"gelu_tanh": "gelu_new", "gelu": "gelu"}[config.mlp],
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            layer_norm_epsilon=config.norm_epsilon,
            tie_word_embeddings=config.tie_embeddings,
            bos_token_id=None,
            eos_token_id=None,
        )
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_factor > 1:
        rope |= {
            "rope_type": "llama3",
            "factor": config.rope_factor,
            "low_freq_factor": config.rope_low_frequency,
            "high_freq_factor": config.rope_high_frequency,
            "original_max_position_embeddings": config.rope_original_context,
        }
    kind = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen3": Qwen3Config}[family]
    more: dict[str, Any] = {
        "llama": {"attention_bias": config.bias, "mlp_bias": config.bias},
        "mistral": {"sliding_window": config.window},
        "qwen3": {"attention_bias": config.bias},
    }[family]
    return kind(
        vocab_size=config.known_vocab,
        hidden_size=config.d_model,
        intermediate_size=config.d_hidden,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.key_heads,
        head_dim=config.head_width,
        max_position_embeddings=config.context,
        rms_norm_eps=config.norm_epsilon,
        tie_word_embeddings=config.tie_embeddings,
        rope_parameters=rope,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **more,
    )


kinds: dict[str, Any] = {
    "gpt2": GPT2LMHeadModel,
    "llama": LlamaForCausalLM,
    "mistral": MistralForCausalLM,
    "qwen3": Qwen3ForCausalLM,
}
outer_names = {
    "gpt2": {
        "embedding": "transformer.wte",
        "positions": "transformer.wpe",
        "norm": "transformer.ln_f",
        "unembedding": "lm_head",
    },
    "llama": {
        "embedding": "model.embed_tokens",
        "norm": "model.norm",
        "unembedding": "lm_head",
    },
}
inner_names = {
    "gpt2": {
        "attention_norm": "ln_1",
        "attention.qkv": "attn.c_attn",
        "attention.output": "attn.c_proj",
        "mlp_norm": "ln_2",
        "mlp.up": "mlp.c_fc",
        "mlp.down": "mlp.c_proj",
    },
    "llama": {
        "attention_norm": "input_layernorm",
        "attention.output": "self_attn.o_proj",
        "attention.query_norm": "self_attn.q_norm",
        "attention.key_norm": "self_attn.k_norm",
        "mlp_norm": "post_attention_layernorm",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    },
}


def translated(family: str, ours: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Weights, or their gradients, under their names and in their layout."""
    family = "gpt2" if family == "gpt2" else "llama"
    return {
        name: tensor
        for path, value in ours.items()
        for name, tensor in translations(family, path, value, config)
    }


def translations(
    family: str, path: str, tensor: Tensor, config: ModelConfig
) -> Iterator[tuple[str, Tensor]]:
    owner, _, kind = path.rpartition(".")
    if not owner.startswith("blocks."):
        rows = config.known_vocab if "embedding" in owner else len(tensor)  # no padding
        yield f"{outer_names[family][owner]}.{kind}", tensor[:rows]
        return
    _, layer, part = owner.split(".", 2)
    if family == "gpt2":
        # Their linear layers hold the transposed matrix.
        yield f"transformer.h.{layer}.{inner_names[family][part]}.{kind}", tensor.t()
    elif part == "attention.qkv":
        sizes = [
            n * config.head_width for n in (config.n_heads, config.key_heads, config.key_heads)
        ]
        for letter, third in zip("qkv", tensor.split(sizes), strict=True):
            yield f"model.layers.{layer}.self_attn.{letter}_proj.{kind}", third
    else:
        yield f"model.layers.{layer}.{inner_names[family][part]}.{kind}", tensor


class ExactRotary(nn.Module):
    """Their rotary embedding by its own formula, but in fp64."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        rope = config.rope_parameters
        pairs = torch.arange(0, config.head_dim, 2, dtype=torch.float64)
        frequencies = 1.0 / (rope["rope_theta"] ** (pairs / config.head_dim))
        if rope["rope_type"] == "llama3":
            wavelengths = 2 * torch.pi / frequencies
            original = rope["original_max_position_embeddings"]
            low, high = rope["low_freq_factor"], rope["high_freq_factor"]
            slowed = frequencies / rope["factor"]
            smooth = (original / wavelengths - low) / (high - low)
            between = (1 - smooth) * slowed + smooth * frequencies
            frequencies = torch.where(
                wavelengths > original / low,
                slowed,
                torch.where(wavelengths < original / high, frequencies, between),
            )
        self.frequencies = frequencies

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        angles = position_ids[..., None].double() * self.frequencies
        both = torch.cat((angles, angles), dim=-1)
        return both.cos(), both.sin()


def exact(model: Any) -> Any:
    """The same in fp64 throughout.

    Their rotary angles, root mean squares and (in eager attention) softmax are in fp32 whatever
    the model is; the last one is avoided by `attn_implementation="sdpa"`.
    """
    model = model.double()
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):
            norm = nn.RMSNorm(len(module.weight), eps=module.variance_epsilon)
            norm.weight = module.weight
            model.set_submodule(name, norm)
        elif type(module).__name__.endswith("RotaryEmbedding"):
            model.set_submodule(name, ExactRotary(module.config))
    return model


def made(pair: Pair, dtype: torch.dtype) -> tuple[Transformer, Any]:
    """Our model with random weights, and theirs with the same."""
    ours = small.model(dtype=dtype, **pair.options)
    kind, config = kinds[pair.family], theirs_of(pair.family, ours.config)
    config._attn_implementation = "eager" if dtype == torch.float32 else "sdpa"
    theirs = kind(config)
    if dtype == torch.float64:
        theirs = exact(theirs)
    weights = translated(pair.family, ours.state_dict(), ours.config)
    assert set(weights) == set(theirs.state_dict())
    theirs.load_state_dict(weights)
    return ours, theirs


@pytest.mark.parametrize("pair", pairs, ids=str)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-9), (torch.float32, 1e-4)],  # of the largest number
    ids=["fp64", "fp32"],
)
def test_logits_and_every_gradient_are_theirs(pair: Pair, dtype: torch.dtype, tolerance: float):
    ours, theirs = made(pair, dtype)
    ids = small.ids()

    def assert_close(a: Tensor, b: Tensor, name: str) -> None:
        assert a.shape == b.shape, name
        assert a.dtype == b.dtype == dtype
        assert (a - b).abs().max() <= tolerance * max(1.0, b.abs().max().item()), name

    logits = theirs(ids).logits
    assert_close(ours(ids), logits, "logits")

    targets = ids.roll(-1, 1)
    targets[:, -1] = not_a_target
    loss = next_token_loss(ours, ids, targets)
    # Not their own loss, which rounds the logits to fp32.
    their_loss = functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=not_a_target, reduction="sum"
    )
    assert_close(loss, their_loss, "loss")
    loss.backward()
    their_loss.backward()
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    found = translated(pair.family, gradients, ours.config)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        assert_close(found[name], gradient, name)


@pytest.mark.parametrize("pair", [pairs[0], pairs[4]], ids=str)
def test_the_loss_is_theirs(pair: Pair):
    ours, theirs = made(pair, torch.float32)
    ids = small.ids()
    targets = ids.roll(-1, 1)
    targets[:, -1] = not_a_target
    n_targets = int((targets != not_a_target).sum())
    labels = ids.clone()
    assert next_token_loss(ours, ids, targets).item() / n_targets == pytest.approx(
        theirs(ids, labels=labels).loss.item(), rel=1e-5
    )
    # Theirs marks what does not count at the label itself, ours at the position before it.
    labels[0, 4:7] = -100
    targets[0, 3:6] = not_a_target
    assert next_token_loss(ours, ids, targets).item() / (n_targets - 3) == pytest.approx(
        theirs(ids, labels=labels).loss.item(), rel=1e-5
    )


@pytest.mark.parametrize(
    "pair",
    [
        Pair("gpt2", gpt2),
        *llama_pairs("llama", {}, llama3_rope),
        *llama_pairs("mistral", {"window": 3}),
        *llama_pairs("qwen3", {"qk_norm": True}),
    ],
    ids=str,
)
def test_packed_documents_get_the_logits_of_separate_texts(pair: Pair):
    ours, theirs = made(pair, torch.float64)
    ids = small.ids()
    lengths = [[4, 1, 6], [11]]
    positions = torch.stack([torch.cat([torch.arange(n) for n in sizes]) for sizes in lengths])
    documents = torch.stack(
        [torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)) for sizes in lengths]
    )
    packed = ours(ids, positions=positions, documents=documents)
    for row, text, sizes in zip(packed, ids, lengths, strict=True):
        for found, document in zip(row.split(sizes), text.split(sizes), strict=True):
            assert (found - theirs(document[None]).logits[0]).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("preset", "family"),
    [
        ("gpt2-small", "gpt2"),
        ("gpt2-medium", "gpt2"),
        ("gpt2-large", "gpt2"),
        ("gpt2-xl", "gpt2"),
        ("gpt2-xl-swiglu", "llama"),
        ("tinystories-17m", "llama"),
        ("llama-2-7b", "llama"),
        ("llama-3-8b", "llama"),
        ("llama-3.1-8b", "llama"),
        ("mistral-7b", "mistral"),
    ],
)
def test_a_preset_has_as_many_parameters_as_their_model(preset: str, family: str):
    config = ModelConfig(**presets[preset])
    with torch.device("meta"):
        theirs = kinds[family](theirs_of(family, config))
    assert count_parameters(config).total == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(
    ("preset", "family", "theirs"),
    [
        ("gpt2-small", "gpt2", GPT2Config()),
        ("llama-2-7b", "llama", LlamaConfig(max_position_embeddings=4096, rms_norm_eps=1e-5)),
        ("mistral-7b", "mistral", MistralConfig(max_position_embeddings=32_768, rms_norm_eps=1e-5)),
    ],
)
def test_where_their_defaults_are_the_model_the_preset_agrees_with_them(
    preset: str, family: str, theirs: Any
):
    ours = theirs_of(family, ModelConfig(**presets[preset])).to_dict()
    expected = theirs.to_dict()
    unlike = {name for name in expected if ours.get(name) != expected[name]}
    # Dropout, special tokens and the width that follows from others are no part of a preset.
    assert unlike <= {
        *("attn_pdrop", "embd_pdrop", "resid_pdrop"),
        *("bos_token_id", "eos_token_id", "n_inner", "head_dim"),
    }
