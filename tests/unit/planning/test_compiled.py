from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import small
import traced
from modelwright.accounting.trace import Trace
from modelwright.accounting.tracing import Tracer
from modelwright.model.loss import next_token_loss
from modelwright.model.recompute import RecomputeKind
from modelwright.model.transformer import Transformer
from modelwright.planning import compiled
from modelwright.planning.compiled import compile_for_trace

kinds: list[RecomputeKind] = ["none", "blocks", "selective"]
shapes: list[dict[str, Any]] = [
    {},
    {"norm": "layernorm", "mlp": "gelu_tanh", "positions": "learned", "bias": True},
    {"placement": "post", "window": 3},
]
old_style = ("model.norm=layernorm", "model.mlp=gelu_tanh", "model.positions=learned")


def n_flops(trace: Trace) -> int:
    return sum(operation.n_flops for operation in trace.operations)


def kept_in_blocks(trace: Trace) -> list[tuple[int, ...]]:
    """What of the blocks waits for the way back when the loss begins."""
    first = [operation.phase for operation in trace.operations].index("loss")
    return [
        held.shape
        for held in trace.held_at(first)
        if held.kind == "activations" and held.module.startswith("blocks")
    ]


def kept_bytes(trace: Trace) -> int:
    first = [operation.phase for operation in trace.operations].index("loss")
    return trace.kinds_at(first)["activations"]


@pytest.mark.parametrize("kind", kinds)
@pytest.mark.parametrize("shape", shapes, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_parameter_gets_a_gradient_of_its_shape(
    kind: RecomputeKind, shape: dict[str, Any], dtype: torch.dtype
):
    with FakeTensorMode():
        model = Transformer(small.model_config(**shape), dtype=dtype, attention="plain")
        compile_for_trace(model, Tracer(), recompute=kind, every=1)
        ids = torch.empty(2, 11, dtype=torch.int64)
        next_token_loss(model, ids, ids).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            assert parameter.grad.shape == parameter.shape
            assert parameter.grad.dtype == parameter.dtype


@pytest.mark.parametrize(
    ("changes", "dtype"),
    # In fp32 there is no copy in another format to spare GPT-2's blocks.
    [((), torch.float32), ((), torch.bfloat16), (old_style, torch.bfloat16)],
)
def test_less_is_kept_for_the_way_back_than_without_a_compiler(
    changes: tuple[str, ...], dtype: torch.dtype
):
    # Not so with plain attention, whose scores the partitioner keeps beside their softmax.
    where: dict[str, Any] = {"device": "cuda", "attention": "flash", "dtype": dtype}
    eager, made = (traced.trace(*changes, is_compiled=c, **where) for c in (False, True))
    assert kept_bytes(made) < kept_bytes(eager)


def test_forgetful_blocks_keep_what_enters_them_alone():
    trace = traced.trace("training.recompute=blocks", is_compiled=True)
    # The first one's input is the embedding's; what leaves the last is the final norm's.
    assert kept_in_blocks(trace) == [(2, traced.context, 48)] * 3
    assert len(kept_in_blocks(traced.trace(is_compiled=True))) > 3 * 3


def test_selective_blocks_keep_no_more_than_usual_and_more_than_forgetful_ones():
    usual, selective, forgetful = (
        kept_bytes(traced.trace(f"training.recompute={kind}", is_compiled=True))
        for kind in ("none", "selective", "blocks")
    )
    assert forgetful < selective <= usual


@pytest.mark.parametrize("kind", kinds)
@pytest.mark.parametrize("changes", [(), old_style])
def test_nothing_of_the_blocks_is_left_once_their_gradients_are_there(
    kind: str, changes: tuple[str, ...]
):
    trace = traced.trace(f"training.recompute={kind}", *changes, is_compiled=True)
    clip = [operation.phase for operation in trace.operations].index("clip")
    kinds = trace.kinds_at(clip)
    assert kinds.pop("loss", 0) + kinds.pop("temporaries", 0) < 1000  # norms and scalars
    assert set(kinds) == {"weights", "optimizer", "batches", "gradients"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((), 1),
        (("training.recompute=blocks",), 1),
        (("training.recompute=blocks", "training.recompute_every=2"), 2),
    ],
)
def test_equal_blocks_share_a_program(
    changes: tuple[str, ...], expected: int, monkeypatch: pytest.MonkeyPatch
):
    made: list[Any] = []
    make = compiled.make_program

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return make(*arguments)

    monkeypatch.setattr(compiled, "make_program", counted)
    monkeypatch.setattr(compiled, "known_programs", OrderedDict())
    expected += 1  # that of the last norm
    traced.trace(*changes, batch=4, is_compiled=True)
    assert len(made) == expected
    traced.trace("model.n_layers=4", *changes, batch=4, is_compiled=True)
    assert len(made) == expected  # however deep the model is


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        "selective",
        "blocks",
    ],
)
@pytest.mark.parametrize("changes", [(), old_style])
@pytest.mark.parametrize("attention", ["plain", "flash"])
def test_the_work_is_that_without_a_compiler(kind: str, changes: tuple[str, ...], attention: str):
    eager, made = (
        traced.trace(
            f"training.recompute={kind}",
            *changes,
            device="cuda",
            dtype=torch.bfloat16,
            attention=attention,
            is_compiled=c,
        )
        for c in (False, True)
    )
    assert n_flops(made) == n_flops(eager)


def test_elementwise_work_between_products_becomes_kernels_without_names():
    eager, made = (
        {o.name for o in traced.trace(*old_style, is_compiled=c).operations if o.module}
        for c in (False, True)
    )
    assert {"gelu", "native_layer_norm", "_softmax"} <= eager
    assert "fused" in made
    assert not {"gelu", "_softmax"} & made
