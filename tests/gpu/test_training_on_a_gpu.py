"""What only a GPU can show: its kernels agree, its memory runs out, its runs repeat to the bit.

The shape checker and torch.compile do not get along in every version of PyTorch, so there
`SHAPE_CHECKS=off python -m pytest tests/gpu`.
"""

import itertools
import os
import signal
from pathlib import Path

import pytest
import torch

import small
from modelwright.checkpoint.resume import newest_checkpoint
from modelwright.data.loader import not_a_target
from modelwright.model.attention import choose_attention, make_attend
from modelwright.model.cross_entropy import ChunkedLoss, surprise_and_slope
from modelwright.model.loss import next_token_loss, whole_loss
from modelwright.model.recompute import compile_blocks
from modelwright.runtime.device import set_matmul_precision
from modelwright.runtime.files import sha256_of
from modelwright.training.assembly import fresh_state, make_loader, prepare
from modelwright.training.attempt import take_step
from modelwright.training.loop import Interrupted
from modelwright.training.metrics import read_metrics
from modelwright.training.runs import resume, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
gpu = torch.device("cuda")
halves = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", [torch.float32, *halves])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["math", "flash", "efficient", "cudnn"])
def test_every_kernel_gives_the_plain_answer_or_says_that_it_cannot(kind, masked, dtype):
    generator = torch.Generator(gpu).manual_seed(0)
    shapes = [(2, 4, 96, 64), (2, 2, 96, 64), (2, 2, 96, 64)]
    inputs = [torch.randn(s, device=gpu, generator=generator).to(dtype) for s in shapes]
    visible = torch.ones(1, 1, 96, 96, dtype=torch.bool, device=gpu).tril() if masked else None
    found = {}
    for name in ("plain", kind):
        own = [tensor.clone().requires_grad_() for tensor in inputs]
        try:
            queries, keys, values = own
            mixed = make_attend(name)(queries, keys, values, visible, 0.0)
            mixed.float().square().sum().backward()
        except RuntimeError:
            chosen = choose_attention(
                gpu, dtype, d_head=64, n_tokens=96, masked=masked, dropout=0, deterministic=False
            )
            assert chosen != kind  # the choice knows what does not work
            return
        found[name] = [mixed, *(tensor.grad for tensor in own)]
    tolerance = 1e-4 if dtype == torch.float32 else 0.03
    for a, b in zip(found["plain"], found[kind], strict=True):
        assert relative_difference(a, b) < tolerance


@pytest.mark.filterwarnings("error")
def test_kernels_that_do_not_fit_are_passed_over_without_a_word():
    """In fp32 neither flash nor cuDNN works, of which PyTorch warns with a reason for each."""
    for deterministic in (False, True):
        chosen = choose_attention(
            gpu,
            torch.float32,
            d_head=64,
            n_tokens=96,
            masked=False,
            dropout=0,
            deterministic=deterministic,
        )
        assert chosen in ("efficient", "math")


