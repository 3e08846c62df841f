"""What must not break a checkpoint: rows 2, 7, 11, 12 and 13 of the list of faults."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import saving
from modelwright.checkpoint.bundle import kind, load_bundle, load_weights, read_tensors
from modelwright.checkpoint.keeping import clear_unfinished
from modelwright.checkpoint.resume import (
    checkpoint_at,
    is_whole,
    load_optimizer_tensors,
    load_state,
    newest_checkpoint,
    step_folders,
    step_of,
)
from modelwright.checkpoint.snapshot import Snapshot
from modelwright.runtime.manifest import write_manifest

tests = Path(__file__).parent.parent
files = [
    "config.json",
    "model.safetensors",
    "averaged.safetensors",
    "tokenizer.json",
    "optimizer.safetensors",
    "state.json",
]


def run_script(*command: str | Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(tests)}
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def snapshots() -> dict[int, Snapshot]:
    return {step: saving.snapshot(step) for step in (1, 2)}


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("two")
    saving.save(run, 1)
    saving.save(run, 2)
    return run


@pytest.fixture
def run(two_checkpoints: Path, tmp_path: Path) -> Path:
    """A run with the checkpoints of steps 1 and 2, to be damaged."""
    shutil.copytree(two_checkpoints, tmp_path / "run")
    return tmp_path / "run"


def holds(folder: Path, snapshot: Snapshot) -> bool:
    """Whether a checkpoint holds exactly what the snapshot does."""
    stored = {
        "model.safetensors": snapshot.weights,
        "averaged.safetensors": snapshot.averaged or {},
        "optimizer.safetensors": snapshot.optimizer,
    }
    for name, tensors in stored.items():
        found = read_tensors(folder / name)
        if found.keys() != tensors.keys():
            return False
        if not all(found[key].equal(tensor) for key, tensor in tensors.items()):
            return False
    return load_state(folder)["step"] == snapshot.step


# Row 2


def test_killed_between_any_two_writes_the_checkpoint_before_loads(
    tmp_path: Path, snapshots: dict[int, Snapshot]
):
    run_script(sys.executable, tests / "killed_writer.py", tmp_path)
    runs = sorted(tmp_path.iterdir())
    newest_steps: list[int] = []
    for run in runs:
        newest, complaints = newest_checkpoint(run)
        assert complaints == [], run
        newest_steps.append(step_of(newest))
        assert holds(newest, snapshots[step_of(newest)]), run
        assert all(map(is_whole, step_folders(run))), run
        clear_unfinished(run)
        assert set((run / "checkpoints").iterdir()) == set(step_folders(run)), run
        saving.save(run, 2)
        assert step_of(newest_checkpoint(run)[0]) == 2, run
    # It was killed at every moment: before the new one was there, and after.
    assert newest_steps == sorted(newest_steps)
    assert newest_steps.count(1) > 15
    assert newest_steps.count(2) > 5


# Row 7


def may_mount() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = ["mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run([*command, *mount], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def test_a_full_disk_leaves_the_last_checkpoint_and_says_what_is_needed(tmp_path: Path):
    if not may_mount():
        pytest.skip("this system lets no user mount a disk")
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    script = [sys.executable, tests / "full_disk.py", tmp_path, "tmpfs"]
    told = json.loads(run_script(*unshare, *script))
    assert told["left"] == ["step-000001"]
    assert (told["newest"], told["complaints"]) == ("step-000001", [])
    for error in told["errors"]:
        assert "the disk is full: the checkpoint of step 2 needs 32." in error
        assert "step-000001 is untouched; free some space or lower checkpoints.keep" in error
    assert " KiB are free where" in told["errors"][0]
    assert told["error_with_room_again"] == ""


def test_a_file_that_cannot_grow_leaves_the_last_checkpoint(tmp_path: Path):
    told = json.loads(run_script(sys.executable, tests / "full_disk.py", tmp_path, "limit"))
    assert told["left"] == ["step-000001"]
    assert (told["newest"], told["complaints"]) == ("step-000001", [])
    assert "File too large" in told["errors"][0]
    assert "model.safetensors" in told["errors"][0]
    assert told["error_with_room_again"] == ""


# Row 11


@pytest.mark.parametrize("name", files)
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_one_flipped_bit_in_any_file_is_found_and_named(
    run: Path, snapshots: dict[int, Snapshot], name: str, place: float
):
    damaged = run / "checkpoints" / "step-000002"
    saving.flip_a_bit(damaged / name, int(place * (damaged / name).stat().st_size))
    with pytest.raises(ValueError, match=rf"step-000002/{name} does not match its sha256"):
        load_bundle(damaged)
    newest, complaints = newest_checkpoint(run)
    assert holds(newest, snapshots[1])
    assert f"step-000002/{name}" in complaints[0]


def test_one_flipped_bit_in_a_manifest_is_found_or_harmless(run: Path):
    older, newer = step_folders(run)
    manifest = newer / "manifest.json"
    whole = manifest.read_bytes()
    n_found = 0
    for place in range(0, len(whole), 3):
        saving.flip_a_bit(manifest, place)
        found, complaints = newest_checkpoint(run)
        assert (found, len(complaints)) in [(older, 1), (newer, 0)]
        n_found += found == older
        manifest.write_bytes(whole)
    assert n_found > 150  # the others are blanks, facts and the name of the average


# Row 12


def test_a_stale_latest_names_nothing(run: Path):
    older, newer = step_folders(run)
    (run / "checkpoints" / "latest").write_text("step-000001")
    (run / "latest").symlink_to(older)
    (run / "checkpoints" / "step-000007").symlink_to(older)
    assert newest_checkpoint(run) == (newer, [])


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "has no manifest.json, so it was never finished"),
        (b"", "is damaged"),
        (b"\x80\x04K\x01.", "is damaged"),
        (b'{"kind": "modelwright-checkpoint-1", "facts": {}, "files": {}}', "does not list"),
        (b'{"kind": "modelwright-checkpoint-1", "facts": {}, "files": [1]}', "is damaged"),
        (b'{"kind": "modelwright-data-1", "facts": {}, "files": {}}', "a modelwright-data-1"),
    ],
)
def test_a_missing_or_garbage_manifest_is_told_with_the_newest_whole_step(
    run: Path, manifest: bytes | None, message: str
):
    older, newer = step_folders(run)
    if manifest is None:
        (newer / "manifest.json").unlink()
    else:
        (newer / "manifest.json").write_bytes(manifest)
    found, complaints = newest_checkpoint(run)
    assert found == older
    assert message in complaints[0]
    with pytest.raises(ValueError, match="the newest whole checkpoint is that of step 1") as raised:
        checkpoint_at(run, 2)
    assert message in str(raised.value)


def test_without_any_whole_checkpoint_each_is_told(run: Path):
    older, newer = step_folders(run)
    (older / "manifest.json").write_text("garbage")
    saving.flip_a_bit(newer / "config.json")
    with pytest.raises(FileNotFoundError) as raised:
        newest_checkpoint(run)
    assert f"{older}/manifest.json is damaged" in str(raised.value)
    assert f"{newer}/config.json does not match" in str(raised.value)


# Row 13


class Bomb:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.touch, (self.canary,))


readers = {
    "config.json": load_bundle,
    "model.safetensors": load_bundle,
    "averaged.safetensors": lambda folder: load_bundle(folder, averaged=True),
    "tokenizer.json": load_bundle,
    "optimizer.safetensors": load_optimizer_tensors,
    "state.json": load_state,
}


@pytest.mark.parametrize("name", [*files, "manifest.json"])
def test_a_pickle_is_never_loaded(run: Path, tmp_path: Path, name: str):
    canary = tmp_path / "canary"
    folder = step_folders(run)[-1]
    content = pickle.dumps(Bomb(canary))
    (folder / name).write_bytes(content)
    found, complaints = newest_checkpoint(run)
    assert found == step_folders(run)[0]
    assert name in complaints[0]
    if name in readers:  # also where the manifest vouches for it
        write_manifest(folder, kind, {})
        assert newest_checkpoint(run) == (folder, [])
        with pytest.raises(ValueError, match=name):
            readers[name](folder)
    assert not canary.exists()
    pickle.loads(content)
    assert canary.exists()  # it would have gone off


def test_weights_that_are_a_pickle_leave_the_model_as_it_was(run: Path, tmp_path: Path):
    folder = step_folders(run)[-1]
    model = load_bundle(folder).model
    before = model.embedding.weight.clone()
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(tmp_path / "canary")))
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_weights(model, folder)
    assert model.embedding.weight.equal(before)
    assert not (tmp_path / "canary").exists()
