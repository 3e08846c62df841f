"""Runs from beginning to end: repeated, stopped, killed and resumed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import small
from modelwright.checkpoint.bundle import load_bundle
from modelwright.checkpoint.resume import checkpoint_folders, newest_checkpoint
from modelwright.config.loading import load_settings
from modelwright.experiments.report import write_report
from modelwright.runtime.files import sha256_of
from modelwright.training.assembly import prepare, resume, train
from modelwright.training.config import RunConfig
from modelwright.training.loop import Interrupted
from modelwright.training.metrics import read_metrics


def weights_hash(run: Path) -> str:
    return sha256_of(newest_checkpoint(run)[0] / "model.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went through without a stop; its data is beside it."""
    folder = tmp_path_factory.mktemp("whole")
    train(small.run_config(folder), folder / "run")
    return folder / "run"


def test_a_run_folder_holds_everything(finished: Path):
    names = {path.name for path in finished.iterdir()}
    assert {"config.toml", "run.json", "metrics.jsonl", "checkpoints"} <= names
    assert [folder.name for folder in checkpoint_folders(finished)] == [
        "step-000004",
        "step-000006",
    ]


def test_every_step_is_on_record(finished: Path):
    records = read_metrics(finished)
    assert [record["step"] for record in records] == list(range(7))
    assert [r["step"] for r in records if "validation_loss" in r] == [0, 3, 6]
    assert [r["step"] for r in records if "samples" in r] == [0, 3, 6]
    assert records[-1]["n_tokens"] == 6 * 64
    assert records[-1]["validation_loss"] < records[0]["validation_loss"]


def test_the_finished_config_repeats_the_run(finished: Path, tmp_path: Path):
    config = load_settings(RunConfig, finished / "config.toml").config
    train(config, tmp_path / "again")
    assert weights_hash(tmp_path / "again") == weights_hash(finished)
    losses = [[r.get("loss") for r in read_metrics(run)] for run in (finished, tmp_path / "again")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "change",
    ["seed=2", "schedule.peak_lr=0.001", "training.batch_tokens=128", "optimizer.clip_norm=0.01"],
)
def test_a_changed_setting_changes_the_weights(finished: Path, tmp_path: Path, change: str):
    settings = [f"data.folder={finished.parent / 'data'}", change]
    train(small.run_config(finished.parent, *settings), tmp_path / "run")
    assert weights_hash(tmp_path / "run") != weights_hash(finished)


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_a_stopped_run_goes_on_to_the_same_bits(finished: Path, tmp_path: Path, stop_after: int):
    run = tmp_path / "run"

    def interrupt(progress) -> None:
        if progress.phase == "training" and progress.done == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as raised:
        train(small.run_config(finished.parent), run, on_progress=interrupt)
    assert raised.value.step == stop_after
    resume(run)
    assert weights_hash(run) == weights_hash(finished)
    assert [r.get("loss") for r in read_metrics(run)] == [
        r.get("loss") for r in read_metrics(finished)
    ]


