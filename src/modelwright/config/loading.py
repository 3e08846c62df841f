"""Where the values of a run come from: defaults, presets, a TOML file, `--set section.key=value`.

Later ones win, so a file or `--set` may name a preset and change some of it. The origin of each
value is kept, so that `modelwright config` can show it and an error can name the file and the line.
"""

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from modelwright.config.presets import expand_presets
from modelwright.config.schema import (
    Problem,
    SettingsError,
    check,
    choices_of,
    field_kind,
    item_section,
    leaves,
    literal_texts,
    nearest_name,
    presets_of,
)

Settings = TypeVar("Settings")
SettingPath = tuple[str, ...]


@dataclass(frozen=True)
class Loaded(Generic[Settings]):
    """Finished settings, and for each one that is no default, where it was set.

    A value that a preset gave comes from "preset NAME"; the preset itself is no setting.
    """

    config: Settings
    origins: Mapping[SettingPath, str]


@dataclass(frozen=True)
class Change:
    """A value that a setting is given over its recipe, as TOML has it, and where that was said."""

    path: SettingPath
    value: Any
    origin: str


def load_settings(
    cls: type[Settings],
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    changes: Sequence[Change] = (),
) -> Loaded[Settings]:
    """Read settings from a TOML file, changes to it, and `section.key=value` overrides.

    Args:
        changes: win over the file and over changes before them, and the overrides over all.

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
    for change in changes:
        _require_known(cls, change.path, change.origin)
    overridden = [(*_parse_override(cls, text), f"--set {text}") for text in overrides]
    for path, value, origin in [*((c.path, c.value, c.origin) for c in changes), *overridden]:
        _put(values, path, value)
        for replaced in [known for known in origins if known[: len(path)] == path]:
            del origins[replaced]
        below = _set_paths(value, path) if isinstance(value, dict) else []
        origins |= dict.fromkeys([path, *below], origin)
    problems: list[Problem] = []
    values = expand_presets(cls, values, origins, problems)
    # What a section lacks for want of its preset is no second problem.
    unknown = [problem.path[:-1] for problem in problems]
    try:
        config = check(cls, values)
    except SettingsError as error:
        problems += [
            problem
            for problem in error.problems
            if not any(_is_within(problem.path, path) for path in unknown)
        ]
    else:
        if not problems:
            return Loaded(config, origins)
    raise SettingsError([_with_origin(problem, origins) for problem in problems]) from None


def with_preset(cls: type[Settings], preset: str, **changes: Any) -> Settings:
    """The settings that a preset gives, some of them changed.

    Args:
        changes: settings by name; a section may be made settings, which replace the preset's, or
            a dict of those to change.

    Raises:
        ValueError: for an unknown preset, and for changes that are no settings of `cls`.
    """
    if not presets_of(cls):
        raise ValueError(f"{cls.__name__} has no presets, so none is called {preset!r}")
    plain = json.loads(json.dumps({"preset": preset, **changes}, default=dataclasses.asdict))
    problems: list[Problem] = []
    values = expand_presets(cls, plain, {}, problems)
    if problems:
        raise SettingsError(problems)
    return check(cls, values)


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
    kind = _require_known(cls, path, f"--set {override}")
    takes_text = str in choices_of(kind) or raw in literal_texts(kind)
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return path, raw  # bare text, as people type it
    is_list_of_sections = isinstance(value, list) and item_section(kind) is not None
    if takes_text and not isinstance(value, str) and not is_list_of_sections:
        return path, raw
    return path, value


def _require_known(cls: type, path: SettingPath, origin: str) -> Any:
    """The kind of a setting that there has to be."""
    kind = field_kind(cls, path)
    if kind is None:
        near = nearest_name(path, cls)
        hint = f"; did you mean {near}?" if near else ""
        problem = f"{origin}: unknown setting {'.'.join(path)}{hint}"
        raise SettingsError([Problem(path, problem)])
    return kind


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


def _is_within(one: SettingPath, other: SettingPath) -> bool:
    """Whether one path is inside the other, either way round."""
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _with_origin(problem: Problem, origins: Mapping[SettingPath, str]) -> Problem:
    """Put the place of the nearest enclosing setting before the message."""
    for length in range(len(problem.path), 0, -1):
        origin = origins.get(problem.path[:length])
        if origin:
            return Problem(problem.path, f"{origin}: {problem.message}")
    return problem
