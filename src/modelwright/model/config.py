"""The shape of a model: everything that must be known to build it and nothing else."""

import math
from typing import Literal

from modelwright.config.schema import settings

NormKind = Literal["layernorm", "rmsnorm"]
PositionKind = Literal["learned", "rope", "none"]
MlpKind = Literal["gelu", "swiglu"]


@settings
class ModelConfig:
    """A decoder-only Transformer; GPT-2 and Llama are two settings of it."""

    vocab_size: int | None = None
    """Number of tokens the model knows; left out, it is the tokenizer's."""
    context: int = 256
    """Longest text the model sees at once, in tokens."""
    d_model: int = 256
    """Width of the residual stream."""
    n_layers: int = 4
    """Number of blocks."""
    n_heads: int = 4
    """Attention heads in a block."""
    n_kv_heads: int | None = None
    """Key and value heads in a block, shared by groups of query heads; left out, n_heads."""
    d_ff: int | None = None
    """Width inside the MLP; left out, 4 d_model, or 8/3 d_model in steps of 64 for swiglu."""
    norm: NormKind = "rmsnorm"
    """Which normalisation stands before each attention, each MLP and the output."""
    positions: PositionKind = "rope"
    """How a token knows its place: rotated queries and keys, a learned table, or not at all."""
    rope_theta: float = 10_000.0
    """Slowest wavelength of the rotary positions, in units of 2 pi tokens."""
    mlp: MlpKind = "swiglu"
    """Two matrices around a GELU, or three with a SiLU gate."""
    bias: bool = False
    """Whether linear layers and LayerNorms have an additive bias."""
    tie_embeddings: bool = True
    """Whether input and output share one token matrix."""

    def __post_init__(self) -> None:
        for name in ("context", "d_model", "n_layers", "n_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} is {getattr(self, name)}; the least is 1")
        for name in ("vocab_size", "n_kv_heads", "d_ff"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"model.{name} is {value}; the least is 1")
        if self.d_model % self.n_heads:
            nearest = math.ceil(self.d_model / self.n_heads) * self.n_heads
            raise ValueError(
                f"model.d_model is {self.d_model}, which does not split into model.n_heads = "
                f"{self.n_heads} equal heads; the next width that does is {nearest}"
            )
        if self.n_heads % self.key_heads:
            divisors = [n for n in range(1, self.n_heads + 1) if self.n_heads % n == 0]
            raise ValueError(
                f"model.n_kv_heads is {self.key_heads}, but model.n_heads = {self.n_heads} query "
                f"heads share them evenly; choose one of {divisors}"
            )
        if self.positions == "rope" and self.d_head % 2:
            raise ValueError(
                f"model.d_model / model.n_heads is {self.d_head}, but rotary positions turn pairs "
                "of numbers; choose an even head size, or model.positions = 'learned'"
            )
        if self.rope_theta <= 1:
            raise ValueError(f"model.rope_theta is {self.rope_theta}; choose a number above 1")

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

    @property
    def key_heads(self) -> int:
        """Number of key and value heads."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def d_hidden(self) -> int:
        """Width inside the MLP."""
        if self.d_ff is not None:
            return self.d_ff
        if self.mlp == "gelu":
            return 4 * self.d_model
        # Three matrices instead of two: 2/3 of the width keeps the parameters about equal.
        return 64 * max(1, round(self.d_model * 8 / 3 / 64))
