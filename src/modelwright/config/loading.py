"""Where the values of a run come from: defaults, then a TOML file, then `--set section.key=value`.

Later ones win, and the origin of each value is kept, so that `modelwright config` can show it and
an error can name the file and the line.
"""

import dataclasses
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

from modelwright.config.schema import (
    Problem,
    SettingsError,
    check,
    field_kind,
    leaves,
    nearest_name,
)

Settings = TypeVar("Settings")
SettingPath = tuple[str, ...]


@dataclass(frozen=True)
class Loaded(Generic[Settings]):
    """Finished settings, and for each one that is no default, where it was set."""

    config: Settings
    origins: Mapping[SettingPath, str]


def load_settings(
    cls: type[Settings], recipe: Path | None = None, overrides: Sequence[str] = ()
) -> Loaded[Settings]:
    """Read settings from a TOML file and `section.key=value` overrides.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for TOML that cannot be read, and for settings that are unknown, missing or
            of the wrong kind; the message names the file and line, or the override.
    """
    values: dict[str, Any] = {}
    origins: dict[SettingPath, str] = {}
    if recipe is not None:
        text = _read_recipe(recipe)
        values = _parse(text, recipe)
        lines = key_lines(text)
        for path in _set_paths(values):
            line = lines.get(path)
            origins[path] = f"{recipe}, line {line}" if line else str(recipe)
    for override in overrides:
        path, value = _parse_override(cls, override)
        _put(values, path, value)
        origins[path] = f"--set {override}"
    try:
        return Loaded(check(cls, values), origins)
    except SettingsError as error:
        located = [_with_origin(problem, origins) for problem in error.problems]
        raise SettingsError(located) from None


def to_toml(config: Any, origins: Mapping[SettingPath, str] | None = None) -> str:
    """Write settings as TOML that `load_settings` reads back to the same value.

    A setting that is None is left out, since leaving it out is what makes it None.

    Args:
        origins: if given, each line ends in a comment saying where its value came from.
    """
    import tomlkit

    document = tomlkit.document()
    for path, value in leaves(config):
        if value is None:
            continue
        table: Any = document
        for section in path[:-1]:
            if section not in table:
                table.add(section, tomlkit.table())
            table = table[section]
        item = tomlkit.item(_plain(value))
        if origins is not None:
            item.comment(origins.get(path, "default"))
        table.add(path[-1], item)
    return tomlkit.dumps(document)


def _plain(value: Any) -> Any:
    """A value as TOML has it: a list of sections becomes an array of tables."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {path[-1]: item for path, item in leaves(value) if item is not None}
    return value


def key_lines(text: str) -> dict[SettingPath, int]:
    """The line (from 1) on which each dotted key of a TOML text is set.

    Reads headers and keys at the start of a line, which is where people put them; a key inside
    an inline table, or a line of a longer string that looks like one, is not told apart.
    """
    header = re.compile(r"^\s*\[{1,2}\s*([\w.\-\s\"']+?)\s*\]{1,2}\s*(?:#.*)?$")
    key = re.compile(r"^\s*([\w\-\"']+(?:\s*\.\s*[\w\-\"']+)*)\s*=")
    section: SettingPath = ()
    found: dict[SettingPath, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if match := header.match(line):
            section = _split_dotted(match[1])
            found.setdefault(section, number)
        elif match := key.match(line):
            found.setdefault(section + _split_dotted(match[1]), number)
    return found


def _split_dotted(dotted: str) -> SettingPath:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _read_recipe(recipe: Path) -> str:
    if recipe.is_dir():
        raise ValueError(f"{recipe} is a folder; name a recipe file, such as {recipe}/config.toml")
    try:
        return recipe.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no recipe {recipe}; check the path") from None
    except UnicodeDecodeError:
        raise ValueError(f"{recipe} is not UTF-8 text, so it cannot be a recipe") from None


def _parse(text: str, recipe: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{recipe} is not valid TOML: {error}") from None


def _parse_override(cls: type, override: str) -> tuple[SettingPath, Any]:
    name, equals, raw = override.partition("=")
    path = _split_dotted(name)
    if not equals or not all(path):
        raise ValueError(
            f"--set {override} is not of the form section.key=value, such as training.n_steps=200"
        )
    kind = field_kind(cls, path)
    if kind is None:
        near = nearest_name(path, cls)
        hint = f"; did you mean {near}?" if near else ""
        raise SettingsError([Problem(path, f"--set {override}: unknown setting {name}{hint}")])
    takes_text = kind is str or (get_origin(kind) in (Union, UnionType) and str in get_args(kind))
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return path, raw  # bare text, as people type it
    if takes_text and not isinstance(value, str):
        return path, raw
    return path, value


def _put(values: dict[str, Any], path: SettingPath, value: Any) -> None:
    for section in path[:-1]:
        below = values.setdefault(section, {})
        if not isinstance(below, dict):
            raise ValueError(f"{section} is {below!r}, but it is a section of settings")
        values = below
    values[path[-1]] = value


def _set_paths(values: Mapping[str, Any], path: SettingPath = ()) -> list[SettingPath]:
    found: list[SettingPath] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found.append((*path, name))
            found += _set_paths(value, (*path, name))
        else:
            found.append((*path, name))
    return found


def _with_origin(problem: Problem, origins: Mapping[SettingPath, str]) -> Problem:
    """Put the place of the nearest enclosing setting before the message."""
    for length in range(len(problem.path), 0, -1):
        origin = origins.get(problem.path[:length])
        if origin:
            return Problem(problem.path, f"{origin}: {problem.message}")
    return problem
