"""Whether a difference is real: paired differences over seeds, their intervals, and a verdict.

Everything is about differences to a baseline, seed by seed: runs with one seed see the same data in
the same order, so what a seed does to both drops out. A lower figure is better, as of a loss.

- The test is the paired t-test. Among several variants the chance of one false verdict or more is
  held at `alpha` by Holm's step-down procedure.
- A variant's interval is at the level at which Holm tested it, so it leaves zero out exactly where
  a difference is shown. It is never narrower than the usual one. `joint` holds for all variants at
  once (Bonferroni), and is wider for those that Holm tested late.
- The bootstrap interval is the percentile one, of each variant by itself. It is for comparison
  only: it never reaches beyond the smallest and the largest difference, so with few seeds it holds
  less often than it says. No verdict rests on it.
- A diverged run has no final loss, and no number stands in for one. How often each side diverged
  is a verdict of its own; the difference is then of the seeds at which neither did.

Sources: Holm (1979), A simple sequentially rejective multiple test procedure; Hedges (1981),
Distribution theory for Glass's estimator of effect size (the correction, here for paired
differences with n - 1 degrees of freedom); Efron and Tibshirani (1993), An Introduction to the
Bootstrap, chapter 13.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import stats

Kind = Literal["better", "worse", "no difference", "too few seeds", "diverges", "steadier"]

most_seeds_looked_for = 1000
n_resamples = 9_999
most_all_resamples = 5**5  # up to this many, every resample is made instead of drawing some


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of the differences.

    Attributes:
        alpha: the chance of one false "better" or "worse" or more among all variants.
        power: the chance of showing a worthwhile difference that "how many seeds" is about.
        worthwhile: the smallest difference that is worth knowing of, in the figure's own unit.
    """

    worthwhile: float
    alpha: float = 0.05
    power: float = 0.8

    def __post_init__(self) -> None:
        for name in ("alpha", "power"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is a chance between 0 and 1")
        if not self.worthwhile > 0:
            raise ValueError(
                f"worthwhile is {self.worthwhile}, but it is the smallest difference worth knowing "
                "of, above 0; such as 0.01"
            )


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What a variant came to with each seed.

    Attributes:
        finals: the last figure by seed, of runs that finished.
        diverged: the seeds with which it diverged.
        absent: seeds without a result, and why.
    """

    name: str
    finals: Mapping[int, float]
    diverged: frozenset[int] = frozenset()
    absent: Mapping[int, str] = field(default_factory=dict)

    @property
    def judged(self) -> frozenset[int]:
        """The seeds with which it came to an end, good or bad."""
        return self.diverged | self.finals.keys()


@dataclass(frozen=True)
class Interval:
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant against the baseline; None is what too few seeds leave open.

    Attributes:
        differences: to the baseline by seed, where both finished; below zero is better.
        deviation: of the differences, with n - 1.
        p: of the t-test by itself; `p_holm` is corrected for the number of variants.
        level: the confidence of `interval`, from 1 - alpha up.
        joint: the interval that holds for all variants at once.
        effect: the mean difference in its standard deviations (d_z), less the bias of few seeds.
        n_needed: seeds with which a worthwhile difference would show; None if it is not known, or
            more than are looked for.
        detectable: the difference that this many seeds show with the wanted power.
        n_judged: seeds with which both sides came to an end, good or bad; of these each side
            diverged in `n_diverged` and `baseline_diverged`.
        p_diverging: Fisher's exact test of the two shares of diverged runs, two-sided.
        left_out: seeds that make no pair, and why.
    """

    variant: str
    kind: Kind
    differences: Mapping[int, float]
    mean: float | None = None
    deviation: float | None = None
    p: float | None = None
    p_holm: float | None = None
    interval: Interval | None = None
    level: float | None = None
    joint: Interval | None = None
    bootstrap: Interval | None = None
    effect: float | None = None
    n_needed: int | None = None
    detectable: float | None = None
    n_judged: int = 0
    n_diverged: int = 0
    baseline_diverged: int = 0
    p_diverging: float | None = None
    left_out: Mapping[int, str] = field(default_factory=dict)

    @property
    def n_pairs(self) -> int:
        return len(self.differences)


def judge(
    baseline: Outcomes, variants: Sequence[Outcomes], question: Question
) -> tuple[Comparison, ...]:
    """Compare each variant with the baseline."""
    pairs = [_differences(baseline, variant) for variant in variants]
    p_values = {n: p_of(list(pair.values())) for n, pair in enumerate(pairs) if len(pair) >= 2}
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    levels = dict(zip(p_values, holm_levels(list(p_values.values()), question.alpha), strict=True))
    made: list[Comparison] = []
    for n, (variant, differences) in enumerate(zip(variants, pairs, strict=True)):
        values = list(differences.values())
        kind: Kind = "too few seeds"
        numbers: dict[str, object] = {"mean": float(np.mean(values))} if values else {}
        if n in p_values:
            interval = t_interval(values, 1 - levels[n])
            kind = _kind(values, interval, corrected[n], question)
            deviation = deviation_of(values)
            at_first = question.alpha / len(p_values)  # the strictest level that may be asked of it
            numbers |= {
                "deviation": deviation,
                "p": p_values[n],
                "p_holm": corrected[n],
                "interval": interval,
                "level": 1 - levels[n],
                "joint": t_interval(values, 1 - at_first),
                "bootstrap": bootstrap_interval(values, 1 - question.alpha),
                "effect": effect_size(values),
                "n_needed": seeds_needed(
                    question.worthwhile, deviation, alpha=at_first, power=question.power
                ),
                "detectable": detectable_difference(
                    len(values), deviation, alpha=at_first, power=question.power
                ),
            }
        both = baseline.judged & variant.judged
        theirs, ours = len(baseline.diverged & both), len(variant.diverged & both)
        if theirs != ours:
            kind = "diverges" if ours > theirs else "steadier"
        made.append(
            Comparison(
                variant=variant.name,
                kind=kind,
                differences=differences,
                n_judged=len(both),
                n_diverged=ours,
                baseline_diverged=theirs,
                p_diverging=_p_diverging(theirs, ours, len(both)),
                left_out=_left_out(baseline, variant),
                **numbers,  # pyright: ignore[reportArgumentType]
            )
        )
    return tuple(made)


def p_of(differences: Sequence[float]) -> float:
    """The chance of a mean this far from zero if there is no difference: a paired t-test.

    Args:
        differences: at least two.
    """
    mean, error = _mean_and_error(differences)
    if error == 0:  # the seeds agree to the last digit
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, len(differences) - 1))


