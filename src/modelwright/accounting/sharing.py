"""How several GPUs divide a step: what each rank holds, and what it sends, in closed form.

The ways, each dividing more than the one before:

    data parallel   every rank has the whole model and a part of the batch; gradients are added up
    ZeRO-1          and the optimizer's state is divided
    ZeRO-2          and the gradients are
    ZeRO-3          and the weights are: what PyTorch calls FSDP
    tensor parallel the ranks divide each block: attention heads, the columns of the MLP, and the
                    rows of the token matrices

A divided tensor is cut by its rows, as PyTorch's `fully_shard` (FSDP2) cuts it: each rank has the
same number of rows, rounded up, and the last ones have fewer or none. All that is said of a rank is
said of the first, which has most. Weights and gradients are fp32, and so is what is sent of them:
FSDP2's `MixedPrecisionPolicy(param_dtype=torch.bfloat16)` would gather 16-bit weights, which is
half of that, and is not assumed. What Muon's update would send, which needs whole matrices, is left
out.

Source: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter
Models", sections 5 (what is divided) and 7 (what is sent: 2 Ψ, 2 Ψ and 3 Ψ numbers); Shoeybi et al.
2019, "Megatron-LM", section 3, and Korthikanti et al. 2022, "Reducing Activation Recomputation in
Large Transformer Models", section 4.2, for tensor parallelism.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from modelwright.accounting.parameters import tensor_counts
from modelwright.model.config import ModelConfig

Stage = Literal[0, 1, 2, 3]
Shape = tuple[int, ...]

number_bytes = 4  # weights, gradients and the optimizer's state, in memory and on the way
# The first stage of ZeRO that divides a kind; all other kinds follow from the rank's portions.
divided_since = {"optimizer": 1, "average": 1, "gradients": 2, "weights": 3}
stage_names = ("data parallel", "ZeRO-1", "ZeRO-2", "FSDP")


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """A way to divide a step.

    Attributes:
        stage: of ZeRO; 0 is data parallel alone.
        n_tensor: ranks that divide each block among them; so many have the same part of the batch.
    """

    stage: Stage
    n_ranks: int
    n_tensor: int = 1

    def __post_init__(self) -> None:
        assert self.n_ranks % self.n_tensor == 0

    @property
    def n_data(self) -> int:
        """Parts of the batch."""
        return self.n_ranks // self.n_tensor

    @property
    def name(self) -> str:
        """As people call it."""
        if self.n_ranks == 1:
            return "alone"
        if self.n_tensor == 1:
            return stage_names[self.stage]
        if self.n_data == 1:
            return f"tensor parallel {self.n_tensor}"
        return f"{stage_names[self.stage]} {self.n_data} x tensor {self.n_tensor}"

    def n_parts(self, kind: str) -> int:
        """Among how many ranks what is held for some purpose is divided, beyond the portions."""
        stage = divided_since.get(kind)
        return self.n_data if stage is not None and self.stage >= stage else 1


def largest_share(shape: Shape, n_parts: int) -> int:
    """Numbers of a tensor that the first rank has; a single number is never divided."""
    if not shape:
        return 1
    rows, *others = shape
    return math.ceil(rows / n_parts) * math.prod(others)


def tensor_degrees(config: ModelConfig) -> list[int]:
    """Among how many tensor-parallel ranks a model's heads and columns divide evenly."""
    together = math.gcd(*_divided_counts(config).values())
    return [n for n in range(1, together + 1) if together % n == 0]


def _divided_counts(config: ModelConfig) -> dict[str, int]:
    return {"n_heads": config.n_heads, "n_kv_heads": config.key_heads, "d_ff": config.d_hidden}


def tensor_part(config: ModelConfig, n_tensor: int) -> ModelConfig:
    """What a rank of a tensor-parallel model computes, which is a model itself: a narrower one.

    It has a part of the heads, of the MLP's columns and of the token matrices' rows (as many as any
    rank has); the stream between them is as wide as before, and whole on each rank.

    Raises:
        ValueError: if heads or columns do not divide evenly.
    """
    for name, count in _divided_counts(config).items():
        if count % n_tensor:
            raise ValueError(
                f"model.{name} is {count}, which does not divide among {n_tensor} tensor-parallel "
                f"ranks; this model divides among any of {tensor_degrees(config)}"
            )
    return dataclasses.replace(
        config,
        n_heads=config.n_heads // n_tensor,
        n_kv_heads=config.key_heads // n_tensor,
        d_head=config.head_width,
        d_ff=config.d_hidden // n_tensor,
        vocab_size=math.ceil(config.padded_vocab / n_tensor),
        vocab_multiple=1,
    )


