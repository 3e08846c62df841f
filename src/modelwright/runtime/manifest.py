"""A list of a folder's files with size and sha256, written last and checked when read.

A folder whose manifest is there was finished; a folder whose files agree with it is as it was
written. Every byte that the project trusts later (shards, weights, optimizer state) is behind one.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from modelwright.runtime.files import sha256_of, write_atomically

file_name = "manifest.json"


def write_manifest(folder: Path, kind: str, facts: Mapping[str, Any]) -> None:
    """Hash every file in a folder and write its manifest.

    Args:
        kind: what the folder holds, with a version, such as "modelwright-data-1".
        facts: whatever else a reader should know before opening the files.
    """
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != file_name]
    files = {
        path.relative_to(folder).as_posix(): {"n_bytes": path.stat().st_size, "sha256": sha256}
        for path, sha256 in zip(paths, hashes_of(paths), strict=True)
    }
    content = {"kind": kind, "facts": dict(facts), "files": files}
    write_atomically(folder / file_name, json.dumps(content, indent=2) + "\n")


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Read a folder's manifest without looking at the files.

    Returns:
        The manifest, with "kind", "facts" and "files".

    Raises:
        FileNotFoundError: if there is none, so the folder was never finished.
        ValueError: if it cannot be read or is of another kind.
    """
    path = folder / file_name
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {file_name}, so it is not a finished {kind}")
    try:
        content = json.loads(path.read_text())
        found_kind, facts, files = content["kind"], content["facts"], content["files"]
        if not (isinstance(facts, dict) and isinstance(files, dict)):
            raise TypeError
        for entry in files.values():
            if not (isinstance(entry["n_bytes"], int) and isinstance(entry["sha256"], str)):
                raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is damaged: it is not the manifest of a {kind}") from None
    if found_kind != kind:
        raise ValueError(f"{path} describes a {found_kind}, but a {kind} is needed here")
    return content


def verify_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Compare every file with its manifest.

    Raises:
        ValueError: naming the first file that is missing, cut short or altered.
    """
    paths: list[Path] = []
    for name, expected in manifest["files"].items():
        path = require_file(folder, name)
        n_bytes = path.stat().st_size
        if n_bytes != expected["n_bytes"]:
            raise ValueError(
                f"{path} has {n_bytes:,} bytes where {file_name} says {expected['n_bytes']:,}; "
                "it was cut short or altered, so make it anew"
            )
        paths.append(path)
    for path, expected, sha256 in zip(
        paths, manifest["files"].values(), hashes_of(paths), strict=True
    ):
        if sha256 != expected["sha256"]:
            raise ValueError(
                f"{path} does not match its sha256 in {file_name}; it was altered or the disk "
                "failed, so make it anew"
            )


def require_file(folder: Path, name: str) -> Path:
    """The path of a file that a manifest lists.

    Raises:
        ValueError: if it is missing, or outside the folder.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{folder / file_name} names {name!r}, which is outside its folder")
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{path} is missing, though {file_name} lists it")
    return path


def hashes_of(paths: Sequence[Path]) -> Iterator[str]:
    """The sha256 of each file, in order; several are read at once, one for each processor."""
    if len(paths) < 2:
        yield from map(sha256_of, paths)
        return
    with ThreadPoolExecutor(min(len(paths), len(os.sched_getaffinity(0)))) as pool:
        yield from pool.map(sha256_of, paths)
