"""Datasets of the Hugging Face hub: three by name, any other by its repository, file by file.

A listing pins the commit, so work that goes on another day fetches the same bytes (`fetching`).
Needs the package `huggingface_hub`, which comes with the extra `hub`.
"""

import difflib
import fnmatch
import re
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

_listing_timeout_seconds = 8.0

# What can be read, best first; a repository often holds the same documents in several of them.
_kinds = (
    (".parquet",),
    (".jsonl", ".jsonl.gz", ".jsonl.zst"),
    (".txt", ".txt.gz", ".txt.zst"),
)
_readable = tuple(ending for kind in _kinds for ending in kind)


@dataclass(frozen=True)
class HubDataset:
    """Which files of a repository are meant, and what is known of them before they are fetched.

    Attributes:
        name: what follows "hub:" in a recipe.
        repository: "owner/name".
        files: globs over the paths in the repository, in which * also matches slashes, or a folder;
            empty, and the files are chosen as `choose_files` says.
        text_field: the column that holds the text; None, and the recipe says.
        split: the part of the dataset that the files are; None where only the listing tells.
        n_documents, text_bytes, download_bytes: about; None where only the listing tells.
        revision: a branch, tag or commit; None is the main branch.
    """

    name: str
    repository: str
    files: tuple[str, ...] = ()
    text_field: str | None = None
    split: str | None = None
    n_documents: int | None = None
    text_bytes: int | None = None
    download_bytes: int | None = None
    licence: str | None = None
    description: str = ""
    revision: str | None = None


@dataclass(frozen=True)
class HubFile:
    """One file at one commit; plain values, so that it can be written down as JSON.

    Attributes:
        revision: the commit that the listing was of.
        sha256: of the content; only large files have it.
        git_sha1: git's name for the content; only small files have it.
    """

    repository: str
    revision: str
    path: str
    n_bytes: int
    sha256: str | None
    git_sha1: str | None = None


# Sizes as of 2026: bytes of the files as the hub lists them, rows and text as their cards say.
DATASETS = {
    dataset.name: dataset
    for dataset in (
        HubDataset(
            name="tinystories",
            repository="roneneldan/TinyStories",
            files=("data/train-*.parquet",),
            text_field="text",
            split="train",
            n_documents=2_120_000,
            text_bytes=1_900_000_000,
            download_bytes=991_000_000,
            licence="CDLA-Sharing-1.0",
            description="short stories in a small child's words, told by GPT-3.5 and GPT-4",
        ),
        HubDataset(
            name="fineweb-edu",
            repository="HuggingFaceFW/fineweb-edu",
            files=("sample/10BT/*.parquet",),
            text_field="text",
            split="train",
            n_documents=9_670_000,
            text_bytes=46_000_000_000,
            download_bytes=28_500_000_000,
            licence="ODC-By 1.0",
            description="educational web pages: the sample of ten billion GPT-2 tokens",
        ),
        HubDataset(
            name="openwebtext",
            repository="Skylion007/openwebtext",
            files=("plain_text/*.parquet",),
            text_field="text",
            split="train",
            n_documents=8_010_000,
            text_bytes=39_700_000_000,
            download_bytes=24_200_000_000,
            licence="CC0-1.0 for the packaging; the texts are their authors'",
            description="web pages linked from Reddit, gathered anew after GPT-2's WebText",
        ),
    )
}


