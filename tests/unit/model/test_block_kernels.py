"""`block_kernels.py` on a processor: what is built of its operations, which are stood in for.

The kernels themselves are tried in `tests/gpu`.
"""

import subprocess
import sys
from functools import partial, partialmethod
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import block_reference
import small
from modelwright.model.attention import heads_of
from modelwright.model.block_kernels import (
    gelu_slope,
    gpu_heads,
    gpu_hidden_units,
    half_width,
    heads_slope,
    programs_for,
    turn_heads,
    use_block_kernels,
)
from modelwright.model.cross_entropy import surprise_and_slope
from modelwright.model.fp8 import use_fp8
from modelwright.model.loss import next_token_loss
from modelwright.model.mlp import Mlp, hidden_units
from modelwright.model.recompute import RecomputeKind, compile_blocks, recompute
from modelwright.model.transformer import Transformer

shapes: list[dict[str, Any]] = [
    {"qk_norm": True},
    {"qk_norm": True, "bias": True, "n_kv_heads": 2},
    {"n_kv_heads": 1},
    {"positions": "learned", "bias": True, "norm": "layernorm", "mlp": "gelu_tanh"},
    {"positions": "learned", "bias": True, "mlp": "relu2", "qk_norm": True},
    {"bias": True, "mlp": "gelu_tanh"},
]


def loss_and_gradients(model: Transformer, **where: Tensor) -> list[Tensor]:
    ids = torch.randint(30, (3, 11), generator=torch.Generator().manual_seed(1))
    loss = next_token_loss(model, ids, ids.roll(1), scale=0.1, **where)
    return [loss, *torch.autograd.grad(loss, list(model.parameters()))]


def pair(*, is_compiled: bool = False, **changes: Any) -> tuple[Transformer, Transformer]:
    """The same model twice, once with the operations."""
    shape = {"n_heads": 4, "d_model": 32, "attention": "plain"} | changes
    usual, ours = (small.model(**shape) for _ in range(2))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for a, b in zip(usual.parameters(), ours.parameters(), strict=True):
            a += 0.3 * torch.randn(a.shape, generator=generator)
            b.copy_(a)
    use_block_kernels(ours, is_compiled=is_compiled)
    return usual, ours


