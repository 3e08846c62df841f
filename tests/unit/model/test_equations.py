"""The model is the published equations: a slow twin, one position at a time, agrees in fp64.

The twin reads the model's own parameters by name, so that its gradients land on them too.
"""

import cmath
import math
import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import small
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.transformer import Transformer

Weights = Mapping[str, Tensor]


def slow_logits(
    model: Transformer, ids: list[int], positions: list[int], documents: list[int]
) -> Tensor:
    """Logits of one row of tokens."""
    config, weights = model.config, dict(model.named_parameters())
    rows = [weights["embedding.weight"][token] for token in ids]
    if config.positions == "learned":
        rows = [
            row + weights["positions.weight"][p] for row, p in zip(rows, positions, strict=True)
        ]
    for layer in range(config.n_layers):
        start = f"blocks.{layer}."
        inner = {
            name.removeprefix(start): w for name, w in weights.items() if name.startswith(start)
        }
        rows = slow_block(config, inner, rows, positions, documents)
    if config.placement == "pre":
        rows = [slow_norm(config, weights, "norm", row) for row in rows]
    matrix = weights["embedding.weight" if config.tie_embeddings else "unembedding.weight"]
    return torch.stack([matrix[: config.known_vocab] @ row for row in rows])


def slow_block(
    config: ModelConfig,
    weights: Weights,
    rows: list[Tensor],
    positions: list[int],
    documents: list[int],
) -> list[Tensor]:
    def attention_norm(row: Tensor) -> Tensor:
        return slow_norm(config, weights, "attention_norm", row)

    def mlp_norm(row: Tensor) -> Tensor:
        return slow_norm(config, weights, "mlp_norm", row)

    if config.placement == "pre":
        added = slow_attention(config, weights, [*map(attention_norm, rows)], positions, documents)
        rows = [row + more for row, more in zip(rows, added, strict=True)]
        return [row + slow_mlp(config, weights, mlp_norm(row)) for row in rows]
    added = slow_attention(config, weights, rows, positions, documents)
    rows = [attention_norm(row + more) for row, more in zip(rows, added, strict=True)]
    return [mlp_norm(row + slow_mlp(config, weights, row)) for row in rows]


def slow_norm(config: ModelConfig, weights: Weights, name: str, row: Tensor) -> Tensor:
    if config.norm == "none":
        return row
    if config.norm == "rmsnorm":
        return root_mean_square(row, config.norm_epsilon) * weights[f"{name}.weight"]
    mean = row.sum() / len(row)
    variance = ((row - mean) ** 2).sum() / len(row)
    scaled = (row - mean) / (variance + config.norm_epsilon) ** 0.5 * weights[f"{name}.weight"]
    return scaled + weights[f"{name}.bias"] if config.bias else scaled


def root_mean_square(row: Tensor, epsilon: float) -> Tensor:
    return row / ((row**2).sum() / len(row) + epsilon) ** 0.5


def slow_linear(weights: Weights, name: str, row: Tensor) -> Tensor:
    product = weights[f"{name}.weight"] @ row
    return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product


def slow_attention(
    config: ModelConfig,
    weights: Weights,
    rows: list[Tensor],
    positions: list[int],
    documents: list[int],
) -> list[Tensor]:
    n_heads, n_kv_heads = config.n_heads, config.key_heads
    # Of each position, a list of vectors: the heads' queries, then their keys, then their values.
    vectors = [slow_linear(weights, "attention.qkv", row).split(config.head_width) for row in rows]

    def placed(position: int, head: int, norm: str) -> Tensor:
        vector = vectors[position][head]
        if config.qk_norm:
            vector = root_mean_square(vector, config.norm_epsilon)
            vector = vector * weights[f"attention.{norm}.weight"]
        return slow_turn(config, vector, positions[position])

    mixed: list[Tensor] = []
    for here in range(len(rows)):
        seen = [there for there in range(here + 1) if documents[there] == documents[here]]
        if config.window is not None:
            seen = [there for there in seen if here - there < config.window]
        of_heads = []
        for head in range(n_heads):
            shared = head // (n_heads // n_kv_heads)
            query = placed(here, head, "query_norm")
            keys = [placed(there, n_heads + shared, "key_norm") for there in seen]
            scores = torch.stack([query @ key / math.sqrt(config.head_width) for key in keys])
            chances = scores.exp() / scores.exp().sum()
            values = [vectors[there][n_heads + n_kv_heads + shared] for there in seen]
            of_heads.append(sum(c * v for c, v in zip(chances, values, strict=True)))
        mixed.append(slow_linear(weights, "attention.output", torch.cat(of_heads)))
    return mixed


