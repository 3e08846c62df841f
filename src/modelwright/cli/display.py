"""What the command line shows while it works."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from modelwright.runtime import progress as runtime_progress

console = Console(stderr=True, highlight=False)


class Bars:
    """One bar for each phase, drawn on the terminal; plain lines where there is none."""

    def __init__(self, bars: Progress | None) -> None:
        self.bars = bars
        self.tasks: dict[str, TaskID] = {}
        self.last_line = 0.0

    def __call__(self, progress: runtime_progress.Progress) -> None:
        """The listener that rooms report to."""
        if self.bars is None:
            self._line(progress)
            return
        if progress.phase not in self.tasks:
            for task in self.tasks.values():  # a new phase means that the ones before are done
                self.bars.update(task, total=self.bars.tasks[task].completed or 1)
            self.tasks[progress.phase] = self.bars.add_task(progress.phase, detail="")
        self.bars.update(
            self.tasks[progress.phase],
            completed=progress.done,
            total=progress.total,
            detail=" · ".join(filter(None, [amount(progress), progress.note])),
        )

    def say(self, text: str) -> None:
        """Print above the bars."""
        console.print(text, markup=False, soft_wrap=False)

    def _line(self, progress: runtime_progress.Progress) -> None:
        finished = progress.total is not None and progress.done >= progress.total
        if not finished and time.monotonic() - self.last_line < seconds_between_lines:
            return
        self.last_line = time.monotonic()
        parts = [f"{progress.phase}: {amount(progress)}", progress.note, time_left(progress)]
        print(" · ".join(filter(None, parts)), file=sys.stderr)


seconds_between_lines = 10.0


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Bars for as long as the block runs."""
    if not console.is_terminal:
        yield Bars(None)
        return
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, refresh_per_second=8) as bars:
        yield Bars(bars)


def time_left(progress: runtime_progress.Progress) -> str:
    """How long the phase still takes at its present rate; nothing where nobody can know."""
    if not progress.rate or progress.total is None or progress.done >= progress.total:
        return ""
    seconds = round((progress.total - progress.done) / progress.rate)
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"{clock} left"


def amount(progress: runtime_progress.Progress) -> str:
    """How much is done, in units for people: "3.1 of 10.0 MB, 150 MB/s"."""
    scale, unit, digits = (1e6, "MB", 1) if progress.unit == "bytes" else (1, progress.unit, 0)
    total = f" of {progress.total / scale:,.{digits}f}" if progress.total else ""
    rate = f", {progress.rate / scale:,.0f} {unit}/s" if progress.rate else ""
    return f"{progress.done / scale:,.{digits}f}{total} {unit}{rate}"
