"""How many bytes a training step holds, in closed form, from the configs alone.

Each amount is a list of named terms that can be read as an equation. The tests compare it with the
tensors that PyTorch really keeps. It holds for a model in eager mode, one lane, documents of one
row each, and the options that `require_covered` lets pass. Symbols, in formulas and below:

    B sequences, T tokens in each, D d_model, H query heads, K key heads, d width of a head,
    F d_ff, V rows of a token matrix, C tokens in the context, e bytes of a number in the
    products' dtype, m matrices of an MLP, N parameters; S pairs of a query and a key that the
    striped attention weighs, T₃₂ T in steps of 32.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.runtime.device import Precision

RecomputeKind = Literal["none", "blocks", "selective"]
UpdateRule = Literal["adamw", "sgd", "muon"]

fused_kinds = ("flash", "efficient", "cudnn")
# Written down again rather than imported, so that a change over there shows here.
stripe_height = {4: 64, 2: 128}  # queries in a stripe, by the bytes of a number


@dataclass(frozen=True)
class Term:
    """A part of an amount of memory, such as `Term("queries", 6144, "e B H T d")`."""

    name: str
    n_bytes: int
    formula: str


def total(terms: Iterable[Term]) -> int:
    """The bytes of all terms together."""
    return sum(term.n_bytes for term in terms)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What goes through a model at once, and by which kernels.

    Attributes:
        batch, seq: of a micro-batch.
        fused_norms: whether RMSNorm is one kernel; None: on a GPU it is, on a processor it is not.
        recompute_every: of how many blocks one recomputes.
    """

    batch: int
    seq: int
    precision: Precision = "fp32"
    attention: AttentionKind = "math"
    device: Literal["cpu", "cuda"] = "cpu"
    fused_norms: bool | None = None
    recompute: RecomputeKind = "none"
    recompute_every: int = 1

    @property
    def number_bytes(self) -> int:
        """Of a number in the dtype of the matrix products."""
        return 4 if self.precision in ("fp32", "tf32") else 2

    @property
    def has_fused_norms(self) -> bool:
        """Whether RMSNorm keeps its input alone, rather than its product with 1 / rms as well."""
        return self.device == "cuda" if self.fused_norms is None else self.fused_norms


class Symbols:
    """The value of each letter in a formula: a sum of products, written `4 B T + 2 D F`."""

    def __init__(self, config: ModelConfig, work: Workload) -> None:
        height = stripe_height[work.number_bytes]
        firsts = range(0, work.seq, height)
        seen = [min(first + height, work.seq) for first in firsts]
        self.values = {
            "B": work.batch,
            "T": work.seq,
            "T²": work.seq**2,
            "T₃₂": 32 * math.ceil(work.seq / 32),
            "S": sum((end - first) * end for first, end in zip(firsts, seen, strict=True)),
            "D": config.d_model,
            "H": config.n_heads,
            "K": config.key_heads,
            "d": config.head_width,
            "F": config.d_hidden,
            "V": config.padded_vocab,
            "C": config.context,
            "e": work.number_bytes,
            "m": 3 if config.mlp == "swiglu" else 2,
        }  # fmt: skip

    def term(self, name: str, formula: str, times: int = 1) -> Term:
        """A term whose bytes are what its formula comes to, taken so many times."""
        n_bytes = times * sum(
            math.prod(self.values[part] if part in self.values else int(part) for part in product)
            for product in map(str.split, formula.split("+"))
        )
        return Term(name, n_bytes, formula if times == 1 else f"{times} ({formula})")


def require_covered(config: ModelConfig, work: Workload) -> None:
    """Refuse what the closed forms do not describe.

    Raises:
        ValueError: if they would be wrong for this model or workload.
    """
    wrong = ""
    if config.dropout:
        wrong = f"model.dropout is {config.dropout}, which keeps masks"
    elif config.window is not None and config.window < work.seq:
        wrong = f"model.window is {config.window}, which makes a mask for {work.seq} tokens"
    elif work.seq > config.context:
        wrong = f"the text has {work.seq} tokens, but model.context is {config.context}"
    elif work.device == "cuda" and work.attention in fused_kinds and config.head_width % 8:
        wrong = f"the head size is {config.head_width}, which the GPU's kernels pad"
    if wrong:
        raise ValueError(
            f"{wrong}; the closed forms cover dropout 0, no window, texts within the context, "
            "and on a GPU head sizes in steps of 8: trace the model instead"
        )


