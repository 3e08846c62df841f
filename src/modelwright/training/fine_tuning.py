"""Beginning with the weights of a model that is there already."""

import dataclasses
import json
from pathlib import Path

from modelwright.checkpoint.bundle import bundle_files, config_file, tokenizer_file, verify
from modelwright.checkpoint.resume import newest_checkpoint
from modelwright.config.differences import Difference, differences
from modelwright.config.loading import Loaded
from modelwright.config.schema import check
from modelwright.model.config import ModelConfig
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.training.config import RunConfig

# What may differ from the model to begin with: neither changes the shape of a weight.
free_fields = {"dropout", "window"}


def initial_bundle(name: str) -> Path:
    """The folder of the model to begin with, every byte checked.

    Args:
        name: a run, of which the newest whole checkpoint is taken, or a checkpoint or bundle.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if a file is damaged.
    """
    folder = Path(name)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"training.init_from is {name}, but there is no such folder; name a run or a checkpoint"
        )
    if not (folder / config_file).exists():
        folder, _ = newest_checkpoint(folder)
    verify(folder, bundle_files)
    return folder


def with_initial_model(loaded: Loaded[RunConfig]) -> RunConfig:
    """A run's config in which `training.init_from` decides the model and the tokenizer.

    What the recipe leaves at its default is taken from the model to begin with.

    Raises:
        ValueError: listing what the recipe sets otherwise.
    """
    config = loaded.config
    if config.training.init_from is None:
        return config
    folder = initial_bundle(config.training.init_from)
    content = json.loads((folder / config_file).read_text())
    content.pop("tokenizer_fingerprint", None)
    initial = check(ModelConfig, content)
    is_rotary = initial.positions != "learned"  # then the context is no shape of a weight
    free = free_fields | ({"context"} if is_rotary else set())
    set_here = {path[1]: path for path in loaded.origins if path[0] == "model" and len(path) == 2}
    kept = {name: getattr(config.model, name) for name in set_here if name in free}
    clashes = [
        Difference(f"model.{found.path}", found.before, found.after)
        for found in differences(initial, config.model)
        if found.path in set_here and found.path not in free
    ]
    tokenizer = config.tokenizer
    if tokenizer.file is None:
        path = folder / tokenizer_file
        n_vocab = Tokenizer.load(path).n_vocab
        tokenizer = dataclasses.replace(tokenizer, file=str(path), vocab_size=n_vocab)
        wanted = config.tokenizer.vocab_size
        if ("tokenizer", "vocab_size") in loaded.origins and wanted != n_vocab:
            clashes.append(Difference("tokenizer.vocab_size", n_vocab, wanted))
    if clashes:
        raise ValueError(
            f"training.init_from is {config.training.init_from}, but the recipe makes another "
            f"model: {'; '.join(map(str, clashes))}; leave these out"
        )
    model = dataclasses.replace(initial, **kept)
    return dataclasses.replace(config, model=model, tokenizer=tokenizer)


def require_same_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Refuse weights that know other tokens than the data has.

    Raises:
        ValueError: showing both fingerprints.
    """
    saved = json.loads((folder / config_file).read_text())["tokenizer_fingerprint"]
    if saved != tokenizer.fingerprint:
        raise ValueError(
            f"{folder} was trained with the tokenizer {saved[:16]}, but the data has "
            f"{tokenizer.fingerprint[:16]}; point data.folder at data of the same tokenizer, or "
            f"build it with tokenizer.file = '{folder / tokenizer_file}'"
        )
