import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import small
from modelwright.data.loader import Batch, not_a_target
from modelwright.model.loss import next_token_loss
from modelwright.model.transformer import Transformer
from modelwright.training import step as module
from modelwright.training.lanes import Lanes
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.step import (
    StartedStep,
    StepResult,
    measure_gradient,
    portions,
    training_step,
)


def batch(size: int = 8, *, packed: bool = False, targets: torch.Tensor | None = None) -> Batch:
    """Random tokens and the ones after; packed rows hold two documents, cut at varying places."""
    inputs = small.ids(batch=size)
    places = torch.arange(inputs.shape[1])[None]
    first_ends = torch.arange(size)[:, None] % 7 + 2
    second = places >= first_ends
    return Batch(
        inputs,
        inputs.roll(-1, 1) if targets is None else targets,
        torch.arange(size).numpy(),
        torch.where(second, places - first_ends, places).int() if packed else None,
        second.int() if packed else None,
    )


def step(model: Transformer, learned: Batch | None = None, **changes: Any) -> StepResult:
    settings = {"learning_rate": 1e-2, "clip_norm": 1.0, "micro_batch": 4} | changes
    optimizer = make_optimizer(model, settings.pop("optimizer", OptimizerConfig()))
    return StartedStep(training_step(model, optimizer, learned or batch(), **settings)).result()


def weights(model: Transformer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def gradient(model: Transformer, **changes: Any) -> torch.Tensor:
    """What the optimizer is given at a step."""
    found: list[torch.Tensor] = []

    class Watching:
        def step(self, _: float, *, divisor: torch.Tensor, void: torch.Tensor) -> None:
            assert void == 0
            whole = torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]
            found.append(whole / divisor)

        def zero_grad(self) -> None:
            model.zero_grad()

    settings = {"learning_rate": 0.1, "clip_norm": 0.0, "micro_batch": 8} | changes
    learned = settings.pop("learned", batch())
    unchecked(training_step)(model, Watching(), learned, **settings)
    return found[0]


def unchecked(function: Any) -> Any:
    """A function without the checker of shapes, which knows no stand-ins."""
    return getattr(function, "__wrapped__", function)


def test_the_step_is_the_plain_one_of_pytorch():
    ours, plain = small.model(dtype=torch.float64), small.model(dtype=torch.float64)
    learned = batch()
    groups = [
        {"params": [p for p in plain.parameters() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for p in plain.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    ours_optimizer = make_optimizer(ours, OptimizerConfig())
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(
            plain(learned.inputs).flatten(0, 1), learned.targets.flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        found = training_step(
            ours, ours_optimizer, learned, learning_rate=1e-2, clip_norm=1.0, micro_batch=8
        )
        result = StartedStep(found).result()
        # The order of sums differs, which in fp64 shows in the last digits.
        assert result.loss == pytest.approx(loss.item(), rel=1e-9)
        assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-9)
        assert result.taken
    assert torch.allclose(weights(ours), weights(plain), rtol=0, atol=1e-9)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("micro_batch", "n_lanes"), [(1, 1), (3, 1), (8, 1), (100, 1), (1, 3)])
def test_the_portions_of_a_batch_do_not_change_what_is_learned(
    packed: bool, micro_batch: int, n_lanes: int
):
    targets = small.ids(batch=8).roll(-1, 1)
    targets[0, :9] = not_a_target  # so that the portions have different numbers of targets
    learned = batch(packed=packed, targets=targets)
    whole, parts = small.model(dtype=torch.float64), small.model(dtype=torch.float64)
    a = step(whole, learned, micro_batch=8)
    b = step(parts, learned, micro_batch=micro_batch, lanes=Lanes(n_lanes))
    whole_loss = next_token_loss(
        small.model(dtype=torch.float64),
        learned.inputs,
        targets,
        positions=learned.positions,
        documents=learned.documents,
    )
    mean = whole_loss.item() / int((targets != not_a_target).sum())
    assert a.loss == pytest.approx(mean, rel=1e-12)
    assert b.loss == pytest.approx(mean, rel=1e-12)
    assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-12)
    assert torch.allclose(weights(whole), weights(parts), rtol=0, atol=1e-9)


def test_documents_and_positions_are_part_of_what_is_learned():
    plain, packed = small.model(), small.model()
    assert step(plain, batch()).loss != pytest.approx(step(packed, batch(packed=True)).loss)


@pytest.mark.parametrize("packed", [False, True])
def test_portions_have_every_row_once_with_all_that_belongs_to_it(packed: bool):
    whole = batch(packed=packed)
    parts = list(portions(whole, 3))
    assert [len(part.inputs) for part in parts] == [3, 3, 2]
    for name in ("inputs", "targets", "positions", "documents"):
        tensors = [getattr(part, name) for part in parts]
        if getattr(whole, name) is None:
            assert tensors == [None] * 3
        else:
            assert torch.equal(torch.cat(tensors), getattr(whole, name))
    assert [sample for part in parts for sample in part.samples] == list(range(8))


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-2},
        {"clip_norm": 1e-9},
        {"optimizer": OptimizerConfig(weight_decay=0.0)},
        {"optimizer": OptimizerConfig(epsilon=1.0)},
        {"optimizer": OptimizerConfig(kind="sgd")},
        {"optimizer": OptimizerConfig(kind="muon")},
    ],
    ids=str,
)
def test_every_option_changes_the_first_update(change: dict[str, Any]):
    base, changed = small.model(), small.model()
    step(base)
    step(changed, **change)
    assert not torch.allclose(weights(base), weights(changed), atol=1e-6)


