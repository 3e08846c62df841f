from pathlib import Path

import pytest
import torch

import saving
from modelwright.checkpoint.bundle import distinct_weights, load_bundle
from modelwright.checkpoint.resume import (
    checkpoint_at,
    checkpoint_folders,
    load_optimizer_tensors,
    load_state,
    newest_checkpoint,
    step_folders,
)


def test_everything_that_a_snapshot_holds_comes_back(tmp_path: Path):
    snapshot = saving.snapshot(7, loss=3.25)
    folder = saving.save(tmp_path, 7, loss=3.25)
    assert load_state(folder) == {"step": 7, "validation_loss": 3.25, **saving.state}
    optimizer = load_optimizer_tensors(folder)
    assert optimizer.keys() == snapshot.optimizer.keys()
    assert all(torch.equal(optimizer[name], tensor) for name, tensor in snapshot.optimizer.items())
    weights = distinct_weights(load_bundle(folder).model)
    assert all(torch.equal(weights[name], tensor) for name, tensor in snapshot.weights.items())


def test_steps_are_counted_not_spelled(tmp_path: Path):
    for step in (999_999, 1_000_000, 20):
        saving.save(tmp_path, step)
    names = ["step-000020", "step-999999", "step-1000000"]
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == names
    assert newest_checkpoint(tmp_path)[0].name == "step-1000000"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: saving.flip_a_bit(folder / "model.safetensors"), "model.safetensors does"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "is damaged"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\x00"), "is damaged"),
        (lambda folder: (folder / "manifest.json").unlink(), "was never finished"),
        (lambda folder: (folder / "state.json").unlink(), "state.json is missing"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, damage, message: str
):
    older, newer = saving.save(tmp_path, 1), saving.save(tmp_path, 2)
    assert newest_checkpoint(tmp_path) == (newer, [])
    damage(newer)
    found, complaints = newest_checkpoint(tmp_path)
    assert found == older
    assert len(complaints) == 1
    assert str(newer) in complaints[0]
    assert message in complaints[0]


def test_a_checkpoint_that_cannot_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    older, newer = saving.save(tmp_path, 1), saving.save(tmp_path, 2)
    whole = Path.open

    def failing(path: Path, *arguments, **options):
        if path.parent == newer and path.suffix == ".safetensors":
            raise OSError(5, "Input/output error", str(path))
        return whole(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", failing)
    found, complaints = newest_checkpoint(tmp_path)
    assert found == older
    assert "cannot be read" in complaints[0]


def test_what_is_not_a_checkpoint_is_ignored(tmp_path: Path):
    folder = saving.save(tmp_path, 1)
    checkpoints = tmp_path / "checkpoints"
    (checkpoints / "latest").symlink_to("step-999999")
    (checkpoints / "latest.txt").write_text("step-999999")
    (checkpoints / "step-000009").symlink_to(folder)
    for name in ("step-abc", "step-", "step-2", "step-000003.old", ".step-000004.1.part"):
        (checkpoints / name).mkdir()
    (checkpoints / "step-000008").touch()
    assert step_folders(tmp_path) == [folder]
    assert newest_checkpoint(tmp_path) == (folder, [])


def test_a_run_without_a_whole_checkpoint_says_why(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no run folder"):
        newest_checkpoint(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no whole checkpoint; remove it to"):
        newest_checkpoint(tmp_path)
    saving.flip_a_bit(saving.save(tmp_path, 1) / "optimizer.safetensors")
    (saving.save(tmp_path, 2) / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError) as raised:
        newest_checkpoint(tmp_path)
    assert "step-000001/optimizer.safetensors does not match" in str(raised.value)
    assert "step-000002 has no manifest.json, so it was never finished" in str(raised.value)


def test_a_checkpoint_can_be_asked_for_by_its_step(tmp_path: Path):
    older, newer = saving.save(tmp_path, 1), saving.save(tmp_path, 2)
    assert checkpoint_at(tmp_path, 1) == older
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 3; it has those of: 1, 2"):
        checkpoint_at(tmp_path, 3)
    with pytest.raises(FileNotFoundError, match="no run folder"):
        checkpoint_at(tmp_path / "none", 3)
    saving.flip_a_bit(newer / "state.json")
    with pytest.raises(ValueError, match="the newest whole checkpoint is that of step 1"):
        checkpoint_at(tmp_path, 2)
    (older / "manifest.json").unlink()
    with pytest.raises(ValueError, match="no other checkpoint of the run is whole"):
        checkpoint_at(tmp_path, 2)


@pytest.mark.parametrize("content", ["{}", '{"step": "1"}', "[]", "\x00", "[" * 100_000])
def test_a_state_of_another_form_is_refused_by_name(tmp_path: Path, content: str):
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(ValueError, match=r"state\.json"):
        load_state(tmp_path)
