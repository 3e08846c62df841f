"""`norm_kernels.py` on a processor: what is built of its operation, which is stood in for.

The kernel itself is tried in `tests/gpu`.
"""

from functools import partial, partialmethod
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

import block_reference
import small
from modelwright.model import norm_kernels
from modelwright.model.block_kernels import use_block_kernels
from modelwright.model.cross_entropy import surprise_and_slope
from modelwright.model.loss import next_token_loss
from modelwright.model.norm_kernels import cut_for, gpu_beside, gpu_normed, has_kernel, norm_slope
from modelwright.model.norms import LayerNorm, RMSNorm, layer_normed, make_norm, rms_normed
from modelwright.model.recompute import RecomputeKind, compile_blocks, recompute
from modelwright.model.transformer import Transformer, beside

aten = torch.ops.aten
kinds: list[Any] = [("layernorm", True), ("layernorm", False), ("rmsnorm", False)]
# Of the stream, and of what its norm makes for the products.
formats = [
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float16),
    (torch.float32, torch.bfloat16),
]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def norm_of(kind: Any, has_bias: bool, width: int) -> Any:
    norm = make_norm(kind, width, bias=has_bias, epsilon=1e-3)
    with torch.no_grad():
        for seed, parameter in enumerate(norm.parameters()):
            parameter.copy_(1 + 0.3 * random(width, seed=seed))
    return norm


@pytest.mark.parametrize(("kind", "has_bias"), kinds)
@pytest.mark.parametrize(("stream", "dtype"), formats, ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 24), (1, 1, 3), (3, 7, 80)], ids=str)
@pytest.mark.parametrize("used", ["stream", "norm", "both"])
def test_a_stream_and_its_norm_are_the_twin_s_and_so_are_their_slopes(
    kind: Any,
    has_bias: bool,
    stream: torch.dtype,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    used: str,
):
    norm = norm_of(kind, has_bias, shape[-1])
    x = (2 * random(*shape) + 1).to(stream).requires_grad_()
    slopes = [random(*shape, seed=8).to(stream), random(*shape, seed=9).to(dtype)]
    found: list[list[Tensor | None]] = []
    for way in (partial(gpu_beside, dtype), beside):
        passed, normed = way(norm, x)
        made = [passed, normed.to(dtype)]
        found.append([one.detach() for one in made])
        which = {"stream": [0], "norm": [1], "both": [0, 1]}[used]
        found[-1] += torch.autograd.grad(
            [made[n] for n in which],
            [x, *norm.parameters()],
            [slopes[n] for n in which],
            allow_unused=True,
        )
    for place, (ours, usual) in enumerate(zip(*found, strict=True)):
        if place < 2:
            assert ours is not None and usual is not None
            assert ours.dtype == usual.dtype and torch.equal(ours, usual)
        elif usual is None:
            assert ours is None
        else:
            assert ours is not None and ours.dtype == usual.dtype
            # The twin rounds the slope through the norm before it adds the other one.
            within = {torch.float32: 1e-5, torch.bfloat16: 2**-6, torch.float16: 2**-9}[ours.dtype]
            assert (ours - usual).abs().max() <= within * usual.abs().max()


@pytest.mark.parametrize(("kind", "has_bias"), kinds)
@pytest.mark.parametrize("has_stream", [True, False])
def test_the_formulas_of_the_reference_are_those_of_its_gradient(
    kind: Any, has_bias: bool, has_stream: bool
):
    norm = norm_of(kind, has_bias, 24).double()
    x = (2 * random(2, 5, 24) + 1).double().requires_grad_()
    slopes = [random(2, 5, 24, seed=seed).double() for seed in (8, 9)]
    outputs, given = [norm(x)], slopes[1:]
    if has_stream:
        outputs, given = [*outputs, 1 * x], [*given, slopes[0]]
    expected = torch.autograd.grad(outputs, [x, *norm.parameters()], given)
    other = slopes[0] if has_stream else None
    with torch.no_grad():
        out, sums = block_reference.norm_slope(
            slopes[1], other, x, norm.weight, has_bias, kind == "layernorm", 1e-3
        )
    assert torch.allclose(out, expected[0], rtol=1e-10)
    assert len(sums) == len(expected) - 1
    for found, exact in zip(sums.double(), expected[1:], strict=True):
        assert torch.allclose(found, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "has_bias"), kinds)