def slow_turn(config: ModelConfig, vector: Tensor, position: int) -> Tensor:
    if config.positions != "rope":
        return vector
    half = config.head_width // 2
    pairs = torch.complex(vector[:half], vector[half:])
    angles = [position * slow_frequency(config, pair) for pair in range(half)]
    turned = pairs * torch.tensor([cmath.exp(1j * a) for a in angles], dtype=torch.complex128)
    return torch.cat([turned.real, turned.imag])


def slow_frequency(config: ModelConfig, pair: int) -> float:
    """As the released code of Llama 3.1 has it, in three cases."""
    frequency = config.rope_theta ** (-2 * pair / config.head_width)
    wavelength = 2 * math.pi / frequency
    low, high = config.rope_low_frequency, config.rope_high_frequency
    if wavelength < config.rope_original_context / high:
        return frequency
    if wavelength > config.rope_original_context / low:
        return frequency / config.rope_factor
    smooth = (config.rope_original_context / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / config.rope_factor + smooth * frequency


def slow_mlp(config: ModelConfig, weights: Weights, row: Tensor) -> Tensor:
    up = slow_linear(weights, "mlp.up", row)
    if config.mlp == "swiglu":
        gate = slow_linear(weights, "mlp.gate", row)
        return slow_linear(weights, "mlp.down", gate / (1 + (-gate).exp()) * up)
    inner = {
        "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
        "gelu_tanh": lambda x: (
            x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
        ),
        "silu": lambda x: x / (1 + (-x).exp()),
        "relu2": lambda x: torch.where(x > 0, x * x, 0.0),
    }[config.mlp]
    return slow_linear(weights, "mlp.down", inner(up))


llama3 = {"rope_factor": 4.0, "rope_original_context": 64, "rope_theta": 100.0}
values: dict[str, list[Any]] = {
    "norm": ["layernorm", "rmsnorm", "none"],
    "placement": ["pre", "post"],
    "norm_epsilon": [1e-5, 0.1],
    "qk_norm": [False, True],
    "positions": ["learned", "rope", "none"],
    "window": [None, 1, 3],
    "mlp": ["gelu", "gelu_tanh", "silu", "relu2", "swiglu"],
    "bias": [False, True],
    "tie_embeddings": [False, True],
    "n_kv_heads": [None, 1, 2],
    "d_head": [None, 8],
    "vocab_multiple": [1, 16],
    "rope_theta": [10_000.0, 50.0],
}
usual = small.model_config()
one_at_a_time = [
    {name: choice}
    for name, choices in values.items()
    for choice in choices
    if choice != getattr(usual, name)
]
drawn = [
    {name: draw.choice(choices) for name, choices in values.items()}
    for draw in map(random.Random, range(16))
]
with_stretched_rope = [llama3, llama3 | {"rope_low_frequency": 2.0, "rope_high_frequency": 3.0}]
packed = [[0, 1, 0, 1, 2, 0], [0, 0, 1, 1, 1, 2]]


@pytest.mark.parametrize("choice", [{}, *one_at_a_time, *with_stretched_rope, *drawn], ids=str)
def test_logits_and_gradients_are_those_of_the_equations(choice: dict[str, Any]):
    model = small.model(dtype=torch.float64, **choice)
    ids = small.ids(seq=6)
    # Positions with gaps, because rotated products only tell distances.
    positions, documents = (
        torch.tensor([[0, 2, 3, 7, 8, 10], packed[0]]),
        torch.tensor([[0] * 6, packed[1]]),
    )
    found = model(ids, positions=positions, documents=documents)
    expected = torch.stack(
        [slow_logits(model, *row) for row in zip(*map(Tensor.tolist, (ids, positions, documents)), strict=True)]
    )  # fmt: skip
    assert found.shape == expected.shape
    # Rounding alone.
    assert (found - expected).abs().max() < 1e-12 * expected.abs().max().item()
    parameters = list(model.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(found.logsumexp(-1).sum(), parameters),
        torch.autograd.grad(expected.logsumexp(-1).sum(), parameters),
        strict=True,
    ):
        assert (ours - theirs).abs().max() <= 1e-11 * max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize("attention", ["plain", "striped", "math", "flash"])
def test_every_kind_of_attention_is_that_of_the_equation(attention: AttentionKind):
    model = small.model(dtype=torch.float64, attention=attention, window=4)
    ids = small.ids(batch=1)
    theirs = slow_logits(model, ids[0].tolist(), [*range(11)], [0] * 11)
    assert (model(ids)[0] - theirs).abs().max() < 1e-12 * theirs.abs().max().item()
