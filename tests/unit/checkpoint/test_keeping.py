import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

import saving
from modelwright.checkpoint.keeping import (
    Keep,
    checkpoint_bytes,
    clear_unfinished,
    forget_checkpoints_after,
    require_space,
)
from modelwright.checkpoint.resume import checkpoint_folders, step_of


def steps(run: Path) -> list[int]:
    return [step_of(folder) for folder in checkpoint_folders(run)]


def save_all(run: Path, losses: dict[int, float | None], keep: Keep) -> list[int]:
    for step, loss in losses.items():
        saving.save(run, step, keep, loss=loss)
    return steps(run)


@pytest.mark.parametrize(
    ("losses", "keep", "kept"),
    [
        ({1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5, 10: 2.6}, Keep(last=2, best=True), [2, 4, 10]),
        ({1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5, 10: 2.6}, Keep(last=2, best=False), [4, 10]),
        ({1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5, 10: 2.6}, Keep(last=1, best=True), [2, 10]),
        ({1: 1.0, 2: 1.0, 3: 2.0, 4: 2.5}, Keep(last=1, best=True), [2, 4]),  # the newer of equals
        ({1: 2.0, 2: 1.0}, Keep(last=1, best=True), [2]),
        ({1: None, 2: float("nan"), 3: 2.0, 4: None}, Keep(last=1, best=True), [3, 4]),
        ({1: None, 2: float("nan"), 3: float("-inf"), 4: None}, Keep(last=1, best=True), [4]),
    ],
)
def test_the_newest_and_the_best_are_kept(tmp_path: Path, losses, keep, kept):
    assert save_all(tmp_path, losses, keep) == kept
    assert len(list((tmp_path / "checkpoints").iterdir())) == len(kept)


def test_an_unreadable_loss_is_no_best_and_no_error(tmp_path: Path):
    keep = Keep(last=1, best=True)
    save_all(tmp_path, {1: 1.0}, keep)
    (tmp_path / "checkpoints" / "step-000001" / "state.json").write_text("\x00")
    assert save_all(tmp_path, {2: 2.0, 3: 3.0}, keep) == [2, 3]


def test_a_run_that_went_back_keeps_what_it_writes(tmp_path: Path):
    keep = Keep(last=1, best=False)
    for step in (10, 20):
        saving.save(tmp_path, step)
    saving.save(tmp_path, 15, keep)  # the one of step 20 must not push it out
    assert steps(tmp_path) == [15, 20]


def test_the_steps_that_will_be_taken_again_can_be_forgotten(tmp_path: Path):
    for step in (10, 20, 30):
        saving.save(tmp_path, step)
    (tmp_path / "checkpoints" / "step-000030" / "manifest.json").unlink()
    forget_checkpoints_after(tmp_path, 10)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000010"]


def test_keeping_none_is_refused():
    with pytest.raises(ValueError, match=r"checkpoints\.keep is 0; the least is 1"):
        Keep(last=0)


def test_the_bytes_of_a_checkpoint_are_a_little_more_than_it_takes(tmp_path: Path):
    snapshot = saving.snapshot(1)
    folder = saving.save(tmp_path)
    taken = sum(path.stat().st_size for path in folder.iterdir())
    weights = sum(tensor.nbytes for tensor in snapshot.weights.values())
    optimizer = sum(tensor.nbytes for tensor in snapshot.optimizer.values())
    estimate = checkpoint_bytes(weights, optimizer, weights)
    assert weights * 2 + optimizer == snapshot.n_bytes
    assert 0 < estimate - taken < 40 * 2**20


def test_a_disk_too_small_for_the_run_is_named_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "not" / "yet" / "made"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * 2**30))
    require_space(run, 2**30, Keep(last=4, best=False))
    with pytest.raises(ValueError) as raised:
        require_space(run, 2**30, Keep(last=4, best=True))
    for expected in (
        "need 6.0 GiB",
        "5.0 GiB are free",
        "5 more are kept (checkpoints.keep = 4 and the best one)",
        "1 is being written, of 1.0 GiB each",
    ):
        assert expected in str(raised.value)


def test_checkpoints_that_are_there_need_no_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for step in (1, 2):
        saving.save(tmp_path, step)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    require_space(tmp_path, 2**20, Keep(last=1, best=True))
    with pytest.raises(ValueError, match="1 more are kept"):
        require_space(tmp_path, 2**20, Keep(last=2, best=True))


def test_only_what_dead_processes_left_is_cleared_away(tmp_path: Path):
    folder = saving.save(tmp_path)
    checkpoints = folder.parent
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = checkpoints / f".step-000002.{dead.pid}.part"
    namesake = checkpoints / f".step-000003.{os.getpid()}.part"  # as in a container started anew
    with subprocess.Popen(["sleep", "60"]) as alive:
        busy = checkpoints / f".step-000004.{alive.pid}.part"
        for path in (left, namesake, busy):
            path.mkdir()
            (path / "model.safetensors").touch()
        (checkpoints / ".mine.part").touch()
        assert set(clear_unfinished(tmp_path)) == {left, namesake}
        alive.kill()
    assert {path.name for path in checkpoints.iterdir()} == {folder.name, busy.name, ".mine.part"}
    assert clear_unfinished(tmp_path / "none") == []
