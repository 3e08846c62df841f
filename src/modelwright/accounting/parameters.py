"""How many numbers a model holds, by component, from its config alone."""

from dataclasses import dataclass

from modelwright.model.config import ModelConfig


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
    norm = 0 if config.norm == "none" else d_model
    if config.bias:
        attention += d_queries + 2 * d_keys + d_model
        mlp += (n_matrices - 1) * d_ff + d_model
        norm += d_model if config.norm == "layernorm" else 0
    n_norms = 2 * config.n_layers + (config.placement == "pre")
    head_norms = 2 * d_head * config.n_layers if config.qk_norm else 0
    return ParameterCount(
        token_embedding=vocabulary,
        position_embedding=config.context * d_model if config.positions == "learned" else 0,
        attention=config.n_layers * attention,
        mlp=config.n_layers * mlp,
        norms=n_norms * norm + head_norms,
        unembedding=0 if config.tie_embeddings else vocabulary,
        padding=padding if config.tie_embeddings else 2 * padding,
    )
