"""Verdicts on differences: against SciPy, against theory, and on simulated studies."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from modelwright.experiments.statistics import (
    Outcomes,
    Question,
    bootstrap_interval,
    bootstrap_limit,
    detectable_difference,
    effect_size,
    holm,
    holm_levels,
    judge,
    p_of,
    power_of,
    seeds_needed,
    t_interval,
)

question = Question(worthwhile=0.02)
base_values = [2.41, 2.43, 2.40, 2.44]


def outcomes(name: str, values: list[float], **more) -> Outcomes:
    return Outcomes(name=name, finals=dict(enumerate(values, start=1)), **more)


def shifted(name: str, shifts: list[float]) -> Outcomes:
    return outcomes(name, [a + b for a, b in zip(base_values, shifts, strict=False)])


def kind_of(variant: Outcomes, baseline: Outcomes | None = None, asked: Question = question) -> str:
    (one,) = judge(baseline or outcomes("base", base_values), [variant], asked)
    return one.kind


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_test_and_its_interval_are_those_of_scipy(n: int):
    rng = np.random.default_rng(n)
    ours, theirs = rng.normal(0.3, 1, n), rng.normal(size=n)
    differences = list(ours - theirs)
    found = stats.ttest_rel(ours, theirs)
    assert p_of(differences) == pytest.approx(found.pvalue, rel=1e-9)
    for confidence in (0.9, 0.95, 0.995):
        interval = t_interval(differences, confidence)
        expected = found.confidence_interval(confidence)
        assert (interval.low, interval.high) == pytest.approx(tuple(expected), rel=1e-9)


def test_holm_multiplies_the_smallest_by_all_and_never_goes_down():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_an_interval_leaves_zero_out_exactly_where_holm_finds_a_difference():
    rng = np.random.default_rng(0)
    n_found = 0
    for _ in range(300):
        shifts = rng.choice([0.0, 1.0, 3.0], size=6)
        rows = rng.normal(size=(6, 4)) + shifts[:, None]
        p_values = [p_of(list(row)) for row in rows]
        levels = holm_levels(p_values, 0.05)
        for row, p, level in zip(rows, holm(p_values), levels, strict=True):
            assert (0 not in t_interval(list(row), 1 - level)) == (p <= 0.05)
            assert level <= 0.05
            n_found += p <= 0.05
    assert 100 < n_found < 1700


def test_each_stands_at_the_level_at_which_holm_came_to_it():
    # The two smallest are found, of three and then of two; the last stands alone.
    assert holm_levels([0.02, 0.9, 0.001], 0.05) == pytest.approx([0.05 / 2, 0.05, 0.05 / 3])
    # Nothing is found, so all stand where the first one failed.
    assert holm_levels([0.03, 0.9, 0.5], 0.05) == pytest.approx([0.05 / 3] * 3)


@cache
def simulated(n_seeds: int, n_variants: int, shift: float, n_studies: int) -> list[np.ndarray]:
    """Differences to a shared baseline, a row a variant: the seed's part has dropped out."""
    rng = np.random.default_rng([n_seeds, n_variants])
    own = rng.normal(size=(n_studies, n_variants + 1, n_seeds))
    return list(own[:, 1:] - own[:, :1] + shift)


@pytest.mark.parametrize("n_seeds", [3, 5])
def test_without_a_difference_at_most_one_study_in_twenty_finds_one(n_seeds: int):
    n_studies, n_variants = 800, 6
    wrong = together = alone = 0
    for study in simulated(n_seeds, n_variants, 0.0, n_studies):
        p_values = [p_of(list(row)) for row in study]
        wrong += min(holm(p_values)) <= 0.05
        together += all(0 in t_interval(list(row), 1 - 0.05 / n_variants) for row in study)
        alone += 0 in t_interval(list(study[0]), 0.95)
    # Three standard errors of a share of 5% of the studies.
    margin = 3 * math.sqrt(0.05 * 0.95 / n_studies)
    assert wrong / n_studies < 0.05 + margin
    assert together / n_studies > 0.95 - margin
    assert alone / n_studies == pytest.approx(0.95, abs=margin)
    # Without the correction it would be far more, so the simulation can tell.
    uncorrected = np.mean(
        [min(p_of(list(row)) for row in study) <= 0.05 for study in simulated(n_seeds, 6, 0.0, 800)]
    )
    assert uncorrected > 0.12


