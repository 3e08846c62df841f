"""Products in fp8, against the same rounding in ordinary operations and against no rounding at all.

Finite differences cannot check the gradients, as the rounded product goes up in steps. They are
defined by the twin instead: autograd's own of the product of the rounded factors.
"""

import re
from functools import partialmethod
from typing import Any

import pytest
import torch
from jaxtyping import config as jaxtyping_config
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import small
from modelwright.model.config import ModelConfig
from modelwright.model.fp8 import (
    fp8_obstacle,
    fp8_product,
    multiple,
    obstacle_of_gpu,
    rounded_product,
    use_fp8,
)
from modelwright.model.linear import Linear, Multiply, plain_product
from modelwright.model.loss import next_token_loss
from modelwright.model.recompute import RecomputeKind, recompute
from modelwright.model.transformer import Transformer

both = [torch.float32, torch.bfloat16]
inf, nan = float("inf"), float("nan")
# Every width of a block differs, and is one that a GPU multiplies.
widths: dict[str, Any] = {"d_model": 64, "n_heads": 4, "n_kv_heads": 2, "d_ff": 48, "context": 16}


def factors(
    n_tokens: int = 64, d_in: int = 96, d_out: int = 48, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """An input, weights, a bias and the gradient of the result."""
    generator = torch.Generator().manual_seed(n_tokens)
    shapes = [(n_tokens, d_in), (d_out, d_in), (d_out,), (n_tokens, d_out)]
    x, weight, bias, gradient = (torch.randn(s, generator=generator) for s in shapes)
    return [x.to(dtype), weight, bias, gradient.to(dtype)]


def outcome(
    multiply: Multiply, x: Tensor, weight: Tensor, bias: Tensor | None, gradient: Tensor
) -> list[Tensor]:
    """The result of a product and the gradients of its factors and bias."""
    leaves = [t.detach().clone().requires_grad_() for t in (x, weight, bias) if t is not None]
    y = multiply(leaves[0], leaves[1], leaves[2] if bias is not None else None)
    return [y.detach(), *torch.autograd.grad(y, leaves, gradient)]


def distance(a: Tensor, b: Tensor) -> float:
    """The size of the difference as a share of the size of the second."""
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize("dtype", both)
@pytest.mark.parametrize(
    ("n_tokens", "d_in", "d_out"), [(16, 16, 16), (64, 96, 48), (32, 48, 160), (320, 32, 16)]
)
def test_value_and_gradients_are_those_of_the_twin(
    dtype: torch.dtype, n_tokens: int, d_in: int, d_out: int
):
    given = factors(n_tokens, d_in, d_out, dtype)
    found, expected = (outcome(f, *given) for f in (fp8_product, rounded_product))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        # The factors are the same to the bit; the twin sums in fp64. A sum that lies between two
        # numbers of bf16 may go either way.
        is_short = ours.dtype == torch.bfloat16
        assert distance(ours, theirs) < (1e-3 if is_short else 1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_rounding_costs_what_the_formats_say(seed: int):
    generator = torch.Generator().manual_seed(seed)
    x, weight, gradient = (torch.randn(256, 256, generator=generator) for _ in range(3))
    found, expected = (outcome(f, x, weight, None, gradient) for f in (fp8_product, plain_product))
    # A number is off by half of its last place at most, e4m3 has three bits after the leading one
    # and e5m2 two. Such errors, evenly spread, are 1 / sqrt(3) of that in the mean square; those of
    # a product's two factors are independent, and so are those of its terms.
    e4m3, e5m2 = 2**-4, 2**-3
    bounds = [(2 * e4m3**2 / 3) ** 0.5, *[((e4m3**2 + e5m2**2) / 3) ** 0.5] * 2]
    for ours, exact, bound in zip(found, expected, bounds, strict=True):
        # The least a rounding costs is half of the most, as its last place is that of up to twice
        # as large a number.
        assert bound / 2 < distance(ours, exact) < bound


@pytest.mark.parametrize("dtype", both)
def test_the_gradient_of_the_bias_is_exact(dtype: torch.dtype):
    given = factors(dtype=dtype)
    assert torch.equal(outcome(fp8_product, *given)[3], outcome(plain_product, *given)[3])


@pytest.mark.parametrize("power", [-60, -20, 20, 60])
@pytest.mark.parametrize("which", [0, 1, 3])
def test_only_the_sizes_of_numbers_to_each_other_matter(power: int, which: int):
    x, weight, _, gradient = factors()
    given = [x, weight, None, gradient]
    larger = list(given)
    larger[which] = given[which] * 2.0**power  # type: ignore[operator]
    # A power of two rounds nothing, so the results are the same multiples to the bit.
    multiples = {0: (1, 0, 1), 1: (1, 1, 0), 3: (0, 1, 1)}[which]
    expected = outcome(fp8_product, *given)  # type: ignore[arg-type]
    found = outcome(fp8_product, *larger)  # type: ignore[arg-type]
    for ours, theirs, count in zip(found, expected, multiples, strict=True):
        assert theirs.count_nonzero() > 0.9 * theirs.numel()
        assert torch.equal(ours, theirs * 2.0 ** (power * count))


@pytest.mark.parametrize("size", [3e38, 1e-30])
def test_the_largest_and_smallest_inputs_stay_themselves(size: float):
    # One term, so that nothing overflows but what should not.
    x = torch.zeros(16, 16)
    x[:, 0] = size * torch.linspace(-1, 1, 16)
    y = fp8_product(x, torch.eye(16), None)
    assert (y - x).abs().max() <= size / 2**4


@pytest.mark.parametrize("which", [0, 1, 3])
def test_zeros_give_zeros(which: int):
    x, weight, _, gradient = factors()
    given = [x, weight, gradient]
    given[min(which, 2)].zero_()
    found = outcome(fp8_product, x, weight, None, gradient)
    expected = outcome(plain_product, x, weight, None, gradient)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours == 0, theirs == 0)
        assert ours.isfinite().all()


@pytest.mark.parametrize("odd", [inf, -inf, nan])
@pytest.mark.parametrize("which", [0, 1, 3])
def test_what_is_no_number_is_seen(odd: float, which: int):
    given = factors()
    given[which][3, 5] = odd
    y, d_x, d_weight, _ = outcome(fp8_product, *given)
    touched = {0: (y, d_weight), 1: (y, d_x), 3: (d_x, d_weight)}[which]
    assert all(tensor.isnan().all() for tensor in touched)


def test_axes_and_the_order_in_memory_do_not_matter():
    x, weight, _, gradient = factors()
    expected = outcome(fp8_product, x, weight, None, gradient)
    x, gradient = (t.t().contiguous().t().unflatten(0, (4, 16)) for t in (x, gradient))
    weight = weight.t().contiguous().t()
    y = fp8_product(x.requires_grad_(), weight.requires_grad_(), None)
    found = [y, *torch.autograd.grad(y, (x, weight), gradient)]
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.reshape(theirs.shape), theirs)


