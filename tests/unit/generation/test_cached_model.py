"""A model with a cache gives what the model gives without one."""

from typing import Any

import pytest
import torch

import small
from modelwright.generation import packing
from modelwright.generation.cached_model import CachedModel, twin_of
from modelwright.generation.packing import can_pack
from modelwright.model.fp8 import rounded_product
from modelwright.model.linear import Linear
from modelwright.model.recompute import compile_blocks, recompute
from modelwright.model.transformer import Transformer

options: list[dict[str, Any]] = [
    {},
    {"positions": "learned"},
    {"positions": "none"},
    {"n_kv_heads": 1},
    {"n_kv_heads": 4},
    {"window": 3},
    {"window": 1},
    {"window": 3, "positions": "learned", "n_kv_heads": 1},
    {"qk_norm": True},
    {"placement": "post"},
    {"norm": "layernorm", "bias": True, "positions": "learned", "mlp": "gelu_tanh"},
    {"norm": "none"},
    {"mlp": "gelu"},
    {"mlp": "silu"},
    {"mlp": "relu2"},
    {"tie_embeddings": False},
    {"vocab_multiple": 16},
    {"d_head": 10},
    {"rope_factor": 4.0, "rope_original_context": 8},
    {"dropout": 0.5},
]


def logits_along(model: Transformer, ids: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Logits after each row's text, when its first tokens are read at once and the rest singly.

    Args:
        lengths: of what is read at once, one a row; every row reads as many tokens after it.
    """
    cached = CachedModel(model, n_slots=len(ids))
    for row, length in enumerate(lengths):
        cached.prefill([row], ids[row : row + 1, :length])
    logits = torch.empty(0)
    for step in range(ids.shape[1] - max(lengths)):
        places = torch.tensor([length + step for length in lengths])
        logits = cached.decode(ids[torch.arange(len(ids)), places])
    return logits


@pytest.mark.parametrize("attention", ["math", "striped"])
@pytest.mark.parametrize("changes", options, ids=str)
def test_texts_of_any_lengths_get_the_logits_of_the_whole_text(
    changes: dict[str, Any], attention: Any
):
    model = small.model(dtype=torch.float64, attention=attention, **changes).eval()
    ids = small.ids(3)
    lengths = [5, 2, 4]
    last = [length + 11 - max(lengths) - 1 for length in lengths]
    expected = torch.stack([model(ids[row : row + 1])[0, at] for row, at in enumerate(last)])
    # Only the order of sums differs.
    torch.testing.assert_close(logits_along(model, ids, lengths), expected, rtol=1e-10, atol=1e-10)


def test_a_batch_of_equal_lengths_takes_the_way_without_a_mask():
    model = small.model(dtype=torch.float64, window=4).eval()
    ids = small.ids(3)
    torch.testing.assert_close(
        logits_along(model, ids, [4, 4, 4]), model(ids)[:, -1], rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("stream_dtype", [None, torch.float32])
def test_bf16_products_give_what_the_model_gives(stream_dtype: torch.dtype | None):
    model = small.model(dtype=torch.bfloat16, stream_dtype=stream_dtype).eval()
    ids = small.ids(2)
    whole, cached = model(ids)[:, -1].float(), logits_along(model, ids, [5, 5]).float()
    # A few of the eight bits of a number; the weights are the same ones.
    assert (whole - cached).abs().max() < 0.03 * whole.abs().max()


def test_a_prefill_reads_several_texts_of_one_length():
    model = small.model(dtype=torch.float64).eval()
    cached = CachedModel(model, n_slots=4)
    ids = small.ids(2)
    torch.testing.assert_close(cached.prefill([3, 1], ids[:, :6]), model(ids[:, :6])[:, -1])
    assert cached.cache.lengths == [0, 6, 0, 6]


def test_slots_are_copied_and_put_in_another_order():
    model = small.model(dtype=torch.float64).eval()
    cached = CachedModel(model, n_slots=3)
    ids = small.ids(3)
    for row, length in enumerate((6, 4, 5)):
        cached.prefill([row], ids[row : row + 1, :length])
    cached.cache.reorder([2, 0, 0])
    cached.cache.copy(0, 2)
    assert cached.cache.lengths == [5, 6, 5]
    after = cached.decode(torch.tensor([7, 8, 9]))
    for row, (source, length, token) in enumerate([(2, 5, 7), (0, 6, 8), (2, 5, 9)]):
        text = torch.cat((ids[source, :length], torch.tensor([token])))
        torch.testing.assert_close(after[row], model(text[None])[0, -1])


def test_what_training_did_to_the_modules_stays_behind():
    model = small.model(vocab_size=37)
    plain = small.model(vocab_size=37).eval()
    recompute(model, "blocks")
    compile_blocks(model)
    for layer in model.blocks.modules():
        if isinstance(layer, Linear):
            layer.multiply = rounded_product
    ids = small.ids(1)
    expected = plain(ids)[:, -1]
    torch.testing.assert_close(logits_along(model, ids, [4]), expected)
    assert model.training


def test_the_twin_shares_what_needs_no_cast_and_leaves_the_model_alone():
    model = small.model()
    twin = twin_of(model)
    assert twin.embedding.weight.data_ptr() == model.embedding.weight.data_ptr()
    assert twin.unembedding.weight is twin.embedding.weight
    half = twin_of(small.model(dtype=torch.bfloat16, norm="layernorm", bias=True))
    formats = {name: p.dtype for name, p in half.named_parameters()}
    assert formats["blocks.0.attention.qkv.weight"] == torch.bfloat16
    assert formats["blocks.0.mlp_norm.weight"] == torch.float32
    assert half.unembedding.weight is half.embedding.weight


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", [{}, {"bias": True, "mlp": "gelu_tanh"}], ids=str)
def test_packed_matrices_give_the_same_products(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, changes: dict[str, Any]
):
    if not can_pack(torch.device("cpu"), dtype):
        pytest.skip("no such products on this processor")
    model = small.model(dtype=dtype, **changes).eval()
    ids = small.ids(3)
    monkeypatch.setattr(packing, "least_packed_bytes", 0)
    packed = CachedModel(model, n_slots=3).model
    assert packed.unembedding.weight.is_mkldnn and not packed.embedding.weight.is_mkldnn
    found, expected = logits_along(model, ids, [6, 6, 6]), model(ids)[:, -1]
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


def test_only_large_matrices_are_packed_and_only_where_the_processor_can():
    assert can_pack(torch.device("cpu"), torch.float32) == torch.backends.mkldnn.is_available()
    assert not can_pack(torch.device("cpu"), torch.float64)
    assert not can_pack(torch.device("cuda"), torch.float32)
    cached = CachedModel(small.model(vocab_size=20_000), n_slots=1).model
    layers = [layer for layer in cached.modules() if isinstance(layer, Linear)]
    packed = [layer for layer in layers if layer.weight.is_mkldnn]
    assert packed == ([cached.unembedding] if can_pack(torch.device("cpu"), torch.float32) else [])
