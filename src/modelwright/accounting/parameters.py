"""How many numbers a model holds, by component, from its config alone."""

from dataclasses import dataclass

from modelwright.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """Parameters by component; `total` counts a shared matrix once."""

    token_embedding: int
    position_embedding: int
    attention: int
    mlp: int
    norms: int
    unembedding: int  # zero where it is the token embedding

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
    if config.vocab_size is None:
        raise ValueError("model.vocab_size is not set; give the number of the tokenizer's tokens")
    d_model, d_ff = config.d_model, config.d_hidden
    d_keys = config.key_heads * config.d_head
    vocabulary = config.vocab_size * d_model

    attention = 2 * d_model * d_model + 2 * d_model * d_keys
    n_matrices = 3 if config.mlp == "swiglu" else 2
    mlp = n_matrices * d_model * d_ff
    norm = d_model
    if config.bias:
        attention += 2 * d_model + 2 * d_keys
        mlp += (n_matrices - 1) * d_ff + d_model
        norm += d_model if config.norm == "layernorm" else 0
    return ParameterCount(
        token_embedding=vocabulary,
        position_embedding=config.context * d_model if config.positions == "learned" else 0,
        attention=config.n_layers * attention,
        mlp=config.n_layers * mlp,
        norms=(2 * config.n_layers + 1) * norm,
        unembedding=0 if config.tie_embeddings else vocabulary,
    )
