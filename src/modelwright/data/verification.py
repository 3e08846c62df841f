"""Reading a folder of shards to the last byte, to see that it is as it was written and makes sense.

The bytes are compared with the manifest, and what they mean with the tokenizer: ids, documents,
counts. Hashing and counting let go of Python's lock, so threads share the shards.
"""

import hashlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelwright.data.inspection import (
    check_shard,
    read_data_manifest,
    require_tokenizer_of,
    side_of,
)
from modelwright.data.shards import open_shard
from modelwright.runtime.manifest import file_name as manifest_name
from modelwright.runtime.manifest import require_file
from modelwright.runtime.progress import Listener, Progress, nobody
from modelwright.tokenizer.tokenizer import Tokenizer

chunk_bytes = 4 << 20  # how much of a file is hashed at once
seconds_between_reports = 0.1


@dataclass(frozen=True)
class VerifiedFile:
    """A file that is as it was written."""

    name: str
    n_bytes: int
    n_tokens: int | None = None
    """None for a file that is no shard."""
    n_documents: int | None = None


@dataclass(frozen=True)
class Verified:
    """What was found right, and how long that took."""

    files: tuple[VerifiedFile, ...]
    seconds: float


def verify_data(
    folder: Path, on_progress: Listener = nobody, *, n_threads: int | None = None
) -> Verified:
    """Read a folder of shards to the last byte and compare it with its manifest and its tokenizer.

    Args:
        n_threads: how many share the work; None takes one for each processor.

    Raises:
        FileNotFoundError: if the folder was never finished.
        ValueError: naming the file that is at fault and, inside a shard, the token.
    """
    started = time.monotonic()
    manifest = read_data_manifest(folder)
    names = list(manifest["files"])
    for name in names:
        require_file(folder, name)
    _require_all_listed(folder, names)
    reading = _Reading(sum((folder / name).stat().st_size for name in names), on_progress, started)
    tokenizer_file = manifest["files"].get("tokenizer.json")
    if tokenizer_file is None:
        raise ValueError(f"{folder / manifest_name} does not list tokenizer.json; make it anew")
    _check_bytes(folder / "tokenizer.json", tokenizer_file)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    _check_facts_of_tokenizer(folder, manifest["facts"], tokenizer)

    def verify(name: str) -> VerifiedFile:
        path = folder / name
        _check_bytes(path, manifest["files"][name], reading)
        if path.suffix != ".shard" or reading.stopped.is_set():
            return VerifiedFile(name, path.stat().st_size)
        shard = open_shard(path)
        require_tokenizer_of(shard, tokenizer, folder)
        check_shard(shard, tokenizer.n_vocab, tokenizer.end_of_text)
        n_documents = len(shard.document_starts) - 1
        return VerifiedFile(name, path.stat().st_size, len(shard.tokens), n_documents)

    n_threads = n_threads or len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(n_threads) as pool:
        futures = [pool.submit(verify, name) for name in names]
        try:
            files = reading.results_of(futures)
        finally:
            reading.stopped.set()
            pool.shutdown(cancel_futures=True)
    _check_counts(folder, manifest["facts"], files)
    return Verified(tuple(files), time.monotonic() - started)


class _Reading:
    """How much has been read by all threads together; the thread that waits tells the listener."""

    def __init__(self, n_bytes: int, on_progress: Listener, started: float) -> None:
        self.n_bytes, self.on_progress, self.started = n_bytes, on_progress, started
        self.n_read = 0
        self.lock = threading.Lock()
        self.stopped = threading.Event()

    def add(self, n_bytes: int) -> None:
        with self.lock:
            self.n_read += n_bytes

    def results_of(self, futures: Sequence[Future[VerifiedFile]]) -> list[VerifiedFile]:
        """Wait for all, or for a fault; of several, the one of the first file is raised."""
        waiting: set[Future[VerifiedFile]] = set(futures)
        while waiting:
            finished, waiting = wait(waiting, seconds_between_reports, FIRST_EXCEPTION)
            self._tell()
            if any(future.exception() for future in finished):
                for future in waiting:  # those that have begun, as all before it have, go on
                    future.cancel()
                break
        return [future.result() for future in futures]

    def _tell(self) -> None:
        seconds = max(time.monotonic() - self.started, 1e-9)
        self.on_progress(
            Progress(
                phase="verifying",
                done=self.n_read,
                total=self.n_bytes,
                unit="bytes",
                rate=self.n_read / seconds,
            )
        )


def _require_all_listed(folder: Path, names: Sequence[str]) -> None:
    for path in sorted(folder.glob("*.shard")):
        if path.name not in names:
            raise ValueError(
                f"{path} is not in {manifest_name}, so nobody knows where it comes from; remove it"
            )


def _check_bytes(path: Path, expected: Mapping[str, Any], reading: _Reading | None = None) -> None:
    """Compare a file's size and sha256 with its manifest."""
    n_bytes = path.stat().st_size
    if n_bytes != expected["n_bytes"]:
        raise ValueError(
            f"{path} has {n_bytes:,} bytes where {manifest_name} says {expected['n_bytes']:,}; it "
            "was cut short or altered, so make it anew"
        )
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(chunk_bytes))
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(buffer):
            digest.update(buffer[:n])
            if reading is not None:
                reading.add(n)
                if reading.stopped.is_set():
                    return  # another file is at fault; nobody waits for this one
    if digest.hexdigest() != expected["sha256"]:
        raise ValueError(
            f"{path} does not match its sha256 in {manifest_name}; it was altered or the disk "
            "failed, so make it anew"
        )


def _check_facts_of_tokenizer(folder: Path, facts: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    for name, found in (("fingerprint", tokenizer.fingerprint), ("n_vocab", tokenizer.n_vocab)):
        if name in facts and facts[name] != found:
            raise ValueError(
                f"{folder / 'tokenizer.json'} has {name} {found}, but {manifest_name} says "
                f"{facts[name]}"
            )


def _check_counts(folder: Path, facts: Mapping[str, Any], files: Sequence[VerifiedFile]) -> None:
    for side, counts in facts.get("splits", {}).items():
        found = [file for file in files if side_of(file.name) == side]
        for name, n in (
            ("n_shards", len(found)),
            ("n_documents", sum(file.n_documents or 0 for file in found)),
            ("n_tokens", sum(file.n_tokens or 0 for file in found)),
        ):
            if name in counts and counts[name] != n:
                raise ValueError(
                    f"{folder / manifest_name} says {counts[name]:,} for {name} of {side}, but its "
                    f"shards have {n:,}"
                )
