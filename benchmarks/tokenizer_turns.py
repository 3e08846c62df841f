"""Measurements that take turns, and the tables they go into."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS, MILLISECONDS, MICROSECONDS = ("s", 1.0), ("ms", 1e3), ("µs", 1e6)
MEGABYTES = ("MB", 1e-6)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement: which program does what."""

    program: str
    work: str
    settings: Mapping[str, Any]
    n_threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    label: str = ""  # where the program's name does not say enough

    @property
    def name(self) -> str:
        """What the tables call it."""
        return self.label or self.program


def run(job: Job, **more: Any) -> dict[str, float]:
    """Measure once, in a fresh process."""
    request = {"program": job.program, "work": job.work, "n_threads": job.n_threads}
    environment = {name: value for name, value in os.environ.items() if name != "MODELWRIGHT_SIMD"}
    environment |= {
        "RAYON_NUM_THREADS": str(job.n_threads),
        "TOKENIZERS_PARALLELISM": "true" if job.n_threads > 1 else "false",
        "OMP_NUM_THREADS": str(job.n_threads),
        "OPENBLAS_NUM_THREADS": str(job.n_threads),
        **job.environment,
    }
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("tokenizer_peers.py")),
            json.dumps(request | dict(job.settings) | more),
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{job} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def take_turns(
    jobs: Sequence[Job], n_repeats: int, saves: Sequence[Path | None] | None = None
) -> list[dict[str, list[float]]]:
    """Measure each job `n_repeats` times, one after the other within a repetition.

    Args:
        saves: where each job leaves its ids.

    Returns:
        For each job, the values of each quantity.
    """
    found: list[dict[str, list[float]]] = [{} for _ in jobs]
    for repetition in range(n_repeats):
        for i, job in enumerate(jobs):
            print(f"{job.work} {repetition + 1}/{n_repeats} {job.name}", file=sys.stderr)
            save = saves[i] if saves else None
            outcome = run(job, save=str(save)) if save else run(job)
            for quantity, value in outcome.items():
                found[i].setdefault(quantity, []).append(value)
    return found


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the most."""
    shown = statistics.median(values)
    digits = 3 if shown < 1 else 2 if shown < 10 else 1 if shown < 100 else 0
    median, least, most = (f"{value:,.{digits}f}" for value in (shown, min(values), max(values)))
    return f"{median} ({least}–{most})"


class Table:
    """Rows of ours beside theirs."""

    def __init__(self, title: str, note: str, sides: tuple[str, str] = ("ours", "theirs")) -> None:
        ours, theirs = sides
        print(f"\n## {title}\n\n{note}\n")
        print(f"| what | peer | {ours} | {theirs} | {ours} / {theirs} |")
        print("| --- | --- | ---: | ---: | ---: |", flush=True)

    def add(
        self,
        what: str,
        jobs: Sequence[Job],
        found: Sequence[Mapping[str, Sequence[float]]],
        quantities: Mapping[str, tuple[str, tuple[str, float]]],
    ) -> None:
        """One row for each quantity and each job but the first, which is ours."""
        for key, (named, (unit, scale)) in quantities.items():
            ours = [scale * value for value in found[0][key]]
            for job, outcome in zip(jobs[1:], found[1:], strict=True):
                theirs = [scale * value for value in outcome[key]]
                ratio = statistics.median(ours) / statistics.median(theirs)
                print(
                    f"| {what}, {named}, {unit} | {job.name} | {spread(ours)} | {spread(theirs)} "
                    f"| {ratio:.{2 if ratio >= 0.1 else 3}f} |",
                    flush=True,
                )