def test_only_the_stream_waits_for_the_way_back(kind: Any, has_bias: bool):
    norm = norm_of(kind, has_bias, 24)
    x = random(2, 5, 24).bfloat16().requires_grad_()
    kept: list[int] = []

    def note(saved: Tensor) -> Tensor:
        kept.append(saved.data_ptr())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        passed, _ = gpu_beside(torch.bfloat16, norm, x)
    assert kept == [x.data_ptr(), norm.weight.data_ptr()]
    assert passed.data_ptr() == x.data_ptr()  # no copy


def test_without_a_gradient_nothing_waits():
    norm = norm_of("rmsnorm", False, 24)
    with torch.no_grad():
        passed, normed = gpu_beside(torch.float32, norm, random(2, 5, 24))
    assert not passed.requires_grad and not normed.requires_grad


def test_a_stream_that_learns_nothing_lets_its_norm_learn():
    norm = norm_of("layernorm", True, 24)
    x = random(2, 5, 24)
    slope = random(2, 5, 24, seed=9)
    found, expected = (
        torch.autograd.grad(way(norm, x)[1], list(norm.parameters()), slope)
        for way in (partial(gpu_beside, torch.float32), beside)
    )
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)


def with_kernels(**changes: Any) -> Any:
    made: Any = small.model(**changes)
    use_block_kernels(made, is_compiled=True)
    return made


def test_blocks_and_the_last_norm_of_a_pre_norm_model_use_the_kernel():
    for norm in ("layernorm", "rmsnorm"):
        model = with_kernels(norm=norm, qk_norm=True)
        assert model.norm.normed is gpu_normed
        for block in model.blocks:
            assert block.beside.func is gpu_beside
            assert block.beside.args == (torch.float32,)
            assert block.attention.query_norm.normed is rms_normed
    mixed = with_kernels(dtype=torch.bfloat16, stream_dtype=torch.float32)
    assert mixed.blocks[0].beside.args == (torch.bfloat16,)


@pytest.mark.parametrize(
    "changes",
    [{"placement": "post"}, {"norm": "none"}, {"dtype": torch.float64}],
    ids=str,
)
def test_other_models_are_left_to_the_twins(changes: dict[str, Any]):
    model = with_kernels(**changes)
    for part in model.modules():
        assert getattr(part, "beside", beside) is beside
        assert getattr(part, "normed", rms_normed) is rms_normed


def test_what_is_not_compiled_is_left_to_the_twins():
    usual: Any = small.model(norm="layernorm")
    use_block_kernels(usual, is_compiled=False)
    assert usual.blocks[0].beside is beside
    assert usual.norm.normed is layer_normed


def test_rows_for_which_threads_have_no_room_are_left_to_the_twin(
    monkeypatch: pytest.MonkeyPatch,
):
    assert has_kernel(LayerNorm(8192, bias=True, epsilon=1e-5))
    assert not has_kernel(RMSNorm(8193, epsilon=1e-5))
    assert not has_kernel(torch.nn.Identity())
    monkeypatch.setattr(norm_kernels, "widest", 23)
    model = with_kernels(norm="layernorm")
    assert model.blocks[0].beside is beside
    assert model.norm.normed is layer_normed


def test_parameters_keep_their_names():
    usual = small.model(norm="layernorm", bias=True)
    assert set(with_kernels(norm="layernorm", bias=True).state_dict()) == set(usual.state_dict())


def compiled_graphs(
    monkeypatch: pytest.MonkeyPatch, kind: RecomputeKind, *, ours: bool, **changes: Any
) -> tuple[list[fx.Graph], list[fx.Graph]]:
    """What the compiler has of a model of one block forward and backward, the last norm after it.

    Both are in the order in which they run.
    """
    from jaxtyping import config as jaxtyping_config
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch._aot_autograd.utils import make_boxed_func
    from torch._functorch.partitioners import min_cut_rematerialization_partition
    from torch._inductor.decomposition import select_decomp_table

    forward: list[fx.Graph] = []
    backward: list[fx.Graph] = []

    def noting(graphs: list[fx.Graph]) -> Any:
        def note(module: fx.GraphModule, _inputs: Any) -> Any:
            graphs.append(module.graph)
            return make_boxed_func(module)

        return note

    backend: Any = aot_autograd(
        fw_compiler=noting(forward),
        bw_compiler=noting(backward),
        decompositions=select_decomp_table(),
        partition_fn=min_cut_rematerialization_partition,
    )
    monkeypatch.setattr(
        torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend=backend)
    )
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    shape = {"n_layers": 1, "n_heads": 4, "d_model": 32, "attention": "plain"} | changes
    model: Transformer = small.model(**shape)
    if ours:
        use_block_kernels(model, is_compiled=True)
    recompute(model, kind)
    model.slope_of = partial(surprise_and_slope)  # not to be compiled
    compile_blocks(model)
    ids = torch.randint(30, (3, 11), generator=torch.Generator().manual_seed(1))
    loss = next_token_loss(model, ids, ids.roll(1), scale=0.1)
    torch.autograd.grad(loss, list(model.parameters()))
    return forward, backward


