"""Workers that stay and take one task after the other, each at a place of its own.

Unlike the engines of `workers.py`, which do a list of tasks and fail with any of them, a crew is
given tasks when somebody knows the next one, goes on when a worker dies, and has it replaced. What
tasks share, such as loaded libraries and compiled programs, is paid for once a worker.
"""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from modelwright.runtime.workers import how_it_ended, start_worker

# work(None, task, report), where `report` takes whatever the two agree on.
CrewWork = Callable[[None, Any, Callable[[Any], None]], Any]
OnReport = Callable[[Any, Any], None]


class WorkerDied(Exception):
    """A worker ended in the middle of its task."""


@dataclass(frozen=True)
class Ended:
    """A task that is over, with its result or with what it raised."""

    task: Any
    result: Any = None
    error: Exception | None = None


class Crew(Protocol):
    """Something that does tasks as they are given, for as long as it is entered."""

    def __enter__(self) -> "Crew": ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def n_free(self) -> int:
        """How many tasks can be given at once."""
        ...

    def give(self, task: Any) -> None:
        """Let a free worker do a task."""
        ...

    def wait(self, seconds: float, on_report: OnReport) -> list[Ended]:
        """The tasks that are over, at the latest after so long; often none."""
        ...

    def ask_to_stop(self, task: Any = None) -> None:
        """Ask a task to end soon, or all that are under way; they come to an end like any other."""
        ...


def visible_gpus() -> list[str] | None:
    """The GPUs that this process may use, by the names it was given; None if nobody restricted it.

    Reads CUDA_VISIBLE_DEVICES.
    """
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return None
    return [name.strip() for name in names.split(",") if name.strip()]


def gpu_place(name: str) -> dict[str, str]:
    """The environment of a worker that sees one GPU only."""
    return {"CUDA_VISIBLE_DEVICES": name}


def share_of_processor(n_workers: int) -> dict[str, str]:
    """The environment of each of several workers that share this machine's processor cores.

    One worker has all of them as they are; a number of threads that the user set stays.
    """
    if n_workers == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // n_workers))}


class LocalCrew:
    """Workers on this machine, one for each place; they end when this process does.

    On Ctrl-C they go on until they are asked to stop: a terminal's signal goes past them.
    """

    def __init__(
        self, work: CrewWork, places: Sequence[Mapping[str, str]], *, preload: str
    ) -> None:
        """Args:
        work: a function of a module; is called with None, a task, and where to report to.
        places: the environment that each worker has otherwise than this process.
        preload: a module that workers load at once, before their first task is there.
        """
        self._work = work
        self._preload = preload
        self._free: list[Mapping[str, str]] = list(places)
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}

    def __enter__(self) -> "LocalCrew":
        self._idle = [self._start(place) for place in self._free]
        self._free.clear()
        return self

    def __exit__(self, *_: object) -> None:
        workers = [*self._idle, *self._busy.values()]
        for worker in workers:
            if worker.connection in self._busy:
                worker.process.kill()
            worker.connection.close()
        for worker in workers:
            worker.process.wait()
        self._idle.clear()
        self._busy.clear()

    @property
    def n_free(self) -> int:
        return len(self._idle) + len(self._free)

    def give(self, task: Any) -> None:
        worker = self._idle.pop(0) if self._idle else self._start(self._free.pop(0))
        worker.task = task
        self._busy[worker.connection] = worker
        with suppress(BrokenPipeError, ConnectionResetError):  # then it is found dead when waiting
            worker.connection.send(task)

    def wait(self, seconds: float, on_report: OnReport) -> list[Ended]:
        ended: list[Ended] = []
        for connection in wait(list(self._busy), timeout=seconds):
            assert isinstance(connection, Connection)
            worker = self._busy[connection]
            try:
                kind, content = connection.recv()
            except (EOFError, ConnectionResetError):
                ended.append(Ended(worker.task, error=WorkerDied(self._bury(worker))))
                continue
            if kind == "report":
                on_report(worker.task, content)
                continue
            del self._busy[connection]
            self._idle.append(worker)
            ended.append(
                Ended(worker.task, error=content)
                if kind == "error"
                else Ended(worker.task, result=content)
            )
        return ended

    def ask_to_stop(self, task: Any = None) -> None:
        for worker in self._busy.values():
            if task is None or worker.task == task:
                worker.process.terminate()

    def _start(self, place: Mapping[str, str]) -> "_Worker":
        connection, process = start_worker(self._preload, place, own_session=True)
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send((self._work, None))
        return _Worker(connection, process, place)

    def _bury(self, worker: "_Worker") -> str:
        """Make room for another worker at the place of a dead one; how it died."""
        del self._busy[worker.connection]
        worker.connection.close()
        self._free.append(worker.place)
        return f"the worker process {how_it_ended(worker.process)}"


@dataclass(eq=False)
class _Worker:
    connection: Connection
    process: "subprocess.Popen[bytes]"
    place: Mapping[str, str]
    task: Any = None
