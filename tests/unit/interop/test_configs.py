import re
from typing import Any

import pytest

from modelwright.interop.configs import ours_of

gpt2: dict[str, Any] = {
    "model_type": "gpt2",
    "vocab_size": 300,
    "n_positions": 24,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
}
llama: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 300,
    "max_position_embeddings": 24,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
}
qwen3 = llama | {"model_type": "qwen3", "head_dim": 6}


def test_what_is_carried_over():
    config = ours_of(gpt2, vocab_multiple=64)
    assert (config.norm, config.positions, config.mlp) == ("layernorm", "learned", "gelu_tanh")
    assert (config.d_ff, config.bias, config.tie_embeddings) == (96, True, True)
    assert (config.vocab_size, config.padded_vocab) == (300, 320)
    config = ours_of(llama | {"attention_bias": True, "mlp_bias": True, "rope_theta": 5})
    assert (config.norm, config.positions, config.mlp) == ("rmsnorm", "rope", "swiglu")
    assert (config.key_heads, config.bias, config.tie_embeddings) == (2, True, False)
    assert (config.rope_theta, config.qk_norm, config.window) == (5.0, False, None)
    assert ours_of(qwen3).qk_norm
    assert ours_of(llama | {"model_type": "mistral", "sliding_window": 7}).window == 7


def test_dropout_is_not_carried_over():
    assert ours_of(gpt2 | {"resid_pdrop": 0.5}).dropout == 0


refused: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        llama,
        {"model_type": "mamba"},
        "\"model_type\" is 'mamba' in config.json, which our Transformer is not; supported are "
        "gpt2, llama, mistral, qwen3, starcoder2",
    ),
    (gpt2, {"scale_attn_weights": False}, '"scale_attn_weights" is False'),
    (gpt2, {"scale_attn_by_inverse_layer_idx": True}, '"scale_attn_by_inverse_layer_idx" is True'),
    (gpt2, {"add_cross_attention": True}, "there is no encoder to look at; supported is False"),
    (
        gpt2,
        {"activation_function": "tanh"},
        "\"activation_function\" is 'tanh' in config.json, but the MLP has no such function; "
        "supported is 'gelu_new' or",
    ),
    (llama, {"hidden_act": "gelu"}, "\"hidden_act\" is 'gelu' in config.json, but the gate"),
    (llama, {"attention_bias": True}, 'config.json has no "mlp_bias"'),
    (
        llama,
        {"attention_bias": True, "mlp_bias": False},
        '"mlp_bias" is False in config.json, but biases are in all linear layers or none; '
        "supported is True",
    ),
    (llama, {"mlp_bias": True}, '"mlp_bias" is True'),
    (qwen3, {"attention_bias": True}, '"attention_bias" is True'),
    (qwen3, {"use_sliding_window": True}, "a window is one for all layers; supported is False"),
    (
        qwen3,
        {"layer_types": ["full_attention", "sliding_attention"]},
        "\"layer_types\" has ['full_attention', 'sliding_attention'] in config.json",
    ),
    (
        llama,
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        "\"rope_scaling\" has the rope_type 'linear' in config.json, which stretches wavelengths "
        "in a way that is not here; supported are 'default' and 'llama3'",
    ),
    (
        llama,
        {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
        "\"rope_parameters\" has the rope_type 'yarn'",
    ),
    (
        llama,
        {"rope_parameters": {"full_attention": {"rope_type": "default"}}},
        "one set of numbers",
    ),
    (llama, {"rope_scaling": {"type": "llama3"}}, 'config.json has no "factor"'),
    (llama, {"partial_rotary_factor": 0.5}, "all channels of a head are turned; supported is 1.0"),
    (
        llama,
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        '"partial_rotary_factor" is 0.5',
    ),
    (llama, {"quantization_config": {"bits": 4}}, "weights are read as plain bf16, fp16 or fp32"),
    (llama, {"hidden_size": None}, 'config.json has no "hidden_size", without which the model'),
    (llama, {"hidden_size": "24"}, "\"hidden_size\" is '24' in config.json; it has to be a whole"),
    (llama, {"num_hidden_layers": True}, '"num_hidden_layers" is True'),
    (llama, {"rms_norm_eps": "small"}, "\"rms_norm_eps\" is 'small' in config.json; it has to be"),
    (llama, {"num_key_value_heads": 3}, "model.n_kv_heads is 3"),
    (llama, {"tie_word_embeddings": "yes"}, "describes no model that can be built"),
    (
        llama | {"model_type": "mistral"},
        {"num_key_value_heads": None},
        'config.json has no "num_key_value_heads"',
    ),
]


@pytest.mark.parametrize(("content", "change", "message"), refused)
def test_what_our_model_cannot_be_is_refused_by_name(
    content: dict[str, Any], change: dict[str, Any], message: str
):
    ours_of(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        ours_of(content | change)
