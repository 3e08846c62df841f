"""PyTorch's own counter finds the FLOPs that the closed forms give, number for number."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

import small
from modelwright.accounting.elementwise import orthogonalising_flops
from modelwright.accounting.flops import StepFlops, hardware_flops, step_flops
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.loss import next_token_loss
from modelwright.model.recompute import RecomputeKind, recompute
from modelwright.model.transformer import Transformer

aten = torch.ops.aten


def cpu_flash_flops(queries: Any, keys: Any, values: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(queries, keys, values)


def cpu_flash_backward_flops(
    gradient: Any, queries: Any, keys: Any, values: Any, *_: Any, **__: Any
) -> int:
    return sdpa_backward_flop_count(gradient, queries, keys, values)


def addmm_in_place_flops(_total: Any, left: Any, right: Any, **_: Any) -> int:
    return 2 * left[0] * left[1] * right[1]


# The counter does not know the edition that adds in place, nor the processor's flash kernel.
also_counted = {
    aten.addmm_: addmm_in_place_flops,
    aten._scaled_dot_product_flash_attention_for_cpu: cpu_flash_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: cpu_flash_backward_flops,
}


def counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=also_counted)


def traced_step(model: Transformer, batch: int, seq: int) -> tuple[int, int, dict[str, int]]:
    """FLOPs of the logits, of the way back from them, and of both by module."""
    ids = torch.zeros(batch, seq, dtype=torch.int64)
    with counter() as counted:
        logits = model(ids)
        forward = counted.get_total_flops()
        logits.sum().backward()
    by_module = {name: sum(flops.values()) for name, flops in counted.get_flop_counts().items()}
    return forward, counted.get_total_flops() - forward, by_module


def preset(name: str, **changes: Any) -> ModelConfig:
    return ModelConfig(**{**ModelConfig.presets[name], **changes})


presets = ("gpt2-small", "gpt2-medium", "gpt2-xl", "gpt2-xl-swiglu", "llama-3-8b")


@pytest.mark.parametrize("name", presets)
def test_a_published_model_costs_what_torch_counts(name: str):
    config = preset(name)
    with torch.device("meta"):
        forward, backward, _ = traced_step(Transformer(config, attention="plain"), 1, 1024)
    step = step_flops(config, batch=1, seq=1024)
    assert (forward, backward) == (step.forward, step.backward)


def aten_flash(
    queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None, dropout: float
) -> Tensor:
    """A GPU's flash kernel by name, which a fake tensor on any device goes through."""
    n_shared = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(n_shared, dim=1) for x in (keys, values))
    return aten._scaled_dot_product_flash_attention(queries, keys, values, dropout, True)[0]


@contextmanager
def fake_flash_model(config: ModelConfig) -> Iterator[Transformer]:
    with FakeTensorMode():
        model = Transformer(config, dtype=torch.bfloat16)
        for module in model.modules():
            if hasattr(module, "attend"):
                module.attend = aten_flash  # pyright: ignore[reportArgumentType]
        yield model


@pytest.mark.parametrize(
    ("name", "batch", "seq"),
    [("gpt2-small", 1, 1024), ("gpt2-xl-swiglu", 1, 1024), ("llama-3-8b", 2, 512)],
)
def test_the_flash_kernel_s_way_back_has_a_fifth_product(name: str, batch: int, seq: int):
    config = preset(name)
    with fake_flash_model(config) as model:
        forward, backward, _ = traced_step(model, batch, seq)
    done = hardware_flops(config, batch=batch, seq=seq, attention="flash")
    assert forward == done.forward
    assert backward == done.backward + done.recompute
    d_queries = config.n_heads * config.head_width
    excess = config.n_layers * 2 * batch * seq**2 * d_queries
    assert backward - 2 * forward == excess == done.attention_scores.recompute