# What stays from step to step.


def tensor_sizes(config: ModelConfig) -> list[tuple[int, bool]]:
    """Numbers in each parameter tensor, and whether it is a matrix of a block."""
    d_model, d_queries = config.d_model, config.n_heads * config.head_width
    d_heads = d_queries + 2 * config.key_heads * config.head_width
    n_ups = 2 if config.mlp == "swiglu" else 1
    matrices = [d_model * d_heads, d_queries * d_model]
    matrices += [d_model * config.d_hidden] * (n_ups + 1)
    vectors = [config.head_width] * (2 if config.qk_norm else 0)
    if config.bias:
        vectors += [d_heads, d_model, *[config.d_hidden] * n_ups, d_model]
    norm = {"none": [], "rmsnorm": [d_model], "layernorm": [d_model] * (1 + config.bias)}
    vectors += 2 * norm[config.norm]
    outside = [config.padded_vocab * d_model] * (1 if config.tie_embeddings else 2)
    outside += [config.context * d_model] * (config.positions == "learned")
    outside += norm[config.norm] if config.placement == "pre" else []
    block = [(size, True) for size in matrices] + [(size, False) for size in vectors]
    return [(size, False) for size in outside] + config.n_layers * block


def static_memory(
    config: ModelConfig,
    *,
    rule: UpdateRule = "adamw",
    momentum: bool = True,
    average: bool = False,
    gradients: bool = True,
    rounding: int = 1,
) -> list[Term]:
    """What a training run holds whatever goes through the model, all of it in fp32.

    Args:
        momentum: whether sgd has any.
        average: whether an average of the weights is kept.
        gradients: whether they are there, as they are until the update has used them.
        rounding: each tensor takes a multiple of so many bytes; PyTorch gives memory on a GPU
            out in steps of 512.
    """
    sizes = tensor_sizes(config)

    def held(numbers: Iterable[int], n_bytes: int = 4) -> int:
        return sum(rounding * math.ceil(n_bytes * n / rounding) for n in numbers)

    every = [size for size, _ in sizes]
    by_muon = [size for size, in_block in sizes if in_block and rule == "muon"]
    by_adamw = [
        size for size, in_block in sizes if rule == "adamw" or (rule == "muon" and not in_block)
    ]
    by_sgd = every if rule == "sgd" and momentum else []
    table = config.context * config.head_width // 2 if config.positions == "rope" else 0
    candidates = [
        Term("weights", held(every), "4 N"),
        Term("gradients", held(every) if gradients else 0, "4 N"),
        Term("AdamW's two means", 2 * held(by_adamw), "8 N_adamw"),
        Term("AdamW's count of steps", held([1] if by_adamw else []), "4"),
        Term("Muon's momentum", held(by_muon), "4 N_muon"),
        Term("sgd's momentum", held(by_sgd), "4 N"),
        Term("average of the weights", held(every) if average else 0, "4 N"),
        Term("rotary tables in fp64", 2 * held([table], 8), "8 C d"),
    ]  # fmt: skip
    return [term for term in candidates if term.n_bytes]


# What waits for the backward pass.


def block_activations(config: ModelConfig, work: Workload) -> list[Term]:
    """What one block keeps between its forward and its backward pass, if it forgets nothing.

    What all blocks share (the rotary tables) is among `outer_activations`.

    Raises:
        ValueError: if the closed form does not cover the options.
    """
    require_covered(config, work)
    symbols = Symbols(config, work)
    return [
        *_norm_terms(config, work, symbols, "attention"),
        *_head_terms(config, work, symbols),
        *_mixing_terms(config, work, symbols),
        *_norm_terms(config, work, symbols, "MLP"),
        *_mlp_terms(config, symbols),
        *_weight_copies(work, symbols),
    ]


