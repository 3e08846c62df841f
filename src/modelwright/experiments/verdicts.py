"""Verdicts in words: what was found, how sure that is, and what would be needed to know more."""

from collections.abc import Sequence

from modelwright.experiments.statistics import (
    Comparison,
    Interval,
    Kind,
    Question,
    bootstrap_limit,
    most_seeds_looked_for,
)
from modelwright.experiments.study_looks import setting_label
from modelwright.experiments.study_record import StudyRecord
from modelwright.experiments.study_results import Results, VariantResult

minus = "\N{MINUS SIGN}"
most_named = 4  # variants in a sentence, before the rest is only counted


def headline(results: Results) -> str:
    """What the study found, in a few sentences; the first is the answer."""
    return " ".join(filter(None, [_answer(results), edge_in_words(results.study)]))


def edge_in_words(study: StudyRecord) -> str:
    """Where runs begin to diverge, by a bisection; nothing where none was asked for."""
    edge = study.edge
    if edge is None:
        return ""
    label = setting_label(edge.setting)
    if not edge.is_found or edge.trains is None or edge.diverges is None:
        return f"Where runs begin to diverge along the {label} is not found: {edge.note}."
    along = _diverged_along(edge.setting, study)
    told = (
        f"No run diverged with a {label} of {edge.trains:g}, and "
        f"{_share(along[edge.diverges])} did with {edge.diverges:g}"
    )
    sign = 1 if edge.trains < edge.diverges else -1  # the edge may lie below what trains
    earlier = [
        f"{_share(counts)} with {value:g}"
        for value, counts in sorted(along.items(), key=lambda one: sign * one[0])
        if sign * value < sign * edge.trains and counts[0]
    ]
    if earlier:
        told += f"; but so did {listed(earlier)}, so the edge is not a sharp one"
    return f"{told}."


def _diverged_along(setting: str, study: StudyRecord) -> dict[float, tuple[int, int]]:
    """For each value of a setting that was changed by itself: how many runs diverged, of all."""
    found: dict[float, tuple[int, int]] = {}
    for value, variant in study.along(setting).items():
        outcomes = [run.outcome for run in study.runs_of(variant.name)]
        found[value] = outcomes.count("diverged"), len(outcomes)
    return found


def _share(counts: tuple[int, int]) -> str:
    return f"{counts[0]} of {counts[1]}"


def _answer(results: Results) -> str:
    found, base = results.comparisons, results.study.baseline
    if not found:
        return f"There is only {base}, so there is nothing to compare it with. {_lowest(results)}"
    if len(found) == 1:
        (one,) = found.values()
        return f"{one.variant} against {base}: {in_words(one, results)}. {_lowest(results)}"
    best = _named("better", results)
    answer = (
        f"Better than {base}: {listed(best)}"
        if best
        else f"None of {len(found)} variants is shown to be better than {base}"
    )
    others: list[tuple[Kind, str]] = [
        ("steadier", f"Finished more often than {base}"),
        ("worse", "Worse"),
        ("diverges", f"Diverged where {base} did not"),
        ("no difference", "No difference worth knowing of"),
        ("too few seeds", "Too few seeds to tell"),
    ]
    told = [f"{title}: {listed(_named(kind, results))}" for kind, title in others]
    told = [sentence for sentence in told if not sentence.endswith(": ")]
    return f"{'. '.join([answer, *told])}. {_lowest(results)}"


def _named(kind: Kind, results: Results) -> list[str]:
    """The variants with a verdict; better and worse ones with the size, the largest first."""
    chosen = [one for one in results.comparisons.values() if one.kind == kind]
    if kind not in ("better", "worse"):
        return [one.variant for one in chosen]
    chosen.sort(key=lambda one: -abs(one.mean or 0.0))
    return [f"{one.variant} (by {abs(one.mean or 0.0):.3f})" for one in chosen]


def listed(names: Sequence[str], most: int = most_named) -> str:
    """Names in a sentence: "a, b and c", or "a, b and 7 more"."""
    if not names:
        return ""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _lowest(results: Results) -> str:
    whole = [one for one in results.variants if one.mean is not None]
    steady = [one for one in whole if not one.outcomes.diverged] or whole
    if not steady:
        return "No run finished."
    best = min(steady, key=lambda one: one.mean or 0.0)
    return (
        f"The lowest mean is that of {best.name}, {best.mean:.3f} {results.unit} over "
        f"{_count(len(best.finals), 'seed')}."
    )


def in_words(one: Comparison, results: Results) -> str:
    """The verdict on a variant, with its size and how sure it is."""
    question = results.question
    if one.kind == "diverges":
        return f"{_diverged(one)}{_with_others(one, results)}"
    if one.kind == "steadier":
        return f"steadier: {_diverged(one)}{_with_others(one, results)}"
    if one.kind in ("better", "worse"):
        assert one.mean is not None and one.interval is not None
        return f"{one.kind} by {_size(one)}"
    if one.kind == "no difference":
        assert one.interval is not None
        largest = max(abs(one.interval.low), abs(one.interval.high))
        return f"no difference larger than {largest:.3g} either way"
    return _too_few(one, question)


