import dataclasses
import re

import pytest

from modelwright.accounting.hardware import device_named
from modelwright.config.loading import load_settings
from modelwright.experiments.plan_report import plan_page
from modelwright.planning.inference import plan_inference
from modelwright.planning.plan import Plan, make_plan
from modelwright.training.config import RunConfig

overrides = ["model.preset=laptop", "training.batch_tokens=1024", "training.compile=false"]
config = load_settings(RunConfig, None, overrides).config


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(config, device_named("h100"))


def test_the_page_has_the_plan_the_picture_the_tensors_and_the_rules(plan: Plan):
    made = plan_page("a <plan>", [plan])
    assert "<h1>a &lt;plan&gt;</h1>" in made
    assert "FITS on h100: a step needs" in made
    assert made.count("<svg") == 1
    for tensor in plan.memory.largest:
        assert f"<td>{' x '.join(map(str, tensor.shape))} {tensor.dtype}</td>" in made
    for rule in plan.rules:
        assert f"<td>{rule.name}</td>" in made
        assert f"<td>{rule.relative_error:+.0%}</td>" in made
    assert "compute-optimal" in made
    assert "at the device&#x27;s list price" in made


def test_nothing_is_fetched_by_the_page(plan: Plan):
    made = plan_page("x", [plan])
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", made)


def test_there_is_a_picture_for_each_device(plan: Plan):
    on_processor = make_plan(config, None)
    made = plan_page("x", [plan, on_processor])
    assert made.count("<svg") == 2
    assert "FITS on cpu" in made
    assert made.count("with what PyTorch&#x27;s allocator loses</span>") == 1


def test_using_the_model_is_there_if_it_was_asked_for(plan: Plan):
    assert "<h2>Using the model</h2>" not in plan_page("x", [plan])
    used = dataclasses.replace(plan, inference=plan_inference(config, device_named("h100")))
    made = plan_page("x", [used])
    assert "<h2>Using the model</h2>" in made
    assert "a million" in made


def test_rules_without_a_truth_say_so(plan: Plan):
    unknown = tuple(
        dataclasses.replace(rule, traced_bytes=None, relative_error=None) for rule in plan.rules
    )
    made = plan_page("x", [dataclasses.replace(plan, rules=unknown)])
    assert made.count("not known for this model") == 3
