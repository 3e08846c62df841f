"""One more token of each text, by operations that wait for nothing: what a CUDA graph can repeat.

`kv_cache.Decode` is the slow twin: there the host says where each text ends. Here the lengths are
on the device too, and the step itself moves them on. So that not the whole memory of a slot is read
when little is in it, a step has a `reach`, the most tokens that it looks at; graphs are recorded
for a few of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from modelwright.generation.kv_cache import KvCache
from modelwright.model.attention import Attention
from modelwright.model.gpu_kernels import dtypes, suits_gpu_kernel
from modelwright.model.positions import Turns, turned
from modelwright.model.transformer import Transformer

# The stream, what is added to it (None: nothing), the norm, the dtype of the second result. Gives
# the sum and the sum normalised.
AddNorm = Callable[[Tensor, Tensor | None, nn.Module, torch.dtype], tuple[Tensor, Tensor]]
# Query, key and value heads of the new tokens, the turns, keys and values of a layer, the places.
Mix = Callable[[Tensor, Turns | None, Tensor, Tensor, "Places"], Tensor]
Apply = Callable[[nn.Module, Tensor], Tensor]

least_reach = 256  # tokens; from there it doubles


class Places(NamedTuple):
    """Where the new tokens stand, and what they see."""

    places: Int[Tensor, " text"]
    reach: int
    """No place is as large as this."""
    window: int
    """How many tokens one sees, itself included."""


class Kernels(NamedTuple):
    """The parts of a step of which there are several editions, all with the same answer."""

    add_norm: AddNorm
    mix: Mix
    mlp: Apply
    product: Apply


class DecodeStep:
    """Logits of the next token of the texts in the first slots; see `CachedModel`."""

    def __init__(self, model: Transformer, parts: list[Attention], cache: KvCache) -> None:
        """Args:
        model: whose weights are in the dtypes of the products.
        parts: the attention of each of its blocks.
        """
        self.model = model
        self.parts = parts
        self.cache = cache
        device = cache.keys.device
        self.ids = torch.zeros(cache.n_slots, dtype=torch.int64, device=device)
        """The last token of each text, which is not in the cache yet."""
        self.lengths = torch.zeros(cache.n_slots, dtype=torch.int64, device=device)
        """How many tokens of each text are in the cache."""
        self.kernels = kernels_for(device, model.dtype)
        self.is_pre_norm = model.config.placement == "pre"

    def logits(self, n_rows: int, reach: int) -> Float[Tensor, "{n_rows} vocab"]:
        """Read one more token of each text into the cache and give the logits of the next.

        A slot that is full already has its last token replaced; its answer means nothing.

        Args:
            reach: more than the longest of the texts has in the cache.
        """
        model = self.model
        lengths = self.lengths[:n_rows]
        places = lengths.clamp(max=min(self.cache.n_tokens, reach) - 1)
        x = model.positions(model.embedding(self.ids[:n_rows, None]), places[:, None])[:, 0]
        turns = model.turns(1, places[:, None], model.dtype)
        seen = Places(places, reach, self.cache.window or self.cache.n_tokens)
        through = self._through_pre_norm if self.is_pre_norm else self._through_post_norm
        hidden = through(x, turns, seen)
        lengths.add_(1)
        logits = self.kernels.product(model.unembedding, hidden.to(model.dtype))
        return logits[..., : model.config.known_vocab]

    def _through_pre_norm(
        self, x: Float[Tensor, "text d_model"], turns: Turns | None, seen: Places
    ) -> Float[Tensor, "text d_model"]:
        """`PreNormBlock` by block; what a part adds is added where the next norm reads it."""
        add_norm, dtype = self.kernels.add_norm, self.model.dtype
        update: Tensor | None = None
        for layer, block in enumerate(self._blocks()):
            x, normed = add_norm(x, update, block.attention_norm, dtype)
            update = self._attended(layer, normed, turns, seen)
            x, normed = add_norm(x, update, block.mlp_norm, dtype)
            update = self.kernels.mlp(block.mlp, normed)
        return add_norm(x, update, self.model.norm, dtype)[1]

    def _through_post_norm(
        self, x: Float[Tensor, "text d_model"], turns: Turns | None, seen: Places
    ) -> Float[Tensor, "text d_model"]:
        """`PostNormBlock` by block."""
        add_norm, dtype = self.kernels.add_norm, x.dtype
        for layer, block in enumerate(self._blocks()):
            update = self._attended(layer, x, turns, seen)
            x = add_norm(x, update, block.attention_norm, dtype)[1]
            update = self.kernels.mlp(block.mlp, x)
            x = add_norm(x, update, block.mlp_norm, dtype)[1]
        return x

    def _blocks(self) -> list[Any]:
        """The blocks, which PyTorch knows only as modules."""
        return list(self.model.blocks)

    def _attended(
        self,
        layer: int,
        x: Float[Tensor, "text d_model"],
        turns: Turns | None,
        seen: Places,
    ) -> Float[Tensor, "text d_model"]:
        part = self.parts[layer]
        heads = self.kernels.product(part.qkv, x).unflatten(-1, (-1, part.d_head))
        if not isinstance(part.query_norm, nn.Identity):
            queries, keys, values = heads.split(part.head_counts, dim=1)
            heads = torch.cat((part.query_norm(queries), part.key_norm(keys), values), dim=1)
        mixed = self.kernels.mix(
            heads, turns, self.cache.keys[layer], self.cache.values[layer], seen
        )
        return self.kernels.product(part.output, mixed.flatten(1))


def reach_of(longest: int, n_tokens: int) -> int:
    """The smallest reach beyond a text's length: a power of two, or all that a slot holds."""
    reach = least_reach
    while reach <= longest:
        reach *= 2
    return min(reach, n_tokens)


