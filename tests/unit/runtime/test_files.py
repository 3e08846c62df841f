import multiprocessing
import os
from pathlib import Path

import pytest

from folder_holder import hold
from modelwright.runtime.files import (
    folder_in_one_piece,
    lock_folder,
    require_writable,
    sha256_of,
    write_atomically,
)
from modelwright.runtime.manifest import read_manifest, verify_files, write_manifest


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "kept.txt"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_atomically(tmp_path / "folder", "cannot replace a folder")
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "kept.txt"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    target = tmp_path / "made"
    with pytest.raises(RuntimeError), folder_in_one_piece(target) as unfinished:
        (unfinished / "half").write_text("x")
        assert not target.exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with folder_in_one_piece(target) as unfinished:
        (unfinished / "whole").write_text("x")
    assert (target / "whole").read_text() == "x"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with (
        pytest.raises(FileExistsError, match="choose another place"),
        folder_in_one_piece(tmp_path / "mine"),
    ):
        pass


def test_a_folder_is_held_by_one_process_until_it_dies(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready, done))
    holder.start()
    assert ready.wait(20)
    with pytest.raises(ValueError, match=f"process \\(id {holder.pid}\\)"), lock_folder(tmp_path):
        pass
    holder.kill()  # no chance to clean up
    holder.join()
    with lock_folder(tmp_path):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        require_writable(tmp_path / "file" / "below")
    require_writable(tmp_path / "new" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_missing_permission_is_named(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="no permission to write"):
        require_writable(tmp_path / "below")


def test_permission_is_asked_of_the_nearest_existing_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)
    with pytest.raises(PermissionError, match=f"no permission to write in {tmp_path};"):
        require_writable(tmp_path / "a" / "b")


def finished_folder(folder: Path) -> Path:
    (folder / "a.bin").write_bytes(bytes(1000))
    (folder / "sub").mkdir()
    (folder / "sub" / "b.bin").write_bytes(b"b")
    write_manifest(folder, "test-1", {"answer": 42})
    return folder


def test_a_manifest_knows_every_file_and_its_facts(tmp_path: Path):
    manifest = read_manifest(finished_folder(tmp_path), "test-1")
    assert manifest["facts"] == {"answer": 42}
    assert set(manifest["files"]) == {"a.bin", "sub/b.bin"}
    assert manifest["files"]["a.bin"]["sha256"] == sha256_of(tmp_path / "a.bin")
    verify_files(tmp_path, manifest)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_bit, "does not match its sha256"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "has 999 bytes where"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_damage_is_found_and_the_file_named(tmp_path: Path, damage, message: str):
    manifest = read_manifest(finished_folder(tmp_path), "test-1")
    damage(tmp_path / "a.bin")
    with pytest.raises(ValueError, match=message) as raised:
        verify_files(tmp_path, manifest)
    assert str(tmp_path / "a.bin") in str(raised.value)


def test_a_manifest_that_points_outside_its_folder_is_refused(tmp_path: Path):
    for name in ("../x", "/etc/hostname"):
        with pytest.raises(ValueError, match="outside its folder"):
            verify_files(tmp_path, {"files": {name: {"n_bytes": 0, "sha256": ""}}})


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"kind": 1, "facts": 2}', "\x00"])
def test_a_garbage_manifest_is_called_damaged(tmp_path: Path, content: str):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match="damaged"):
        read_manifest(tmp_path, "test-1")


def test_a_missing_manifest_means_unfinished(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="not a finished test-1"):
        read_manifest(tmp_path, "test-1")


def test_a_manifest_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="describes a test-1"):
        read_manifest(finished_folder(tmp_path), "test-2")
