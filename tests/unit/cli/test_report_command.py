"""What `modelwright report` makes of what it is given: a run, several, or a study."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simulated_study
from modelwright.cli.report import report
from modelwright.experiments import study_report
from modelwright.experiments.study_results import Results
from simulated_study import Simulated


@pytest.fixture
def study(tmp_path: Path) -> Path:
    variants = [
        Simulated(name="base"),
        Simulated(name="gelu", changes={"model.mlp": "gelu"}, shift=-0.1),
    ]
    simulated_study.write_simulated(tmp_path, variants, n_steps=10, question="Is GELU better?")
    return tmp_path


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Results, Path]]:
    """What was to be written where, in place of the pages, which take their time."""
    asked: list[tuple[Results, Path]] = []

    def write(results: Results, folder: Path) -> Path:
        asked.append((results, folder))
        return folder / study_report.page_name

    monkeypatch.setattr(study_report, "write_results", write)
    return asked


def call(*runs: Path, **options: Any) -> None:
    """The verb, with what its options are if nobody gives them."""
    usual: dict[str, Any] = dict.fromkeys(("baseline", "out", "question", "worthwhile"))
    command: Callable[..., None] = report
    command(list(runs), **(usual | options))


def test_a_studys_folder_is_compared_there_as_it_says(
    study: Path, written: list[tuple[Results, Path]], capsys: pytest.CaptureFixture[str]
):
    call(study)
    ((results, folder),) = written
    assert folder == study
    assert (results.study.baseline, results.study.question) == ("base", "Is GELU better?")
    told = capsys.readouterr().out
    assert told.startswith("gelu against base: better by 0.1")
    assert told.endswith(f"{study / 'report.html'}\n")


def test_the_options_change_what_is_compared_with_what(
    study: Path, written: list[tuple[Results, Path]], tmp_path: Path
):
    call(study, baseline="gelu", question="And back?", worthwhile=0.5, out=tmp_path / "there")
    ((results, folder),) = written
    assert (results.study.baseline, results.study.question) == ("gelu", "And back?")
    assert results.question.worthwhile == 0.5
    assert folder == tmp_path / "there"
    assert results.comparisons["base"].kind == "worse"


def test_several_runs_are_put_together_and_compared_in_a_folder_of_its_own(
    study: Path, written: list[tuple[Results, Path]]
):
    runs = sorted((study / "runs").iterdir())
    call(*runs)
    ((results, folder),) = written
    assert folder == Path("comparison")
    assert results.study.baseline == "base"
    assert results.comparisons["gelu"].n_pairs == 3
    assert results.study.name == "Comparison of base and gelu"


def test_one_run_has_the_report_of_a_run(study: Path, capsys: pytest.CaptureFixture[str]):
    run = study / "runs" / "base-seed1"
    facts = run / "run.json"
    facts.write_text(facts.read_text().replace('"precision"', '"epochs": 1.0, "precision"'))
    call(run)
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert "<h2>Loss</h2>" in (run / "report.html").read_text()


def test_options_of_a_comparison_are_refused_for_one_run(study: Path):
    with pytest.raises(
        ValueError, match="are for comparing; name several runs, or a study's folder"
    ):
        call(study / "runs" / "base-seed1", baseline="base")


def test_a_study_and_a_run_are_not_compared(study: Path):
    with pytest.raises(ValueError, match="a study is compared by itself"):
        call(study, study / "runs" / "base-seed1")
