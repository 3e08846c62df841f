import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

import small
from modelwright.accounting.flops import forward_flops
from modelwright.accounting.inference import (
    InferenceCost,
    WeightFormat,
    decode_bytes,
    decode_flops,
    formats_table,
    kv_cache_bytes,
    matrix_bytes,
    number_formats,
    prefill_flops,
    weight_bytes,
)
from modelwright.model.config import ModelConfig
from modelwright.model.transformer import Transformer

shapes: list[dict[str, Any]] = [
    {},
    {"tie_embeddings": False},
    {"bias": True, "norm": "layernorm", "positions": "learned"},
    {"mlp": "gelu", "vocab_multiple": 16, "qk_norm": True},
]
dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def preset(name: str) -> ModelConfig:
    return ModelConfig(**ModelConfig.presets[name])


@pytest.mark.parametrize("changes", shapes, ids=str)
@pytest.mark.parametrize("kind", dtypes)
def test_weights_take_the_bytes_of_the_model_s_tensors(changes: dict[str, Any], kind: Any):
    config = small.model_config(**changes)
    model = Transformer(config).to(dtypes[kind])
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    assert weight_bytes(config, kind) == held


def quantised_bytes(parameter: torch.Tensor, n_bits: int, group_size: int | None) -> int:
    """Bytes of a matrix that is really put into groups, each with a scale."""
    n_bytes = 0
    for row in parameter.detach():
        groups = row.split(group_size or len(row))
        n_bytes += sum(group.abs().amax().reshape(1).nbytes for group in groups)
        numbers = torch.cat([(g / g.abs().amax() * 7).round() for g in groups]).to(torch.int8)
        packed = numbers
        if n_bits == 4:
            pairs = torch.nn.functional.pad(numbers, (0, len(numbers) % 2)).view(-1, 2)
            packed = pairs[:, 0] * 16 + pairs[:, 1]
        n_bytes += packed.nbytes
    return n_bytes


@pytest.mark.parametrize("changes", [*shapes, {"d_ff": 41}], ids=str)
@pytest.mark.parametrize(("kind", "n_bits"), [("int8", 8), ("int4", 4)])
@pytest.mark.parametrize("group_size", [7, 8, None])
@pytest.mark.parametrize("embeddings_in_16_bit", [True, False])
def test_integers_take_the_bytes_of_packed_tensors(
    changes: dict[str, Any],
    kind: WeightFormat,
    n_bits: int,
    group_size: int | None,
    embeddings_in_16_bit: bool,
):
    held = 0
    for name, parameter in small.model(**changes).named_parameters():
        in_block = name.startswith("blocks.") and parameter.ndim == 2
        is_vocabulary = name in ("embedding.weight", "unembedding.weight")
        if in_block or (is_vocabulary and not embeddings_in_16_bit):
            held += quantised_bytes(parameter, n_bits, group_size)
        else:
            held += parameter.to(torch.bfloat16).nbytes
    counted = weight_bytes(
        small.model_config(**changes),
        kind,
        group_size=group_size,
        embeddings_in_16_bit=embeddings_in_16_bit,
    )
    assert counted == held


def test_scales_add_32_bits_over_the_size_of_a_group():
    plain = 64 * 256 * 4 / 8
    assert matrix_bytes(64, 256, "int4", group_size=128) == plain * (1 + 32 / 128 / 4)
    assert matrix_bytes(64, 256, "int4", group_size=32) == plain * (1 + 32 / 32 / 4)


def test_a_group_of_nothing_is_refused():
    with pytest.raises(ValueError, match="group_size is 0; the least is 1, and 128 is usual"):
        weight_bytes(small.model_config(), "int4", group_size=0)


def test_llama_3_8b_caches_a_gibibyte():
    assert kv_cache_bytes(preset("llama-3-8b"), batch=1, seq=8192) == 2**30


def test_gpt2_small_caches_what_was_recomputed():
    n_bytes = kv_cache_bytes(preset("gpt2-small"), batch=1, seq=1024, bytes_per_number=4)
    assert n_bytes == 75_497_472


def test_a_window_limits_the_cache():
    config = preset("mistral-7b")
    assert kv_cache_bytes(config, batch=1, seq=32_768) == kv_cache_bytes(config, batch=1, seq=4096)
    assert kv_cache_bytes(config, batch=1, seq=4095) < kv_cache_bytes(config, batch=1, seq=4096)