def stream_sums(graph: fx.Graph) -> int:
    """How many sums of two whole streams a graph has."""
    return sum(
        node.target is aten.add.Tensor
        and [
            tuple(x.meta["val"].shape) for x in node.all_input_nodes if x.meta["val"].ndim == 3
        ].count((3, 11, 32))
        == 2
        for node in graph.nodes
    )


gelu: Any = {"bias": True, "positions": "learned", "norm": "layernorm", "mlp": "gelu_tanh"}


@pytest.mark.parametrize("kind", ["none", "blocks", "selective"])
@pytest.mark.parametrize("changes", [gelu, {"norm": "rmsnorm", "mlp": "relu2"}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_slopes_meet_in_the_kernel_and_nowhere_else(
    kind: RecomputeKind,
    changes: dict[str, Any],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
):
    settings = {"dtype": dtype} | changes
    forward, backward = compiled_graphs(monkeypatch, kind, ours=True, **settings)
    last, block = backward
    used = [
        [node for node in graph.nodes if node.target is torch.ops.modelwright.norm_slope.default]
        for graph in (last, block)
    ]
    assert [len(nodes) for nodes in used] == [1, 2]
    assert used[0][0].args[1] is None
    after, before = used[1]  # of the MLP, and of attention
    tangent = next(node for node in block.nodes if str(node).startswith("tangents"))
    assert after.args[1] is tangent
    source = before.args[1]
    assert source.args == (after, 0)  # its first result, untouched
    assert before.args[0].meta["val"].dtype == dtype
    usual = compiled_graphs(monkeypatch, kind, ours=False, **settings)
    added_again = [stream_sums(graph) for graph in forward]
    assert added_again == [stream_sums(graph) for graph in usual[0]] == [2, 0]
    n_more = {"none": 0, "blocks": 1, "selective": 1}[kind]  # the stream between the parts
    assert stream_sums(block) == n_more
    assert stream_sums(usual[1][1]) >= n_more + 2
    for ours, theirs in zip(forward, usual[0], strict=True):
        assert kept_bytes(ours) <= kept_bytes(theirs)


def kept_bytes(graph: fx.Graph) -> int:
    """What a graph gives out, of that which it was not given itself."""
    output = next(iter(reversed(graph.nodes)))
    made = {node for node in output.all_input_nodes if node.op != "placeholder"}
    return sum(node.meta["val"].nbytes for node in made)


def test_products_of_another_dtype_send_their_slopes_as_they_are(monkeypatch: pytest.MonkeyPatch):
    settings: Any = {"dtype": torch.bfloat16, "stream_dtype": torch.float32} | gelu
    _, (_, block) = compiled_graphs(monkeypatch, "none", ours=True, **settings)
    slopes = [node for node in block.nodes if "norm_slope" in str(node.target)]
    assert len(slopes) == 2
    for node in slopes:
        d_normed, d_stream, x, _ = (one.meta["val"].dtype for one in node.args[:4])
        assert (d_normed, d_stream, x) == (torch.bfloat16, torch.float32, torch.float32)


@pytest.mark.parametrize("has_bias", [True, False])
def test_without_numbers_there_are_the_shapes(has_bias: bool):
    with FakeTensorMode():
        x = torch.empty(2, 5, 24, dtype=torch.bfloat16).transpose(0, 1)
        arguments: Any = (x.float(), None, x, torch.empty(24), has_bias, True, 1e-5)
        out, sums = norm_slope(*arguments)
        assert (out.shape, out.dtype) == (x.shape, x.dtype) and out.is_contiguous()
        assert (sums.shape, sums.dtype) == ((1 + has_bias, 24), torch.float32)


@pytest.mark.parametrize(
    ("width", "n_bytes", "cut"),
    [
        (64, 6, (64, 16, 1, 3)),
        (768, 6, (1024, 1, 1, 3)),
        (1600, 6, (2048, 1, 2, 3)),
        (5120, 6, (8192, 1, 8, 2)),
        (8192, 12, (8192, 1, 8, 1)),
        (1, 6, (1, 1024, 1, 3)),
    ],
)
def test_a_program_has_room_for_whole_rows(width: int, n_bytes: int, cut: tuple[int, ...]):
    assert cut_for(width, n_bytes) == cut