def hub_source(name: str) -> HubDataset:
    """The dataset that a recipe names after "hub:".

    Args:
        name: one of `DATASETS`, "owner/name" or "owner/name/FOLDER-OR-GLOB"; "@" and a branch, tag
            or commit may follow.

    Raises:
        ValueError: if it is none of these; the message has the nearest name and the list.
    """
    place, at, revision = name.partition("@")
    if at and not revision:
        raise ValueError(f"hub:{name} ends in @; name a branch, tag or commit after it")
    if place in DATASETS:
        return replace(DATASETS[place], name=name, revision=revision or None)
    owner, _, rest = place.partition("/")
    short, _, files = rest.partition("/")
    repository = f"{owner}/{short}"
    if not _is_repository(repository):
        near = difflib.get_close_matches(place, DATASETS, n=1, cutoff=0.5)
        hint = f"did you mean hub:{near[0]}? " if near else ""
        raise ValueError(
            f"hub:{name} is no dataset that is known here; {hint}Choose one of "
            f"{', '.join(f'hub:{known}' for known in DATASETS)}, or any dataset of the hub as "
            "hub:owner/name"
        )
    return HubDataset(
        name=name,
        repository=repository,
        files=(files,) if files else (),
        revision=revision or None,
    )


def _is_repository(name: str) -> bool:
    word = r"[A-Za-z0-9][A-Za-z0-9._-]*"
    return re.fullmatch(f"{word}/{word}", name) is not None and not re.search(r"\.\.|--", name)


def list_files(
    dataset: HubDataset, *, revision: str | None = None, endpoint: str | None = None
) -> list[HubFile]:
    """Ask the hub for a dataset's files, as they are now; sorted by path.

    Warns if some that could be read are left out.

    Args:
        revision: a branch, tag or commit, instead of the dataset's own.
        endpoint: another hub than the one that HF_ENDPOINT names.

    Raises:
        ValueError: if the package is missing, or the hub has no such dataset, revision or files, or
            keeps them from you; or if a file's name would lead out of the folder it is put in.
        ConnectionError: if the hub cannot be reached.
    """
    require_package(dataset.repository)
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    revision = revision or dataset.revision
    endpoint = endpoint and endpoint.rstrip("/")
    api = HfApi(endpoint=endpoint)
    try:
        commit = api.repo_info(
            dataset.repository,
            repo_type="dataset",
            revision=revision,
            timeout=_listing_timeout_seconds,
        ).sha
        tree = api.list_repo_tree(
            dataset.repository, repo_type="dataset", recursive=True, revision=commit
        )
        found = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    except network_errors() as error:
        raise explained(error, dataset.repository, revision, endpoint) from None
    except (ValueError, KeyError, TypeError) as error:  # an answer that is no listing
        raise ValueError(
            f"the answer about {dataset.repository} is not a hub's ({error!r:.200}); check "
            "HF_ENDPOINT, and whether the network asks you to log in somewhere"
        ) from None
    if commit is None:
        raise ValueError(f"the hub does not say which commit of {dataset.repository} it listed")
    chosen, left_out = choose_files(dataset, list(found))
    if left_out:
        warnings.warn(left_out, stacklevel=2)
    files: list[HubFile] = []
    for path in chosen:
        entry = found[path]
        sha256, git_sha1 = (entry.lfs.sha256, None) if entry.lfs else (None, entry.blob_id)
        file = HubFile(dataset.repository, commit, path, entry.size, sha256, git_sha1)
        require_harmless(file)
        files.append(file)
    return files


def choose_files(dataset: HubDataset, paths: list[str]) -> tuple[list[str], str]:
    """Which of a repository's files are the dataset's, and a sentence on what is left out.

    Globs are taken at their word. Without any, or in a folder: the Parquet files, or else the JSON
    lines, or else the texts, of which only the train split if the paths have that word.

    Raises:
        ValueError: if that leaves none; the message says what is there.
    """
    exact = [path for path in paths if any(fnmatch.fnmatchcase(path, p) for p in dataset.files)]
    if exact:
        return sorted(exact), ""
    folders = tuple(f"{folder.rstrip('/')}/" for folder in dataset.files)
    inside = [path for path in paths if path.startswith(folders)] if folders else paths
    readable = sorted(path for path in inside if path.endswith(_readable))
    if not readable:
        wanted = " or ".join(dataset.files) or "files that can be read (.parquet, .jsonl, .txt)"
        endings = Counter(_ending(path) for path in paths)
        there = ", ".join(f"{ending} ({n})" for ending, n in endings.most_common(8)) or "nothing"
        raise ValueError(
            f"{dataset.repository} has no {wanted}; what is there: {there}. Choose with a glob, as "
            f"in 'hub:{dataset.repository}/data/*.jsonl'"
        )
    best = next(kind for kind in _kinds if any(path.endswith(kind) for path in readable))
    chosen = [path for path in readable if path.endswith(best)]
    train = [path for path in chosen if "train" in re.split(r"[^a-z0-9]+", path.lower())]
    chosen = train or chosen
    others = [path for path in readable if path not in set(chosen)]
    if not others:
        return chosen, ""
    which = f"{best[0]} files" + (" of the train split" if train else "")
    return chosen, (
        f"{dataset.repository}: taking {len(chosen)} of {len(readable)} files that can be read, "
        f"the {which}; left out is {others[0]}{', with others' if others[1:] else ''}. To choose "
        f"for yourself add a glob, as in 'hub:{dataset.repository}/{others[0]}'"
    )


