import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

import small
from modelwright.data.loader import not_a_target
from modelwright.model.attention import attention_kinds
from modelwright.model.config import ModelConfig
from modelwright.model.initialise import initialise
from modelwright.model.loss import next_token_loss
from modelwright.model.positions import Rotary
from modelwright.model.transformer import Transformer

choices: list[dict[str, Any]] = [
    {},
    {
        "norm": "layernorm",
        "bias": True,
        "mlp": "gelu",
        "positions": "learned",
        "tie_embeddings": False,
    },
    {"positions": "none", "n_kv_heads": 1},
    {"n_kv_heads": None, "bias": True},
]


@pytest.mark.parametrize("choice", choices)
@pytest.mark.parametrize("attention", ["fused", "plain"])
def test_no_position_depends_on_a_later_token(choice: dict[str, Any], attention: str):
    model = small.model(attention=attention, **choice)
    taken: dict[str, Tensor] = {}

    def take(_module: object, _inputs: object, output: Tensor) -> Tensor:
        taken["embedded"] = output.detach().requires_grad_()
        return taken["embedded"]

    model.embedding.register_forward_hook(take)
    ids = small.ids(batch=1)
    logits = model(ids)
    for position in range(ids.shape[1]):
        loss = torch.nn.functional.cross_entropy(logits[0, position], torch.tensor(3))
        (gradient,) = torch.autograd.grad(loss, taken["embedded"], retain_graph=True)
        by_position = gradient[0].abs().sum(-1)
        assert by_position[position + 1 :].eq(0).all()  # exactly, not nearly
        assert by_position[: position + 1].gt(0).all()


option_changes = [
    {"n_layers": 3},
    {"n_heads": 2, "n_kv_heads": 2},
    {"n_kv_heads": 4},
    {"d_ff": 48},
    {"norm": "layernorm"},
    {"positions": "learned"},
    {"positions": "none"},
    {"rope_theta": 100.0},
    {"mlp": "gelu"},
    {"bias": True},
    {"tie_embeddings": False},
    {"d_model": 32},
    {"vocab_size": 41},
]


@pytest.mark.parametrize("change", option_changes, ids=str)
def test_every_option_changes_the_answer(change: dict[str, Any]):
    base, changed = small.model()(small.ids()), small.model(**change)(small.ids())
    assert base.shape != changed.shape or not torch.allclose(base, changed, atol=1e-3)


def test_every_field_of_the_config_is_among_the_tested_options():
    tested = {name for change in option_changes for name in change} | {"context"}
    assert tested == {field.name for field in dataclasses.fields(ModelConfig)}


def test_a_longer_context_gives_the_same_answer_to_the_same_text():
    longer = small.model(context=40)
    longer.load_state_dict(small.model().state_dict())
    assert torch.equal(longer(small.ids()), small.model()(small.ids()))


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match=r"has 12 tokens, but model\.context is 11"):
        small.model()(small.ids(seq=12))


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_both_kinds_of_attention_give_the_same_answer_and_gradient(n_kv_heads: int):
    models = {kind: small.model(attention=kind, n_kv_heads=n_kv_heads) for kind in attention_kinds}
    for model in models.values():
        model(small.ids()).logsumexp(-1).sum().backward()
    fused, plain = models["fused"], models["plain"]
    assert torch.allclose(fused(small.ids()), plain(small.ids()), atol=1e-5)
    for a, b in zip(fused.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-4, rtol=1e-4)  # type: ignore[arg-type]


def test_query_heads_share_the_keys_and_values_of_their_group():
    grouped, full = small.model(n_kv_heads=2), small.model(n_kv_heads=4)
    weights = grouped.state_dict()
    d_head, n_heads = grouped.config.d_head, grouped.config.n_heads
    for name in [name for name in weights if name.endswith("qkv.weight")]:
        queries, keys, values = weights[name].split([n_heads * d_head, 2 * d_head, 2 * d_head])
        repeated = [
            part.view(2, d_head, -1).repeat_interleave(2, dim=0).flatten(0, 1)
            for part in (keys, values)
        ]
        weights[name] = torch.cat([queries, *repeated])
    full.load_state_dict(weights)
    assert torch.allclose(grouped(small.ids()), full(small.ids()), atol=1e-5)


