import math
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import small
from modelwright import _native
from modelwright.data.loader import not_a_target
from modelwright.model import core_kernels
from modelwright.model.core_kernels import (
    core_gated_silu,
    core_gelu,
    core_surprise_and_slope,
    tanh_gelu,
    use_core_kernels,
)
from modelwright.model.cross_entropy import surprise_and_slope
from modelwright.model.loss import next_token_loss
from modelwright.model.mlp import gated_silu
from modelwright.model.recompute import RecomputeKind, recompute
from modelwright.model.transformer import Transformer

both = [torch.float32, torch.bfloat16]
# No width here divides by all vectors; some fill none.
widths = [(1, 1), (5, 3), (17, 16), (40, 37), (64, 64), (100, 67), (300, 257)]
inf, nan = math.inf, math.nan


def rounding(dtype: torch.dtype) -> float:
    """By what share a result may differ from the exact one: bf16 is rounded once, at the end."""
    return 1e-5 if dtype == torch.float32 else 2**-8 + 1e-5


def rows(n_columns: int, n_vocab: int, dtype: torch.dtype, spread: float = 3) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(n_columns)
    logits = spread * torch.randn(23, n_columns, generator=generator)
    targets = torch.randint(n_vocab, (23,), generator=generator)
    targets[::4] = not_a_target
    return logits.to(dtype), targets


def exact(logits: Tensor, targets: Tensor, n_vocab: int, scale: float) -> tuple[Tensor, Tensor]:
    return surprise_and_slope(logits.double(), targets, n_vocab, scale)


@pytest.mark.parametrize("dtype", both)
@pytest.mark.parametrize(("n_columns", "n_vocab"), widths)
@pytest.mark.parametrize("scale", [1.0, 0.003, -2.0])
def test_the_slope_is_that_of_the_twin(
    dtype: torch.dtype, n_columns: int, n_vocab: int, scale: float
):
    logits, targets = rows(n_columns, n_vocab, dtype)
    loss, slope = exact(logits, targets, n_vocab, scale)
    ours_loss, ours = core_surprise_and_slope(logits, targets, n_vocab, scale)
    assert ours_loss.dtype == torch.float32
    assert ours_loss.item() == pytest.approx(loss.item(), rel=1e-6, abs=1e-6)
    assert ours is logits
    assert torch.allclose(ours.double(), slope, rtol=rounding(dtype), atol=1e-12)
    assert ours[targets == not_a_target].eq(0).all()
    assert ours[:, n_vocab:].eq(0).all()


@pytest.mark.parametrize("dtype", both)
@pytest.mark.parametrize("shift", [-3e4, 3e4])
def test_large_logits_do_not_overflow(dtype: torch.dtype, shift: float):
    logits, targets = rows(100, 67, dtype, spread=2000)
    logits += shift
    loss, slope = exact(logits, targets, 67, 1.0)
    ours_loss, ours = core_surprise_and_slope(logits, targets, 67, 1.0)
    assert loss.isfinite()
    assert ours_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(ours.double(), slope, rtol=rounding(dtype), atol=1e-30)


@pytest.mark.parametrize("above", [-80.0, -30.0, -12.0, 0.0, 12.0, 30.0, 60.0])
def test_chances_near_nothing_and_near_one_are_exact(above: float):
    logits = torch.zeros(1, 37)
    logits[0, 5] = above
    loss, slope = exact(logits, torch.tensor([5]), 37, 1.0)
    ours_loss, ours = core_surprise_and_slope(logits, torch.tensor([5]), 37, 1.0)
    # fp64 loses what a chance lacks to one; the logarithm of one more than a little does not.
    assert ours_loss.item() == pytest.approx(-above + math.log(36 + math.exp(above)), abs=1e-5)
    assert ours_loss.item() == pytest.approx(math.log1p(36 * math.exp(-above)), rel=1e-6, abs=0)
    assert ours[0, 0].item() == pytest.approx(1 / (36 + math.exp(above)), rel=1e-6, abs=0)
    assert ours[0, 5].item() == pytest.approx(-36 / (36 + math.exp(above)), rel=1e-6, abs=0)
    assert (slope - ours).abs().max() < 1e-6 and (loss - ours_loss).abs() < 1e-4


