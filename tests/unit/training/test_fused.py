"""`fused.py`: what the host does not decide. That the rules are those of the equations is shown in
`test_optimizers.py`."""

from typing import Any

import pytest
import torch
from torch import Tensor

import small
from modelwright.training.fused import FusedAdamW, FusedSgd
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.updates import Optimizer

settings: list[dict[str, Any]] = [
    {"kind": "adamw"},
    {"kind": "sgd"},
    {"kind": "sgd", "momentum": 0.0},
    {"kind": "muon"},
]


class Trained:
    """A model, its optimizer, and gradients that follow from a number."""

    def __init__(self, **changes: Any) -> None:
        self.model = small.model(bias=True)
        self.optimizer: Optimizer = make_optimizer(self.model, OptimizerConfig(**changes))

    def step(self, number: int, *, times: float = 1.0, **told: Any) -> None:
        generator = torch.Generator().manual_seed(number)
        for parameter in self.model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator) * times
        self.optimizer.step(0.01, **told)

    def tensors(self) -> list[Tensor]:
        state = self.optimizer.named_state()
        return [t.detach().clone() for t in (*self.model.parameters(), *state.values())]


def number(value: float) -> Tensor:
    return torch.tensor(value)


@pytest.mark.parametrize("changes", settings, ids=str)
@pytest.mark.parametrize("times", [1.0, torch.nan, torch.inf])
def test_a_void_step_changes_nothing_whatever_the_gradients_are(
    changes: dict[str, Any], times: float
):
    trained = Trained(**changes)
    trained.step(1)
    before = trained.tensors()
    trained.step(2, times=times, divisor=number(torch.nan), void=number(1.0))
    for one, other in zip(before, trained.tensors(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("changes", settings, ids=str)
def test_void_steps_leave_no_trace_in_the_ones_after(changes: dict[str, Any]):
    """Not even at the very first one, where what is kept is made."""
    with_gaps, without = Trained(**changes), Trained(**changes)
    with_gaps.step(9, times=torch.nan, void=number(1.0))
    for at in (1, 2, 3):
        with_gaps.step(at, void=number(0.0))
        with_gaps.step(9, times=torch.nan, void=number(1.0))
        without.step(at)
    for one, other in zip(with_gaps.tensors(), without.tensors(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("changes", settings, ids=str)
def test_gradients_are_divided(changes: dict[str, Any]):
    divided, plain = Trained(**changes), Trained(**changes)
    for at in (1, 2):
        divided.step(at, times=8.0, divisor=number(8.0))
        plain.step(at)
    for one, other in zip(divided.tensors(), plain.tensors(), strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("changes", settings, ids=str)
def test_a_learning_rate_may_be_on_the_device(changes: dict[str, Any]):
    there, here = Trained(**changes), Trained(**changes)
    rate = number(0.0)
    for at in (1, 2):
        rate.fill_(0.5**at)
        for trained, given in ((there, rate), (here, 0.5**at)):
            generator = torch.Generator().manual_seed(at)
            for parameter in trained.model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            trained.optimizer.step(given)
    for one, other in zip(there.tensors(), here.tensors(), strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-7)


def test_all_parameters_share_the_count_of_steps_also_after_loading():
    trained = Trained()
    trained.step(1)
    trained.step(2)
    kept = {name: tensor.clone() for name, tensor in trained.optimizer.named_state().items()}
    trained.optimizer.load_named_state(kept)
    trained.step(3)
    counts = [t for name, t in trained.optimizer.named_state().items() if name.endswith("/step")]
    assert len({count.data_ptr() for count in counts}) == 1
    assert counts[0] == 3
    assert len(counts) == len(list(trained.model.parameters()))


def test_a_parameter_without_a_gradient_is_left_alone():
    for make in (
        lambda groups: FusedAdamW(groups, betas=(0.9, 0.95), epsilon=1e-8),
        lambda groups: FusedSgd(groups, momentum=0.9),
    ):
        one, other = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
        optimizer = make([{"params": [one, other], "lr": 0.1}])
        for _ in range(2):
            one.grad = torch.ones(3)
            optimizer.step()
        assert not torch.equal(one, torch.ones(3))
        assert torch.equal(other, torch.ones(3))
        other.grad = torch.ones(3)
        optimizer.step()
        assert not torch.equal(other, torch.ones(3))


def test_a_closure_is_refused():
    optimizer = FusedSgd([{"params": [torch.nn.Parameter(torch.ones(1))]}], momentum=0.0)
    with pytest.raises(ValueError, match="takes no closure"):
        optimizer.step(lambda: 1.0)
