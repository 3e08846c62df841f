from typing import Literal

import pytest

from modelwright.config.differences import Difference, differences
from modelwright.config.schema import settings


@settings
class Source:
    path: str
    weight: float = 1.0
    field: str | None = None


@settings
class Schedule:
    peak_lr: float = 0.001
    warmup: int | float = 100
    size: int | Literal["auto"] = "auto"
    cosine: bool = True


@settings
class Run:
    seed: int = 1
    schedule: Schedule = Schedule()
    source: str | tuple[Source, ...] = "stories"
    names: tuple[str, ...] = ("a",)
    limit: int | None = None


def told(before: Run, after: Run) -> list[str]:
    return [str(difference) for difference in differences(before, after)]


def test_equal_configs_differ_in_nothing():
    sources = (Source(path="a"),)
    assert differences(Run(source=sources), Run(source=(Source(path="a"),))) == []


def test_a_difference_has_its_path_and_both_values():
    after = Run(schedule=Schedule(peak_lr=0.003))
    assert differences(Run(), after) == [Difference("schedule.peak_lr", 0.001, 0.003)]
    assert told(Run(), after) == ["schedule.peak_lr: 0.001 → 0.003"]


def test_differences_come_in_the_order_of_definition():
    schedule = Schedule(cosine=False, size=8, peak_lr=0.1)
    after = Run(limit=3, names=("ü", "b"), schedule=schedule, seed=2)
    assert told(Run(), after) == [
        "seed: 1 → 2",
        "schedule.peak_lr: 0.001 → 0.1",
        'schedule.size: "auto" → 8',
        "schedule.cosine: true → false",
        'names: ["a"] → ["ü", "b"]',
        "limit: left out → 3",
    ]


def test_lists_of_sections_are_compared_item_by_item():
    before = Run(source=(Source(path="a"), Source(path="b")))
    after = Run(source=(Source(path="a", weight=2.0), Source(path="c"), Source(path="d")))
    assert told(before, after) == [
        "source[0].weight: 1.0 → 2.0",
        'source[1].path: "b" → "c"',
        'source[2]: left out → {path = "d", weight = 1.0}',
    ]
    assert told(after, before)[-1] == 'source[2]: {path = "d", weight = 1.0} → left out'
    assert told(Run(source=()), before)[0].startswith("source[0]: left out → {")


def test_a_list_of_sections_in_the_place_of_a_text_is_one_difference():
    after = Run(source=(Source(path="a"),))
    assert told(Run(), after) == ['source: "stories" → [{path = "a", weight = 1.0}]']


def test_one_and_one_point_zero_differ_only_where_the_setting_tells_them_apart():
    before = Run(schedule=Schedule(warmup=1, peak_lr=1))
    after = Run(schedule=Schedule(warmup=1.0, peak_lr=1.0))
    assert told(before, after) == ["schedule.warmup: 1 → 1.0"]


def test_configs_of_two_classes_cannot_be_compared():
    with pytest.raises(AssertionError, match="Run is no Schedule"):
        differences(Run(), Schedule())
