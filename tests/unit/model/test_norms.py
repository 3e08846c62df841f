import pytest
import torch

import small
from modelwright.model.norms import LayerNorm, RMSNorm, make_norm


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norms_are_computed_in_fp32_whatever_goes_through(kind: str, dtype: torch.dtype):
    norm = small.model(norm=kind, bias=True).norm
    # The squares of these would overflow in fp16.
    x = (torch.randn(5, 24, generator=torch.Generator().manual_seed(0)) * 2000).to(dtype)
    assert norm(x).dtype == dtype
    assert torch.equal(norm(x), norm(x.float()).to(dtype))


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_norms_are_not_rounded_when_fp64_goes_through(kind: str):
    norm = small.model(norm=kind, dtype=torch.float64).norm
    x = torch.randn(5, 24, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, x, eps=1e-6, atol=1e-8)


def test_the_root_mean_square_becomes_one():
    norm = RMSNorm(24, epsilon=1e-12)
    torch.nn.init.ones_(norm.weight)
    assert torch.allclose(norm(torch.randn(5, 24) + 3).square().mean(-1), torch.ones(5))


def test_mean_and_deviation_become_zero_and_one():
    norm = LayerNorm(24, bias=False, epsilon=1e-12)
    torch.nn.init.ones_(norm.weight)
    x = norm(torch.randn(5, 24) + 3)
    assert torch.allclose(x.mean(-1), torch.zeros(5), atol=1e-6)
    assert torch.allclose(x.square().mean(-1), torch.ones(5), atol=1e-5)


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_epsilon_is_added_below_the_root(kind):
    norm = make_norm(kind, 2, bias=False, epsilon=3.0)
    torch.nn.init.ones_(norm.weight)  # type: ignore[arg-type]
    # Mean square and variance are both 1, and 1 + 3 is 2².
    assert torch.allclose(norm(torch.tensor([1.0, -1.0])), torch.tensor([0.5, -0.5]))


def test_no_norm_leaves_what_goes_through():
    x = torch.randn(5, 24) * 100
    assert torch.equal(make_norm("none", 24, bias=True, epsilon=1e-5)(x), x)
