import dataclasses

import pytest

import laws
from modelwright.accounting.law_fit import fit_law
from modelwright.accounting.law_intervals import resample
from modelwright.accounting.scaling import LossLaw, besiroglu, hoffmann


@pytest.mark.parametrize("law", [hoffmann, besiroglu], ids=["hoffmann", "besiroglu"])
def test_a_law_without_scatter_is_recovered(law):
    found = fit_law(laws.points(law=law)).law
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(law, name), rel=1e-6), name


def test_one_wild_run_hardly_moves_the_law():
    points = laws.points(scatter=0.001)
    wild = [dataclasses.replace(points[7], loss=points[7].loss * 1.3), *points[:7], *points[8:]]
    before, after = fit_law(points).law, fit_law(wild).law
    assert after.loss(1e8, 1e10) == pytest.approx(before.loss(1e8, 1e10), rel=0.01)


def test_residuals_are_of_the_logarithm_of_the_loss():
    fit = fit_law(laws.points(scatter=0.01))
    point = fit.points[3]
    ratio = point.loss / fit.law.loss(point.n_parameters, point.n_tokens)
    assert fit.residuals[3] == pytest.approx(ratio - 1, abs=1e-3)
    assert 0.004 < fit.spread < 0.02


def test_two_sizes_are_refused_with_their_number():
    points = laws.points(around=(0.5, 2.0), budgets=(1e15,)) * 4
    with pytest.raises(ValueError, match=r"2 different sizes of model .* train 1 more"):
        fit_law(points)


def test_runs_on_one_line_are_refused():
    points = laws.points(around=(1,), budgets=tuple(1e14 * 3**k for k in range(8)))
    with pytest.raises(ValueError, match="lie on one line of sizes and tokens"):
        fit_law(points)


def test_five_runs_are_too_few():
    with pytest.raises(ValueError, match="there are 5 runs, but five unknowns want at least 6"):
        fit_law(laws.points(budgets=(1e15,)))


def test_a_run_that_diverged_is_named():
    points = laws.points()
    points[2] = dataclasses.replace(points[2], loss=float("nan"), name="wild")
    with pytest.raises(ValueError, match="the loss of wild is nan"):
        fit_law(points)


def test_losses_that_rise_with_tokens_are_no_law():
    points = [
        dataclasses.replace(p, loss=1 + 10 / p.n_parameters**0.1 + p.n_tokens**0.05)
        for p in laws.points()
    ]
    with pytest.raises(ValueError, match="the loss does not fall with more tokens"):
        fit_law(points)


def test_more_scatter_makes_wider_intervals():
    widths = []
    for scatter in (0.001, 0.01):
        uncertain = resample(fit_law(laws.points(scatter=scatter)), n_draws=100)
        widths.append(uncertain.forecast(1e8, 1e10).half_width)
    assert widths[1] > 4 * widths[0]


def test_one_run_is_less_sure_than_the_mean_over_many():
    uncertain = resample(fit_law(laws.points(scatter=0.005)), n_draws=200)
    here = uncertain.fit.points[7]
    place = here.n_parameters, here.n_tokens
    assert uncertain.forecast(*place).half_width > 1.2 * uncertain.expected(*place).half_width


def test_a_forecast_far_away_is_less_sure():
    uncertain = resample(fit_law(laws.points(scatter=0.005)), n_draws=200)
    near, far = uncertain.expected(2e7, 2e8), uncertain.expected(2e10, 2e11)
    assert far.half_width / far.value > 2 * near.half_width / near.value


def test_a_law_without_a_floor_has_intervals_too():
    # In some draws the best E is too small for a float.
    floorless = LossLaw(source="made up", E=1e-30, A=300, B=300, alpha=0.3, beta=0.3)
    uncertain = resample(fit_law(laws.points(law=floorless, scatter=0.02)), n_draws=200)
    told = uncertain.law_intervals()["E"]
    assert 0 < told.low < 1e-3 < told.high


def test_a_loss_that_falls_only_below_the_second_size_is_no_power():
    points = [
        dataclasses.replace(
            points[0],
            n_parameters=n,
            n_tokens=d,
            loss=2 + (n == 10**6) + 100 / d**0.3,
        )
        for points in [laws.points()]
        for n in (10**6, 2 * 10**6, 4 * 10**6)
        for d in (10**8, 10**9, 10**10)
    ]
    with pytest.raises(ValueError, match="alpha = .* between the fewest and the next"):
        fit_law(points)


def test_the_same_seed_gives_the_same_interval():
    fit = fit_law(laws.points(scatter=0.005))
    one, two, other = (resample(fit, n_draws=100, seed=s).forecast(1e8, 1e9) for s in (1, 1, 2))
    assert one == two != other


def test_drawing_runs_anew_also_gives_intervals():
    fit = fit_law(laws.points(scatter=0.005))
    drawn = [resample(fit, n_draws=100, resampling=kind) for kind in ("residuals", "runs")]
    one, other = (uncertain.law_intervals()["alpha"] for uncertain in drawn)
    assert one.low < one.value < one.high
    assert other.low != one.low and other.low < other.value < other.high


def test_drawn_runs_that_cannot_determine_the_law_are_left_out():
    nine = [
        dataclasses.replace(
            laws.points()[0], n_parameters=n, n_tokens=n * ratio, loss=besiroglu.loss(n, n * ratio)
        )
        for n in (10**6, 2 * 10**6, 4 * 10**6)
        for ratio in (10, 20, 40)
    ]
    uncertain = resample(fit_law(nine), n_draws=300, resampling="runs")
    # Of nine drawn with replacement, a third have two sizes or ratios, or five runs and fewer.
    assert 60 < uncertain.n_left_out < 150
    with pytest.raises(ValueError, match=r"only \d+ of 300 resampled fits determine the law"):
        resample(fit_law([*nine[:4], *nine[7:]]), n_draws=300, resampling="runs")


def test_losses_that_are_all_the_same_are_no_law():
    alike = [dataclasses.replace(point, loss=3.0) for point in laws.points()]
    with pytest.raises(ValueError, match="the loss does not fall with larger models"):
        fit_law(alike)
