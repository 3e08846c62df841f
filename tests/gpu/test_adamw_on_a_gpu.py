"""What only a GPU can show of AdamW's own kernel: it steps as PyTorch's does, graph or no graph."""

import math
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import small
from modelwright.model.gpu_kernels import suits_gpu_kernel
from modelwright.training import adamw_kernel, fused
from modelwright.training.fused import FusedAdamW
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.step import measure_gradient

gpu = torch.device("cuda")
pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and suits_gpu_kernel(gpu)),
    reason="there is no CUDA GPU for which Triton makes kernels",
)
betas, epsilon = (0.9, 0.95), 1e-8
# Empty, a scalar, parts of a block, whole blocks and chunks, many chunks, and many by a part.
shapes: list[tuple[int, ...]] = [
    (0,), (), (1,), (3,), (1023,), (1024,), (1025,), (4096,), (4097,), (768, 3072), (301, 1003),
]  # fmt: skip


def numbers(seed: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator(gpu).manual_seed(seed)
    return [torch.randn(s, device=gpu, generator=generator, dtype=dtype) for s in shapes]


class Trained:
    """Parameters and their optimizer, by our own kernel or by PyTorch's.

    Gradients come with their divisor, as in training.
    """

    def __init__(self, *, by_torch: bool = False, dtype: torch.dtype = torch.float32) -> None:
        self.parameters = [nn.Parameter(one.to(dtype)) for one in numbers(0)]
        halves = self.parameters[::2], self.parameters[1::2]
        groups: list[dict[str, Any]] = [
            {"params": half, "weight_decay": decay}
            for half, decay in zip(halves, (0.1, 0.0), strict=True)
        ]
        self.optimizer = FusedAdamW(groups, betas=betas, epsilon=epsilon)
        if by_torch:
            self.optimizer.move = fused.move_by_torch
        self.optimizer.grad_scale = torch.tensor(3.7, device=gpu, dtype=dtype)
        self.optimizer.found_inf = torch.zeros((), device=gpu)

    def step(self, gradients: list[Tensor], rate: float | Tensor = 0.01) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient.to(parameter.dtype, copy=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()

    def kinds(self) -> list[list[Tensor]]:
        states = [self.optimizer.state[parameter] for parameter in self.parameters]
        kept = [[state[kind] for state in states] for kind in ("exp_avg", "exp_avg_sq")]
        return [[one.detach() for one in self.parameters], *kept]

    def copies(self) -> list[Tensor]:
        return [one.clone() for kind in self.kinds() for one in kind]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every launch of our own kernel."""
    seen: list[Any] = []

    def watched(table: Any, given: Any) -> None:
        seen.append(table)
        adamw_kernel.launch(table, given)

    monkeypatch.setattr(fused, "launch", watched)
    return seen


def assert_near(ours: Trained, others: Trained, relative: float) -> None:
    """Numbers differ by no more than a share of the largest of their tensor."""
    for mine, theirs in zip(ours.kinds(), others.kinds(), strict=True):
        for one, other in zip(mine, theirs, strict=True):
            if one.numel():
                largest = other.abs().max().item()
                assert (one.double() - other.double()).abs().max() <= relative * largest


def test_twenty_steps_are_those_of_pytorch(launched: list[Any]):
    ours, theirs = Trained(), Trained(by_torch=True)
    exact = Trained(by_torch=True, dtype=torch.float64)
    for number in range(20):
        for trained in (ours, theirs, exact):
            trained.step(numbers(number + 1))
    assert len(launched) == 20 * 2
    assert_near(ours, theirs, 1e-6)
    assert_near(ours, exact, 1e-6)


def test_ours_is_no_farther_from_fp64_than_pytorch_s():
    ours, theirs = Trained(), Trained(by_torch=True)
    exact = Trained(by_torch=True, dtype=torch.float64)
    for number in range(20):
        for trained in (ours, theirs, exact):
            trained.step(numbers(number + 1))

    def error(trained: Trained) -> float:
        pairs = zip(trained.kinds(), exact.kinds(), strict=True)
        return statistics.mean(
            (one[-2].double() - other[-2]).square().mean().sqrt().item() for one, other in pairs
        )

    assert error(ours) <= 1.5 * error(theirs)


@pytest.mark.parametrize("kind", ["blocks", "warps"])
def test_how_the_work_is_cut_does_not_matter(kind: str, monkeypatch: pytest.MonkeyPatch):
    usual = Trained()
    usual.step(numbers(1))
    if kind == "blocks":
        monkeypatch.setattr(adamw_kernel, "block", 512)
        monkeypatch.setattr(adamw_kernel, "blocks_in_chunk", 3)
    else:
        monkeypatch.setattr(adamw_kernel, "warps", 8)
    other = Trained()
    other.step(numbers(1))
    assert all(torch.equal(a, b) for a, b in zip(usual.copies(), other.copies(), strict=True))


@pytest.mark.parametrize("gradient", [1.0, math.nan, math.inf])
def test_a_void_step_changes_nothing(gradient: float):
    trained = Trained()
    trained.step(numbers(1))
    before, n_steps = trained.copies(), trained.optimizer.state[trained.parameters[0]]["step"]
    assert trained.optimizer.found_inf is not None
    trained.optimizer.found_inf.fill_(1)
    trained.step([torch.full_like(one, gradient) for one in numbers(2)])
    assert all(torch.equal(a, b) for a, b in zip(before, trained.copies(), strict=True))
    assert n_steps == 1


def test_a_learning_rate_on_the_device_gives_the_same_bits():
    there, here = Trained(), Trained()
    rate = torch.zeros((), device=gpu)
    for number in (1, 2):
        rate.fill_(0.3**number)
        there.step(numbers(number), rate)
        here.step(numbers(number), 0.3**number)
    assert all(torch.equal(a, b) for a, b in zip(there.copies(), here.copies(), strict=True))


def test_gradients_may_be_elsewhere_at_each_step():
    """The host runs ahead, and the device still reads the addresses of the step at hand."""
    ours, theirs = Trained(), Trained(by_torch=True)
    held = [[numbers(seed) for seed in range(8)] for _ in range(2)]
    for trained in (ours, theirs):
        torch.cuda._sleep(int(1e8))  # so that all steps wait in the queue
        for gradients in held[trained is theirs]:
            for parameter, gradient in zip(trained.parameters, gradients, strict=True):
                parameter.grad = gradient
            for group in trained.optimizer.param_groups:
                group["lr"] = 0.01
            trained.optimizer.step()
    assert_near(ours, theirs, 1e-6)


def test_a_gradient_in_another_order_leaves_the_step_to_pytorch(launched: list[Any]):
    parameter = nn.Parameter(torch.ones(64, 32, device=gpu))
    group = {"params": [parameter], "lr": 0.1}
    optimizer = FusedAdamW([group], betas=betas, epsilon=epsilon)
    parameter.grad = torch.ones(64, 32, device=gpu)
    optimizer.step()
    assert len(launched) == 1
    parameter.grad = torch.ones(64 * 32 + 1, device=gpu)[1:].view(64, 32)
    optimizer.step()
    assert len(launched) == 1
    assert torch.allclose(parameter, torch.full_like(parameter, 0.8))


def test_a_model_is_moved_as_by_pytorch(launched: list[Any], monkeypatch: pytest.MonkeyPatch):
    def trained() -> list[Tensor]:
        model = small.model(bias=True).to(gpu)
        optimizer = make_optimizer(model, OptimizerConfig())
        for number in range(3):
            generator = torch.Generator().manual_seed(number)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator).to(gpu)
            _, divisor = measure_gradient(model, 1.0, 1.0)
            optimizer.step(0.01, divisor=divisor, void=torch.zeros((), device=gpu))
        return [*model.parameters(), *optimizer.named_state().values()]

    ours = trained()
    assert len(launched) == 3 * 2
    monkeypatch.setattr(adamw_kernel, "suits_gpu_kernel", lambda device: False)
    for mine, other in zip(ours, trained(), strict=True):
        assert torch.allclose(mine, other, rtol=2e-6, atol=2e-7)
    assert len(launched) == 3 * 2


def record(trained: Trained, fed: list[Tensor], rate: Tensor) -> torch.cuda.CUDAGraph:
    """A step whose gradients are made in the graph, of what is fed to it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        trained.step([one * 1 for one in fed], rate)
    return graph


def test_a_recorded_graph_steps_like_steps_outside():
    recorded, plain = Trained(), Trained()
    fed, rate = numbers(1), torch.tensor(0.01, device=gpu)
    for trained in (recorded, plain):
        trained.step(fed, rate)
    graph = record(recorded, fed, rate)
    for number in range(2, 12):
        for one, other in zip(fed, numbers(number), strict=True):
            one.copy_(other)
        rate.fill_(0.01 / number)
        graph.replay()
        plain.step(fed, rate)
        assert all(
            torch.equal(a, b) for a, b in zip(recorded.copies(), plain.copies(), strict=True)
        )


def test_graphs_and_steps_outside_do_not_take_each_other_s_gradients():
    """Two recordings, and steps between them, of other lists of tensors as well."""
    mixed, plain = Trained(), Trained()
    fed, others = numbers(1), numbers(2)
    rate = torch.tensor(0.01, device=gpu)
    for trained in (mixed, plain):
        trained.step(fed, rate)
    graphs = [record(mixed, fed, rate)]
    for trained in (mixed, plain):
        trained.step(others, rate)
    graphs.append(record(mixed, others, rate))
    for number in range(3):
        for graph, gradients in zip(graphs, (fed, others), strict=True):
            graph.replay()
            plain.step(gradients, rate)
        for trained in (mixed, plain):
            trained.step(numbers(10 + number), rate)
            for parameter in trained.parameters[:3]:
                parameter.grad = torch.ones_like(parameter)
            trained.optimizer.step()
            trained.optimizer.zero_grad()
        # Memory of the host that is free again is given to these, and written.
        noise = [torch.full((len(shapes),), -1, dtype=torch.int64).pin_memory() for _ in range(64)]
        del noise
    assert all(torch.equal(a, b) for a, b in zip(mixed.copies(), plain.copies(), strict=True))


def test_nothing_waits_for_the_gpu():
    trained = Trained()
    gradients = [numbers(seed) for seed in range(4)]
    trained.step(gradients[0])  # the kernel is made, and the tables
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(int(5e8))
        began = torch.cuda.Event()
        began.record()
        for one in gradients[1:]:
            trained.step(one)
        assert not began.query()  # the host is through, and the device still asleep
    finally:
        torch.cuda.set_sync_debug_mode("default")


def kernels() -> list[Any]:
    return [k for known in adamw_kernel._kernel().device_caches.values() for k in known[0].values()]


def test_another_rate_decay_or_number_of_tensors_needs_no_other_kernel():
    trained = Trained()
    trained.step(numbers(1))
    before = len(kernels())
    assert before > 0
    for rate in (0.0, 1.0, 0.5, torch.tensor([0.1, 0.2], device=gpu)[1]):
        trained.step(numbers(2), rate)
    for n_tensors in (1, 2, 5):
        group = {"params": trained.parameters[-n_tensors:], "weight_decay": 1.0, "lr": 0.1}
        fewer = FusedAdamW([group], betas=betas, epsilon=epsilon)
        fewer.grad_scale, fewer.found_inf = (torch.ones((), device=gpu) for _ in range(2))
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
        fewer.step()
    assert len(kernels()) == before


def test_sixteen_bytes_are_loaded_and_stored_at_once():
    Trained().step(numbers(1))
    for kernel in kernels():
        ptx = kernel.asm["ptx"]
        assert ptx.count("ld.global.v4") % 4 == 0 < ptx.count("ld.global.v4")
        assert ptx.count("st.global.v4") % 3 == 0 < ptx.count("st.global.v4")


def test_numbers_beyond_two_thousand_million_are_reached():
    length = 2**31 + 4100
    if torch.cuda.mem_get_info()[0] < 5 * 4 * length:
        pytest.skip("the GPU has too little free memory")
    parameter = nn.Parameter(torch.zeros(length, device=gpu))
    optimizer = FusedAdamW([{"params": [parameter], "lr": 0.5}], betas=betas, epsilon=epsilon)
    parameter.grad = torch.zeros_like(parameter)
    parameter.grad[-5000:] = 1.0
    parameter.grad[7] = 1.0
    optimizer.step()
    assert torch.allclose(parameter[-5000:], torch.tensor(-0.5, device=gpu))
    assert parameter[7].item() == pytest.approx(-0.5)
    assert parameter.count_nonzero() == 5001
