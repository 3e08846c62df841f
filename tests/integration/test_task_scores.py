"""Runs that are scored on a task on the way: what is recorded, and that nothing else changes."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import small
from modelwright.checkpoint.bundle import load_bundle
from modelwright.checkpoint.resume import newest_checkpoint
from modelwright.evaluation.running import Evaluation
from modelwright.evaluation.tasks import read_task, tasks
from modelwright.experiments.report import write_report
from modelwright.runtime.files import sha256_of
from modelwright.runtime.progress import Progress
from modelwright.training.loop import Interrupted
from modelwright.training.metrics import read_metrics
from modelwright.training.runs import resume, train

pytestmark = pytest.mark.usefixtures("one_thread")

n_items = 12
rows = [
    {"query": f"Thing {i} fell, because", "choices": ["it was hit.", "it flew."], "gold": i % 2}
    for i in range(n_items)
]


passages = [{"text": f"Box {i} was shut, and Lily sat on the box"} for i in range(5)]
names = ("copa", "lambada_openai")


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir()
    for task, content in zip(names, (rows, passages), strict=True):
        text = "".join(json.dumps(row) + "\n" for row in content)
        (folder / tasks[task].file).write_text(text)


def settings(folder: Path) -> list[str]:
    listed = json.dumps(names)
    return [f"tasks.names={listed}", "tasks.every_steps=3", f"tasks.data={folder / 'eval'}"]


def scored_at(run: Path) -> list[int]:
    return [record["step"] for record in read_metrics(run) if "tasks" in record]


def scores(run: Path) -> dict[int, Any]:
    """What was found after each step, but for the time it took."""
    return {
        record["step"]: [
            {key: value for key, value in record["tasks"][name].items() if key != "seconds"}
            for name in names
        ]
        for record in read_metrics(run)
        if "tasks" in record
    }


def losses(run: Path) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in read_metrics(run) if "loss" in record]


def weights(run: Path) -> str:
    return sha256_of(newest_checkpoint(run)[0] / "model.safetensors")


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    write_rows(folder / "eval", rows)
    train(small.run_config(folder, "model.context=32", *settings(folder)), folder / "run")
    return folder / "run"


def test_scores_stand_on_the_lines_of_the_steps_whose_turn_it_was(scored: Path):
    assert scored_at(scored) == [0, 3, 6]
    last = read_metrics(scored)[-1]["tasks"]["copa"]
    assert last["partial"] == f"PARTIAL: {n_items} of 100 items"
    assert (last["n_items"], last["chance_percent"]) == (n_items, 50.0)
    assert last["sha256"] == sha256_of(scored.parent / "eval" / "copa_val.jsonl")


def test_a_score_is_that_of_the_command_on_the_checkpoint_of_the_same_step(
    scored: Path, tmp_path: Path
):
    bundle = load_bundle(newest_checkpoint(scored)[0])
    evaluation = Evaluation(bundle, tmp_path)
    for name, found in zip(names, scores(scored)[6], strict=True):
        file = read_task(tasks[name], scored.parent / "eval" / tasks[name].file)
        expected = evaluation.task(tasks[name], file).facts()["scores"]
        for metric, score in found["scores"].items():
            assert score | {"unit": expected[metric]["unit"]} == expected[metric]


def test_what_is_learned_is_the_same_without_it(scored: Path, tmp_path: Path):
    train(small.run_config(scored.parent, "model.context=32"), tmp_path / "plain")
    assert losses(tmp_path / "plain") == losses(scored)
    assert weights(tmp_path / "plain") == weights(scored)
    assert scored_at(tmp_path / "plain") == []


def test_scoring_that_was_broken_off_is_made_up_for_once(scored: Path, tmp_path: Path):
    config = small.run_config(scored.parent, "model.context=32", *settings(scored.parent))

    def press_ctrl_c(progress: Progress) -> None:
        if progress.phase == "copa" and progress.note == "after 3 steps":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="after step 3"):
        train(config, tmp_path / "run", on_progress=press_ctrl_c)
    assert scored_at(tmp_path / "run") == [0]
    resume(tmp_path / "run")
    assert scores(tmp_path / "run") == scores(scored)
    assert scored_at(tmp_path / "run") == [0, 3, 6]
    assert losses(tmp_path / "run") == losses(scored)
    assert weights(tmp_path / "run") == weights(scored)
    resume(tmp_path / "run")
    assert scored_at(tmp_path / "run") == [0, 3, 6]
    # The validation of that step was done, and is not done again.
    measured = [r["step"] for r in read_metrics(tmp_path / "run") if "validation_loss" in r]
    assert measured == [0, 3, 6]


def test_a_run_may_begin_to_be_scored_when_it_goes_on(scored: Path, tmp_path: Path):
    train(small.run_config(scored.parent, "model.context=32"), tmp_path / "run")
    resume(tmp_path / "run", overrides=[*settings(scored.parent), "training.n_steps=8"])
    assert scored_at(tmp_path / "run") == [6, 8]
    assert scores(tmp_path / "run")[6] == scores(scored)[6]


def test_the_report_has_the_curve(scored: Path):
    page = write_report(scored).read_text()
    assert "<h2>copa (PARTIAL)</h2>" in page
    assert "guessing: 50.0 %" in page


@pytest.mark.parametrize("is_there", [False, True])
def test_what_cannot_be_scored_is_said_before_anything_is_made(tmp_path: Path, is_there: bool):
    if is_there:
        long = {"query": "It fell, because", "choices": ["it flew " * 60, "no."], "gold": 0}
        write_rows(tmp_path / "eval", [long])
    expected, message = (
        (ValueError, "the model of this run cannot be asked copa: a continuation has .* take copa")
        if is_there
        else (FileNotFoundError, "holds no copa_val.jsonl .* name its folder by tasks.data$")
    )
    with pytest.raises(expected, match=message):
        train(small.run_config(tmp_path, *settings(tmp_path)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert (tmp_path / "data").exists() is is_there  # the questions need its tokenizer
