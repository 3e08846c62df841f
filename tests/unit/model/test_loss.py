import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import small
from modelwright.data.loader import not_a_target
from modelwright.model import cross_entropy as module
from modelwright.model.cross_entropy import ChunkedLoss, surprise_and_slope, usual_chunk
from modelwright.model.loss import next_token_loss, whole_loss

n_tokens, n_vocab, n_rows, d_model = 150, 37, 48, 24
rows_at_once = [1, 3, 7, 64, 10_000]


def inputs(dtype: torch.dtype, weight_dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
    """Hidden states, a matrix with rows of padding, and targets, some of which do not count."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(n_tokens, d_model, generator=generator, dtype=torch.float64)
    weight = torch.randn(n_rows, d_model, generator=generator, dtype=torch.float64)
    targets = torch.randint(n_vocab, (n_tokens,), generator=generator)
    targets[::5] = not_a_target
    targets[60:70] = not_a_target  # more than a small chunk
    return (
        hidden.to(dtype).requires_grad_(),
        weight.to(weight_dtype or dtype).requires_grad_(),
        targets,
    )


def with_gradients(loss: Tensor, *tensors: Tensor) -> list[Tensor]:
    return [loss, *torch.autograd.grad(loss, tensors)]


def twin(hidden: Tensor, weight: Tensor, targets: Tensor, scale: float) -> list[Tensor]:
    """In fp64 throughout, from the numbers as they were rounded."""
    hidden, weight = (x.detach().double().requires_grad_() for x in (hidden, weight))
    loss = whole_loss((hidden @ weight.T)[:, :n_vocab], targets) * scale
    return with_gradients(loss, hidden, weight)


@pytest.fixture(params=rows_at_once)
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "chunk_rows", lambda _matrix: request.param)
    return request.param


@pytest.mark.parametrize(
    ("dtype", "weight_dtype", "tolerance"),
    [
        (torch.float64, torch.float64, 1e-13),
        (torch.float32, torch.float32, 1e-5),
        # Logits and their gradients are rounded to 8 or 11 bits, and so are the chunks' sums.
        (torch.bfloat16, torch.float32, 0.02),
        (torch.float16, torch.float32, 0.003),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 0.03])
def test_the_loss_in_chunks_is_that_of_all_logits_at_once(
    chunked: int, dtype: torch.dtype, weight_dtype: torch.dtype, tolerance: float, scale: float
):
    hidden, weight, targets = inputs(dtype, weight_dtype)
    ours = with_gradients(
        ChunkedLoss.apply(hidden, weight, targets, n_vocab, scale, surprise_and_slope),
        hidden,
        weight,
    )
    theirs = twin(hidden, weight.to(dtype), targets, scale)
    assert ours[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert [x.dtype for x in ours[1:]] == [dtype, weight_dtype]
    for a, b in zip(ours, theirs, strict=True):
        assert (a.double() - b).abs().max() <= tolerance * b.abs().max()
    assert ours[2][n_vocab:].eq(0).all()


@pytest.mark.parametrize("wanted", ["hidden", "weight"])
def test_a_gradient_is_given_to_whoever_wants_one(chunked: int, wanted: str):
    hidden, weight, targets = inputs(torch.float64)
    tensors = {"hidden": hidden, "weight": weight}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name == wanted)
    loss = ChunkedLoss.apply(hidden, weight, targets, n_vocab, 1.0, surprise_and_slope)
    loss.backward()
    expected = twin(hidden, weight, targets, 1.0)[1 if wanted == "hidden" else 2]
    for name, tensor in tensors.items():
        if name == wanted:
            assert tensor.grad is not None
            assert torch.allclose(tensor.grad, expected, rtol=1e-12, atol=1e-12)
        else:
            assert tensor.grad is None


def test_what_multiplies_the_loss_multiplies_its_gradient(chunked: int):
    hidden, weight, targets = inputs(torch.float64)
    loss = ChunkedLoss.apply(hidden, weight, targets, n_vocab, 1.0, surprise_and_slope)
    ours = with_gradients(3 * loss, hidden, weight)
    for a, b in zip(ours, twin(hidden, weight, targets, 3.0), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def test_nothing_to_predict_costs_nothing_and_teaches_nothing(chunked: int):
    hidden, weight, targets = inputs(torch.float32)
    targets = torch.full_like(targets, not_a_target)
    loss, *gradients = with_gradients(
        ChunkedLoss.apply(hidden, weight, targets, n_vocab, 1.0, surprise_and_slope), hidden, weight
    )
    assert loss == 0
    assert all(gradient.eq(0).all() for gradient in gradients)


def test_a_gradient_is_given_once():
    hidden, weight, targets = inputs(torch.float64)
    loss = ChunkedLoss.apply(hidden, weight, targets, n_vocab, 1.0, surprise_and_slope)
    torch.autograd.grad(loss, (hidden, weight), retain_graph=True)
    with pytest.raises(RuntimeError, match="given already; compute the loss anew"):
        torch.autograd.grad(loss, (hidden, weight))


@pytest.mark.parametrize(
    ("n_rows", "dtype", "n_positions"),
    [
        (50_304, torch.bfloat16, 4096),
        (50_304, torch.float32, 2048),
        (32_768, torch.bfloat16, 8192),
        (131_072, torch.bfloat16, 2048),
        (2**28, torch.bfloat16, 64),
    ],
)
def test_logits_whose_slopes_take_their_place_fill_half_a_gibibyte_at_most(
    n_rows: int, dtype: torch.dtype, n_positions: int
):
    found = usual_chunk("cuda", n_rows, in_place=dtype)
    assert found == n_positions
    assert found == 64 or 2**28 < found * n_rows * dtype.itemsize <= 2**29


class Watched(TorchDispatchMode):
    """Notes what every operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append(func.overloadpacket.__name__)
        self.sizes += [x.numel() for x in tree_leaves(result) if isinstance(x, Tensor)]
        return result

    def n_products(self) -> int:
        # Under inference_mode the first two come unresolved.
        return sum(self.operations.count(name) for name in ("linear", "matmul", "mm", "addmm_"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_logits_of_a_batch_never_exist_at_once(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    model = small.model(vocab_size=8000, context=100, n_layers=1, dtype=dtype)
    ids = small.ids(8, 100)

    def largest() -> int:
        with Watched() as seen:
            next_token_loss(model, ids, ids.roll(-1, 1)).backward()
        return max(seen.sizes)

    assert largest() < 8 * 100 * 8000 / 2
    monkeypatch.setattr(module, "chunk_rows", lambda _matrix: 64)
    assert largest() == 64 * 8000


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_gradient_is_computed_where_none_is_wanted(mode: Callable[[], Any], chunked: int):
    model, ids = small.model(), small.ids()
    with Watched() as training:
        expected = next_token_loss(model, ids, ids.roll(-1, 1))
    with mode(), Watched() as evaluation:
        loss = next_token_loss(model, ids, ids.roll(-1, 1))
    assert loss.item() == expected.item()
    n_chunks = math.ceil(22 / chunked)
    n_linear = 5 * model.config.n_layers  # qkv, output, and the three of the MLP
    # Beside the logits, a product for each of the two gradients.
    assert training.n_products() == n_linear + 3 * n_chunks
    assert evaluation.n_products() == n_linear + n_chunks
    assert not {"addmm_", "zeros_like"} & set(evaluation.operations)


def test_the_loss_is_the_summed_surprise_at_the_counted_targets():
    model = small.model()
    inputs = small.ids()
    targets = small.ids().flip(0)
    targets[0, :4] = not_a_target
    chances = model(inputs).softmax(-1)
    expected = -sum(
        math.log(chances[row, place, target].item())
        for row, line in enumerate(targets.tolist())
        for place, target in enumerate(line)
        if target != not_a_target
    )
    assert next_token_loss(model, inputs, targets).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("choice", [{}, {"vocab_multiple": 16}, {"tie_embeddings": False}], ids=str)
def test_the_loss_of_a_model_is_that_of_its_logits(choice: dict[str, Any], chunked: int):
    model = small.model(dtype=torch.float64, **choice)
    documents = torch.tensor([[0] * 4 + [1] * 7, [0] * 11])
    positions = torch.tensor([[*range(4), *range(7)], [*range(11)]])
    packing = {"positions": positions, "documents": documents}
    targets = small.ids().roll(-1, 1)
    targets[0, 3] = not_a_target
    parameters = list(model.parameters())
    ours = with_gradients(
        next_token_loss(model, small.ids(), targets, scale=0.5, **packing), *parameters
    )
    logits = model(small.ids(), **packing).flatten(0, 1)
    theirs = with_gradients(0.5 * whole_loss(logits, targets.flatten()), *parameters)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("rows", [64, 10_000])
def test_a_common_token_does_not_overflow_fp16_once_scaled(
    rows: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "chunk_rows", lambda _matrix: rows)
    # Each position pulls at one row with nearly 30; all together pass fp16's largest, 65,504.
    hidden = torch.full((8192, 4), 30.0, dtype=torch.float16, requires_grad=True)
    weight = torch.zeros(40, 4, requires_grad=True)
    targets = torch.zeros(8192, dtype=torch.long)
    loss = ChunkedLoss.apply(hidden, weight, targets, 40, 1 / 8192, surprise_and_slope)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(40), rel=1e-4)
    assert weight.grad is not None and hidden.grad is not None
    assert weight.grad[0].tolist() == pytest.approx([-30 * 39 / 40] * 4, rel=2e-3)
    assert hidden.grad.isfinite().all()
    if rows == 10_000:
        unscaled = ChunkedLoss.apply(hidden, weight, targets, 40, 1.0, surprise_and_slope)
        assert torch.autograd.grad(unscaled, weight)[0].isinf().any()


@pytest.mark.parametrize("n_rows", [48, 50_257])
def test_chunks_are_a_few_megabytes_of_logits(n_rows: int):
    matrix = torch.empty(n_rows, 4, device="meta")
    rows = module.chunk_rows(matrix)
    assert rows >= 64
    assert 4 * n_rows * rows <= 2**24


@pytest.mark.parametrize("chunk", [1, 5, 22, 1000])
def test_a_chosen_chunk_changes_the_memory_and_not_the_loss(chunk: int):
    model, ids = small.model(dtype=torch.float64), small.ids()
    parameters = list(model.parameters())
    usual = with_gradients(next_token_loss(model, ids, ids.roll(-1, 1)), *parameters)
    model.loss_chunk = chunk
    with Watched() as seen:
        ours = with_gradients(next_token_loss(model, ids, ids.roll(-1, 1)), *parameters)
    for a, b in zip(ours, usual, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)
    assert seen.operations.count("addmm_") == math.ceil(ids.numel() / chunk)


@pytest.mark.parametrize("chunk", [64, 100, None])
def test_as_many_logits_exist_as_the_chosen_chunk_has_positions(chunk: int | None):
    model = small.model(vocab_size=8000, context=100, n_layers=1)
    model.loss_chunk = chunk
    ids = small.ids(8, 100)
    with Watched() as seen:
        next_token_loss(model, ids, ids.roll(-1, 1)).backward()
    rows = module.chunk_rows(model.unembedding.weight) if chunk is None else chunk
    assert max(seen.sizes) == rows * 8000
