"""How much work the matrix products of a model are, by component, from its config alone.

A product of an m x k and a k x n matrix is 2 m k n FLOPs. What is not a matrix product (norms,
softmax, activations, the optimizer) is a small share of it and is counted in `elementwise.py`.

Three counts of a training step stand here, each answering its own question:

- `six_n_d`: six FLOPs a parameter and token, which needs no shape; `six_n_d_gap` says what it is
  off by.
- `step_flops` and `training_flops`: what the model needs, however it is trained. MFU is of these.
- `hardware_flops`: what is done, with everything that is computed twice. HFU is of these.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelwright.accounting.parameters import count_parameters
from modelwright.model.config import AttentionKind, ModelConfig

if TYPE_CHECKING:
    from modelwright.model.recompute import RecomputeKind
    from modelwright.runtime.device import Precision


@dataclass(frozen=True, kw_only=True)
class ForwardFlops:
    """FLOPs of one forward pass by component."""

    projections: int  # queries, keys, values and the attention's output
    attention_scores: int
    attention_values: int
    mlp: int
    unembedding: int

    @property
    def total(self) -> int:
        return (
            self.projections
            + self.attention_scores
            + self.attention_values
            + self.mlp
            + self.unembedding
        )


@dataclass(frozen=True, kw_only=True)
class PassFlops:
    """FLOPs of one component by what they are for."""

    forward: int
    backward: int
    recompute: int = 0  # a second time, for the backward pass

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.recompute


@dataclass(frozen=True, kw_only=True)
class StepFlops:
    """FLOPs of a forward and a backward pass, by component."""

    projections: PassFlops  # queries, keys, values and the attention's output
    attention_scores: PassFlops
    attention_values: PassFlops
    mlp: PassFlops
    unembedding: PassFlops

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
    def recompute(self) -> int:
        return sum(component.recompute for component in self.components.values())

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.recompute


def visible_pairs(seq: int, window: int | None = None) -> int:
    """How many pairs of a position and one that it sees are in a row: itself and those before.

    Args:
        window: how many positions each sees, itself included; None has no limit.
    """
    reach = seq if window is None else min(window, seq)
    # The first positions see all before them, the others a full window.
    return reach * (reach + 1) // 2 + (seq - reach) * reach


def forward_flops(
    config: ModelConfig, *, batch: int, seq: int, causal: bool = False
) -> ForwardFlops:
    """Count the matrix products of a forward pass in closed form; tests compare it with a trace.

    Args:
        causal: count only the pairs of positions that see each other, without a window
            (seq + 1) / (2 seq) of them. False counts all, those that the causal mask or
            `model.window` hides included: that is the convention of the published figures, and
            what the plain kernel computes. A kernel that skips what is hidden does less than is
            counted then, so a short window flatters the MFU.

    Raises:
        ValueError: if the config leaves its vocabulary to a tokenizer.
    """
    pairs = visible_pairs(seq, config.window) if causal else seq * seq
    return _forward(config, n_tokens=batch * seq, pairs=batch * pairs)


def _forward(config: ModelConfig, *, n_tokens: int, pairs: int) -> ForwardFlops:
    d_queries = config.n_heads * config.head_width
    d_keys = config.key_heads * config.head_width
    per_weight = config.n_layers * 2 * n_tokens
    # Query heads that share keys still multiply with them one by one.
    attention = config.n_layers * 2 * pairs * d_queries
    n_matrices = 3 if config.mlp == "swiglu" else 2
    return ForwardFlops(
        projections=per_weight * config.d_model * (2 * d_queries + 2 * d_keys),
        attention_scores=attention,
        attention_values=attention,
        mlp=per_weight * config.d_model * config.d_hidden * n_matrices,
        unembedding=2 * n_tokens * config.d_model * config.padded_vocab,
    )


def step_flops(config: ModelConfig, *, batch: int, seq: int, causal: bool = False) -> StepFlops:
    """FLOPs that a forward and a backward pass need: the latter differentiates by both factors.

    The chunked loss does the backward products of the unembedding during the forward pass, from
    logits that are still there; they are counted as backward all the same.

    Args:
        causal: as in `forward_flops`.
    """
    return _step(forward_flops(config, batch=batch, seq=seq, causal=causal))


def _step(forward: ForwardFlops, recompute: dict[str, int] | None = None) -> StepFlops:
    again = recompute or {}
    return StepFlops(
        **{
            name: PassFlops(forward=flops, backward=2 * flops, recompute=again.get(name, 0))
            for name, flops in dataclasses.asdict(forward).items()
        }
    )


def training_flops(config: ModelConfig, *, batch: int, seq: int, causal: bool = False) -> int:
    """FLOPs that a forward and a backward pass need, all together.

    What is computed a second time, by checkpointing or by a fused attention's backward, is not
    counted, so that MFU is about the model rather than about how it is trained.

    Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    return step_flops(config, batch=batch, seq=seq, causal=causal).total


