from typing import Any

import pytest
import torch

import small
from modelwright.checkpoint.bundle import distinct_weights
from modelwright.interop.gguf import layouts as gguf_layouts
from modelwright.interop.name_maps import layouts, our_tensors, places, to_ours, to_theirs

gpt2: dict[str, Any] = {
    "norm": "layernorm",
    "positions": "learned",
    "mlp": "gelu_tanh",
    "n_kv_heads": None,
}
shapes: dict[str, dict[str, Any]] = {
    "gpt2": gpt2 | {"bias": True},
    "llama": {"bias": True, "tie_embeddings": False, "vocab_multiple": 16},
    "qwen3": {"qk_norm": True, "d_head": 8},
    "starcoder2": {"norm": "layernorm", "mlp": "gelu_tanh", "vocab_multiple": 8},
}
token_names = ("embedding.weight", "unembedding.weight")


@pytest.mark.parametrize("table", [layouts, gguf_layouts], ids=["huggingface", "gguf"])
@pytest.mark.parametrize("family", shapes)
def test_there_and_back_is_the_same_to_the_bit(family: str, table: Any):
    model = small.model(**shapes[family])
    weights = distinct_weights(model)
    where = places(table[family], model.config)
    with torch.no_grad():  # padding is zeros
        for name in token_names:
            if name in weights:
                weights[name][model.config.known_vocab :] = 0
    theirs = dict(to_theirs(where, weights))
    back = dict(to_ours(where, theirs))
    assert back.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(back[name], tensor), name
    token_matrices = [place for place in where if place.ours in token_names]
    assert len(token_matrices) == 2 - model.config.tie_embeddings
    for place in token_matrices:
        assert len(theirs[place.theirs[0]]) == model.config.known_vocab


def test_our_tensors_have_the_shapes_of_the_model_and_no_values():
    model = small.model()
    found = our_tensors(model.config)
    assert {name: t.shape for name, t in found.items()} == {
        name: t.shape for name, t in distinct_weights(model).items()
    }
    assert all(tensor.is_meta for tensor in found.values())


def test_gpt2s_blocks_hold_the_transposed_matrix_and_its_tables_do_not():
    model = small.model(**shapes["gpt2"])
    theirs = dict(to_theirs(places(layouts["gpt2"], model.config), distinct_weights(model)))
    assert theirs["transformer.h.0.attn.c_attn.weight"].shape == (24, 72)
    assert theirs["transformer.h.1.mlp.c_proj.weight"].shape == (40, 24)
    assert theirs["transformer.wte.weight"].shape == (37, 24)


def test_queries_keys_and_values_are_parted_by_their_heads():
    model = small.model()
    theirs = dict(to_theirs(places(layouts["llama"], model.config), distinct_weights(model)))
    fused = distinct_weights(model)["blocks.1.attention.qkv.weight"]
    start = "model.layers.1.self_attn"
    assert torch.equal(theirs[f"{start}.q_proj.weight"], fused[:24])
    assert torch.equal(theirs[f"{start}.k_proj.weight"], fused[24:36])
    assert torch.equal(theirs[f"{start}.v_proj.weight"], fused[36:])


def test_llama_cpp_has_rotary_pairs_side_by_side():
    model = small.model()
    theirs = dict(to_theirs(places(gguf_layouts["llama"], model.config), distinct_weights(model)))
    fused = distinct_weights(model)["blocks.0.attention.qkv.weight"]
    second_head = fused[6:12]
    assert torch.equal(theirs["blk.0.attn_q.weight"][6:12], second_head[[0, 3, 1, 4, 2, 5]])
    assert torch.equal(theirs["blk.0.attn_v.weight"], fused[36:])


@pytest.mark.parametrize("family", ["gpt2", "starcoder2"])
def test_where_only_they_have_a_bias_it_is_zero_and_must_be(family: str):
    changes: dict[str, Any] = shapes[family] | {"bias": False}
    model = small.model(**changes)
    where = places(layouts[family], model.config)
    theirs = dict(to_theirs(where, distinct_weights(model)))
    added = [name for place in where if place.ours is None for name in place.theirs]
    assert added
    assert not any(theirs[name].any() for name in added)
    theirs[added[0]] = theirs[added[0]] + 1
    with pytest.raises(ValueError, match=f"{added[0]} is not zero, but the linear layers have no"):
        dict(to_ours(where, theirs))
