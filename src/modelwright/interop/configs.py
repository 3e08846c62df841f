"""The `config.json` of other people's models, read into ours.

Whatever our Transformer cannot express is refused: the message names the field, what it is, and
what is supported. Fields that a family has by default may be left out of the file. Dropout belongs
to training and is not carried over.
"""

from collections.abc import Mapping
from typing import Any

from modelwright.config.schema import SettingsError, check
from modelwright.interop.families import activations, architectures
from modelwright.model.config import ModelConfig


class Fields:
    """A `config.json` whose fields are asked for by name; an error names field, value and cure."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    def need(self, name: str, default: Any = None) -> Any:
        """A field that must be there, unless its family has a default.

        Raises:
            ValueError: if it is missing.
        """
        value = self.content.get(name)
        value = default if value is None else value
        if value is None:
            raise ValueError(
                f'config.json has no "{name}", without which the model has no shape; take the '
                "config.json that belongs to the weights"
            )
        return value

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number above 0, there or with a default.

        Raises:
            ValueError: if it is missing or something else.
        """
        value = self.need(name, default)
        if type(value) is not int or value < 1:
            raise ValueError(
                f'"{name}" is {value!r} in config.json; it has to be a whole number above 0'
            )
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number above 0, there or with a default.

        Raises:
            ValueError: if it is missing or something else.
        """
        value = self.need(name, default)
        if type(value) not in (int, float) or not value > 0:
            raise ValueError(f'"{name}" is {value!r} in config.json; it has to be a number above 0')
        return float(value)

    def insist(self, name: str, *allowed: Any, why: str) -> None:
        """Refuse a field that is there and is none of the values that our model has.

        Raises:
            ValueError: naming the field, what it is, what is supported and why.
        """
        if name in self.content and self.content[name] not in allowed:
            supported = " or ".join(repr(value) for value in allowed)
            raise ValueError(
                f'"{name}" is {self.content[name]!r} in config.json, but {why}; supported is '
                f"{supported}"
            )


def ours_of(content: Mapping[str, Any], *, vocab_multiple: int = 1) -> ModelConfig:
    """Our config of a model that a `config.json` describes.

    Args:
        vocab_multiple: up to a multiple of this our token matrices get rows of zeros.

    Raises:
        ValueError: if our Transformer cannot be that model, or the file contradicts itself.
    """
    family = content.get("model_type")
    if family not in architectures:
        raise ValueError(
            f'"model_type" is {family!r} in config.json, which our Transformer is not; supported '
            f"are {', '.join(architectures)}"
        )
    fields = Fields(content)
    fields.insist(
        "quantization_config", None, why="weights are read as plain bf16, fp16 or fp32 numbers"
    )
    shape = _gpt2_shape(fields) if family == "gpt2" else _rotary_shape(family, fields)
    try:
        return check(ModelConfig, shape | {"vocab_multiple": vocab_multiple})
    except SettingsError as error:
        raise ValueError(f"config.json describes no model that can be built: {error}") from None


def _gpt2_shape(fields: Fields) -> dict[str, Any]:
    fields.insist("scale_attn_weights", True, why="scores are always divided by sqrt(d_head)")
    fields.insist(
        "scale_attn_by_inverse_layer_idx", False, why="no layer scales its attention otherwise"
    )
    fields.insist("add_cross_attention", False, why="there is no encoder to look at")
    d_model = fields.count("n_embd")
    return {
        "vocab_size": fields.count("vocab_size"),
        "context": fields.count("n_positions"),
        "d_model": d_model,
        "n_layers": fields.count("n_layer"),
        "n_heads": fields.count("n_head"),
        "d_ff": fields.count("n_inner", 4 * d_model),
        "norm": "layernorm",
        "norm_epsilon": fields.number("layer_norm_epsilon", 1e-5),
        "positions": "learned",
        "mlp": _activation(fields, "activation_function", "gelu_new"),
        "bias": True,
        "tie_embeddings": fields.need("tie_word_embeddings", True),
    }


def _rotary_shape(family: str, fields: Fields) -> dict[str, Any]:
    d_model, n_heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    shape = {
        "vocab_size": fields.count("vocab_size"),
        "context": fields.count("max_position_embeddings"),
        "d_model": d_model,
        "n_layers": fields.count("num_hidden_layers"),
        "n_heads": n_heads,
        "n_kv_heads": fields.count("num_key_value_heads", n_heads if family == "llama" else None),
        "d_ff": fields.count("intermediate_size"),
        "positions": "rope",
        "qk_norm": family == "qwen3",
        "tie_embeddings": fields.need("tie_word_embeddings", family == "starcoder2"),
        **_rope(fields),
    }
    d_head = fields.count("head_dim", 128 if family == "qwen3" else d_model // n_heads)
    if d_head * n_heads != d_model:
        shape["d_head"] = d_head
    if family == "starcoder2":
        fields.insist("norm_type", "layer_norm", why="this family has LayerNorms here")
        return shape | {
            "norm": "layernorm",
            "norm_epsilon": fields.number("norm_epsilon", 1e-5),
            "mlp": _activation(fields, "hidden_act", "gelu_pytorch_tanh"),
            "bias": fields.need("use_bias", True),
            "window": _window(fields, None),
        }
    fields.insist("hidden_act", "silu", why="the gate of a gated MLP is SiLU")
    if family in ("mistral", "qwen3"):
        fields.insist("attention_bias", False, None, why="biases are in all linear layers or none")
    shape |= {
        "norm": "rmsnorm",
        "norm_epsilon": fields.number("rms_norm_eps"),
        "mlp": "swiglu",
        "bias": fields.need("attention_bias", False) if family == "llama" else False,
    }
    if family == "llama":
        fields.insist(
            "mlp_bias", shape["bias"], None, why="biases are in all linear layers or none"
        )
        if shape["bias"]:
            fields.need("mlp_bias")
    if family == "qwen3":
        fields.insist("use_sliding_window", False, None, why="a window is one for all layers")
    # A Mistral config that is silent means the width that its family began with.
    window = _window(fields, 4096) if family == "mistral" else None
    return shape | {"window": window}


def _activation(fields: Fields, name: str, default: str) -> str:
    value = fields.need(name, default)
    fields.insist(name, *activations, None, why="the MLP has no such function")
    return activations[value]


def _window(fields: Fields, default: int | None) -> int | None:
    return fields.content.get("sliding_window", default)


def _rope(fields: Fields) -> dict[str, Any]:
    """Rotary positions, in the words of transformers 5 (`rope_parameters`) or of those before."""
    name = "rope_parameters" if fields.content.get("rope_parameters") else "rope_scaling"
    found = fields.content.get(name) or {}
    if not isinstance(found, Mapping) or any(isinstance(one, Mapping) for one in found.values()):
        raise ValueError(
            f'"{name}" is {found!r} in config.json, but all layers turn by the same angles; '
            "supported is one set of numbers"
        )
    inner = Fields(found)
    for one in (fields, inner):
        one.insist("partial_rotary_factor", 1.0, None, why="all channels of a head are turned")
    layer_types = fields.content.get("layer_types")
    if layer_types and len(set(layer_types)) > 1:
        raise ValueError(
            f'"layer_types" has {sorted(set(layer_types))} in config.json, but all layers see '
            "equally far; supported is one kind for all"
        )
    rope: dict[str, Any] = {
        "rope_theta": inner.number("rope_theta", fields.number("rope_theta", 10_000.0))
    }
    kind = found.get("rope_type", found.get("type", "default"))
    if kind == "default":
        return rope
    if kind != "llama3":
        raise ValueError(
            f'"{name}" has the rope_type {kind!r} in config.json, which stretches wavelengths in a '
            "way that is not here; supported are 'default' and 'llama3'"
        )
    return rope | {
        "rope_factor": inner.number("factor"),
        "rope_low_frequency": inner.number("low_freq_factor"),
        "rope_high_frequency": inner.number("high_freq_factor"),
        "rope_original_context": inner.count("original_max_position_embeddings"),
    }
