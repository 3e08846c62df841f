"""The command line called in the process of the tests, which have Python and PyTorch loaded already.

`run` goes through `main`, as `python -m modelwright` does, so that messages, exit codes and what is
on either stream are those that a person meets. What a process of its own shows (signals, what is
loaded, the pipes of a shell, `python -m` itself) is tested with real ones.
"""

import gc
import io
import os
import signal
import sys
import warnings
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from modelwright.cli.app import main


class Done:
    """How a command ended, with the names of `subprocess.CompletedProcess`."""

    def __init__(self, returncode: int, stdout: str, stderr: str) -> None:
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


def run(
    *arguments: object,
    cwd: Path | None = None,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> Done:
    """Carry out `modelwright ARGUMENTS`.

    Args:
        given: what comes in on standard input.
        environment: changes to that of the tests.
    """
    said, complained = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with (
        chdir(cwd or Path.cwd()),
        redirect_stdout(said),
        redirect_stderr(complained),
        patch.object(sys, "argv", ["modelwright", *map(str, arguments)]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8")),
        patch.object(warnings, "formatwarning", warnings.formatwarning),
        patch.dict(os.environ, environment or {}),
        warnings.catch_warnings(),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
        finally:
            gc.enable()  # some commands do without, since their process is going to end
            for number, handler in handlers.items():
                signal.signal(number, handler)
    for stream in (said, complained):
        stream.flush()
    texts = [stream.buffer.getvalue().decode() for stream in (said, complained)]  # pyright: ignore
    return Done(int(code or 0), *texts)
