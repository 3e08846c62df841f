import math
from typing import Any

import numpy as np
import pytest

from modelwright.training.curve_forecast import (
    Curve,
    Forecast,
    Usual,
    n_deviations,
)
from modelwright.training.schedules import ScheduleConfig, learning_rate

n_steps = 1000
cosine = ScheduleConfig(kind="cosine", peak_lr=0.01, warmup=50, floor=0.1)


def law(schedule: ScheduleConfig, *, alpha: float, gain: float) -> np.ndarray[Any, Any]:
    """A curve that begins at 8 nats and falls exactly as the law says."""
    rates = [learning_rate(schedule, step=k, n_steps=n_steps) for k in range(n_steps)]
    shares = np.array(rates) / schedule.peak_lr
    summed = np.cumsum(shares)
    fall = alpha * np.log(summed / summed[0]) + gain * (1 - shares)
    return 8 * np.exp(-fall + gain * (1 - shares[0]))


def curve_of(losses: Any, schedule: ScheduleConfig = cosine) -> Curve:
    curve = Curve(schedule, n_steps=len(losses))
    for step, loss in enumerate(losses, start=1):
        curve.add({"step": step, "loss": float(loss)})
    return curve


def made_after(step: int, losses: Any, schedule: ScheduleConfig = cosine) -> Forecast:
    curve = curve_of(losses, schedule)
    curve.forget_after(step)
    found = curve.forecast(step, float(losses[step - 1]))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd", "constant"])
@pytest.mark.parametrize(("alpha", "gain"), [(0.05, 0.1), (0.15, 0.2)])
@pytest.mark.parametrize("step", [300, 500, 800])
def test_what_follows_the_law_ends_within_the_interval(
    kind: Any, alpha: float, gain: float, step: int
):
    schedule = ScheduleConfig(kind=kind, peak_lr=0.01, warmup=50, floor=0.1)
    losses = law(schedule, alpha=alpha, gain=gain)
    found = made_after(step, losses, schedule)
    assert found.low < losses[-1] < found.high
    assert found.low < found.loss < found.high


def test_a_decay_that_has_begun_shows_how_much_it_gains():
    small, large = (law(cosine, alpha=0.1, gain=gain) for gain in (0.02, 0.3))
    for losses in (small, large):
        early, late = made_after(300, losses), made_after(700, losses)
        assert abs(late.loss / losses[-1] - 1) < 0.01
        assert late.high - late.low < 0.35 * (early.high - early.low)


def test_a_power_is_carried_on_where_the_rate_stays():
    constant = ScheduleConfig(kind="constant", peak_lr=0.01, warmup=50)
    for alpha in (0.03, 0.1, 0.25):
        losses = law(constant, alpha=alpha, gain=0.5)
        assert made_after(300, losses, constant).loss == pytest.approx(losses[-1], rel=0.01)


def test_noisy_batches_are_averaged():
    draws = np.random.default_rng(0)
    inside, errors, still_to_fall = 0, [], []
    for _ in range(200):
        alpha, gain = 0.1 + 0.02 * draws.standard_normal(), 0.08 + 0.05 * draws.standard_normal()
        losses = law(cosine, alpha=alpha, gain=gain)
        curve = curve_of(losses * np.exp(0.04 * draws.standard_normal(n_steps)))
        curve.forget_after(500)
        found = curve.forecast(500, losses[499])
        assert found is not None
        inside += found.low <= losses[-1] <= found.high
        errors.append(abs(found.loss - losses[-1]))
        still_to_fall.append(losses[499] - losses[-1])
    assert inside >= 180
    assert np.median(errors) < np.median(still_to_fall) / 2


def test_the_validation_loss_is_what_is_carried_on():
    losses = law(cosine, alpha=0.1, gain=0.1)
    curve = curve_of(losses)
    one, other = (curve.forecast(500, losses[499] * factor) for factor in (1.0, 1.1))
    assert one is not None
    assert other is not None
    assert other.loss == pytest.approx(1.1 * one.loss, rel=0.02)


