"""`adamw_kernel.py` without a GPU: its tables, and where Triton is there, the kernel interpreted.

The interpreter does one operation after the other on arrays of the processor, in the formats that
the GPU would take. It is no part of the development environment: `pip install triton` adds it.
"""

import math
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import small
from modelwright.training import adamw_kernel, fused
from modelwright.training.adamw_kernel import (
    AdamWNumbers,
    AddressTable,
    are_plain,
    gradient_row,
    launch,
    table_of,
)
from modelwright.training.fused import FusedAdamW
from modelwright.training.optimizers import OptimizerConfig, make_optimizer

betas, epsilon = (0.9, 0.95), 1e-8
# Numbers in a tensor: none, a part of a block, whole blocks and chunks, and more by a part.
lengths = [0, 1, 3, 15, 16, 17, 31, 32, 33, 100]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adamw_kernel, "block", 16)
    monkeypatch.setattr(adamw_kernel, "blocks_in_chunk", 2)


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor passes for a GPU that Triton knows."""
    monkeypatch.setattr(adamw_kernel, "suits_gpu_kernel", lambda device: True)


@pytest.fixture
def interpreted(small_blocks: None, everywhere: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    if find_spec("triton") is None:
        pytest.skip("Triton, whose interpreter runs the kernel, is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    adamw_kernel._kernel.cache_clear()
    yield
    adamw_kernel._kernel.cache_clear()


def tensors(seed: int, shapes: list[Any], spread: float = 1.0) -> list[Tensor]:
    """Numbers of several sizes."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator)
        * 10 ** (spread * torch.randn(shape, generator=generator))
        for shape in shapes
    ]


class Group:
    """Some tensors, what AdamW keeps of them, and one way to move them."""

    def __init__(self, shapes: list[Any]) -> None:
        self.parameters = tensors(0, shapes)
        self.means, self.squares = (
            [torch.zeros_like(p) for p in self.parameters] for _ in range(2)
        )
        self.n_steps = torch.zeros(())
        self.all = [*self.parameters, *self.means, *self.squares]

    def step(self, gradients: list[Tensor], **changes: Any) -> None:
        self.n_steps += 1
        usual: dict[str, Any] = {
            "n_steps": self.n_steps,
            "learning_rate": 0.01,
            "betas": betas,
            "epsilon": epsilon,
            "weight_decay": 0.1,
        }
        self.move(gradients, AdamWNumbers(**(usual | changes)))

    def move(self, gradients: list[Tensor], numbers: AdamWNumbers) -> None:
        table = AddressTable(self.parameters, self.means, self.squares)
        table.tell_gradients(gradients)
        launch(table, numbers)


class ByTorch(Group):
    """The same by PyTorch's kernel, in the format of its tensors."""

    def __init__(self, shapes: list[Any], dtype: torch.dtype = torch.float32) -> None:
        super().__init__(shapes)
        kinds = (self.parameters, self.means, self.squares)
        self.parameters, self.means, self.squares = ([t.to(dtype) for t in kind] for kind in kinds)
        self.all = [*self.parameters, *self.means, *self.squares]

    def move(self, gradients: list[Tensor], numbers: AdamWNumbers) -> None:
        torch._fused_adamw_(  # pyright: ignore[reportPrivateImportUsage]
            self.parameters,
            [g.to(p.dtype, copy=True) for g, p in zip(gradients, self.parameters, strict=True)],
            self.means,
            self.squares,
            [],
            [numbers.n_steps] * len(gradients),
            lr=float(numbers.learning_rate),
            beta1=numbers.betas[0],
            beta2=numbers.betas[1],
            weight_decay=numbers.weight_decay,
            eps=numbers.epsilon,
            amsgrad=False,
            maximize=False,
            grad_scale=numbers.divisor,
            found_inf=numbers.void,
        )


