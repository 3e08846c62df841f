"""Which family of other people's models a model of ours is one of, and their settings for it.

Hugging Face's names: `gpt2`; `llama`; `mistral`, a Llama with a window; `qwen3`, a Llama with
normalised queries and keys; and `starcoder2`, GPT-2's norms and MLP with rotary positions. A
setting that none of them has is refused by name. Dropout belongs to training and is not told.
"""

from typing import Any

from modelwright.model.config import ModelConfig

architectures = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
}
activations = {  # theirs: ours
    "gelu_new": "gelu_tanh",  # GPT-2's name
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "relu2": "relu2",
}


def family_of(config: ModelConfig) -> str:
    """The family that a model of ours is one of.

    Raises:
        ValueError: naming the setting that none has, and what it would have to be.
    """
    _refuse("placement", config.placement, ("pre",), "none of the known families has post-norm")
    _refuse("norm", config.norm, ("layernorm", "rmsnorm"), "all known families normalise")
    _refuse("positions", config.positions, ("learned", "rope"), "all known families have them")
    plain = ("gelu", "gelu_tanh", "silu", "relu2")
    if config.positions == "learned":
        why = "learned positions are GPT-2's, and it has no other"
        _refuse("norm", config.norm, ("layernorm",), why)
        _refuse("mlp", config.mlp, plain, why)
        _refuse("qk_norm", config.qk_norm, (False,), why)
        _refuse("window", config.window, (None,), why)
        _refuse("n_kv_heads", config.key_heads, (config.n_heads,), why)
        _refuse("d_head", config.head_width * config.n_heads == config.d_model, (True,), why)
        return "gpt2"
    if config.norm == "layernorm":
        why = "rotary positions with LayerNorm are StarCoder2's, and it has no other"
        _refuse("mlp", config.mlp, plain, why)
        _refuse("qk_norm", config.qk_norm, (False,), why)
        _refuse("d_head", config.head_width * config.n_heads == config.d_model, (True,), why)
        return "starcoder2"
    why = "rotary positions with RMSNorm are Llama's, and it has no other"
    _refuse("mlp", config.mlp, ("swiglu",), why)
    if config.qk_norm:
        why = "normalised queries and keys are Qwen3's, and it has no other"
        _refuse("bias", config.bias, (False,), why)
        _refuse("window", config.window, (None,), why)
        return "qwen3"
    if config.window is not None:
        _refuse("bias", config.bias, (False,), "a window is Mistral's, and it has no other")
        return "mistral"
    return "llama"


def _refuse(setting: str, value: Any, allowed: tuple[Any, ...], why: str) -> None:
    if value in allowed:
        return
    if setting == "d_head":
        raise ValueError(
            f"model.d_head times model.n_heads is not model.d_model, but {why}; the model cannot "
            "be exported"
        )
    known = " or ".join(repr(one) for one in allowed)
    raise ValueError(
        f"model.{setting} is {value!r}, but {why}; only a model with {known} can be exported"
    )


def theirs_of(config: ModelConfig, *, dtype: str, end_of_text: int | None) -> dict[str, Any]:
    """The `config.json` of a model of ours.

    Args:
        dtype: of the stored weights, in PyTorch's words.
        end_of_text: the id that ends a document, and with which ours begin one.

    Raises:
        ValueError: as `family_of`.
    """
    family = family_of(config)
    common = {
        "architectures": [architectures[family]],
        "model_type": family,
        "torch_dtype": dtype,
        "vocab_size": config.known_vocab,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "use_cache": True,
    }
    return common | (_gpt2(config) if family == "gpt2" else _rotary(family, config))


def _gpt2(config: ModelConfig) -> dict[str, Any]:
    names = {ours: theirs for theirs, ours in reversed(activations.items())}
    return {
        "n_positions": config.context,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.d_hidden,
        "activation_function": names[config.mlp],
        "layer_norm_epsilon": config.norm_epsilon,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    }


def _rotary(family: str, config: ModelConfig) -> dict[str, Any]:
    scaling = {
        "rope_type": "llama3",
        "factor": config.rope_factor,
        "low_freq_factor": config.rope_low_frequency,
        "high_freq_factor": config.rope_high_frequency,
        "original_max_position_embeddings": config.rope_original_context,
    }
    common = {
        "max_position_embeddings": config.context,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.key_heads,
        "intermediate_size": config.d_hidden,
        # As transformers 4 and vLLM have it; transformers 5 reads it too.
        "rope_theta": config.rope_theta,
        "rope_scaling": scaling if config.rope_factor > 1 else None,
        "attention_dropout": 0.0,
    }
    if family == "starcoder2":
        names = {ours: theirs for theirs, ours in activations.items() if theirs != "swish"}
        return common | {
            "hidden_act": names[config.mlp],
            "norm_epsilon": config.norm_epsilon,
            "use_bias": config.bias,
            "sliding_window": config.window,
            "residual_dropout": 0.0,
            "embedding_dropout": 0.0,
        }
    common |= {
        "hidden_act": "silu",
        "head_dim": config.head_width,
        "rms_norm_eps": config.norm_epsilon,
    }
    own: dict[str, dict[str, Any]] = {
        "llama": {"attention_bias": config.bias, "mlp_bias": config.bias},
        "mistral": {"sliding_window": config.window},
        "qwen3": {"attention_bias": False, "use_sliding_window": False, "sliding_window": None},
    }
    return common | own[family]