def briefly(one: Comparison, results: Results) -> str:
    """The verdict on a variant for a table that has its size and interval besides."""
    if one.kind in ("diverges", "steadier"):
        return _diverged(one)
    if one.kind in ("better", "worse", "no difference") or one.interval is None:
        return one.kind if one.n_pairs else "no seed with a result on both sides"
    return f"too few seeds; {needed_in_words(one, results.question)}"


def _size(one: Comparison) -> str:
    assert one.mean is not None and one.interval is not None
    ends = sorted((abs(one.interval.low), abs(one.interval.high)))
    return f"{abs(one.mean):.3f} ({ends[0]:.3f} to {ends[1]:.3f})"


def _diverged(one: Comparison) -> str:
    theirs = f"with {one.baseline_diverged}" if one.baseline_diverged else "with none"
    ours = f"{one.n_diverged} of {_count(one.n_judged, 'seed')}"
    p = p_in_words(one.p_diverging)
    chance = f"p {p}" if p.startswith("<") else f"p = {p}"
    return f"diverged with {ours}, the baseline {theirs} (Fisher's {chance})"


def _with_others(one: Comparison, results: Results) -> str:
    """What is known from the seeds with which neither diverged."""
    if one.n_pairs < 2 or one.interval is None or one.mean is None:
        return ""
    is_shown = one.p_holm is not None and one.p_holm <= results.question.alpha
    rest = f"; with the other {one.n_pairs} "
    if is_shown:
        return f"{rest}{'better' if one.mean < 0 else 'worse'} by {_size(one)}"
    return f"{rest}between {signed(one.interval.low)} and {signed(one.interval.high)}"


def _too_few(one: Comparison, question: Question) -> str:
    if one.n_pairs == 0:
        return "no seed with a result on both sides"
    if one.interval is None:
        return "too few seeds: one difference has no spread; 3 are a beginning"
    between = f"between {signed(one.interval.low)} and {signed(one.interval.high)}"
    return f"too few seeds: {between}; {needed_in_words(one, question)}"


def needed_in_words(one: Comparison, question: Question) -> str:
    """How many seeds would do, for what."""
    worth = f"a difference of {question.worthwhile:.2g}"
    if one.n_needed is None:
        return f"more than {most_seeds_looked_for:,} would be needed to show {worth}"
    if one.n_needed <= one.n_pairs:
        # The spread is as small as it takes, but the difference seen is near what is asked for.
        return f"{_count(one.n_pairs, 'seed')} show {worth} with a chance of {question.power:.0%}"
    return f"about {one.n_needed:,} would show {worth}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, if it is not nothing: "+0.012", "−0.300", "0.000"."""
    if round(value, digits) == 0:
        return f"{0:.{digits}f}"
    return f"{value:+.{digits}f}".replace("-", minus)


def interval_in_words(interval: Interval | None) -> str:
    """An interval's ends with their signs; a dash for none."""
    if interval is None:
        return "–"
    return f"{signed(interval.low)} to {signed(interval.high)}"


def p_in_words(p: float | None) -> str:
    """A p-value: two digits, or below a thousandth only that."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.01 else f"{p:.2f}"


def spread_in_words(one: VariantResult) -> str:
    """The mean over seeds and its standard deviation."""
    if one.mean is None:
        return "–"
    return f"{one.mean:.4f}" + (f" ± {one.deviation:.4f}" if one.deviation is not None else "")


def method_in_words(results: Results) -> list[str]:
    """How the verdicts came about, a paragraph each."""
    question, n = results.question, len(results.comparisons)
    most = max((one.n_pairs for one in results.comparisons.values()), default=0)
    tested = sum(one.p is not None for one in results.comparisons.values())
    paragraphs = [
        f"Compared is the {results.measure_name} ({results.unit}), seed by seed: a difference is a "
        "variant's figure less the baseline's with the same seed, so below zero is better. Mean ± "
        "standard deviation are over seeds.",
        "A difference is shown where the paired t-test, corrected by Holm's procedure for "
        f"{_count(tested, 'comparison')}, has p at most {question.alpha:g}: the chance of one "
        f"false verdict or more is then at most {question.alpha:.0%}, if differences are about "
        "normally distributed. The interval is at the level at which that procedure tested the "
        "row, so it leaves zero out exactly where a difference is shown; for a single row that "
        f"is at least {1 - question.alpha:.0%}. Intervals that hold for all rows at once "
        "(Bonferroni) are in table.csv.",
        f"Worth knowing is a difference of {question.worthwhile:.2g} or more. “No difference” "
        "means that the whole interval is within that. “Too few seeds” means that it reaches "
        "beyond; the number that would do is for showing that difference with a chance of "
        f"{question.power:.0%}, with the spread that was measured, which few seeds tell only "
        "roughly. Effect size is the mean difference in its standard deviations (d_z), with "
        "Hedges' correction.",
        "A diverged run has no final figure and none is put in its place; that it diverged is the "
        "verdict. What is said of the size of a difference is then of seeds with which neither "
        "side diverged.",
    ]
    if most >= 2:
        paragraphs.append(
            "The bootstrap interval (percentile, of a row by itself) is for comparison only: it "
            f"never leaves the range of the differences seen, so with {_count(most, 'seed')} it "
            f"holds with at most {bootstrap_limit(most):.0%} however wide it claims to be. "
            "No verdict rests on it."
        )
    return paragraphs if n else paragraphs[:1]
