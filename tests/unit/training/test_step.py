import copy

import pytest
import torch

import small
from modelwright.data.loader import not_a_target
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.step import training_step


def step(model, targets=None, **changes):
    settings = {"learning_rate": 1e-2, "clip_norm": 1.0, "micro_batch": 4} | changes
    config = settings.pop("optimizer", OptimizerConfig())
    inputs = small.ids(batch=8)
    targets = inputs.roll(-1, 1) if targets is None else targets
    return training_step(model, make_optimizer(model, config), inputs, targets, **settings)


def weights(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_step_is_the_plain_one_of_pytorch():
    ours, plain = small.model(), small.model()
    inputs = small.ids(batch=8)
    targets = inputs.roll(-1, 1)
    groups = [
        {"params": [p for p in plain.parameters() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for p in plain.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    ours_optimizer = make_optimizer(ours, OptimizerConfig())
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(plain(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        result = training_step(
            ours, ours_optimizer, inputs, targets, learning_rate=1e-2, clip_norm=1.0, micro_batch=8
        )
        assert result.loss.item() == pytest.approx(loss.item(), rel=1e-5)
        assert result.gradient_norm.item() == pytest.approx(norm.item(), rel=1e-4)
    # AdamW divides by tiny numbers at first, so rounding shows in the fourth digit.
    assert torch.allclose(weights(ours), weights(plain), atol=2e-4)


@pytest.mark.parametrize("micro_batch", [1, 3, 8, 100])
def test_the_portions_of_a_batch_do_not_change_what_is_learned(micro_batch: int):
    targets = small.ids(batch=8).roll(-1, 1)
    targets[0, :9] = not_a_target  # so that the portions have different numbers of targets
    whole, parts = small.model(), small.model()
    a = step(whole, targets, micro_batch=8)
    b = step(parts, targets, micro_batch=micro_batch)
    assert a.loss.item() == pytest.approx(b.loss.item(), rel=1e-5)
    assert a.gradient_norm.item() == pytest.approx(b.gradient_norm.item(), rel=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-2},
        {"clip_norm": 1e-9},
        {"optimizer": OptimizerConfig(weight_decay=0.0)},
        {"optimizer": OptimizerConfig(epsilon=1.0)},
    ],
    ids=str,
)
def test_every_option_changes_the_first_update(change: dict):
    base, changed = small.model(), small.model()
    step(base)
    step(changed, **change)
    assert not torch.allclose(weights(base), weights(changed), atol=1e-6)


@pytest.mark.parametrize("change", [{"beta1": 0.5}, {"beta2": 0.5}], ids=str)
def test_the_betas_change_the_second_update(change: dict):
    found = []
    for config in (OptimizerConfig(), OptimizerConfig(**change)):
        model = small.model()
        optimizer = make_optimizer(model, config)
        for shift in (1, 2):
            inputs = small.ids(batch=8)
            training_step(
                model, optimizer, inputs, inputs.roll(-shift, 1),
                learning_rate=1e-2, clip_norm=0, micro_batch=8,
            )  # fmt: skip
        found.append(weights(model))
    assert not torch.allclose(found[0], found[1], atol=1e-6)


def test_clip_norm_zero_never_clips():
    a, b = small.model(), small.model()
    step(a, clip_norm=0)
    step(b, clip_norm=1e9)
    assert torch.equal(weights(a), weights(b))


def test_decay_is_for_matrices_and_embeddings_only():
    optimizer = make_optimizer(small.model(bias=True), OptimizerConfig(weight_decay=0.3))
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    assert all(parameter.ndim == 2 for parameter in decayed["params"])
    assert all(parameter.ndim == 1 for parameter in spared["params"])


def test_a_loss_that_is_not_finite_changes_nothing():
    model = small.model()
    with torch.no_grad():
        model.embedding.weight[0] = torch.inf
    before = copy.deepcopy(weights(model))
    result = step(model)
    assert not torch.isfinite(result.loss)
    assert torch.equal(weights(model), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_one_batch_can_be_learned_by_heart():
    model = small.model(d_model=64, d_ff=128, n_heads=4)
    inputs = small.ids(batch=4)
    targets = torch.randint(37, inputs.shape, generator=torch.Generator().manual_seed(3))
    optimizer = make_optimizer(model, OptimizerConfig(weight_decay=0.0))
    for _ in range(200):
        result = training_step(
            model, optimizer, inputs, targets, learning_rate=3e-3, clip_norm=1.0, micro_batch=4
        )
    assert result.loss.item() < 0.01


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta1": 1.0}, "beta1 is 1.0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0"),
    ],
)
def test_optimizer_settings_out_of_range_are_refused(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**wrong)
