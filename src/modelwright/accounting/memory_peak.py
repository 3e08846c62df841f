"""The fullest moment of a training step, from the closed forms of `memory.py`.

Memory is not fullest with everything that a step ever holds: gradients and activations take turns.
So the peak is the largest of a few moments, each with a list of what is there.
"""

from dataclasses import dataclass

from modelwright.accounting.memory import (
    Symbols,
    Term,
    UpdateRule,
    Workload,
    block_activations,
    fused_kinds,
    inner_activations,
    loss_activations,
    outer_activations,
    static_memory,
    total,
)
from modelwright.model.config import ModelConfig

chunk_bytes = {"cpu": 2**23, "cuda": 2**29}  # of logits that the loss has at once, in fp32
least_chunk = 64  # positions


@dataclass(frozen=True)
class Moment:
    """Everything that is in memory at one point of a step."""

    name: str
    terms: tuple[Term, ...]

    @property
    def n_bytes(self) -> int:
        """All of it together."""
        return total(self.terms)


def moments(
    config: ModelConfig,
    work: Workload,
    *,
    rule: UpdateRule = "adamw",
    momentum: bool = True,
    average: bool = False,
    accumulates: bool = False,
) -> list[Moment]:
    """The points of a step, in order, at which memory can be fullest: estimates.

    The backward pass trades the activations of one block after another for its gradients, at an
    even rate because they are alike, so it is fullest at its first block or at its last.

    Args:
        rule, momentum, average: as `static_memory` takes them. The first step of a run, which has
            no optimizer state yet, takes less.
        accumulates: whether the micro-batch is not the first of its step, so that gradients are
            there already.

    Raises:
        ValueError: if the closed forms do not cover the options.
    """
    still = static_memory(config, rule=rule, momentum=momentum, average=average, gradients=False)
    (gradients,) = [t for t in static_memory(config) if t.name == "gradients"]
    before = [gradients] if accumulates else []
    outer = outer_activations(config, work)
    kept = [*inner_activations(config, work), *outer]
    lost = loss_activations(config, work)
    symbols = Symbols(config, work)
    stream = symbols.term("gradient of the stream", "e B T D")
    table = symbols.term("gradient of the token matrix", "4 V D")
    # Of a shared matrix it waits for that of the embedding, at the very end.
    waiting = [table] if config.tie_embeddings or not accumulates else []
    block = [stream, *backward_temporaries(config, work)]
    first = block_activations(config, work)
    rotary = [term for term in outer if term.name == "cosines and sines"]
    last_waiting = [table] if config.tie_embeddings and accumulates else []
    found = {
        "loss": [*still, *before, *kept, *lost, *loss_temporaries(config, work)],
        "backward of the loss": [*still, *before, *kept, *lost, table, stream],
        "backward of the last block": [
            *still, *before, *waiting, *kept, *recomputed(config, work), *block
        ],
        "backward of the first block": [*still, gradients, *last_waiting, *first, *rotary, *block],
        "backward of the embedding": [
            *still, gradients, *last_waiting, *([table] if config.tie_embeddings else []), stream
        ],
        "update": [*still, gradients],
    }  # fmt: skip
    return [Moment(name, tuple(terms)) for name, terms in found.items()]


def peak_estimate(
    config: ModelConfig,
    work: Workload,
    *,
    rule: UpdateRule = "adamw",
    momentum: bool = True,
    average: bool = False,
    accumulates: bool = False,
) -> Moment:
    """The fullest of the `moments`; takes the same arguments."""
    found = moments(
        config, work, rule=rule, momentum=momentum, average=average, accumulates=accumulates
    )
    return max(found, key=lambda moment: moment.n_bytes)


def loss_temporaries(config: ModelConfig, work: Workload) -> list[Term]:
    """What the loss has beside the gradients that it keeps, at its fullest chunk of logits.

    The logits of the chunk before are there until those of the next one replace them, so the
    second chunk is fuller than the first.
    """
    symbols = Symbols(config, work)
    rows = config.padded_vocab
    n_tokens = work.batch * work.seq
    chunk = min(max(least_chunk, chunk_bytes[work.device] // (4 * rows)), n_tokens)
    first, second = chunk * rows, min(chunk, n_tokens - chunk) * rows
    terms = [symbols.term("last hidden states", "e B T D")]
    if work.number_bytes == 4:
        return [*terms, Term("logits of two chunks", 4 * (first + second), "4 chunk V")]
    # Logits in 16 bits, the same in fp32, and their slope in 16 bits.
    n_bytes = max(8 * first, 2 * first + 8 * second)
    product = 4 * first + 2 * rows * config.d_model
    return [
        *terms,
        symbols.term("16-bit copy of the token matrix", "2 V D"),
        Term("logits and their slopes", max(n_bytes, product), "10 chunk V"),
    ]


def recomputed(config: ModelConfig, work: Workload) -> list[Term]:
    """What a block that forgot has again in its backward pass."""
    if work.recompute == "none":
        return []
    each = total(block_activations(config, work))
    return [Term("one block, computed again", each, str(each))]


def backward_temporaries(config: ModelConfig, work: Workload) -> list[Term]:
    """The large gradients within one block, beyond the activations that they make room for."""
    symbols = Symbols(config, work)
    mlp = symbols.term(
        "gradients within the MLP", "e B T F", times=2 if config.mlp == "swiglu" else 1
    )
    if work.attention in fused_kinds:
        return [mlp]
    # The MLP is done by then, and what it kept is gone.
    number = 4 if work.attention == "math" else work.number_bytes
    gone = (4 if config.mlp == "swiglu" else 2) * work.number_bytes
    gone *= work.batch * work.seq * config.d_hidden
    pairs = work.batch * config.n_heads * work.seq**2
    scores = 2 * number * pairs if work.attention != "striped" else 0
    if scores - gone > mlp.n_bytes:
        return [Term("gradients of attention weights and scores, less the MLP", scores - gone, "")]
    return [mlp]