def _ending(path: str) -> str:
    name = PurePosixPath(path)
    return "".join(name.suffixes[-2:]) if name.suffix in (".gz", ".zst") else name.suffix or path


def require_harmless(file: HubFile) -> None:
    """Refuse a file whose name, put after a folder's, could lead elsewhere."""
    segments = file.path.split("/")
    is_odd = any(character in file.path for character in "\\\0\n\r") or file.path.startswith("~")
    if is_odd or not {"", ".", ".."}.isdisjoint(segments):
        raise ValueError(
            f"{file.repository} holds a file named {file.path!r}, which is not a plain path below "
            "a folder; nothing of it is fetched. Choose other files with a glob"
        )


def require_package(repository: str) -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise ValueError(
            f"fetching {repository} from the hub needs the package huggingface_hub, which comes "
            "with pip install 'modelwright[hub]'; without it, fetch the files by other means and "
            "give their path"
        ) from None


def network_errors() -> tuple[type[Exception], ...]:
    """What the package raises when the hub or the way to it fails."""
    from huggingface_hub import errors

    # Its HTTP library has changed more than once; this is that library's base of all errors.
    http_error: type[Exception] = errors.HTTPError  # pyright: ignore[reportPrivateImportUsage]
    return (http_error, ConnectionError, TimeoutError)


def explained(
    error: Exception, repository: str, revision: str | None, endpoint: str | None
) -> ValueError | ConnectionError:
    """One sentence on what went wrong and what to do about it."""
    from huggingface_hub import constants, errors

    endpoint = endpoint or constants.ENDPOINT
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ValueError(
            f"{repository} is on the hub, and HF_HUB_OFFLINE forbids to go there; unset it, or "
            "fetch the files by other means and give their path"
        )
    if isinstance(error, errors.GatedRepoError):
        return ValueError(
            f"{repository} is gated: accept its terms at {endpoint}/datasets/{repository}, then "
            "run `hf auth login`, or set HF_TOKEN"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ValueError(
            f"the hub has no dataset {repository} that you may read; check owner and name, and for "
            "a private one run `hf auth login`, or set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(
            f"{repository} has no branch, tag or commit {revision}; choose another after the @, or "
            "leave it out for the main branch"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return ValueError(
            f"a file of {repository} that was listed is not there at {revision}; begin anew"
        )
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return ValueError(
                f"the hub refuses {repository} (HTTP {status}); run `hf auth login` with a token "
                "that may read it"
            )
        if status == 404:
            return ValueError(
                f"{endpoint} knows nothing of the dataset {repository} (HTTP 404); check owner, "
                "name and HF_ENDPOINT"
            )
        return ConnectionError(
            f"the hub at {endpoint} answers HTTP {status} about {repository}; try again later, and "
            "the work goes on where it stopped"
        )
    return ConnectionError(
        f"the hub at {endpoint} cannot be reached for {repository} ({error or type(error)}); check "
        "the connection and HF_ENDPOINT and give the same command again, or fetch the files by "
        "other means and give their path"
    )
