from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from modelwright.accounting.trace import Held, wait
from modelwright.accounting.tracing import Tracer


@contextmanager
def watched(model: nn.Module | None = None, **choice: Any) -> Iterator[Tracer]:
    """A tracer at work among tensors without numbers."""
    tracer = Tracer(**choice)
    with FakeTensorMode(), tracer.watching(model or nn.Identity()):
        yield tracer


def made_by(tracer: Tracer, operation: str) -> list[Held]:
    return [held for held in tracer.storages if held.operation == operation]


def names(tracer: Tracer) -> list[str]:
    return [operation.name for operation in tracer.operations]


def test_memory_is_there_from_the_operation_that_makes_it_until_its_last_tensor_is_gone():
    with watched() as tracer:
        x = torch.empty(100)
        wave = x.exp()
        x.sin()
        del wave
        x.cos()
        trace = tracer.finish()
    (exp,), (sin,) = made_by(tracer, "exp"), made_by(tracer, "sin")
    assert (exp.born, exp.died) == (0, 2)
    assert (sin.born, sin.died) == (1, 2)
    assert [operation.held for operation in trace.operations] == [800, 1200, 800]
    assert (trace.peak_at, trace.peak_bytes) == (1, 1200)
    assert [len(trace.held_at(number)) for number in range(3)] == [2, 3, 2]


def test_another_look_at_memory_costs_nothing_and_keeps_it():
    with watched() as tracer:
        x = torch.empty(10, 10)
        looks = [x.view(100), x.T, x[2:], x.expand(5, 10, 10), x.detach(), x.split(5)[1]]
        assert (tracer.held_bytes, tracer.operations) == (400, [])
        del x
        assert tracer.held_bytes == 400
        looks.clear()
        assert tracer.held_bytes == 0


def test_an_operation_in_place_makes_no_memory():
    with watched() as tracer:
        x, y = torch.empty(100), torch.empty(100)
        x.add_(y)
        torch.exp(x, out=y)
        torch._foreach_mul_([x, y], 2.0)  # pyright: ignore[reportPrivateImportUsage]
        x.zero_()
    assert names(tracer) == ["add_.Tensor", "exp.out", "_foreach_mul_.Scalar", "zero_"]
    assert {operation.held for operation in tracer.operations} == {800}
    assert [operation.n_written for operation in tracer.operations] == [400, 400, 800, 400]
    assert [tracer.operations[n].n_read for n in (0, 3)] == [800, 0]


@pytest.mark.parametrize(("rounding", "expected"), [(1, 4), (512, 512)])
def test_the_allocator_gives_out_multiples(rounding: int, expected: int):
    with watched(rounding=rounding) as tracer:
        small, whole = torch.empty(1), torch.empty(256)
        assert [held.n_bytes for held in tracer.storages] == [expected, 1024]
        del small, whole


def test_numbers_are_read_where_there_are_none():
    with watched() as tracer:
        x = torch.empty(3)
        assert (x.sum().item(), int(torch.empty(3, dtype=torch.int64).sum())) == (1.0, 1)
        waits = [one for one in tracer.operations if one.name == wait]
    assert [(one.n_read, one.n_written, one.n_flops) for one in waits] == [(0, 0, 0)] * 2


def test_shapes_and_layouts_are_those_of_the_inputs():
    with watched() as tracer:
        torch.mm(torch.empty(2, 3), torch.empty(4, 3).T)
    (product,) = (one for one in tracer.operations if one.name == "mm")
    assert product.shapes == ((2, 3), (3, 4))
    assert product.layout == "nt"


def test_products_are_counted_also_where_they_add_in_place():
    with watched() as tracer:
        a, b = torch.empty(3, 5), torch.empty(5, 7)
        total = a @ b
        total.addmm_(a, b)
        total.exp()
    assert [operation.n_flops for operation in tracer.operations] == [210, 210, 0]


def test_scratch_counts_at_its_operation_alone():
    def scratch(operation: Any, _inputs: Any) -> int:
        return 5000 if operation is torch.ops.aten.exp.default else 0

    with watched(scratch=scratch) as tracer:
        x = torch.empty(100)
        x.sin()
        x.exp()
        x.cos()
        trace = tracer.finish()
    assert [operation.scratch for operation in trace.operations] == [0, 5000, 0]
    assert (trace.peak_at, trace.peak_bytes) == (1, 5800)
    assert trace.kinds_at(1)["scratch"] == 5000
    assert trace.timeline()["scratch"].tolist() == [0, 5000, 0]


