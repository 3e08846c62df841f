"""A finished folder of token shards: opened, checked, and compared with what a run asks for."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelwright.data.config import DataConfig, is_on_hub, is_standard_input, is_stories
from modelwright.data.shards import SIDES, TokenSequence, folder_kind, open_shard
from modelwright.data.verification import verify_data
from modelwright.runtime.manifest import read_manifest
from modelwright.runtime.progress import Listener, nobody
from modelwright.tokenizer.config import TokenizerConfig
from modelwright.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Data:
    """An opened folder of token shards with the tokenizer that made them."""

    folder: Path
    tokenizer: Tokenizer
    train: TokenSequence
    validation: TokenSequence
    facts: dict[str, Any]

    @property
    def validation_bytes_per_token(self) -> float:
        """Bytes of text for each validation token: turns nats per token into bits per byte."""
        counts = self.facts["splits"]["validation"]
        return counts["n_bytes"] / counts["n_tokens"]


def open_data(folder: Path, on_progress: Listener = nobody) -> Data:
    """Open a finished folder of shards after reading and checking every byte.

    Raises:
        FileNotFoundError: if there is no finished data in the folder.
        ValueError: as `verification.verify_data` does.
    """
    verify_data(folder, on_progress)
    manifest = read_manifest(folder, folder_kind)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    train, validation = (
        TokenSequence([open_shard(path) for path in sorted(folder.glob(f"{side}-*.shard"))])
        for side in SIDES
    )
    return Data(folder, tokenizer, train, validation, manifest["facts"])


def require_same_settings(
    data: Data, config: DataConfig, tokenizer_config: TokenizerConfig
) -> None:
    """Refuse data that was built with other settings than the run's.

    Raises:
        ValueError: listing each setting with both values.
    """
    wanted = settings_that_matter(config, tokenizer_config)
    built = data.facts["settings"]
    if "data.imported" in built:
        return  # from token files, so no setting of a run says what text it is
    differences = [
        f"{name} is {wanted.get(name)!r} here and {built.get(name)!r} there"
        for name in sorted(wanted.keys() | built.keys())
        if wanted.get(name) != built.get(name)
    ]
    if differences:
        raise ValueError(
            f"{data.folder} was built with other settings ({'; '.join(differences)}); choose "
            "another data.folder, or remove it to build it anew"
        )


def settings_that_matter(config: DataConfig, tokenizer_config: TokenizerConfig) -> dict[str, Any]:
    """The settings that decide what the tokens are, by dotted name."""
    values = {f"data.{name}": value for name, value in dataclasses.asdict(config).items()}
    values |= {
        f"tokenizer.{name}": value for name, value in dataclasses.asdict(tokenizer_config).items()
    }
    # Where things are is not what they are.
    del values["data.folder"], values["data.downloads"], values["tokenizer.file"]
    if tokenizer_config.file is not None:
        values["tokenizer"] = Tokenizer.load(Path(tokenizer_config.file)).fingerprint
        del values["tokenizer.learn_bytes"]
    if isinstance(config.source, str):
        values["data.source"] = _absolute(config.source)
    else:
        values["data.source"] = [
            dataclasses.asdict(source) | {"path": _absolute(source.path)}
            for source in config.source
        ]
    if not any(is_stories(source.path) for source in config.sources):
        del values["data.stories_bytes"], values["data.stories_seed"]
    elif len(config.sources) == 1:
        del values["data.separator"], values["data.text_field"]
    return json.loads(json.dumps(values))


def _absolute(source: str) -> str:
    """A source under a name that means the same wherever the program runs."""
    if is_stories(source) or is_standard_input(source) or is_on_hub(source):
        return source
    return str(Path(source).resolve())