def hardware_flops(
    config: ModelConfig,
    *,
    batch: int,
    seq: int,
    attention: AttentionKind,
    recompute: "RecomputeKind" = "none",
    every: int = 1,
    causal: bool = False,
    masked: bool = False,
    precision: "Precision" = "bf16",
) -> StepFlops:
    """FLOPs that a forward and a backward pass do, with all that is computed twice.

    - A fused kernel keeps no attention weights and computes Q Kᵀ again on the way back: five
      products where the others do four. Source: Dao et al. 2022, "FlashAttention", algorithm 4.
    - "blocks" computes every `every`-th block again, up to the last number that its gradient
      asks for. "selective" keeps all products, and so repeats none.
    - The unembedding is never computed again.

    Args:
        recompute, every: as `model.recompute.recompute` takes them.
        causal: count what a kernel that skips hidden pairs does. The fused ones are taken to
            skip them all (their tiles along the diagonal are whole, so it is a little more), the
            striped one skips what is outside its stripes, plain and math skip nothing, and none
            of them does where a mask says what is hidden. False counts all pairs.
        masked: whether a mask keeps documents apart; a short window makes one by itself.
        precision: of the products, on which the height of the stripes depends.
    """
    masked = masked or (config.window is not None and config.window < seq)
    skips = causal and not masked
    pairs = _computed_pairs(config, attention, seq, precision) if skips else seq * seq
    forward = _forward(config, n_tokens=batch * seq, pairs=batch * pairs)
    again = dict.fromkeys(dataclasses.asdict(forward), 0)
    if recompute == "blocks":
        n_blocks = math.ceil(config.n_layers / every)
        for name in ("projections", "attention_scores", "attention_values", "mlp"):
            again[name] += getattr(forward, name) // config.n_layers * n_blocks
        if not _keeps_last_product(config):
            n_tokens = batch * seq
            again["mlp"] -= n_blocks * 2 * n_tokens * config.d_model * config.d_hidden
    if attention in ("flash", "efficient", "cudnn"):
        again["attention_scores"] += forward.attention_scores
    return _step(forward, again)


def _computed_pairs(
    config: ModelConfig, attention: AttentionKind, seq: int, precision: "Precision"
) -> int:
    """How many pairs of a row a kernel multiplies where only later positions are hidden."""
    # With dropout the striped kernel leaves the work to the plain one.
    if attention in ("plain", "math") or (attention == "striped" and config.dropout):
        return seq * seq
    if attention != "striped":
        return visible_pairs(seq)
    import torch

    from modelwright.model.striped import stripes
    from modelwright.runtime.device import choose_dtype

    places = stripes(seq, choose_dtype(precision, torch.device("cpu")))
    return sum((end - first) * end for first, end in places)


def _keeps_last_product(config: ModelConfig) -> bool:
    """Whether something after the MLP's last matrix asks for its product on the way back.

    PyTorch stops computing a block again once all that was kept is there. A sum needs neither of
    its terms for the gradient, but a norm and a dropout need what goes into them.
    """
    is_normed = config.placement == "post" and config.norm != "none"
    return is_normed or config.dropout > 0


def six_n_d(n_parameters: int, n_tokens: int) -> int:
    """FLOPs of training by the rule: 2 forward and 4 backward for each parameter and token.

    Source: Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1, where N
    leaves the embeddings out; Hoffmann et al. 2022 and most later work have them in.
    """
    return 6 * n_parameters * n_tokens


@dataclass(frozen=True, kw_only=True)
class SixNdGap:
    """The rule of 6 N D beside the products that a model's training needs, and why they differ."""

    six_n_d: int
    not_multiplied: int  # counted for looked-up tables, norms and biases, which are no products
    attention: int  # of positions with each other, which no parameter stands for
    padding: int  # rows of the unembedding that are no tokens

    @property
    def exact(self) -> int:
        """What `training_flops` gives."""
        return self.six_n_d - self.not_multiplied + self.attention + self.padding

    @property
    def relative(self) -> float:
        """By what share of the exact count the rule is too high; below zero it is too low."""
        return self.six_n_d / self.exact - 1


def six_n_d_gap(config: ModelConfig, *, batch: int, seq: int, causal: bool = False) -> SixNdGap:
    """Compare 6 N D with `training_flops`; N counts every parameter once, embeddings included."""
    n_tokens = batch * seq
    forward = forward_flops(config, batch=batch, seq=seq, causal=causal)
    n_parameters = count_parameters(config).total
    vocabulary = config.known_vocab * config.d_model
    in_blocks = (forward.projections + forward.mlp) // (2 * n_tokens)
    return SixNdGap(
        six_n_d=six_n_d(n_parameters, n_tokens),
        not_multiplied=6 * n_tokens * (n_parameters - in_blocks - vocabulary),
        attention=3 * (forward.attention_scores + forward.attention_values),
        padding=6 * n_tokens * (config.padded_vocab - config.known_vocab) * config.d_model,
    )


def mfu(model_flops: int, seconds: float, peak_flops_per_second: float) -> float:
    """Model FLOPs utilization: the share of the peak that goes into what the model needs.

    Work done twice is not counted, so it compares ways to train the same model.

    Args:
        model_flops: what `training_flops` gives. Counting all pairs of positions is the
            convention of the source; `causal=True` is the stricter one.

    Source: Chowdhery et al. 2022, "PaLM", section 4.1 and appendix B.
    """
    return model_flops / (seconds * peak_flops_per_second)


def hfu(hardware_flops: int, seconds: float, peak_flops_per_second: float) -> float:
    """Hardware FLOPs utilization: the share of the peak that is kept busy, whatever it computes.

    Args:
        hardware_flops: the total of what `hardware_flops` gives, work done twice included.

    Source: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer
    Models", section 6, where model and hardware FLOPs are told apart.
    """
    return hardware_flops / (seconds * peak_flops_per_second)
