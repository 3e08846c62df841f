"""Settings as frozen dataclasses that pydantic reads strictly.

A settings class lives next to the code it configures and is made with `@settings`. Each field
carries its meaning in the string below it, which becomes the description in the JSON Schema.
"""

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin

Settings = TypeVar("Settings")
Path = tuple[str, ...]  # ("schedule", "peak_lr")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def settings(cls: type[Settings]) -> type[Settings]:
    """Make a class of settings: frozen, keyword-only, strict, and no key beyond its own."""
    cls.__pydantic_config__ = {  # type: ignore[attr-defined]
        "extra": "forbid",
        "strict": True,
        "use_attribute_docstrings": True,
        "allow_inf_nan": False,
    }
    return dataclass(frozen=True, kw_only=True)(cls)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a tree of settings: where, and what, in a sentence for people."""

    path: Path
    message: str


class SettingsError(ValueError):
    """What someone wrote cannot be a finished config; carries every problem found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


def check(cls: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Turn plain values (as TOML gives them) into settings.

    Raises:
        SettingsError: naming each setting that is unknown, missing or of the wrong kind.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        # JSON mode, because strict Python mode would want the dataclasses already made.
        return TypeAdapter(cls).validate_json(json.dumps(values))
    except ValidationError as error:
        problems = [
            _problem(cls, values, details)  # type: ignore[arg-type]
            for details in error.errors(include_url=False)
        ]
        raise SettingsError(_deepest(problems)) from None


def json_schema(cls: type) -> dict[str, Any]:
    """The JSON Schema of a settings class, for editors that complete and check TOML."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls).json_schema()


def leaves(config: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every setting of a config with its value, in the order of definition, sections unfolded."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, (*path, field.name))
        else:
            yield (*path, field.name), value


def field_kind(cls: type, path: Path) -> Any:
    """The annotated type of a setting; None if there is no such setting."""
    hints = typing.get_type_hints(cls)
    if not path or path[0] not in hints:
        return None
    kind = hints[path[0]]
    if len(path) == 1:
        return kind
    path = path[1:]
    if path[0].isdigit() and (section := _item_section(kind)):
        kind, path = section, path[1:]
    is_section = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    return field_kind(kind, path) if is_section and path else None


def _item_section(kind: Any) -> type | None:
    """The section that each item of a list is, also where the list is one of several choices."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    for choice in kinds:
        if get_origin(choice) is tuple and dataclasses.is_dataclass(get_args(choice)[0]):
            return get_args(choice)[0]
    return None


def nearest_name(wrong: Path, cls: type) -> str | None:
    """The existing setting that someone most likely meant, dotted; None if nothing is near."""
    known = [".".join(path) for path in _all_paths(cls)]
    close = difflib.get_close_matches(".".join(wrong), known, n=1, cutoff=0.6)
    if not close:  # the right name in the wrong section
        close = [name for name in known if name.rpartition(".")[2] == wrong[-1]]
    return close[0] if close else None


def _all_paths(cls: type, path: Path = ()) -> Iterator[Path]:
    for name, kind in typing.get_type_hints(cls).items():
        yield (*path, name)
        section = kind if dataclasses.is_dataclass(kind) else _item_section(kind)
        if section is not None:
            yield from _all_paths(section, (*path, name))  # type: ignore[arg-type]


def _problem(cls: type, values: Mapping[str, Any], details: Mapping[str, Any]) -> Problem:
    """Say one of pydantic's findings in this project's words."""
    path = _path_in(values, details["loc"])
    name = re.sub(r"\.(\d+)", r"[\1]", ".".join(path))
    match details["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return Problem(path, f"unknown setting {name}" + _suggestion(path, cls))
        case "missing":
            return Problem(path, f"{name} is missing; it is {_kind_in_words(cls, path)}")
        case "value_error":
            return Problem(path, str(details["ctx"]["error"]))
        case _:
            found = _look_up(values, path)
            return Problem(
                path, f"{name} is {json.dumps(found)}, but it is {_kind_in_words(cls, path)}"
            )


def _path_in(values: Any, location: Sequence[str | int]) -> Path:
    """A location without the names of kinds that a choice of kinds adds to it."""
    path: list[str] = []
    for part in location:
        if isinstance(values, dict):
            values = values.get(part)
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part]
        else:
            continue
        path.append(str(part))
    return tuple(path)


def _deepest(problems: list[Problem]) -> list[Problem]:
    """Without the problems of what is no list, or no section, where there is one inside of it."""
    paths = [problem.path for problem in problems]
    return [
        problem
        for problem in problems
        if not any(
            len(path) > len(problem.path) and path[: len(problem.path)] == problem.path
            for path in paths
        )
    ]


def _suggestion(path: Path, cls: type) -> str:
    near = nearest_name(path, cls)
    return f"; did you mean {near}?" if near else ""


def _look_up(values: Any, path: Path) -> Any:
    for part in path:
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


_words: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
}


def _kind_in_words(cls: type, path: Path) -> str:
    kind = field_kind(cls, path)
    return describe_kind(kind) if kind is not None else "a setting"


def describe_kind(kind: Any) -> str:
    """A type as a person would say it: "a whole number", "one of 'rope', 'none'"."""
    origin = get_origin(kind)
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in get_args(kind))
    if origin in (Union, UnionType):
        return " or ".join(describe_kind(part) for part in get_args(kind) if part is not NoneType)
    if origin in (tuple, list):
        item = get_args(kind)[0]
        if dataclasses.is_dataclass(item):
            return "a list of sections"
        return "a list, each item " + describe_kind(item)
    if dataclasses.is_dataclass(kind):
        return "a section of settings"
    return _words.get(kind, getattr(kind, "__name__", str(kind)))
