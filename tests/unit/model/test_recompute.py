import gc
import shutil
from functools import partialmethod
from typing import Any

import pytest
import torch
from jaxtyping import config as jaxtyping_config
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import small
from modelwright.model.config import AttentionKind
from modelwright.model.loss import next_token_loss
from modelwright.model.recompute import RecomputeKind, compile_blocks, recompute
from modelwright.model.transformer import Transformer

kinds: list[RecomputeKind] = ["blocks", "selective"]


def loss_and_gradients(model: Transformer, **arguments: Any) -> list[Tensor]:
    torch.manual_seed(0)
    loss = next_token_loss(model, small.ids(), small.ids().roll(-1, 1), **arguments)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return [loss, *gradients]  # type: ignore[list-item]


@pytest.mark.parametrize("kind", kinds)
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("attention", ["plain", "math", "flash"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_computed_again_is_the_same_to_the_bit(
    kind: RecomputeKind, every: int, attention: AttentionKind, dtype: torch.dtype
):
    choice: dict[str, Any] = {"attention": attention, "n_layers": 3, "dtype": dtype}
    choice["dropout"] = 0.0 if attention == "flash" else 0.3
    usual, model = small.model(**choice), small.model(**choice)
    recompute(model, kind, every=every)
    for a, b in zip(loss_and_gradients(model), loss_and_gradients(usual), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", kinds)
def test_packed_documents_are_computed_again_the_same(kind: RecomputeKind):
    packing = {
        "documents": torch.tensor([[0] * 4 + [1] * 7, [0] * 11]),
        "positions": torch.tensor([[*range(4), *range(7)], [*range(11)]]),
    }
    usual, model = (small.model(window=3, placement="post") for _ in range(2))
    recompute(model, kind)
    for a, b in zip(
        loss_and_gradients(model, **packing), loss_and_gradients(usual, **packing), strict=True
    ):
        assert torch.equal(a, b)


def n_calls(model: Transformer) -> list[int]:
    """How often each block's attention is computed in a step."""
    calls = [0] * len(model.blocks)

    def count(layer: int) -> Any:
        def add(*_: Any) -> None:
            calls[layer] += 1

        return add

    for layer, block in enumerate(model.blocks):
        block.attention.register_forward_hook(count(layer))  # type: ignore[union-attr]
    loss_and_gradients(model)
    return calls


@pytest.mark.parametrize(
    ("kind", "every", "expected"),
    [
        ("none", 1, [1, 1, 1, 1, 1]),
        ("none", 2, [1, 1, 1, 1, 1]),
        ("blocks", 1, [2, 2, 2, 2, 2]),
        ("blocks", 2, [2, 1, 2, 1, 2]),
        ("selective", 3, [2, 1, 1, 2, 1]),
    ],
)
def test_one_of_so_many_blocks_computes_twice(kind: RecomputeKind, every: int, expected: list[int]):
    model = small.model(n_layers=5)
    recompute(model, kind, every=every)
    assert n_calls(model) == expected


def test_evaluation_computes_nothing_twice():
    model = small.model(n_layers=5)
    recompute(model, "blocks")
    calls = []
    model.blocks[0].attention.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    with torch.no_grad():
        model(small.ids())
    assert len(calls) == 1


class Living(TorchDispatchMode):
    """Knows the memory of every tensor that an operation made, as long as it is held."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        weights = [*model.parameters(), *model.buffers()]
        self.not_counted = {StorageWeakRef(x.untyped_storage()).cdata for x in weights}
        self.held: dict[int, tuple[StorageWeakRef, int]] = {}
        self.n_products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.n_products += func.overloadpacket.__name__ in ("mm", "addmm", "bmm", "baddbmm")
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                self.held[reference.cdata] = reference, storage.nbytes()
        return result

    def n_bytes(self) -> int:
        gc.collect()
        return sum(
            size
            for address, (reference, size) in self.held.items()
            if address not in self.not_counted and not reference.expired()
        )


def kept_bytes_and_products(kind: RecomputeKind, every: int = 1) -> tuple[int, int]:
    """What is held between forward and backward, and the matrix products of a whole step."""
    model = small.model(n_layers=4, context=64, attention="flash", mlp="swiglu")
    recompute(model, kind, every=every)
    ids = small.ids(4, 64)
    with Living(model) as living:
        loss = model.hidden(ids).sum()
        kept = living.n_bytes()
        loss.backward()
    return kept, living.n_products


def test_less_is_kept_and_more_computed():
    everything, n_products = kept_bytes_and_products("none")
    products, n_products_selective = kept_bytes_and_products("selective")
    every_other, n_products_every_other = kept_bytes_and_products("blocks", every=2)
    entries, n_products_blocks = kept_bytes_and_products("blocks")
    assert entries < products < everything
    assert entries < every_other < everything
    stream = 4 * 64 * 24 * 4  # one residual stream, in bytes
    # What enters each of four blocks and the last norm, and what leaves that.
    assert 6 * stream <= entries < 6.5 * stream
    # Of a block's five products the last is not needed again, and none if they were kept.
    assert n_products_selective == n_products
    assert n_products_blocks == n_products + 4 * 4
    assert n_products_every_other == n_products + 2 * 4


@pytest.mark.parametrize("kind", kinds)
def test_parameters_keep_their_names(kind: RecomputeKind):
    usual, model = small.model(), small.model()
    recompute(model, kind)
    assert list(model.state_dict()) == list(usual.state_dict())
    model.load_state_dict(usual.state_dict())


@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("none", "inductor"),
        # The division into forward and backward is the compiler's own, but no C++ is made of it,
        # which takes long.
        ("blocks", "aot_eager_decomp_partition"),
        ("selective", "aot_eager_decomp_partition"),
    ],
)
def test_compiled_blocks_have_the_same_gradients(
    kind: RecomputeKind, backend: str, monkeypatch: pytest.MonkeyPatch
):
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("torch.compile needs a C++ compiler, and none is on the PATH")
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    # The checker of shapes is no part of the model and does not compile.
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    counters.clear()
    usual, model = (small.model(attention="plain", n_layers=3, mlp="gelu") for _ in range(2))
    recompute(model, kind)
    compile_blocks(model)
    expected, found = loss_and_gradients(usual), loss_and_gradients(model)
    # One program serves all blocks, and nothing in it was left to Python.
    # The blocks share one; there is one of the last norm, and one of the loss.
    assert counters["frames"] == {"total": 3, "ok": 3}
    assert not counters["graph_break"]
    assert list(model.state_dict()) == list(usual.state_dict())
    for a, b in zip(found, expected, strict=True):
        # The compiler sums in another order.
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * b.abs().max().item())
