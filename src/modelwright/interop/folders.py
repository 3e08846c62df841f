"""Putting a finished folder in its place: in one piece, and over nothing else by mistake."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelwright.runtime.files import folder_in_one_piece, remove_in_one_piece, require_writable

# What a folder must hold to be taken for a model, and what it may hold besides.
_weights = {".safetensors", ".gguf"}
_suffixes = {*_weights, ".json", ".md", ".txt"}


def refuse_occupied(folder: Path, *, force: bool, option: str, source: Path | None = None) -> None:
    """Say early that a folder is there already.

    Args:
        force: whether a model that is there may be replaced.
        option: what the folder is called on the command line.
        source: what the model is made from, and must not be replaced by it.

    Raises:
        FileExistsError: if it is there and not empty, unless it holds a model and `force` is on.
        PermissionError: if the folder cannot be written.
    """
    require_writable(folder.parent)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        raise FileExistsError(
            f"{folder} is there already; choose another {option}, or add --force to replace it"
        )
    if source is not None and folder.resolve() == source.resolve():
        raise FileExistsError(f"{folder} is what the model is read from; choose another {option}")
    found = list(folder.iterdir()) if folder.is_dir() else []
    is_model = any(path.suffix in _weights for path in found)
    if not is_model or any(path.is_dir() or path.suffix not in _suffixes for path in found):
        raise FileExistsError(
            f"{folder} holds other things than an exported or imported model, which --force does "
            f"not remove; choose another {option}"
        )


@contextmanager
def model_folder(folder: Path, *, force: bool, option: str) -> Iterator[Path]:
    """Yield an empty folder that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        FileExistsError: as `refuse_occupied`.
    """
    refuse_occupied(folder, force=force, option=option)
    if not folder.exists() or not any(folder.iterdir()):
        with folder_in_one_piece(folder) as unfinished:
            yield unfinished
        return
    successor = folder.with_name(f".{folder.name}.successor")
    shutil.rmtree(successor, ignore_errors=True)
    try:
        with folder_in_one_piece(successor) as unfinished:
            yield unfinished
        remove_in_one_piece(folder)
        successor.replace(folder)
    finally:
        shutil.rmtree(successor, ignore_errors=True)
