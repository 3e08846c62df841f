import threading

import pytest
import torch
from torch import Tensor

import small
from modelwright.model.loss import next_token_loss
from modelwright.training.lanes import Lanes


def gradients(n_lanes: int, n_portions: int) -> tuple[float, list[Tensor]]:
    """The summed loss and the gradients of portions of one batch."""
    model = small.model()
    ids = small.ids(batch=n_portions)

    def loss_of(_number: int, rows: Tensor) -> Tensor:
        return next_token_loss(model, rows, rows.roll(-1, 1))

    loss = Lanes(n_lanes).accumulate(model, list(ids.split(1)), loss_of)
    return loss.item(), [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize(("n_lanes", "n_portions"), [(2, 6), (3, 7), (4, 2), (2, 1)])
def test_lanes_give_the_gradients_of_one_after_the_other(n_lanes: int, n_portions: int):
    loss, one = gradients(1, n_portions)
    also, several = gradients(n_lanes, n_portions)
    assert also == pytest.approx(loss, rel=1e-6)
    assert len(one) == len(several) > 0
    for a, b in zip(one, several, strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4)


def test_the_same_portions_give_the_same_bits_each_time():
    found = [gradients(3, 7)[1] for _ in range(5)]
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_gradients_that_are_there_are_added_to():
    model = small.model()
    rows = list(small.ids(batch=4).split(1))

    def loss_of(_number: int, part: Tensor) -> Tensor:
        return next_token_loss(model, part, part.roll(-1, 1))

    lanes = Lanes(2)
    lanes.accumulate(model, rows, loss_of)
    once = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    lanes.accumulate(model, rows, loss_of)
    twice = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(2 * a, b) for a, b in zip(once, twice, strict=True))


def test_portions_are_worked_on_at_the_same_time():
    model = small.model()
    together = threading.Barrier(2)

    def loss_of(_number: int, rows: Tensor) -> Tensor:
        together.wait(timeout=30)  # passes only if both lanes are here
        return next_token_loss(model, rows, rows.roll(-1, 1))

    Lanes(2).accumulate(model, list(small.ids(batch=2).split(1)), loss_of)


def test_what_goes_wrong_in_a_lane_is_raised():
    def loss_of(number: int, _rows: Tensor) -> Tensor:
        raise torch.OutOfMemoryError(f"portion {number}")

    with pytest.raises(torch.OutOfMemoryError, match="portion"):
        Lanes(2).accumulate(small.model(), list(small.ids(batch=2).split(1)), loss_of)