def state_bytes(
    shapes: Iterable[Shape],
    sharing: Sharing,
    *,
    weight: int = number_bytes,
    gradient: int = number_bytes,
    n_optimizer: int = 2,
    rounding: int = 1,
) -> dict[str, int]:
    """What a rank holds of weights, gradients and the optimizer's state, in bytes by kind.

    Args:
        shapes: of the parameters.
        weight, gradient: bytes for each parameter.
        n_optimizer: numbers in fp32 that the optimizer keeps for each; AdamW has two means.
        rounding: each tensor takes a multiple of so many bytes.

    Source: Rajbhandari et al. 2020, figure 1, which has 2, 2 and 12 bytes: the weights once more
    in fp32, and the means.
    """
    tensors = {
        "weights": (1, weight),
        "gradients": (1, gradient),
        "optimizer": (n_optimizer, number_bytes),
    }
    found = {}
    for kind, (n_each, n_bytes) in tensors.items():
        n_parts = sharing.n_parts(kind)
        sizes = (n_bytes * largest_share(shape, n_parts) for shape in shapes)
        found[kind] = n_each * sum(rounding * math.ceil(size / rounding) for size in sizes)
    return found


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Parameters that are gathered whole together, and whose gradients are divided together.

    Attributes:
        stays: whether it stays whole from the beginning of the forward pass to the end of the
            backward pass, as FSDP2 has it for the outermost module; the others are gathered again.
    """

    name: str
    shapes: tuple[Shape, ...]
    stays: bool

    @property
    def whole_bytes(self) -> int:
        """Gathered, each tensor in its place."""
        return number_bytes * sum(math.prod(shape) for shape in self.shapes)

    def padded_bytes(self, n_parts: int) -> int:
        """In the buffer of the collective, where each rank's rows are as many as the first's."""
        return n_parts * self.share_bytes(n_parts)

    def share_bytes(self, n_parts: int) -> int:
        """One rank's part of that buffer."""
        return number_bytes * sum(largest_share(shape, n_parts) for shape in self.shapes)


def sharing_units(config: ModelConfig) -> list[Unit]:
    """The units of a model: the embedding, each block, and what is outside of these.

    Outside, in the outermost module, are the last norm and the unembedding. A token matrix that is
    shared is there too, and all of the embedding with it.
    """
    tensors = tensor_counts(config)

    def unit(name: str, *beginnings: str, stays: bool) -> Unit:
        shapes = tuple(one.shape for one in tensors if one.name.startswith(beginnings))
        return Unit(name=name, shapes=shapes, stays=stays)

    blocks = [
        unit(f"blocks.{number}", f"blocks.{number}.", stays=False)
        for number in range(config.n_layers)
    ]
    first, last = ("embedding.", "positions."), ("norm.", "unembedding.")
    if config.tie_embeddings:
        return [*blocks, unit("outside", *first, *last, stays=True)]
    return [unit("embedding", *first, stays=False), *blocks, unit("outside", *last, stays=True)]


def data_sent_bytes(config: ModelConfig, sharing: Sharing, *, n_portions: int) -> int:
    """What a rank sends in a step to those that have other parts of the batch.

    Stages 0 and 1 add up gradients once a step, which costs each rank 2 (n - 1) / n of them by a
    ring, or in stage 1 half of that and as much for the new weights. Stage 2 divides gradients
    after each portion. Stage 3 also gathers weights in each portion, most of them twice.

    Args:
        config: of the whole model, or a rank's part of a tensor-parallel one.
        n_portions: of the rank's part of the batch; all but the last are followed by another.

    Source: Rajbhandari et al. 2020, section 7.
    """
    n = sharing.n_data
    units = sharing_units(config)
    if sharing.stage == 0:
        n_numbers = sum(one.n_parameters for one in tensor_counts(config))
        return 2 * (n - 1) * math.ceil(n_numbers / n) * number_bytes
    # Each rank passes on every part but one, of what is gathered as of what is added up.
    once = (n - 1) * sum(unit.share_bytes(n) for unit in units)
    if sharing.stage == 1:
        return 2 * once
    if sharing.stage == 2:
        return (n_portions + 1) * once
    again = (n - 1) * sum(unit.share_bytes(n) for unit in units if not unit.stays)
    return n_portions * (2 * once + again)


def tensor_sent_bytes(
    config: ModelConfig,
    sharing: Sharing,
    *,
    n_tokens: int,
    activation_bytes: int,
    n_blocks_again: int = 0,
) -> int:
    """What a rank sends in a step to those that compute other parts of the same blocks.

    Attention and MLP each add up their results on the way forward and the gradients of their
    inputs on the way back: four sums of batch x seq x d_model numbers a block. A block that forgets
    all inside it adds up two of them again. The embedding and the gradient of the last hidden
    states are a sum each, and the loss adds up three numbers for each token. Norms and dropout are
    not divided among ranks (no sequence parallelism).

    Args:
        n_tokens: of the rank's part of the batch.
        activation_bytes: of a number of the stream.
        n_blocks_again: blocks that compute their forward pass again.

    Source: Shoeybi et al. 2019, section 3; Korthikanti et al. 2022, section 4.2.2: a ring moves
    2 (n - 1) / n of a sum.
    """
    n = sharing.n_tensor
    stream = math.ceil(n_tokens * config.d_model / n) * activation_bytes
    n_sums = 4 * config.n_layers + 2 * n_blocks_again + 2
    loss = 3 * math.ceil(n_tokens / n) * number_bytes
    return 2 * (n - 1) * (n_sums * stream + loss)


def least_seconds(sent_bytes: int, interconnect_bytes_per_second: float | None) -> float | None:
    """The time to send so much at the full rate, if nothing else is waited for.

    Args:
        interconnect_bytes_per_second: both directions together, of which sending has one; None
            where it is not known.
    """
    if interconnect_bytes_per_second is None:
        return None
    return sent_bytes / (interconnect_bytes_per_second / 2)
