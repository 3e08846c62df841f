"""Tokenizers of the Hugging Face hub, fetched into the cache that its own programs use.

Needs the `huggingface_hub` package, which comes with the extra `hub`.
"""

from collections.abc import Callable
from pathlib import Path

from modelwright.tokenizer.formats import parse_tokenizer_json, read_vocab_and_merges
from modelwright.tokenizer.splitting import SPLIT_PATTERN
from modelwright.tokenizer.vocabulary import Vocabulary

GPT2_REPOSITORY = "openai-community/gpt2"


def load_from_hub(
    repo_id: str = GPT2_REPOSITORY,
    *,
    revision: str | None = None,
    pattern: str = SPLIT_PATTERN,
    drop_template: bool = False,
) -> Vocabulary:
    """Read a repository's tokenizer.json, or else its vocab.json and merges.txt.

    Args:
        revision: a branch, tag or commit; None is the main branch.
        pattern: how text is cut, for vocab.json and merges.txt, which do not say.
        drop_template: as in `parse_tokenizer_json`.

    Raises:
        ValueError: if the package is missing, the hub cannot be reached, the repository is not
            there or holds no such files, or they cannot be followed.
    """
    fetch = _fetch_from(repo_id, revision)
    tokenizer_path = fetch("tokenizer.json")
    if tokenizer_path is not None:
        try:
            return parse_tokenizer_json(tokenizer_path.read_bytes(), drop_template=drop_template)
        except ValueError as error:
            raise ValueError(f"tokenizer.json of {repo_id}: {error}") from None
    vocab_path, merges_path = fetch("vocab.json"), fetch("merges.txt")
    if vocab_path is None or merges_path is None:
        raise ValueError(
            f"the hub's repository {repo_id} holds neither a tokenizer.json nor a vocab.json with "
            f"a merges.txt; one that does is {GPT2_REPOSITORY}"
        )
    return read_vocab_and_merges(vocab_path, merges_path, pattern=pattern)


def _fetch_from(repo_id: str, revision: str | None) -> Callable[[str], Path | None]:
    """Return what takes the name of a file and says where it is now, or None if there is none."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise ValueError(
            f"reading {repo_id} from the hub needs the package huggingface_hub, which comes with "
            "pip install 'modelwright[hub]'; without it, fetch the repository's tokenizer.json by "
            "other means and give its path"
        ) from None

    def fetch(name: str) -> Path | None:
        try:
            return Path(huggingface_hub.hf_hub_download(repo_id, name, revision=revision))
        except errors.LocalEntryNotFoundError as error:
            raise ValueError(
                f"{name} of {repo_id} is not in the cache, and the hub cannot be reached "
                f"({error}); fetch the file by other means and give its path"
            ) from None
        except errors.EntryNotFoundError:
            return None
        except (errors.HfHubHTTPError, errors.HFValidationError) as error:
            raise ValueError(f"the hub gives no {name} of {repo_id}: {error}") from None

    return fetch
