"""What a worker runs: `python -m modelwright.runtime.worker PIPE PID MODULE`."""

import importlib
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection

from modelwright.runtime.workers import Left, serve


def main() -> None:
    """Serve the process PID that started this one, through the pipe whose number it gave."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the one who asked decides
    signal.signal(signal.SIGTERM, leave)
    pipe, starter, preload = sys.argv[1:]
    with suppress(Left):
        threading.Thread(target=end_with, args=[int(starter)], daemon=True).start()
        if preload:
            importlib.import_module(preload)
        serve(Connection(int(pipe)))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is leaving already


def leave(*_: object) -> None:
    """End by an exception."""
    raise Left


def end_with(starter: int) -> None:
    """End this process, in the middle of a task too, when the one that started it is gone."""
    while os.getppid() == starter:
        time.sleep(0.5)
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    signal.pthread_kill(main_thread, signal.SIGTERM)


if __name__ == "__main__":
    main()
