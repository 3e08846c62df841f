"""Who does the tasks of a long work: this process, several on this machine, or a Ray cluster.

A task is a call `work(job, task, report)`; `work` is a function of a module, `job` is the same for
all, and `report` takes a number that tells how far the task is, in whatever the two agree on. The
results come in the order in which tasks end; what they write must not depend on it.
"""

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from types import MappingProxyType
from typing import Any, Literal, Protocol

EngineName = Literal["processes", "ray"]

fewest_for_processes = 128  # with fewer tasks, starting them takes longer than they save
Report = Callable[[int], None]
Work = Callable[[Any, Any, Report], Any]
Results = Generator[Any, None, None]


def ignore(_: Any) -> None:
    """Take a report and do nothing."""


class Engine(Protocol):
    """Something that does tasks for as long as it is entered."""

    def __enter__(self) -> "Engine": ...

    def __exit__(self, *_: object) -> None: ...

    def run(self, work: Work, job: Any, tasks: Sequence[Any], report: Report = ignore) -> Results:
        """Do every task and give each result as it comes; what a task raises is raised here."""
        ...


def choose_engine(
    name: EngineName, n_workers: int | None, n_tasks: int, *, preload: str = ""
) -> Engine:
    """The engine of a name, with no more workers than there are tasks; few go to threads.

    Args:
        n_workers: None for one for each processor.
        preload: a module that workers load before their first task is there.

    Raises:
        ValueError: for another name, or fewer than one worker.
    """
    if n_workers is not None and n_workers < 1:
        raise ValueError(f"workers is {n_workers}; the least is 1")
    if name == "ray":
        from modelwright.runtime.cluster import RayCluster

        return RayCluster(n_workers)
    if name != "processes":
        raise ValueError(f"engine is {name!r}; choose 'processes' or 'ray'")
    n_wanted = min(n_workers or len(os.sched_getaffinity(0)), n_tasks)
    if n_wanted <= 1:
        return InThisProcess()
    if n_tasks < fewest_for_processes:
        return Threads(n_wanted)
    return Processes(n_wanted, preload=preload)


class InThisProcess:
    """One task after the other, right here."""

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, work: Work, job: Any, tasks: Sequence[Any], report: Report = ignore) -> Results:
        for task in tasks:
            yield work(job, task, report)