@pytest.mark.parametrize("attention", ["plain", "math"])
def test_each_component_costs_what_torch_counts_in_its_module(attention: AttentionKind):
    config = small.model_config(n_layers=1)
    forward, backward, by_module = traced_step(small.model(n_layers=1, attention=attention), 2, 7)
    step = step_flops(config, batch=2, seq=7)
    assert (forward, backward) == (step.forward, step.backward)
    inside = {
        name.removeprefix("Transformer.blocks.0."): flops for name, flops in by_module.items()
    }
    assert inside["mlp"] == step.mlp.total
    assert inside["attention.qkv"] + inside["attention.output"] == step.projections.total
    assert inside["attention"] == (
        step.projections.total + step.attention_scores.total + step.attention_values.total
    )
    assert by_module["Transformer.unembedding"] == step.unembedding.total


def traced_training_step(
    attention: AttentionKind, kind: RecomputeKind, every: int, seq: int, **changes: Any
) -> int:
    model = small.model(attention=attention, context=seq, **changes)
    recompute(model, kind, every=every)
    ids = small.ids(2, seq)
    with counter() as counted:
        next_token_loss(model, ids, ids).backward()
    return counted.get_total_flops()


shapes: list[dict[str, Any]] = [
    {},
    {"mlp": "gelu", "bias": True},
    {"placement": "post"},
    {"placement": "post", "norm": "none"},
    {"dropout": 0.1},
    {"window": 3},
    {"n_kv_heads": 1, "vocab_multiple": 16},
]
recomputes: list[tuple[RecomputeKind, int]] = [
    ("none", 1),
    ("blocks", 1),
    ("blocks", 2),
    ("selective", 1),
]
attentions: list[AttentionKind] = ["plain", "math", "striped", "flash"]


@pytest.mark.parametrize("changes", shapes, ids=str)
@pytest.mark.parametrize(("kind", "every"), recomputes)
@pytest.mark.parametrize("attention", attentions)
def test_a_training_step_does_what_torch_counts(
    attention: AttentionKind, kind: RecomputeKind, every: int, changes: dict[str, Any]
):
    if attention == "flash" and "dropout" in changes:
        pytest.skip("the processor's flash kernel takes no dropout")
    config = small.model_config(context=7, n_layers=3, **changes)
    done = hardware_flops(config, batch=2, seq=7, attention=attention, recompute=kind, every=every)
    assert done.total == traced_training_step(attention, kind, every, 7, n_layers=3, **changes)


@pytest.mark.parametrize("seq", [64, 150, 192])
@pytest.mark.parametrize("changes", [{}, {"window": 20}, {"dropout": 0.1}], ids=str)
@pytest.mark.parametrize("kind", ["none", "blocks"])
def test_the_striped_kernel_leaves_out_what_is_counted_as_left_out(
    seq: int, changes: dict[str, Any], kind: RecomputeKind
):
    config = small.model_config(context=seq, **changes)
    done = hardware_flops(
        config,
        batch=2,
        seq=seq,
        attention="striped",
        recompute=kind,
        causal=True,
        precision="fp32",
    )
    assert done.total == traced_training_step("striped", kind, 1, seq, **changes)


def unembedding_products(step: StepFlops) -> float:
    return step.unembedding.total / step.unembedding.forward


def test_the_chunked_loss_does_three_products_and_all_before_the_way_back():
    config = small.model_config()
    model, ids = small.model(attention="plain"), small.ids(2, 11)
    with counter() as counted:
        loss = next_token_loss(model, ids, ids)
        forward = counted.get_total_flops()
        loss.backward()
    done = hardware_flops(config, batch=2, seq=11, attention="plain")
    assert unembedding_products(done) == 3
    assert forward == done.forward + done.unembedding.backward
    assert counted.get_total_flops() == done.total


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (16, 16)])
def test_muon_multiplies_what_the_closed_form_counts(shape: tuple[int, int]):
    parameter = nn.Parameter(torch.randn(shape))
    parameter.grad = torch.randn(shape)
    optimizer = torch.optim.Muon([parameter], lr=0.1)
    with FlopCounterMode(display=False) as counted:
        optimizer.step()
    assert counted.get_total_flops() == orthogonalising_flops(*shape)
