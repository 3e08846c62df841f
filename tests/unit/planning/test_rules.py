import pytest

from modelwright.accounting.hardware import device_named
from modelwright.accounting.inference import kv_cache_bytes, weight_bytes
from modelwright.accounting.memory import Workload, inner_activations, total
from modelwright.accounting.memory_rules import textbook_rules
from modelwright.config.loading import load_settings
from modelwright.planning.plan import make_plan
from modelwright.planning.rules import Rule, compared_rules
from modelwright.planning.site import planned_shape, site_for
from modelwright.training.config import RunConfig

h100 = device_named("h100")
peak_bytes = 10**8


def config(*overrides: str) -> RunConfig:
    plain = ("model.preset=laptop", "model.context=64", "training.batch_tokens=1024")
    plain += (
        "training.compile=false",
        "model.vocab_size=300",
        "tokenizer.vocab_size=300",
        "training.micro_batch=4",
    )
    return load_settings(RunConfig, None, [*plain, *overrides]).config


def rules_of(run: RunConfig) -> dict[str, Rule]:
    shape, _ = planned_shape(run)
    site = site_for(run, h100)
    found = compared_rules(run, shape, site, precision="bf16", peak_bytes=peak_bytes)
    return {rule.name: rule for rule in found}


def test_all_textbook_rules_are_there_as_their_sources_have_them():
    run = config()
    listed = textbook_rules(run.model, batch=4, seq=64)
    assert [(one.name, one.n_bytes, one.about) for one in listed] == [
        (one.name, one.n_bytes, one.about) for one in rules_of(run).values()
    ]


def test_each_rule_is_compared_with_what_it_is_about():
    run = config()
    shape = run.model
    rules = rules_of(run)
    work = Workload(batch=4, seq=64, precision="bf16", attention="cudnn", device="cuda")
    assert rules["16 bytes a parameter"].traced_bytes == peak_bytes
    assert rules["2 x model"].traced_bytes == weight_bytes(shape, "fp32") + kv_cache_bytes(
        shape, batch=1, seq=64, bytes_per_number=4
    )
    assert rules["34 s b h"].traced_bytes == total(inner_activations(shape, work))
    for rule in rules.values():
        assert rule.traced_bytes is not None
        assert rule.relative_error == pytest.approx(rule.n_bytes / rule.traced_bytes - 1)


def test_recomputing_changes_what_blocks_keep_and_not_the_rule():
    plain = rules_of(config())["34 s b h"]
    again = rules_of(config("training.recompute=blocks"))["34 s b h"]
    assert plain.n_bytes == again.n_bytes
    assert plain.traced_bytes is not None
    assert again.traced_bytes is not None
    assert again.traced_bytes < plain.traced_bytes / 5


def test_blocks_that_no_closed_form_covers_are_not_compared():
    rules = rules_of(config("model.dropout=0.1"))
    assert rules["34 s b h"].traced_bytes is rules["34 s b h"].relative_error is None
    assert rules["16 bytes a parameter"].relative_error is not None


def test_lanes_hold_their_portions_at_the_same_time():
    lanes = config("training.lanes=2", "training.precision=fp32")
    (two,) = (rule for rule in make_plan(lanes, None).rules if rule.name == "2 s b h")
    (one,) = (
        rule
        for rule in make_plan(config("training.lanes=1", "training.precision=fp32"), None).rules
        if rule.name == "2 s b h"
    )
    assert two.n_bytes == 2 * one.n_bytes
    assert two.traced_bytes is not None
    assert one.traced_bytes is not None
    assert two.traced_bytes > 1.5 * one.traced_bytes
