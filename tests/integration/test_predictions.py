"""What a run foretold of itself and what came of it: plan.json, verify.json, and too little memory."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import small
from command import Done, run
from modelwright.cli.train import train
from modelwright.config.loading import load_settings, to_toml
from modelwright.planning import foresight
from modelwright.planning.foresight import read_plan
from modelwright.runtime.files import sha256_of
from modelwright.training import attempt, runs, step
from modelwright.training.config import RunConfig
from modelwright.training.loop import run_loop
from modelwright.training.metrics import read_metrics
from modelwright.training.out_of_memory import OutOfMemory

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    path = folder / "recipe.toml"
    path.write_text(to_toml(small.run_config(folder)))
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    """A run from the command line that went through."""
    run = recipe.parent / "run"
    train(recipe=recipe, overrides=[], out=run, resume=False)
    return run


def test_what_blocks_forget_may_be_left_to_the_plan(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run, left_open = tmp_path / "run", ["training.recompute=auto", "training.n_steps=2"]
    train(recipe=recipe, overrides=left_open, out=run, resume=False)
    assert "the plan settles training.recompute = 'none'" in capsys.readouterr().err
    assert load_settings(RunConfig, run / "config.toml").config.training.recompute == "none"
    more = ["training.recompute=auto", "training.n_steps=3"]
    train(recipe=run, overrides=more, out=None, resume=True)
    assert load_settings(RunConfig, run / "config.toml").config.training.recompute == "none"
    assert read_metrics(run)[-1]["step"] == 3


def verified(run: Path) -> dict[str, dict[str, Any]]:
    return {
        one["name"]: one for one in json.loads((run / "verify.json").read_text())["comparisons"]
    }


def test_a_run_keeps_its_plan_and_what_was_measured(finished: Path):
    plan = read_plan(finished)
    assert plan is not None
    facts = json.loads((finished / "run.json").read_text())
    assert plan["place"]["key"] == "cpu"
    assert plan["vocab_size"] == facts["n_vocab"]
    figures = verified(finished)
    assert figures["parameters"]["measured"] == facts["parameters"]["total"]
    assert figures["work of a step"]["measured"] == facts["step_flops"]
    for name in ("parameters", "work of a step", "checkpoint"):
        assert figures[name]["error"] == 0
    assert figures["peak memory"]["measured"] is None
    assert min(r["step_seconds"] for r in read_metrics(finished)[1:]) > 0
    assert figures["speed"]["measured"] == pytest.approx(64 / figures["time of a step"]["measured"])
    assert "Predicted and measured" in (finished / "report.html").read_text()


def weights_hash(run: Path) -> str:
    return sha256_of(run / "checkpoints" / "step-000006" / "model.safetensors")


def test_a_plan_leaves_the_run_as_it_would_be_without(finished: Path, recipe: Path):
    other = recipe.parent / "without"
    runs.train(small.run_config(recipe.parent), other)
    assert not (other / "plan.json").exists()
    assert weights_hash(other) == weights_hash(finished)


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_a_plan_that_cannot_be_made_stops_nothing(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: type[Exception],
):
    def fail(*_: Any, **_named: Any) -> None:
        raise kind("the stars stand badly\nmore")

    monkeypatch.setattr(foresight, "make_plan", fail)
    train(recipe=recipe, overrides=[], out=tmp_path / "run", resume=False)
    name = "" if kind is ValueError else "RuntimeError: "
    assert f"note: no plan.json: {name}the stars stand badly\n" in capsys.readouterr().err
    assert not (tmp_path / "run" / "plan.json").exists()
    assert not (tmp_path / "run" / "verify.json").exists()
    assert (tmp_path / "run" / "report.html").exists()


def stopping_after(number: int) -> Callable[..., None]:
    """A loop in which Ctrl-C is pressed when a step is done."""

    def looped(state: Any, *arguments: Any, **named: Any) -> None:
        recorded = named["record"]

        def record(metrics: dict[str, Any]) -> None:
            recorded(metrics)
            if metrics["step"] == number:
                os.kill(os.getpid(), signal.SIGINT)

        run_loop(state, *arguments, **(named | {"record": record}))

    return looped


def test_a_stopped_run_is_compared_and_a_resumed_one_over_all_its_steps(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(runs, "run_loop", stopping_after(4))
        with pytest.raises(SystemExit):
            train(recipe=recipe, overrides=[], out=run, resume=False)
    assert verified(run)["time of a step"]["note"] == "the median of 1 steps"
    plan = (run / "plan.json").read_bytes()
    train(recipe=run, overrides=[], out=None, resume=True)
    assert (run / "plan.json").read_bytes() == plan
    assert verified(run)["time of a step"]["note"] == "the median of 3 steps"
    train(recipe=run, overrides=["checkpoints.keep=3"], out=None, resume=True)
    again = read_plan(run)
    assert again is not None
    assert again["disk"]["n_kept"] == json.loads(plan)["disk"]["n_kept"] + 1


def test_a_loss_that_ends_the_run_is_compared_too(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, calls = step.next_token_loss, []

    def loss(*arguments: Any, **named: Any) -> torch.Tensor:
        calls.append(1)
        return whole(*arguments, **named) * (float("nan") if len(calls) > 4 else 1)

    monkeypatch.setattr(step, "next_token_loss", loss)
    with pytest.raises(FloatingPointError):
        train(recipe=recipe, overrides=[], out=tmp_path / "run", resume=False)
    assert verified(tmp_path / "run")["time of a step"]["measured"] > 0


message = (
    "CUDA out of memory. Tried to allocate 200.00 MiB (GPU 0; 15.78 GiB total capacity; 14.56 GiB "
    "already allocated; 38.44 MiB free; 14.80 GiB reserved in total by PyTorch) If reserved memory "
    "is >> allocated memory try something"
)


def test_a_run_out_of_memory_says_where_it_went_and_what_fits(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError(message)

    monkeypatch.setattr(attempt, "training_step", fail)
    overrides = ["training.micro_batch=4", "training.lanes=1"]
    with pytest.raises(OutOfMemory, match="4 sequences of 16 tokens do not fit") as raised:
        train(recipe=recipe, overrides=overrides, out=tmp_path / "run", resume=False)
    assert "try something" not in str(raised.value)  # the advice is ours
    assert raised.value.figures is not None
    said = capsys.readouterr().err
    for part in (
        "200.000 MiB  were asked for",
        "14.560 GiB  allocated",
        "245.760 MiB  reserved but not allocated: pieces between them (fragmentation)",
        "would have fitted into what is reserved",
        "Most is held at the operation",
        "--set training.recompute=blocks",
        "--set training.micro_batch=3",
    ):
        assert part in said


def test_an_explanation_that_fails_leaves_the_first_error(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    from modelwright.planning import out_of_memory

    def no_plan(*_: Any) -> None:
        raise ValueError("nothing is known")

    monkeypatch.setattr(attempt, "training_step", fail)
    monkeypatch.setattr(out_of_memory, "make_plan", no_plan)
    with pytest.raises(OutOfMemory, match="do not fit into memory at once"):
        train(recipe=recipe, overrides=[], out=tmp_path / "run", resume=False)
    assert "note: no explanation: nothing is known" in capsys.readouterr().err


def plan_of(*arguments: object) -> Done:
    return run("plan", "--verify", *arguments)


def test_a_few_steps_are_compared_with_their_plan(recipe: Path):
    done = plan_of(recipe, "--set", "training.lanes=1")
    assert done.returncode == 0, done.stderr
    lines = {line.partition("  ")[0]: line for line in done.stdout.splitlines()}
    assert "exact" in lines["parameters"]
    assert "exact" in lines["work of a step"]
    assert "every allocation of a tensor" in lines["peak memory"]
    done = plan_of(recipe, "--json")
    names = [one["name"] for one in json.loads(done.stdout)["comparisons"]]
    assert names[0] == "parameters"


def test_a_run_folder_shows_its_own_comparisons(finished: Path, tmp_path: Path):
    done = plan_of(finished)
    assert done.returncode == 0, done.stderr
    assert "the files of step-000006" in done.stdout
    as_json = json.loads(plan_of(finished, "--json").stdout)
    assert as_json == json.loads((finished / "verify.json").read_text())
    assert "holds no verify.json" in plan_of(tmp_path).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--on", "h100,t4"], "takes steps on one device"),
        (["--max-batch"], "--max-batch and --verify are two questions"),
        (["--explain", "peak"], "--explain and --verify are two questions"),
    ],
)
def test_what_verify_cannot_do_is_said(recipe: Path, arguments: list[str], said: str):
    done = plan_of(recipe, *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_run_takes_no_settings_to_be_verified(finished: Path):
    done = plan_of(finished, "--set", "training.n_steps=9")
    assert done.returncode == 2
    assert "is a run, whose settings and device stand" in done.stderr
