"""Bringing snapshots to the disk, one after another, while training goes on.

A write that fails or is killed at any moment leaves the checkpoints before it as they were.
"""

import errno
import json
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from modelwright.checkpoint.bundle import averaged_file, kind, write_bundle, write_tensors
from modelwright.checkpoint.keeping import Keep, margin_bytes, remove_superseded
from modelwright.checkpoint.resume import (
    checkpoint_folders,
    folder_of,
    is_whole,
    optimizer_file,
    state_file,
)
from modelwright.checkpoint.snapshot import Snapshot
from modelwright.runtime.files import (
    folder_in_one_piece,
    free_bytes,
    readable_size,
    remove_in_one_piece,
)
from modelwright.runtime.manifest import write_manifest

default_keep = Keep()


def write_checkpoint(run_folder: Path, snapshot: Snapshot, keep: Keep = default_keep) -> Path:
    """Write a checkpoint in one piece, then remove those that need not stay any longer.

    One that is there already and whole is left as it is; a damaged one is replaced.

    Returns:
        Its folder.

    Raises:
        OSError: if the disk does not take it; the earlier checkpoints are untouched.
    """
    folder = folder_of(run_folder, snapshot.step)
    if folder.exists():
        if is_whole(folder):  # the last step may have been saved by interval already
            return folder
        remove_in_one_piece(folder)
    if free_bytes(folder) < snapshot.n_bytes + margin_bytes:
        raise OSError(_disk_is_full(run_folder, snapshot))
    try:
        with folder_in_one_piece(folder) as unfinished:
            _write_files(unfinished, snapshot)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(_disk_is_full(run_folder, snapshot)) from error
        raise
    remove_superseded(run_folder, keep, snapshot.step)
    return folder


class Writer:
    """Writes snapshots in the background, one at a time; leaving its block waits for the last.

    A write that failed raises its error at the next `save`, `wait`, or at the end of the block.
    """

    def __init__(
        self, run_folder: Path, keep: Keep = default_keep, *, background: bool = True
    ) -> None:
        """Args:
        background: whether `save` returns at once, or only when the checkpoint is on the disk.
        """
        self.run_folder = run_folder
        self.keep = keep
        self.background = background
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._under_way: Future[Path] | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Begin to write a snapshot, after the one before it has ended.

        Raises:
            OSError: if a write failed: in the background the one before, which means that this
                snapshot is not written.
        """
        self.wait()
        self._under_way = self._thread.submit(
            write_checkpoint, self.run_folder, snapshot, self.keep
        )
        if snapshot.buffers is not None:
            snapshot.buffers.lend(self._under_way)
        if not self.background:
            self.wait()

    def wait(self) -> None:
        """Return when nothing is being written any more, and everything before is on the disk.

        Raises:
            OSError: if the last write failed; it is raised once.
        """
        if self._under_way is not None:
            wait([self._under_way])  # an interrupt in here leaves the write to the end of the block
            ended, self._under_way = self._under_way, None
            ended.result()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self,
        error_kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown()  # waits for the write under way
        if error is None:
            self.wait()
        elif self._under_way is not None and (failure := self._under_way.exception()):
            error.add_note(f"besides, the last checkpoint was not written: {failure}")


def _write_files(folder: Path, snapshot: Snapshot) -> None:
    write_bundle(folder, snapshot.config, snapshot.weights, snapshot.tokenizer)
    write_tensors(folder / optimizer_file, snapshot.optimizer)
    if snapshot.averaged is not None:
        write_tensors(folder / averaged_file, snapshot.averaged)
    facts = {"step": snapshot.step, "validation_loss": snapshot.validation_loss}
    (folder / state_file).write_text(json.dumps(facts | dict(snapshot.state), indent=2) + "\n")
    write_manifest(folder, kind, {"step": snapshot.step})


def _disk_is_full(run_folder: Path, snapshot: Snapshot) -> str:
    needed, free = snapshot.n_bytes + margin_bytes, free_bytes(run_folder)
    earlier = [folder.name for folder in checkpoint_folders(run_folder)]
    still_there = f"; {earlier[-1]} is untouched" if earlier else ""
    return (
        f"the disk is full: the checkpoint of step {snapshot.step} needs {readable_size(needed)}, "
        f"and {readable_size(free)} are free where {run_folder} is{still_there}; free some space "
        "or lower checkpoints.keep, and resume the run"
    )
