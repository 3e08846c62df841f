"""What only a GPU can show of products in fp8: its own kernels, and what the compiler makes.

Run like the other tests on a GPU: `SHAPE_CHECKS=off python -m pytest tests/gpu`.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import small
from modelwright.model.fp8 import fp8_obstacle, fp8_product, rounded_product, use_fp8
from modelwright.model.linear import Linear, Multiply, plain_product
from modelwright.model.loss import next_token_loss
from modelwright.model.recompute import RecomputeKind, compile_blocks, recompute
from modelwright.model.transformer import Transformer

gpu = torch.device("cuda")


obstacle = fp8_obstacle(gpu) if torch.cuda.is_available() else "there is no CUDA GPU"
pytestmark = pytest.mark.skipif(obstacle is not None, reason=str(obstacle))


def distance(a: Tensor, b: Tensor) -> float:
    """The size of the difference as a share of the size of the second."""
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def outcome(multiply: Multiply, *given: Tensor) -> list[Tensor]:
    """The result of a product and the gradients of its factors and bias."""
    *leaves, gradient = (t.detach().clone().requires_grad_() for t in given)
    y = multiply(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, gradient.detach())]


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("n_tokens", "d_in", "d_out"), [(16, 16, 16), (4096, 512, 1360)])
def test_value_and_gradients_are_those_of_the_twin(
    dtype: torch.dtype, is_compiled: bool, n_tokens: int, d_in: int, d_out: int
):
    generator = torch.Generator(gpu).manual_seed(0)
    shapes = [(n_tokens, d_in), (d_out, d_in), (d_out,), (n_tokens, d_out)]
    x, weight, bias, gradient = (torch.randn(s, device=gpu, generator=generator) for s in shapes)
    given = [x.to(dtype), weight, bias, gradient.to(dtype)]
    torch._dynamo.reset()
    ours = torch.compile(fp8_product, fullgraph=True) if is_compiled else fp8_product
    found, expected = outcome(ours, *given), outcome(rounded_product, *given)
    for a, b in zip(found[:3], expected[:3], strict=True):
        assert a.dtype == b.dtype
        # The GPU sums with fewer bits than fp32, and a compiled division may send a number that
        # lies between two of fp8 the other way; rounding to e4m3 itself costs four times as much.
        assert distance(a, b) < 0.01
    assert (
        distance(found[3], outcome(plain_product, *given)[3]) < 0.01
    )  # its sum is in the dtype of the gradient


def test_zeros_and_what_is_no_number_are_as_on_a_processor():
    generator = torch.Generator(gpu).manual_seed(0)
    x, weight, gradient = torch.randn(3, 64, 64, device=gpu, generator=generator)
    bias = torch.zeros(64, device=gpu)
    torch._dynamo.reset()
    compiled = torch.compile(fp8_product, fullgraph=True)
    for multiply in (fp8_product, compiled):
        y, d_x, d_weight, _ = outcome(multiply, torch.zeros_like(x), weight, bias, gradient)
        assert not y.any() and not d_weight.any()
        assert d_x.isfinite().all() and d_x.any()
        for odd in (float("inf"), float("nan")):
            broken = x.clone()
            broken[3, 5] = odd
            y, d_x, d_weight, _ = outcome(multiply, broken, weight, bias, gradient)
            assert y.isnan().all() and d_weight.isnan().all()
            assert d_x.isfinite().all()


widths: dict[str, Any] = {"d_model": 64, "n_heads": 4, "n_kv_heads": 2, "d_ff": 48, "context": 32}


def model_that(multiply: Multiply | None) -> Transformer:
    """A model on the GPU whose blocks multiply in a way; None is fp8."""
    model = small.model(attention="flash", dtype=torch.bfloat16, bias=True, **widths).to(gpu)
    if multiply is None:
        use_fp8(model)
        return model
    for module in model.blocks.modules():
        if isinstance(module, Linear):
            module.multiply = multiply
    return model


def gradients(model: Transformer) -> Tensor:
    ids = small.ids(4, 32).to(gpu)
    loss = next_token_loss(model, ids, ids.roll(-1, 1))
    found = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([loss.detach().reshape(1), *(g.flatten() for g in found)])


@pytest.mark.parametrize("kind", ["none", "blocks", "selective"])
def test_compiled_blocks_are_as_near_to_the_exact_gradients_as_the_twin(kind: RecomputeKind):
    torch._dynamo.reset()
    counters.clear()
    model = model_that(None)
    recompute(model, kind)
    for block in model.blocks:
        block.compile(fullgraph=True)
    found = gradients(model)
    assert counters["stats"]["unique_graphs"] == 1  # which the blocks share
    twin, plain = gradients(model_that(rounded_product)), gradients(model_that(plain_product))
    # After a few layers two ways to compute the same in fp8 are as far from each other as from the
    # plain result, because one last bit rounds a number to another; so that distance is compared.
    assert distance(found, plain) == pytest.approx(distance(twin, plain), rel=0.5)


def test_a_model_learns_as_well_as_in_sixteen_bits():
    losses = []
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(120):
        first = torch.randint(37, (16, 1), generator=generator)
        any_token = torch.randint(37, (16, 32), generator=generator)
        is_noise = torch.rand(16, 32, generator=generator) < 0.25
        ids = torch.where(is_noise, any_token, (first + 3 * torch.arange(32)) % 37)
        batches.append(ids.to(gpu))
    for multiply in (plain_product, None):
        torch._dynamo.reset()
        model = model_that(multiply)
        compile_blocks(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for ids in batches:
            optimizer.zero_grad()
            loss = next_token_loss(model, ids, ids.roll(-1, 1))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    first, usual, ours = losses[0], sum(losses[100:120]), sum(losses[220:])
    assert usual < 0.7 * 20 * first
    assert ours == pytest.approx(usual, rel=0.05)