def _norm_terms(config: ModelConfig, work: Workload, symbols: Symbols, place: str) -> list[Term]:
    """A norm, in fp32 whatever comes, and what the products next to it keep of the stream."""
    terms = [symbols.term(f"what {place} multiplies", "e B T D")]
    if config.norm == "none":
        return terms
    terms += [symbols.term(f"{place} norm's input in fp32", "4 B T D")]
    if config.norm == "layernorm":
        return [*terms, symbols.term(f"{place} norm's means and deviations", "8 B T")]
    terms += [symbols.term(f"{place} norm's 1 / rms", "4 B T")]
    if not work.has_fused_norms:
        terms += [symbols.term(f"{place} norm's result before its weights", "4 B T D")]
    return terms


def _head_terms(config: ModelConfig, work: Workload, symbols: Symbols) -> list[Term]:
    """Queries, keys and values as the attention multiplies them."""
    # einops repeats a single head of a single text by a view, which is none of its own.
    one_head = work.attention == "plain" and work.batch * config.key_heads == 1
    shared = config.n_heads > config.key_heads and not one_head
    is_new = config.positions == "rope" or config.qk_norm  # no longer part of the projection
    wide = work.attention == "math"  # which computes in fp32
    fused = work.attention in fused_kinds
    # A view of the projection's result serves, unless heads of several texts have to become one
    # axis; it keeps all of the result alive.
    one_axis = not fused and work.batch > 1 and config.key_heads > 1
    always_new = wide and work.number_bytes == 2
    own_queries = not fused or is_new
    own_keys = shared or is_new or one_axis or wide
    own_values = shared or one_axis or always_new
    e = "4" if wide else "e"
    terms = _head_norm_terms(config, work, symbols) if config.qk_norm else []
    kept_whole = not (own_queries and own_keys and own_values)
    if kept_whole or (config.qk_norm and work.number_bytes == 4):
        terms.append(symbols.term("projection to all heads", "e B T H d + 2 e B T K d"))
    if own_queries:
        terms.append(symbols.term("queries", f"{e} B T H d"))
    if own_keys:
        terms.append(symbols.term("keys", f"{e} B T {'H' if shared else 'K'} d"))
    if own_values:
        terms.append(symbols.term("values", f"{e} B T {'H' if shared else 'K'} d"))
    return terms


def _head_norm_terms(config: ModelConfig, work: Workload, symbols: Symbols) -> list[Term]:
    terms = [symbols.term("head norms' 1 / rms", "4 B T H + 4 B T K")]
    if work.number_bytes == 2:
        terms.append(symbols.term("head norms' input in fp32", "4 B T H d + 4 B T K d"))
    if not work.has_fused_norms:
        terms.append(symbols.term("head norms' result before weights", "4 B T H d + 4 B T K d"))
    return terms


def _mixing_terms(config: ModelConfig, work: Workload, symbols: Symbols) -> list[Term]:
    """The attention's weights, or what a fused kernel keeps to compute them again."""
    output = symbols.term("what the output projection multiplies", "e B T H d")
    weights = {"plain": "e B H T²", "striped": "e B H S", "math": "4 B H T²"}
    if work.attention in weights:
        return [symbols.term("attention weights", weights[work.attention]), output]
    terms = [output, *_sums_and_seeds(work, symbols)]
    # These lay their result out as the queries are, and queries that were turned lie by head.
    by_head = min(config.n_heads, work.seq) > 1 and (config.positions == "rope" or config.qk_norm)
    if work.attention in ("flash", "cudnn") and by_head:
        terms.append(symbols.term("attention's result, by head", "e B T H d"))
    return terms


def _sums_and_seeds(work: Workload, symbols: Symbols) -> list[Term]:
    width = "T₃₂" if work.attention == "efficient" else "T"
    terms = [symbols.term("log of the softmax's sums", f"4 B H {width}")]
    if work.device == "cuda":
        terms.append(symbols.term("random state", "24" if work.attention == "flash" else "16"))
    return terms