def test_the_cache_is_the_size_of_the_keys_and_values():
    config = small.model_config(n_kv_heads=2)
    sizes: list[int] = []

    def keep(module: Any, inputs: Any, output: torch.Tensor) -> None:
        # The columns after the queries'.
        sizes.append(output[..., config.n_heads * config.head_width :].nbytes)

    model = small.model(n_kv_heads=2)
    for block in model.blocks:
        block.get_submodule("attention.qkv").register_forward_hook(keep)
        # `nbytes` of a view counts its own numbers, not those of what it looks at.
    model(small.ids(3, 9))
    assert sum(sizes) == kv_cache_bytes(config, batch=3, seq=9, bytes_per_number=4)


def test_reading_a_prompt_multiplies_what_torch_counts():
    config = small.model_config()
    model = small.model(attention="plain")
    with FlopCounterMode(display=False) as counted:
        model.logits(model.hidden(small.ids(3, 9))[:, -1])
    assert prefill_flops(config, batch=3, seq=9) == counted.get_total_flops()


@given(
    batch=st.integers(1, 4),
    seq=st.integers(1, 11),
    window=st.none() | st.integers(1, 12),
    kv_heads=st.sampled_from([1, 2, 4]),
)
def test_token_by_token_it_is_the_work_of_a_causal_pass(
    batch: int, seq: int, window: int | None, kv_heads: int
):
    config = small.model_config(window=window, n_kv_heads=kv_heads)
    by_token = sum(decode_flops(config, batch=batch, position=place) for place in range(seq))
    assert by_token == forward_flops(config, batch=batch, seq=seq, causal=True).total


@given(batch=st.integers(1, 8), position=st.integers(0, 20), kind=st.sampled_from(sorted(dtypes)))
def test_a_larger_batch_reads_the_weights_once(batch: int, position: int, kind: Any):
    config = small.model_config()
    first, second, third = (
        decode_bytes(config, batch=batch + n, position=position, weights=kind) for n in range(3)
    )
    cache = kv_cache_bytes(config, batch=1, seq=position + 1)
    row = matrix_bytes(1, config.d_model, kind, group_size=None)
    assert second - first == third - second == cache + row
    assert first - batch * (cache + row) == weight_bytes(config, kind)


def test_of_a_table_only_the_rows_looked_up_are_read():
    tied, apart = (small.model_config(tie_embeddings=tie) for tie in (True, False))
    assert decode_bytes(apart, batch=2, position=3) == decode_bytes(tied, batch=2, position=3)
    learned = small.model_config(positions="learned")
    longer = small.model_config(positions="learned", context=100)
    assert decode_bytes(learned, batch=2, position=3) == decode_bytes(longer, batch=2, position=3)
    rotary = decode_bytes(small.model_config(), batch=2, position=3)
    assert decode_bytes(learned, batch=2, position=3) == rotary + 24 * 2


def cost(**changes: Any) -> InferenceCost:
    settings: dict[str, Any] = {
        "config": preset("llama-3-8b"),
        "batch": 1,
        "prompt_tokens": 1024,
        "new_tokens": 64,
        "flops_per_second": 1e15,
        "bytes_per_second": 3e12,
        "price_per_hour": 2.5,
    }
    return InferenceCost(**(settings | changes))


def test_writing_one_answer_is_limited_by_memory_and_reading_by_arithmetic():
    usual = cost()
    faster, wider = cost(flops_per_second=2e15), cost(bytes_per_second=6e12)
    assert faster.decode_seconds_per_token == usual.decode_seconds_per_token
    assert wider.decode_seconds_per_token == usual.decode_seconds_per_token / 2
    assert faster.prefill_seconds == usual.prefill_seconds / 2
    assert wider.prefill_seconds == usual.prefill_seconds


def test_the_floor_is_that_of_the_slower_of_the_two():
    made = cost()
    config, position = made.config, 1024
    by_memory = decode_bytes(config, batch=1, position=position) / 3e12
    assert made.decode_seconds(position) == by_memory
    slow = cost(flops_per_second=1e10)
    by_arithmetic = decode_flops(config, batch=1, position=position) / 1e10
    assert slow.decode_seconds(position) == by_arithmetic


