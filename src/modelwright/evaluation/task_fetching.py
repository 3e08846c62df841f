"""The files of tasks from the Hugging Face hub, written as the JSON lines that `tasks` reads.

Every dataset there has a branch of Parquet files that the hub itself makes, one folder for each
configuration and split, whatever the layout of the original; so all tasks are fetched alike.

Source: huggingface.co/docs/dataset-viewer/parquet; repositories, configurations and splits are
those of lm-evaluation-harness 0.4, without a name "default", as the hub calls it.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from modelwright.data.fetching import fetch
from modelwright.data.hub import HubDataset, HubFile, list_files
from modelwright.evaluation.tasks import Task, read_task
from modelwright.runtime.files import sha256_of, write_atomically

parquet_branch = "refs/convert/parquet"


@dataclass(frozen=True)
class Original:
    """Where a task's questions are on the hub."""

    repository: str
    configuration: str
    split: str


originals: dict[str, Original] = {
    "hellaswag": Original("Rowan/hellaswag", "default", "validation"),
    "lambada_openai": Original("EleutherAI/lambada_openai", "default", "test"),
    "piqa": Original("baber/piqa", "default", "validation"),
    "arc_easy": Original("allenai/ai2_arc", "ARC-Easy", "test"),
    "arc_challenge": Original("allenai/ai2_arc", "ARC-Challenge", "test"),
    "winogrande": Original("allenai/winogrande", "winogrande_xl", "validation"),
    "openbookqa": Original("allenai/openbookqa", "main", "test"),
    "copa": Original("aps/super_glue", "copa", "validation"),
    "boolq": Original("aps/super_glue", "boolq", "validation"),
    "commonsense_qa": Original("tau/commonsense_qa", "default", "validation"),
    "wsc273": Original("lighteval/winograd_wsc", "wsc273", "test"),
}


@dataclass(frozen=True)
class Fetched:
    """A task's file that has come, and what it was made of."""

    path: Path
    sha256: str
    parts: tuple[HubFile, ...]
    n_items: int

    def __str__(self) -> str:
        parts = ", ".join(f"{part.path} (sha256 {(part.sha256 or '')[:16]})" for part in self.parts)
        return (
            f"{self.n_items:,} items of {self.parts[0].repository} at {self.parts[0].revision[:12]}"
            f", {parts}, as {self.path} (sha256 {self.sha256[:16]})"
        )


def fetch_task(task: Task, folder: Path, *, endpoint: str | None = None) -> Fetched:
    """Fetch a task's questions and write `TASK.jsonl` into a folder.

    Args:
        endpoint: another hub than the one that HF_ENDPOINT names.

    Raises:
        ValueError: if a package is missing, or what comes are not the task's items; nothing is
            written then.
        ConnectionError: if the hub cannot be reached.
    """
    original = originals[task.name]
    files = list_files(
        HubDataset(
            name=task.name,
            repository=original.repository,
            files=(f"{original.configuration}/{original.split}/*.parquet",),
            revision=parquet_branch,
        ),
        endpoint=endpoint,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as place:
        parts = [fetch(file, Path(place), endpoint=endpoint) for file in files]
        lines = "".join(line for part in parts for line in json_lines(part))
        found = Path(place) / f"{task.name}.jsonl"
        found.write_text(lines, encoding="utf-8")
        n_items = len(read_task(task, found).items)
    if n_items != task.n_items:
        raise ValueError(
            f"{original.repository} at {files[0].revision[:12]} has {n_items:,} items of "
            f"{task.name}, where the task has {task.n_items:,}; nothing was written"
        )
    path = folder / f"{task.name}.jsonl"
    write_atomically(path, lines)
    return Fetched(path, sha256_of(path), tuple(files), n_items)


def json_lines(path: Path) -> list[str]:
    """The rows of a Parquet file, a line of JSON each.

    Raises:
        ValueError: if the package pyarrow is missing.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError(
            "reading what the hub has needs the package pyarrow, which comes with "
            "pip install 'modelwright[hub]'"
        ) from None
    rows = pq.read_table(path).to_pylist()
    return [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
