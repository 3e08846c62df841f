"""A model that remembers: the same `Transformer`, its attention reading a cache.

Nothing of the model is written anew. A second `Transformer` is made around the same weights, and
two of its parts are exchanged: each block's attention, and what says which tokens are visible.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from modelwright.generation.decode_step import DecodeStep, reach_of, rows_of
from modelwright.generation.kv_cache import Decode, KvCache, Past, Prefill
from modelwright.generation.packing import can_pack, pack
from modelwright.generation.recording import Recordings
from modelwright.generation.transfer import send
from modelwright.model.attention import Attend, Attention
from modelwright.model.linear import Embedding, Linear
from modelwright.model.positions import Turns, turned
from modelwright.model.transformer import Transformer
from modelwright.runtime.graphs import Recorder


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

    def __init__(
        self,
        model: Transformer,
        *,
        n_slots: int,
        n_tokens: int | None = None,
        record: Recorder | None = None,
    ) -> None:
        """Args:
        n_slots: how many texts at once.
        n_tokens: the longest text to be remembered; None is the model's context.
        record: what makes a step of decoding repeatable; None has each step asked for anew.
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
        self.recorded = None if record is None else RecordedDecode(self, Recordings(record))

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
        """Read one more token of each text in the first slots, as many as there are ids.

        Where steps are recorded, the next call overwrites the result, and what is in the slots
        after those of the ids may be lost.
        """
        if self.recorded is not None:
            return self.recorded.logits(ids)
        past = Decode(self.cache, len(ids))
        self._remember(past)
        hidden = self.model.hidden(ids[:, None], positions=past.positions[:, None])
        return self.model.logits(hidden[:, 0])

    def _remember(self, past: Past) -> None:
        setattr(self.model, "visibility", past)  # noqa: B010 - it is called as a Visibility is
        for layer in self.layers:
            layer.past = past


class RecordedDecode:
    """`CachedModel.decode` by a step that is recorded for a few numbers of texts and reaches."""

    def __init__(self, cached: CachedModel, recordings: Recordings) -> None:
        self.cache = cached.cache
        self.step = DecodeStep(
            cached.model, [layer.attention for layer in cached.layers], cached.cache
        )
        self.recordings = recordings
        self._lengths_there: list[int] = []

    def logits(self, ids: Int[Tensor, " text"]) -> Float[Tensor, "text vocab"]:
        """Logits after the texts in the first slots and one more token of each."""
        self.step.ids[: len(ids)].copy_(ids)
        return self.then(len(ids), (), lambda logits: logits)[: len(ids)]

    def then(
        self, n_texts: int, key: Hashable, use: Callable[[Tensor], Tensor]
    ) -> Shaped[Tensor, "row ..."]:
        """What is made of the logits after the texts in the first slots and the tokens in
        `step.ids`, recorded together with the step.

        Args:
            use: of the logits of at least those texts [row, vocab]; it has to be the same for the
                same key.

        Returns:
            The result for all rows, of which the first `n_texts` mean something.
        """
        n_rows = rows_of(n_texts, self.cache.n_slots)
        lengths = self.cache.lengths[:n_texts]
        reach = reach_of(max(lengths), self.cache.n_tokens)
        self._tell_lengths(lengths, n_rows)
        result = self.recordings((n_rows, reach, key), lambda: use(self.step.logits(n_rows, reach)))
        self._lengths_there = [length + 1 for length in self._lengths_there[:n_rows]]
        for row, length in enumerate(lengths):
            self.cache.lengths[row] = min(length + 1, self.cache.n_tokens)
        return result

    def _tell_lengths(self, lengths: list[int], n_rows: int) -> None:
        """Let the device know where texts end, if they did not just grow by the last step."""
        if self._lengths_there[: len(lengths)] != lengths or len(self._lengths_there) < n_rows:
            self._lengths_there = lengths + [0] * (n_rows - len(lengths))
            send(self._lengths_there, self.step.lengths[:n_rows])


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