@pytest.mark.parametrize("dtype", both)
@pytest.mark.parametrize("n_columns", [3, 16, 67, 300])
@pytest.mark.parametrize("odd", [nan, inf, -inf])
@pytest.mark.parametrize("place", ["target", "first", "last", "all"])
def test_a_loss_that_is_no_number_is_seen(
    dtype: torch.dtype, n_columns: int, odd: float, place: str
):
    logits, targets = rows(n_columns, n_columns, dtype)
    row, target = 5, 1
    targets[row] = target
    logits[row, {"target": target, "first": 0, "last": -1, "all": slice(None)}[place]] = odd
    loss, slope = surprise_and_slope(logits.clone(), targets, n_columns, 1.0)
    ours_loss, ours = core_surprise_and_slope(logits, targets, n_columns, 1.0)
    # What differs is only how much of a row without meaning is none.
    assert ours_loss.isfinite() == loss.isfinite()
    assert loss.isfinite() == (odd == -inf and place in ("first", "last"))
    if odd == -inf and place != "all":
        assert torch.equal(ours_loss.isinf(), loss.isinf())
        assert torch.allclose(ours.float(), slope.float(), rtol=0.01, atol=1e-6)
    else:
        assert ours_loss.isnan() and ours[row].isnan().any()
    others = torch.arange(23) != row
    assert ours[others].isfinite().all()


@pytest.mark.parametrize("dtype", both)
def test_what_stands_where_nothing_counts_is_not_read(dtype: torch.dtype):
    logits, targets = rows(100, 67, dtype)
    clean = logits.clone()
    logits[targets == not_a_target] = nan
    logits[:, 67:] = inf
    ours, expected = (core_surprise_and_slope(z, targets, 67, 1.0) for z in (logits, clean))
    assert torch.equal(ours[0], expected[0]) and torch.equal(ours[1], expected[1])


