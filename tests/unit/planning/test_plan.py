import dataclasses
import json

import pytest

from modelwright.accounting.hardware import device_named
from modelwright.accounting.scaling import besiroglu
from modelwright.config.loading import load_settings
from modelwright.planning.plan import count_tokens, make_plan
from modelwright.training.config import RunConfig

h100 = device_named("h100")


def config(*overrides: str) -> RunConfig:
    plain = ("model.preset=laptop", "model.context=64", "training.batch_tokens=1024")
    plain += ("training.compile=false", "tokenizer.vocab_size=300")
    return load_settings(RunConfig, None, [*plain, *overrides]).config


def test_a_plan_survives_json():
    plan = make_plan(config(), h100)
    plain = plan.to_json()
    assert json.loads(json.dumps(plain))["memory"]["fits"] is True
    assert plain["memory"]["needed_bytes"] == plan.memory.peak_bytes + plan.memory.outside_bytes
    assert plain["disk"]["total_bytes"] == 4 * plan.disk.checkpoint_bytes


def test_parts_of_the_bill_add_up():
    plan = make_plan(config("training.average_decay=0.9"), h100)
    memory = plan.memory
    assert sum(memory.kinds.values()) == memory.peak_bytes
    assert {"weights", "optimizer", "average"} <= set(memory.kinds)
    parts = {name: n for name, n in plan.parameters.items() if name not in ("total", "padding")}
    assert sum(parts.values()) == plan.n_parameters
    sizes = [tensor.n_bytes for tensor in memory.largest]
    assert sizes == sorted(sizes, reverse=True)


def test_the_disk_holds_weights_two_means_and_the_average():
    without, with_average = (
        make_plan(config(f"training.average_decay={decay}"), h100) for decay in (0, 0.9)
    )
    n_bytes = 4 * without.n_parameters
    assert with_average.disk.checkpoint_bytes - without.disk.checkpoint_bytes == pytest.approx(
        n_bytes, rel=0.01
    )
    assert without.disk.checkpoint_bytes == pytest.approx(3 * n_bytes + 32 * 2**20, rel=0.01)
    fewer = make_plan(config("checkpoints.keep=1", "checkpoints.keep_best=false"), h100)
    assert (without.disk.n_kept, fewer.disk.n_kept) == (3, 1)


def test_what_follows_from_an_assumed_time():
    plan = make_plan(config("training.n_steps=1000"), h100)
    time = plan.time
    assert time.step_seconds.low < time.step_seconds.high < 4 * time.step_seconds.low
    assert time.run_seconds.low == pytest.approx(1000 * time.step_seconds.low)
    assert time.mfu.high == pytest.approx(
        plan.work.model / (time.step_seconds.low * 989.4e12), rel=1e-6
    )
    assert time.calibrated is None and time.mfu_source.startswith("assumed")
    assert time.price_usd is not None
    assert time.kilowatt_hours is not None
    assert time.price_usd.high == pytest.approx(time.device_hours.high * 4.29)
    assert time.kilowatt_hours.low == pytest.approx(time.device_hours.low * 0.7)
    assert time.tokens_per_second.low * time.step_seconds.high == pytest.approx(1024)


def test_a_device_without_a_price_has_none():
    assert make_plan(config(), device_named("rtx-3090")).time.price_usd is None


def test_recomputing_is_work_that_is_done_and_not_needed():
    plain, again = (
        make_plan(config(f"training.recompute={kind}"), h100).work for kind in ("none", "blocks")
    )
    assert again.hardware > plain.hardware
    assert dataclasses.replace(again, hardware=plain.hardware) == plain


def test_tokens_beside_the_laws():
    tokens = count_tokens(10**9, 5 * 10**9)
    assert tokens.per_parameter == 5
    assert tokens.rule_of_thumb == 20 * 10**9
    law = tokens.laws["besiroglu"]
    assert law.optimal_tokens == besiroglu.optimal_tokens(1e9)
    assert law.loss == besiroglu.loss(1e9, 5e9)


def test_a_step_that_does_not_fit_comes_with_advice():
    small = dataclasses.replace(h100, reported_bytes=880 * 2**20)
    plan = make_plan(config("training.micro_batch=16", "model.n_layers=8"), small, max_batch=True)
    assert not plan.memory.fits
    assert plan.suggestions
    assert plan.largest_micro_batch is not None
    assert plan.largest_micro_batch < 16
    assert make_plan(config(), h100).suggestions == ()


def test_the_processor_has_a_measured_peak_and_no_price():
    plan = make_plan(config("training.precision=fp32"), None)
    assert plan.place.key == "cpu"
    assert plan.memory.outside_bytes == 0
    assert plan.time.price_usd is plan.time.kilowatt_hours is None
    assert "measured" in plan.time.mfu_source


def test_the_allocator_holds_more_than_the_tensors():
    memory = make_plan(config(), h100).memory
    assert memory.reserved_bytes is not None
    workspaces = memory.outside_bytes - memory.context_bytes
    assert workspaces == 2 * 32 * 2**20
    assert memory.reserved_bytes > memory.peak_bytes + workspaces
    assert memory.held_bytes == memory.reserved_bytes + memory.context_bytes
    on_processor = make_plan(config("training.precision=fp32"), None).memory
    assert on_processor.reserved_bytes is None
    assert on_processor.held_bytes == on_processor.needed_bytes


def test_what_only_fits_when_blocks_are_given_back_fits_tightly():
    memory = make_plan(config(), h100).memory

    def on(usable_bytes: int) -> tuple[bool, bool]:
        there = dataclasses.replace(memory, usable_bytes=usable_bytes)
        return there.fits, there.is_tight

    assert on(memory.held_bytes) == (True, False)
    assert on(memory.held_bytes - 1) == (True, True)
    assert on(memory.needed_bytes) == (True, True)
    assert on(memory.needed_bytes - 1) == (False, False)


def test_a_plan_has_the_rules_the_inference_and_the_timeline_as_plain_values():
    plan = make_plan(config(), h100)
    plain = json.loads(json.dumps(plan.to_json()))
    traced = {rule["about"]: rule["traced_bytes"] for rule in plain["rules"]}
    assert traced["training"] == plan.memory.peak_bytes
    assert plain["inference"]["context_tokens"] == 64
    assert plain["inference"]["speed"] is None
    timeline = plain["timeline"]
    at_peak = {kind: line[timeline["peak"]] for kind, line in timeline["kinds"].items()}
    assert {kind: n_bytes for kind, n_bytes in at_peak.items() if n_bytes} == plan.memory.kinds
    assert plain["memory"]["held_bytes"] == plan.memory.held_bytes
    assert plain["memory"]["is_tight"] is False