def assert_near(ours: Group, others: Group, n_steps: int) -> None:
    """Each step rounds every number a few times, by at most 2^-24 of the largest in the sum."""
    for mine, other in zip(ours.all, others.all, strict=True):
        if mine.numel():
            scale = other.double().abs().max().item()
            assert (mine.double() - other).abs().max() <= 4 * n_steps * 2**-24 * scale


def test_every_number_is_in_one_chunk_of_its_tensor(small_blocks: None):
    group = Group(lengths)
    table = AddressTable(group.parameters, group.means, group.squares)
    assert (table.rows.dtype, table.tensor_of.dtype) == (torch.int64, torch.int32)
    assert table.chunk == 32
    seen = [torch.zeros(length) for length in lengths]
    for number, tensor in enumerate(table.tensor_of.tolist()):
        begin = (number - int(table.rows[5, tensor])) * table.chunk
        assert 0 <= begin < table.rows[4, tensor]
        seen[tensor][begin : begin + table.chunk] += 1
    assert all(times.eq(1).all() for times in seen)


def test_a_table_says_where_every_tensor_is():
    group = Group(lengths)
    gradients = tensors(1, lengths)
    table = AddressTable(group.parameters, group.means, group.squares)
    table.tell_gradients(gradients)
    told = [group.parameters, gradients, group.means, group.squares]
    for row, kind in zip(table.rows[:4].tolist(), told, strict=True):
        assert row == [tensor.data_ptr() for tensor in kind]
    assert table.rows[4].tolist() == lengths
    table.tell_gradients(group.means)
    assert table.rows[gradient_row].tolist() == [tensor.data_ptr() for tensor in group.means]


def test_what_a_recording_reads_is_never_written_again(monkeypatch: pytest.MonkeyPatch):
    group = Group([3, 5])
    table = AddressTable(group.parameters, group.means, group.squares)
    copied: list[Tensor] = []
    is_recording = True
    monkeypatch.setattr(adamw_kernel, "is_recording", lambda device: is_recording)
    original = Tensor.copy_

    def watched(self: Tensor, source: Tensor, *others: Any, **named: Any) -> Tensor:
        if named.get("non_blocking"):
            copied.append(source)
        return original(self, source, *others, **named)

    monkeypatch.setattr(Tensor, "copy_", watched)
    told = []
    for number in range(6):
        is_recording = number in (1, 2, 4)
        gradients = tensors(number, [3, 5])
        told.append((gradients, is_recording))
        table.tell_gradients(gradients)
    kept = [source for source, (_, recorded) in zip(copied, told, strict=True) if recorded]
    assert all(one is other for one, other in zip(kept, table.recorded, strict=True))
    for source, (gradients, recorded) in zip(copied, told, strict=True):
        if recorded:
            assert source.tolist() == [gradient.data_ptr() for gradient in gradients]
    assert len({source.data_ptr() for source in kept}) == 3
    for source, (_, recorded) in zip(copied, told, strict=True):
        assert recorded or source.data_ptr() not in {one.data_ptr() for one in kept}


def test_a_recording_needs_no_new_memory_of_the_host(monkeypatch: pytest.MonkeyPatch):
    group = Group([3, 5])
    table = AddressTable(group.parameters, group.means, group.squares)
    recording = False
    monkeypatch.setattr(adamw_kernel, "is_recording", lambda device: recording)
    made: list[Tensor] = []
    monkeypatch.setattr(
        AddressTable, "_on_host", lambda self, numbers: made.append(numbers) or numbers.clone()
    )
    for _ in range(2):
        recording, before = True, len(made)
        table.tell_gradients(tensors(1, [3, 5]))
        assert len(made) == before
        recording = False
        table.tell_gradients(tensors(2, [3, 5]))  # which sets aside what the next one takes


def test_on_a_processor_the_tables_are_not_made():
    group = Group([3])
    assert table_of(group.parameters, group.means, group.squares) is None


