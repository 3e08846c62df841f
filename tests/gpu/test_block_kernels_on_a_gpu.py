"""What only a GPU can show: the kernels of the blocks give what their formulas give in fp64.

`SHAPE_CHECKS=off python -m pytest tests/gpu`, as torch.compile wants it.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

import block_reference
import small
from modelwright.model import block_kernels, norm_kernels
from modelwright.model.block_kernels import (
    gelu_slope,
    heads_slope,
    turn_heads,
    use_block_kernels,
)
from modelwright.model.gpu_kernels import suits_gpu_kernel
from modelwright.model.loss import next_token_loss
from modelwright.model.norm_kernels import norm_slope
from modelwright.model.recompute import compile_blocks

gpu = torch.device("cuda")
pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and suits_gpu_kernel(gpu)),
    reason="there is no CUDA GPU for which Triton makes kernels",
)
tolerances = {torch.float32: 1e-5, torch.bfloat16: 2**-8, torch.float16: 2**-10}
# d_head, heads, heads of keys; batch and length.
heads = [(64, 12, 12), (128, 6, 2), (80, 3, 1), (6, 4, 1)]
lengths = [(3, 37), (1, 1), (2, 1024)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, device=gpu, generator=torch.Generator(gpu).manual_seed(seed))


def assert_near(found: Tensor, exactly: Tensor, dtype: torch.dtype) -> None:
    assert torch.isfinite(found).all()
    error = (found.double() - exactly.double()).abs().max()
    assert error <= tolerances[dtype] * exactly.double().abs().max().clamp(min=1e-6)


@pytest.mark.parametrize("dtype", tolerances)
@pytest.mark.parametrize(("d_head", "n_heads", "n_kv_heads"), heads)
@pytest.mark.parametrize(("batch", "seq"), lengths)
@pytest.mark.parametrize("has_norm", [True, False])
@pytest.mark.parametrize("n_angles", [0, 1, 2])
def test_heads_and_their_slopes(
    dtype: torch.dtype,
    d_head: int,
    n_heads: int,
    n_kv_heads: int,
    batch: int,
    seq: int,
    has_norm: bool,
    n_angles: int,
):
    qkv = random(batch, seq, (n_heads + 2 * n_kv_heads) * d_head).to(dtype)
    angles = random(batch if n_angles == 2 else 1, 1, seq, d_head // 2, seed=1)
    turns = (angles.cos().to(dtype), angles.sin().to(dtype)) if n_angles else (None, None)
    weights = [1 + 0.3 * random(d_head, seed=seed) if has_norm else None for seed in (2, 3)]
    rest: Any = (*turns, *weights, 1e-5, n_heads, n_kv_heads)
    found, expected = turn_heads(qkv, *rest), block_reference.turn_heads(qkv, *rest)
    for a, b in zip(found, expected, strict=True):
        assert_near(a, b, dtype)
    slopes: Any = (
        random(batch, seq, n_heads, d_head, seed=4).to(dtype).transpose(1, 2),
        random(batch, n_kv_heads, seq, d_head, seed=5).to(dtype),
        random(batch, seq, n_kv_heads + 1, d_head, seed=6).to(dtype)[:, :, 1:].transpose(1, 2),
    )
    source = qkv if has_norm else None
    for has_bias in (True, False):
        given: Any = (*slopes, source, *rest, has_bias)
        found, expected = heads_slope(*given), block_reference.heads_slope(*given)
        assert_near(found[0], expected[0], dtype)
        for a, b in zip(found[1:], expected[1:], strict=True):
            assert a.shape == b.shape
            if len(b):
                assert_near(a, b, torch.bfloat16)  # many summands in fp32


@pytest.mark.parametrize("dtype", tolerances)
@pytest.mark.parametrize("shape", [(2, 1024, 3072), (3, 37, 300), (1, 1, 1), (1, 5, 130)])
def test_the_slope_of_gelu(dtype: torch.dtype, shape: tuple[int, ...]):
    x, slope = 3 * random(*shape).to(dtype), random(*shape, seed=1).to(dtype)
    found, expected = gelu_slope(slope, x), block_reference.gelu_slope(slope, x)
    assert_near(found[0], expected[0], dtype)
    assert_near(found[1], expected[1], torch.bfloat16)


# Of the stream, and of the slopes that come from the products.
formats = [*((one, one) for one in tolerances), (torch.float32, torch.bfloat16)]
norms = [(True, True), (True, False), (False, False)]  # centred; with a bias


@pytest.mark.parametrize(("stream", "dtype"), formats, ids=str)
@pytest.mark.parametrize("width", [64, 80, 768, 1600, 5120])
@pytest.mark.parametrize("n_rows", [1, 37, 4096])
@pytest.mark.parametrize(("is_centred", "has_bias"), norms)
@pytest.mark.parametrize("has_stream", [True, False])
def test_the_slope_of_a_norm_and_the_stream_beside_it(
    stream: torch.dtype,
    dtype: torch.dtype,
    width: int,
    n_rows: int,
    is_centred: bool,
    has_bias: bool,
    has_stream: bool,
):
    x = (2 * random(1, n_rows, width) + 1).to(stream)
    d_normed = random(1, n_rows, width, seed=1).to(dtype)
    d_stream = random(1, n_rows, width, seed=2).to(stream) if has_stream else None
    weight = 1 + 0.3 * random(width, seed=3)
    given: Any = (d_normed, d_stream, x, weight, has_bias, is_centred, 1e-5)
    exactly: Any = [x.double() if isinstance(x, Tensor) else x for x in given]
    found, expected = norm_slope(*given), block_reference.norm_slope(*exactly)
    assert found[0].dtype == stream
    assert_near(found[0], expected[0], stream)
    assert found[1].shape == expected[1].shape
    for a, b in zip(found[1], expected[1], strict=True):
        assert_near(a, b, torch.bfloat16)  # many summands in fp32
    assert all(torch.equal(a, b) for a, b in zip(norm_slope(*given), found, strict=True))


@pytest.mark.parametrize("is_centred", [True, False])
@pytest.mark.parametrize("shape", [(0, 768), (3, 0, 64), (5, 1), (1, 8192)], ids=str)
def test_the_slope_of_a_norm_of_few_or_many_numbers(is_centred: bool, shape: tuple[int, ...]):
    x, d_normed = 2 * random(*shape) + 1, random(*shape, seed=1)
    given: Any = (d_normed, x, x, 1 + random(shape[-1], seed=2), is_centred, is_centred, 1e-5)
    found, expected = norm_slope(*given), block_reference.norm_slope(*given)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_slope_of_a_norm_takes_slopes_in_any_order_in_memory():
    x = random(4, 9, 80)
    spread = random(9, 4, 80, seed=1).transpose(0, 1)
    shared = random(80, seed=2).expand(4, 9, 80)
    given: Any = (spread, shared, x, random(80, seed=3), True, True, 1e-5)
    for a, b in zip(norm_slope(*given), block_reference.norm_slope(*given), strict=True):
        assert_near(a, b, torch.float32)


def test_rows_far_from_zero_have_the_spread_of_their_numbers():
    x = 1000 + random(64, 768)
    given: Any = (random(64, 768, seed=1), None, x, torch.ones(768, device=gpu), True, True, 1e-5)
    assert_near(norm_slope(*given)[0], block_reference.norm_slope(*given)[0], torch.bfloat16)


def test_a_stream_may_have_more_numbers_than_32_bits_count():
    """Only the last rows are looked at, which such numbers tell apart."""
    width, n_last = 1024, 64
    n_rows = 2**31 // width + n_last
    n_bytes = 4 * 2 * n_rows * width
    if torch.cuda.mem_get_info()[0] < 1.3 * n_bytes:
        pytest.skip(f"needs {n_bytes / 2**30:.0f} GiB of GPU memory")
    x, d_normed, d_stream = (
        torch.zeros(n_rows, width, device=gpu, dtype=torch.bfloat16) for _ in range(3)
    )
    for seed, one in enumerate((x, d_normed, d_stream)):
        one[-n_last:] = random(n_last, width, seed=seed).bfloat16()
    weight = 1 + 0.3 * random(width, seed=3)
    settings: Any = (weight, True, True, 1e-5)
    found = norm_slope(d_normed, d_stream, x, *settings)
    last: Any = [one[-n_last:] for one in (d_normed, d_stream, x)]
    expected = block_reference.norm_slope(*last, *settings)
    assert_near(found[0][-n_last:], expected[0], torch.bfloat16)
    assert not found[0][:-n_last].any()
    assert_near(found[1], expected[1], torch.bfloat16)


@pytest.mark.parametrize("cut", [(1024, 8, 1, 3), (4096, 16, 99, 2), (1024, 32, 100_000, 1)])
def test_how_a_norm_s_rows_are_cut_does_not_matter(
    cut: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    for name, value in zip(("tile", "numbers", "n_warps", "ahead"), cut, strict=True):
        monkeypatch.setattr(norm_kernels, name, value)
    x, d_normed = random(3, 301, 300), random(3, 301, 300, seed=1)
    given: Any = (d_normed, x, x, 1 + random(300, seed=2), True, True, 1e-5)
    found, expected = norm_slope(*given), block_reference.norm_slope(*given)
    assert_near(found[0], expected[0], torch.float32)
    assert_near(found[1], expected[1], torch.bfloat16)


def test_gelu_far_from_zero_is_a_line():
    x = torch.tensor([[-1e4, -60.0, 0.0, 60.0, 1e4]], device=gpu)
    slope = gelu_slope(torch.ones_like(x), x)[0]
    assert torch.equal(slope, torch.tensor([[0, 0, 0.5, 1, 1]], device=gpu))


@pytest.mark.parametrize("n_programs", [1, 7, 100_000])
def test_how_rows_are_shared_does_not_matter(n_programs: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(block_kernels, "n_programs", n_programs)
    x, slope = random(3, 301, 300), random(3, 301, 300, seed=1)
    found, expected = gelu_slope(slope, x), block_reference.gelu_slope(slope, x)
    assert_near(found[0], expected[0], torch.float32)
    assert_near(found[1], expected[1], torch.bfloat16)


@pytest.mark.parametrize(
    "changes",
    [
        {"qk_norm": True, "n_kv_heads": 2},
        {"positions": "learned", "bias": True, "norm": "layernorm", "mlp": "gelu_tanh"},
    ],
    ids=str,
)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_learns_the_same(changes: dict[str, Any], compiled: bool):
    shape: Any = {"n_heads": 4, "d_model": 64, "context": 64, "attention": "math"} | changes
    usual, ours = (small.model(**shape).to(gpu) for _ in range(2))
    use_block_kernels(ours, is_compiled=compiled)
    if compiled:
        torch._dynamo.reset()
        compile_blocks(ours)
    ids = torch.randint(30, (3, 64), device=gpu)
    found, expected = (
        torch.autograd.grad(
            next_token_loss(model, ids, ids.roll(1), scale=0.1), list(model.parameters())
        )
        for model in (ours, usual)
    )
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max().clamp(min=1e-3)
