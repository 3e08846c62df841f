import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from modelwright.data.loader import not_a_target
from modelwright.model import gpu_kernels
from modelwright.model.cross_entropy import ChunkedLoss, surprise_and_slope
from modelwright.model.gpu_kernels import (
    gpu_surprise_and_slope,
    suits_gpu_kernel,
    turn_into_slope,
)

gpu = torch.device("cuda")
dtypes = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("known", [True, False])
def test_without_numbers_the_logits_themselves_become_the_slope(
    dtype: torch.dtype, device: str, known: bool
):
    with FakeTensorMode():
        logits = torch.empty(5, 304, dtype=dtype, device=device)
        targets = torch.zeros(5, dtype=torch.int64, device=device)
        scale = 0.5 if known else torch.ones((), device=device)
        before = logits._version
        loss, slope = gpu_surprise_and_slope(logits, targets, 300, scale)
    assert slope is logits
    assert logits._version > before
    assert (loss.shape, loss.dtype, loss.device) == ((), torch.float32, logits.device)


def test_without_numbers_there_is_a_loss_for_every_row():
    with FakeTensorMode():
        logits, targets = torch.empty(5, 8, dtype=torch.bfloat16), torch.zeros(5, dtype=torch.int64)
        losses = turn_into_slope(logits, targets, 8, 1.0, None)
    assert (losses.shape, losses.dtype) == ((5,), torch.float32)


def test_what_follows_a_function_finds_the_kernel_as_one_operation():
    def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return gpu_surprise_and_slope(logits * 2, targets, 8, 0.1)[0]

    inputs = torch.zeros(5, 8), torch.zeros(5, dtype=torch.int64)
    graph = make_fx(loss_of, tracing_mode="fake")(*inputs).graph
    called = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert called == ["aten.mul.Tensor", "modelwright.turn_into_slope.default", "aten.sum.default"]


def test_the_loss_in_chunks_is_followed_without_numbers():
    with FakeTensorMode():
        hidden = torch.empty(70, 16, dtype=torch.bfloat16, requires_grad=True)
        weight = torch.empty(304, 16, requires_grad=True)
        targets = torch.zeros(70, dtype=torch.int64)
        loss = ChunkedLoss.apply(hidden, weight, targets, 300, 1.0, gpu_surprise_and_slope, 32)
        gradients = torch.autograd.grad(loss, (hidden, weight))
    assert [g.shape for g in gradients] == [hidden.shape, weight.shape]


@pytest.mark.parametrize("dtype", dtypes)
def test_the_processor_is_told_what_it_should_take(dtype: torch.dtype):
    logits, targets = torch.zeros(2, 4, dtype=dtype), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"on cpu, cpu, but .* cross_entropy\.surprise_and_slope"):
        gpu_surprise_and_slope(logits, targets, 4, 1.0)
    with pytest.raises(ValueError, match="on cpu, cpu, cpu, but"):
        gpu_surprise_and_slope(logits, targets, 4, torch.ones(()))
    assert logits.eq(0).all()


def test_other_dtypes_and_columns_apart_are_left_to_the_twin():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 40, dtype=torch.float64, generator=generator)
    targets = torch.randint(37, (9,), generator=generator)
    targets[2] = not_a_target
    for scale in (0.5, torch.tensor(0.5)):
        apart = logits.float().repeat_interleave(2, 1)[:, ::2]
        for z in (logits.clone(), apart):
            theirs = surprise_and_slope(z.clone(), targets, 37, 0.5)
            ours = gpu_surprise_and_slope(z, targets, 37, scale)
            assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize(
    ("capability", "triton", "hip", "suits"),
    [
        ((9, 0), "there", None, True),
        ((7, 0), "there", None, True),
        ((6, 1), "there", None, False),
        ((9, 0), None, None, False),
        ((9, 0), "there", "6.4", False),
    ],
)
def test_the_kernel_suits_an_nvidia_gpu_that_triton_knows(
    capability: tuple[int, int],
    triton: str | None,
    hip: str | None,
    suits: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(gpu_kernels, "find_spec", lambda name: triton)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert suits_gpu_kernel(gpu) == suits
    assert not suits_gpu_kernel(torch.device("cpu"))


def test_the_module_loads_where_triton_is_missing():
    code = "import sys; sys.modules['triton'] = None; import modelwright.model.gpu_kernels"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