def test_plain_tensors_have_tables(everywhere: None):
    group = Group([3, (4, 5), ()])
    assert table_of(group.parameters, group.means, group.squares) is not None


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(3, dtype=torch.float64),
        torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(6)[::2],
        torch.zeros(4)[1:],
        torch.zeros(3, device="meta"),
        nn.Buffer(torch.zeros(3)).as_subclass(type("Odd", (Tensor,), {})),
    ],
    ids=["fp64", "bf16", "scattered", "begins between", "elsewhere", "of a kind of its own"],
)
def test_other_tensors_are_left_to_pytorch(everywhere: None, other: Tensor):
    group = Group([3, 3])
    kinds = [group.parameters, group.means, group.squares]
    assert table_of(*kinds) is not None
    for kind in kinds:
        changed = [[*one[:1], other] if one is kind else one for one in kinds]
        assert table_of(*changed) is None


def test_gradients_of_unusual_strides_are_not_plain():
    square = torch.zeros(4, 4)
    assert are_plain([square, torch.zeros(())])
    assert not are_plain([torch.zeros(4), square.T])


@pytest.mark.parametrize("odd", [torch.ones(4, 6).T, torch.ones(25)[1:].view(6, 4)])
def test_an_odd_gradient_leaves_a_whole_step_to_pytorch(
    everywhere: None, odd: Tensor, monkeypatch: pytest.MonkeyPatch
):
    launched: list[Any] = []
    monkeypatch.setattr(fused, "launch", lambda table, numbers: launched.append(numbers))
    one, other = nn.Parameter(torch.ones(6, 4)), nn.Parameter(torch.ones(5))
    optimizer = FusedAdamW([{"params": [one, other], "lr": 0.1}], betas=betas, epsilon=epsilon)
    one.grad, other.grad = odd, torch.ones(5)
    optimizer.step()
    assert not launched
    assert torch.allclose(one, torch.full_like(one, 0.9))
    assert torch.allclose(other, torch.full_like(other, 0.9))
    one.grad = torch.ones(6, 4)
    optimizer.step()
    assert len(launched) == 1


def optimizer_of(parameters: list[nn.Parameter], **changes: Any) -> FusedAdamW:
    group = {"params": parameters, "lr": 0.1, "weight_decay": 0.1} | changes
    return FusedAdamW([group], betas=betas, epsilon=epsilon)


@pytest.fixture
def tables(everywhere: None, monkeypatch: pytest.MonkeyPatch) -> list[AddressTable]:
    """The table of each launch, and nothing is moved."""
    seen: list[AddressTable] = []
    monkeypatch.setattr(fused, "launch", lambda table, numbers: seen.append(table))
    return seen


def test_a_table_is_made_once_while_its_tensors_stay(tables: list[AddressTable]):
    one, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = optimizer_of([one, other])
    for number in range(3):
        one.grad, other.grad = tensors(number, [3, 3])
        optimizer.step()
        told = [one.grad.data_ptr(), other.grad.data_ptr()]
        assert tables[-1].rows[gradient_row].tolist() == told
    assert tables[0] is tables[1] is tables[2]
    other.grad = None
    optimizer.step()
    assert tables[3] is not tables[0]
    assert tables[3].rows[0].tolist() == [one.data_ptr()]


def test_parameters_with_other_memory_have_a_new_table(tables: list[AddressTable]):
    one, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = optimizer_of([one, other])
    for number, memory in enumerate([torch.ones(3), torch.zeros(3), torch.zeros(6)[::2]]):
        other.data = memory
        for _ in range(2):
            one.grad, other.grad = tensors(number, [3, 3])
            optimizer.step()
            if number < 2:
                assert tables[-1].rows[0].tolist() == [one.data_ptr(), other.data_ptr()]
    assert tables[0] is tables[1] is not tables[2] is tables[3]
    assert len(tables) == 4  # the scattered ones were left to PyTorch


