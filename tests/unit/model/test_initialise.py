import math
from typing import Any

import pytest
import torch

import small
from modelwright.model.config import InitialConfig, ModelConfig
from modelwright.model.initialise import initialise
from modelwright.model.transformer import Transformer

choices: list[dict[str, Any]] = [
    {},
    {"norm": "layernorm", "bias": True, "mlp": "gelu", "positions": "learned"},
    {"tie_embeddings": False, "vocab_multiple": 16, "qk_norm": True},
    {"placement": "post", "norm": "none", "bias": True, "vocab_multiple": 16},
    {"positions": "none", "n_kv_heads": 1, "d_head": 10, "mlp": "relu2"},
]
rules = ["small", "gpt2", "truncated"]


def wide_model(**changes: Any) -> Transformer:
    shape: dict[str, Any] = {"vocab_size": 500, "context": 300, "d_model": 128, "n_layers": 8}
    with_everything = {"norm": "layernorm", "positions": "learned", "bias": True, "qk_norm": True}
    return Transformer(ModelConfig(**(shape | with_everything | changes)))


@pytest.mark.parametrize("choice", choices, ids=str)
@pytest.mark.parametrize("rule", rules)
def test_every_parameter_is_initialised(choice: dict[str, Any], rule: Any):
    model = Transformer(small.model_config(**choice))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    initialise(model, seed=0, config=InitialConfig(rule=rule))
    assert not [name for name, p in model.named_parameters() if p.isnan().any()]


# A normal distribution that is cut at three standard deviations is this much narrower.
cut = math.sqrt(1 - 6 * math.exp(-4.5) / math.sqrt(2 * math.pi) / math.erf(3 / math.sqrt(2)))
stds: list[tuple[dict[str, Any] | None, float]] = [
    (None, math.sqrt(2 / (5 * 128))),
    ({"rule": "small"}, math.sqrt(2 / (5 * 128))),
    ({"rule": "gpt2"}, 0.02),
    ({"rule": "truncated"}, 0.02 * cut),
    ({"rule": "small", "std": 0.3}, 0.3),
    ({"rule": "gpt2", "std": 0.3}, 0.3),
    ({"rule": "truncated", "std": 0.3}, 0.3 * cut),
]


@pytest.mark.parametrize(("settings", "base"), stds)
@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
def test_initial_weights_follow_the_written_rule(
    settings: dict[str, Any] | None, base: float, mlp: str
):
    model = wide_model(mlp=mlp, tie_embeddings=False)
    initialise(model, seed=0, config=InitialConfig(**settings) if settings else None)
    n_scaled = 0
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("attention.output.weight", "mlp.down.weight"))
            expected = base / math.sqrt(2 * 8) if writes else base
            n_scaled += writes
            # Half a percent is one standard deviation of the estimate in the smallest of them.
            assert parameter.std().item() == pytest.approx(expected, rel=0.02), name
            # Four of the mean's standard deviations, and a bit.
            assert abs(parameter.mean().item()) < 5 * expected / math.sqrt(parameter.numel()), name
        else:
            assert parameter.eq(0.0 if name.endswith("bias") else 1.0).all(), name
    assert n_scaled == 2 * 8


@pytest.mark.parametrize("std", [None, 0.3])
def test_nothing_truncated_is_beyond_three_standard_deviations(std: float | None):
    model = wide_model()
    for rule in ("truncated", "gpt2"):
        initialise(model, seed=0, config=InitialConfig(rule=rule, std=std))
        widths = []
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith(("attention.output.weight", "mlp.down.weight"))
                limit = 3 * (std or 0.02) / (4 if writes else 1)
                widths.append(parameter.abs().max().item() / limit)
        if rule == "truncated":
            assert 0.97 < min(widths) <= max(widths) <= 1
        else:
            assert min(widths) > 1


def test_padding_of_the_vocabulary_starts_as_zeros():
    model = wide_model(vocab_multiple=128, tie_embeddings=False)
    initialise(model, seed=0)
    for matrix in (model.embedding.weight, model.unembedding.weight):
        assert matrix.shape == (512, 128)
        assert matrix[500:].eq(0).all()
        assert matrix[499].ne(0).all()


def test_a_seed_gives_its_own_weights_each_time():
    first, again, other = (list(small.model(seed=seed).parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_weights_are_drawn_from_their_own_stream():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = small.model()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    for a, b in zip(first.parameters(), small.model().parameters(), strict=True):
        assert torch.equal(a, b)


def test_wherever_the_model_is_the_draws_are_those_of_a_cpu_in_fp32():
    usual, wide = wide_model(), wide_model().double()
    for model in (usual, wide):
        initialise(model, seed=0)
    for a, b in zip(usual.parameters(), wide.parameters(), strict=True):
        assert torch.equal(a.double(), b)
    initialise(wide_model().to("meta"), seed=0)  # a generator of that device does not exist


def test_a_fresh_model_is_as_surprised_as_one_that_knows_nothing():
    model = Transformer(ModelConfig(vocab_size=1000, d_model=64, n_layers=2))
    initialise(model, seed=0)
    ids = small.ids(4, 64, 1000)
    chances = model(ids).log_softmax(-1)
    loss = -chances.gather(-1, ids.roll(1)[..., None]).mean().item()
    # Initial logits are normal with variance 2/5, which costs half of that on top.
    assert loss == pytest.approx(math.log(1000) + 0.2, abs=0.05)


def test_by_name_models_share_the_weights_that_both_have_in_the_same_shape():
    def weights(draws: str, **changes: Any) -> dict[str, torch.Tensor]:
        model = Transformer(small.model_config(**changes))
        initialise(model, seed=3, config=InitialConfig(draws=draws))  # type: ignore[arg-type]
        return dict(model.named_parameters())

    def differing(draws: str, **changes: Any) -> set[str]:
        one, other = weights(draws), weights(draws, **changes)
        both = {name for name in one if name in other and one[name].shape == other[name].shape}
        assert any("attention" in name for name in both)
        return {name for name in both if not torch.equal(one[name], other[name])}

    for changes in ({"mlp": "silu"}, {"positions": "learned"}, {"n_heads": 6}, {"norm": "none"}):
        assert not differing("by_name", **changes)
    assert differing(
        "in_turn", mlp="silu"
    )  # without the gate, all that follows draws other numbers
    first, second = (weights("by_name")[f"blocks.{n}.mlp.up.weight"] for n in (0, 1))
    assert not torch.equal(first, second)
