import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot

import laws
import small
from modelwright.accounting.law_fit import Point
from modelwright.accounting.scaling import besiroglu
from modelwright.cli import scaling
from modelwright.config.loading import to_toml
from modelwright.experiments.plots import style
from modelwright.experiments.scaling_analysis import FinishedRun, analyse, read_run, to_json
from modelwright.experiments.scaling_plots import forecast_figure, loss_over_work, map_figure
from modelwright.experiments.scaling_report import findings, write_scaling
from modelwright.runtime.files import write_atomically
from modelwright.training.metrics import config_file, facts_file


def finished(point: Point, **changes) -> FinishedRun:
    """A run that has a point's figures; a tenth of its parameters embed tokens."""
    values = {
        "name": f"{point.name}-seed{point.seed}",
        "folder": Path("runs") / point.name,
        "n_parameters": {"all": point.n_parameters, "non_embedding": point.n_parameters * 9 // 10},
        "n_tokens": point.n_tokens,
        "flops": point.flops,
        "loss": point.loss,
        "seed": point.seed,
        "epochs": 0.5,
        "seconds": 10.0,
        "tokenizer": "t",
        "text": "x",
    }
    return FinishedRun(**(values | changes))


@pytest.fixture(scope="module")
def analysis():
    runs = [finished(point) for point in laws.points(scatter=0.002)]
    larger = laws.points(budgets=(1.6e17,), around=(1,), scatter=0.002, seed=9)
    return analyse(runs, [finished(larger[0], name="larger")], budgets=[1e18], n_draws=100)


def test_the_check_is_forecast_and_its_distance_told(analysis):
    (checked,) = analysis.checks
    assert abs(checked.error) < 0.05
    assert checked.error == pytest.approx(checked.run.loss - checked.forecast.value)
    assert checked.is_inside
    assert "10.0x the most FLOPs fitted" in checked.reach


def test_a_check_that_misses_is_said_to_be_outside():
    runs = [finished(point) for point in laws.points(scatter=0.002)]
    larger = laws.points(budgets=(1.6e17,), around=(1,))[0]
    missed = analyse(runs, [finished(larger, loss=larger.loss * 1.2)], n_draws=100)
    assert not missed.checks[0].is_inside
    said = dict(findings(missed))["check"]
    assert "outside the 95% interval" in said and f"{missed.checks[0].error:+.4f} nats" in said


@pytest.mark.parametrize("draw", [loss_over_work, map_figure, forecast_figure])
def test_the_seeds_of_a_check_have_one_name_in_a_picture(analysis, draw):
    (checked,) = analysis.checks
    twice = dataclasses.replace(analysis, checks=(checked, checked))
    with pyplot.rc_context(style):
        names = [text.get_text() for text in draw(twice).axes[0].get_legend().get_texts()]
    assert len([name for name in names if name.startswith("check")]) == 1


def test_the_best_split_uses_what_a_token_costs(analysis):
    assert analysis.work.coefficient == pytest.approx(6, rel=1e-6)
    optimum = analysis.optima[-1]
    assert optimum.flops == 1e18
    split = besiroglu.optimal_split(1e18)
    assert optimum.n_parameters.low < split.n_parameters < optimum.n_parameters.high
    assert 6 * optimum.n_parameters.value * optimum.n_tokens.value == pytest.approx(1e18, rel=1e-6)


def test_the_other_count_of_parameters_has_a_law_of_its_own():
    runs = [finished(point) for point in laws.points()]
    both = [analyse(runs, count=count, n_draws=100) for count in ("all", "non_embedding")]
    laws_found = [one.law.fit.law for one in both if one.law]
    assert laws_found[0].alpha == pytest.approx(laws_found[1].alpha, rel=1e-3)
    # The same loss with nine tenths of the count.
    assert pytest.approx(0.9**besiroglu.alpha, rel=1e-3) == laws_found[1].A / laws_found[0].A


def test_without_a_law_the_valleys_stay():
    runs = [finished(point) for point in laws.points(budgets=(1e15,))]
    found = analyse(runs, n_draws=100)
    assert found.law is None and "five unknowns" in found.law_trouble
    assert found.valleys is not None
    assert dict(findings(found))["law"].startswith("none: ")


def test_scatter_between_seeds_is_told_where_there_are_some():
    points = laws.points()
    runs = [finished(p) for p in points] + [finished(p, seed=2, loss=p.loss * 1.01) for p in points]
    found = analyse(runs, n_draws=100)
    assert found.seed_spread == pytest.approx(0.01 / 2**0.5, rel=0.01)
    assert analyse(runs[:15], n_draws=100).seed_spread is None


@pytest.mark.parametrize("what", ["tokenizer", "text"])
def test_losses_of_other_tokens_are_refused(what):
    runs = [finished(point) for point in laws.points()]
    with pytest.raises(ValueError, match=f"trained on another {what}"):
        analyse([*runs[:-1], finished(laws.points()[-1], **{what: "other"})])


def test_everything_is_written_and_the_page_needs_no_network(analysis, tmp_path):
    page = write_scaling(tmp_path, "tried", [analysis], notes=["one run is diverged: <loss>"])
    text = page.read_text()
    assert not re.search(r"(src|href)=['\"](?!data:|#)", text)
    assert "one run is diverged: &lt;loss&gt;" in text
    assert text.count("<svg") == 6
    content = json.loads((tmp_path / "scaling.json").read_text())
    assert content == json.loads(
        json.dumps(to_json([analysis], "tried") | {"notes": content["notes"]})
    )
    told = content["by_count"]["all"]["law"]["values"]["alpha"]
    assert told["low"] < told["value"] < told["high"]
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert len(lines) == 1 + 15 + 1 and lines[-1].startswith("larger,check,")
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"


def run_folder(tmp_path: Path) -> Path:
    """A run's folder of six steps, without a record of any."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = small.run_config(tmp_path)
    write_atomically(folder / config_file, to_toml(config))
    parameters = {"token_embedding": 40, "position_embedding": 5, "attention": 30, "mlp": 20}
    parameters |= {"norms": 3, "unembedding": 2, "total": 100}
    facts = {"parameters": parameters, "step_flops": 7, "epochs": 0.25}
    facts |= {"tokenizer": "t", "data": {"train": 1}}
    (folder / facts_file).write_text(json.dumps(facts))
    return folder


def test_a_run_folder_is_read(tmp_path):
    folder = run_folder(tmp_path)
    small.record(folder, {"step": 3, "loss": 5.0, "seconds": 1.0})
    with pytest.raises(ValueError, match="its record ends at step 3 of 6"):
        read_run(folder)
    small.record(folder, {"step": 6, "loss": 4.0, "validation_loss": 4.5, "seconds": 2.0})
    run = read_run(folder)
    assert run.n_parameters == {"all": 100, "non_embedding": 53}
    assert (run.n_tokens, run.flops, run.loss, run.seconds) == (6 * 64, 42.0, 4.5, 2.0)
    with pytest.raises(FileNotFoundError, match="holds no config.toml"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "lines",
    [
        [{"validation_loss": 4.5}],
        [{"validation_loss": 4.5}, {"samples": ["One day"]}],
    ],
)
def test_a_loss_that_was_made_up_for_after_the_last_step_counts(tmp_path, lines):
    folder = run_folder(tmp_path)
    for line in ({"loss": 4.0, "seconds": 2.0}, *lines):
        small.record(folder, {"step": 6} | line)
    run = read_run(folder)
    assert (run.loss, run.seconds) == (4.5, 2.0)


def test_a_last_loss_that_is_no_number_is_none_at_all(tmp_path):
    folder = run_folder(tmp_path)
    for step, loss in ((3, 5.0), (6, None)):
        small.record(folder, {"step": step, "loss": 4.0, "validation_loss": loss, "seconds": 1.0})
    with pytest.raises(ValueError, match="has no loss after its last step"):
        read_run(folder)


def test_losses_that_hardly_change_end_no_analysis():
    rng = np.random.default_rng(0)
    runs = [
        finished(point, loss=3 * float(np.exp(0.002 * rng.normal()))) for point in laws.points()
    ]
    found = analyse(runs, n_draws=200)
    assert found.law is not None
    told = json.dumps(to_json([found], "flat"), allow_nan=False)
    assert "optima" in told and found.optima
    # A size beyond all models is told in a few digits.
    assert max(one.n_parameters.high for one in found.optima) > 1e29
    assert all(
        len(number) < 8 for _, said in findings(found) for number in re.findall(r"\d+B", said)
    )


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    runs = [
        finished(point, name="run", folder=Path("ladders") / point.name)
        for point in laws.points(scatter=0.01)
    ]
    found = analyse(runs, n_draws=100)
    residuals = to_json([found], "tried")["by_count"]["all"]["law"]["residuals"]
    assert found.law is not None
    assert residuals == dict(
        zip((str(run.folder) for run in runs), found.law.fit.residuals, strict=True)
    )


def test_a_run_that_is_named_twice_is_fitted_once(tmp_path, monkeypatch):
    folder = run_folder(tmp_path)
    small.record(folder, {"step": 6, "loss": 4.0, "validation_loss": 4.5, "seconds": 2.0})
    told: list[list[FinishedRun]] = []
    monkeypatch.setattr(scaling, "fit_and_tell", lambda fitted, *_: told.append(fitted))
    scaling.fit_folders([tmp_path, folder, tmp_path / "." / "run" / ".." / "run"], None, [])
    assert [run.name for run in told[0]] == ["run"]
