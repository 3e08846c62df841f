"""Trains a run whose process is killed again and again.

    python mortal_run.py CONFIG RUN inside STEP STEP ...     killed when each step is done
    python mortal_run.py CONFIG RUN outside SECONDS ...      killed so long after each start

Every life is a process of its own that goes on with the run; the last one is not killed. Prints
how many were.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from modelwright.config.loading import load_settings
from modelwright.runtime.progress import Listener, Progress, nobody
from modelwright.training.config import RunConfig
from modelwright.training.runs import resume, train


def live(config: Path, run: Path, listener: Listener) -> None:
    if (run / "config.toml").exists():
        resume(run, on_progress=listener)
    else:
        train(load_settings(RunConfig, config).config, run, on_progress=listener)


def dying_after(step: int) -> Listener:
    def listen(progress: Progress) -> None:
        if progress.phase == "training" and progress.done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return listen


def in_a_process(work: Callable[[], None], *, killed_after: float | None = None) -> bool:
    """Do it in a child, and say whether that was killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001  (a child must never come back)
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if killed_after is not None:
        time.sleep(killed_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        return False
    assert os.WTERMSIG(status) == signal.SIGKILL
    return True


def main(config: Path, run: Path, mode: str, *moments: str) -> None:
    torch.set_num_threads(1)  # also so that no thread is there to be lost in a fork
    n_killed = 0
    for moment in moments:
        if mode == "inside":
            n_killed += in_a_process(lambda: live(config, run, dying_after(int(moment))))  # noqa: B023
        else:
            n_killed += in_a_process(lambda: live(config, run, nobody), killed_after=float(moment))
    assert not in_a_process(lambda: live(config, run, nobody))
    sys.stdout.write(f"{n_killed}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
