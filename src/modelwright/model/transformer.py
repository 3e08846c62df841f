"""The decoder-only Transformer: token ids in, next-token logits out."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from modelwright.model.attention import (
    Attend,
    Attention,
    AttentionKind,
    Visibility,
    make_attend,
)
from modelwright.model.config import ModelConfig
from modelwright.model.cross_entropy import (
    AddProduct,
    SlopeOf,
    add_product,
    surprise_and_slope,
)
from modelwright.model.linear import Embedding, Linear
from modelwright.model.mlp import make_mlp
from modelwright.model.norms import make_norm
from modelwright.model.positions import (
    LearnedPositions,
    NoTable,
    NoTurns,
    Rotary,
    Turns,
    rotary_frequencies,
    stretched,
)


class PreNormBlock(nn.Module):
    """Attention over positions, then an MLP at each; both read a normalised stream and add to it.

    Source: Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", figure 1b.
    """

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Module,
        attention_norm: nn.Module,
        mlp_norm: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention_norm = attention_norm
        self.attention = attention
        self.mlp_norm = mlp_norm
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)
        self.beside: Beside = beside

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        turns: Turns | None,
        visible: Bool[Tensor, "#batch 1 seq seq"] | None,
    ) -> Float[Tensor, "batch seq d_model"]:
        x = self._added(x, self.attention_norm, self.attention, turns, visible)
        return self._added(x, self.mlp_norm, self.mlp)

    def _added(self, x: Tensor, norm: nn.Module, part: nn.Module, *others: Any) -> Tensor:
        """The stream, and added to it what a part makes of its norm."""
        x, normed = self.beside(norm, x)
        update = part(normed, *others)
        del normed  # which nobody needs any more where there is no way back
        return x + self.dropout(update)


Beside = Callable[[Any, Tensor], tuple[Tensor, Tensor]]  # of a norm, and a stream


def beside(
    norm: nn.Module, x: Float[Tensor, "batch seq d_model"]
) -> tuple[Float[Tensor, "batch seq d_model"], Float[Tensor, "batch seq d_model"]]:
    """The stream, and beside it what a norm makes of it."""
    return x, norm(x)


class PostNormBlock(nn.Module):
    """Attention over positions, then an MLP at each; the stream is normalised after each sum.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.1.
    """

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Module,
        attention_norm: nn.Module,
        mlp_norm: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.attention_norm = attention_norm
        self.mlp = mlp
        self.mlp_norm = mlp_norm
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        turns: Turns | None,
        visible: Bool[Tensor, "#batch 1 seq seq"] | None,
    ) -> Float[Tensor, "batch seq d_model"]:
        x = self.attention_norm(x + self.dropout(self.attention(x, turns, visible)))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))


class Transformer(nn.Module):
    """A stack of blocks between a token embedding and its way back to the vocabulary.

    Weights are fp32. Matrix products are in `dtype`, and so is the residual stream unless it has a
    format of its own; norms, attention weights and the loss accumulate in fp32. A new model holds
    no values yet: `initialise.initialise` or a checkpoint fills them.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        dtype: torch.dtype = torch.float32,
        stream_dtype: torch.dtype | None = None,
        attention: AttentionKind = "math",
    ) -> None:
        """Args:
        dtype: in which the matrix products are done.
        stream_dtype: in which blocks add to the residual stream; None is that of the products.
        attention: which of several equal ways to compute it.

        Raises:
            ValueError: if the config leaves the vocabulary to a tokenizer that is not here.
        """
        super().__init__()
        self.config = config
        self.dtype = dtype
        stream = dtype if stream_dtype is None else stream_dtype
        self.embedding = Embedding(config.padded_vocab, config.d_model, dtype=stream)
        self.positions = (
            LearnedPositions(config.context, config.d_model)
            if config.positions == "learned"
            else NoTable()
        )
        self.dropout = nn.Dropout(config.dropout)
        self.turns = make_rotary(config) if config.positions == "rope" else NoTurns()
        self.visibility = Visibility(config.window)
        attend = make_attend(attention)
        self.blocks = nn.ModuleList(
            make_block(config, attend=attend, dtype=dtype) for _ in range(config.n_layers)
        )
        # After the last post-norm block the stream is normalised already.
        self.norm = make_norm(
            config.norm if config.placement == "pre" else "none",
            config.d_model,
            bias=config.bias,
            epsilon=config.norm_epsilon,
        )
        self.unembedding = Linear(config.d_model, config.padded_vocab, bias=False, dtype=dtype)
        if config.tie_embeddings:
            self.unembedding.weight = self.embedding.weight
        self.slope_of: SlopeOf = surprise_and_slope
        self.add_product: AddProduct = add_product
        self.loss_chunk: int | None = None  # positions whose logits exist at once

    def hidden(
        self,
        ids: Int[Tensor, "batch seq"],
        *,
        positions: Int[Tensor, "batch seq"] | None = None,
        documents: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """The residual stream from which the logits are read.

        Args:
            positions: of each token in its document; None counts from the first of each row.
            documents: a number for each token; tokens with different ones do not see each other.
                None makes each row one document.

        Raises:
            ValueError: if the text is longer than the context.
        """
        n_tokens = ids.shape[1]
        if n_tokens > self.config.context:
            raise ValueError(
                f"the text has {n_tokens} tokens, but model.context is {self.config.context}"
            )
        x = self.dropout(self.positions(self.embedding(ids), positions))
        turns = self.turns(n_tokens, positions, self.dtype)
        visible = self.visibility(n_tokens, documents, ids.device)
        for block in self.blocks:
            x = block(x, turns, visible)
        return self.norm(x).to(self.dtype)

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        *,
        positions: Int[Tensor, "batch seq"] | None = None,
        documents: Int[Tensor, "batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """Logits of the token after each position; arguments as in `hidden`."""
        return self.logits(self.hidden(ids, positions=positions, documents=documents))

    def logits(self, hidden: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes vocab"]:
        """What a hidden state says of each token; the padding of the vocabulary is cut off."""
        return self.unembedding(hidden)[..., : self.config.known_vocab]


def make_block(config: ModelConfig, *, attend: Attend, dtype: torch.dtype) -> nn.Module:
    """One block of the config's shape."""
    attention = Attention(
        d_model=config.d_model,
        d_head=config.head_width,
        n_heads=config.n_heads,
        n_kv_heads=config.key_heads,
        qk_norm_epsilon=config.norm_epsilon if config.qk_norm else None,
        bias=config.bias,
        dropout=config.dropout,
        attend=attend,
        dtype=dtype,
    )
    mlp = make_mlp(config.mlp, config.d_model, config.d_hidden, bias=config.bias, dtype=dtype)
    attention_norm, mlp_norm = (
        make_norm(config.norm, config.d_model, bias=config.bias, epsilon=config.norm_epsilon)
        for _ in range(2)
    )
    block = PreNormBlock if config.placement == "pre" else PostNormBlock
    return block(attention, mlp, attention_norm, mlp_norm, config.dropout)


def make_rotary(config: ModelConfig) -> Rotary:
    """The config's rotary positions; a factor of one leaves the wavelengths as they are."""
    frequencies = stretched(
        rotary_frequencies(config.head_width, theta=config.rope_theta),
        factor=config.rope_factor,
        low=config.rope_low_frequency,
        high=config.rope_high_frequency,
        original_context=config.rope_original_context,
    )
    return Rotary(config.context, frequencies)
