import errno
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import SafetensorError

import saving
from modelwright.checkpoint import bundle, writer
from modelwright.checkpoint.keeping import Keep
from modelwright.checkpoint.resume import checkpoint_folders, is_whole, newest_checkpoint
from modelwright.checkpoint.snapshot import Buffers
from modelwright.checkpoint.writer import Writer, write_checkpoint


class HeldWrite:
    """Stands for `write_checkpoint`: each write lasts until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self.steps: list[int] = []
        self.error = error
        monkeypatch.setattr(writer, "write_checkpoint", self)

    def __call__(self, run_folder: Path, snapshot, keep: Keep) -> Path:
        self.began.set()
        assert self.go_on.wait(20)
        if self.error is not None:
            raise self.error
        self.steps.append(snapshot.step)
        return run_folder


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch):
    write = HeldWrite(monkeypatch)
    with Writer(tmp_path) as made:
        made.save(saving.snapshot(1))  # returns, although the write does not end
        assert write.began.wait(20)
        assert write.steps == []
        write.go_on.set()
        made.wait()
        assert write.steps == [1]


def test_a_save_waits_for_the_one_before(tmp_path: Path, monkeypatch):
    write = HeldWrite(monkeypatch)
    with Writer(tmp_path) as made:
        made.save(saving.snapshot(1))
        second = threading.Thread(target=made.save, args=(saving.snapshot(2),))
        second.start()
        second.join(0.1)
        assert second.is_alive()
        write.go_on.set()
        second.join(20)
    assert write.steps == [1, 2]


def test_in_the_foreground_a_save_returns_when_it_is_on_the_disk(tmp_path: Path):
    with Writer(tmp_path, background=False) as made:
        made.save(saving.snapshot(1))
        assert [folder.name for folder in checkpoint_folders(tmp_path)] == ["step-000001"]


def test_a_snapshot_into_the_same_buffers_does_not_reach_the_write_before(tmp_path: Path):
    buffers = Buffers()
    with Writer(tmp_path, Keep(last=9)) as made:
        for step in range(1, 6):
            made.save(saving.snapshot(step, buffers=buffers))
    for step in range(1, 6):
        folder = tmp_path / "checkpoints" / f"step-{step:06}"
        stored = bundle.read_tensors(folder / "model.safetensors")
        expected = saving.snapshot(step).weights
        assert all(stored[name].equal(tensor) for name, tensor in expected.items())


def test_the_writer_tells_the_buffers_of_its_write(tmp_path: Path, monkeypatch):
    write = HeldWrite(monkeypatch)
    buffers = Buffers()
    with Writer(tmp_path) as made:
        first = saving.snapshot(1, buffers=buffers)
        before = first.weights["embedding.weight"].clone()
        made.save(first)
        second = threading.Thread(target=saving.snapshot, args=(2,), kwargs={"buffers": buffers})
        second.start()
        second.join(0.1)
        assert first.weights["embedding.weight"].equal(before)
        write.go_on.set()
        second.join(20)
    assert not first.weights["embedding.weight"].equal(before)


@pytest.mark.parametrize("surface", ["save", "wait", "exit"])
def test_an_error_in_the_background_surfaces_once(tmp_path: Path, monkeypatch, surface: str):
    write = HeldWrite(monkeypatch, OSError("the disk broke"))
    write.go_on.set()
    surfaced = False
    with pytest.raises(OSError, match="the disk broke"), Writer(tmp_path) as made:
        made.save(saving.snapshot(1))
        if surface == "exit":
            surfaced = True
        else:
            with pytest.raises(OSError, match="the disk broke") as raised:
                made.wait() if surface == "wait" else made.save(saving.snapshot(2))
            surfaced = True
            made.wait()  # not a second time
            raise raised.value
    assert surfaced


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_exception_waits_for_the_write_and_is_not_hidden_by_its_error(
    tmp_path: Path, monkeypatch, kind
):
    write = HeldWrite(monkeypatch, OSError("the disk broke"))
    threading.Timer(0.1, write.go_on.set).start()
    with pytest.raises(kind, match="stopped") as raised, Writer(tmp_path) as made:
        made.save(saving.snapshot(1))
        raise kind("stopped")
    assert write.go_on.is_set()
    assert raised.value.__notes__ == [
        "besides, the last checkpoint was not written: the disk broke"
    ]


def test_an_interrupt_while_waiting_leaves_the_error_to_the_end(tmp_path: Path, monkeypatch):
    write = HeldWrite(monkeypatch, OSError("the disk broke"))

    def interrupt(_) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised, Writer(tmp_path) as made:
        made.save(saving.snapshot(1))
        with monkeypatch.context() as patch:
            patch.setattr(writer, "wait", interrupt)
            write.go_on.set()
            made.wait()
    assert "the disk broke" in raised.value.__notes__[0]


def test_a_whole_checkpoint_is_not_written_again_and_a_damaged_one_is(tmp_path: Path):
    folder = saving.save(tmp_path, 3)
    written = (folder / "manifest.json").stat().st_mtime_ns
    assert saving.save(tmp_path, 3) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == written
    saving.flip_a_bit(folder / "optimizer.safetensors")
    assert saving.save(tmp_path, 3) == folder
    assert is_whole(folder)


@pytest.mark.parametrize("in_the_way", ["file", "link"])
def test_what_has_a_checkpoints_name_makes_way(tmp_path: Path, in_the_way: str):
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "step-000003"
    if in_the_way == "file":
        path.touch()
    else:
        path.symlink_to(tmp_path)
    assert is_whole(saving.save(tmp_path, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def full_disk_error(*_) -> None:
    raise SafetensorError("I/O error: No space left on device (os error 28)")


def test_a_full_disk_is_told_with_what_is_needed_and_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    earlier = saving.save(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "save_file", full_disk_error)
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * 2**30))
        with pytest.raises(OSError) as raised:
            saving.save(tmp_path, 2)
    for expected in ("step 2 needs 32.", "MiB", "3.0 GiB are free", "step-000001 is untouched"):
        assert expected in str(raised.value)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
    assert newest_checkpoint(tmp_path) == (earlier, [])


def test_too_little_space_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(OSError, match=r"1\.0 MiB are free .* lower checkpoints\.keep"):
        write_checkpoint(tmp_path, saving.snapshot(1))
    assert list(tmp_path.iterdir()) == []


def test_another_error_of_the_disk_is_told_as_it_is(tmp_path: Path, monkeypatch):
    def broken(*_) -> None:
        raise SafetensorError("I/O error: Input/output error (os error 5)")

    monkeypatch.setattr(bundle, "save_file", broken)
    with pytest.raises(OSError) as raised:
        saving.save(tmp_path, 2)
    assert raised.value.errno == errno.EIO
    assert "model.safetensors" in str(raised.value.filename)
    assert list((tmp_path / "checkpoints").iterdir()) == []