@pytest.mark.parametrize("change", [{"beta1": 0.5}, {"beta2": 0.5}], ids=str)
def test_the_betas_change_the_second_update(change: dict[str, float]):
    found = []
    for config in (OptimizerConfig(), OptimizerConfig(**change)):  # type: ignore[arg-type]
        model = small.model()
        optimizer = make_optimizer(model, config)
        for shift in (1, 2):
            learned = batch(targets=small.ids(batch=8).roll(-shift, 1))
            training_step(model, optimizer, learned, learning_rate=0.01, clip_norm=0, micro_batch=8)
        found.append(weights(model))
    assert not torch.allclose(found[0], found[1], atol=1e-6)


def test_a_longer_gradient_is_shortened_to_the_norm_and_a_shorter_one_is_left():
    free = gradient(small.model())
    norm = float(free.norm())
    clipped = gradient(small.model(), clip_norm=norm / 3)
    assert float(clipped.norm()) == pytest.approx(norm / 3, rel=1e-5)
    assert torch.allclose(clipped * 3, free, rtol=1e-4, atol=1e-8)
    assert torch.equal(gradient(small.model(), clip_norm=norm * 2), free)


def test_the_norm_is_that_before_clipping_and_over_all_parameters():
    model = small.model()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    expected = 2 * math.sqrt(sum(p.numel() for p in model.parameters()))
    norm, divisor = measure_gradient(model, 1e-3, 1.0)
    assert norm.item() == pytest.approx(expected, rel=1e-6)
    assert divisor.item() == pytest.approx(expected / 1e-3, rel=1e-6)
    assert measure_gradient(model, 0.0, 1.0)[1] == measure_gradient(model, 1e9, 1.0)[1] == 1


def test_clip_norm_zero_never_clips():
    a, b = small.model(), small.model()
    step(a, clip_norm=0)
    step(b, clip_norm=1e9)
    assert torch.equal(weights(a), weights(b))


@pytest.mark.parametrize("clip_norm", [0.0, 0.01])
def test_a_loss_scale_leaves_the_update_as_it_is(clip_norm: float):
    plain, scaled = small.model(), small.model()
    a = step(plain, clip_norm=clip_norm)
    b = step(scaled, clip_norm=clip_norm, loss_scale=2.0**10)
    # A power of two rounds nothing, but the product of the two factors does in the last digit.
    assert a.loss == pytest.approx(b.loss, rel=1e-6)
    assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-6)
    assert torch.allclose(weights(plain), weights(scaled), rtol=0, atol=1e-6)


def test_a_loss_scale_saves_gradients_that_would_vanish_in_fp16():
    """Many targets make the gradient of each too small for fp16; the scale brings it back."""
    learned = batch()
    wide = gradient(small.model(dtype=torch.float64), learned=learned)
    n_lost = []
    for scale in (2.0**-12, 2.0**12):
        model = small.model(dtype=torch.float16)
        found = gradient(model, learned=learned, loss_scale=scale)
        n_lost.append(int(((found == 0) & (wide != 0)).sum()))
    assert n_lost[0] > 100
    assert n_lost[1] < n_lost[0] / 10


