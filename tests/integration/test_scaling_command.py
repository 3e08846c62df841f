"""A ladder from its file to its page, from the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from modelwright.cli.app import app

pytestmark = pytest.mark.usefixtures("one_thread")

small_models = """
n_draws = 100

[set]
"data.folder" = "{folder}/data"
"data.stories_bytes" = 60_000
"data.validation_fraction" = 0.1
"tokenizer.vocab_size" = 300
"model.context" = 16
"model.n_layers" = 1
"model.n_heads" = 2
"schedule.peak_lr" = 0.01
"training.batch_tokens" = 64
"training.precision" = "fp32"
"training.device" = "cpu"
"training.tensorboard" = false
"evaluation.n_tokens" = 256

[[size]]
d_model = 8

[[size]]
d_model = 16
"""
third_size = "\n[[size]]\nd_model = 32\n"
budgets = "\n[[budget]]\nflops = 1e8\n\n[[budget]]\nflops = 3e8\n"
check = "\n[check.size]\nd_model = 32\n[check.budget]\nflops = 6e8\n"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["scaling", *map(str, arguments)])


def written(folder: Path, more: str) -> Path:
    path = folder / "tiny.toml"
    path.write_text(small_models.format(folder=folder) + more)
    return path


def test_a_ladder_is_trained_fitted_and_checked_and_then_there(tmp_path: Path):
    file, out = written(tmp_path, third_size + budgets + check), tmp_path / "out"
    first = call(file, "--check", "--yes", "--out", out)
    assert first.exit_code == 0, first.exception
    assert "7 runs on" in first.stdout
    assert "will show no law" not in first.stderr
    record = json.loads((out / "scaling.json").read_text())
    runs = {path.name: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
    assert len(runs) == 7
    assert not list(out.glob("runs/*/texts.json"))  # nobody would see them
    assert "32x1_6e8-check-seed1" in runs
    assert (out / "scaling.html").is_file()

    again = call(file, "--check", "--plan-only", "--out", out)
    assert again.exit_code == 0, again.exception
    assert "7 done already" in again.stdout
    assert {path.name: path.stat().st_mtime_ns for path in (out / "runs").iterdir()} == runs
    fitted = call(out / "runs", "--fit-only", "--out", tmp_path / "fitted")
    assert fitted.exit_code == 0, fitted.exception
    refitted = json.loads((tmp_path / "fitted" / "scaling.json").read_text())
    names = [sorted(run["name"] for run in one["runs"]) for one in (record, refitted)]
    assert names[0] == names[1]


def test_a_ladder_without_a_law_says_so_before_it_begins(tmp_path: Path):
    result = call(written(tmp_path, budgets), "--plan-only", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.exception
    assert "note: this ladder will show no law: the runs have 2 different sizes" in result.stderr
    assert "4 runs on" in result.stdout
    assert not (tmp_path / "out").exists()
