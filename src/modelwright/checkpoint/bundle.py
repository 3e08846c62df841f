"""A model that loads on its own: config, weights and tokenizer in one folder.

    config.json  model.safetensors  tokenizer.json  manifest.json
    averaged.safetensors                            if the run kept a moving average of its weights

Weights are safetensors in fp32, a shared matrix stored once; nothing is ever unpickled. The
manifest has to list every file that is read, and every byte has to agree with it.
"""

import dataclasses
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modelwright.config.schema import SettingsError, check
from modelwright.model.attention import choose_attention
from modelwright.model.config import ModelConfig
from modelwright.model.transformer import Transformer
from modelwright.runtime.manifest import file_name, read_manifest, verify_files
from modelwright.tokenizer.tokenizer import Tokenizer

kind = "modelwright-checkpoint-1"
config_file = "config.json"
weights_file = "model.safetensors"
averaged_file = "averaged.safetensors"
tokenizer_file = "tokenizer.json"
bundle_files = (config_file, weights_file, tokenizer_file)


@dataclass(frozen=True)
class Bundle:
    """A loaded model, ready to use, with its tokenizer."""

    folder: Path
    model: Transformer
    tokenizer: Tokenizer


def distinct_weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's own parameters by name, each shared one under its first name only."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def write_bundle(
    folder: Path, config: ModelConfig, weights: Mapping[str, Tensor], tokenizer: Tokenizer
) -> None:
    """Write config, weights and tokenizer into a folder; the caller writes the manifest."""
    content = dataclasses.asdict(config) | {"tokenizer_fingerprint": tokenizer.fingerprint}
    (folder / config_file).write_text(json.dumps(content, indent=2) + "\n")
    write_tensors(folder / weights_file, weights)
    tokenizer.save(folder / tokenizer_file)


def load_bundle(
    folder: Path,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    averaged: bool = False,
    apart: bool = False,
) -> Bundle:
    """Load a model after comparing every byte with its manifest.

    Args:
        dtype: in which its matrix products are done; weights stay fp32.
        averaged: take the moving average of the weights instead of the last ones.
        apart: whether rows will hold several documents that do not see each other.

    Raises:
        FileNotFoundError: if the folder holds no finished bundle.
        ValueError: if a file is altered, there is no average, or the tokenizer is not the one the
            model was trained with (both fingerprints are shown).
    """
    manifest = verify(folder, bundle_files)
    if averaged and averaged_file not in manifest["files"]:
        raise ValueError(
            f"{folder} holds no {averaged_file}: its run kept no moving average of the weights; "
            "load the last weights instead"
        )
    content = read_object(folder / config_file)
    expected = content.pop("tokenizer_fingerprint", "none")
    try:
        config = check(ModelConfig, content)
    except SettingsError as error:
        raise ValueError(f"{folder / config_file} is not a model's config: {error}") from None
    tokenizer = Tokenizer.load(folder / tokenizer_file)
    if tokenizer.fingerprint != expected:
        raise ValueError(
            f"{folder / tokenizer_file} has the fingerprint {tokenizer.fingerprint[:16]}, but "
            f"the model was trained with {expected[:16]}; put the right tokenizer beside it"
        )
    device = device or torch.device("cpu")
    attention = choose_attention(
        device,
        dtype,
        d_head=config.head_width,
        n_tokens=config.context,
        masked=apart or config.masked_beyond_causal,
        dropout=0.0,
        deterministic=False,
    )
    model = Transformer(config, dtype=dtype, attention=attention)
    load_weights(model, folder, averaged_file if averaged else weights_file)
    model.to(device)
    model.eval()
    return Bundle(folder, model, tokenizer)


def load_weights(model: nn.Module, folder: Path, file: str = weights_file) -> None:
    """Fill a model's weights in place from a bundle that is verified already.

    Raises:
        ValueError: if a tensor is missing, left over, or of another shape or type; the model is
            as it was then.
    """
    path = folder / file
    stored, wanted = read_tensors(path), distinct_weights(model)
    if stored.keys() != wanted.keys():
        missing = [f"{name} (missing)" for name in wanted if name not in stored]
        left_over = [f"{name} (left over)" for name in stored if name not in wanted]
        odd = [*missing, *left_over]
        more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
        raise ValueError(f"{path} and the config disagree about {', '.join(odd[:4])}{more}")
    for name, tensor in wanted.items():
        if stored[name].shape != tensor.shape:
            raise ValueError(
                f"{path} holds {name} as {tuple(stored[name].shape)}, "
                f"but the config makes it {tuple(tensor.shape)}"
            )
        if stored[name].dtype != tensor.dtype:
            raise ValueError(
                f"{path} holds {name} in {_dtype_name(stored[name])}, but weights are kept in "
                f"{_dtype_name(tensor)}; convert the file if the lost digits do not matter"
            )
    for name, tensor in wanted.items():
        tensor.copy_(stored[name])


def verify(folder: Path, needed: Collection[str]) -> dict[str, Any]:
    """Compare every file of a folder with its manifest, which has to list the needed ones.

    Returns:
        The manifest.

    Raises:
        FileNotFoundError: if the folder was never finished.
        ValueError: if its manifest is damaged or lists too little, or a file is altered.
    """
    manifest = read_manifest(folder, kind)
    unlisted = [name for name in needed if name not in manifest["files"]]
    if unlisted:
        raise ValueError(f"{folder / file_name} is damaged: it does not list {', '.join(unlisted)}")
    verify_files(folder, manifest)
    return manifest


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device and layout into a safetensors file.

    Raises:
        OSError: if the disk does not take them.
    """
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        # The library puts the number of the system's error into its text, and only there.
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in CPU memory.

    Raises:
        ValueError: if it is something else.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ValueError: if it is something else.
    """
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {type(content).__name__}, where a JSON object belongs")
    return content


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
