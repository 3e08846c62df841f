"""A process that holds a folder, started by a test from a module that any process can import."""

from pathlib import Path
from typing import Any

from modelwright.runtime.files import lock_folder


def hold(folder: Path, ready: Any, done: Any) -> None:
    """Hold it, say so, and go on until told or killed."""
    with lock_folder(folder):
        ready.set()
        done.wait(20)