def test_rotated_products_depend_on_the_distance_alone():
    rotate = Rotary(50, 8, theta=100.0)
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 8, generator=generator)
    rows = rotate(torch.stack([query, key])[None, :, None].expand(1, 2, 50, 8))
    products = rows[0, 0] @ rows[0, 1].T
    for distance in (0, 1, 7, 30):
        diagonal = products.diagonal(-distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4)
    assert not torch.allclose(products.diagonal(0)[0], products.diagonal(-1)[0], atol=1e-2)


def test_norms_are_computed_in_fp32_whatever_goes_through():
    model = small.model()
    x = torch.randn(1, 3, 24) * 200
    assert model.norm(x.bfloat16()).dtype == torch.bfloat16
    expected = model.norm(x.bfloat16().float()).bfloat16()
    assert torch.equal(model.norm(x.bfloat16()), expected)


def test_bf16_weights_are_cast_where_used_and_kept_in_fp32():
    exact = small.model()
    rounded = Transformer(exact.config, dtype=torch.bfloat16)
    rounded.load_state_dict(exact.state_dict())
    logits = rounded(small.ids())
    assert logits.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in rounded.parameters())
    assert torch.allclose(logits.float(), exact(small.ids()), atol=0.3)


@pytest.mark.parametrize("choice", choices)
def test_every_parameter_is_initialised(choice: dict[str, Any]):
    model = Transformer(small.model_config(**choice))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    initialise(model, seed=0)
    assert not [name for name, p in model.named_parameters() if p.isnan().any()]


def test_initial_weights_follow_the_written_rule():
    model = Transformer(ModelConfig(vocab_size=500, d_model=128, n_layers=8, bias=True))
    initialise(model, seed=0)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("attention.output.weight", "mlp.down.weight"))
            base = math.sqrt(2 / (5 * 128))
            expected = base / math.sqrt(2 * 8) if writes else base
            assert parameter.std().item() == pytest.approx(expected, rel=0.05), name
        else:
            assert parameter.eq(0.0 if name.endswith("bias") else 1.0).all(), name


def test_a_seed_gives_its_own_weights_each_time():
    first, again, other = (list(small.model(seed=seed).parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_the_loss_is_the_summed_surprise_at_the_counted_targets():
    model = small.model()
    inputs = small.ids()
    targets = small.ids().flip(0)
    targets[0, :4] = not_a_target
    chances = model(inputs).softmax(-1)
    expected = -sum(
        math.log(chances[row, place, target].item())
        for row, line in enumerate(targets.tolist())
        for place, target in enumerate(line)
        if target != not_a_target
    )
    assert next_token_loss(model, inputs, targets).item() == pytest.approx(expected, rel=1e-5)


def test_a_fresh_model_is_as_surprised_as_one_that_knows_nothing():
    model = Transformer(ModelConfig(vocab_size=1000, d_model=64, n_layers=2))
    initialise(model, seed=0)
    ids = small.ids(4, 64, 1000)
    loss = next_token_loss(model, ids, ids.roll(1)).item() / ids.numel()
    # Initial logits are normal with variance 2/5, which costs half of that on top.
    assert loss == pytest.approx(math.log(1000) + 0.2, abs=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"d_model": 25},
            "d_model is 25, which does not split into model.n_heads = 4 equal heads; the next width that does is 28",
        ),
        ({"n_kv_heads": 3}, r"n_kv_heads is 3.*choose one of \[1, 2, 4\]"),
        ({"d_model": 12, "n_heads": 4}, "choose an even head size"),
        ({"n_layers": 0}, "model.n_layers is 0; the least is 1"),
        ({"d_ff": 0}, "model.d_ff is 0"),
        ({"rope_theta": 1.0}, "model.rope_theta is 1.0"),
    ],
)
def test_an_impossible_shape_is_refused_with_one_that_works(change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        small.model_config(**change)


def test_a_model_needs_to_know_its_vocabulary():
    with pytest.raises(ValueError, match="vocab_size is not set"):
        Transformer(ModelConfig())