def curve(function: Any, *inputs: Tensor) -> list[Tensor]:
    """The values of a function and its slopes."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = function(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves, torch.ones_like(value))]


def every_bfloat16() -> Tensor:
    return torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)


@pytest.mark.parametrize("dtype", both)
def test_gelu_is_the_twin_at_every_bfloat16(dtype: torch.dtype):
    x = every_bfloat16().to(dtype)
    x = x[x.abs() < 1e12]  # beyond, the cube leaves fp32
    for ours, theirs in zip(curve(core_gelu, x), curve(tanh_gelu, x.double()), strict=True):
        assert ours.dtype == dtype
        assert torch.allclose(ours.double(), theirs, rtol=rounding(dtype), atol=3e-7)


@pytest.mark.parametrize("dtype", both)
def test_gelu_is_exact_where_it_is_next_to_nothing(dtype: torch.dtype):
    def by_sigmoid(x: Tensor) -> Tensor:
        """The same without the difference of two ones, which the twin is made of here."""
        return x * torch.sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))

    x = torch.linspace(-9, -3, 1000).to(dtype)
    for ours, theirs in zip(curve(core_gelu, x), curve(by_sigmoid, x.double()), strict=True):
        # What an exponent lacks in absolute precision, a power lacks in relative one.
        assert torch.allclose(ours.double(), theirs, rtol=2e-5 + rounding(dtype), atol=0)


@pytest.mark.parametrize("dtype", both)
def test_gated_silu_is_the_twin_at_every_bfloat16(dtype: torch.dtype):
    x = every_bfloat16().to(dtype)
    gate = x[x.abs() < 1e12]
    up = torch.randn(len(gate), generator=torch.Generator().manual_seed(0)).to(dtype)
    for ours, theirs in zip(
        curve(core_gated_silu, gate, up),
        curve(gated_silu, gate.double(), up.double()),
        strict=True,
    ):
        assert ours.dtype == dtype
        assert torch.allclose(ours.double(), theirs, rtol=rounding(dtype), atol=1e-6)


@pytest.mark.parametrize("dtype", both)
@pytest.mark.parametrize("odd", [nan, inf, -inf, 1e20, -1e20, 3e38, -3e38, 1e5, -1e5, -0.0])
def test_odd_numbers_become_what_the_twins_make_of_them(dtype: torch.dtype, odd: float):
    x = torch.full((67,), odd).to(dtype)
    ones = torch.ones_like(x)
    pairs = [
        *zip(curve(core_gelu, x), curve(tanh_gelu, x), strict=True),
        *zip(curve(core_gated_silu, x, ones), curve(gated_silu, x, ones), strict=True),
        *zip(curve(core_gated_silu, ones, x), curve(gated_silu, ones, x), strict=True),
    ]
    # In bf16 the twins round between two operations.
    share = 1e-5 if dtype == torch.float32 else 2**-7
    for ours, theirs in pairs:
        assert torch.allclose(ours, theirs, rtol=share, equal_nan=True), (ours, theirs)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 7, 33), (16,), (15,), (17,)])
@pytest.mark.parametrize("dtype", both)
def test_shapes_that_fill_no_vector_are_whole(shape: tuple[int, ...], dtype: torch.dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    up = torch.linspace(-1, 2, x.numel()).view(shape).to(dtype)
    for ours, theirs in zip(
        curve(core_gelu, x) + curve(core_gated_silu, x, up),
        curve(tanh_gelu, x.double()) + curve(gated_silu, x.double(), up.double()),
        strict=True,
    ):
        assert ours.shape == shape
        assert torch.allclose(ours.double(), theirs, rtol=rounding(dtype), atol=1e-6)


def test_a_gradient_is_multiplied_by_the_slope():
    x = torch.linspace(-4, 4, 33).requires_grad_()
    gradient = torch.linspace(3, -1, 33)
    ours, theirs = (torch.autograd.grad(f(x), x, gradient)[0] for f in (core_gelu, tanh_gelu))
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_dtypes_are_left_to_the_twins(dtype: torch.dtype):
    logits, targets = rows(40, 37, dtype)
    ours = core_surprise_and_slope(logits.clone(), targets, 37, 0.5)
    theirs = surprise_and_slope(logits.clone(), targets, 37, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert ours[0].dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(core_gelu(logits), tanh_gelu(logits))
    assert torch.equal(core_gated_silu(logits, logits), gated_silu(logits, logits))


def test_what_is_not_in_one_piece_is_left_to_the_twins():
    logits, targets = rows(40, 37, torch.float32)
    apart = logits.repeat_interleave(2, 1)[:, ::2]
    assert torch.equal(core_gelu(apart), tanh_gelu(apart))
    ours = core_surprise_and_slope(apart, targets, 37, 1.0)
    assert ours[0].item() == pytest.approx(
        core_surprise_and_slope(logits, targets, 37, 1.0)[0].item(), rel=1e-6
    )


x = torch.zeros(2, 4)
whole = torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((x.double(), whole, 4, 1.0), "logits: the tensor is neither float32 nor bfloat16"),
        ((x[0], whole, 4, 1.0), "logits: the tensor has other than two axes"),
        ((torch.zeros(4, 2).T, whole, 4, 1.0), "logits: the tensor is not contiguous"),
        ((x.to("meta"), whole, 4, 1.0), "logits: the tensor is not in the processor's memory"),
        ((x, whole.int(), 4, 1.0), "targets: the tensor is not int64"),
        ((x, whole[:1], 4, 1.0), "targets: the tensor is not one target a row"),
        ((x, whole + 3, 3, 1.0), "targets: the tensor has a target that is neither -1 nor below"),
        ((x, whole - 2, 3, 1.0), "targets: the tensor has a target that is neither -1 nor below"),
        ((x, whole, 5, 1.0), "n_vocab is at least one and at most the columns"),
        ((x, whole, 0, 1.0), "n_vocab is at least one and at most the columns"),
    ],
)
def test_what_the_loss_cannot_be_computed_from_is_refused(arguments: tuple[Any, ...], message: str):
    with pytest.raises(ValueError, match=message):
        _native.turn_into_slope(*arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fill_gelu", (x, x[:1], None), "value: the tensor has another shape"),
        ("fill_gelu", (x, x.bfloat16(), None), "value: the tensor has another dtype"),
        ("fill_gelu", (x, x, x[0]), "slope: the tensor has another shape"),
        ("fill_gelu", (x.half(), x.half(), None), "x: the tensor is neither float32 nor"),
        ("fill_swiglu", (x, x[0], x, None, None), "up: the tensor has another shape"),
        ("fill_swiglu", (x, x, x, x, None), "gate_slope and up_slope: give both or neither"),
    ],
)
def test_places_of_another_kind_are_refused(name: str, arguments: tuple[Any, ...], message: str):
    with pytest.raises(ValueError, match=message):
        getattr(_native, name)(*arguments)


def loss_and_gradients(model: Transformer) -> list[Tensor]:
    targets = small.ids().roll(-1, 1)
    targets[0, 3] = not_a_target
    loss = next_token_loss(model, small.ids(), targets, scale=0.1)
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


def fast_model(**choice: Any) -> Transformer:
    model = small.model(**choice)
    use_core_kernels(model)
    return model


@pytest.mark.parametrize("mlp", ["gelu_tanh", "swiglu", "relu2"])
@pytest.mark.parametrize("vocab_multiple", [1, 16])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # In bf16 torch rounds on the way, and what follows amplifies it.
    [(torch.float32, 2e-5), (torch.bfloat16, 0.05)],
)
def test_a_model_has_the_loss_and_gradients_it_had(
    mlp: str, vocab_multiple: int, dtype: torch.dtype, tolerance: float
):
    choice = {"mlp": mlp, "vocab_multiple": vocab_multiple, "dtype": dtype}
    usual = loss_and_gradients(small.model(**choice))
    ours = loss_and_gradients(fast_model(**choice))
    for a, b in zip(ours, usual, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("mlp", ["gelu_tanh", "swiglu"])
def test_a_model_calls_the_core(mlp: str, monkeypatch: pytest.MonkeyPatch):
    calls = []
    for name in ("fill_gelu", "fill_swiglu", "turn_into_slope"):

        def counted(*arguments: Any, name: str = name) -> Any:
            calls.append(name)
            return getattr(_native, name)(*arguments)

        monkeypatch.setattr(core_kernels, name, counted)
    loss_and_gradients(fast_model(mlp=mlp, n_layers=2))
    fill = {"gelu_tanh": "fill_gelu", "swiglu": "fill_swiglu"}[mlp]
    assert calls == [fill, fill, "turn_into_slope"]


@pytest.mark.parametrize("kind", ["blocks", "selective"])
@pytest.mark.parametrize("mlp", ["gelu_tanh", "swiglu"])
@pytest.mark.parametrize("dtype", both)
@pytest.mark.parametrize("core_first", [True, False])
def test_blocks_that_forget_compute_the_same_again(
    kind: RecomputeKind, mlp: str, dtype: torch.dtype, core_first: bool
):
    usual = loss_and_gradients(fast_model(mlp=mlp, dtype=dtype))
    model = small.model(mlp=mlp, dtype=dtype)
    if core_first:
        use_core_kernels(model)
    recompute(model, kind)
    use_core_kernels(model)
    for a, b in zip(loss_and_gradients(model), usual, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("mlp", ["gelu_tanh", "swiglu"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_loss_without_gradients_is_the_same(mlp: str, mode: Any):
    model = fast_model(mlp=mlp)
    targets = small.ids().roll(-1, 1)
    with_gradients = next_token_loss(model, small.ids(), targets)
    with mode():
        assert torch.equal(next_token_loss(model, small.ids(), targets), with_gradients)


@pytest.mark.parametrize("dtype", both)
def test_two_threads_at_once_give_the_bits_of_one(dtype: torch.dtype):
    logits, targets = rows(3000, 2999, dtype)
    x = torch.randn(50_001, generator=torch.Generator().manual_seed(0)).to(dtype)

    def work(_number: int) -> list[Tensor]:
        return [
            *core_surprise_and_slope(logits.clone(), targets, 2999, 0.1),
            *curve(core_gelu, x),
            *curve(core_gated_silu, x, x.flip(0)),
        ]

    alone = work(0)
    with ThreadPoolExecutor(2) as pool:
        for results in pool.map(work, range(20)):
            assert all(torch.equal(a, b) for a, b in zip(results, alone, strict=True))


@pytest.fixture
def no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("there are no numbers to compute with")

    for name in ("fill_gelu", "fill_swiglu", "turn_into_slope"):
        monkeypatch.setattr(core_kernels, name, refuse)


@pytest.mark.usefixtures("no_core")
@pytest.mark.parametrize("dtype", both)
def test_tensors_without_numbers_have_results_of_the_right_shapes(dtype: torch.dtype):
    with FakeTensorMode():
        x, y = (torch.empty(3, 7, dtype=dtype, requires_grad=True) for _ in range(2))
        for value in (core_gelu(x), core_gated_silu(x, y)):
            assert (value.shape, value.dtype) == (x.shape, dtype)
            for gradient in torch.autograd.grad(value.sum(), [x, y], allow_unused=True):
                assert gradient is None or (gradient.shape, gradient.dtype) == (x.shape, dtype)
        logits, targets = torch.empty(3, 7, dtype=dtype), torch.empty(3, dtype=torch.int64)
        loss, slope = core_surprise_and_slope(logits, targets, 7, 0.1)
        assert (loss.shape, loss.dtype) == ((), torch.float32)
        assert slope is logits  # in its place, as with numbers


@pytest.mark.usefixtures("no_core")
@pytest.mark.parametrize("mlp", ["gelu_tanh", "swiglu"])
def test_a_model_without_numbers_is_followed_through_the_core(mlp: str):
    with FakeTensorMode():
        model = Transformer(small.model_config(mlp=mlp))
        use_core_kernels(model)
        ids = torch.empty(2, 11, dtype=torch.int64)
        next_token_loss(model, ids, ids).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None and parameter.grad.shape == parameter.shape


# Runs in a process of its own, since the edition is chosen once.
PROGRAM = """
import torch
from modelwright import _native
from modelwright.model.core_kernels import core_gated_silu, core_gelu, core_surprise_and_slope
from modelwright.model.cross_entropy import surprise_and_slope
from modelwright.model.mlp import activations, gated_silu

