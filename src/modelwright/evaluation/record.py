"""What is scored already, on disk, so that work that was broken off goes on.

A file of JSON lines: what was asked of which model on which data, then results as they come. Its
name follows from the first line, so that the same command finds it and another one does not.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from modelwright.runtime.files import lock_folder

version = 1


class ScoreRecord:
    """Results by number, kept from one start of the program to the next."""

    def __init__(self, folder: Path, question: Mapping[str, Any]) -> None:
        """Open the record of a question, or begin it.

        Args:
            question: all that the results depend on.

        Raises:
            ValueError: if another process is working on the same.
        """
        first = json.dumps({"version": version, **question}, sort_keys=True)
        self.folder = folder / hashlib.sha256(first.encode()).hexdigest()[:32]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.folder)
        self._lock.__enter__()
        path = self.folder / "results.jsonl"
        self.known, n_good_bytes = _read(path, first)
        self._file = path.open("r+b" if n_good_bytes else "wb")
        self._file.truncate(n_good_bytes)
        self._file.seek(n_good_bytes)
        if not n_good_bytes:
            self._file.write(first.encode() + b"\n")

    def add(self, results: Mapping[int, Any]) -> None:
        """Keep results, as JSON has them, where they survive the process."""
        lines = [json.dumps([number, value]) + "\n" for number, value in results.items()]
        self._file.write("".join(lines).encode())
        self._file.flush()
        self.known.update(results)

    def forget(self) -> None:
        """Remove it, when the results are where they belong."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "ScoreRecord":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._lock.__exit__(None, None, None)


def _read(path: Path, first: str) -> tuple[dict[int, Any], int]:
    """The results in a file, and how many of its bytes are whole lines; 0 if it has to be new."""
    known: dict[int, Any] = {}
    content = path.read_bytes() if path.is_file() else b""
    lines = content.splitlines(keepends=True)
    if not lines or lines[0] != first.encode() + b"\n":
        return known, 0
    n_good_bytes = len(lines[0])
    for line in lines[1:]:
        try:
            number, value = json.loads(line)
        except (ValueError, TypeError):
            break  # the process died while it wrote this
        if not line.endswith(b"\n"):
            break
        known[number] = value
        n_good_bytes += len(line)
    return known, n_good_bytes
