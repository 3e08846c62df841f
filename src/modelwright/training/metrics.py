"""The record of a run: its config, its facts, and one line of JSON a step for every plot."""

import json
from pathlib import Path
from typing import Any

from modelwright.runtime.files import write_atomically

metrics_file = "metrics.jsonl"
config_file = "config.toml"  # the finished config: training with it again repeats the run
facts_file = "run.json"  # the machine, the parameter count, the data


def append_metrics(run_folder: Path, record: dict[str, Any]) -> None:
    """Add one step's line."""
    with (run_folder / metrics_file).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_metrics(run_folder: Path) -> list[dict[str, Any]]:
    """All lines of a run; a last line that a crash cut short is left out.

    Raises:
        FileNotFoundError: if the folder holds no run.
    """
    path = run_folder / metrics_file
    if not path.is_file():
        raise FileNotFoundError(f"{run_folder} holds no {metrics_file}, so there is no run in it")
    lines = path.read_text(encoding="utf-8").split("\n")
    return [
        json.loads(line) for line in lines[:-1]
    ]  # what follows the last line break is cut short


def forget_after(run_folder: Path, step: int) -> None:
    """Drop the lines of steps that a resumed run is going to take again."""
    kept = [record for record in read_metrics(run_folder) if record["step"] <= step]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
    write_atomically(run_folder / metrics_file, lines)