def t_interval(differences: Sequence[float], confidence: float) -> Interval:
    """Where the mean difference lies, by Student's t.

    Args:
        differences: at least two.
    """
    mean, error = _mean_and_error(differences)
    reach = float(stats.t.isf((1 - confidence) / 2, len(differences) - 1)) * error
    return Interval(mean - reach, mean + reach)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for their number, in their order: Holm's step-down procedure."""
    order = sorted(range(len(p_values)), key=lambda n: p_values[n])
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, n in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[n]))
        corrected[n] = largest
    return corrected


def holm_levels(p_values: Sequence[float], alpha: float) -> list[float]:
    """The level at which Holm's procedure decided on each, in their order.

    Those found different were tested at alpha over the number that were left; all others stand at
    the level of the first that was not. So an interval at that level leaves zero out exactly where
    the corrected p-value is at most alpha.
    """
    corrected = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda n: p_values[n])
    n_kept = sum(p > alpha for p in corrected)
    levels = [alpha / max(1, n_kept)] * len(p_values)
    for rank, n in enumerate(order):
        if corrected[n] <= alpha:
            levels[n] = alpha / (len(p_values) - rank)
    return levels


def bootstrap_interval(differences: Sequence[float], confidence: float) -> Interval:
    """The percentile bootstrap of the mean; of few differences every resample, else random ones."""
    values = np.asarray(differences, dtype=float)
    n = len(values)
    if n**n <= most_all_resamples:
        means = np.array([sum(chosen) / n for chosen in itertools.product(values, repeat=n)])
    else:
        chosen = np.random.default_rng(0).integers(n, size=(n_resamples, n))
        means = values[chosen].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


def bootstrap_limit(n_seeds: int) -> float:
    """The most that any percentile bootstrap can hold with this many seeds.

    It stays between the smallest and the largest difference; both lie on one side of the middle of
    a symmetric distribution with this chance's complement.
    """
    return 1 - 2.0 ** (1 - n_seeds)


