"""A model that loads on its own: config, weights and tokenizer in one folder.

    config.json  model.safetensors  tokenizer.json  manifest.json

Weights are safetensors in fp32, a shared matrix stored once; nothing is ever unpickled.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from modelwright.config.schema import SettingsError, check
from modelwright.model.config import ModelConfig
from modelwright.model.transformer import Transformer
from modelwright.runtime.manifest import read_manifest, verify_files
from modelwright.tokenizer.tokenizer import Tokenizer

kind = "modelwright-checkpoint-1"


@dataclass(frozen=True)
class Bundle:
    """A loaded model, ready to use, with its tokenizer."""

    folder: Path
    model: Transformer
    tokenizer: Tokenizer


def write_bundle(folder: Path, model: Transformer, tokenizer: Tokenizer) -> None:
    """Write config, weights and tokenizer into a folder; the caller writes the manifest."""
    content = dataclasses.asdict(model.config) | {"tokenizer_fingerprint": tokenizer.fingerprint}
    (folder / "config.json").write_text(json.dumps(content, indent=2) + "\n")
    save_file(_distinct_weights(model), folder / "model.safetensors")
    tokenizer.save(folder / "tokenizer.json")


def load_bundle(
    folder: Path, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Bundle:
    """Load a model after comparing every byte with its manifest.

    Args:
        dtype: in which its matrix products are done; weights stay fp32.

    Raises:
        FileNotFoundError: if the folder holds no finished bundle.
        ValueError: if a file is altered, or the tokenizer is not the one the model was trained
            with (both fingerprints are shown).
    """
    verify_files(folder, read_manifest(folder, kind))
    content = json.loads((folder / "config.json").read_text())
    expected = content.pop("tokenizer_fingerprint", "none")
    try:
        config = check(ModelConfig, content)
    except SettingsError as error:
        raise ValueError(f"{folder / 'config.json'} is not a model's config: {error}") from None
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    if tokenizer.fingerprint != expected:
        raise ValueError(
            f"{folder / 'tokenizer.json'} has the fingerprint {tokenizer.fingerprint[:16]}, but "
            f"the model was trained with {expected[:16]}; put the right tokenizer beside it"
        )
    model = Transformer(config, dtype=dtype)
    load_weights(model, folder)
    model.to(device or torch.device("cpu"))
    model.eval()
    return Bundle(folder, model, tokenizer)


def load_weights(model: Transformer, folder: Path) -> None:
    """Fill a model's weights in place from a bundle that is verified already.

    Raises:
        ValueError: if a tensor is missing, left over, or of another shape.
    """
    stored = load_file(folder / "model.safetensors")
    wanted = _distinct_weights(model)
    if stored.keys() != wanted.keys():
        odd = sorted(stored.keys() ^ wanted.keys())
        raise ValueError(
            f"{folder / 'model.safetensors'} and the config disagree about {', '.join(odd[:4])}"
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            if stored[name].shape != tensor.shape:
                raise ValueError(
                    f"{folder / 'model.safetensors'} holds {name} as {tuple(stored[name].shape)}, "
                    f"but the config makes it {tuple(tensor.shape)}"
                )
            tensor.copy_(stored[name])


def _distinct_weights(model: Transformer) -> dict[str, torch.Tensor]:
    """Parameters by name, each shared one under its first name only."""
    return {name: parameter.data for name, parameter in model.named_parameters()}