def check(ours, theirs, dtype):
    share = 1e-5 if dtype == torch.float32 else 2**-8 + 1e-5
    assert torch.allclose(ours.double(), theirs, rtol=share, atol=1e-6)

generator = torch.Generator().manual_seed(0)
for dtype in (torch.float32, torch.bfloat16):
    for n in (1, 7, 15, 203):
        z = (4 * torch.randn(9, n + 2, generator=generator)).to(dtype)
        targets = torch.randint(-1, n, (9,), generator=generator)
        theirs = surprise_and_slope(z.double(), targets, n, 0.5)
        values = core_gelu(z), core_gated_silu(z, z.flip(0).contiguous())
        check(values[0], activations["gelu_tanh"](z.double()), dtype)
        check(values[1], gated_silu(z.double(), z.flip(0).double()), dtype)
        ours = core_surprise_and_slope(z, targets, n, 0.5)
        assert torch.allclose(ours[0].double(), theirs[0], rtol=1e-6, atol=1e-6)
        check(ours[1], theirs[1], dtype)
        z[3] = float("nan")
        targets[3] = 0
        assert core_surprise_and_slope(z, targets, n, 0.5)[0].isnan()
print(_native.SIMD)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere there is one edition")
@pytest.mark.parametrize("edition", ["portable", "avx2"])
def test_editions_for_other_processors_agree_with_the_twins(edition: str):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"MODELWRIGHT_SIMD": edition},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    # A processor without AVX2 takes what it has.
    assert result.stdout.strip() in (edition, "portable")
