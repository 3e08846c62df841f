import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import small
from modelwright.accounting.elementwise import (
    Operation,
    clip_flops,
    elementwise_flops,
    operations,
    optimizer_flops,
)
from modelwright.accounting.flops import training_flops, visible_pairs
from modelwright.model.config import ModelConfig
from modelwright.model.mlp import gated_silu, squared_relu


class Number:
    """A number that counts what is done with it."""

    done = 0

    def __init__(self, value: float) -> None:
        self.value = value

    @staticmethod
    def made(value: float) -> "Number":
        Number.done += 1
        return Number(value)

    def __add__(self, other: Any) -> "Number":
        return self.made(self.value + value_of(other))

    def __sub__(self, other: Any) -> "Number":
        return self.made(self.value - value_of(other))

    def __mul__(self, other: Any) -> "Number":
        return self.made(self.value * value_of(other))

    def __truediv__(self, other: Any) -> "Number":
        return self.made(self.value / value_of(other))

    def __neg__(self) -> "Number":
        return self.made(-self.value)


def value_of(x: Any) -> float:
    return x.value if isinstance(x, Number) else x


def of(f: Callable[[float], float], x: Number) -> Number:
    return Number.made(f(x.value))


def total(row: list[Number]) -> Number:
    result = row[0]
    for x in row[1:]:
        result = result + x
    return result


def largest(row: list[Number]) -> Number:
    result = row[0]
    for x in row[1:]:
        result = Number.made(max(result.value, x.value))
    return result


Row = list[Number]
# A row and the gradient of what is made of it: what is made, and how to get the row's gradient.
Twin = Callable[[Row, Row], tuple[Row, Callable[[], Row]]]
weight = [0.5, -1.5, 2.0, 0.25, 1.0, -0.75, 1.25]
epsilon = 1e-5


def add_to(total: float, x: Number) -> None:
    """Sum a weight's gradient over positions."""
    _ = x + total


def layernorm(row: Row, slope: Row) -> tuple[Row, Callable[[], Row]]:
    n = len(row)
    mean = total(row) / n
    centred = [x - mean for x in row]
    variance = total([y * y for y in centred]) / n
    by = Number(1) / of(math.sqrt, variance + epsilon)
    made = [y * by * w for y, w in zip(centred, weight, strict=True)]

    def back() -> Row:
        normal = [(x - mean) * by for x in row]
        for g, y in zip(slope, normal, strict=True):
            add_to(0, y * g)
        gradient = [g * w for g, w in zip(slope, weight, strict=True)]
        mean_gradient = total(gradient) / n
        product = total([g * y for g, y in zip(gradient, normal, strict=True)]) / n
        return [
            (g - mean_gradient - y * product) * by for g, y in zip(gradient, normal, strict=True)
        ]

    return made, back


def rmsnorm(row: Row, slope: Row) -> tuple[Row, Callable[[], Row]]:
    n = len(row)
    by = Number(1) / of(math.sqrt, total([x * x for x in row]) / n + epsilon)
    made = [x * by * w for x, w in zip(row, weight, strict=True)]

    def back() -> Row:
        normal = [x * by for x in row]
        for g, y in zip(slope, normal, strict=True):
            add_to(0, y * g)
        gradient = [g * w for g, w in zip(slope, weight, strict=True)]
        product = total([g * y for g, y in zip(gradient, normal, strict=True)]) / n
        return [(g - y * product) * by for g, y in zip(gradient, normal, strict=True)]

    return made, back


def softmax(row: Row, slope: Row) -> tuple[Row, Callable[[], Row]]:
    top = largest(row)
    exponentials = [of(math.exp, x - top) for x in row]
    sum_ = total(exponentials)
    made = [x / sum_ for x in exponentials]

    def back() -> Row:
        product = total([p * g for p, g in zip(made, slope, strict=True)])
        return [(g - product) * p for p, g in zip(made, slope, strict=True)]

    return made, back


def number_by_number(
    forward: Callable[[Number], Number], backward: Callable[[Number, Number], Number]
) -> Twin:
    def twin(row: Row, slope: Row) -> tuple[Row, Callable[[], Row]]:
        made = [forward(x) for x in row]
        return made, lambda: [backward(x, g) for x, g in zip(row, slope, strict=True)]

    return twin


