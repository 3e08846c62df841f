"""Which checkpoints of a run stay, how much room they take, and how the others go."""

import math
from dataclasses import dataclass
from pathlib import Path

from modelwright.checkpoint.bundle import read_object
from modelwright.checkpoint.resume import (
    checkpoint_folders,
    checkpoints_of,
    state_file,
    step_folders,
    step_of,
)
from modelwright.runtime.files import (
    free_bytes,
    readable_size,
    remove_in_one_piece,
    remove_unfinished,
)

# Room for the tokenizer, the small files and what the file system itself takes.
margin_bytes = 32 * 2**20


@dataclass(frozen=True)
class Keep:
    """How many checkpoints stay: the newest ones, and the one that did best."""

    last: int = 2
    best: bool = True  # also the one with the lowest validation loss

    def __post_init__(self) -> None:
        if self.last < 1:
            raise ValueError(f"checkpoints.keep is {self.last}; the least is 1")

    @property
    def n_checkpoints(self) -> int:
        """The most that stay; the best may be among the newest."""
        return self.last + self.best


def checkpoint_bytes(weights_bytes: int, optimizer_bytes: int, averaged_bytes: int = 0) -> int:
    """The room one checkpoint takes on the disk, a little more than its tensors."""
    return weights_bytes + optimizer_bytes + averaged_bytes + margin_bytes


def require_space(run_folder: Path, bytes_per_checkpoint: int, keep: Keep) -> None:
    """Say before the first step that the disk cannot hold a run's checkpoints.

    Those that the folder holds already have their room.

    Raises:
        ValueError: saying how much is needed, what for, and how much is free.
    """
    n_more = max(0, keep.n_checkpoints - len(checkpoint_folders(run_folder)))
    needed, free = (n_more + 1) * bytes_per_checkpoint, free_bytes(run_folder)
    if needed > free:
        best = " and the best one" if keep.best else ""
        raise ValueError(
            f"the checkpoints of {run_folder} need {readable_size(needed)}, but "
            f"{readable_size(free)} are free there: {n_more} more are kept (checkpoints.keep = "
            f"{keep.last}{best}) and 1 is being written, of {readable_size(bytes_per_checkpoint)} "
            "each; free some space, lower checkpoints.keep, or choose a folder on another disk"
        )


def remove_superseded(run_folder: Path, keep: Keep, step: int) -> None:
    """Remove the checkpoints that need not stay now that the one of `step` is written.

    Later ones, as a run has that went back to an earlier step, neither count nor go.
    """
    folders = [folder for folder in checkpoint_folders(run_folder) if step_of(folder) <= step]
    kept = set(folders[-keep.last :])
    if keep.best:
        kept |= _best(folders)
    for folder in folders:
        if folder not in kept:
            remove_in_one_piece(folder)


def forget_checkpoints_after(run_folder: Path, step: int) -> None:
    """Remove the checkpoints, whole or not, of steps that a run will take again differently."""
    for folder in step_folders(run_folder):
        if step_of(folder) > step:
            remove_in_one_piece(folder)


def clear_unfinished(run_folder: Path) -> list[Path]:
    """Remove what dead processes left of checkpoints they were writing or removing.

    The caller holds the run's lock and has not begun to write.

    Returns:
        What was removed.
    """
    return remove_unfinished(checkpoints_of(run_folder))


def _best(folders: list[Path]) -> set[Path]:
    """The folder with the lowest validation loss, the newer of two equal ones; none if unknown."""
    best, lowest = set[Path](), math.inf
    for folder in folders:
        loss = _validation_loss(folder)
        if loss <= lowest and math.isfinite(loss):
            best, lowest = {folder}, loss
    return best


def _validation_loss(folder: Path) -> float:
    """As the checkpoint says; infinite where it does not, or is damaged."""
    try:
        loss = read_object(folder / state_file).get("validation_loss")
    except (OSError, ValueError):
        return math.inf
    return loss if isinstance(loss, int | float) else math.inf