def test_loaded_means_have_a_table_of_their_own(tables: list[AddressTable]):
    model = small.model()
    optimizer = make_optimizer(model, OptimizerConfig())

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(0.1)

    step()
    optimizer.load_named_state({name: t.clone() for name, t in optimizer.named_state().items()})
    step()
    means = {t.data_ptr() for n, t in optimizer.named_state().items() if n.endswith("/exp_avg")}
    assert {address for table in tables[-2:] for address in table.rows[2].tolist()} == means


def test_a_table_that_a_recording_reads_outlives_its_lists(
    tables: list[AddressTable], monkeypatch: pytest.MonkeyPatch
):
    one, other = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = optimizer_of([one, other])
    recording = False
    monkeypatch.setattr(adamw_kernel, "is_recording", lambda device: recording)
    for number in range(4):
        recording = number == 1
        one.grad = torch.ones(3)
        other.grad = torch.ones(3) if number in (0, 1) else None
        optimizer.step()
    assert optimizer._recorded == {tables[1]}


def test_the_module_loads_where_triton_is_missing():
    code = "import sys; sys.modules['triton'] = None; import modelwright.training.adamw_kernel"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("divisor", [None, 3.7])
@pytest.mark.parametrize("both", [(0.9, 0.95), (0.9, 0.999), (0.0, 0.5)])
def test_steps_are_those_of_pytorch_and_of_fp64(
    interpreted: None, weight_decay: float, divisor: float | None, both: tuple[float, float]
):
    ours, theirs, exact = Group(lengths), ByTorch(lengths), ByTorch(lengths, torch.float64)
    by = None if divisor is None else torch.tensor(divisor)
    for number in range(8):
        gradients = tensors(10 + number, lengths, spread=2.0)
        for group in (ours, theirs, exact):
            group.step(gradients, weight_decay=weight_decay, betas=both, divisor=by)
    assert_near(ours, theirs, 8)
    assert_near(ours, exact, 8)


def test_steps_are_those_of_the_textbook(interpreted: None):
    """PyTorch's plain optimizer, which knows no divisor."""
    ours = Group([(3, 7), 40])
    plain = [nn.Parameter(p.double()) for p in ours.parameters]
    optimizer = torch.optim.AdamW(
        plain, lr=0.01, betas=betas, eps=epsilon, weight_decay=0.1, foreach=False
    )
    for number in range(12):
        gradients = tensors(number, [(3, 7), 40])
        ours.step([8 * g for g in gradients], divisor=torch.tensor(8.0))
        for parameter, gradient in zip(plain, gradients, strict=True):
            parameter.grad = gradient.double()
        optimizer.step()
    for mine, other in zip(ours.parameters, plain, strict=True):
        assert torch.allclose(mine.double(), other, rtol=1e-6, atol=1e-7)


def test_what_fp32_loses_of_a_beta_does_not_add_up(interpreted: None):
    """0.999 in fp32 is 1.3e-8 too much, and its mean reaches back a thousand steps."""
    ours, exact = Group([64]), ByTorch([64], torch.float64)
    for number in range(200):
        gradients = tensors(number, [64], spread=0.0)
        for group in (ours, exact):
            group.step(gradients, betas=(0.9, 0.999))
    # Roundings go either way, so that they cancel in the mean over tensors and steps.
    errors = ours.squares[0] / exact.squares[0] - 1
    assert abs(errors.mean()) < 2e-7


@pytest.mark.parametrize("n_steps", [1, 2, 10, 1000, 10**6])
def test_the_first_steps_and_late_ones_are_corrected_exactly(interpreted: None, n_steps: int):
    ours, exact = Group([5]), ByTorch([5], torch.float64)
    for group in (ours, exact):
        group.n_steps.fill_(n_steps - 1)
        group.parameters[0].zero_()
        group.step(tensors(1, [5]), betas=(0.9, 0.999), weight_decay=0.0)
    assert torch.allclose(ours.parameters[0].double(), exact.parameters[0], rtol=5e-7, atol=0)


