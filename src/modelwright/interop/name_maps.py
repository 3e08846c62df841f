"""What other programs call the parameters of our Transformer, and how they lay them out.

A family is a `Layout`; with a config it gives `Place`s, one for each of our tensors, and these
carry weights in both directions without rounding anything. The differences are few:

- Names, and how many matrices the queries, keys and values make up: one here and in GPT-2, three
  in the others.
- GPT-2's published linear layers hold the transposed matrix.
- Rotary pairs: channel i turns with channel i + d_head/2 here and in Hugging Face's models, and
  with its neighbour in llama.cpp's "llama", so that queries and keys change their order.
- Our token matrices may have rows of padding; theirs stop at the last token.
- Where a family always has a bias and our model none, its bias is zero.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from modelwright.checkpoint.bundle import distinct_weights
from modelwright.model.config import ModelConfig
from modelwright.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One family's names for our modules, and its habits."""

    outer: Mapping[str, str]  # modules that are there once
    block: str  # what the names in a block begin with, {} being its number
    inner: Mapping[str, str | tuple[str, ...]]  # several names share the rows of our matrix
    transposed: bool = False  # the matrices in the blocks
    neighbours_turn: bool = False  # rotary pairs are neighbouring channels
    always_biased: frozenset[str] = frozenset()  # modules with a bias even where ours has none
    prefix: str = ""  # what weights of the model without its head lack in their names


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one of our tensors is among theirs."""

    ours: str | None  # None: theirs are zeros, and ours has nothing there
    theirs: tuple[str, ...]  # parts of ours along its rows
    rows: tuple[int, ...]  # of each part
    turned: tuple[bool, ...]  # whether a part's rows are rotary pairs in their order
    padding: int = 0  # rows that only ours has
    transposed: bool = False
    d_head: int = 1


_norms = frozenset(("attention_norm", "mlp_norm", "norm"))
_llama_outer = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "unembedding": "lm_head",
}
_llama_attention = {
    "attention_norm": "input_layernorm",
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "attention.output": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
}
llama = Layout(
    outer=_llama_outer,
    block="model.layers.{}.",
    inner={
        **_llama_attention,
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    },
    prefix="model.",
)
starcoder2 = Layout(
    outer=_llama_outer,
    block="model.layers.{}.",
    inner={**_llama_attention, "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"},
    always_biased=_norms,
    prefix="model.",
)
_gpt2_inner = {
    "attention_norm": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}
gpt2 = Layout(
    outer={
        "embedding": "transformer.wte",
        "positions": "transformer.wpe",
        "norm": "transformer.ln_f",
        "unembedding": "lm_head",
    },
    block="transformer.h.{}.",
    inner=_gpt2_inner,
    transposed=True,
    always_biased=frozenset(_gpt2_inner) | _norms,
    prefix="transformer.",
)
layouts = {
    "gpt2": gpt2,
    "llama": llama,
    "mistral": llama,
    "qwen3": llama,
    "starcoder2": starcoder2,
}


def our_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """Our parameters by name, shared ones once, with shapes and no values."""
    with torch.device("meta"):
        return distinct_weights(Transformer(config))


def places(layout: Layout, config: ModelConfig) -> list[Place]:
    """A place for each of our tensors, and for each bias that only they have."""
    found = our_tensors(config)
    every: list[Place] = []
    for name, tensor in found.items():
        module, _, kind = name.rpartition(".")
        every.append(_place(layout, config, module, kind, name, len(tensor)))
        bias = f"{module}.bias"
        if kind == "weight" and _part(module) in layout.always_biased and bias not in found:
            every.append(_place(layout, config, module, "bias", None, len(tensor)))
    return every


def to_theirs(
    where: Sequence[Place], weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Our weights under their names and in their layout, some of them views of ours."""
    for place in where:
        if place.ours is None:
            for name, n_rows in zip(place.theirs, place.rows, strict=True):
                yield name, torch.zeros(n_rows)
            continue
        parts = weights[place.ours][: sum(place.rows)].split(place.rows)
        for name, part, is_turned in zip(place.theirs, parts, place.turned, strict=True):
            if is_turned:
                part = rearrange(
                    part,
                    "(head half pair) ... -> (head pair half) ...",
                    half=2,
                    pair=place.d_head // 2,
                )
            yield name, part.t() if place.transposed else part


def to_ours(where: Sequence[Place], tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Their tensors, whose names and shapes are right, under our names and in our layout.

    Raises:
        ValueError: if a bias that ours lacks is not zero.
    """
    for place in where:
        parts = [tensors[name] for name in place.theirs]
        if place.ours is None:
            for name, part in zip(place.theirs, parts, strict=True):
                if part.any():
                    raise ValueError(
                        f"{name} is not zero, but the linear layers have no bias, and model.bias "
                        "means both these and the norms; only zeros can be left out"
                    )
            continue
        turned_back = [
            rearrange(
                part,
                "(head pair half) ... -> (head half pair) ...",
                half=2,
                pair=place.d_head // 2,
            )
            if is_turned
            else part
            for part, is_turned in zip(parts, place.turned, strict=True)
        ]
        whole = torch.cat([part.t() if place.transposed else part for part in turned_back])
        if place.padding:
            whole = torch.cat([whole, whole.new_zeros(place.padding, *whole.shape[1:])])
        yield place.ours, whole.contiguous()


def _place(
    layout: Layout, config: ModelConfig, module: str, kind: str, ours: str | None, n_rows: int
) -> Place:
    part = _part(module)
    if part == module:
        is_of_tokens = module in ("embedding", "unembedding")
        padding = n_rows - config.known_vocab if is_of_tokens else 0
        return Place(
            ours=ours,
            theirs=(f"{layout.outer[module]}.{kind}",),
            rows=(n_rows - padding,),
            turned=(False,),
            padding=padding,
        )
    names = layout.inner[part]
    names = (names,) if isinstance(names, str) else names
    rows, turned = (n_rows,), (False,)
    if len(names) > 1:
        rows = tuple(
            n * config.head_width for n in (config.n_heads, config.key_heads, config.key_heads)
        )
        turned = (layout.neighbours_turn, layout.neighbours_turn, False)
    start = layout.block.format(module.split(".")[1])
    return Place(
        ours=ours,
        theirs=tuple(f"{start}{name}.{kind}" for name in names),
        rows=rows,
        turned=turned,
        transposed=layout.transposed and kind == "weight" and "norm" not in part,
        d_head=config.head_width,
    )


def _part(module: str) -> str:
    """A module's name within its block, or its whole name outside of one."""
    return module.split(".", 2)[2] if module.startswith("blocks.") else module
