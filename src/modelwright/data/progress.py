"""How far a build is, as its listeners hear it."""

import time
from collections.abc import Sequence

from modelwright.data.tasks import Task
from modelwright.runtime.progress import Listener, Progress
from modelwright.runtime.workers import Report
from modelwright.tokenizer.training import TrainingProgress


class ByteCount:
    """Tells how far a phase is, in bytes of the files on disk."""

    def __init__(
        self, phase: str, tasks: Sequence[Task], missing: Sequence[Task], on_progress: Listener
    ) -> None:
        self.phase, self.on_progress = phase, on_progress
        self.total = sum(task.n_bytes for task in tasks)
        self.done = self.before = self.total - sum(task.n_bytes for task in missing)
        self.began = time.monotonic()
        self.fetched = 0
        self.note = ""
        self._tell()

    def add(self, task: Task, note: str = "") -> None:
        """A task has been done."""
        self.done += task.n_bytes
        self.note = note
        self._tell()

    def add_fetched(self, n_bytes: int) -> None:
        """So much has come from the hub."""
        if n_bytes:
            self.fetched += n_bytes
            self._tell()

    def _tell(self) -> None:
        fetched = f"{self.fetched / 1e6:,.0f} MB fetched" if self.fetched else ""
        seconds = time.monotonic() - self.began
        self.on_progress(
            Progress(
                phase=self.phase,
                done=self.done,
                total=self.total,
                unit="bytes",
                note=", ".join(filter(None, [self.note, fetched])),
                rate=(self.done - self.before) / seconds if self.done > self.before else None,
            )
        )


def telling_of_fetching(on_progress: Listener) -> Report:
    """What adds up how much has come from the hub, and tells."""
    fetched = 0

    def report(n_bytes: int) -> None:
        nonlocal fetched
        fetched += n_bytes
        if n_bytes:
            on_progress(Progress(phase="fetching", done=fetched, total=None, unit="bytes"))

    return report


def tokenizer_progress(progress: TrainingProgress, n_bytes: float | None) -> Progress:
    """A tokenizer's progress in the terms that every listener knows."""
    if progress.phase == "counting":
        return Progress(
            phase="reading text",
            done=progress.n_bytes,
            total=n_bytes,
            unit="bytes",
            rate=progress.rate,
        )
    return Progress(
        phase="training the tokenizer",
        done=progress.n_merges,
        total=progress.n_merges_wanted,
        unit="merges",
        rate=progress.rate,
    )
