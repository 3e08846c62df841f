"""The record of a study on disk: `study.json`, written anew whenever a run is over."""

import json
from pathlib import Path
from typing import Any

from modelwright.experiments.study_record import StudyRecord, StudyRun, Variant
from modelwright.runtime.files import write_atomically

file_name = "study.json"
format_version = 1


def write_record(folder: Path, record: StudyRecord, besides: dict[str, Any]) -> None:
    """Write a record into a study's folder; run folders are named from there.

    Args:
        besides: what else is worth keeping, by name.
    """
    content = {
        "format": format_version,
        "name": record.name,
        "question": record.question,
        "baseline": record.baseline,
        "variants": [
            {"name": variant.name, "changes": dict(variant.changes)} for variant in record.variants
        ],
        "runs": [
            {
                "variant": run.variant,
                "seed": run.seed,
                "folder": run.folder.relative_to(folder).as_posix(),
                "outcome": run.outcome,
                "reason": run.reason,
                "final": dict(run.final),
            }
            for run in record.runs
        ],
    } | besides
    write_atomically(folder / file_name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_record(folder: Path) -> StudyRecord:
    """The record in a study's folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no record of a study, or of a later version of the program.
    """
    path = folder / file_name
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {file_name}, so there is no study in it; `modelwright study FILE` "
            "makes one"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > format_version:
            raise ValueError(
                f"{path} has format {content['format']}, and this program reads {format_version}; "
                "use a newer modelwright"
            )
        return StudyRecord(
            name=content["name"],
            question=content["question"],
            baseline=content["baseline"],
            variants=tuple(Variant(**variant) for variant in content["variants"]),
            runs=tuple(
                StudyRun(**(run | {"folder": folder / run["folder"]})) for run in content["runs"]
            ),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the record of a study: {error}") from None
