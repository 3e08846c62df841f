"""The keys and values of texts that are being written, and attention that reads them.

All memory is taken at the start, in the dtype of the matrix products. A text has a slot; the slots
in use are always the first ones, so that a step works on a slice and copies nothing.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from modelwright.generation.transfer import on_device
from modelwright.model.attention import Attend, Visibility
from modelwright.model.config import ModelConfig


class KvCache:
    """Keys and values of every layer, slot, key head and token; the lengths are the host's."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        n_slots: int,
        n_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Args:
        n_tokens: the longest text that a slot can hold.
        """
        shape = (config.n_layers, n_slots, config.key_heads, n_tokens, config.head_width)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.window = config.window
        self.n_slots = n_slots
        self.n_tokens = n_tokens
        self.lengths = [0] * n_slots
        """How many tokens of each slot's text are here."""

    def copy(self, source: int, target: int) -> None:
        """Give one slot the text of another."""
        length = self.lengths[source]
        for kept in (self.keys, self.values):
            kept[:, target, :, :length] = kept[:, source, :, :length]
        self.lengths[target] = length

    def reorder(self, sources: list[int]) -> None:
        """Give the first slots, as many as are named, the texts that the named ones have now."""
        lengths = [self.lengths[source] for source in sources]
        longest = max(lengths)
        picked = on_device(sources, torch.int64, self.keys.device)
        for kept in (self.keys, self.values):
            kept[:, : len(sources), :, :longest] = kept[:, picked, :, :longest]
        self.lengths[: len(sources)] = lengths


@runtime_checkable
class Past(Protocol):
    """What attention does with the tokens before: the part that differs from training."""

    def __call__(
        self, n_tokens: int, documents: Int[Tensor, "batch seq"] | None, device: torch.device
    ) -> Bool[Tensor, "#batch 1 seq seq"] | None:
        """What new tokens see of each other, as `Visibility` says it; None is all up to itself."""
        ...

    def attend(
        self,
        layer: int,
        queries: Float[Tensor, "batch head seq d_head"],
        keys: Float[Tensor, "batch kv_head seq d_head"],
        values: Float[Tensor, "batch kv_head seq d_head"],
        visible: Bool[Tensor, "#batch 1 seq seq"] | None,
    ) -> Float[Tensor, "batch head seq d_head"]:
        """Keep the new keys and values and mix the values that the queries ask for."""
        ...


class Prefill:
    """Whole texts from their first token: attention as in training, keys and values are kept."""

    def __init__(self, cache: KvCache, slots: list[int], n_tokens: int, attend: Attend) -> None:
        self.cache = cache
        self.slots = on_device(slots, torch.int64, cache.keys.device)
        self.n_tokens = n_tokens
        self.visibility = Visibility(cache.window)
        self.fresh_attend = attend
        for slot in slots:
            cache.lengths[slot] = n_tokens

    def __call__(
        self, n_tokens: int, documents: Int[Tensor, "batch seq"] | None, device: torch.device
    ) -> Bool[Tensor, "#batch 1 seq seq"] | None:
        return self.visibility(n_tokens, documents, device)

    def attend(
        self,
        layer: int,
        queries: Float[Tensor, "batch head seq d_head"],
        keys: Float[Tensor, "batch kv_head seq d_head"],
        values: Float[Tensor, "batch kv_head seq d_head"],
        visible: Bool[Tensor, "#batch 1 seq seq"] | None,
    ) -> Float[Tensor, "batch head seq d_head"]:
        """Attention among the new tokens, which are all there are."""
        for kept, new in ((self.cache.keys, keys), (self.cache.values, values)):
            kept[layer, :, :, : self.n_tokens].index_copy_(0, self.slots, new)
        return self.fresh_attend(queries, keys, values, visible, 0.0)


class Decode:
    """One more token of each text in the first slots: its query meets all that is kept.

    A slot that is full already has its last token replaced; its answer means nothing.
    """

    def __init__(self, cache: KvCache, n_rows: int) -> None:
        self.cache = cache
        places = [min(length, cache.n_tokens - 1) for length in cache.lengths[:n_rows]]
        self.positions = torch.tensor(places, device=cache.keys.device)
        self.rows = torch.arange(n_rows, device=cache.keys.device)
        window = cache.n_tokens if cache.window is None else cache.window
        self.first, self.end = max(0, min(places) + 1 - window), max(places) + 1
        self.visible = None
        if min(places) < max(places):
            # Only then do rows hide anything that others see.
            distance = self.positions[:, None] - torch.arange(
                self.first, self.end, device=cache.keys.device
            )
            self.visible = ((distance >= 0) & (distance < window))[:, None, None]
        self.same_place = places[0] if self.visible is None else None
        for row, place in enumerate(places):
            cache.lengths[row] = place + 1

    def __call__(
        self, n_tokens: int, documents: Int[Tensor, "batch seq"] | None, device: torch.device
    ) -> None:
        """A token sees itself; what it sees of the past is known here alone."""

    def attend(
        self,
        layer: int,
        queries: Float[Tensor, "batch head 1 d_head"],
        keys: Float[Tensor, "batch kv_head 1 d_head"],
        values: Float[Tensor, "batch kv_head 1 d_head"],
        visible: Bool[Tensor, "#batch 1 1 1"] | None,
    ) -> Float[Tensor, "batch head 1 d_head"]:
        """The query heads that share a key head stand in a row, as if they were its tokens."""
        n_rows, n_heads, _, d_head = queries.shape
        grouped = queries.reshape(n_rows, keys.shape[1], -1, d_head)
        seen_keys = self._extended(self.cache.keys[layer], keys)
        seen_values = self._extended(self.cache.values[layer], values)
        mixed = scaled_dot_product_attention(grouped, seen_keys, seen_values, self.visible)
        return mixed.reshape(n_rows, n_heads, 1, d_head)

    def _extended(
        self,
        kept: Float[Tensor, "slot kv_head token d_head"],
        new: Float[Tensor, "batch kv_head 1 d_head"],
    ) -> Float[Tensor, "batch kv_head past d_head"]:
        """What is kept of the rows, the new token put in its place."""
        if self.same_place is not None:
            kept[: len(new), :, self.same_place] = new[:, :, 0]
        else:
            kept[self.rows, :, self.positions] = new[:, :, 0]
        return kept[: len(new), :, self.first : self.end]