class Threads:
    """Threads of this process: at once there, with one memory, and in turns where Python works."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self._pool: ThreadPoolExecutor | None = None
        self._left = Event()

    def __enter__(self) -> "Threads":
        self._left.clear()
        self._pool = ThreadPoolExecutor(self.n_workers)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._pool is not None
        self._left.set()  # a task ends when it reports the next time
        self._pool.shutdown(cancel_futures=True)

    def run(self, work: Work, job: Any, tasks: Sequence[Any], report: Report = ignore) -> Results:
        assert self._pool is not None
        messages: SimpleQueue[tuple[str, Any]] = SimpleQueue()

        def send_report(number: int) -> None:
            if self._left.is_set():
                raise Left
            messages.put(("report", number))

        def call(task: Any) -> None:
            try:
                messages.put(("result", work(job, task, send_report)))
            except BaseException as error:  # noqa: BLE001 - it is raised where results are taken
                messages.put(("error", error))

        waiting = iter(tasks)
        n_under_way = 0
        for task in islice(waiting, self.n_workers):
            self._pool.submit(call, task)
            n_under_way += 1
        while n_under_way:
            kind, content = messages.get()
            if kind == "report":
                report(content)
                continue
            if kind == "error":
                raise content
            for task in islice(waiting, 1):
                self._pool.submit(call, task)
                n_under_way += 1
            n_under_way -= 1
            yield content


class Left(BaseException):
    """Nobody waits for the task any more; on the way out, what is half-written is cleared away."""


class Processes:
    """Workers on this machine, each a Python of its own that ends when this one does.

    They are started as commands and not by `multiprocessing`, which would run a user's script again
    in each of them.
    """

    def __init__(self, n_workers: int, *, preload: str = "") -> None:
        """Args:
        preload: a module that workers load at once, before their first task is there.
        """
        self.n_workers = n_workers
        self._preload = preload
        self._workers: dict[Connection, subprocess.Popen[bytes]] = {}
        self._busy: list[Connection] = []

    def __enter__(self) -> "Processes":
        for _ in range(self.n_workers):
            connection, process = start_worker(self._preload)
            self._workers[connection] = process
        return self

    def __exit__(self, *_: object) -> None:
        for connection, process in self._workers.items():
            if connection in self._busy:
                process.terminate()
            connection.close()
        for process in self._workers.values():
            process.wait()
        self._workers.clear()
        self._busy.clear()

    def run(self, work: Work, job: Any, tasks: Sequence[Any], report: Report = ignore) -> Results:
        waiting = iter(tasks)
        for connection, task in zip(self._workers, waiting, strict=False):
            self._send(connection, (work, job))
            self._send(connection, task)
            self._busy.append(connection)
        while self._busy:
            for connection in wait(self._busy):
                assert isinstance(connection, Connection)
                kind, content = _receive(connection, self._workers[connection])
                if kind == "report":
                    report(content)
                    continue
                try:
                    self._send(connection, next(waiting))
                except StopIteration:
                    self._busy.remove(connection)
                yield content

    def _send(self, connection: Connection, message: Any) -> None:
        try:
            connection.send(message)
        except BrokenPipeError:
            raise _has_ended(self._workers[connection]) from None


def start_worker(
    preload: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    own_session: bool = False,
) -> tuple[Connection, "subprocess.Popen[bytes]"]:
    """Start a Python that serves the other end of the connection.

    Args:
        preload: a module that it loads at once, before its first task is there.
        environment: variables that it has otherwise than this process.
        own_session: whether Ctrl-C in the terminal goes past it.
    """
    ours, theirs = Pipe()
    home = str(Path(__file__).parents[2])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    changes = {
        "PYTHONPATH": os.pathsep.join(paths),
        # Arrow's own allocator keeps what it has got; that would count once for each worker.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    pipe, starter = str(theirs.fileno()), str(os.getpid())
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "modelwright.runtime.worker", pipe, starter, preload],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | changes | dict(environment),
            start_new_session=own_session,
        )
    finally:
        theirs.close()
    return ours, process


def _receive(
    connection: Connection, process: "subprocess.Popen[bytes]"
) -> tuple[Literal["report", "result"], Any]:
    try:
        kind, content = connection.recv()
    except (EOFError, ConnectionResetError):
        raise _has_ended(process) from None
    if kind == "error":
        raise content
    return kind, content


def how_it_ended(process: "subprocess.Popen[bytes]") -> str:
    """The end of a process that is over, or about to be, in words."""
    code = process.wait()
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


def _has_ended(process: "subprocess.Popen[bytes]") -> ChildProcessError:
    return ChildProcessError(
        f"a worker process {how_it_ended(process)}, which most often means that memory ran out; "
        "run the same command with fewer --workers, and it goes on with what is finished"
    )


def serve(connection: Connection) -> None:
    """Do tasks for the process at the other end until it closes the connection or is gone.

    What comes is a pair of work and job, and then tasks for it; a pair again changes both.
    """

    def report(number: int) -> None:
        connection.send(("report", number))

    with suppress(EOFError, ConnectionResetError, BrokenPipeError):
        work = job = None
        while True:
            message = connection.recv()
            if isinstance(message, tuple):
                work, job = message
                continue
            assert work is not None
            try:
                answer = "result", work(job, message, report)
            except Exception as error:  # noqa: BLE001 - it is raised at the other end
                answer = "error", _as_sent(error)
            connection.send(answer)


def _as_sent(error: Exception) -> Exception:
    """The error itself if it can travel, and for a fault of the program also where it was."""
    if not isinstance(error, ValueError | OSError):
        error.add_note("In a worker process:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever it is, its text can travel
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
