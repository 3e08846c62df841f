"""A landscape on disk: a line of settings, then a line of JSON for each point, as they are found.

    {"format": ..., "hash": ..., "settings": {...}, "about": {...}}
    {"at": [0.0, 0.1], "loss": 2.31}
    {"at": [0.0, 0.2], "loss": "inf"}

A killed process leaves at most half a line at the end, which is dropped; the others stand.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from modelwright.evaluation.landscape_map import At, Kind, Landscape, LandscapeConfig, Point
from modelwright.runtime.files import lock_folder, require_writable, write_atomically

format_name = "modelwright-landscape-1"


def path_of(folder: Path, kind: Kind) -> Path:
    """Where a folder keeps its landscape of a kind."""
    return folder / f"{kind}.jsonl"


def hash_of(settings: Mapping[str, Any]) -> str:
    """The sha256 of settings, whatever their order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


class PointsFile:
    """A landscape that grows: each point is in the file as soon as it is added."""

    def __init__(self, landscape: Landscape, file: IO[str]) -> None:
        self._landscape = landscape
        self._points = {point.at: point for point in landscape.points}
        self._file = file

    def __contains__(self, at: At) -> bool:
        return at in self._points

    def __len__(self) -> int:
        return len(self._points)

    def add(self, point: Point) -> None:
        """Write a point, so that who reads the file now, or after a crash, finds it."""
        loss = point.loss if point.is_finite else str(point.loss)
        self._file.write(json.dumps({"at": point.at, "loss": loss}) + "\n")
        self._file.flush()
        self._points[point.at] = point

    @property
    def landscape(self) -> Landscape:
        """What there is so far."""
        return dataclasses.replace(self._landscape, points=tuple(self._points.values()))


@contextmanager
def open_points(
    folder: Path,
    config: LandscapeConfig,
    *,
    settings: Mapping[str, Any],
    about: Mapping[str, str],
) -> Iterator[PointsFile]:
    """Hold a folder's landscape of the config's kind: what is there of it, or a new one.

    Args:
        settings: everything that decides the losses, the config included.

    Raises:
        ValueError: if the file there is of other settings, which are named, or another process
            works in the folder.
    """
    require_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, config.kind)
    with lock_folder(folder):
        if path.exists():
            landscape = read_landscape(path)
            _require_same(path, landscape.settings, settings)
            _drop_half_a_line(path)
        else:
            head = {
                "format": format_name,
                "hash": hash_of(settings),
                "settings": dict(settings),
                "about": dict(about),
            }
            write_atomically(path, json.dumps(head) + "\n")
            landscape = Landscape(config, (), settings, about)
        with path.open("a", encoding="utf-8") as file:
            yield PointsFile(landscape, file)


def read_landscape(path: Path) -> Landscape:
    """A landscape as far as it was measured.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is something else; the message names the line.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    settings, about, config = _head_from(lines[0], path)
    allowed = set(config.coordinates)
    points: dict[At, Point] = {}
    for number, line in enumerate(lines[1:-1], start=2):  # the last has no end: empty, or half
        point = _point_from(line)
        if point is None or point.at not in allowed:
            raise ValueError(
                f"{path}, line {number}, is no point of this landscape: {line[:60]!r}; remove that "
                "line to have the point measured anew"
            )
        points[point.at] = point
    return Landscape(config, tuple(points.values()), settings, about)


def _head_from(line: str, path: Path) -> tuple[dict[str, Any], dict[str, str], LandscapeConfig]:
    names = [field.name for field in dataclasses.fields(LandscapeConfig)]
    try:
        head = json.loads(line)
        settings, about = head["settings"], head["about"]
        is_ours = head["format"] == format_name and head["hash"] == hash_of(settings)
        config = LandscapeConfig(**{name: settings[name] for name in names})
    except (ValueError, KeyError, TypeError, RecursionError):
        is_ours = False
    if not is_ours:
        raise ValueError(
            f"{path} does not begin with the settings of a landscape, or they were altered; remove "
            "it to measure anew"
        )
    return settings, about, config


def _point_from(line: str) -> Point | None:
    try:
        record = json.loads(line)
        return Point(tuple(map(float, record["at"])), float(record["loss"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _require_same(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    if hash_of(there) == hash_of(here):
        return
    differences = [
        f"{name} is {_shown(here.get(name))} here and {_shown(there.get(name))} there"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    raise ValueError(
        f"{path} was measured with other settings ({'; '.join(differences)}); choose another "
        "folder with --out, or remove that file to measure anew"
    )


def _shown(value: Any) -> str:
    """A hash by its beginning, like everywhere; anything else as it is."""
    is_hash = isinstance(value, str) and len(value) == 64
    return value[:16] if is_hash else repr(value)


def _drop_half_a_line(path: Path) -> None:
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        write_atomically(path, whole)
