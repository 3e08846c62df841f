"""The decoder-only Transformer: token ids in, next-token logits out."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from modelwright.model.attention import Attend, Attention, AttentionKind, attention_kinds
from modelwright.model.config import ModelConfig
from modelwright.model.linear import Linear
from modelwright.model.mlp import make_mlp
from modelwright.model.norms import make_norm
from modelwright.model.positions import LearnedPositions, Rotary


class Block(nn.Module):
    """One pre-norm block: attention over positions, then an MLP at each, both added on."""

    def __init__(
        self, config: ModelConfig, *, rotate: nn.Module, attend: Attend, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.attention_norm = make_norm(config.norm, config.d_model, bias=config.bias)
        self.attention = Attention(
            d_model=config.d_model,
            n_heads=config.n_heads,
            n_kv_heads=config.key_heads,
            rotate=rotate,
            bias=config.bias,
            attend=attend,
            dtype=dtype,
        )
        self.mlp_norm = make_norm(config.norm, config.d_model, bias=config.bias)
        self.mlp = make_mlp(
            config.mlp, config.d_model, config.d_hidden, bias=config.bias, dtype=dtype
        )

    def forward(self, x: Float[Tensor, "batch seq d_model"]) -> Float[Tensor, "batch seq d_model"]:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Embedding(nn.Module):
    """One vector per token."""

    def __init__(self, n_tokens: int, d_model: int, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_tokens, d_model))
        self.dtype = dtype

    def forward(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_model"]:
        return functional.embedding(ids, self.weight).to(self.dtype)


class Transformer(nn.Module):
    """A stack of blocks between a token embedding and its way back to the vocabulary.

    Weights are fp32. Matrix products and the residual stream are in `dtype`; norms, attention
    weights and the loss accumulate in fp32. A new model holds no values yet:
    `initialise.initialise` or a checkpoint fills them.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        dtype: torch.dtype = torch.float32,
        attention: AttentionKind = "fused",
    ) -> None:
        """Args:
        dtype: in which the matrix products are done.
        attention: which of two equal ways to compute it.

        Raises:
            ValueError: if the config leaves the vocabulary to a tokenizer that is not here.
        """
        super().__init__()
        if config.vocab_size is None:
            raise ValueError(
                "model.vocab_size is not set; give the number of the tokenizer's tokens"
            )
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.d_model, dtype=dtype)
        self.positions = (
            LearnedPositions(config.context, config.d_model)
            if config.positions == "learned"
            else nn.Identity()
        )
        rotate = (
            Rotary(config.context, config.d_head, theta=config.rope_theta)
            if config.positions == "rope"
            else nn.Identity()
        )
        self.blocks = nn.ModuleList(
            Block(config, rotate=rotate, attend=attention_kinds[attention], dtype=dtype)
            for _ in range(config.n_layers)
        )
        self.norm = make_norm(config.norm, config.d_model, bias=config.bias)
        self.unembedding = Linear(config.d_model, config.vocab_size, bias=False, dtype=dtype)
        if config.tie_embeddings:
            self.unembedding.weight = self.embedding.weight

    def hidden(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq d_model"]:
        """The normalised residual stream from which the logits are read.

        Raises:
            ValueError: if the text is longer than the context.
        """
        if ids.shape[1] > self.config.context:
            raise ValueError(
                f"the text has {ids.shape[1]} tokens, but model.context is {self.config.context}"
            )
        x = self.positions(self.embedding(ids))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        """Logits of the token after each position."""
        return self.unembedding(self.hidden(ids))