def rows_of(n_texts: int, n_slots: int) -> int:
    """The smallest number of rows for that many texts: a power of two, or all the slots."""
    return min(1 << (n_texts - 1).bit_length(), n_slots)


def kernels_for(device: torch.device, dtype: torch.dtype) -> Kernels:
    """The fastest editions for products in a dtype on a device."""
    if dtype in dtypes and suits_gpu_kernel(device):
        from modelwright.generation import decode_kernels, product_kernels

        return Kernels(
            decode_kernels.add_norm,
            decode_kernels.mix,
            product_kernels.mlp,
            product_kernels.product,
        )
    return plain_kernels


def add_norm(
    x: Float[Tensor, "text d_model"],
    update: Float[Tensor, "text d_model"] | None,
    norm: nn.Module,
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "text d_model"], Float[Tensor, "text d_model"]]:
    """x + update, and the same normalised, in a dtype."""
    total = x if update is None else x + update
    return total, norm(total).to(dtype)


def mix(
    heads: Float[Tensor, "text head_of_each d_head"],
    turns: Turns | None,
    keys: Float[Tensor, "slot kv_head token d_head"],
    values: Float[Tensor, "slot kv_head token d_head"],
    seen: Places,
) -> Float[Tensor, "text head d_head"]:
    """Keep the new keys and values, and mix all that each text's query sees.

    Args:
        heads: those of queries, keys and values, in this order.
        keys: of one layer, turned already; changed in place, as `values` are.
    """
    n_rows, n_kv_heads = len(heads), keys.shape[1]
    n_heads = heads.shape[1] - 2 * n_kv_heads
    queries, new_keys, new_values = heads[:, :, None].split([n_heads, n_kv_heads, n_kv_heads], 1)
    rows = torch.arange(n_rows, device=heads.device)
    for kept, new in ((keys, turned(new_keys, turns)), (values, new_values)):
        kept[rows, :, seen.places] = new[:, :, 0]
    distance = seen.places[:, None] - torch.arange(seen.reach, device=heads.device)
    visible = ((distance >= 0) & (distance < seen.window))[:, None, None]
    mixed = scaled_dot_product_attention(
        # The query heads that share a key head stand in a row, as if they were its tokens.
        turned(queries, turns).reshape(n_rows, n_kv_heads, -1, heads.shape[-1]),
        keys[:n_rows, :, : seen.reach],
        values[:n_rows, :, : seen.reach],
        visible,
    )
    return mixed.reshape(n_rows, n_heads, -1)


def apply(module: nn.Module, x: Float[Tensor, "text d_in"]) -> Float[Tensor, "text d_out"]:
    """What a module makes of its input."""
    return module(x)


plain_kernels = Kernels(add_norm, mix, apply, apply)