def test_a_run_resumed_from_an_older_checkpoint_comes_to_the_same_bits(
    finished: Path, tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    weights = run / "checkpoints" / "step-000006" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    complaints = resume(run)
    assert "step-000006" in complaints[0]
    assert [r["step"] for r in read_metrics(run)] == list(range(7))
    # The damaged folder of the last step was replaced by a whole one.
    assert weights_hash(run) == weights_hash(finished)


train_command = [sys.executable, "-m", "modelwright", "train"]


def test_a_run_killed_again_and_again_comes_to_the_same_bits(finished: Path, tmp_path: Path):
    from modelwright.config.loading import to_toml

    recipe = tmp_path / "recipe.toml"
    recipe.write_text(to_toml(small.run_config(finished.parent, "checkpoints.every_steps=1")))
    run = tmp_path / "run"
    chance = random.Random(0)
    n_kills = 0
    for _ in range(40):
        started = (run / "config.toml").exists()
        arguments = ["--resume", str(run)] if started else [str(recipe), "--out", str(run)]
        process = subprocess.Popen(
            [*train_command, *arguments], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        aim = chance.randint(1, 3)  # kill after a few more lines in the record
        before = len(lines_of(run))
        while process.poll() is None and len(lines_of(run)) < before + aim and n_kills < 3:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        if n_kills < 3 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            n_kills += 1
        if process.wait(60) == 0:
            break
    assert n_kills > 0
    assert [record["step"] for record in read_metrics(run)] == list(range(7))
    assert weights_hash(run) == weights_hash(finished)


def lines_of(run: Path) -> list[str]:
    path = run / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_a_run_that_died_before_its_first_checkpoint_begins_again(finished: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "checkpoints")
    assert resume(run) == []
    assert [record["step"] for record in read_metrics(run)] == list(range(7))
    assert weights_hash(run) == weights_hash(finished)


def test_two_processes_cannot_train_one_run(finished: Path, tmp_path: Path):
    from modelwright.runtime.files import lock_folder

    run = tmp_path / "run"
    shutil.copytree(finished, run)
    with lock_folder(run):
        done = subprocess.run(
            [*train_command, "--resume", str(run)], capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2
    assert "in use by another modelwright process" in done.stderr


def test_a_run_folder_in_use_is_not_trained_over(finished: Path):
    before = weights_hash(finished)
    with pytest.raises(FileExistsError, match="go on with it by `modelwright train --resume"):
        train(small.run_config(finished.parent), finished)
    assert weights_hash(finished) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.source=/nowhere/at/all.txt", "there is no text at"),
        ("tokenizer.file=/nowhere/tokenizer.json", "tokenizer.json"),
        ("model.context=65536", "fewer than one context"),
    ],
)
def test_a_run_that_cannot_begin_leaves_nothing_behind(tmp_path: Path, change: str, message: str):
    changes = [change, f"data.folder={tmp_path / 'run' / 'data'}", "training.batch_tokens=65536"]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(small.run_config(tmp_path, *changes), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_which_another_process_works_is_not_cleared_away(tmp_path: Path):
    from modelwright.runtime.files import lock_folder
    from modelwright.training.assembly import removed_on_failure

    run = tmp_path / "run"
    with pytest.raises(RuntimeError), removed_on_failure(run), lock_folder(run):
        raise RuntimeError
    assert not run.exists()  # it was ours alone
    with pytest.raises(RuntimeError), removed_on_failure(run):
        (run / "theirs").touch()
        other = lock_folder(run)
        other.__enter__()
        raise RuntimeError
    assert (run / "theirs").exists()
    other.__exit__(None, None, None)
    with pytest.raises(RuntimeError), removed_on_failure(run):
        raise RuntimeError
    assert (run / "theirs").exists()  # it was there before


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was(finished: Path, tmp_path: Path):
    changes = [
        f"data.folder={finished.parent / 'data'}",
        "schedule.peak_lr=1e38",
        "training.n_steps=50",
    ]
    with pytest.raises(FloatingPointError, match=r"a lower schedule\.peak_lr"):
        train(small.run_config(finished.parent, *changes), tmp_path / "run")
    records = read_metrics(tmp_path / "run")
    assert all(torch.isfinite(torch.tensor(r["loss"])) for r in records if "loss" in r)


def test_a_longer_run_learns_the_stories(tmp_path: Path):
    changes = [
        "training.n_steps=150",
        "training.batch_tokens=512",
        "training.micro_batch=32",
        "model.d_model=32",
        "evaluation.n_tokens=4096",
        "schedule.peak_lr=0.01",
    ]
    train(small.run_config(tmp_path, *changes), tmp_path / "run")
    measured = [
        r["validation_loss"] for r in read_metrics(tmp_path / "run") if "validation_loss" in r
    ]
    assert measured[0] > 5.5  # nearly log(300): it knows nothing yet
    assert measured[-1] < 4.2


def test_the_report_stands_on_its_own(finished: Path):
    page = write_report(finished).read_text()
    for expected in (
        "<svg",
        "validation loss",
        "tokens per second",
        "parameters",
        "peak_lr",
        "Once upon a time",
    ):
        assert expected in page
    for forbidden in ("http://", "https://", "<script", "url("):
        assert forbidden not in page.replace("http://www.w3.org", "").replace("url(#", "")


def test_a_bundle_of_a_run_generates(finished: Path):
    bundle = load_bundle(newest_checkpoint(finished)[0])
    assert bundle.model.config.vocab_size == bundle.tokenizer.n_vocab == 300


def test_data_is_built_once_and_opened_after(finished: Path, tmp_path: Path):
    told: list[str] = []
    prepare(small.run_config(finished.parent), lambda progress: told.append(progress.phase))
    assert set(told) == {"verifying"}
    told.clear()
    prepare(small.run_config(tmp_path), lambda progress: told.append(progress.phase))
    assert list(dict.fromkeys(told)) == [
        "telling stories",
        "reading text",
        "training the tokenizer",
        "cutting text into tokens",
        "verifying",
    ]
