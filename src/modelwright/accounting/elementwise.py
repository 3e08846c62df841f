"""What a training step computes besides matrix products, by a table that says what is counted.

An addition, multiplication, division, comparison, root, exponential, logarithm, tanh or error
function is one FLOP each. That is the convention of counting by hand, not what a processor takes:
an exponential costs it many instructions, and all of these wait for memory rather than for
arithmetic. Beside the matrix products they show what counting only those leaves out.

Not counted: copies, masks, random numbers, casts, the addition of gradients of several parts of a
batch, and what recomputed blocks do a second time.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from modelwright.accounting.flops import PassFlops, visible_pairs
from modelwright.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Work:
    """Operations on rows of numbers, a word for each, so that the table is the count."""

    each: str = ""  # on every number
    sums: str = ""  # over a row: one less than it has numbers
    once: str = ""  # on every row

    def flops(self, *, n_rows: int, n_numbers: int) -> int:
        """Args:
        n_numbers: of all rows together.
        """
        each, sums, once = (len(words.split()) for words in (self.each, self.sums, self.once))
        return each * n_numbers + sums * (n_numbers - n_rows) + once * n_rows


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is done on the way forward, and on the way back with what was kept."""

    forward: Work
    backward: Work

    def flops(self, *, n_rows: int, n_numbers: int) -> PassFlops:
        return PassFlops(
            forward=self.forward.flops(n_rows=n_rows, n_numbers=n_numbers),
            backward=self.backward.flops(n_rows=n_rows, n_numbers=n_numbers),
        )


