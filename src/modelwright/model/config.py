"""The shape of a model: everything that must be known to build it and nothing else."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from modelwright.config.schema import settings
from modelwright.model.presets import presets

NormKind = Literal["layernorm", "rmsnorm", "none"]
Placement = Literal["pre", "post"]
PositionKind = Literal["learned", "rope", "none"]
MlpKind = Literal["gelu", "gelu_tanh", "silu", "relu2", "swiglu"]
InitialRule = Literal["small", "gpt2", "truncated"]
DrawOrder = Literal["in_turn", "by_name"]
AttentionKind = Literal["plain", "striped", "math", "flash", "efficient", "cudnn"]


@settings
class ModelConfig:
    """A decoder-only Transformer; GPT-2 and Llama are two settings of it."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = presets

    vocab_size: int | None = None
    """Number of tokens the model knows; left out, it is the tokenizer's."""
    vocab_multiple: int = 1
    """The token matrices get rows of zeros up to a multiple of this, which many GPUs multiply
    faster; they are no tokens: never predicted, and left out of the count of parameters."""
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
    d_head: int | None = None
    """Width of a head; left out, d_model / n_heads."""
    d_ff: int | None = None
    """Width inside the MLP; left out, 4 d_model, or 8/3 d_model in steps of 64 for swiglu."""
    norm: NormKind = "rmsnorm"
    """How the residual stream is normalised, if at all."""
    norm_epsilon: float = 1e-5
    """Added to the variance (or mean square) before its root divides."""
    placement: Placement = "pre"
    """Whether a norm stands before each attention and MLP and before the output, as in GPT-2, or
    after each sum, as in the first Transformer."""
    qk_norm: bool = False
    """Whether each head's queries and keys are scaled to unit mean square before they meet."""
    positions: PositionKind = "rope"
    """How a token knows its place: rotated queries and keys, a learned table, or not at all."""
    rope_theta: float = 10_000.0
    """Slowest wavelength of the rotary positions, in units of 2 pi tokens."""
    rope_factor: float = 1.0
    """How many times longer Llama 3's rule makes the slow rotary wavelengths; 1 leaves them."""
    rope_low_frequency: float = 1.0
    """Wavelengths longer than rope_original_context over this are made longer in full."""
    rope_high_frequency: float = 4.0
    """Wavelengths shorter than rope_original_context over this stay; those between, in part."""
    rope_original_context: int = 8192
    """The context that the unstretched wavelengths were trained with."""
    window: int | None = None
    """How many tokens a position sees, itself included; left out, all before it."""
    mlp: MlpKind = "swiglu"
    """Two matrices around GELU (exact, or its tanh form), SiLU or squared ReLU, or three with a
    SiLU gate."""
    bias: bool = False
    """Whether linear layers and LayerNorms have an additive bias."""
    tie_embeddings: bool = True
    """Whether input and output share one token matrix."""
    dropout: float = 0.0
    """Chance of zeroing a number while training: in the embedding, the attention weights, and what
    attention and MLP add to the stream."""

    def __post_init__(self) -> None:
        for name in ("vocab_multiple", "context", "d_model", "n_layers", "n_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} is {getattr(self, name)}; the least is 1")
        for name in ("vocab_size", "n_kv_heads", "d_head", "d_ff", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"model.{name} is {value}; the least is 1")
        if self.d_head is None and self.d_model % self.n_heads:
            # Rotary positions also want the size of a head to be even.
            step = self.n_heads * (2 if self.positions == "rope" else 1)
            nearest = math.ceil(self.d_model / step) * step
            raise ValueError(
                f"model.d_model is {self.d_model}, which does not split into model.n_heads = "
                f"{self.n_heads} equal heads; the next width that works is {nearest}, or set "
                "model.d_head"
            )
        if self.n_heads % self.key_heads:
            divisors = [n for n in range(1, self.n_heads + 1) if self.n_heads % n == 0]
            raise ValueError(
                f"model.n_kv_heads is {self.key_heads}, but model.n_heads = {self.n_heads} query "
                f"heads share them evenly; choose one of {divisors}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(
                f"model.dropout is {self.dropout}, but it is a chance; choose a number from 0 up "
                "to, but not, 1, such as 0.1"
            )
        if self.norm_epsilon <= 0:
            raise ValueError(
                f"model.norm_epsilon is {self.norm_epsilon}; choose a number above 0, such as 1e-5"
            )
        if self.positions == "rope":
            self._check_rope()

    def _check_rope(self) -> None:
        if self.head_width % 2:
            raise ValueError(
                f"the head size (model.d_head, or model.d_model / model.n_heads) is "
                f"{self.head_width}, but rotary positions turn pairs of numbers; choose an even "
                "head size, or model.positions = 'learned'"
            )
        if self.rope_theta <= 1:
            raise ValueError(f"model.rope_theta is {self.rope_theta}; choose a number above 1")
        if self.rope_factor < 1:
            raise ValueError(
                f"model.rope_factor is {self.rope_factor}, but wavelengths are only made longer; "
                "choose 1 (none) or more, such as 8"
            )
        if not 0 < self.rope_low_frequency < self.rope_high_frequency:
            raise ValueError(
                f"model.rope_low_frequency is {self.rope_low_frequency} and "
                f"model.rope_high_frequency {self.rope_high_frequency}; the low one is above 0 and "
                "below the high one, such as 1 and 4"
            )
        if self.rope_original_context < 1:
            raise ValueError(
                f"model.rope_original_context is {self.rope_original_context}; the least is 1"
            )

    @property
    def head_width(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads if self.d_head is None else self.d_head

    @property
    def key_heads(self) -> int:
        """Number of key and value heads."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def d_hidden(self) -> int:
        """Width inside the MLP."""
        if self.d_ff is not None:
            return self.d_ff
        if self.mlp != "swiglu":
            return 4 * self.d_model
        # Three matrices instead of two: 2/3 of the width keeps the parameters about equal.
        return 64 * max(1, round(self.d_model * 8 / 3 / 64))

    @property
    def known_vocab(self) -> int:
        """Number of tokens, once it is known.

        Raises:
            ValueError: if the config leaves the vocabulary to a tokenizer.
        """
        if self.vocab_size is None:
            raise ValueError(
                "model.vocab_size is not set; give the number of the tokenizer's tokens"
            )
        return self.vocab_size

    @property
    def padded_vocab(self) -> int:
        """Rows of the token matrices."""
        return math.ceil(self.known_vocab / self.vocab_multiple) * self.vocab_multiple

    @property
    def masked_beyond_causal(self) -> bool:
        """Whether a position may not see all positions before it even within one document."""
        return self.window is not None and self.window < self.context


@settings
class InitialConfig:
    """The weights before the first step."""

    rule: InitialRule = "small"
    """How wide the normal distribution of the matrices is: small, sqrt(2 / (5 d_model)); gpt2,
    0.02; truncated, 0.02 with nothing beyond three standard deviations. In all of them the
    projections that write to the residual stream are narrower by sqrt(2 n_layers)."""
    std: float | None = None
    """The standard deviation; left out, the rule's own."""
    draws: DrawOrder = "in_turn"
    """Whether the matrices draw from one stream of chance, one after the other, or each from a
    stream of its own name, so that two models share those that both have in the same shape."""

    def __post_init__(self) -> None:
        if self.std is not None and self.std <= 0:
            raise ValueError(f"initial.std is {self.std}; choose a number above 0, such as 0.02")
