"""Tasks on a Ray cluster; needs the package `ray`, which comes with the extra of that name."""

import os
from collections.abc import Generator, Sequence
from typing import Any

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
        self._is_ours = not self._ray.is_initialized()
        if self._is_ours:
            is_local = "RAY_ADDRESS" not in os.environ
            local: dict[str, Any] = {"num_cpus": self.n_workers} if is_local else {}
            self._ray.init(include_dashboard=False, log_to_driver=False, **local)
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