def test_the_seconds_per_token_are_the_mean_of_those_of_each():
    made = cost(new_tokens=3)
    each = (made.decode_seconds(1024), made.decode_seconds(1025))
    assert each[1] > each[0]
    assert made.decode_seconds_per_token == sum(each) / 2
    assert made.seconds == pytest.approx(made.prefill_seconds + sum(each))


def test_the_first_token_comes_from_reading():
    made = cost(new_tokens=1)
    assert made.decode_seconds_per_token == 0
    assert made.tokens_per_second == 1 / made.prefill_seconds


@given(batch=st.integers(1, 64))
def test_a_larger_batch_makes_a_token_no_dearer(batch: int):
    smaller, larger = cost(batch=batch), cost(batch=batch + 1)
    assert larger.price_per_million_tokens <= smaller.price_per_million_tokens * (1 + 1e-12)
    assert larger.seconds >= smaller.seconds


def test_the_price_is_that_of_the_time():
    made = cost(batch=8)
    hours = 1e6 / made.tokens_per_second / 3600
    assert made.price_per_million_tokens == pytest.approx(2.5 * hours)
    assert made.tokens_per_second == pytest.approx(8 * 64 / made.seconds)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("weights", "int4"),
        ("cache_bytes_per_number", 1),
    ],
)
def test_smaller_numbers_are_read_faster(setting: str, value: Any):
    assert cost(**{setting: value}).decode_seconds_per_token < cost().decode_seconds_per_token


@pytest.mark.parametrize(
    ("setting", "value"), [("group_size", 32), ("embeddings_in_16_bit", False), ("causal", False)]
)
def test_an_option_changes_the_time(setting: str, value: Any):
    assert cost(weights="int4", **{setting: value}).seconds != cost(weights="int4").seconds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch is 0; the least is 1"),
        ({"bytes_per_second": 0}, "bytes_per_second is 0; choose a number above 0"),
        (
            {"prompt_tokens": 8000, "new_tokens": 200},
            r"prompt_tokens \+ new_tokens is 8200, but model.context is 8192; ask for at most 192",
        ),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        cost(**changes)


def test_there_is_a_row_for_each_format_of_weights():
    assert [row.name for row in formats_table()] == list(get_args(WeightFormat))


@pytest.mark.parametrize("kind", dtypes)
def test_a_format_is_what_torch_says_it_is(kind: Any):
    facts, row = torch.finfo(dtypes[kind]), {row.name: row for row in formats_table()}[kind]
    assert row.n_bits == facts.bits == row.sign_bits + row.exponent_bits + row.fraction_bits
    assert (row.lowest, row.largest) == (facts.min, facts.max)
    assert row.spacing_at_one == facts.eps
    pi = torch.tensor(math.pi, dtype=dtypes[kind])
    assert row.pi == pi.item()
    whole = torch.int32 if row.n_bits == 32 else torch.int16
    assert row.pi_pattern is not None
    assert int(row.pi_pattern, 16) == pi.view(whole).item()


def test_pi_is_stored_as_recomputed():
    patterns = {row.name: row.pi_pattern for row in formats_table()}
    assert patterns == {
        "fp32": "0x40490FDB",
        "bf16": "0x4049",
        "fp16": "0x4248",
        "int8": None,
        "int4": None,
    }


def test_integers_have_the_range_of_their_bits():
    facts, rows = torch.iinfo(torch.int8), {row.name: row for row in formats_table()}
    assert (rows["int8"].lowest, rows["int8"].largest) == (facts.min, facts.max)
    assert (rows["int4"].lowest, rows["int4"].largest) == (-8, 7)


def test_a_billion_parameters_take_four_two_two_one_and_half_a_gigabyte():
    assert [row.billion_parameters_bytes for row in formats_table()] == [
        4_000_000_000,
        2_000_000_000,
        2_000_000_000,
        1_000_000_000,
        500_000_000,
    ]


@given(value=st.floats(2**-14, 65504.0), kind=st.sampled_from(sorted(dtypes)))
def test_the_nearest_number_is_the_one_that_torch_rounds_to(value: float, kind: Any):
    nearest = number_formats[kind].nearest(value)
    assert nearest == torch.tensor(value, dtype=torch.float64).to(dtypes[kind]).item()