@pytest.mark.parametrize("gradient", [1.0, math.nan, math.inf])
def test_a_void_step_changes_nothing(interpreted: None, gradient: float):
    group = Group(lengths)
    group.step(tensors(1, lengths))
    before = [tensor.clone() for tensor in group.all]
    odd = [torch.full_like(p, gradient) for p in group.parameters]
    group.step(odd, divisor=torch.tensor(math.nan), void=torch.tensor(1.0))
    assert all(torch.equal(one, other) for one, other in zip(before, group.all, strict=True))
    group.step(tensors(2, lengths), void=torch.tensor(0.0))
    assert not any(
        torch.equal(one, other) for one, other in zip(before, group.all, strict=True) if one.numel()
    )


def test_a_learning_rate_on_the_device_gives_the_same_bits(interpreted: None):
    there, here = Group(lengths), Group(lengths)
    rate = torch.zeros(())
    for number in (1, 2):
        rate.fill_(0.3**number)
        there.step(tensors(number, lengths), learning_rate=rate)
        here.step(tensors(number, lengths), learning_rate=0.3**number)
    assert all(torch.equal(one, other) for one, other in zip(there.all, here.all, strict=True))


@pytest.mark.parametrize("length", [5, 16, 35, 64, 70])
def test_what_lies_beside_a_tensor_stays(interpreted: None, length: int):
    wide = [torch.full((200,), 7.0) for _ in range(4)]
    parameter, gradient, mean, square = (one[32 : 32 + length] for one in wide)
    gradient.fill_(2.0)
    table = AddressTable([parameter], [mean], [square])
    table.tell_gradients([gradient])
    launch(table, AdamWNumbers(n_steps=torch.ones(()), learning_rate=0.1, betas=betas,
                               epsilon=epsilon, weight_decay=0.1))  # fmt: skip
    for one in wide:
        assert one[:32].eq(7).all() and one[32 + length :].eq(7).all()
    assert gradient.eq(2).all()
    assert not any(one.eq(7).any() for one in (parameter, mean, square))


def test_nothing_but_empty_tensors_is_no_launch(everywhere: None):
    group = Group([0, (3, 0)])
    group.step(tensors(1, [0, (3, 0)]))
    assert all(tensor.numel() == 0 for tensor in group.all)


def test_autograd_hears_of_the_change(interpreted: None):
    group = Group([3])
    before = [tensor._version for tensor in group.all]
    group.step(tensors(1, [3]))
    assert all(tensor._version > n for tensor, n in zip(group.all, before, strict=True))


def trained(model: nn.Module, told: dict[str, Tensor]) -> list[Tensor]:
    """A model's tensors and its optimizer's after two steps; at the second a gradient misses."""
    optimizer = make_optimizer(model, OptimizerConfig())
    parameters = list(model.parameters())
    for number in range(2):
        generator = torch.Generator().manual_seed(number)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        if number == 1:
            parameters[1].grad = None
        optimizer.step(0.01, **told)
        optimizer.zero_grad()
    return [*parameters, *optimizer.named_state().values()]


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_is_moved_as_by_pytorch(
    interpreted: None, tied: bool, monkeypatch: pytest.MonkeyPatch
):
    told = {"divisor": torch.tensor(2.5), "void": torch.tensor(0.0)}
    launched: list[Any] = []
    monkeypatch.setattr(fused, "launch", lambda *given: launched.append(given) or launch(*given))
    ours = trained(small.model(bias=True, tie_embeddings=tied), told)
    assert len(launched) == 2 * 2
    monkeypatch.setattr(adamw_kernel, "suits_gpu_kernel", lambda device: False)
    theirs = trained(small.model(bias=True, tie_embeddings=tied), told)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, rtol=2e-6, atol=2e-7)
    assert len(launched) == 2 * 2
