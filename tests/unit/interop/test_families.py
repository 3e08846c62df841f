import re
from typing import Any

import pytest

import small
from modelwright.interop.configs import ours_of
from modelwright.interop.families import family_of, theirs_of

gpt2: dict[str, Any] = {
    "norm": "layernorm",
    "positions": "learned",
    "mlp": "gelu_tanh",
    "n_kv_heads": None,
}
starcoder2: dict[str, Any] = {"norm": "layernorm", "mlp": "gelu"}


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        (gpt2, "gpt2"),
        (gpt2 | {"bias": True, "mlp": "relu2"}, "gpt2"),
        ({}, "llama"),
        ({"bias": True}, "llama"),
        ({"window": 4}, "mistral"),
        ({"qk_norm": True}, "qwen3"),
        (starcoder2, "starcoder2"),
        (starcoder2 | {"bias": True, "window": 4}, "starcoder2"),
    ],
)
def test_each_shape_has_its_family_and_comes_back_the_same(changes: dict[str, Any], family: str):
    config = small.model_config(**changes)
    assert family_of(config) == family
    content = theirs_of(config, dtype="float32", end_of_text=3)
    assert content["model_type"] == family
    assert content["eos_token_id"] == 3
    back = ours_of(content)
    for name in ("d_model", "d_hidden", "head_width", "key_heads", "norm", "mlp", "window"):
        assert getattr(back, name) == getattr(config, name), name
    if family != "gpt2":  # whose biases are always there
        assert back.bias == config.bias


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"placement": "post"},
            "model.placement is 'post', but none of the known families has post-norm; only a model "
            "with 'pre' can be exported",
        ),
        ({"norm": "none"}, "model.norm is 'none'"),
        ({"positions": "none"}, "only a model with 'learned' or 'rope' can be exported"),
        ({"mlp": "relu2"}, "model.mlp is 'relu2', but rotary positions with RMSNorm are Llama's"),
        (gpt2 | {"norm": "rmsnorm"}, "model.norm is 'rmsnorm', but learned positions are GPT-2's"),
        (gpt2 | {"mlp": "swiglu"}, "model.mlp is 'swiglu'"),
        (gpt2 | {"n_kv_heads": 2}, "model.n_kv_heads is 2, but learned positions"),
        (gpt2 | {"window": 3}, "model.window is 3"),
        (gpt2 | {"qk_norm": True}, "model.qk_norm is True"),
        (gpt2 | {"d_head": 8}, "model.d_head times model.n_heads is not model.d_model"),
        (starcoder2 | {"mlp": "swiglu"}, "are StarCoder2's, and it has no other"),
        (starcoder2 | {"d_head": 8}, "model.d_head times"),
        (starcoder2 | {"qk_norm": True}, "model.qk_norm is True"),
        ({"qk_norm": True, "bias": True}, "model.bias is True, but normalised queries and keys"),
        ({"qk_norm": True, "window": 3}, "model.window is 3, but normalised"),
        ({"window": 3, "bias": True}, "model.bias is True, but a window is Mistral's"),
    ],
)
def test_what_no_family_has_is_refused_by_name(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        family_of(small.model_config(**changes))
