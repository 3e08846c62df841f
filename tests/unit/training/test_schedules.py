import pytest

from modelwright.training.schedules import ScheduleConfig, learning_rate


def rates(n_steps: int = 100, **settings: float) -> list[float]:
    config = ScheduleConfig(**settings)  # type: ignore[arg-type]
    return [learning_rate(config, step=step, n_steps=n_steps) for step in range(n_steps)]


def test_the_rate_rises_evenly_to_its_peak_and_falls_to_its_floor():
    found = rates(peak_lr=1.0, warmup_fraction=0.1, floor=0.2)
    assert found[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert found[10] == pytest.approx(1.0)
    assert found[-1] == pytest.approx(0.2)
    assert found[10:] == sorted(found[10:], reverse=True)


def test_half_way_through_the_decay_is_half_way_down():
    found = rates(n_steps=101, peak_lr=1.0, warmup_fraction=0.0, floor=0.0)
    assert found[50] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "change", [{"peak_lr": 0.5}, {"warmup_fraction": 0.3}, {"floor": 0.5}], ids=str
)
def test_every_option_changes_the_rate(change: dict[str, float]):
    assert rates(100, **({"peak_lr": 1.0} | change)) != rates(peak_lr=1.0)


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_very_short_runs_have_a_rate_above_zero(n_steps: int):
    assert all(rate > 0 for rate in rates(n_steps=n_steps, peak_lr=1.0))


@pytest.mark.parametrize(
    "wrong", [{"peak_lr": 0.0}, {"warmup_fraction": 1.0}, {"floor": 1.5}, {"floor": -0.1}], ids=str
)
def test_values_out_of_range_are_refused(wrong: dict[str, float]):
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=rf"schedule\.{name} is {value}"):
        ScheduleConfig(**wrong)  # type: ignore[arg-type]
