from pathlib import Path

import pytest

import foreign
from modelwright.interop.folders import model_folder, refuse_occupied


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("old")
    return folder


def write(folder: Path, *, force: bool = False) -> None:
    with model_folder(folder, force=force, option="--to") as unfinished:
        (unfinished / "config.json").write_text("new")


def test_a_finished_folder_takes_its_place(tmp_path: Path):
    write(tmp_path / "new")
    write(fill(tmp_path / "empty"))
    assert foreign.tree(tmp_path) == {"new", "new/config.json", "empty", "empty/config.json"}


def test_a_model_that_is_there_is_replaced_only_by_force(tmp_path: Path):
    folder = fill(tmp_path / "old", "config.json", "model.safetensors", "README.md")
    with pytest.raises(FileExistsError, match="old is there already; .* or add --force"):
        write(folder)
    write(folder, force=True)
    assert foreign.tree(tmp_path) == {"old", "old/config.json"}
    assert (folder / "config.json").read_text() == "new"


@pytest.mark.parametrize(
    "names", [("config.json", "README.md"), ("model.safetensors", "photo.jpg")]
)
def test_force_replaces_nothing_but_a_model(tmp_path: Path, names: tuple[str, ...]):
    folder = fill(tmp_path / "dear", *names)
    with pytest.raises(FileExistsError, match="holds other things than an exported or imported"):
        write(folder, force=True)
    assert {path.read_text() for path in folder.iterdir()} == {"old"}


def test_force_does_not_replace_what_is_being_read(tmp_path: Path):
    folder = fill(tmp_path / "model", "model.safetensors")
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(FileExistsError, match="is what the model is read from"):
        refuse_occupied(link, force=True, option="--to", source=folder)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path: Path, is_there: bool):
    if is_there:
        fill(tmp_path / "model", "model.safetensors")
    before = foreign.tree(tmp_path)

    def fail() -> None:
        with model_folder(tmp_path / "model", force=True, option="--to") as unfinished:
            (unfinished / "config.json").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert foreign.tree(tmp_path) == before
