"""A study on disk: `study.json` says what it is made of and what became of its runs.

    {"format": 1, "name": ..., "question": ..., "baseline": ...,
     "variants": [{"name": ..., "changes": {"schedule.peak_lr": 0.001}}],
     "runs": [{"variant": ..., "seed": 1, "folder": "runs/...", "outcome": "finished"}]}

A run may also have `reason` and `final`. A study that looks for where runs begin to diverge has

    "edge": {"setting": ..., "trains": 0.1, "diverges": 0.12, "is_found": true, "note": ...}

too. Beside these keys the file may have others at its top, which belong to whoever ran the study.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from modelwright.experiments.study_record import (
    FoundEdge,
    Outcome,
    StudyRecord,
    StudyRun,
    Variant,
)
from modelwright.runtime.files import write_atomically

file_name = "study.json"
format_version = 1

needed = {"name": str, "question": str, "baseline": str, "variants": list, "runs": list}
needed_of_variant = {"name": str, "changes": dict}
needed_of_run = {"variant": str, "seed": int, "folder": str, "outcome": str}
optional_of_run = {"reason": (str, type(None)), "final": dict}
needed_of_edge = {"setting": str, "note": str}
in_words = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def write_study(
    folder: Path, record: StudyRecord, besides: Mapping[str, Any] | None = None
) -> None:
    """Write `study.json` into a study's folder, in one piece.

    Args:
        besides: what else is worth keeping, by name.

    Raises:
        ValueError: if a run's folder is not inside the study's.
    """
    content: dict[str, Any] = {
        "format": format_version,
        "name": record.name,
        "question": record.question,
        "baseline": record.baseline,
        "variants": [
            {"name": variant.name, "changes": dict(variant.changes)} for variant in record.variants
        ],
        "runs": [_run_as_json(folder, run) for run in record.runs],
    }
    if record.edge is not None:
        content["edge"] = asdict(record.edge)
    besides = besides or {}
    assert not content.keys() & besides.keys(), f"{besides.keys()} would replace the record"
    text = json.dumps(content | dict(besides), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / file_name, text + "\n")


def _run_as_json(folder: Path, run: StudyRun) -> dict[str, Any]:
    if not run.folder.is_relative_to(folder):
        raise ValueError(
            f"the run folder {run.folder} is not inside the study's folder {folder}; move it "
            f"there, such as to {folder / 'runs' / run.folder.name}"
        )
    return {
        "variant": run.variant,
        "seed": run.seed,
        "folder": run.folder.relative_to(folder).as_posix(),
        "outcome": run.outcome,
        "reason": run.reason,
        # JSON has no infinity: what is not a finite number is null, as in the metrics.
        "final": {
            name: value if math.isfinite(value) else None for name, value in run.final.items()
        },
    }


def holds_study(folder: Path) -> bool:
    """Whether a folder is a study's."""
    return (folder / file_name).is_file()


def read_study(folder: Path) -> StudyRecord:
    """The study in a folder; the folders of its runs are given from where that one is.

    Raises:
        FileNotFoundError: if there is no `study.json` in it.
        ValueError: if that is no record of a study; the message names the key.
    """
    path = folder / file_name
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {file_name}, so there is no study in it")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}), so it cannot be a study") from None
    version = content.get("format") if isinstance(content, dict) else None
    if version != format_version:
        raise ValueError(
            f"{path} has format = {version!r}, but this version reads {format_version}; "
            "use the version of modelwright that wrote it"
        )
    _require(content, needed, {}, f"{path}: ", may_have_more=True)
    variants: list[Variant] = []
    for index, variant in enumerate(content["variants"]):
        _require(variant, needed_of_variant, {}, f"{path}: variants[{index}].")
        variants.append(Variant(**variant))
    runs = [
        _run_from(folder, run, f"{path}: runs[{index}].")
        for index, run in enumerate(content["runs"])
    ]
    places = [(run.variant, run.seed) for run in runs]
    for variant, seed in places:
        if places.count((variant, seed)) > 1:
            raise ValueError(f"{path} has two runs of {variant!r} with seed {seed}; keep one")
    try:
        return StudyRecord(
            name=content["name"],
            question=content["question"],
            baseline=content["baseline"],
            variants=tuple(variants),
            runs=tuple(runs),
            edge=_edge_from(content["edge"], f"{path}: edge.") if "edge" in content else None,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _run_from(folder: Path, run: Any, place: str) -> StudyRun:
    _require(run, needed_of_run, optional_of_run, place)
    if run["outcome"] not in get_args(Outcome):
        raise ValueError(
            f"{place}outcome is {run['outcome']!r}, but it is one of: "
            f"{', '.join(get_args(Outcome))}"
        )
    relative = PurePosixPath(run["folder"])
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(
            f"{place}folder is {run['folder']!r}, but a run is inside its study's folder, such as "
            f"'runs/{relative.name}'"
        )
    final: dict[str, float] = {}
    for name, value in run.get("final", {}).items():
        if value is not None and not _is_number(value):
            raise ValueError(f"{place}final.{name} is {value!r}, but it is a number or null")
        final[name] = math.nan if value is None else value
    return StudyRun(
        variant=run["variant"],
        seed=run["seed"],
        folder=folder / relative,
        outcome=run["outcome"],
        reason=run.get("reason"),
        final=final,
    )


def _edge_from(edge: Any, place: str) -> FoundEdge:
    _require(edge, needed_of_edge, {}, place, may_have_more=True)
    for name in ("trains", "diverges"):
        value = edge.get(name)
        if value is not None and not _is_number(value):
            raise ValueError(f"{place}{name} is {value!r}, but it is a number or null")
    if not isinstance(edge.get("is_found"), bool):
        raise ValueError(f"{place}is_found is {edge.get('is_found')!r}, but it is true or false")
    return FoundEdge(**{one.name: edge.get(one.name) for one in fields(FoundEdge)})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(
    content: Any,
    needed: Mapping[str, type],
    optional: Mapping[str, Any],
    place: str,
    *,
    may_have_more: bool = False,
) -> None:
    """Check the keys of an object and the kinds of their values.

    Raises:
        ValueError: naming the first that is missing, unknown, or of another kind.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{place.rstrip('.')} is {content!r}, but it is an object")
    for name in needed:
        if name not in content:
            raise ValueError(f"{place}{name} is missing, but it is {in_words[needed[name]]}")
    for name, kind in {**needed, **optional}.items():
        value = content.get(name)
        if name in content and (not isinstance(value, kind) or isinstance(value, bool)):
            wanted = in_words.get(kind, "a text or null")
            raise ValueError(f"{place}{name} is {value!r}, but it is {wanted}")
    known = needed.keys() | optional.keys()
    unknown = [] if may_have_more else sorted(content.keys() - known)
    if unknown:
        raise ValueError(
            f"{place}{unknown[0]} is unknown; what is known there: {', '.join(sorted(known))}"
        )
