"""Checkpoints: a bundle together with what training needs to go on as if nothing had happened.

    checkpoints/step-000500/
      config.json  model.safetensors  tokenizer.json      the bundle
      averaged.safetensors                                 if the run averages its weights
      optimizer.safetensors  state.json                    what resuming needs
      manifest.json                                        sha256 of each file; written last

A checkpoint folder appears and disappears in one piece, so one that is there and agrees with its
manifest is whole. Nothing else is believed: no link or file that claims to name the latest.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from modelwright.checkpoint.bundle import bundle_files, read_object, read_tensors, verify
from modelwright.runtime.manifest import file_name

optimizer_file = "optimizer.safetensors"
state_file = "state.json"
checkpoint_files = (*bundle_files, optimizer_file, state_file)


def checkpoints_of(run_folder: Path) -> Path:
    """Where a run keeps its checkpoints."""
    return run_folder / "checkpoints"


def folder_of(run_folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` finished steps belongs."""
    return checkpoints_of(run_folder) / f"step-{step:06}"


def step_of(folder: Path) -> int:
    """The step of a checkpoint, read from its folder's name."""
    return int(folder.name.removeprefix("step-"))


def step_folders(run_folder: Path) -> list[Path]:
    """The folders that are named as checkpoints, whole or not, oldest step first."""
    found = [
        path
        for path in checkpoints_of(run_folder).glob("step-*")
        if re.fullmatch(r"step-[0-9]{6,}", path.name) and path.is_dir() and not path.is_symlink()
    ]
    return sorted(found, key=step_of)


def checkpoint_folders(run_folder: Path) -> list[Path]:
    """All finished checkpoints of a run, oldest step first; their bytes are not looked at."""
    return [folder for folder in step_folders(run_folder) if (folder / file_name).is_file()]


def verify_checkpoint(folder: Path) -> None:
    """Compare every byte of a checkpoint with its manifest.

    Raises:
        ValueError: saying whether it was never finished or which file is damaged.
    """
    try:
        verify(folder, checkpoint_files)
    except FileNotFoundError:
        raise ValueError(
            f"{folder} has no {file_name}, so it was never finished or has lost it since"
        ) from None
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error}") from error


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint is finished and every byte of it right."""
    try:
        verify_checkpoint(folder)
    except ValueError:
        return False
    return True


def newest_checkpoint(run_folder: Path) -> tuple[Path, list[str]]:
    """The newest checkpoint whose every byte is right.

    Returns:
        Its folder, and a sentence about each newer one that had to be passed over.

    Raises:
        FileNotFoundError: if there is no run, or it has no whole checkpoint; says why of each.
    """
    _require_run(run_folder)
    complaints: list[str] = []
    for folder in reversed(step_folders(run_folder)):
        try:
            verify_checkpoint(folder)
        except ValueError as error:
            complaints.append(str(error))
            continue
        return folder, complaints
    found = f" ({'; '.join(complaints)})" if complaints else ""
    raise FileNotFoundError(
        f"{run_folder} holds no whole checkpoint{found}; remove it to start again"
    )


def checkpoint_at(run_folder: Path, step: int) -> Path:
    """The checkpoint after `step` finished steps, every byte of it right.

    Raises:
        FileNotFoundError: if there is no run or no such checkpoint; says which there are.
        ValueError: if it is damaged; offers the newest whole one.
    """
    _require_run(run_folder)
    folder = folder_of(run_folder, step)
    if folder not in step_folders(run_folder):
        steps = ", ".join(str(step_of(other)) for other in checkpoint_folders(run_folder))
        raise FileNotFoundError(
            f"{run_folder} holds no checkpoint of step {step}; it has those of: {steps or 'none'}"
        )
    try:
        verify_checkpoint(folder)
    except ValueError as error:
        raise ValueError(f"{error}; {_offer(run_folder)}") from None
    return folder


def load_state(folder: Path) -> dict[str, Any]:
    """The facts saved in a checkpoint that is verified already, with its "step".

    Raises:
        ValueError: if the file holds something else.
    """
    content = read_object(folder / state_file)
    if not isinstance(content.get("step"), int):
        raise ValueError(f"{folder / state_file} does not say after which step it was saved")
    return content


def load_optimizer_tensors(folder: Path) -> dict[str, Tensor]:
    """The optimizer's tensors of a checkpoint that is verified already, in CPU memory.

    Raises:
        ValueError: if the file holds something else.
    """
    return read_tensors(folder / optimizer_file)


def _require_run(run_folder: Path) -> None:
    if not run_folder.is_dir():
        raise FileNotFoundError(f"there is no run folder {run_folder}; check the path")


def _offer(run_folder: Path) -> str:
    try:
        newest, _ = newest_checkpoint(run_folder)
    except FileNotFoundError:
        return "no other checkpoint of the run is whole"
    return f"the newest whole checkpoint is that of step {step_of(newest)}"
