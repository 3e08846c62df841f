"""Models of the Hugging Face hub, fetched into the cache that its own programs use.

Needs the `huggingface_hub` package, which comes with the extra `hub`. What is in the cache already
is taken from there when the hub cannot be reached, or is not to be (`HF_HUB_OFFLINE`).
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

# Only what is read: a repository may also hold pickles and other formats of the same weights.
small_files = ("config.json", "tokenizer.json", "vocab.json", "merges.txt")
weights_file = "model.safetensors"
index_file = f"{weights_file}.index.json"


def is_hub_id(source: str) -> bool:
    """Whether a name looks like OWNER/NAME or OWNER/NAME@REVISION."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+(@[^@\s]+)?", source) is not None


def fetch_model(source: str) -> Path:
    """The folder in the cache that holds a repository's model.

    Args:
        source: OWNER/NAME, or with @ and a branch, tag or commit.

    Raises:
        ValueError: if the package is missing, the hub cannot be reached and the cache has nothing,
            or the repository is not there or is refused.
    """
    repository, _, revision = source.partition("@")
    fetch = _fetch_from(repository, revision or None)
    config = fetch(small_files[0])
    if config is None:
        raise ValueError(
            f"the hub's repository {repository} holds no config.json, so it is no model for "
            "transformers; one that is: openai-community/gpt2"
        )
    for name in small_files[1:]:
        fetch(name)
    if fetch(weights_file) is None:
        index = fetch(index_file)
        if index is None:
            raise ValueError(
                f"the hub's repository {repository} holds no {weights_file}, and pickles are never "
                "read here; take a revision that has one, such as that of the hub's own converter, "
                f"{repository}@refs/pr/NUMBER"
            )
        for name in shards_named(index):
            fetch(name)
    return config.parent


def shards_named(index: Path) -> list[str]:
    """The files that an index of weights lists, in the order of their names.

    Raises:
        ValueError: if it is no index, or names a file elsewhere.
    """
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{index} is no index of weights: it has no usable weight_map") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{index} names {name!r}, which is no file beside it")
        if not name.endswith(".safetensors"):
            raise ValueError(f"{index} names {name}; only safetensors files are ever read")
    return names


def _fetch_from(repository: str, revision: str | None) -> Callable[[str], Path | None]:
    """Return what takes the name of a file and says where it is now, or None if there is none."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise ValueError(
            f"reading {repository} from the hub needs the package huggingface_hub, which comes "
            "with pip install 'modelwright[hub]'; without it, fetch the repository's files by "
            "other means and give the folder"
        ) from None

    def fetch(name: str) -> Path | None:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
        except errors.LocalEntryNotFoundError as error:
            if name != small_files[0]:
                return None  # the cache has the model's config, and not all models have all files
            raise ValueError(
                f"{name} of {repository} is not in the cache, and the hub cannot be reached "
                f"({error}); fetch the repository's files by other means and give the folder"
            ) from None
        except errors.EntryNotFoundError:
            return None
        except (errors.HfHubHTTPError, errors.HFValidationError) as error:
            raise ValueError(f"the hub gives no {name} of {repository}: {error}") from None

    return fetch
