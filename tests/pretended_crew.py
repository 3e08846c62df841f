"""A crew whose runs are over at once and come to what a test says."""

import dataclasses
from collections.abc import Callable
from typing import Any

from modelwright.experiments.study_worker import RunReport, RunResult, RunTask
from modelwright.runtime.crew import Ended

Outcome = Callable[[RunTask], RunResult | Exception]


@dataclasses.dataclass
class PretendedCrew:
    """Workers whose runs come to what a function says, the last given one first."""

    outcome: Outcome
    n_workers: int = 1
    loss_on_the_way: Callable[[RunTask], float] = lambda _: 1.0
    given: list[RunTask] = dataclasses.field(default_factory=list)
    under_way: list[RunTask] = dataclasses.field(default_factory=list)
    reported: list[RunTask] = dataclasses.field(default_factory=list)
    asked_of: list[RunTask | None] = dataclasses.field(default_factory=list)

    def __enter__(self) -> "PretendedCrew":
        return self

    def __exit__(self, *_: object) -> None: ...

    @property
    def n_free(self) -> int:
        return self.n_workers - len(self.under_way)

    def give(self, task: RunTask) -> None:
        assert self.n_free
        self.given.append(task)
        self.under_way.append(task)

    def wait(self, seconds: float, on_report: Any) -> list[Ended]:
        task = self.under_way[-1]
        if task not in self.reported:
            self.reported.append(task)
            on_report(task, RunReport(step=30, validation_loss=self.loss_on_the_way(task)))
            return []
        self.under_way.remove(task)
        outcome = result("stopped") if task in self.asked_of else self.outcome(task)
        if isinstance(outcome, Exception):
            return [Ended(task, error=outcome)]
        return [Ended(task, result=outcome)]

    def ask_to_stop(self, task: RunTask | None = None) -> None:
        self.asked_of.append(task)


def result(outcome: Any, **final: float) -> RunResult:
    return RunResult(outcome=outcome, reason=None, final=final)


def finished(task: RunTask) -> RunResult:
    return result("finished", validation_loss=1.0, step=60, seconds=1.0)


def names(crew: PretendedCrew) -> list[str]:
    return [f"{task.variant}/{task.seed}" for task in crew.given]