@pytest.mark.parametrize(("margin", "taken"), [(1.001, True), (0.999, False)])
def test_a_loss_above_the_limit_is_not_learned_from(margin: float, taken: bool):
    model = small.model()
    before = weights(model)
    loss = step(copy.deepcopy(model)).loss
    result = step(model, loss_limit=loss * margin)
    assert (result.taken, result.loss) == (taken, loss)
    assert torch.equal(weights(model), before) is not taken
    assert all(parameter.grad is None for parameter in model.parameters())


def dropped(seed: int | None, *, micro_batch: int = 4, before: int = 0) -> float:
    torch.manual_seed(before)  # what chance was like before the step
    model = small.model(dropout=0.5, attention="plain")
    return step(model, dropout_seed=seed, micro_batch=micro_batch).loss


def test_the_seed_of_dropout_makes_a_step_repeatable():
    assert dropped(1, before=0) == dropped(1, before=9)
    assert dropped(1) != dropped(2)
    assert dropped(None, before=0) != dropped(None, before=9)


def test_portions_drop_differently_even_where_they_are_the_same(monkeypatch: pytest.MonkeyPatch):
    row = small.ids(batch=1)
    twice = Batch(row.repeat(2, 1), row.roll(-1, 1).repeat(2, 1), torch.zeros(2).long().numpy())
    seen: list[float] = []

    def watched(*arguments: Any, **named: Any) -> torch.Tensor:
        found = next_token_loss(*arguments, **named)
        seen.append(found.item())
        return found

    monkeypatch.setattr(module, "next_token_loss", watched)
    step(small.model(), twice, micro_batch=1)
    assert seen[0] == seen[1]
    step(small.model(dropout=0.5, attention="plain"), twice, micro_batch=1, dropout_seed=5)
    assert seen[2] != seen[3]


@pytest.mark.parametrize("broken", [torch.inf, -torch.inf, torch.nan])
def test_a_loss_that_is_not_finite_changes_nothing(broken: float):
    model = small.model()
    with torch.no_grad():
        model.embedding.weight[0] = broken
    before = weights(model)
    result = step(model)
    assert not math.isfinite(result.loss)
    assert not result.taken
    assert torch.allclose(weights(model), before, rtol=0, atol=0, equal_nan=True)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_gradient_that_is_not_finite_changes_nothing_though_the_loss_is():
    model = small.model()
    before = weights(model)
    optimizer = make_optimizer(model, OptimizerConfig())
    next(model.parameters()).register_hook(lambda gradient: gradient * torch.inf)
    found = training_step(
        model, optimizer, batch(), learning_rate=0.1, clip_norm=1.0, micro_batch=4
    )
    result = StartedStep(found).result()
    assert math.isfinite(result.loss)
    assert not math.isfinite(result.gradient_norm)
    assert not result.taken
    assert torch.equal(weights(model), before)
    assert not any(tensor.any() for tensor in optimizer.named_state().values())


@pytest.fixture
def without_memory_for_the_update(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def step(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setattr(module.Optimizer, "step", step)
    yield


@pytest.mark.usefixtures("without_memory_for_the_update")
def test_an_update_that_does_not_fit_is_no_gradient_that_does_not_fit():
    with pytest.raises(MemoryError, match=r"Tried to allocate 2 GiB\.\), and half of it may be"):
        step(small.model())


def test_one_batch_can_be_learned_by_heart():
    model = small.model(d_model=64, d_ff=128, n_heads=4)
    targets = torch.randint(37, (4, 11), generator=torch.Generator().manual_seed(3))
    learned = batch(4, targets=targets)
    optimizer = make_optimizer(model, OptimizerConfig(weight_decay=0.0))
    for _ in range(200):
        found = training_step(
            model, optimizer, learned, learning_rate=3e-3, clip_norm=1.0, micro_batch=4
        )
    assert StartedStep(found).result().loss < 0.01  # type: ignore[possibly-undefined]
