from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import small
from modelwright.model.config import ModelConfig
from modelwright.model.transformer import Transformer
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.updates import Optimizer, ParameterGroup, parameter_groups

kinds = ["adamw", "sgd", "muon"]
devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
rates = [0.01, 0.03, 0.02]


def config(**settings: Any) -> OptimizerConfig:
    return OptimizerConfig(**settings)


def fill_gradients(model: nn.Module, seed: int) -> None:
    """Gradients that have nothing to do with a loss, the same ones for every device."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.device)


def learn(model: nn.Module, optimizer: Optimizer, first: int = 0) -> None:
    for seed, rate in enumerate(rates, start=first):
        fill_gradients(model, seed)
        optimizer.step(rate)


def learned(**settings: Any) -> dict[str, Tensor]:
    """The weights after a few steps."""
    model = small.model(bias=True)
    learn(model, make_optimizer(model, config(**settings)))
    return weights(model)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@cache
def past() -> list[tuple[dict[str, Tensor], float]]:
    """What `learn` gives a model at each step, in fp64, and the learning rate."""
    found: list[tuple[dict[str, Tensor], float]] = []
    for seed, rate in enumerate(rates):
        model = small.model(bias=True)
        fill_gradients(model, seed)
        named = model.named_parameters()
        found.append(({name: p.grad.double() for name, p in named if p.grad is not None}, rate))
    return found


def gradients_of(name: str) -> Iterator[tuple[Tensor, float]]:
    for gradients, rate in past():
        yield gradients[name], rate


def decay_of(weight: Tensor, settings: OptimizerConfig) -> float:
    return settings.weight_decay if weight.ndim == 2 else 0.0


# The three rules once more, an equation to a line.


def plain_adamw(weight: Tensor, name: str, settings: OptimizerConfig) -> Tensor:
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    for n, (gradient, rate) in enumerate(gradients_of(name), start=1):
        mean = settings.beta1 * mean + (1 - settings.beta1) * gradient
        square = settings.beta2 * square + (1 - settings.beta2) * gradient**2
        root = (square / (1 - settings.beta2**n)).sqrt()
        direction = mean / (1 - settings.beta1**n) / (root + settings.epsilon)
        weight = weight - rate * (direction + decay_of(weight, settings) * weight)
    return weight


def plain_sgd(weight: Tensor, name: str, settings: OptimizerConfig) -> Tensor:
    total = torch.zeros_like(weight)
    for gradient, rate in gradients_of(name):
        total = settings.momentum * total + gradient + decay_of(weight, settings) * weight
        weight = weight - rate * total
    return weight


def plain_muon(weight: Tensor, name: str, settings: OptimizerConfig) -> Tensor:
    mean = torch.zeros_like(weight)
    for gradient, rate in gradients_of(name):
        mean = settings.momentum * mean + (1 - settings.momentum) * gradient
        ahead = settings.momentum * mean + (1 - settings.momentum) * gradient
        scale = 0.2 * max(weight.shape) ** 0.5
        weight = weight - rate * (scale * orthogonal(ahead) + settings.weight_decay * weight)
    return weight


def orthogonal(matrix: Tensor) -> Tensor:
    """Newton-Schulz: p(s) = as + bs³ + cs⁵ on every singular value, five times."""
    u, s, v = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ s.diag() @ v


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        (plain_adamw, config(beta1=0.8, beta2=0.9, epsilon=0.1, weight_decay=0.5)),
        (plain_sgd, config(kind="sgd", momentum=0.8, weight_decay=0.5)),
        (plain_sgd, config(kind="sgd", momentum=0.0, weight_decay=0.5)),
    ],
    ids=["adamw", "sgd", "sgd without momentum"],
)
def test_the_update_is_that_of_the_equations(rule, settings: OptimizerConfig):
    model = small.model(bias=True)
    before = weights(model)
    learn(model, make_optimizer(model, settings))
    for name, found in weights(model).items():
        expected = rule(before[name].double(), name, settings)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)  # fp32


def test_muon_in_the_blocks_is_that_of_the_equations():
    settings = config(kind="muon", momentum=0.8, weight_decay=0.5)
    model = small.model(bias=True)
    before = weights(model)
    learn(model, make_optimizer(model, settings))
    for name, found in weights(model).items():
        if name.startswith("blocks.") and found.ndim == 2:
            expected = plain_muon(before[name].double(), name, settings)
            moved = (expected - before[name]).norm()
            # The iteration runs in bf16, with 8 bits, and its steep start magnifies the rounding.
            assert (found - expected).norm() < 0.02 * moved, name


def test_muon_leaves_the_rest_to_adamw():
    settings: dict[str, Any] = {"beta1": 0.8, "beta2": 0.9, "epsilon": 0.1, "weight_decay": 0.5}
    muon, adamw = learned(kind="muon", **settings), learned(kind="adamw", **settings)
    same = {name for name in muon if torch.equal(muon[name], adamw[name])}
    hidden = {n for n, weight in muon.items() if n.startswith("blocks.") and weight.ndim == 2}
    assert same == muon.keys() - hidden


def test_an_update_of_muon_is_as_large_as_one_of_adamw():
    model = small.model()
    before = weights(model)
    fill_gradients(model, seed=0)
    make_optimizer(model, config(kind="muon", weight_decay=0.0)).step(1.0)
    for name, after in weights(model).items():
        if name.startswith("blocks.") and after.ndim == 2:
            # 0.2 is what Liu et al. found for AdamW; the iteration leaves values from 0.7 to 1.2.
            root_mean_square = (after - before[name]).square().mean().sqrt().item()
            assert 0.2 * 0.7 < root_mean_square < 0.2 * 1.2, name


@pytest.mark.parametrize("kind", kinds)
def test_a_rate_of_zero_changes_nothing(kind: str):
    model = small.model(bias=True)
    before = weights(model)
    fill_gradients(model, seed=0)
    make_optimizer(model, config(kind=kind)).step(0.0)
    assert all(torch.equal(before[name], after) for name, after in weights(model).items())


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("adamw", {"beta1": 0.5}),
        ("adamw", {"beta2": 0.5}),
        ("adamw", {"epsilon": 1.0}),
        ("adamw", {"weight_decay": 0.0}),
        ("sgd", {"momentum": 0.5}),
        ("sgd", {"weight_decay": 0.0}),
        ("muon", {"beta1": 0.5}),
        ("muon", {"beta2": 0.5}),
        ("muon", {"epsilon": 1.0}),
        ("muon", {"momentum": 0.5}),
        ("muon", {"weight_decay": 0.0}),
    ],
    ids=str,
)
def test_every_number_of_a_kind_changes_what_is_learned(kind: str, change: dict[str, Any]):
    base, changed = learned(kind=kind), learned(kind=kind, **change)
    assert any(not torch.allclose(base[name], changed[name], atol=1e-5) for name in base)


@pytest.mark.parametrize("kind", kinds)
def test_decay_is_for_matrices_and_embeddings_only(kind: str):
    model = small.model(bias=True)
    before = weights(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(model, config(kind=kind, weight_decay=0.3)).step(0.5)
    for name, after in weights(model).items():
        kept = 1 - 0.5 * 0.3 if after.ndim == 2 else 1.0
        torch.testing.assert_close(after, before[name] * kept)


@pytest.mark.parametrize("kind", kinds)
def test_rows_of_zeros_without_a_gradient_stay_zero(kind: str):
    model = small.model(tie_embeddings=False)
    optimizer = make_optimizer(model, config(kind=kind))
    tables = [model.embedding.weight, model.unembedding.weight]
    for table in tables:
        table.data[30:] = 0
    for seed, rate in enumerate(rates):
        fill_gradients(model, seed)
        for table in tables:
            assert table.grad is not None
            table.grad[30:] = 0
        optimizer.step(rate)
    assert all(torch.equal(table[30:], torch.zeros_like(table[30:])) for table in tables)


def test_zero_grad_frees_every_gradient():
    model = small.model()
    fill_gradients(model, seed=0)
    make_optimizer(model, config(kind="muon")).zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


# Groups


def summary(groups: list[ParameterGroup]) -> list[tuple[str, float, int, int]]:
    return [
        (group.rule, group.weight_decay, group.n_tensors, group.n_parameters) for group in groups
    ]


def gpt2_small() -> Transformer:
    shape = ModelConfig(
        vocab_size=50_304, context=1024, d_model=768, n_layers=12, n_heads=12,
        norm="layernorm", positions="learned", mlp="gelu_tanh", bias=True,
    )  # fmt: skip
    with torch.device("meta"):
        return Transformer(shape)


def test_the_groups_of_gpt2_small():
    assert summary(parameter_groups(gpt2_small(), config())) == [
        ("adamw", 0.1, 50, 124_354_560),
        ("adamw", 0.0, 98, 121_344),
    ]


def test_the_groups_of_gpt2_small_under_muon():
    n_embeddings, n_matrices = (50_304 + 1024) * 768, 12 * 12 * 768**2
    assert summary(parameter_groups(gpt2_small(), config(kind="muon"))) == [
        ("adamw", 0.1, 2, n_embeddings),
        ("adamw", 0.0, 98, 121_344),
        ("muon", 0.1, 48, n_matrices),
    ]


@pytest.mark.parametrize("kind", kinds)
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_in_one_group(kind: str, tied: bool):
    model = small.model(tie_embeddings=tied, positions="learned")
    groups = make_optimizer(model, config(kind=kind)).groups()
    names = [name for group in groups for name in group.names]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert sum(group.n_parameters for group in groups) == sum(p.numel() for p in model.parameters())


def test_muon_is_for_the_matrices_of_the_blocks():
    model = small.model(bias=True, tie_embeddings=False, positions="learned")
    groups = make_optimizer(model, config(kind="muon")).groups()
    (muon,) = [group for group in groups if group.rule == "muon"]
    assert {name.partition(".")[0] for name in muon.names} == {"blocks"}
    assert {name.split(".", 2)[2] for name in muon.names} == {
        "attention.qkv.weight",
        "attention.output.weight",
        "mlp.gate.weight",
        "mlp.up.weight",
        "mlp.down.weight",
    }


@pytest.mark.parametrize("kind", kinds)
def test_the_groups_say_what_the_parts_do(kind: str):
    model = small.model(bias=True)
    optimizer = make_optimizer(model, config(kind=kind))
    found = [
        (
            type(part).__name__.lower().removeprefix("fused"),
            group["weight_decay"],
            [id(p) for p in group["params"]],
        )
        for part in optimizer.parts
        for group in part.param_groups
    ]
    assert found == [
        (group.rule, group.weight_decay, [id(model.get_parameter(name)) for name in group.names])
        for group in optimizer.groups()
    ]


# State


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As from a file: on the CPU, and sharing no memory."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("device", devices)
@pytest.mark.parametrize(
    "settings",
    [*({"kind": kind} for kind in kinds), {"kind": "sgd", "momentum": 0.0}],
    ids=str,
)
def test_a_loaded_optimizer_takes_the_very_same_steps(settings: dict[str, Any], device: str):
    model = small.model(bias=True).to(device)
    optimizer = make_optimizer(model, config(**settings))
    learn(model, optimizer)
    again = small.model(bias=True).to(device)
    again.load_state_dict(model.state_dict())
    fresh = make_optimizer(again, config(**settings))
    fresh.load_named_state(copied(optimizer.named_state()))
    learn(model, optimizer, first=3)
    learn(again, fresh, first=3)
    expected = weights(model)
    assert all(torch.equal(expected[name], found) for name, found in weights(again).items())


@pytest.mark.parametrize("device", devices)
@pytest.mark.parametrize("kind", kinds)
def test_loaded_state_is_where_the_optimizer_would_have_it(kind: str, device: str):
    model = small.model().to(device)
    optimizer = make_optimizer(model, config(kind=kind))
    learn(model, optimizer)
    before = optimizer.named_state()
    optimizer.load_named_state(copied(before))
    after = optimizer.named_state()
    assert {n: (t.device, t.dtype) for n, t in after.items()} == {
        n: (t.device, t.dtype) for n, t in before.items()
    }


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("adamw", {"embedding.weight": 3, "norm.weight": 3, "blocks.1.mlp.up.weight": 3}),
        ("sgd", {"embedding.weight": 1, "norm.weight": 1, "blocks.1.mlp.up.weight": 1}),
        ("muon", {"embedding.weight": 3, "norm.weight": 3, "blocks.1.mlp.up.weight": 1}),
    ],
)
def test_state_goes_by_the_name_of_its_parameter(kind: str, expected: dict[str, int]):
    names = {3: ["step", "exp_avg", "exp_avg_sq"], 1: ["momentum_buffer"]}
    model = small.model()
    optimizer = make_optimizer(model, config(kind=kind))
    learn(model, optimizer)
    state = optimizer.named_state()
    assert {key.rpartition("/")[0] for key in state} == {n for n, _ in model.named_parameters()}
    for name, n_states in expected.items():
        found = [key for key in state if key.startswith(f"{name}/")]
        assert found == [f"{name}/{kind}" for kind in names[n_states]]


def test_named_state_is_the_state_and_no_copy():
    model = small.model()
    optimizer = make_optimizer(model, config())
    learn(model, optimizer)
    optimizer.named_state()["norm.weight/exp_avg"].fill_(7)
    assert optimizer.named_state()["norm.weight/exp_avg"].eq(7).all()


def test_loaded_tensors_are_not_changed_by_the_next_step():
    model = small.model()
    optimizer = make_optimizer(model, config())
    learn(model, optimizer)
    saved = copied(optimizer.named_state())
    kept = copied(saved)
    optimizer.load_named_state(saved)
    learn(model, optimizer)
    assert all(torch.equal(saved[name], kept[name]) for name in kept)


@pytest.mark.parametrize("kind", kinds)
def test_an_optimizer_that_has_not_stepped_has_no_state(kind: str):
    optimizer = make_optimizer(small.model(), config(kind=kind))
    assert optimizer.named_state() == {}
    optimizer.load_named_state({})
    assert optimizer.named_state() == {}


def test_no_state_takes_an_optimizer_back_to_its_start():
    model = small.model(bias=True)
    optimizer = make_optimizer(model, config())
    learn(model, optimizer)
    model.load_state_dict(small.model(bias=True).state_dict())
    optimizer.load_named_state({})
    learn(model, optimizer)
    expected = learned()
    assert all(torch.equal(expected[name], found) for name, found in weights(model).items())


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name not in names}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: without(state, "norm.weight/step"), r"\(missing: norm.weight/step\)"),
        (lambda state: state | {"x/y": torch.zeros(1)}, r"\(left over: x/y\)"),
        (
            lambda state: state | {"norm.weight/exp_avg": torch.zeros(25)},
            r"\(of another shape: norm.weight/exp_avg \(25,\) instead of \(24,\)\)",
        ),
        (
            lambda state: {"a/b": torch.zeros(1), **without(state, "norm.weight/exp_avg")},
            r"\(missing: norm.weight/exp_avg; left over: a/b\)",
        ),
        (
            lambda state: dict(list(state.items())[5:]),
            r"missing: embedding.weight/step, .*/exp_avg, .*/exp_avg_sq and 2 more\)",
        ),
        (lambda state: {"x/y": torch.zeros(1)}, "use the settings that it was saved with"),
    ],
)
def test_state_that_does_not_fit_is_refused(damage, message: str):
    model = small.model()
    optimizer = make_optimizer(model, config())
    learn(model, optimizer)
    damaged = damage(optimizer.named_state())
    with pytest.raises(ValueError, match=message):
        make_optimizer(small.model(), config()).load_named_state(damaged)


def test_state_of_another_kind_is_refused():
    model = small.model()
    optimizer = make_optimizer(model, config(kind="muon"))
    learn(model, optimizer)
    with pytest.raises(
        ValueError, match="left over: blocks.0.attention.qkv.weight/momentum_buffer"
    ):
        make_optimizer(small.model(), config()).load_named_state(optimizer.named_state())


def test_state_of_momentum_is_refused_where_there_is_none():
    model = small.model()
    optimizer = make_optimizer(model, config(kind="sgd"))
    learn(model, optimizer)
    with pytest.raises(ValueError, match="left over: embedding.weight/momentum_buffer"):
        make_optimizer(model, config(kind="sgd", momentum=0.0)).load_named_state(
            optimizer.named_state()
        )


def test_state_that_is_refused_changes_nothing():
    model = small.model()
    optimizer = make_optimizer(model, config())
    learn(model, optimizer)
    before, extra = copied(optimizer.named_state()), {"x/y": torch.ones(1)}
    with pytest.raises(ValueError, match="left over"):
        optimizer.load_named_state({name: 0 * tensor for name, tensor in (before | extra).items()})
    after = optimizer.named_state()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beta1": 1.0}, "optimizer.beta1 is 1.0; .* from 0 up to, but not, 1, such as 0.9"),
        ({"beta2": -0.1}, "optimizer.beta2 is -0.1; .* such as 0.95"),
        ({"momentum": 1.0}, "optimizer.momentum is 1.0; .* such as 0.95"),
        ({"weight_decay": -0.1}, "optimizer.weight_decay is -0.1; the least is 0"),
        ({"clip_norm": -1.0}, "optimizer.clip_norm is -1.0; the least is 0"),
        ({"epsilon": 0.0}, "optimizer.epsilon is 0.0; choose a number above 0, such as 1e-8"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        config(**wrong)


def test_the_rule_of_widths_gives_groups_their_share_of_the_rate_and_the_same_decay():
    model = small.model(bias=True)
    groups = parameter_groups(model, config(weight_decay=0.1), width_ratio=0.25)
    found = {
        name: (group.rate_factor, group.weight_decay) for group in groups for name in group.names
    }
    assert found["blocks.0.mlp.up.weight"] == (0.25, pytest.approx(0.4))
    assert found["embedding.weight"] == (1.0, pytest.approx(0.1))
    assert found["norm.weight"] == (0.25, 0.0)
    assert found["blocks.0.mlp_norm.weight"] == (1.0, 0.0)
    assert sum(group.n_parameters for group in groups) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("as_tensor", [False, True], ids=["float", "tensor"])
def test_a_share_of_the_rate_is_the_same_as_a_smaller_rate(kind: str, as_tensor: bool):
    plain, ruled = small.model(), small.model()
    share = 0.25 if kind == "adamw" else 0.5
    rate = 0.125
    for model, ratio, lr in ((plain, 1.0, rate * share), (ruled, 0.25, rate)):
        optimizer = make_optimizer(model, config(kind=kind, weight_decay=0.0), width_ratio=ratio)
        for parameter in model.parameters():
            parameter.grad = torch.sin(torch.arange(parameter.numel())).reshape(parameter.shape)
        optimizer.step(torch.tensor(lr) if as_tensor else lr)
    one, other = dict(plain.named_parameters()), dict(ruled.named_parameters())
    name = "blocks.1.mlp.down.weight"
    # A step of AdamW is the same but for the rounding of its rate.
    torch.testing.assert_close(one[name], other[name], rtol=1e-6, atol=1e-7)
    assert not torch.equal(one["embedding.weight"], other["embedding.weight"])
