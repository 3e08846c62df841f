"""Tasks on a Ray cluster; needs the package `ray`, which comes with the extra of that name."""

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from modelwright.runtime.crew import CrewWork, Ended, OnReport, WorkerDied
from modelwright.runtime.workers import Report, Results, Work, ignore


class RayCluster:
    """A Ray cluster: the one that RAY_ADDRESS names, or one on this machine.

    Its machines must see the folder under the same path, and have the same modelwright installed.
    """

    def __init__(self, n_workers: int | None) -> None:
        """Args:
        n_workers: how many tasks are under way at once; None for as many as there are processors.
        """
        self.n_workers = n_workers
        self._ray: Any = None
        self._is_ours = False

    def __enter__(self) -> "RayCluster":
        self._ray = _import_ray()
        self._is_ours = _connect(self._ray, n_processors=self.n_workers)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_ours:
            self._ray.shutdown()

    def run(self, work: Work, job: Any, tasks: Sequence[Any], report: Report = ignore) -> Results:
        """Do every task; what they report is not sent here."""

        def call(job: Any, task: Any) -> Any:
            return work(job, task, ignore)

        remote = self._ray.remote(num_cpus=1, max_retries=3)(call)
        shared = self._ray.put(job)
        n_processors = int(self._ray.cluster_resources().get("CPU", 1))
        most = self.n_workers or max(1, n_processors)
        under_way: list[Any] = []
        for task in tasks:
            if len(under_way) >= most:
                under_way = yield from self._collect(under_way)
            under_way.append(remote.remote(shared, task))
        while under_way:
            under_way = yield from self._collect(under_way)

    def _collect(self, under_way: list[Any]) -> Generator[Any, None, list[Any]]:
        """Give the results of tasks that have ended; the others are under way still."""
        done, rest = self._ray.wait(under_way, num_returns=1)
        for reference in done:
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            yield result
        return rest


@dataclass(frozen=True)
class ClusterPlaces:
    """The workers of a crew on a Ray cluster.

    Attributes:
        n_devices: GPUs, or machines where runs are on processors.
        n_workers: on all devices together.
        gpus: what each worker has of one.
        processors: what each worker has of them; it takes as many threads.
    """

    n_devices: int
    n_workers: int
    gpus: float
    processors: int


def cluster_places(*, on_gpus: bool | None, at_once: int) -> ClusterPlaces:
    """One worker for each GPU of the cluster, or for each machine; more where that is asked for.

    Args:
        on_gpus: None for GPUs if there are any.

    Raises:
        ValueError: if ray is missing, or GPUs are wanted and there are none.
    """
    ray = _import_ray()
    _connect(ray)
    n_gpus = int(ray.cluster_resources().get("GPU", 0))
    if on_gpus and not n_gpus:
        raise ValueError(
            "training.device is 'cuda', but the Ray cluster has no GPU; leave it out, or connect "
            "to another cluster by RAY_ADDRESS"
        )
    if n_gpus and on_gpus is not False:
        return ClusterPlaces(n_gpus, n_gpus * at_once, 1 / at_once, 1)
    machines = [node["Resources"].get("CPU", 1) for node in ray.nodes() if node["Alive"]]
    each = max(1, int(min(machines)) // at_once)
    return ClusterPlaces(len(machines), len(machines) * at_once, 0, each)


class RayCrew:
    """Workers on a Ray cluster that stay; one that dies loses only its task.

    The machines must see the tasks' folders under the same paths. A worker cannot be asked to stop:
    it is ended, and what it had goes back to its newest checkpoint. What tasks report is not sent.
    """

    def __init__(self, work: CrewWork, places: ClusterPlaces) -> None:
        self._work = work
        self._places = places
        self._ray: Any = None
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Any]] = {}  # of what is awaited, to worker and task

    def __enter__(self) -> "RayCrew":
        self._ray = _import_ray()
        _connect(self._ray)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            self._ray.kill(worker)
        self._idle.clear()
        self._busy.clear()

    @property
    def n_free(self) -> int:
        return self._places.n_workers - len(self._busy)

    def give(self, task: Any) -> None:
        worker = self._idle.pop(0) if self._idle else self._start()
        self._busy[worker.do.remote(task)] = worker, task

    def wait(self, seconds: float, on_report: OnReport) -> list[Ended]:
        done, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=seconds)
        return [self._end_of(reference) for reference in done]

    def ask_to_stop(self, task: Any = None) -> None:
        for worker, given in self._busy.values():
            if task is None or given == task:
                self._ray.kill(worker)

    def _start(self) -> Any:
        work = self._work

        class Worker:
            def do(self, task: Any) -> Any:
                return work(None, task, ignore)

        resources = {"num_gpus": self._places.gpus, "num_cpus": self._places.processors}
        return self._ray.remote(max_restarts=0, **resources)(Worker).remote()

    def _end_of(self, reference: Any) -> Ended:
        worker, task = self._busy.pop(reference)
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            first = str(error).partition("\n")[0]
            return Ended(task, error=WorkerDied(f"the worker on the cluster ended ({first})"))
        except self._ray.exceptions.RayTaskError as error:
            self._idle.append(worker)
            return Ended(task, error=error.cause)
        self._idle.append(worker)
        return Ended(task, result=result)


def _connect(ray: Any, n_processors: int | None = None) -> bool:
    """Connect to the cluster that RAY_ADDRESS names, or start one here; whether it was not yet.

    Args:
        n_processors: that a cluster started here has; None for all.
    """
    if ray.is_initialized():
        return False
    is_local = "RAY_ADDRESS" not in os.environ
    local: dict[str, Any] = {"num_cpus": n_processors} if is_local else {}
    ray.init(include_dashboard=False, log_to_driver=False, **local)
    return True


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise ValueError(
            "the engine 'ray' needs the package ray: pip install 'modelwright[ray]'; without it, "
            "--engine processes uses this machine"
        ) from None
    return ray
