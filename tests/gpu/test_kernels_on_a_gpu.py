"""What only a GPU can show: the kernel of the loss gives what its slow twin gives in fp64.

The shape checker and torch.compile do not get along in every version of PyTorch, so there
`SHAPE_CHECKS=off python -m pytest tests/gpu`.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from modelwright.data.loader import not_a_target
from modelwright.model import gpu_kernels
from modelwright.model.cross_entropy import ChunkedLoss, add_product, surprise_and_slope
from modelwright.model.gpu_kernels import (
    gpu_surprise_and_slope,
    suits_gpu_kernel,
    turn_into_slope,
)

gpu = torch.device("cuda")
pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and suits_gpu_kernel(gpu)),
    reason="there is no CUDA GPU for which Triton makes kernels",
)
dtypes = [torch.float32, torch.bfloat16, torch.float16]
# Columns and tokens: fewer than a block, several blocks, rows with and without an even end.
widths = [(1, 1), (7, 7), (300, 300), (304, 300), (50257, 50257), (50304, 50257)]
inf, nan = math.inf, math.nan


def rows(n_columns: int, n_vocab: int, dtype: torch.dtype, spread: float = 3) -> tuple[Tensor, ...]:
    generator = torch.Generator(gpu).manual_seed(n_columns)
    logits = spread * torch.randn(23, n_columns, device=gpu, generator=generator)
    targets = torch.randint(n_vocab, (23,), device=gpu, generator=generator)
    targets[::4] = not_a_target
    return logits.to(dtype), targets


def exact(logits: Tensor, targets: Tensor, n_vocab: int, scale: float) -> tuple[Tensor, Tensor]:
    return surprise_and_slope(logits.double(), targets, n_vocab, scale)


def assert_near(ours: Tensor, exactly: Tensor) -> None:
    """The slope is rounded once, at its end; the GPU's exponential has an error in fp32 as well.

    What an exponent lacks in absolute precision, a power lacks in relative one.
    """
    rounding = {torch.float32: 0.0, torch.bfloat16: 2**-8, torch.float16: 2**-11}[ours.dtype]
    smallest = 2**-24 if ours.dtype == torch.float16 else 1e-30
    assert torch.allclose(ours.double(), exactly, rtol=rounding + 1e-5, atol=smallest)


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize(("n_columns", "n_vocab"), widths)
@pytest.mark.parametrize("scale", [1.0, 0.003, -2.0])
@pytest.mark.parametrize("known", [True, False])
def test_the_slope_is_that_of_the_twin(
    dtype: torch.dtype, n_columns: int, n_vocab: int, scale: float, known: bool
):
    logits, targets = rows(n_columns, n_vocab, dtype)
    loss, slope = exact(logits, targets, n_vocab, scale)
    given = scale if known else torch.tensor(scale, device=gpu)
    ours_loss, ours = gpu_surprise_and_slope(logits, targets, n_vocab, given)
    assert (ours_loss.shape, ours_loss.dtype) == ((), torch.float32)
    assert ours_loss.item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)
    assert ours is logits
    assert_near(ours, slope)
    assert ours[targets == not_a_target].eq(0).all()
    assert ours[:, n_vocab:].eq(0).all()


@pytest.mark.parametrize(("lanes", "parts"), [(64, 1), (64, 4), (2048, 2), (8192, 1)])
@pytest.mark.parametrize("warps", [1, 4, 32])
def test_how_the_work_is_cut_does_not_matter(
    lanes: int, parts: int, warps: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu_kernels, "lanes", lanes)
    monkeypatch.setattr(gpu_kernels, "parts", parts)
    monkeypatch.setattr(gpu_kernels, "warps", warps)
    logits, targets = rows(5008, 5000, torch.bfloat16)
    loss, slope = exact(logits, targets, 5000, 1.0)
    ours_loss, ours = gpu_surprise_and_slope(logits, targets, 5000, 1.0)
    assert ours_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert_near(ours, slope)


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("shift", [-3e4, 3e4])
def test_large_logits_do_not_overflow(dtype: torch.dtype, shift: float):
    logits, targets = rows(100, 67, dtype, spread=2000)
    logits += shift
    loss, slope = exact(logits, targets, 67, 1.0)
    ours_loss, ours = gpu_surprise_and_slope(logits, targets, 67, 1.0)
    assert loss.isfinite()
    assert ours_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert_near(ours, slope)


def test_the_largest_finite_logits_are_numbers_like_others():
    logits = torch.zeros(2, 300, device=gpu)
    logits[:, 7], logits[:, 8] = 3e38, -3e38
    loss, slope = gpu_surprise_and_slope(logits, torch.tensor([7, 3], device=gpu), 300, 1.0)
    assert loss.item() == pytest.approx(3e38, rel=1e-6)
    expected = torch.zeros(2, 300, device=gpu)
    expected[1, 7], expected[1, 3] = 1, -1
    assert torch.equal(slope, expected)


@pytest.mark.parametrize("above", [-80.0, -12.0, 0.0, 12.0, 60.0])
def test_chances_near_nothing_and_near_one_are_exact(above: float):
    logits = torch.zeros(1, 37, device=gpu)
    logits[0, 5] = above
    loss, slope = gpu_surprise_and_slope(logits, torch.tensor([5], device=gpu), 37, 1.0)
    assert loss.item() == pytest.approx(math.log1p(36 * math.exp(-above)), rel=1e-5, abs=2e-7)
    assert slope[0, 0].item() == pytest.approx(1 / (36 + math.exp(above)), rel=1e-5, abs=0)
    assert slope[0, 5].item() == pytest.approx(-36 / (36 + math.exp(above)), rel=1e-5, abs=0)


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("n_columns", [3, 300, 20000])
@pytest.mark.parametrize("odd", [nan, inf, -inf])
@pytest.mark.parametrize("place", ["target", "first", "last", "all"])
def test_a_loss_that_is_no_number_is_seen(
    dtype: torch.dtype, n_columns: int, odd: float, place: str
):
    logits, targets = rows(n_columns, n_columns, dtype)
    row, target = 5, 1
    targets[row] = target
    logits[row, {"target": target, "first": 0, "last": -1, "all": slice(None)}[place]] = odd
    _, slope = exact(logits, targets, n_columns, 1.0)
    loss, ours = gpu_surprise_and_slope(logits, targets, n_columns, 1.0)
    assert loss.isfinite() == (odd == -inf and place in ("first", "last"))
    if odd == -inf and place != "all":
        assert_near(ours, slope)
    others = torch.arange(23, device=gpu) != row
    assert_near(ours[others], slope[others])


@pytest.mark.parametrize("n_columns", [300, 20000])
@pytest.mark.parametrize("target", [0, -1])
def test_a_row_may_begin_with_nothing_possible(n_columns: int, target: int):
    logits, targets = rows(n_columns, n_columns, torch.bfloat16)
    logits[:, : n_columns // 2] = -inf
    targets[targets != not_a_target] = target % n_columns  # which is impossible, or is not
    loss, slope = exact(logits, targets, n_columns, 1.0)
    ours_loss, ours = gpu_surprise_and_slope(logits, targets, n_columns, 1.0)
    assert ours_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    assert_near(ours, slope)


@pytest.mark.parametrize("dtype", dtypes)
def test_what_stands_where_nothing_counts_does_not_matter(dtype: torch.dtype):
    logits, targets = rows(304, 300, dtype)
    clean = logits.clone()
    logits[targets == not_a_target] = nan
    logits[:, 300:] = inf
    ours, expected = (gpu_surprise_and_slope(z, targets, 300, 1.0) for z in (logits, clean))
    assert torch.equal(ours[0], expected[0]) and torch.equal(ours[1], expected[1])


@pytest.mark.parametrize("wrong", [-2, 300, 303, 2**40])
def test_a_target_that_is_no_token_makes_the_loss_nan(wrong: int):
    logits, targets = rows(304, 300, torch.bfloat16)
    targets[5] = wrong
    assert gpu_surprise_and_slope(logits, targets, 300, 1.0)[0].isnan()


def test_rows_may_lie_apart_and_what_is_between_them_stays():
    logits, targets = rows(304, 300, torch.bfloat16)
    apart = torch.full((23, 1000), 7.0, dtype=torch.bfloat16, device=gpu)
    apart[:, 100:404] = logits
    expected = gpu_surprise_and_slope(logits, targets, 300, 1.0)
    ours = gpu_surprise_and_slope(apart[:, 100:404], targets, 300, 1.0)
    assert torch.equal(ours[0], expected[0]) and torch.equal(ours[1], expected[1])
    assert torch.equal(apart[:, 100:404], expected[1])
    assert apart[:, :100].eq(7).all() and apart[:, 404:].eq(7).all()


def test_no_rows_have_no_loss():
    logits = torch.empty(0, 304, dtype=torch.bfloat16, device=gpu)
    targets = torch.empty(0, dtype=torch.int64, device=gpu)
    assert gpu_surprise_and_slope(logits, targets, 300, 1.0)[0].item() == 0


@pytest.mark.parametrize("dtype", dtypes)
def test_two_runs_have_the_same_bits(dtype: torch.dtype):
    logits, targets = rows(50304, 50257, dtype)
    ours, again = (gpu_surprise_and_slope(z, targets, 50257, 0.1) for z in (logits, logits.clone()))
    assert torch.equal(ours[0], again[0]) and torch.equal(ours[1], again[1])


def test_rows_beyond_two_thousand_million_logits_are_reached():
    n_tokens, n_columns = 2**31 // 50304 + 30, 50304
    if torch.cuda.mem_get_info()[0] < 1.2 * 2 * n_tokens * n_columns:
        pytest.skip("the GPU has too little free memory")
    last, last_targets = rows(n_columns, 50257, torch.bfloat16)
    logits = torch.full((n_tokens, n_columns), nan, dtype=torch.bfloat16, device=gpu)
    targets = torch.full((n_tokens,), not_a_target, device=gpu)
    logits[-23:], targets[-23:] = last, last_targets
    ours = gpu_surprise_and_slope(logits, targets, 50257, 1.0)
    expected = gpu_surprise_and_slope(last, last_targets, 50257, 1.0)
    assert torch.equal(ours[1][-23:], expected[1])
    assert ours[0].item() == pytest.approx(expected[0].item(), rel=1e-6)  # another order
    assert ours[1][:-23].count_nonzero() == 0


@pytest.mark.parametrize("factor", [None, 0.5])
@pytest.mark.parametrize("dtype", dtypes)
def test_pytorch_finds_the_operation_described_as_it_is(dtype: torch.dtype, factor: float | None):
    logits, targets = rows(304, 300, dtype)
    scale = None if factor is None else torch.tensor(factor, device=gpu)
    torch.library.opcheck(turn_into_slope, (logits, targets, 300, 0.25, scale))


def test_nothing_waits_for_the_gpu():
    logits, targets = rows(304, 300, torch.bfloat16)
    scale = torch.tensor(0.5, device=gpu)
    gpu_surprise_and_slope(logits, targets, 300, scale)  # the kernel is made
    torch.cuda.set_sync_debug_mode("error")
    try:
        gpu_surprise_and_slope(logits, targets, 300, scale)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_nothing_is_allocated_but_the_losses():
    logits, targets = rows(50304, 50257, torch.bfloat16)
    gpu_surprise_and_slope(logits, targets, 50257, 1.0)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    gpu_surprise_and_slope(logits, targets, 50257, 1.0)
    assert torch.cuda.max_memory_allocated() - before < logits.nbytes / 100


def test_another_scale_or_number_of_rows_needs_no_other_kernel():
    from modelwright.model.loss_programs import replace_rows

    program: Any = replace_rows

    def n_kernels() -> int:
        return sum(len(known[0]) for known in program.device_caches.values())

    logits, targets = rows(304, 300, torch.bfloat16)
    gpu_surprise_and_slope(logits, targets, 300, 1.0)
    before = n_kernels()
    assert before > 0
    for scale in (0.0, 1.0, 0.1, 16.0, 65536.0):
        gpu_surprise_and_slope(logits, targets, 300, scale)
    for n_tokens in (1, 15, 16, 17):
        gpu_surprise_and_slope(logits[:n_tokens], targets[:n_tokens], 300, 1.0)
    assert n_kernels() == before


def test_a_recorded_graph_replays_the_kernel():
    logits, targets = rows(304, 300, torch.bfloat16)
    scale = torch.tensor(0.5, device=gpu)
    place = logits.clone()
    gpu_surprise_and_slope(place, targets, 300, scale)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss, slope = gpu_surprise_and_slope(place, targets, 300, scale)
    for value in (0.5, 2.0):  # what the tensor holds at the replay is what counts
        place.copy_(logits)
        scale.fill_(value)
        graph.replay()
        expected = gpu_surprise_and_slope(logits.clone(), targets, 300, value)
        assert torch.equal(loss, expected[0]) and torch.equal(slope, expected[1])


def test_a_compiled_function_may_call_the_kernel():
    def loss_and_slope(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return gpu_surprise_and_slope(logits * 1, targets, 300, 0.5)

    logits, targets = rows(304, 300, torch.bfloat16)
    compiled: Any = torch.compile(loss_and_slope, fullgraph=True)
    ours, expected = (f(logits, targets) for f in (compiled, loss_and_slope))
    assert torch.equal(ours[0], expected[0]) and torch.equal(ours[1], expected[1])


@pytest.mark.parametrize("dtype", dtypes)
def test_the_loss_in_chunks_has_the_gradients_of_the_twin(dtype: torch.dtype):
    generator = torch.Generator(gpu).manual_seed(0)
    hidden = torch.randn(700, 64, device=gpu, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(1024, 64, device=gpu, generator=generator).requires_grad_()
    targets = torch.randint(1000, (700,), device=gpu, generator=generator)
    targets[::7] = not_a_target
    found = []
    for slope_of in (gpu_surprise_and_slope, surprise_and_slope):
        loss = ChunkedLoss.apply(hidden, weight, targets, 1000, 0.01, slope_of, 128)
        found.append([loss.detach(), *torch.autograd.grad(loss, (hidden, weight))])
    # A slope that the two round to different neighbours differs by that much.
    tolerance = 1e-5 if dtype == torch.float32 else 0.01
    for a, b in zip(*found, strict=True):
        assert (a - b).float().abs().max() <= tolerance * b.float().abs().max()


@pytest.mark.parametrize("n_vocab", [0, 305])
def test_more_tokens_than_columns_are_refused(n_vocab: int):
    logits, targets = rows(304, 300, torch.bfloat16)
    with pytest.raises(ValueError, match=f"n_vocab is {n_vocab}, .* which are 304"):
        gpu_surprise_and_slope(logits, targets, n_vocab, 1.0)


def test_tensors_on_several_devices_are_refused():
    logits, targets = rows(304, 300, torch.bfloat16)
    with pytest.raises(ValueError, match="on cuda:0, cpu, but"):
        gpu_surprise_and_slope(logits, targets.cpu(), 300, 1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_product_is_added_without_being_rounded_in_between(dtype: torch.dtype):
    generator = torch.Generator(gpu).manual_seed(1)
    left = torch.randn(304, 700, device=gpu, generator=generator).to(dtype)
    right = torch.randn(700, 96, device=gpu, generator=generator).to(dtype)
    total = 1000 * torch.randn(304, 96, device=gpu, generator=generator)
    expected = total.double() + left.double() @ right.double()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    add_product(total, left, right)
    assert torch.cuda.max_memory_allocated() - held < 2 * total.numel()  # no product beside it
    assert torch.allclose(total.double(), expected, rtol=1e-6, atol=1e-3)
