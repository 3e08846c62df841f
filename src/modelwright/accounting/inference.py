"""What it takes to read a prompt and write an answer: bytes, FLOPs, seconds and money.

Reading works on all tokens of a prompt at once and is limited by arithmetic; writing works on one
token of each answer at a time, for which all weights and all that was cached must come from memory
once, and is limited by that. The seconds here are a floor, as if arithmetic and memory each ran
at their best and at the same time.

Source: Williams, Waterman & Patterson 2009, "Roofline", for the floor; Pope et al. 2022,
"Efficiently Scaling Transformer Inference", section 2, for its two phases.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from modelwright.accounting.flops import forward_flops, visible_pairs
from modelwright.accounting.parameters import count_parameters
from modelwright.model.config import ModelConfig

WeightFormat = Literal["fp32", "bf16", "fp16", "int8", "int4"]


@dataclass(frozen=True, kw_only=True)
class NumberFormat:
    """How a number is laid out in bits, and what follows from it."""

    name: WeightFormat
    exponent_bits: int  # zero for an integer, which wants a scale beside it
    fraction_bits: int
    sign_bits: int = 1

    @property
    def n_bits(self) -> int:
        return self.sign_bits + self.exponent_bits + self.fraction_bits

    @property
    def is_integer(self) -> bool:
        return self.exponent_bits == 0

    @property
    def bias(self) -> int:
        """What is added to an exponent so that it is stored as a number from zero."""
        return 2 ** (self.exponent_bits - 1) - 1

    @property
    def largest(self) -> float:
        if self.is_integer:
            return 2**self.fraction_bits - 1
        # The exponent of all ones stands for infinity and what is no number.
        return math.ldexp(2 - 2.0**-self.fraction_bits, self.bias)

    @property
    def lowest(self) -> float:
        return -(2**self.fraction_bits) if self.is_integer else -self.largest

    @property
    def spacing_at_one(self) -> float:
        """From 1 to the next larger number."""
        return 1.0 if self.is_integer else 2.0**-self.fraction_bits

    def pattern(self, value: float) -> int:
        """The bits of the nearest number; ties go to the even one.

        Args:
            value: positive, and neither below the smallest normal number nor above the largest.
        """
        if self.is_integer:
            return round(value)
        half_to_one, exponent = math.frexp(value)
        digits = round(math.ldexp(half_to_one, self.fraction_bits + 1))
        # The leading one is not stored; where rounding carried, it raises the exponent.
        return ((exponent - 2 + self.bias) << self.fraction_bits) + digits

    def nearest(self, value: float) -> float:
        """The number that stands for a value; arguments as in `pattern`."""
        bits = self.pattern(value)
        if self.is_integer:
            return bits
        exponent, fraction = divmod(bits, 2**self.fraction_bits)
        return math.ldexp(1 + fraction / 2**self.fraction_bits, exponent - self.bias)


number_formats: dict[WeightFormat, NumberFormat] = {
    "fp32": NumberFormat(name="fp32", exponent_bits=8, fraction_bits=23),
    "bf16": NumberFormat(name="bf16", exponent_bits=8, fraction_bits=7),
    "fp16": NumberFormat(name="fp16", exponent_bits=5, fraction_bits=10),
    "int8": NumberFormat(name="int8", exponent_bits=0, fraction_bits=7),
    "int4": NumberFormat(name="int4", exponent_bits=0, fraction_bits=3),
}


@dataclass(frozen=True, kw_only=True)
class FormatRow:
    """What there is to say of a number format."""

    name: str
    n_bits: int
    sign_bits: int
    exponent_bits: int
    fraction_bits: int
    lowest: float
    largest: float
    spacing_at_one: float
    pi: float | None  # None for integers, whose numbers mean nothing without a scale
    pi_pattern: str | None
    billion_parameters_bytes: int  # without scales


def formats_table() -> list[FormatRow]:
    """All number formats that weights are kept in, the widest first."""
    return [
        FormatRow(
            name=kind.name,
            n_bits=kind.n_bits,
            sign_bits=kind.sign_bits,
            exponent_bits=kind.exponent_bits,
            fraction_bits=kind.fraction_bits,
            lowest=kind.lowest,
            largest=kind.largest,
            spacing_at_one=kind.spacing_at_one,
            pi=None if kind.is_integer else kind.nearest(math.pi),
            pi_pattern=None
            if kind.is_integer
            else f"0x{kind.pattern(math.pi):0{kind.n_bits // 4}X}",
            billion_parameters_bytes=10**9 * kind.n_bits // 8,
        )
        for kind in number_formats.values()
    ]


scale_bytes = 4


def matrix_bytes(rows: int, columns: int, kind: WeightFormat, *, group_size: int | None) -> int:
    """Bytes of one matrix; an integer one has a four-byte scale for each group of a row.

    Args:
        group_size: numbers of a row that share a scale, which adds 32 / group_size bits to each;
            None has one scale a row.
    """
    number_format = number_formats[kind]
    row_bytes = math.ceil(columns * number_format.n_bits / 8)
    if number_format.is_integer:
        row_bytes += scale_bytes * math.ceil(columns / (group_size or columns))
    return rows * row_bytes


def weight_bytes(
    config: ModelConfig,
    kind: WeightFormat,
    *,
    group_size: int | None = 128,
    embeddings_in_16_bit: bool = True,
) -> int:
    """Bytes of a model's weights; rows that pad the vocabulary are held too, and counted.

    With integers, position tables, norms and biases stay in 16 bits.

    Args:
        group_size: as in `matrix_bytes`; without meaning for floating-point formats.
        embeddings_in_16_bit: whether the token matrices stay in 16 bits beside integers, as they
            do in most published quantised models.

    Raises:
        ValueError: if the config leaves its vocabulary to a tokenizer, or no number could share
            a scale.
    """
    if group_size is not None and group_size < 1:
        raise ValueError(f"group_size is {group_size}; the least is 1, and 128 is usual")
    is_integer = number_formats[kind].is_integer
    other: WeightFormat = "bf16" if is_integer else kind
    matrices = _matrices(config)
    in_blocks = sum(
        config.n_layers * matrix_bytes(rows, columns, kind, group_size=group_size)
        for rows, columns in matrices
    )
    n_vocabularies = 1 if config.tie_embeddings else 2
    vocabulary = matrix_bytes(
        config.padded_vocab,
        config.d_model,
        other if embeddings_in_16_bit else kind,
        group_size=group_size,
    )
    count = count_parameters(config)
    n_in_blocks = config.n_layers * sum(rows * columns for rows, columns in matrices)
    rest = count.total - count.token_embedding - count.unembedding - n_in_blocks
    return in_blocks + n_vocabularies * vocabulary + rest * number_formats[other].n_bits // 8


def _matrices(config: ModelConfig) -> list[tuple[int, int]]:
    """Rows and columns of the matrices of a block; a row makes one number of the result."""
    d_queries = config.n_heads * config.head_width
    d_keys = config.key_heads * config.head_width
    n_up = 2 if config.mlp == "swiglu" else 1
    return [
        (d_queries + 2 * d_keys, config.d_model),
        (config.d_model, d_queries),
        *[(config.d_hidden, config.d_model)] * n_up,
        (config.d_model, config.d_hidden),
    ]


def kv_cache_bytes(config: ModelConfig, *, batch: int, seq: int, bytes_per_number: int = 2) -> int:
    """Bytes of the keys and values of all blocks; those that a window hides are let go.

    Args:
        seq: tokens of each text so far.
    """
    kept = seq if config.window is None else min(seq, config.window)
    numbers = 2 * batch * kept * config.key_heads * config.head_width
    return config.n_layers * numbers * bytes_per_number


def prefill_flops(config: ModelConfig, *, batch: int, seq: int, causal: bool = False) -> int:
    """FLOPs of the matrix products that read a prompt; only its last position wants logits.

    Args:
        causal: as in `flops.forward_flops`.
    """
    whole = forward_flops(config, batch=batch, seq=seq, causal=causal)
    return whole.total - whole.unembedding + whole.unembedding // seq


def decode_flops(config: ModelConfig, *, batch: int, position: int) -> int:
    """FLOPs of the matrix products that take one more token of each text and give its logits.

    Args:
        position: how many tokens are before it; it sees them, as far as a window reaches, and
            itself.
    """
    alone = forward_flops(config, batch=batch, seq=1)
    attention = alone.attention_scores + alone.attention_values
    return alone.total + (_seen(config, position) - 1) * attention


def _seen(config: ModelConfig, position: int) -> int:
    return visible_pairs(position + 1, config.window) - visible_pairs(position, config.window)


def decode_bytes(
    config: ModelConfig,
    *,
    batch: int,
    position: int,
    weights: WeightFormat = "bf16",
    group_size: int | None = 128,
    embeddings_in_16_bit: bool = True,
    cache_bytes_per_number: int = 2,
) -> int:
    """Bytes that one more token of each text moves: all weights once, and each text's cache.

    Of a table only the rows that are looked up are read. The cache is read up to the token, whose
    own keys and values are written. What passes between layers stays near the arithmetic and is
    not counted.

    Args:
        position: as in `decode_flops`.
    """
    held = weight_bytes(
        config, weights, group_size=group_size, embeddings_in_16_bit=embeddings_in_16_bit
    )
    is_integer = number_formats[weights].is_integer
    other: WeightFormat = "bf16" if is_integer else weights
    row = matrix_bytes(
        1,
        config.d_model,
        other if embeddings_in_16_bit else weights,
        group_size=group_size,
    )
    position_row = matrix_bytes(1, config.d_model, other, group_size=None)
    if not config.tie_embeddings:
        held -= config.padded_vocab * row
    held += batch * row
    if config.positions == "learned":
        held += (1 - config.context) * position_row  # the texts are at the same place
    return held + kv_cache_bytes(
        config, batch=batch, seq=position + 1, bytes_per_number=cache_bytes_per_number
    )


@dataclass(frozen=True, kw_only=True)
class InferenceCost:
    """What a batch of prompts and their answers costs on a machine, at the least.

    The speeds are what the machine reaches, or its peaks for a floor; `flops_per_second` is that
    of the products, in whatever format they are multiplied.
    """

    config: ModelConfig
    batch: int
    prompt_tokens: int
    new_tokens: int  # the first of them comes from reading the prompt
    flops_per_second: float
    bytes_per_second: float
    price_per_hour: float
    weights: WeightFormat = "bf16"
    group_size: int | None = 128
    embeddings_in_16_bit: bool = True
    cache_bytes_per_number: int = 2
    causal: bool = True  # whether the kernel that reads the prompt skips hidden pairs

    def __post_init__(self) -> None:
        for name in ("batch", "prompt_tokens", "new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the least is 1")
        for name in ("flops_per_second", "bytes_per_second"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; choose a number above 0")
        n_tokens = self.prompt_tokens + self.new_tokens
        if n_tokens > self.config.context:
            raise ValueError(
                f"prompt_tokens + new_tokens is {n_tokens}, but model.context is "
                f"{self.config.context}; ask for at most "
                f"{max(0, self.config.context - self.prompt_tokens)} new tokens"
            )

    @property
    def prefill_seconds(self) -> float:
        """Until the prompts are read and the first token of each answer is there.

        The rows of the embedding that a long prompt looks up are left out of what is moved.
        """
        flops = prefill_flops(
            self.config, batch=self.batch, seq=self.prompt_tokens, causal=self.causal
        )
        return self._floor(flops, self._bytes(self.prompt_tokens - 1))

    @cached_property
    def decode_seconds_per_token(self) -> float:
        """For one more token of every answer, on average; 0 where reading gives the only one."""
        positions = range(self.prompt_tokens, self.prompt_tokens + self.new_tokens - 1)
        return sum(map(self.decode_seconds, positions)) / max(1, len(positions))

    @property
    def seconds(self) -> float:
        """For the whole batch."""
        return self.prefill_seconds + (self.new_tokens - 1) * self.decode_seconds_per_token

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all answers together, the time to read the prompts included."""
        return self.batch * self.new_tokens / self.seconds

    @property
    def price_per_million_tokens(self) -> float:
        """Of new tokens, reading the prompts included; in the currency of `price_per_hour`."""
        return 1e6 * self.price_per_hour / 3600 / self.tokens_per_second

    def decode_seconds(self, position: int) -> float:
        """For one more token of every answer after that many."""
        flops = decode_flops(self.config, batch=self.batch, position=position)
        return self._floor(flops, self._bytes(position))

    def _bytes(self, position: int) -> int:
        return decode_bytes(
            self.config,
            batch=self.batch,
            position=position,
            weights=self.weights,
            group_size=self.group_size,
            embeddings_in_16_bit=self.embeddings_in_16_bit,
            cache_bytes_per_number=self.cache_bytes_per_number,
        )

    def _floor(self, flops: int, n_bytes: int) -> float:
        return max(flops / self.flops_per_second, n_bytes / self.bytes_per_second)
