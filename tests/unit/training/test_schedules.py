import math
from pathlib import Path
from typing import Any

import pytest

from modelwright.config.loading import load_settings, to_toml
from modelwright.training.schedules import ScheduleConfig, learning_rate

kinds = ["cosine", "linear", "wsd", "constant"]


def rates(n_steps: int = 100, **settings: Any) -> list[float]:
    everything: dict[str, Any] = {"peak_lr": 1.0} | settings
    config = ScheduleConfig(**everything)
    return [learning_rate(config, step=step, n_steps=n_steps) for step in range(n_steps)]


@pytest.mark.parametrize("kind", kinds)
def test_the_rate_rises_evenly_to_its_peak(kind: str):
    found = rates(kind=kind, warmup=10)
    assert found[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert max(found) == found[9] == found[10] == 1.0


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_the_rate_falls_to_its_floor(kind: str):
    found = rates(kind=kind, warmup=10, floor=0.2)
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[-2] > found[-1] == pytest.approx(0.2)


def test_the_cosine_is_the_one_of_the_paper():
    found = rates(n_steps=101, kind="cosine", warmup=0, floor=0.2)
    expected = [0.2 + 0.5 * (1 - 0.2) * (1 + math.cos(math.pi * t / 100)) for t in range(101)]
    assert found == pytest.approx(expected)


def test_the_line_goes_down_evenly():
    assert rates(n_steps=8, kind="linear", warmup=3, floor=0.2) == pytest.approx(
        [1 / 3, 2 / 3, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    )


def test_wsd_keeps_its_peak_until_the_last_steps():
    assert rates(n_steps=9, kind="wsd", warmup=2, decay=4, floor=0.2) == pytest.approx(
        [0.5, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    )


def test_constant_keeps_its_peak_to_the_end():
    assert rates(n_steps=5, kind="constant", warmup=2) == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_a_longer_wsd_run_has_the_same_rates_until_the_shorter_one_decays():
    shorter, longer = (rates(n, kind="wsd", warmup=10, decay=20) for n in (100, 200))
    assert shorter[:80] == longer[:80]
    assert shorter[80:] == longer[180:]


def test_wsd_that_decays_from_the_warm_up_on_is_the_line():
    assert rates(kind="wsd", warmup=10, decay=95) == rates(kind="linear", warmup=10)


def test_a_decay_of_less_than_a_step_is_one_step():
    assert rates(n_steps=4, kind="wsd", warmup=0, decay=0.01, floor=0.5) == [1.0, 1.0, 1.0, 0.5]


@pytest.mark.parametrize(("steps", "share"), [(0, 0.0), (30, 0.3)])
def test_a_warm_up_is_a_number_of_steps_or_a_share_of_them(steps: int, share: float):
    assert rates(warmup=steps) == rates(warmup=share)


def test_a_decay_is_a_number_of_steps_or_a_share_of_them():
    assert rates(kind="wsd", decay=30) == rates(kind="wsd", decay=0.3)


def test_a_warm_up_of_one_step_is_not_the_whole_run():
    assert rates(warmup=1) == rates(warmup=0.01)


@pytest.mark.parametrize("kind", kinds)
def test_a_run_shorter_than_its_warm_up_ends_in_it(kind: str):
    assert rates(n_steps=4, kind=kind, warmup=8) == [0.125, 0.25, 0.375, 0.5]


@pytest.mark.parametrize(
    ("n_steps", "warmup", "expected"),
    [
        (1, 0, [1.0]),
        (1, 1, [1.0]),
        (2, 0, [1.0, 0.5]),
        (2, 1, [1.0, 0.5]),
        (2, 2, [0.5, 1.0]),
        (3, 0, [1.0, 0.75, 0.5]),
        (3, 1, [1.0, 1.0, 0.5]),
        (3, 2, [0.5, 1.0, 0.5]),
    ],
)
@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_very_short_runs(kind: str, n_steps: int, warmup: int, expected: list[float]):
    found = rates(n_steps, kind=kind, warmup=warmup, decay=2, floor=0.5)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    "change",
    [{"peak_lr": 0.5}, {"warmup": 0.3}, {"warmup": 3}, {"floor": 0.5}, {"decay": 0.5}],
    ids=str,
)
def test_every_number_changes_the_rate(change: dict[str, Any]):
    assert rates(kind="wsd", **change) != rates(kind="wsd")


def test_every_kind_is_another_curve():
    assert len({tuple(rates(kind=kind)) for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(
    "written", ["warmup = 100", "warmup = 0.05", "decay = 1", "decay = 0.5", "warmup = 0"]
)
def test_a_recipe_tells_steps_from_shares(tmp_path: Path, written: str):
    (tmp_path / "recipe.toml").write_text(written)
    config = load_settings(ScheduleConfig, tmp_path / "recipe.toml").config
    assert written in to_toml(config).splitlines()


@pytest.mark.parametrize(("override", "expected"), [("100", 100), ("0.05", 0.05)])
def test_an_override_tells_steps_from_shares(override: str, expected: float):
    found = load_settings(ScheduleConfig, None, [f"warmup={override}"]).config.warmup
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"peak_lr": 0.0}, "schedule.peak_lr is 0.0; choose a number above 0, such as 0.003"),
        ({"warmup": 1.0}, "schedule.warmup is 1.0, .* choose one such as 100 or 0.05"),
        ({"warmup": -1}, "schedule.warmup is -1, but it is a whole number of steps or a share"),
        ({"warmup": -0.1}, "schedule.warmup is -0.1, but it is a whole number of steps or a share"),
        ({"decay": 1.5}, "schedule.decay is 1.5, .* choose one such as 1000 or 0.2"),
        ({"decay": 0}, "schedule.decay is 0, .* at least 1 step, or schedule.kind = 'constant'"),
        ({"decay": 0.0}, "schedule.decay is 0.0, which leaves no step"),
        ({"floor": 1.5}, "schedule.floor is 1.5, but it is a fraction of peak_lr"),
        ({"floor": -0.1}, "schedule.floor is -0.1, but it is a fraction of peak_lr"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**wrong)
