"""Checkpoints: a bundle together with what training needs to go on as if nothing had happened.

    checkpoints/step-000500/
      config.json  model.safetensors  tokenizer.json      the bundle
      optimizer.safetensors  state.json                   what resuming needs
      manifest.json                                       sha256 of each file; written last

A checkpoint folder appears in one piece, so the newest one with a manifest is always whole.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from modelwright.checkpoint.bundle import kind, write_bundle
from modelwright.model.transformer import Transformer
from modelwright.runtime.files import folder_in_one_piece
from modelwright.runtime.manifest import file_name, read_manifest, verify_files, write_manifest
from modelwright.tokenizer.tokenizer import Tokenizer


def save_checkpoint(
    run_folder: Path,
    *,
    step: int,
    model: Transformer,
    tokenizer: Tokenizer,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write the checkpoint after `step` finished steps and remove all but the newest `keep`.

    Args:
        state: small facts in JSON that resuming needs besides the tensors.
    """
    folder = run_folder / "checkpoints" / f"step-{step:06}"
    if folder.exists():
        if is_whole(folder):  # the last step may have been saved by interval already
            return folder
        shutil.rmtree(folder)
    with folder_in_one_piece(folder) as unfinished:
        write_bundle(unfinished, model, tokenizer)
        save_file(optimizer_tensors(optimizer), unfinished / "optimizer.safetensors")
        (unfinished / "state.json").write_text(json.dumps({"step": step, **state}, indent=2) + "\n")
        write_manifest(unfinished, kind, {"step": step})
    for old in checkpoint_folders(run_folder)[:-keep]:
        (old / file_name).unlink()  # first, so that a half-removed one is never taken for whole
        shutil.rmtree(old)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint is finished and every byte of it right."""
    try:
        verify_files(folder, read_manifest(folder, kind))
    except (FileNotFoundError, ValueError):
        return False
    return True


def checkpoint_folders(run_folder: Path) -> list[Path]:
    """All finished checkpoints of a run, oldest first."""
    folders = run_folder.glob("checkpoints/step-*")
    return sorted(folder for folder in folders if (folder / file_name).is_file())


def newest_checkpoint(run_folder: Path) -> tuple[Path, list[str]]:
    """The newest checkpoint whose every byte is right.

    Returns:
        Its folder, and a sentence about each newer one that had to be passed over.

    Raises:
        FileNotFoundError: if there is no run, or it has no whole checkpoint.
    """
    if not run_folder.is_dir():
        raise FileNotFoundError(f"there is no run folder {run_folder}; check the path")
    complaints: list[str] = []
    for folder in reversed(checkpoint_folders(run_folder)):
        try:
            verify_files(folder, read_manifest(folder, kind))
        except ValueError as error:
            complaints.append(str(error))
            continue
        return folder, complaints
    found = f" ({'; '.join(complaints)})" if complaints else ""
    raise FileNotFoundError(
        f"{run_folder} holds no whole checkpoint{found}; remove it to start again"
    )


def load_training_state(folder: Path, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill a fresh optimizer's state in place and return the facts saved beside it."""
    tensors = load_file(folder / "optimizer.safetensors")
    for group_index, group in enumerate(optimizer.param_groups):
        for index, parameter in enumerate(group["params"]):
            prefix = f"{group_index}.{index}."
            optimizer.state[parameter] = {
                name.removeprefix(prefix): tensor.to(
                    parameter.device if tensor.ndim else tensor.device
                )
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
    return json.loads((folder / "state.json").read_text())


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimizer's state as flat tensors, named by group, parameter and kind."""
    return {
        f"{group_index}.{index}.{name}": torch.as_tensor(value).clone()
        for group_index, group in enumerate(optimizer.param_groups)
        for index, parameter in enumerate(group["params"])
        for name, value in optimizer.state[parameter].items()
    }
