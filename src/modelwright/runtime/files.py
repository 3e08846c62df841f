"""Files that are either whole or not there: atomic writes, hashes, locks.

A write goes to a neighbour with a temporary name, is flushed to the disk, and then takes its
final name in one step; a folder does the same. So a reader never meets half a file, whatever
happened to the writer.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file, or leave the old one untouched; text is written as UTF-8."""
    with file_in_one_piece(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def file_in_one_piece(target: Path, *, survives_power_cut: bool = True) -> Iterator[BinaryIO]:
    """Yield an open file that becomes `target` when the block ends well and vanishes otherwise.

    Args:
        survives_power_cut: whether to wait for the disk; a passing file may do without, if it is
            checked before it is used again.
    """
    temporary = unfinished_name(target)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            if survives_power_cut:
                flush_to_disk(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if survives_power_cut:
        flush_folder(target.parent)


def flush_to_disk(file_descriptor: int) -> None:
    """Return only when the file's content would survive a power cut."""
    os.fsync(file_descriptor)


def flush_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def folder_in_one_piece(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block ends well and vanishes otherwise.

    Raises:
        FileExistsError: if `target` is there already and is not an empty folder.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} is there already; choose another place or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_name(target)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        for file in sorted(unfinished.rglob("*")):
            if file.is_file():
                with file.open("rb") as handle:
                    flush_to_disk(handle.fileno())
        flush_folder(unfinished)
        unfinished.replace(target)  # an empty target folder is replaced too
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    flush_folder(target.parent)


def unfinished_name(target: Path) -> Path:
    """The neighbour under whose name this process makes, or takes apart, a file or folder."""
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def remove_in_one_piece(folder: Path) -> None:
    """Remove a folder so that no reader meets half of it, even if this process is killed."""
    unfinished = unfinished_name(folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    folder.replace(unfinished)
    _remove(unfinished)


def remove_unfinished(parent: Path) -> list[Path]:
    """Remove what dead processes left half made or half removed in a folder.

    What bears our own process id is from a dead namesake, as each start in a container makes
    one; so call it before this process writes there.

    Returns:
        What was removed.
    """
    removed: list[Path] = []
    for path in sorted(parent.glob(".*.part")):
        number = re.fullmatch(r"\..+\.(\d+)\.part", path.name)
        if number is None or (int(number[1]) != os.getpid() and _is_alive(int(number[1]))):
            continue
        _remove(path)
        removed.append(path)
    return removed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _is_alive(process_id: int) -> bool:
    try:
        os.getpgid(process_id)
    except (ProcessLookupError, OverflowError):
        return False
    return True


def free_bytes(folder: Path) -> int:
    """The free space of the disk on which a folder is or would be made."""
    return shutil.disk_usage(_nearest_existing(folder)).free


def readable_size(n_bytes: int) -> str:
    """A size for people: "1.4 GiB", "312.0 MiB"."""
    gib, mib, kib = n_bytes / 2**30, n_bytes / 2**20, n_bytes / 2**10
    if gib >= 1:
        return f"{gib:,.1f} GiB"
    return f"{mib:,.1f} MiB" if mib >= 1 else f"{kib:,.1f} KiB"


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the kernel lets go of the lock when the process dies.

    Raises:
        ValueError: if a living process holds it; the message names that process.
    """
    path = folder / ".lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise ValueError(
                f"{folder} is in use by another modelwright process (id {holder}); "
                "wait for it to end, or choose another folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
    # The file stays: unlinking it would let two processes lock two different files.


def require_writable(folder: Path) -> None:
    """Say early, in one sentence, that a folder cannot be written.

    Raises:
        PermissionError: naming the nearest existing parent that refuses.
        NotADirectoryError: if a file is in the way.
    """
    nearest = _nearest_existing(folder)
    if not nearest.is_dir():
        raise NotADirectoryError(
            f"{folder} cannot be made because {nearest} is a file; choose another place"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(
            f"no permission to write in {nearest}; choose another place for {folder}, "
            "or change the rights of that folder"
        )


def _nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