def _mlp_terms(config: ModelConfig, symbols: Symbols) -> list[Term]:
    """The hidden layer of an MLP: what a nonlinearity and the product after it start from."""
    product = symbols.term("what the way down multiplies", "e B T F")
    if config.mlp == "swiglu":
        names = ("gate", "SiLU of the gate", "way up")
        return [*(symbols.term(name, "e B T F") for name in names), product]
    name = "ReLU, to be squared" if config.mlp == "relu2" else "the nonlinearity's input"
    return [symbols.term(name, "e B T F"), product]


def _weight_copies(work: Workload, symbols: Symbols) -> list[Term]:
    """Matrices in the products' dtype, which are kept to differentiate by the other factor."""
    if work.number_bytes == 4:
        return []
    return [symbols.term("16-bit copies of the matrices", "4 D H d + 4 D K d + 2 m D F")]


def recomputed_activations(config: ModelConfig, work: Workload) -> list[Term]:
    """What a block keeps that will compute the rest again.

    Raises:
        ValueError: if the closed form does not cover the options.
    """
    require_covered(config, work)
    symbols = Symbols(config, work)
    terms = [symbols.term("what enters the block", "e B T D")]
    if work.recompute == "blocks":
        return terms
    terms.append(symbols.term("projection to all heads", "e B T H d + 2 e B T K d"))
    scores = {"plain": "e B H T²", "striped": "e B H S", "math": "4 B H T²"}
    if work.attention in scores:
        terms.append(symbols.term("attention scores", scores[work.attention]))
        mixed = "4 B T H d" if work.attention == "math" else "e B T H d"
        terms.append(symbols.term("attention's result", mixed))
    else:
        terms.append(symbols.term("attention's result", "e B T H d"))
        terms += _sums_and_seeds(work, symbols)
    return [
        *terms,
        symbols.term("output projection", "e B T D"),
        symbols.term("ways up", "e B T F", times=2 if config.mlp == "swiglu" else 1),
        symbols.term("way down", "e B T D"),
    ]


def outer_activations(config: ModelConfig, work: Workload) -> list[Term]:
    """What is kept outside the blocks: by the last norm, and what all blocks share."""
    require_covered(config, work)
    symbols = Symbols(config, work)
    terms = []
    if config.positions == "rope":
        terms.append(symbols.term("cosines and sines", "e T d"))
    if config.placement == "pre" and config.norm != "none":
        terms += _norm_terms(config, work, symbols, "last")[1:]
    return terms


def loss_activations(config: ModelConfig, work: Workload) -> list[Term]:
    """The gradients that the loss computes on its way forward and keeps instead of logits."""
    symbols = Symbols(config, work)
    return [
        symbols.term("gradient of the last hidden states", "e B T D"),
        symbols.term("gradient of the token matrix", "4 V D"),
    ]


def inner_activations(config: ModelConfig, work: Workload) -> list[Term]:
    """What all blocks keep together, those that recompute apart from those that do not."""
    n_again = 0
    if work.recompute != "none":
        n_again = math.ceil(config.n_layers / work.recompute_every)
    n_whole = config.n_layers - n_again
    terms: list[Term] = []
    if n_again:
        each = total(recomputed_activations(config, work))
        terms.append(Term("blocks that recompute", n_again * each, f"{n_again} ({each})"))
    if n_whole:
        each = total(block_activations(config, work))
        terms.append(Term("blocks", n_whole * each, f"{n_whole} ({each})"))
    return terms


def saved_activations(config: ModelConfig, work: Workload) -> list[Term]:
    """All that waits for the backward pass once the loss is there.

    The token ids, which are part of the batch, are not in it.

    Raises:
        ValueError: if the closed form does not cover the options.
    """
    return [
        *inner_activations(config, work),
        *outer_activations(config, work),
        *loss_activations(config, work),
    ]