@pytest.mark.parametrize(("n_seeds", "alpha"), [(3, 0.05), (6, 0.05 / 4), (12, 0.05)])
def test_the_power_is_what_simulated_studies_show(n_seeds: int, alpha: float):
    rng = np.random.default_rng(n_seeds)
    n_studies, true = 1500, 1.3
    draws = rng.normal(true, 1.0, size=(n_studies, n_seeds))
    shown = np.mean([p_of(list(row)) <= alpha for row in draws])
    expected = power_of(n_seeds, true, 1.0, alpha=alpha)
    assert 0.2 < expected < 0.999
    assert shown == pytest.approx(expected, abs=3.5 * math.sqrt(0.25 / n_studies))


def test_as_many_seeds_as_are_needed_have_the_power_and_one_less_does_not():
    for difference, alpha in itertools.product((0.3, 0.6, 1.0, 4.0), (0.05, 0.005)):
        n = seeds_needed(difference, 1.0, alpha=alpha, power=0.8)
        assert n is not None
        assert power_of(n, difference, 1.0, alpha=alpha) >= 0.8
        assert power_of(n - 1, difference, 1.0, alpha=alpha) < 0.8
    assert seeds_needed(0.001, 1.0, alpha=0.05, power=0.8) is None
    # The usual table: 34 pairs for half a standard deviation.
    assert seeds_needed(0.5, 1.0, alpha=0.05, power=0.8) == 34


def test_the_detectable_difference_has_just_the_power():
    for n in (2, 3, 8):
        found = detectable_difference(n, 0.5, alpha=0.01, power=0.8)
        assert power_of(n, found, 0.5, alpha=0.01) == pytest.approx(0.8, abs=2e-3)


def test_the_effect_size_is_without_the_bias_of_few_seeds():
    rng = np.random.default_rng(0)
    draws = rng.normal(0.8, 1.0, size=(20_000, 4))
    plain = float(np.mean(draws.mean(axis=1) / draws.std(axis=1, ddof=1)))
    found = [effect_size(list(row)) for row in draws]
    assert plain > 1.05  # a third too much
    assert np.mean([one for one in found if one is not None]) == pytest.approx(0.8, abs=0.03)


def test_two_differences_and_equal_ones_have_no_effect_size():
    assert effect_size([0.1, 0.2]) is None
    assert effect_size([0.25, 0.25, 0.25]) is None