@pytest.mark.parametrize("step", [0, 100, 299, 1000])
def test_nothing_is_said_too_early_or_after_the_end(step: int):
    assert curve_of(law(cosine, alpha=0.1, gain=0.1)).forecast(step, 4.0) is None


@pytest.mark.parametrize("loss", [math.inf, math.nan, 0.0])
def test_nothing_is_said_of_a_loss_that_no_law_is_about(loss: float):
    assert curve_of(law(cosine, alpha=0.1, gain=0.1)).forecast(500, loss) is None


def test_a_curve_that_is_too_short_says_nothing():
    short = curve_of(np.linspace(5, 4, 90))
    assert short.forecast(60, 4.4) is None  # 30 steps in the newer half
    warming = ScheduleConfig(kind="cosine", peak_lr=0.01, warmup=480)
    losses = law(cosine, alpha=0.1, gain=0.1)
    assert curve_of(losses, warming).forecast(500, 4.0) is None  # 20 after the warm-up
    assert curve_of(losses, warming).forecast(540, 4.0) is not None


def test_steps_without_a_loss_are_left_out():
    losses = law(cosine, alpha=0.1, gain=0.1)
    whole = curve_of(losses).forecast(500, losses[499])
    curve = Curve(cosine, n_steps=n_steps)
    for step, loss in enumerate(losses, start=1):
        record: dict[str, Any] = {"step": step, "loss": float(loss)}
        if step % 10 == 0:
            record = {"step": step, "event": "not_finite", "action": "skip"}
        if step % 10 == 1:
            curve.add({"step": step, "loss": 99.0, "event": "spike", "action": "rewind"})
        curve.add(record)
    curve.add({"step": 500, "validation_loss": 4.0})
    found = curve.forecast(500, losses[499])
    assert whole is not None
    assert found is not None
    assert found.loss == pytest.approx(whole.loss, rel=1e-3)


def test_steps_that_are_taken_again_are_forgotten():
    losses = law(cosine, alpha=0.1, gain=0.1)
    straight = curve_of(losses)
    straight.forget_after(600)
    again = curve_of(losses * 1.5)
    again.forget_after(0)
    assert again.forecast(600, 4.0) is None
    for step in range(1, 601):
        again.add({"step": step, "loss": float(losses[step - 1])})
    assert again.forecast(600, 4.0) == straight.forecast(600, 4.0)


def test_it_reads_as_people_say_it():
    assert str(Forecast(1.8375, 1.791, 1.904)) == "1.84 (1.79 to 1.90)"


def test_a_decay_that_is_to_come_gains_what_decays_usually_do():
    wsd = ScheduleConfig(kind="wsd", peak_lr=0.01, warmup=50, decay=0.2, floor=0.0)
    constant = ScheduleConfig(kind="constant", peak_lr=0.01, warmup=50)
    losses = law(wsd, alpha=0.1, gain=0.1)
    with_decay, without = made_after(700, losses, wsd), made_after(700, losses, constant)
    assert without.loss - with_decay.loss == pytest.approx(Usual().gain, rel=0.2)
    assert with_decay.high - with_decay.low > 1.6 * n_deviations * Usual().gain_spread
    assert without.high - without.low < 0.3


def test_the_more_is_to_come_the_less_sure_it_is():
    constant = ScheduleConfig(kind="constant", peak_lr=0.01, warmup=50)
    losses = law(constant, alpha=0.3, gain=0.0)
    found = made_after(300, losses, constant)
    to_come = math.log(losses[299] / losses[-1])
    assert math.log(found.high / found.low) / 2 > n_deviations * Usual().error_share * 0.9 * to_come


def test_losses_that_never_move_end_where_they_are():
    found = made_after(500, np.full(n_steps, 3.0), ScheduleConfig(kind="constant", warmup=50))
    assert found.loss == pytest.approx(3.0, abs=0.01)
    assert found.low < 2.99
    assert found.high > 3.01


def test_a_text_that_is_known_by_heart_has_a_forecast_too():
    curve = curve_of(np.full(n_steps, 1e-6), ScheduleConfig(kind="constant", warmup=50))
    found = curve.forecast(600, 1e-6)
    assert found is not None
    assert found.low < found.loss < found.high