def gelu_back(x: Number, g: Number) -> Number:
    chance = (of(math.erf, x * math.sqrt(0.5)) + 1) * 0.5
    density = of(math.exp, x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return (chance + density * x) * g


root, cubic = math.sqrt(2 / math.pi), 0.044715


def gelu_tanh(x: Number) -> Number:
    return (of(math.tanh, (x + x * x * x * cubic) * root) + 1) * x * 0.5


def gelu_tanh_back(x: Number, g: Number) -> Number:
    square = x * x
    tanh = of(math.tanh, (x + square * x * cubic) * root)
    inner = (square * (3 * cubic) + 1) * root
    return ((tanh + 1) * 0.5 + x * 0.5 * (Number(1) - tanh * tanh) * inner) * g


def sigmoid(x: Number) -> Number:
    return Number(1) / (of(math.exp, -x) + 1)


def silu(x: Number) -> Number:
    return x / (of(math.exp, -x) + 1)


def silu_back(x: Number, g: Number) -> Number:
    s = sigmoid(x)
    return ((Number(1) - s) * x + 1) * s * g


def relu(x: Number) -> Number:
    return Number.made(max(x.value, 0))


def relu2(x: Number) -> Number:
    half = relu(x)
    return half * half


up = 0.6  # what the gate opens for


def swiglu_back(x: Number, g: Number) -> Number:
    s = sigmoid(x)
    _for_up = x * s * g
    return (g * up) * (((Number(1) - s) * x + 1) * s)


twins: dict[str, tuple[Twin, Callable[[torch.Tensor], torch.Tensor]]] = {
    "layernorm": (
        layernorm,
        lambda x: functional.layer_norm(x, x.shape, x.new_tensor(weight), None, epsilon),
    ),
    "rmsnorm": (
        rmsnorm,
        lambda x: functional.rms_norm(x, x.shape, x.new_tensor(weight), epsilon),
    ),
    "softmax": (softmax, lambda x: x.softmax(-1)),
    "gelu": (
        number_by_number(lambda x: (of(math.erf, x * math.sqrt(0.5)) + 1) * x * 0.5, gelu_back),
        functional.gelu,
    ),
    "gelu_tanh": (
        number_by_number(gelu_tanh, gelu_tanh_back),
        lambda x: functional.gelu(x, approximate="tanh"),
    ),
    "silu": (number_by_number(silu, silu_back), functional.silu),
    "relu2": (number_by_number(relu2, lambda x, g: relu(x) * 2 * g), squared_relu),
    "swiglu": (
        number_by_number(lambda x: silu(x) * up, swiglu_back),
        lambda x: gated_silu(x, x.new_tensor(up)),
    ),
}


@pytest.mark.parametrize("name", twins)
def test_an_operation_costs_what_doing_it_by_hand_takes(name: str):
    twin, original = twins[name]
    x = torch.tensor([0.3, -1.2, 2.5, -0.1, 0.8, 1.7, -2.2], dtype=torch.float64)
    x.requires_grad_()
    slope = torch.linspace(-1, 2, 7, dtype=torch.float64)
    expected = original(x)
    expected.backward(slope)

    Number.done = 0
    made, back = twin([Number(v) for v in x.tolist()], [Number(v) for v in slope.tolist()])
    forward, Number.done = Number.done, 0
    gradient = back()

    counted = operations[name].flops(n_rows=1, n_numbers=7)
    assert (forward, Number.done) == (counted.forward, counted.backward)
    # Done by hand it is the same function, so it is the right thing that was counted.
    assert [y.value for y in made] == pytest.approx(expected.tolist(), rel=1e-12)
    assert x.grad is not None
    assert [y.value for y in gradient] == pytest.approx(x.grad.tolist(), rel=1e-10)


def test_the_loss_costs_what_doing_it_by_hand_takes():
    scores, target, scale = [0.3, -1.2, 2.5, -0.1], 3, 0.5
    Number.done = 0
    row = [Number(v) for v in scores]
    top = largest(row)
    shifted = [x - top for x in row]
    exponentials = [of(math.exp, x) for x in shifted]
    sum_ = total(exponentials)
    loss = of(math.log, sum_) - shifted[target]
    _of_the_batch = loss + 0.0
    forward, Number.done = Number.done, 0
    chances = [x / sum_ for x in exponentials]
    chances[target] = chances[target] - 1
    gradient = [x * scale for x in chances]

    counted = operations["loss"].flops(n_rows=1, n_numbers=4)
    assert (forward, Number.done) == (counted.forward, counted.backward)
    logits = torch.tensor(scores, dtype=torch.float64, requires_grad=True)
    expected = functional.cross_entropy(logits, torch.tensor(target))
    (scale * expected).backward()
    assert loss.value == pytest.approx(expected.item(), rel=1e-12)
    assert logits.grad is not None
    assert [x.value for x in gradient] == pytest.approx(logits.grad.tolist(), rel=1e-12)


def test_adamw_costs_what_doing_it_by_hand_takes():
    beta1, beta2, decay, rate, small_number = 0.9, 0.95, 0.1, 1e-2, 1e-8
    parameter = torch.nn.Parameter(torch.tensor([0.7], dtype=torch.float64))
    parameter.grad = torch.tensor([0.3], dtype=torch.float64)
    optimizer = torch.optim.AdamW(
        [parameter], lr=rate, betas=(beta1, beta2), eps=small_number, weight_decay=decay
    )
    Number.done = 0
    w, g, m, v = Number(0.7), Number(0.3), Number(0.0), Number(0.0)
    m = m * beta1 + g * (1 - beta1)
    v = v * beta2 + g * g * (1 - beta2)
    w = w - w * (Number(rate) * decay)
    # The first step's corrections are numbers of the step, not of each parameter.
    step, corrected = rate / (1 - beta1) * math.sqrt(1 - beta2), small_number * math.sqrt(1 - beta2)
    w = w - m / (of(math.sqrt, v) + corrected) * step

    assert Number.done == 15 == optimizer_flops(1, "adamw")
    optimizer.step()
    assert w.value == pytest.approx(parameter.item(), rel=1e-12)


def test_the_update_of_the_first_table_s_model_is_as_recomputed():
    assert optimizer_flops(2_127_057_600, "adamw") == 31_905_864_000
    assert clip_flops(1000) == 3000
    assert optimizer_flops(1000, "sgd") == 6000


def test_a_row_of_one_needs_no_sum():
    softmax_of_one = operations["softmax"].flops(n_rows=1, n_numbers=1)
    assert softmax_of_one.forward == 3


@pytest.mark.parametrize("operation", operations.values(), ids=operations)
def test_every_operation_goes_on_evenly(operation: Operation):
    once, twice = (operation.flops(n_rows=n, n_numbers=5 * n) for n in (1, 2))
    assert (twice.forward, twice.backward) == (2 * once.forward, 2 * once.backward)


def test_the_components_of_a_small_model_are_those_of_its_layers():
    config = small.model_config(norm="layernorm", bias=True, qk_norm=True)
    flops = elementwise_flops(config, batch=2, seq=5)
    n_tokens, d_model, d_head, n_layers = 10, 24, 6, 2
    norms = 5 * (6 * d_model + 3) + n_layers * (4 + 2) * (4 * d_head + 3)
    assert flops.norms.forward == n_tokens * norms
    assert flops.rotary.forward == n_tokens * n_layers * (4 + 2) * d_head * 3
    rows = n_tokens * n_layers * 4
    assert flops.softmax.forward == rows * (5 * 5 - 2) + n_tokens * n_layers * d_model
    assert flops.activation.forward == n_tokens * n_layers * 40 * 5
    assert flops.residual.forward == n_tokens * n_layers * 2 * d_model
    linear = n_layers * ((4 + 2 + 2) * d_head + d_model + 2 * 40 + d_model)
    assert flops.bias.forward == n_tokens * (linear + 5 * d_model)
    assert flops.loss.forward == n_tokens * (4 * 37 + 1)
    assert flops.forward == sum(part.forward for part in flops.components.values())
    assert flops.total == flops.forward + flops.backward


changes: list[tuple[dict[str, Any], str]] = [
    ({"norm": "none"}, "norms"),
    ({"norm": "layernorm"}, "norms"),
    ({"placement": "post"}, "norms"),
    ({"qk_norm": True}, "norms"),
    ({"positions": "none"}, "rotary"),
    ({"positions": "learned"}, "embedding"),
    ({"bias": True}, "bias"),
    ({"dropout": 0.1}, "dropout"),
    ({"mlp": "relu2"}, "activation"),
    ({"vocab_multiple": 16}, "loss"),
    ({"n_kv_heads": 4}, "softmax"),
]


@pytest.mark.parametrize(("change", "component"), changes, ids=str)
def test_an_option_changes_its_component(change: dict[str, Any], component: str):
    before = elementwise_flops(small.model_config(), batch=1, seq=5).components[component]
    after = elementwise_flops(small.model_config(**change), batch=1, seq=5).components[component]
    assert before != after


@given(batch=st.integers(1, 4), seq=st.integers(1, 11), window=st.none() | st.integers(1, 12))
def test_hidden_pairs_are_left_out_of_the_softmax_alone(batch: int, seq: int, window: int | None):
    config = small.model_config(window=window)
    full = elementwise_flops(config, batch=batch, seq=seq)
    causal = elementwise_flops(config, batch=batch, seq=seq, causal=True)
    hidden = config.n_layers * config.n_heads * batch * (seq**2 - visible_pairs(seq, window))
    assert full.softmax.forward - causal.softmax.forward == 5 * hidden
    assert full.softmax.backward - causal.softmax.backward == 4 * hidden
    assert full.norms == causal.norms


def test_in_a_large_model_it_is_a_small_share():
    config = ModelConfig(**ModelConfig.presets["gpt2-xl-swiglu"])
    beside = elementwise_flops(config, batch=1, seq=1024).total
    share = beside / training_flops(config, batch=1, seq=1024)
    assert 0.001 < share < 0.002
