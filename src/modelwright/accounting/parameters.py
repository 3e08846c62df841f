"""How many numbers a model holds, by component and by tensor, from its config alone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from modelwright.model.config import ModelConfig

Component = Literal[
    "token_embedding", "position_embedding", "attention", "mlp", "norms", "unembedding"
]


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """Parameters by component; `total` counts a shared matrix once and no padding."""

    token_embedding: int
    position_embedding: int
    attention: int
    mlp: int
    norms: int
    unembedding: int  # zero where it is the token embedding
    padding: int  # rows of the token matrices that are no tokens; not in the total

    @property
    def total(self) -> int:
        return (
            self.token_embedding
            + self.position_embedding
            + self.attention
            + self.mlp
            + self.norms
            + self.unembedding
        )


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Count a model's parameters in closed form; tests compare it with the model's own tensors.

    Raises:
        ValueError: if the config leaves its vocabulary to a tokenizer.
    """
    d_model, d_ff, d_head = config.d_model, config.d_hidden, config.head_width
    d_queries, d_keys = config.n_heads * d_head, config.key_heads * d_head
    vocabulary = config.known_vocab * d_model
    padding = (config.padded_vocab - config.known_vocab) * d_model

    attention = 2 * d_model * d_queries + 2 * d_model * d_keys
    n_matrices = 3 if config.mlp == "swiglu" else 2
    mlp = n_matrices * d_model * d_ff
    if config.bias:
        attention += d_queries + 2 * d_keys + d_model
        mlp += (n_matrices - 1) * d_ff + d_model
    n_norms = 2 * config.n_layers + (config.placement == "pre")
    head_norms = 2 * d_head * config.n_layers if config.qk_norm else 0
    return ParameterCount(
        token_embedding=vocabulary,
        position_embedding=config.context * d_model if config.positions == "learned" else 0,
        attention=config.n_layers * attention,
        mlp=config.n_layers * mlp,
        norms=n_norms * parameters_per_norm(config) + head_norms,
        unembedding=0 if config.tie_embeddings else vocabulary,
        padding=padding if config.tie_embeddings else 2 * padding,
    )


def parameters_per_norm(config: ModelConfig) -> int:
    """Numbers in one norm of the residual stream: a scale per channel, and LayerNorm's shift."""
    if config.norm == "none":
        return 0
    return config.d_model * (2 if config.norm == "layernorm" and config.bias else 1)


@dataclass(frozen=True, kw_only=True)
class TensorCount:
    """One of a model's tensors: under which name it is saved, its shape and what it is part of."""

    name: str
    shape: tuple[int, ...]
    component: Component

    @property
    def n_parameters(self) -> int:
        """Numbers in it, rows of padding included."""
        return math.prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether it is a matrix or a table of vectors, which weight decay shrinks."""
        return len(self.shape) == 2


def tensor_counts(config: ModelConfig) -> list[TensorCount]:
    """A model's tensors in its own order, without building it; a shared one once.

    The token matrices have the rows of their padding, as the model's own do, so that the sum is
    the `total` and the `padding` of `count_parameters`.

    Raises:
        ValueError: if the config leaves its vocabulary to a tokenizer.
    """
    vocabulary = (config.padded_vocab, config.d_model)
    tensors = [TensorCount(name="embedding.weight", shape=vocabulary, component="token_embedding")]
    if config.positions == "learned":
        table = (config.context, config.d_model)
        tensors.append(
            TensorCount(name="positions.weight", shape=table, component="position_embedding")
        )
    for block in range(config.n_layers):
        tensors.extend(_block(config, f"blocks.{block}"))
    if config.placement == "pre":
        tensors.extend(_norm(config, "norm"))
    if not config.tie_embeddings:
        tensors.append(
            TensorCount(name="unembedding.weight", shape=vocabulary, component="unembedding")
        )
    return tensors


def _block(config: ModelConfig, block: str) -> Iterator[TensorCount]:
    attention_norm = _norm(config, f"{block}.attention_norm")
    attention = _attention(config, f"{block}.attention")
    mlp_norm = _norm(config, f"{block}.mlp_norm")
    mlp = _mlp(config, f"{block}.mlp")
    if config.placement == "pre":
        parts = (attention_norm, attention, mlp_norm, mlp)
    else:
        parts = (attention, attention_norm, mlp, mlp_norm)
    for part in parts:
        yield from part


def _attention(config: ModelConfig, name: str) -> Iterator[TensorCount]:
    d_head, d_queries = config.head_width, config.n_heads * config.head_width
    d_all = d_queries + 2 * config.key_heads * d_head
    yield from _linear(f"{name}.qkv", config.d_model, d_all, config.bias, "attention")
    if config.qk_norm:
        for norm in ("query_norm", "key_norm"):
            yield TensorCount(name=f"{name}.{norm}.weight", shape=(d_head,), component="norms")
    yield from _linear(f"{name}.output", d_queries, config.d_model, config.bias, "attention")


def _mlp(config: ModelConfig, name: str) -> Iterator[TensorCount]:
    for widening in ("gate", "up") if config.mlp == "swiglu" else ("up",):
        yield from _linear(
            f"{name}.{widening}", config.d_model, config.d_hidden, config.bias, "mlp"
        )
    yield from _linear(f"{name}.down", config.d_hidden, config.d_model, config.bias, "mlp")


def _linear(
    name: str, d_in: int, d_out: int, bias: bool, component: Component
) -> Iterator[TensorCount]:
    yield TensorCount(name=f"{name}.weight", shape=(d_out, d_in), component=component)
    if bias:
        yield TensorCount(name=f"{name}.bias", shape=(d_out,), component=component)


def _norm(config: ModelConfig, name: str) -> Iterator[TensorCount]:
    """The vectors, each as wide as the stream, that `parameters_per_norm` counts."""
    n_vectors = parameters_per_norm(config) // config.d_model
    for vector in ("weight", "bias")[:n_vectors]:
        yield TensorCount(name=f"{name}.{vector}", shape=(config.d_model,), component="norms")