def relative_difference(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    """The largest difference as a share of the largest number."""
    assert a is not None and b is not None
    return ((a - b).float().abs().max() / a.float().abs().max()).item()


@pytest.mark.parametrize("dtype", halves)
def test_half_precision_is_near_full_precision(dtype: torch.dtype):
    exact, rounded = small.model().to(gpu), small.model(dtype=dtype, attention="flash").to(gpu)
    ids = small.ids().to(gpu)
    losses = [next_token_loss(m, ids, ids.roll(-1, 1)).item() for m in (exact, rounded)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_tf32_changes_the_products_and_only_a_little():
    a, b = torch.randn(2, 512, 512, device=gpu)
    results = []
    for precision in ("tf32", "fp32"):
        set_matmul_precision(precision, gpu)
        results.append(a @ b)
    assert not torch.equal(*results)
    assert torch.allclose(*results, atol=0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_in_chunks_is_the_whole_loss(dtype: torch.dtype):
    generator = torch.Generator(gpu).manual_seed(0)
    hidden = torch.randn(700, 64, device=gpu, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(1024, 64, device=gpu, generator=generator).requires_grad_()
    targets = torch.randint(1000, (700,), device=gpu, generator=generator)
    targets[::7] = not_a_target
    ours = ChunkedLoss.apply(hidden, weight, targets, 1000, 1.0, surprise_and_slope)
    whole = whole_loss((hidden @ weight.to(dtype).T)[:, :1000], targets)
    gradients = [torch.autograd.grad(loss, (hidden, weight)) for loss in (ours, whole)]
    tolerance = 1e-3 if dtype == torch.float32 else 0.05
    assert torch.allclose(ours, whole, rtol=tolerance)
    for a, b in zip(*gradients, strict=True):
        assert relative_difference(a, b) < tolerance


def test_compiled_blocks_learn_the_same():
    plain, compiled = (small.model(attention="flash", dtype=torch.bfloat16).to(gpu) for _ in "ab")
    compile_blocks(compiled)
    ids = small.ids().to(gpu)
    for model in (plain, compiled):
        next_token_loss(model, ids, ids.roll(-1, 1)).backward()
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        assert relative_difference(a.grad, b.grad) < 0.1


on_gpu = ("training.device=cuda", "training.precision=bf16", "training.micro_batch=auto")


@pytest.mark.parametrize(
    "extra",
    [
        ("training.precision=bf16",),
        ("training.precision=fp16", "model.dropout=0.1"),
        ("training.precision=fp32", "optimizer.kind=muon"),
        ("training.precision=bf16", "training.cut=packed", "training.compile=false"),
    ],
    ids=str,
)
def test_a_deterministic_run_that_was_stopped_ends_with_the_same_bits(tmp_path: Path, extra):
    changes = [*on_gpu, "training.deterministic=true", *extra]
    hashes = []
    for name, stop_after in (("whole", None), ("stopped", 3)):
        run = tmp_path / name

        def interrupt(progress, stop_after=stop_after) -> None:
            if progress.phase == "training" and progress.done == stop_after:
                os.kill(os.getpid(), signal.SIGINT)

        try:
            train(small.run_config(tmp_path, *changes), run, on_progress=interrupt)
        except Interrupted:
            resume(run)
        hashes.append(sha256_of(newest_checkpoint(run)[0] / "model.safetensors"))
    assert hashes[0] == hashes[1]
    torch.use_deterministic_algorithms(False)


def test_portions_halve_until_they_fit_and_the_losses_stay(tmp_path: Path):
    changes = [
        *on_gpu, "training.compile=false", "training.precision=fp32",
        "model.d_model=256", "model.n_heads=4", "model.n_layers=4", "model.context=256",
        "training.batch_tokens=32768", "data.stories_bytes=400_000",
    ]  # fmt: skip
    prepared = prepare(small.run_config(tmp_path, *changes))
    losses = []
    for limit in (None, 1.0e9):
        torch.cuda.empty_cache()
        if limit:
            total = torch.cuda.get_device_properties(gpu).total_memory
            torch.cuda.set_per_process_memory_fraction(limit / total)
        state = fresh_state(prepared)
        began_with = state.micro_batch
        with make_loader(prepared) as loader:
            metrics, action = take_step(state, prepared.config, loader)
        losses.append(metrics["loss"])
        assert action == "take"
        if limit:
            assert metrics["event"] == "out_of_memory"
            assert metrics["micro_batch"] == state.micro_batch < began_with
        prepared = prepare(small.run_config(tmp_path, *changes))
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_record_of_a_run_on_a_gpu(tmp_path: Path):
    train(small.run_config(tmp_path, *on_gpu, "training.precision=fp16"), tmp_path / "run")
    records = [r for r in read_metrics(tmp_path / "run") if "loss" in r]
    assert all(record["loss_scale"] > 0 for record in records)
    assert all(record["memory_bytes"] > 0 for record in records)
    assert all(b["seconds"] > a["seconds"] for a, b in itertools.pairwise(records))
