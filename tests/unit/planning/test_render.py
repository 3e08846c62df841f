import dataclasses
import re

import pytest

from modelwright.accounting.hardware import device_named
from modelwright.config.loading import load_settings
from modelwright.planning.fit import Suggestion
from modelwright.planning.plan import Plan, make_plan
from modelwright.planning.render import count, dollars, duration, explain_peak, render
from modelwright.training.config import RunConfig


@pytest.fixture(scope="module")
def plan() -> Plan:
    settings = ["model.preset=laptop", "training.batch_tokens=4096", "training.compile=false"]
    return make_plan(load_settings(RunConfig, None, settings).config, device_named("h100"))


def not_fitting(plan: Plan, *found: Suggestion) -> Plan:
    memory = dataclasses.replace(plan.memory, usable_bytes=2**29)
    return dataclasses.replace(plan, memory=memory, suggestions=found)


def test_it_is_one_screen_in_gib(plan: Plan):
    text = render(plan)
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 100
    assert not re.search(r"\bGB\b|\bMB\b", text)
    assert text.startswith("FITS on h100: a step needs ")
    assert "of 79.18 GiB" in text.splitlines()[0]


def test_a_larger_part_has_a_longer_bar(plan: Plan):
    memory = dataclasses.replace(
        plan.memory,
        kinds={"weights": 2**34, "loss": 2**33},
        peak_bytes=2**34 + 2**33,
        outside_bytes=0,
        usable_bytes=2**35,
    )
    lines = render(dataclasses.replace(plan, memory=memory)).splitlines()
    blocks = {line.split()[0]: line.count("█") for line in lines if "█" in line}
    assert blocks == {"weights": 20, "loss": 10}


def test_what_does_not_fit_says_by_how_much_and_what_to_change(plan: Plan):
    one = Suggestion(settings=("training.recompute=blocks",), peak_bytes=2**28, costs="time")
    text = render(not_fitting(plan, one))
    assert text.startswith("DOES NOT FIT on h100")
    assert "too much" in text.splitlines()[0]
    assert "--set training.recompute=blocks" in text
    assert "A smaller model" in render(not_fitting(plan))


def test_the_largest_portion_is_told_when_asked_for(plan: Plan):
    assert "largest portion" not in render(plan)
    assert "micro_batch = 7" in render(dataclasses.replace(plan, largest_micro_batch=7))
    assert "not even one" in render(dataclasses.replace(plan, largest_micro_batch=0))


def test_the_explanation_adds_up_to_the_peak(plan: Plan):
    text = explain_peak(plan)
    for kind in plan.memory.kinds:
        assert re.search(rf"GiB  {kind}\b", text)
    assert f"{plan.memory.peak_bytes / 2**30:.2f} GiB  in tensors" in text
    assert f"operation {plan.memory.operation}" in text


def test_a_tight_fit_says_what_pytorch_would_hold(plan: Plan):
    usable = plan.memory.held_bytes - 1
    tight = dataclasses.replace(plan, memory=dataclasses.replace(plan.memory, usable_bytes=usable))
    first, second = render(tight).splitlines()[:2]
    assert first.startswith("FITS, but tightly, on h100: a step needs ")
    held, there = (f"{n_bytes / 2**30:.2f} GiB" for n_bytes in (usable + 1, usable))
    assert second.startswith(f"PyTorch would hold {held} of {there}, and give blocks back")
    assert "would hold" not in render(plan)
    assert f"held            {held}" in render(plan)
    assert "held  " not in render(not_fitting(plan))


def test_the_explanation_says_what_the_allocator_reserves(plan: Plan):
    text = explain_peak(plan)
    assert plan.memory.reserved_bytes is not None
    assert f"{plan.memory.reserved_bytes / 2**30:.2f} GiB  reserved by PyTorch" in text
    there = dataclasses.replace(plan.memory, reserved_bytes=None)
    assert "reserved" not in explain_peak(dataclasses.replace(plan, memory=there))


def test_the_explanation_ends_with_the_rules_and_how_far_off_they_are(plan: Plan):
    _, said = explain_peak(plan).split("What textbook rules say instead:")
    assert f"{plan.memory.peak_bytes / 2**30:.2f} GiB  the peak of a step" in said
    for rule in plan.rules:
        assert rule.relative_error is not None
        (line,) = (line for line in said.splitlines() if f"  {rule.name} " in line)
        assert f"{rule.relative_error:+.0%}" in line
        assert rule.source.split()[0] in line
    assert max(map(len, said.splitlines())) <= 100
    unknown = tuple(
        dataclasses.replace(rule, traced_bytes=None, relative_error=None) for rule in plan.rules
    )
    assert "not known for this model" in explain_peak(dataclasses.replace(plan, rules=unknown))


def test_one_line_says_what_using_the_model_takes(plan: Plan):
    (line,) = (line for line in render(plan).splitlines() if line.startswith("inference"))
    assert line.endswith(" of cache for one text of 256 tokens")
    assert f"{plan.inference.weight_bytes['bf16'] / 2**30:.2g} GiB of weights in bf16" in line
    several = dataclasses.replace(plan.inference, batch=8)
    assert "for 8 texts of" in render(dataclasses.replace(plan, inference=several))


def test_numbers_for_people():
    assert [count(n) for n in (831, 12_345, 1_557_611_200)] == ["831", "12.3k", "1.56 billion"]
    assert duration(0.0123) == "12.3 ms"
    assert duration(0.0000877) == "87.7 µs"
    assert [duration(s) for s in (9.87, 48, 750, 22_320, 2_700_000)] == [
        "9.9 s",
        "48 s",
        "12 min",
        "6.2 h",
        "31 days",
    ]
    assert (dollars(5.898), dollars(1240.4)) == ("$5.90", "$1,240")