def test_a_gradient_that_is_one_number_in_memory():
    x, weight, _, gradient = factors()
    ones = torch.ones(()).expand_as(gradient)
    found, expected = (outcome(f, x, weight, None, ones) for f in (fp8_product, rounded_product))
    for ours, theirs in zip(found, expected, strict=True):
        assert distance(ours, theirs) < 1e-6


@pytest.mark.parametrize("n_tokens", [1, 15, 17, 40])
def test_a_number_of_tokens_that_is_no_multiple_is_multiplied_as_before(n_tokens: int):
    given = factors(n_tokens, dtype=torch.bfloat16)
    found, expected = (outcome(f, *given) for f in (fp8_product, plain_product))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_second_derivatives_are_refused():
    x, weight, _, _ = factors()
    y = fp8_product(x.requires_grad_(), weight.requires_grad_(), None)
    (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="_scaled_mm"):
        slope.sum().backward()


class Products(TorchDispatchMode):
    """Records the products in fp8 that go by."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._scaled_mm.default:
            names = ["bias", "scale_result", "out_dtype", "use_fast_accum"]
            options = dict(zip(names, args[4:], strict=False)) | (kwargs or {})
            self.seen.append((*args[:4], options))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("is_turned", [False, True])
def test_products_are_laid_out_as_a_gpu_wants_them(is_turned: bool):
    given = factors(dtype=torch.bfloat16)
    if is_turned:
        given = [t.T.contiguous().T if t.ndim == 2 else t for t in given]
    with Products() as products:
        outcome(fp8_product, *given)
    assert len(products.seen) == 3
    for a, b, a_unit, b_unit, _ in products.seen:
        assert a.stride() == (a.shape[1], 1) and b.stride() == (1, b.shape[0])
        assert all(side % multiple == 0 for side in (*a.shape, *b.shape))
        assert a_unit.shape == b_unit.shape == ()
        assert a_unit.dtype == b_unit.dtype == torch.float32
    kinds = [(a.dtype, b.dtype) for a, b, *_ in products.seen]
    e4m3, e5m2 = torch.float8_e4m3fn, torch.float8_e5m2
    assert kinds == [(e4m3, e4m3), (e5m2, e4m3), (e5m2, e4m3)]
    options = [product[-1] for product in products.seen]
    assert [bool(o.get("use_fast_accum")) for o in options] == [True, False, False]
    # The gradient of the weights is never shorter than they are.
    short, long = torch.bfloat16, torch.float32
    assert [o["out_dtype"] for o in options] == [short, short, long]


def test_what_is_kept_for_the_way_back_is_a_byte_a_number():
    x, weight, _, _ = factors(dtype=torch.bfloat16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        fp8_product(x.requires_grad_(), weight.requires_grad_(), None)
    own = [t for t in kept if t.data_ptr() != weight.data_ptr()]
    assert sum(t.nbytes for t in own) == x.numel() + 2 * 4  # and the two units


@pytest.mark.parametrize("bias", [True, False])
def test_the_work_counts_as_that_of_a_plain_layer(bias: bool):
    counts = []
    for multiply in (plain_product, fp8_product):
        layer = Linear(96, 48, bias=bias, dtype=torch.bfloat16)
        nn.init.ones_(layer.weight)
        layer.multiply = multiply
        with FlopCounterMode(display=False) as counter:
            layer(torch.ones(4, 16, 96, requires_grad=True)).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 2 * 64 * 96 * 48


def test_it_works_on_tensors_without_numbers():
    with FakeTensorMode():
        model = Transformer(small.model_config(**widths), dtype=torch.bfloat16)
        use_fp8(model)
        ids = torch.zeros(2, 16, dtype=torch.int64)
        with Products() as products:
            next_token_loss(model, ids, ids).backward()
        # Five layers in each of two blocks: qkv, output, gate, up, down.
        assert len(products.seen) == 3 * 5 * 2
        assert all(p.grad is not None and p.grad.dtype == p.dtype for p in model.parameters())


def test_only_the_layers_in_blocks_change_and_parameters_keep_their_names():
    usual, model = (small.model(**widths) for _ in range(2))
    use_fp8(model)
    changed = {
        name
        for name, module in model.named_modules()
        if isinstance(module, Linear) and module.multiply is fp8_product
    }
    layers = ["attention.qkv", "attention.output", "mlp.gate", "mlp.up", "mlp.down"]
    assert changed == {f"blocks.{n}.{layer}" for n in range(2) for layer in layers}
    assert list(model.state_dict()) == list(usual.state_dict())
    assert all(p.dtype == torch.float32 for p in model.parameters())
    model.load_state_dict(usual.state_dict())


def test_the_answer_changes_and_only_a_little():
    usual, model = (small.model(dtype=torch.bfloat16, **widths) for _ in range(2))
    use_fp8(model)
    ids = small.ids(4, 16)
    with torch.no_grad():
        assert 0.005 < distance(model(ids), usual(ids)) < 0.2


odd_shapes: list[dict[str, Any]] = [
    {},
    {"positions": "learned"},
    {"d_ff": None},
    {"d_ff": None, "mlp": "gelu"},
    {"d_model": 64, "d_ff": 40},
    {"d_model": 48, "n_heads": 3, "n_kv_heads": 1, "d_ff": 41},
    {"d_model": 54, "n_heads": 9, "n_kv_heads": 3, "d_ff": 48},
    {"d_model": 48, "n_heads": 16, "n_kv_heads": 16, "d_ff": 40, "positions": "learned"},
    {"d_model": 64, "d_head": 10, "d_ff": 48},
    {"d_model": 65, "d_head": 14, "n_heads": 8, "n_kv_heads": 1, "d_ff": 50},
]


@pytest.mark.parametrize("shape", odd_shapes, ids=str)
def test_odd_widths_are_refused_with_ones_that_work(shape: dict[str, Any]):
    model = Transformer(small.model_config(**shape))
    with pytest.raises(ValueError, match=r"training\.fp8 is true, but blocks\.0\.") as error:
        use_fp8(model)
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    assert all(layer.multiply is plain_product for layer in layers)
    advice = re.findall(r"model\.(d_\w+) = (\d+)", str(error.value))
    assert advice
    before = vars(small.model_config(**shape))
    mended = {name: int(width) for name, width in advice}
    # Nothing is advised that stays, or gets smaller; a width that follows from others counts as 0.
    assert all(width > (before[name] or 0) for name, width in mended.items())
    use_fp8(Transformer(small.model_config(**(shape | mended))))


def test_the_refusal_names_the_layer_and_its_size():
    model = Transformer(small.model_config(d_model=64, d_ff=40))
    with pytest.raises(ValueError) as error:
        use_fp8(model)
    assert str(error.value) == (
        "training.fp8 is true, but blocks.0.mlp.gate takes 64 numbers to 40, and a GPU multiplies "
        "in fp8 only widths that are multiples of 16; model.d_ff = 48 would do, or leave "
        "training.fp8 out"
    )


def test_the_obstacle_is_named():
    assert fp8_obstacle(torch.device("cpu")) == (
        "the device is 'cpu', and fp8 products need an NVIDIA GPU that has them, such as an H100"
    )
    assert obstacle_of_gpu("NVIDIA A100", (8, 0)) == (
        "NVIDIA A100 is too old for fp8 products: its compute capability is 8.0, and they begin "
        "with 8.9"
    )
    assert all(obstacle_of_gpu("NVIDIA", c) is None for c in [(8, 9), (9, 0), (10, 0), (12, 0)])


def loss_and_gradients(model: Transformer) -> list[Tensor]:
    torch.manual_seed(0)
    ids = small.ids(2, 16)
    loss = next_token_loss(model, ids, ids.roll(-1, 1))
    return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.parametrize("kind", ["blocks", "selective"])
@pytest.mark.parametrize("dtype", both)
def test_what_is_computed_again_is_the_same_to_the_bit(kind: RecomputeKind, dtype: torch.dtype):
    usual, model = (small.model(dtype=dtype, dropout=0.3, **widths) for _ in range(2))
    for one in (usual, model):
        use_fp8(one)
    recompute(model, kind)
    for a, b in zip(loss_and_gradients(model), loss_and_gradients(usual), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["none", "blocks", "selective"])
def test_compiled_blocks_are_as_near_to_the_exact_gradients(
    kind: RecomputeKind, monkeypatch: pytest.MonkeyPatch
):
    # The compiler's first half, which is all that the code decides; what it writes for a GPU is
    # tested on one.
    compiled = partialmethod(
        nn.Module.compile, backend="aot_eager_decomp_partition", fullgraph=True
    )
    monkeypatch.setattr(nn.Module, "compile", compiled)
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    counters.clear()
    exact, usual, model = (small.model(bias=True, **widths) for _ in range(3))
    for one in (usual, model):
        use_fp8(one)
    recompute(model, kind)
    for block in model.blocks:
        block.compile()
    exact, usual, found = (
        torch.cat([x.flatten() for x in loss_and_gradients(one)]) for one in (exact, usual, model)
    )
    assert counters["stats"]["unique_graphs"] == 1  # which the blocks share
    # One last bit rounds a number to another of fp8, and that many more in the next layer. So after
    # a few layers two ways to compute the same are as far from each other as from the exact result,
    # and only that distance can be compared.
    assert distance(found, exact) == pytest.approx(distance(usual, exact), rel=0.5)


def noisy_counting(generator: torch.Generator) -> Tensor:
    """Rows that count up by three, but for one token in four, which is any."""
    first = torch.randint(37, (8, 1), generator=generator)
    ids = (first + 3 * torch.arange(16)) % 37
    any_token = torch.randint(37, ids.shape, generator=generator)
    return torch.where(torch.rand(ids.shape, generator=generator) < 0.25, any_token, ids)


def trained_loss(*, in_fp8: bool, n_steps: int = 60) -> list[float]:
    """The losses on new text before and after training."""
    model = small.model(dtype=torch.bfloat16, **widths)
    if in_fp8:
        use_fp8(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    fresh = [noisy_counting(generator) for _ in range(8)]

    def loss() -> float:
        with torch.no_grad():
            losses = [next_token_loss(model, ids, ids.roll(-1, 1)) for ids in fresh]
        return torch.stack(losses).mean().item()

    before = loss()
    for _ in range(n_steps):
        ids = noisy_counting(generator)
        optimizer.zero_grad()
        next_token_loss(model, ids, ids.roll(-1, 1)).backward()
        optimizer.step()
    return [before, loss()]


@pytest.mark.usefixtures("one_thread")
def test_it_learns_as_well_as_in_sixteen_bits():
    _, usual = trained_loss(in_fp8=False)
    before, after = trained_loss(in_fp8=True)
    assert usual < 0.7 * before
    assert after != usual
    assert after == pytest.approx(usual, rel=0.05)


def test_the_default_widths_work():
    use_fp8(Transformer(ModelConfig(vocab_size=37)))
