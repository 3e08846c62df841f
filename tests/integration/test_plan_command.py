"""`modelwright plan` as a person meets it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from command import Done, run

recipes = Path(__file__).parents[2] / "recipes"
small = ("--set", "model.n_layers=2", "--set", "training.compile=false")


def plan(*arguments: object, **how: Any) -> Done:
    return run("plan", *arguments, **how)


def test_a_plan_for_several_devices():
    done = plan(recipes / "laptop.toml", "--on", "h100,t4", "--explain", "peak", *small)
    assert done.returncode == 0, done.stderr
    assert "FITS on h100" in done.stdout
    assert "FITS on t4" in done.stdout
    assert done.stdout.count("Most is held during") == 2


def test_a_plan_as_json_on_this_processor():
    done = plan(recipes / "laptop.toml", "--json", "--max-batch", *small)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["place"]["key"] == "cpu"
    assert found["largest_micro_batch"] > 0


def test_what_is_not_known_is_an_error_with_the_nearest():
    done = plan("--on", "h10")
    assert done.returncode == 2
    assert "did you mean 'h100'" in done.stderr
    wrong = plan("--explain", "time")
    assert wrong.returncode == 2
    assert "only the peak can be explained" in wrong.stderr


def test_planning_loads_nothing_that_draws():
    code = (
        "import sys\nimport modelwright.planning.plan, modelwright.planning.render\n"
        "print({'matplotlib', 'transformers', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_using_the_model_is_told_and_is_in_the_json():
    asked = ("--inference", "--context", 100, "--batch", 4)
    done = plan(recipes / "laptop.toml", "--on", "h100", *asked, *small)
    assert done.returncode == 0, done.stderr
    assert "4 texts at a time, with a prompt of 50 tokens and an answer of 50" in done.stdout
    assert "for 4 texts of 100 tokens" in done.stdout
    plain = plan(recipes / "laptop.toml", "--on", "h100", "--json", *asked, *small)
    (found,) = json.loads(plain.stdout)
    assert found["inference"]["batch"] == 4
    assert len(found["inference"]["speed"]["formats"]) == 5


def test_texts_without_inference_and_a_context_that_is_too_long_are_errors():
    lost = plan("--batch", 4)
    assert lost.returncode == 2
    assert "--context and --batch are for --inference" in lost.stderr
    long = plan(recipes / "laptop.toml", "--inference", "--context", 257)
    assert long.returncode == 2
    assert "context is 257, but the model's is 256" in long.stderr


def test_the_page_of_a_plan_replaces_none_unless_told_to(tmp_path: Path):
    page = tmp_path / "new" / "plan.html"
    arguments = (recipes / "laptop.toml", "--on", "h100", "--report", page, *small)
    done = plan(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"report: {page}" in done.stdout
    assert "<h1>The plan of laptop</h1>" in page.read_text()
    page.write_text("mine")
    again = plan(*arguments)
    assert again.returncode != 0
    assert "add --force" in again.stderr
    assert page.read_text() == "mine"
    assert plan(*arguments, "--force").returncode == 0
    assert page.read_text() != "mine"


def test_the_explanation_of_the_peak_ends_with_the_textbook_rules():
    done = plan(recipes / "laptop.toml", "--on", "h100", "--explain", "peak", *small)
    assert "What textbook rules say instead:" in done.stdout
    assert "16 bytes a parameter" in done.stdout


def test_a_plan_for_several_gpus_follows_that_for_one():
    done = plan(recipes / "laptop.toml", "--on", "h100,t4", "--gpus", 2, *small)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("2 x t4: GiB on each")
    assert "FITS on h100" in first
    assert "2 x h100: GiB on each" in first
    assert "simplest that fits: data parallel" in first
    assert "one t4 is enough" in second


def test_several_gpus_are_in_the_json_if_they_were_asked_for():
    arguments = (recipes / "laptop.toml", "--on", "h100", "--json", *small)
    (found,) = json.loads(plan(*arguments, "--gpus", 2).stdout)
    assert found["ranks"]["n_gpus"] == 2
    assert found["ranks"]["plans"][3]["way"] == "FSDP"
    (usual,) = json.loads(plan(*arguments).stdout)
    assert "ranks" not in usual


def test_a_step_that_does_not_fit_is_said_to_fit_on_more_gpus():
    large = ("model.preset=gpt2-xl", "model.n_layers=24", "training.batch_tokens=8192")
    sets = [word for one in (*large, "training.micro_batch=1") for word in ("--set", one)]
    done = plan("--on", "t4", *sets)
    assert done.returncode == 0, done.stderr
    assert "DOES NOT FIT on t4" in done.stdout
    assert "\non 2 x t4 it fits with ZeRO-1: 4 x 1 sequences, " in done.stdout


def test_several_processors_and_an_uneven_batch_are_errors():
    processors = plan(recipes / "laptop.toml", "--gpus", 2)
    assert processors.returncode == 2
    assert "name a GPU, such as --on h100" in processors.stderr
    uneven = plan("--on", "h100", "--gpus", 3, "--set", "training.batch_tokens=4096")
    assert uneven.returncode == 2
    assert "does not divide among 3 GPUs; the nearest that does, is 3840" in uneven.stderr


def test_only_a_processor_or_a_gpu_can_be_calibrated():
    done = run("calibrate", "--on", "tpu")
    assert done.returncode == 2
    assert "--on is 'tpu'; use 'cpu', 'cuda', or 'auto'" in done.stderr


def test_a_calibrated_device_has_a_point_and_no_range(tmp_path: Path):
    measured = Path(__file__).parents[1] / "unit" / "planning" / "h100_rates.json"
    (tmp_path / "rates").mkdir()
    (tmp_path / "rates" / "h100.json").write_text(measured.read_text())
    arguments = (recipes / "gpt2-small.toml", "--on", "h100", *small)
    done = plan(*arguments, environment={"MODELWRIGHT_HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "measured: NVIDIA H100 80GB HBM3, torch 2.11.0+cu130" in done.stdout
    assert "a step: " in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("time"))
    assert " to " not in line
    without = next(x for x in plan(*arguments).stdout.splitlines() if x.startswith("time"))
    assert " to " in without
