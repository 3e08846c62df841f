from pathlib import Path

import pytest

from modelwright.experiments.study_record import StudyRecord, StudyRun, Variant


def a_run(variant: str, seed: int) -> StudyRun:
    return StudyRun(variant=variant, seed=seed, folder=Path("runs"), outcome="finished")


def a_study(*variants: str, runs: tuple[StudyRun, ...] = (), baseline: str = "base") -> StudyRecord:
    return StudyRecord(
        name="norms",
        question="Does it need a norm?",
        baseline=baseline,
        variants=tuple(Variant(name=name, changes={}) for name in variants),
        runs=runs,
    )


def test_runs_of_a_variant_come_in_the_order_of_their_seeds():
    runs = (a_run("base", 2), a_run("none", 0), a_run("base", 1))
    assert [run.seed for run in a_study("base", "none", runs=runs).runs_of("base")] == [1, 2]


def test_a_baseline_that_is_no_variant_is_refused():
    with pytest.raises(ValueError, match="'bas' is not a variant of norms"):
        a_study("base", baseline="bas")


def test_a_run_of_no_variant_is_refused():
    with pytest.raises(ValueError, match="'other' is not a variant of norms"):
        a_study("base", runs=(a_run("other", 1),))


def test_two_variants_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two variants of norms have one name"):
        a_study("base", "base")
