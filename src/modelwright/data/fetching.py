"""Files of the Hugging Face hub, fetched to the last byte and checked.

Files come over plain HTTP and are continued where they broke off, also by another process after a
kill, which `hf_hub_download` and Xet do not do: they begin again. What has come is compared with
the listing before it takes its name.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from modelwright.data.hub import (
    HubFile,
    explained,
    network_errors,
    require_harmless,
    require_package,
)
from modelwright.runtime.files import flush_folder, flush_to_disk, sha256_of
from modelwright.runtime.workers import Report, ignore

# With nothing received yet the connection is probably not there; once bytes flow, it comes back.
_waits_at_first_seconds = (0.5, 1.0, 2.0)
_waits_once_flowing_seconds = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_bytes_between_reports = 1 << 20
_longest_wait_seconds = 300.0  # the hub counts requests over five minutes
_transient_statuses = (408, 429, 500, 502, 503, 504)


def fetch(
    file: HubFile, folder: Path, report: Report = ignore, *, endpoint: str | None = None
) -> Path:
    """Bring one file into a folder, at its own path, and say where it is.

    A file that is there and right stays. What a killed process left is continued.

    Args:
        report: is told how many bytes have come since it was told last.
        endpoint: another hub than the one that HF_ENDPOINT names.

    Raises:
        ValueError: if what comes is not what was listed, twice; or as `list_files` does.
        ConnectionError: if the hub cannot be reached; what has come is kept for the next time.
    """
    require_harmless(file)
    target = folder / file.path
    _require_inside(target, folder)
    if target.is_file() and _mismatch(target, file) is None:
        return target
    require_package(file.repository)
    endpoint = endpoint and endpoint.rstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    content_id = file.sha256 or file.git_sha1 or file.revision
    partial = target.with_name(f".{target.name}.{content_id[:12]}.part")
    with _held_file(partial) as content:
        if target.is_file() and _mismatch(target, file) is None:  # another process was quicker
            partial.unlink()
            return target
        _require_room(file, content, folder)
        _download_twice_at_most(file, content, partial, report, endpoint)
        flush_to_disk(content.fileno())
        partial.replace(target)
    flush_folder(target.parent)
    return target


def _require_inside(target: Path, folder: Path) -> None:
    """Refuse to write where a symbolic link leads out of the folder."""
    real = target.resolve()
    if not real.is_relative_to(folder.resolve()):
        raise ValueError(
            f"{target} leads out of {folder} to {real} by a symbolic link; remove the link"
        )


def _require_room(file: HubFile, content: BinaryIO, folder: Path) -> None:
    missing = file.n_bytes - os.fstat(content.fileno()).st_size
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise ValueError(
            f"{file.path} of {file.repository} needs {missing} bytes more, and {folder} has "
            f"{free} free; make room, or choose another place"
        )


@contextmanager
def _held_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that no other process writes meanwhile; its content stays."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The one before us may have renamed or removed what we opened.
            if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
                yield file
                return


def _mismatch(path: Path, file: HubFile) -> str | None:
    """In what a file differs from the listing; None if it is right."""
    n_bytes = path.stat().st_size
    if n_bytes != file.n_bytes:
        return f"it has {n_bytes} bytes instead of {file.n_bytes}"
    if file.sha256 is not None:
        found = sha256_of(path)
        if found != file.sha256.lower():
            return f"its sha256 is {found} instead of {file.sha256}"
    elif file.git_sha1 is not None:
        found = hashlib.sha1(b"blob %d\0" % n_bytes + path.read_bytes()).hexdigest()
        if found != file.git_sha1:
            return f"its git sha1 is {found} instead of {file.git_sha1}"
    return None


def _download_twice_at_most(
    file: HubFile, content: BinaryIO, partial: Path, report: Report, endpoint: str | None
) -> None:
    """Fill a file; if that does not give what was listed, empty it and do so once more."""
    problem = None
    for _ in range(2):
        _download(file, content, report, endpoint)
        content.flush()
        problem = _mismatch(partial, file)
        if problem is None:
            return
        content.truncate(0)
    partial.unlink()
    raise ValueError(
        f"{file.path} of {file.repository} came twice and was not what the hub had listed: "
        f"{problem}; nothing of it is kept. A proxy or mirror on the way may be at fault "
        "(HF_ENDPOINT): try without it, or later"
    )


def _download(file: HubFile, content: BinaryIO, report: Report, endpoint: str | None) -> None:
    """Append what is missing, through as many interruptions as bring something new.

    It ends early where the hub's file does.
    """
    n_failures = 0
    most = begun_with = content.seek(0, os.SEEK_END)
    while True:
        try:
            _append(file, content, report, endpoint)
            return
        except network_errors() as error:
            failure = error
        n_bytes = content.seek(0, os.SEEK_END)
        if n_bytes > most:
            most, n_failures = n_bytes, 0
        waits = _waits_once_flowing_seconds if most > begun_with else _waits_at_first_seconds
        if n_failures == len(waits) or not _may_pass(failure):
            raise explained(failure, file.repository, file.revision, endpoint) from None
        time.sleep(max(waits[n_failures], _wait_asked_for_seconds(failure)))
        n_failures += 1


def _may_pass(error: Exception) -> bool:
    """Whether asking once more may help."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in _transient_statuses
    return not isinstance(error, errors.OfflineModeIsEnabled)


def _wait_asked_for_seconds(error: Exception) -> float:
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(asked), _longest_wait_seconds) if asked.isdecimal() else 0.0


def _append(file: HubFile, content: BinaryIO, report: Report, endpoint: str | None) -> None:
    """Ask once for what is missing and write what comes."""
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    n_present = content.seek(0, os.SEEK_END)
    if n_present >= file.n_bytes:
        return
    url = hf_hub_url(
        file.repository,
        file.path,
        repo_type="dataset",
        revision=file.revision,
        endpoint=endpoint,
    )
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if n_present:
        headers["Range"] = f"bytes={n_present}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream(
        "GET", url, headers=headers, timeout=timeout, follow_redirects=True
    ) as response:
        if n_present and response.status_code == 416:
            return  # the hub's file ends here
        hf_raise_for_status(response)
        continues = response.headers.get("Content-Range", "").startswith(f"bytes {n_present}-")
        if n_present and not (response.status_code == 206 and continues):
            content.truncate(0)  # the whole file comes instead
            content.seek(0)
        n_told = content.tell()
        for piece in response.iter_bytes():
            content.write(piece)
            if content.tell() - n_told >= _bytes_between_reports:
                report(content.tell() - n_told)
                n_told = content.tell()
            if content.tell() > file.n_bytes:
                return  # more than was listed: never mind how much more
    if content.tell() < file.n_bytes:
        raise ConnectionError("the connection ended before the file did")