# Backwards, norms also sum the gradient of their weights over positions.
operations = {
    "layernorm": Operation(
        forward=Work(
            each="subtract-mean square divide-by-deviation times-weight",
            sums="mean variance",
            once="divide divide epsilon root reciprocal",
        ),
        backward=Work(
            each="subtract-mean divide-by-deviation times-gradient add-to-weight "
            "gradient-times-weight times-normalised times-mean subtract-mean subtract-product "
            "divide-by-deviation",
            sums="mean-gradient mean-product",
            once="divide divide",
        ),
    ),
    "rmsnorm": Operation(
        forward=Work(
            each="square divide-by-root times-weight",
            sums="mean",
            once="divide epsilon root reciprocal",
        ),
        backward=Work(
            each="divide-by-root times-gradient add-to-weight gradient-times-weight "
            "times-normalised times-mean subtract divide-by-root",
            sums="mean-product",
            once="divide",
        ),
    ),
    "softmax": Operation(
        forward=Work(each="subtract-largest exponential divide", sums="largest total"),
        backward=Work(each="times-gradient subtract times-weight", sums="total"),
    ),
    # A pair of channels is turned by two products each and a sum each; back by the same.
    "rotary": Operation(
        forward=Work(each="times-cosine times-sine add"),
        backward=Work(each="times-cosine times-sine add"),
    ),
    "gelu": Operation(
        forward=Work(each="scale erf add-one times-x halve"),
        backward=Work(
            each="scale erf add-one halve square times-minus-half exponential "
            "divide-by-root-two-pi times-x add times-gradient"
        ),
    ),
    "gelu_tanh": Operation(
        forward=Work(each="square cube scale-cube add scale tanh add-one times-x halve"),
        backward=Work(
            each="square cube scale-cube add scale tanh add-one halve square-tanh "
            "subtract-from-one scale-square add-one scale halve-x times-slope times-inner add "
            "times-gradient"
        ),
    ),
    "silu": Operation(
        forward=Work(each="negate exponential add-one divide"),
        backward=Work(
            each="negate exponential add-one divide subtract-from-one times-x add-one "
            "times-sigmoid times-gradient"
        ),
    ),
    "relu2": Operation(
        forward=Work(each="larger-than-zero square"),
        backward=Work(each="larger-than-zero double times-gradient"),
    ),
    "swiglu": Operation(
        forward=Work(each="negate exponential add-one divide times-up"),
        backward=Work(
            each="negate exponential add-one divide times-gate times-gradient gradient-times-up "
            "subtract-from-one times-gate add-one times-sigmoid times-gradient"
        ),
    ),
    # A gradient meets a second one where the stream branches, and a bias sums it over positions.
    "addition": Operation(forward=Work(each="add"), backward=Work(each="add")),
    "lookup": Operation(forward=Work(), backward=Work(each="add")),
    "scale": Operation(forward=Work(each="times"), backward=Work(each="times")),
    "dropout": Operation(forward=Work(each="mask scale"), backward=Work(each="mask scale")),
    "loss": Operation(
        forward=Work(
            each="subtract-largest exponential",
            sums="largest total",
            once="logarithm subtract-target add-to-loss",
        ),
        backward=Work(each="divide times-scale", once="subtract-one-at-target"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class ElementwiseFlops:
    """FLOPs of a step that are no matrix products, by component."""

    embedding: PassFlops  # both tables
    norms: PassFlops
    rotary: PassFlops
    softmax: PassFlops  # the scaling of the queries and the sharing of keys included
    activation: PassFlops
    bias: PassFlops
    residual: PassFlops
    dropout: PassFlops
    loss: PassFlops

    @property
    def components(self) -> dict[str, PassFlops]:
        """All of them by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def forward(self) -> int:
        return sum(component.forward for component in self.components.values())

    @property
    def backward(self) -> int:
        return sum(component.backward for component in self.components.values())

    @property
    def total(self) -> int:
        return self.forward + self.backward


def elementwise_flops(
    config: ModelConfig, *, batch: int, seq: int, causal: bool = False
) -> ElementwiseFlops:
    """Count by the table what a forward and a backward pass do besides matrix products.

    Args:
        causal: as in `flops.forward_flops`: whether hidden pairs are left out of the softmax.

    Raises:
        ValueError: if the config leaves its vocabulary to a tokenizer.
    """
    n_tokens, n_layers, d_model = batch * seq, config.n_layers, config.d_model
    n_pairs = n_layers * batch * (visible_pairs(seq, config.window) if causal else seq * seq)
    d_queries, d_keys = config.n_heads * config.head_width, config.key_heads * config.head_width
    dropped = n_tokens * d_model * (1 + 2 * n_layers) + n_pairs * config.n_heads
    tokens_in_blocks = n_tokens * n_layers
    has_table = config.positions == "learned"
    return ElementwiseFlops(
        embedding=_plus(
            _each("lookup", n_tokens * d_model),
            _each("addition", n_tokens * d_model if has_table else 0),
        ),
        norms=_norms(config, n_tokens),
        rotary=_each(
            "rotary", tokens_in_blocks * (d_queries + d_keys) if config.positions == "rope" else 0
        ),
        softmax=_plus(
            _each("scale", tokens_in_blocks * d_queries),
            operations["softmax"].flops(
                n_rows=tokens_in_blocks * config.n_heads, n_numbers=n_pairs * config.n_heads
            ),
            # Heads that share keys and values add up their gradients.
            PassFlops(forward=0, backward=tokens_in_blocks * 2 * (d_queries - d_keys)),
        ),
        activation=_each(config.mlp, tokens_in_blocks * config.d_hidden),
        bias=_each("addition", n_tokens * _biases(config)),
        residual=_each("addition", tokens_in_blocks * 2 * d_model),
        dropout=_each("dropout", dropped if config.dropout else 0),
        loss=operations["loss"].flops(n_rows=n_tokens, n_numbers=n_tokens * config.padded_vocab),
    )


def _each(name: str, n_numbers: int) -> PassFlops:
    return operations[name].flops(n_rows=0, n_numbers=n_numbers)


def _plus(*parts: PassFlops) -> PassFlops:
    return PassFlops(
        forward=sum(part.forward for part in parts), backward=sum(part.backward for part in parts)
    )


def _norms(config: ModelConfig, n_tokens: int) -> PassFlops:
    """Those of the stream and those on the queries and keys of each head."""
    n_rows = n_tokens * _n_norms(config)
    n_heads = config.n_heads + config.key_heads
    n_head_rows = n_tokens * config.n_layers * n_heads if config.qk_norm else 0
    on_heads = operations["rmsnorm"].flops(
        n_rows=n_head_rows, n_numbers=n_head_rows * config.head_width
    )
    if config.norm == "none":
        return on_heads
    on_stream = operations[config.norm].flops(n_rows=n_rows, n_numbers=n_rows * config.d_model)
    return _plus(on_stream, on_heads)


def _n_norms(config: ModelConfig) -> int:
    return 2 * config.n_layers + (config.placement == "pre")


def _biases(config: ModelConfig) -> int:
    """Numbers that a bias of a linear layer or a LayerNorm is added to, for each position."""
    if not config.bias:
        return 0
    n_matrices_in = 2 if config.mlp == "swiglu" else 1
    heads = (config.n_heads + 2 * config.key_heads) * config.head_width
    in_block = heads + n_matrices_in * config.d_hidden + 2 * config.d_model
    in_norms = _n_norms(config) * config.d_model if config.norm == "layernorm" else 0
    return config.n_layers * in_block + in_norms


# Each parameter, each step. The rate times the decay is folded into no constant here, as when
# counted by hand; AdamW's corrections for its first steps are numbers of the step.
updates = {
    "adamw": "keep-mean new-gradient add "
    "square keep-squares new-square add "
    "rate-times-decay times-weight subtract root epsilon divide times-rate subtract",
    "sgd": "decay add-to-gradient keep-momentum add times-rate subtract",
}
clipping = "square add scale"


def optimizer_flops(n_parameters: int, rule: Literal["adamw", "sgd"]) -> int:
    """FLOPs of an update; a few for each parameter, and so nothing beside a batch of tokens.

    Source: Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2, for
    AdamW; Sutskever et al. 2013, equations 1 and 2, with weight decay, for sgd.
    """
    return n_parameters * len(updates[rule].split())


def clip_flops(n_parameters: int) -> int:
    """FLOPs of the global gradient norm and of scaling down to it."""
    return n_parameters * len(clipping.split())


def orthogonalising_flops(rows: int, columns: int, *, n_iterations: int = 5) -> int:
    """FLOPs of the matrix products by which Muon makes the update of one matrix orthogonal.

    X becomes a X + (b X Xᵀ + c (X Xᵀ)²) X, for X no taller than wide.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    short, long = sorted((rows, columns))
    return n_iterations * (2 * 2 * short * short * long + 2 * short**3)
