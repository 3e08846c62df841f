"""Writes one checkpoint many times, each time killed before another of its operations on the disk.

    python killed_writer.py FOLDER

leaves FOLDER/run-000, run-001, ...: in each the checkpoint of step 1 was whole before, that of
step 2 was being written in the background, and the process was killed one operation later than
for the run before. The last run was not killed.
"""

import itertools
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save

import saving
from modelwright.checkpoint import bundle
from modelwright.checkpoint.keeping import Keep
from modelwright.checkpoint.writer import Writer

keep = Keep(last=1, best=False)  # so that step 1 is removed at the end


def die_before_operation(number: int) -> None:
    """Kill this process before its operation of that number: opening, renaming, flushing, ..."""
    counter = itertools.count()

    def operation() -> None:
        if next(counter) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        changes = ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
        if event in changes or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            operation()

    def flush(_: int) -> None:  # without the wait for the disk, which SIGKILL does not ask for
        operation()

    whole_save = bundle.save_file

    def save_file(tensors: dict, path: Path) -> None:
        content = save(tensors)
        path.write_bytes(content[: len(content) // 2])
        operation()
        whole_save(tensors, path)
        operation()

    os.fsync = flush
    bundle.save_file = save_file
    sys.addaudithook(on_event)


def main(folder: Path) -> None:
    begun, snapshot = folder / "begun", saving.snapshot(2)
    saving.save(begun, 1)
    for number in itertools.count():
        run = folder / f"run-{number:03}"
        shutil.copytree(begun, run)
        child = os.fork()
        if child == 0:
            die_before_operation(number)
            with Writer(run, keep) as writer:
                writer.save(snapshot)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    shutil.rmtree(begun)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
