"""A model that remembers: the same `Transformer`, its attention reading a cache.

Nothing of the model is written anew. A second `Transformer` is made around the same weights, and
two of its parts are exchanged: each block's attention, and what says which tokens are visible.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from modelwright.generation.kv_cache import Decode, KvCache, Past, Prefill
from modelwright.generation.packing import can_pack, pack
from modelwright.model.attention import Attend, Attention
from modelwright.model.linear import Embedding, Linear
from modelwright.model.positions import Turns, turned
from modelwright.model.transformer import Transformer


class CachedAttention(nn.Module):
    """A block's attention, with what came before from a `Past` that changes from call to call."""

    def __init__(self, attention: Attention, layer: int) -> None:
        super().__init__()
        self.attention = attention
        self.layer = layer
        self.past: Past | None = None

    def forward(
        self,
        x: Float[Tensor, "batch seq d_model"],
        turns: Turns | None,
        visible: Bool[Tensor, "#batch 1 seq seq"] | None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """Args:
        visible: what the new tokens see of each other.
        """
        assert self.past is not None
        part = self.attention
        heads = part.qkv(x).unflatten(-1, (-1, part.d_head)).transpose(1, 2)
        queries, keys, values = heads.split(part.head_counts, dim=1)
        mixed = self.past.attend(
            self.layer,
            turned(part.query_norm(queries), turns),
            turned(part.key_norm(keys), turns),
            values,
            visible,
        )
        return part.output(mixed.transpose(1, 2).flatten(2))


class CachedModel:
    """Logits of the next token for texts in slots, each token computed once.

    The weights are those the model has when this is made, cast and packed once; where neither is
    called for, they are shared with it. What training did to the modules (programs, kernels,
    recomputation) stays behind, and there is no dropout.
    """

    def __init__(self, model: Transformer, *, n_slots: int, n_tokens: int | None = None) -> None:
        """Args:
        n_slots: how many texts at once.
        n_tokens: the longest text to be remembered; None is the model's context.
        """
        self.model = twin_of(model)
        self.attend: Attend = _blocks_of(model)[0].attention.attend
        self.cache = KvCache(
            model.config,
            n_slots=n_slots,
            n_tokens=min(n_tokens or model.config.context, model.config.context),
            dtype=model.dtype,
            device=self.device,
        )
        self.layers: list[CachedAttention] = []
        for layer, block in enumerate(_blocks_of(self.model)):
            block.attention = CachedAttention(block.attention, layer)
            self.layers.append(block.attention)
        if can_pack(self.device, model.dtype):
            pack(self.model, n_slots)

    @property
    def device(self) -> torch.device:
        return self.model.embedding.weight.device

    @torch.inference_mode()
    def prefill(
        self, slots: list[int], ids: Int[Tensor, "text seq"]
    ) -> Float[Tensor, "text vocab"]:
        """Read texts of one length into slots, whatever was there before."""
        assert ids.shape[1] <= self.cache.n_tokens and len(slots) == len(ids)
        self._remember(Prefill(self.cache, slots, ids.shape[1], self.attend))
        return self.model.logits(self.model.hidden(ids)[:, -1])

    @torch.inference_mode()
    def decode(self, ids: Int[Tensor, " text"]) -> Float[Tensor, "text vocab"]:
        """Read one more token of each text in the first slots, as many as there are ids."""
        past = Decode(self.cache, len(ids))
        self._remember(past)
        hidden = self.model.hidden(ids[:, None], positions=past.positions[:, None])
        return self.model.logits(hidden[:, 0])

    def _remember(self, past: Past) -> None:
        setattr(self.model, "visibility", past)  # noqa: B010 - it is called as a Visibility is
        for layer in self.layers:
            layer.past = past


def _blocks_of(model: Transformer) -> list[Any]:
    """The blocks, which PyTorch knows only as modules."""
    return list(model.blocks)


def twin_of(model: Transformer) -> Transformer:
    """A fresh `Transformer` of the same config and formats around the same weights.

    Matrices are cast to the dtype they are multiplied in; one that is shared stays shared.
    """
    stream_dtype = model.embedding.dtype
    with torch.device("meta"):
        twin = Transformer(model.config, dtype=model.dtype, stream_dtype=stream_dtype)
    twin.turns = model.turns  # its tables follow from the config
    weights = model.state_dict()
    cast: dict[tuple[int, torch.dtype], nn.Parameter] = {}
    for path, module in twin.named_modules():
        for name, _ in list(module.named_parameters(recurse=False)):
            weight = weights[f"{path}.{name}" if path else name].detach()
            is_product = isinstance(module, Linear | Embedding)
            dtype = module.dtype if is_product else weight.dtype
            key = (weight.data_ptr(), dtype)
            if key not in cast:
                cast[key] = nn.Parameter(weight.to(dtype), requires_grad=False)
            setattr(module, name, cast[key])
    return twin.eval()