def assert_alike(found: list[Tensor], expected: list[Tensor], tolerance: float = 2e-5) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("changes", shapes, ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_a_model_learns_the_same(changes: dict[str, Any], packed: bool):
    usual, ours = pair(**changes)
    where = {}
    if packed:
        places = torch.arange(11).expand(3, -1)
        starts = torch.tensor([[4], [7], [2]])
        where = {
            "positions": torch.where(places >= starts, places - starts, places),
            "documents": (places >= starts).long(),
        }
    expected = loss_and_gradients(usual, **where)
    assert_alike(loss_and_gradients(ours, **where), expected)
    names = {node for node in _operations_of(ours) if node.startswith("modelwright.")}
    assert names


def _operations_of(model: Transformer) -> set[str]:
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: set[str] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            seen.add(str(func))
            return func(*args, **(kwargs or {}))

    with Watch():
        loss_and_gradients(model)
    return seen


@pytest.mark.parametrize("kind", ["none", "blocks", "selective"])
@pytest.mark.parametrize("changes", [shapes[1], shapes[3]], ids=str)
def test_blocks_that_forget_learn_the_same(kind: RecomputeKind, changes: dict[str, Any]):
    usual, ours = pair(**changes)
    recompute(ours, kind)
    assert_alike(loss_and_gradients(ours), loss_and_gradients(usual))


@pytest.mark.parametrize("kind", ["none", "blocks", "selective"])
@pytest.mark.parametrize("changes", [shapes[1], shapes[3]], ids=str)
def test_compiled_blocks_learn_the_same(
    kind: RecomputeKind, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    from jaxtyping import config as jaxtyping_config
    from torch._dynamo.utils import counters

    backend = "aot_eager_decomp_partition"
    compiled = partialmethod(torch.nn.Module.compile, backend=backend)
    monkeypatch.setattr(torch.nn.Module, "compile", compiled)
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    counters.clear()
    usual, ours = pair(is_compiled=True, **changes)
    for model in (usual, ours):
        recompute(model, kind)
        model.slope_of = partial(surprise_and_slope)  # not to be compiled
        compile_blocks(model)
    assert_alike(loss_and_gradients(ours), loss_and_gradients(usual))
    assert not counters["graph_break"]
    assert set(counters["frames"]) == {"total", "ok"}
    assert kept_bytes(ours) <= 1.03 * kept_bytes(usual)  # a kernel's input, once more


def kept_bytes(model: Transformer) -> int:
    """What waits for the way back besides the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: list[int] = []

    def note(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in weights:
            sizes.append(x.nbytes)
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        model.hidden(torch.zeros(3, 11, dtype=torch.int64))
    return sum(sizes)


def test_what_gains_nothing_is_left_to_the_twins():
    post: Any = {"positions": "learned", "placement": "post"}
    model = small.model(bias=False, mlp="gelu_tanh", **post)
    use_block_kernels(model, is_compiled=False)
    assert not any(name.startswith("modelwright.") for name in _operations_of(model))
    model = small.model(bias=True, mlp="gelu", **post)
    use_block_kernels(model, is_compiled=False)
    names = {name for name in _operations_of(model) if name.startswith("modelwright.")}
    assert names == {"modelwright.heads_slope.default"}
    double = small.model(bias=True, mlp="gelu_tanh", dtype=torch.float64)
    use_block_kernels(double, is_compiled=False)
    assert not any(name.startswith("modelwright.") for name in _operations_of(double))


def test_eight_bit_products_stay():
    model = small.model(d_model=32, n_heads=2, d_ff=64, dtype=torch.bfloat16, mlp="gelu_tanh")
    use_fp8(model)
    use_block_kernels(model, is_compiled=False)
    block: Any = model.blocks[0]
    assert block.attention.heads_of is heads_of
    assert isinstance(block.mlp, Mlp) and block.mlp.hidden_units is hidden_units
    usual = small.model(d_model=32, n_heads=2, d_ff=64, mlp="gelu_tanh")
    use_block_kernels(usual, is_compiled=False)
    block = usual.blocks[0]
    assert block.attention.heads_of is gpu_heads
    assert block.mlp.hidden_units is gpu_hidden_units


@pytest.mark.parametrize(("has_norm", "has_bias"), [(True, True), (False, True), (True, False)])
def test_without_numbers_there_are_the_shapes(has_norm: bool, has_bias: bool):
    with FakeTensorMode():
        qkv = torch.empty(2, 5, 4 * 6, dtype=torch.bfloat16)
        weight = torch.empty(6) if has_norm else None
        settings: Any = (1e-5, 2, 1)
        arguments: Any = (qkv, None, None, weight, weight, *settings)
        queries, keys = turn_heads(*arguments)
        assert (queries.shape, keys.shape) == ((2, 5, 2, 6), (2, 5, 1, 6))
        slopes: Any = [x.transpose(1, 2) for x in (queries, keys, keys)]
        source = qkv if has_norm else None
        given: Any = (*slopes, source, None, None, weight, weight, *settings, has_bias)
        out, d_bias, d_norms = heads_slope(*given)
        assert (out.shape, out.dtype) == (qkv.shape, qkv.dtype)
        assert (d_bias.shape, d_bias.dtype) == ((24 * has_bias,), torch.float32)
        assert (d_norms.shape, d_norms.dtype) == ((2 * has_norm, 6), torch.float32)
        slope, d_bias = gelu_slope(qkv, qkv)
        assert (slope.shape, slope.dtype) == (qkv.shape, qkv.dtype)
        assert (d_bias.shape, d_bias.dtype) == ((24,), torch.float32)


def test_the_formulas_of_the_reference_are_those_of_its_gradient():
    """So that the kernels are compared with what is right."""
    generator = torch.Generator().manual_seed(2)
    qkv = torch.randn(2, 3, 5 * 8, dtype=torch.float64, generator=generator).requires_grad_()
    angles = torch.randn(1, 1, 3, 4, dtype=torch.float64, generator=generator)
    weights = [
        torch.randn(8, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2)
    ]
    rest: Any = (angles.cos(), angles.sin(), *weights, 1e-3, 3, 1)
    made = block_reference.heads(qkv, *rest)
    slopes = [torch.randn(x.shape, dtype=torch.float64, generator=generator) for x in made]
    expected = torch.autograd.grad(made, (qkv, *weights), slopes)
    given: Any = (*(x.transpose(1, 2) for x in slopes), qkv, *rest, True)
    with torch.no_grad():
        out, d_bias, d_norms = block_reference.heads_slope(*given)
    assert torch.allclose(out, expected[0], rtol=1e-10)
    assert torch.allclose(d_bias.double(), expected[0].sum((0, 1)), rtol=1e-4, atol=1e-5)
    for found, exact in zip(d_norms.double(), expected[1:], strict=True):
        assert torch.allclose(found, exact, rtol=1e-4, atol=1e-5)
    x = torch.randn(4, 6, dtype=torch.float64, generator=generator).requires_grad_()
    y = torch.nn.functional.gelu(x, approximate="tanh")
    slope = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    (exact,) = torch.autograd.grad(y, x, slope)
    assert torch.allclose(block_reference.gelu_slope(slope, x.detach())[0], exact, rtol=1e-6)


@pytest.mark.parametrize(("d_head", "half"), [(2, 1), (6, 4), (64, 32), (80, 64), (128, 64)])
def test_a_half_has_room_for_half_a_head(d_head: int, half: int):
    assert half_width(d_head) == half


def test_programs_share_rows_and_never_more_than_there_are():
    assert programs_for(65_536, 32, 36) == 2112 // 36
    assert programs_for(40, 32, 36) == 2
    assert programs_for(1, 32, 5000) == 1


def test_the_module_loads_where_triton_is_missing():
    code = "import sys; sys.modules['triton'] = None; import modelwright.model.block_kernels"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