def deviation_of(differences: Sequence[float]) -> float:
    """With n - 1; of equal ones zero, which a mean that is rounded would hide."""
    if min(differences) == max(differences):
        return 0.0
    return float(np.std(differences, ddof=1))


def effect_size(differences: Sequence[float]) -> float | None:
    """The mean in standard deviations (d_z) times Hedges' correction; None for two, or no spread.

    With two differences, one degree of freedom, the correction is zero.
    """
    n = len(differences)
    deviation = deviation_of(differences)
    if n < 3 or deviation == 0:
        return None
    freedom = n - 1
    logarithm = math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)
    correction = math.exp(logarithm) / math.sqrt(freedom / 2)
    return float(np.mean(differences)) / deviation * correction


def power_of(n_seeds: int, difference: float, deviation: float, *, alpha: float) -> float:
    """The chance that a paired t-test at level `alpha` shows a true difference."""
    if n_seeds < 2:
        return 0.0
    if deviation == 0:
        return 1.0 if difference else 0.0
    freedom = n_seeds - 1
    critical = stats.t.isf(alpha / 2, freedom)
    shift = difference / deviation * math.sqrt(n_seeds)
    above, below = stats.nct.sf(critical, freedom, shift), stats.nct.cdf(-critical, freedom, shift)
    # Far out, SciPy gives up on a tail that is nothing.
    return float(np.nan_to_num(above, nan=1.0) + np.nan_to_num(below, nan=0.0))


def seeds_needed(difference: float, deviation: float, *, alpha: float, power: float) -> int | None:
    """The fewest seeds that show a difference with that power; None beyond a thousand."""
    low, high = 1, 2
    while power_of(high, difference, deviation, alpha=alpha) < power:
        if high >= most_seeds_looked_for:
            return None
        low, high = high, min(2 * high, most_seeds_looked_for)
    while high - low > 1:
        middle = (low + high) // 2
        is_enough = power_of(middle, difference, deviation, alpha=alpha) >= power
        low, high = (low, middle) if is_enough else (middle, high)
    return high


def detectable_difference(n_seeds: int, deviation: float, *, alpha: float, power: float) -> float:
    """The smallest true difference that this many seeds show with that power, by bisection."""
    if deviation == 0:
        return 0.0
    low, high = 0.0, deviation
    while power_of(n_seeds, high, deviation, alpha=alpha) < power:
        low, high = high, 2 * high
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        is_enough = power_of(n_seeds, middle, deviation, alpha=alpha) >= power
        low, high = (low, middle) if is_enough else (middle, high)
    return high


def _kind(values: Sequence[float], interval: Interval, p: float, question: Question) -> Kind:
    if p <= question.alpha:
        return "better" if np.mean(values) < 0 else "worse"
    if -question.worthwhile < interval.low and interval.high < question.worthwhile:
        return "no difference"
    return "too few seeds"


def _differences(baseline: Outcomes, variant: Outcomes) -> dict[int, float]:
    seeds = sorted(baseline.finals.keys() & variant.finals.keys())
    return {seed: variant.finals[seed] - baseline.finals[seed] for seed in seeds}


def _left_out(baseline: Outcomes, variant: Outcomes) -> dict[int, str]:
    """Every seed of either side that makes no pair, and whose fault that is."""
    every = [one.finals.keys() | one.diverged | one.absent.keys() for one in (baseline, variant)]
    reasons: dict[int, str] = {}
    for seed in sorted(every[0] | every[1]):
        faults = [
            f"{one.name} {'diverged' if seed in one.diverged else one.absent.get(seed, 'has none')}"
            for one in (baseline, variant)
            if seed not in one.finals
        ]
        if faults:
            reasons[seed] = " and ".join(faults)
    return reasons


def _p_diverging(theirs: int, ours: int, n_seeds: int) -> float | None:
    if not theirs and not ours:
        return None
    table = [[theirs, n_seeds - theirs], [ours, n_seeds - ours]]
    return float(stats.fisher_exact(table).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def _mean_and_error(differences: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error."""
    assert len(differences) >= 2, f"{len(differences)} difference has no spread"
    error = deviation_of(differences) / math.sqrt(len(differences))
    return float(np.mean(differences)), error
