"""`modelwright plan` as a person meets it."""

import json
import subprocess
import sys
from pathlib import Path

recipes = Path(__file__).parents[2] / "recipes"
small = ("--set", "model.n_layers=2", "--set", "training.compile=false")


def plan(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelwright", "plan", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


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
