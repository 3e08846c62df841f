"""How much work the matrix products of a model are, by component, from its config alone.

A product of an m x k and a k x n matrix is 2 m k n FLOPs. What is not a matrix product (norms,
softmax, activations, the optimizer) is a fraction of a percent of it and is not counted.
"""

from dataclasses import dataclass

from modelwright.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class ForwardFlops:
    """FLOPs of one forward pass by component."""

    projections: int  # queries, keys, values and the attention's output
    attention_scores: int
    attention_values: int
    mlp: int
    unembedding: int

    @property
    def total(self) -> int:
        return (
            self.projections
            + self.attention_scores
            + self.attention_values
            + self.mlp
            + self.unembedding
        )


def forward_flops(config: ModelConfig, *, batch: int, seq: int) -> ForwardFlops:
    """Count the matrix products of a forward pass in closed form; tests compare it with a trace.

    Attention counts every pair of positions, those that the causal mask or `model.window` hides
    included: that is the convention of the published figures, and what the plain kernel computes.
    A kernel that skips what is hidden does less than is counted here, so a short window flatters
    the MFU.

    Raises:
        ValueError: if the config leaves its vocabulary to a tokenizer.
    """
    n_tokens, d_model = batch * seq, config.d_model
    d_queries = config.n_heads * config.head_width
    d_keys = config.key_heads * config.head_width

    # Query heads that share keys still multiply with them one by one.
    all_pairs = config.n_layers * 2 * n_tokens * seq * d_queries
    n_matrices = 3 if config.mlp == "swiglu" else 2
    return ForwardFlops(
        projections=config.n_layers * 2 * n_tokens * d_model * (2 * d_queries + 2 * d_keys),
        attention_scores=all_pairs,
        attention_values=all_pairs,
        mlp=config.n_layers * 2 * n_tokens * d_model * config.d_hidden * n_matrices,
        unembedding=2 * n_tokens * d_model * config.padded_vocab,
    )


def training_flops(config: ModelConfig, *, batch: int, seq: int) -> int:
    """FLOPs of a forward and a backward pass: the latter differentiates by both factors.

    What is computed a second time, by checkpointing or by a fused attention's backward, is not
    counted, so that MFU is about the model rather than about how it is trained.

    Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    return 3 * forward_flops(config, batch=batch, seq=seq).total
