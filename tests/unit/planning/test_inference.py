import dataclasses
import json

import pytest

from modelwright.accounting.hardware import device_named
from modelwright.accounting.inference import InferenceCost, kv_cache_bytes, weight_bytes
from modelwright.config.loading import load_settings
from modelwright.planning.fit import outside_bytes
from modelwright.planning.inference import FormatCost, inference_memory, plan_inference
from modelwright.planning.render_inference import render_inference, small_price
from modelwright.training.config import RunConfig

h100 = device_named("h100")


def config(*overrides: str) -> RunConfig:
    plain = (
        "model.preset=laptop",
        "model.context=64",
        "model.vocab_size=300",
        "tokenizer.vocab_size=300",
    )
    return load_settings(RunConfig, None, [*plain, *overrides]).config


def formats(run: RunConfig, **asked: int) -> dict[str, FormatCost]:
    speed = plan_inference(run, h100, **asked).speed
    assert speed is not None
    return {one.weights: one for one in speed.formats}


def test_weights_in_every_format_and_the_cache_are_those_of_the_closed_forms():
    shape = config().model
    held = inference_memory(shape, context=48, batch=3)
    assert list(held.weight_bytes) == ["fp32", "bf16", "fp16", "int8", "int4"]
    for kind, n_bytes in held.weight_bytes.items():
        assert n_bytes == weight_bytes(shape, kind)
    assert held.cache_bytes == kv_cache_bytes(shape, batch=3, seq=48)
    assert inference_memory(shape).context_tokens == 64


def test_times_are_those_of_a_prompt_and_an_answer_of_half_the_context_each():
    bf16 = formats(config(), context=49, batch=2)["bf16"]
    assert h100.price_per_hour_usd is not None
    cost = InferenceCost(
        config=config().model,
        batch=2,
        prompt_tokens=24,
        new_tokens=25,
        flops_per_second=h100.peaks["bf16"],
        bytes_per_second=h100.bandwidth_bytes_per_second,
        price_per_hour=h100.price_per_hour_usd,
    )
    assert bf16.prefill_seconds == cost.prefill_seconds
    assert bf16.decode_seconds_per_token == cost.decode_seconds_per_token
    assert bf16.tokens_per_second == cost.tokens_per_second
    assert bf16.price_per_million_tokens_usd == cost.price_per_million_tokens


def test_fewer_bits_are_written_faster():
    found = formats(config())
    speeds = [found[kind].tokens_per_second for kind in ("fp32", "bf16", "int8", "int4")]
    assert speeds == sorted(speeds)
    assert speeds[0] < speeds[-1]


def test_what_is_needed_counts_the_context_of_the_device_and_decides_what_fits():
    needed = formats(config())["bf16"].needed_bytes
    held = inference_memory(config().model)
    weights_and_cache = held.weight_bytes["bf16"] + held.cache_bytes
    assert needed == weights_and_cache + outside_bytes(h100)
    small = dataclasses.replace(h100, reported_bytes=needed)
    speed = plan_inference(config(), small).speed
    assert speed is not None
    fitting = {one.weights: one.fits for one in speed.formats}
    assert (fitting["fp32"], fitting["bf16"], fitting["int4"]) == (False, True, True)


def test_a_processor_is_measured_and_has_no_price():
    speed = plan_inference(config("training.precision=fp32"), None).speed
    assert speed is not None
    assert speed.precision == "fp32"
    assert "measured" in speed.flops_source
    assert "measured" in speed.bytes_source
    assert {one.price_per_million_tokens_usd for one in speed.formats} == {None}


def test_a_device_without_a_price_has_none():
    speed = plan_inference(config(), device_named("rtx-3090")).speed
    assert speed is not None
    assert speed.formats[0].price_per_million_tokens_usd is None


def test_a_context_that_the_model_lacks_is_refused():
    with pytest.raises(ValueError, match=r"context is 65, but the model's is 64; choose from 2"):
        plan_inference(config(), h100, context=65)
    with pytest.raises(ValueError, match="a prompt and an answer; the least is 2"):
        plan_inference(config(), h100, context=1)
    with pytest.raises(ValueError, match="context is 0"):
        inference_memory(config().model, context=0)
    with pytest.raises(ValueError, match="batch is 0; the least is 1"):
        inference_memory(config().model, batch=0)


def test_it_survives_json():
    plain = json.loads(json.dumps(plan_inference(config(), h100).to_json()))
    assert plain["weight_bytes"]["int8"] < plain["weight_bytes"]["fp16"]
    assert plain["speed"]["formats"][1]["weights"] == "bf16"
    assert inference_memory(config().model).to_json()["speed"] is None


def test_the_text_has_a_row_for_each_format_in_gib():
    text = render_inference(plan_inference(config(), h100, batch=3), h100.title)
    assert max(map(len, text.splitlines())) <= 100
    rows = [line.split()[0] for line in text.splitlines() if " fits " in line]
    assert rows == ["fp32", "bf16", "fp16", "int8", "int4"]
    assert "3 texts at a time, with a prompt of 32 tokens and an answer of 32" in text
    assert "GB" not in text.replace(h100.title, "")
    small = dataclasses.replace(h100, reported_bytes=2**20)
    assert text.count("does not fit") == 0
    assert render_inference(plan_inference(config(), small), "x").count("does not fit") == 5


def test_small_prices_keep_two_digits():
    prices = (12.0, 0.27, 0.0999, 0.0042, 0.000057, 0.0)
    expected = ["$12.00", "$0.27", "$0.100", "$0.0042", "$0.000057", "$0.00"]
    assert [small_price(price) for price in prices] == expected
