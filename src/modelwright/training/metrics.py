"""The record of a run: its config, its facts, and one line of JSON a step for every plot.

A line holds `step` and what was measured then. A line with `event`, one of `EventKind`, tells of
something out of the ordinary at that step, with whatever else explains it; it may be a step's own
line or stand between them. Where its `action` is "stop" or "rewind", the step was not taken.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from modelwright.runtime.files import write_atomically

metrics_file = "metrics.jsonl"
config_file = "config.toml"  # the finished config: training with it again repeats the run
facts_file = "run.json"  # the machine, the parameter count, the data

EventKind = Literal["not_finite", "spike", "overflow", "out_of_memory"]

# What any step records, and so explains no event.
usual_names = frozenset(
    (
        "step",
        "event",
        "loss",
        "learning_rate",
        "gradient_norm",
        "n_tokens",
        "seconds",
        "step_seconds",
        "data_seconds",
        "tokens_per_second",
        "mfu",
        "memory_bytes",
        "reserved_bytes",
        "loss_scale",
        "data_ids",
        "samples",
        "tasks",
        "forecast_loss",
        "forecast_low",
        "forecast_high",
    )
)
longest_list = 8


class MetricsFile:
    """The metrics of a run while it goes on: kept open, and whole after each line."""

    def __init__(self, run_folder: Path) -> None:
        """Go on after the lines that are there."""
        self._file = (run_folder / metrics_file).open("a", encoding="utf-8")

    def append(self, record: dict[str, Any]) -> None:
        """Add a line, so that who reads the file now, or after a crash, finds it."""
        self._file.write(to_line(record))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def to_line(record: dict[str, Any]) -> str:
    """A record as JSON; what is not a finite number becomes null, which every reader knows."""
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        return json.dumps(_without_infinities(record), ensure_ascii=False) + "\n"


def read_metrics(run_folder: Path) -> list[dict[str, Any]]:
    """All lines of a run; a last line that a crash cut short is left out.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if a line is not a record of a step.
    """
    path = run_folder / metrics_file
    if not path.is_file():
        raise FileNotFoundError(f"{run_folder} holds no {metrics_file}, so there is no run in it")
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line break is cut short
    return [_from_line(line, path, number) for number, line in enumerate(lines, start=1)]


def forget_after(run_folder: Path, step: int) -> None:
    """Drop the lines of steps that a resumed run is going to take again."""
    kept = [record for record in read_metrics(run_folder) if record["step"] <= step]
    write_atomically(run_folder / metrics_file, "".join(map(to_line, kept)))


def events(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records that tell of something out of the ordinary."""
    return [record for record in records if "event" in record]


def is_taken(record: dict[str, Any]) -> bool:
    """Whether a record's numbers are part of the curves: not those of a step that was given up."""
    return record.get("action") not in ("stop", "rewind")


def event_details(event: dict[str, Any]) -> str:
    """What explains an event, in a line."""
    return ", ".join(
        f"{name.replace('_', ' ')} {_in_words(value)}"
        for name, value in event.items()
        if name not in usual_names and not name.startswith(("validation_", "averaged_"))
    )


def _in_words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and len(value) > longest_list:
        shown = ", ".join(map(str, value[:longest_list]))
        return f"[{shown}, … {len(value)} in all]"
    return "not a finite number" if value is None else str(value)


def _from_line(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        start = line[:60].decode("utf-8", "replace")
        raise ValueError(
            f"{path}, line {number}, is not the record of a step: {start!r}; remove that line, "
            "or bring back the file from a copy"
        )
    return record


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