def test_modules_are_named_on_the_way_forth_and_back():
    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        x = torch.empty(3, 4)
        tracer = Tracer()
        with tracer.watching(model):
            loss = model(x).sum()
            n_forward = len(tracer.operations)
            loss.backward()
    forward = {(o.name, o.module) for o in tracer.operations[:n_forward]}
    backward = {(o.name, o.module) for o in tracer.operations[n_forward:]}
    assert {("addmm", "0"), ("tanh", "1"), ("addmm", "2"), ("sum", "")} <= forward
    assert {("mm", "0"), ("tanh_backward", "1"), ("mm", "2")} <= backward
    assert {o.phase for o in tracer.operations[:n_forward]} == {"forward"}
    assert {o.phase for o in tracer.operations[n_forward:] if o.module} == {"backward"}
    assert tracer.phase == "clip"


def test_two_gradients_of_one_tensor_are_added_in_the_place_of_the_first():
    with FakeTensorMode():
        x = torch.empty(1000, requires_grad=True)
        tracer = Tracer()
        with tracer.watching(nn.Identity()):
            y = x.exp()
            (y.sin() + y.cos()).sum().backward()
            trace = tracer.finish()
    (at,) = [
        n for n, o in enumerate(trace.operations) if (o.name, o.phase) == ("add.Tensor", "backward")
    ]
    # y and two gradients, but not their sum beside them, and two scalars.
    assert trace.operations[at].held == 3 * 4000 + 2 * 4
    assert sum(trace.kinds_at(at).values()) == trace.operations[at].held


def test_what_nobody_spoke_of_is_kept_for_the_way_back_or_passing():
    with FakeTensorMode():
        x = torch.empty(10, requires_grad=True)
        tracer = Tracer()
        tracer.hold([x], "weights")
        with tracer.watching(nn.Identity()):
            y = (x * 2).exp().sin()  # of the product, nobody needs the result
            tracer.phase = "loss"
            y.sum().backward()
            trace = tracer.finish()
    assert trace.storages[0].kind == "weights"
    kinds = {held.operation: held.kind for held in trace.storages if held.phase != "backward"}
    assert kinds[""] == "weights"
    assert (kinds["mul.Tensor"], kinds["exp"]) == ("temporaries", "activations")
    assert kinds["sum"] == "loss"
    assert {h.kind for h in trace.storages if h.phase == "backward"} == {"temporaries"}


def test_bytes_without_a_tensor_are_there_from_the_beginning_to_the_end():
    with watched() as tracer:
        tracer.hold_bytes(1000, "batches")
        x = torch.empty(10)
        x.exp()
        del x
        torch.empty(5).exp()
        trace = tracer.finish()
    assert trace.timeline()["batches"].tolist() == [1000, 1000]
    assert [operation.held for operation in trace.operations] == [1080, 1040]


def test_copies_count_until_one_is_kept():
    with watched(copies=3) as tracer:
        x = torch.empty(100)
        y = x.exp()
        tracer.keep_one_copy([y])
        tracer.copies = 1
        assert tracer.held_bytes == 1200 + 400
        y.sin()
        del y
        assert tracer.held_bytes == 1200
        x.exp()
        trace = tracer.finish()
    assert [operation.held for operation in trace.operations] == [2400, 2000, 1600]
    assert [operation.n_written for operation in trace.operations] == [1200, 400, 400]
    for number, operation in enumerate(trace.operations):
        assert sum(trace.kinds_at(number).values()) == operation.held


def test_nothing_is_followed_where_the_tracer_looks_away():
    with watched() as tracer:
        with tracer.looking_away():
            torch.empty(100).exp()
        assert (tracer.operations, tracer.storages) == ([], [])
        torch.empty(100).exp()
    assert names(tracer) == ["exp"]


def test_memory_bears_the_name_of_who_is_said_to_make_it():
    with watched() as tracer:
        with tracer.naming("fused"):
            x = torch.empty(7)
        y = torch.empty(9)
        assert [held.operation for held in tracer.storages] == ["fused", "empty.memory_format"]
        del x, y


def test_the_hooks_are_taken_back():
    model = nn.Linear(2, 2)
    with watched(model) as tracer:
        torch.empty(1, 2).exp()
    model(torch.ones(1, 2))
    assert names(tracer) == ["exp"]
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert not torch.nn.modules.module._global_forward_hooks


def test_memory_that_nobody_asks_for_is_there_while_it_is_held():
    with watched(rounding=512) as tracer:
        memory = tracer.give_out(700, (7, 25), torch.float32, "made")
        torch.zeros(1)
        del memory
        last = torch.zeros(1)
    made = next(one for one in tracer.storages if one.operation == "made")
    assert (made.n_bytes, made.born, made.died) == (1024, 0, 1)
    assert [one.held for one in tracer.operations[:2]] == [1536, 512]
    del last