def test_a_bootstrap_of_few_is_every_resample_and_of_many_like_scipys():
    values = [0.1, 0.4, 1.0]
    means = sorted(sum(chosen) / 3 for chosen in itertools.product(values, repeat=3))
    found = bootstrap_interval(values, 0.8)
    assert found.low == pytest.approx(means[2])  # 27 resamples: a tenth of them is 2.7
    assert found.high == pytest.approx(means[24])
    many = np.random.default_rng(0).normal(size=40)
    theirs = stats.bootstrap(
        (many,), np.mean, method="percentile", n_resamples=9_999, rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bootstrap_interval(list(many), 0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_bootstrap_of_few_seeds_holds_less_often_than_it_says(n: int):
    rng = np.random.default_rng(n)
    held = [0 in bootstrap_interval(list(rng.normal(size=n)), 0.95) for _ in range(600)]
    assert np.mean(held) < bootstrap_limit(n) + 0.05 < 1
    between = [row.min() <= 0 <= row.max() for row in rng.normal(size=(4000, n))]
    assert np.mean(between) == pytest.approx(bootstrap_limit(n), abs=0.03)


def test_lower_is_better_and_the_size_is_the_mean_of_the_pairs():
    base = outcomes("base", base_values)
    lower, higher = (
        shifted("lower", [-0.1, -0.11, -0.1, -0.09]),
        shifted("higher", [0.1, 0.11, 0.1, 0.09]),
    )
    found = judge(base, [lower, higher], question)
    assert [one.kind for one in found] == ["better", "worse"]
    assert [one.mean for one in found] == pytest.approx([-0.1, 0.1])
    assert found[0].n_pairs == 4


def test_pairing_takes_out_what_the_seed_does():
    # The seeds differ by far more than the variants, and in the same way.
    base = outcomes("base", [1.0, 2.0, 3.0, 4.0])
    assert kind_of(outcomes("other", [0.9, 1.91, 2.9, 3.89]), base) == "better"


def test_a_difference_too_small_to_matter_is_none():
    assert kind_of(shifted("alike", [0.001, -0.001, 0.0005, 0.0])) == "no difference"
    # The same values, but now so small a difference would matter.
    tight = Question(worthwhile=0.0005)
    assert kind_of(shifted("alike", [0.001, -0.001, 0.0005, 0.0]), asked=tight) == "too few seeds"


@pytest.mark.parametrize("sign", [1, -1])
def test_an_interval_that_reaches_beyond_on_one_side_is_no_equality(sign: int):
    shifts = [sign * shift for shift in (0.012, 0.001, 0.011, -0.002)]
    (one,) = judge(outcomes("base", base_values), [shifted("leaning", shifts)], question)
    assert one.interval is not None
    reach = sorted((abs(one.interval.low), abs(one.interval.high)))
    asked = Question(worthwhile=sum(reach) / 2)  # between its two ends
    assert reach[0] < asked.worthwhile < reach[1]
    assert kind_of(shifted("leaning", shifts), asked=asked) == "too few seeds"
    assert kind_of(shifted("leaning", shifts), asked=Question(worthwhile=reach[1] + 0.001)) == (
        "no difference"
    )


def test_noise_leaves_the_question_open_and_says_how_many_seeds_would_do():
    (one,) = judge(
        outcomes("base", base_values), [shifted("noisy", [0.05, -0.04, 0.03, -0.02])], question
    )
    assert one.kind == "too few seeds"
    assert one.n_needed is not None and one.deviation is not None and one.detectable is not None
    assert power_of(one.n_needed, 0.02, one.deviation, alpha=0.05) >= 0.8
    assert one.n_needed > 4 and one.detectable > 0.02


def test_one_pair_is_too_few_for_anything():
    (one,) = judge(outcomes("base", base_values), [outcomes("single", [2.0])], question)
    assert (one.kind, one.interval, one.p, one.n_needed) == ("too few seeds", None, None, None)
    assert one.mean == pytest.approx(-0.41)


def test_more_variants_ask_for_more_evidence():
    candidate = shifted("candidate", [-0.03, -0.05, -0.03, -0.05])
    assert kind_of(candidate) == "better"
    others = [shifted(f"{n}", [0.03, -0.04, 0.05, -0.03]) for n in range(40)]
    among = judge(outcomes("base", base_values), [candidate, *others], question)
    assert among[0].kind == "too few seeds"
    assert among[0].p == judge(outcomes("base", base_values), [candidate], question)[0].p


def test_a_diverged_run_is_counted_whatever_the_others_show():
    better = outcomes("wild", [2.3, 2.32], diverged=frozenset({3, 4}))
    (one,) = judge(outcomes("base", base_values), [better], question)
    assert one.kind == "diverges"
    assert (one.n_diverged, one.n_judged, one.baseline_diverged) == (2, 4, 0)
    assert one.n_pairs == 2
    exact = stats.fisher_exact([[0, 4], [2, 2]])
    assert one.p_diverging == pytest.approx(exact[1])  # pyright: ignore[reportIndexIssue]
    assert one.left_out == {3: "wild diverged", 4: "wild diverged"}


def test_a_variant_that_holds_where_the_baseline_diverges_is_steadier():
    base = outcomes("base", base_values[:2], diverged=frozenset({3, 4}))
    assert kind_of(outcomes("steady", base_values), base) == "steadier"


def test_divergence_is_compared_over_the_same_seeds_only():
    # The baseline diverged with seed 3, which the other never ran.
    base = outcomes("base", [2.4, 2.5], diverged=frozenset({3}))
    assert kind_of(outcomes("other", [2.2, 2.3001]), base) == "better"


def test_seeds_without_a_result_are_named_with_whose_they_are():
    variant = outcomes("late", base_values[:2], absent={3: "failed", 4: "is missing"})
    base = Outcomes(name="base", finals={1: 2.4, 2: 2.4, 3: 2.4}, absent={4: "failed"})
    (one,) = judge(base, [variant], question)
    assert one.left_out == {3: "late failed", 4: "base failed and late is missing"}


def test_runs_that_agree_to_the_last_digit_have_no_spread_and_still_a_verdict():
    assert kind_of(shifted("same", [0.0] * 4)) == "no difference"
    base = outcomes("base", [1.0, 2.0, 3.0])
    (one,) = judge(base, [outcomes("half", [1.5, 2.5, 3.5])], question)
    assert (one.kind, one.p, one.effect) == ("worse", 0.0, None)


@pytest.mark.parametrize("n", range(2, 12))
@pytest.mark.parametrize("difference", [0.1, -0.05, 1 / 3])
def test_equal_differences_have_no_spread_though_their_mean_is_rounded(n: int, difference: float):
    base = outcomes("base", [0.0] * n)
    (one,) = judge(base, [outcomes("other", [difference] * n)], question)
    assert (one.deviation, one.p, one.effect, one.detectable) == (0.0, 0.0, None, 0.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("alpha", 0.0, "alpha is 0.0; it is a chance between 0 and 1"),
        ("power", 1.0, "power is 1.0"),
        ("worthwhile", 0.0, "worthwhile is 0.0, but it is the smallest difference worth knowing"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(name: str, value: float, message: str):
    with pytest.raises(ValueError, match=message):
        Question(**({"worthwhile": 0.1} | {name: value}))
