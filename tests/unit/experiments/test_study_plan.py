"""The bill of a study: sums, what is over budget, and who is asked."""

import dataclasses

import pytest

from modelwright.accounting.hardware import device_named
from modelwright.cli import study as command
from modelwright.config.loading import load_settings
from modelwright.experiments.study_config import BudgetConfig
from modelwright.experiments.study_plan import (
    StudyPlan,
    VariantPlan,
    _run_seconds,  # pyright: ignore[reportPrivateUsage]
    besides_on_gpu,
    besides_on_processor,
    in_time,
    over_budget,
    render_study_plan,
)
from modelwright.planning.duration import Range
from modelwright.training.config import RunConfig


def variant(name: str, n_runs: int, seconds: float, **changes: float | None) -> VariantPlan:
    made = VariantPlan(
        name=name,
        n_runs=n_runs,
        n_steps=100,
        n_tokens=1_000_000,
        n_parameters=2_000_000,
        run_seconds=Range(low=seconds, high=2 * seconds),
        price_per_hour_usd=3.6,
        checkpoint_bytes=2**30,
        fits=True,
    )
    return dataclasses.replace(made, **changes)


def plan(*variants: VariantPlan, n_workers: int = 1, n_places: int = 1) -> StudyPlan:
    return StudyPlan(
        title="a GPU",
        variants=variants,
        n_done=3,
        n_workers=n_workers,
        n_places=n_places,
        is_measured=False,
    )


def test_a_plan_is_the_sum_of_its_runs():
    one = plan(variant("a", 2, 1800), variant("b", 4, 900))
    assert one.device_seconds == Range(low=7200, high=14_400)
    assert one.seconds == one.device_seconds
    assert one.price_usd is not None
    assert (one.price_usd.low, one.price_usd.high) == pytest.approx((7.2, 14.4))
    assert one.disk_bytes == 6 * 2**30


def test_several_devices_share_the_runs_but_no_run():
    assert plan(variant("a", 8, 100), n_workers=4, n_places=4).seconds.low == 200
    assert plan(variant("a", 2, 100), n_workers=4, n_places=4).seconds.low == 100


def test_without_a_price_there_is_no_price():
    assert plan(variant("a", 1, 100, price_per_hour_usd=None)).price_usd is None


def test_a_plan_is_shown_with_what_is_done_and_what_does_not_fit():
    text = render_study_plan(plan(variant("a", 2, 1800), variant("big", 1, 10, fits=False)))
    assert "variant  runs  steps  tokens  parameters  each run" in text
    assert "a           2    100   1.00M       2.00M  30 to 60 min" in text
    assert "3 runs on a GPU, one after the other, 3 done already" in text
    assert "time 1 to 2 h (assumed) · $3.61 to $7.22" in text
    assert "note: by the plan, big does not fit into memory" in text


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (BudgetConfig(hours=2.1), None),
        (BudgetConfig(hours=1.9), "the plan is 2 hours, and budget.hours is 1.9"),
        (BudgetConfig(usd=7.3), None),
        (BudgetConfig(usd=7.1), "the plan is $7.20, and budget.usd is 7.1"),
    ],
)
def test_the_upper_end_of_a_plan_has_to_be_within_the_budget(
    budget: BudgetConfig, reason: str | None
):
    assert over_budget(plan(variant("a", 2, 1800)), budget) == reason


def test_a_price_that_is_not_known_may_be_over_any_budget():
    unknown = plan(variant("a", 2, 1800, price_per_hour_usd=None))
    assert over_budget(unknown, BudgetConfig(usd=1)) == (
        "budget.usd is 1, and no price of a GPU is known"
    )


def test_a_long_study_is_not_begun_where_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    long, short = plan(variant("a", 2, 1800)), plan(variant("a", 2, 10))
    with pytest.raises(ValueError, match="takes 1 to 2 h, and there is nobody to ask"):
        command.require_consent(long, BudgetConfig(), yes=False)
    command.require_consent(long, BudgetConfig(), yes=True)
    command.require_consent(short, BudgetConfig(), yes=False)
    with pytest.raises(ValueError, match="begin all the same with --yes, or raise the budget"):
        command.require_consent(short, BudgetConfig(hours=0.001), yes=False)


def test_a_no_begins_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda text: asked.append(text) or False)
    with pytest.raises(ValueError, match="nothing was begun"):
        command.require_consent(plan(variant("a", 2, 1800)), BudgetConfig(), yes=False)
    assert asked == ["\nThis takes 1 to 2 h. Begin?"]


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.31, 0.92, "0.31 to 0.92 s"), (100, 130, "1.7 to 2.2 min"), (7200, 7200, "2 h")],
)
def test_times_are_for_people(low: float, high: float, text: str):
    assert in_time(Range(low=low, high=high)) == text


def test_a_run_takes_its_steps_its_measurements_and_what_is_besides():
    config = load_settings(
        RunConfig,
        None,
        [
            "training.n_steps=100",
            "training.batch_tokens=1024",
            "evaluation.every_steps=50",
            "evaluation.n_tokens=3072",
        ],
    ).config
    step = Range(low=1.0, high=2.0)
    on_processor = _run_seconds(config, step, None)
    on_gpu = _run_seconds(config, step, device_named("h100"))
    # At the beginning, after 50 and after 100 steps: three times three batches of a third each.
    assert on_processor.low == pytest.approx(103 + besides_on_processor.low)
    assert on_gpu.high == pytest.approx(206 + besides_on_gpu.high)
