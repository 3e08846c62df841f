"""Settings as frozen dataclasses that pydantic reads strictly.

A settings class lives next to the code it configures and is made with `@settings`. Each field
carries its meaning in the string below it, which becomes the description in the JSON Schema.

A class may also name sets of values, in a class variable that is no field:

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"small": {"width": 64}}

A recipe then takes one with `preset = "small"` in that section; `loading` fills the values in, so
that a finished config holds each of them and no preset.
"""

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from functools import cache
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
        "json_schema_extra": _with_preset_property,
    }
    return dataclass(frozen=True, kw_only=True)(cls)


def presets_of(cls: type) -> Mapping[str, Mapping[str, Any]]:
    """The named sets of values of a section, as plain values (as TOML gives them); often none."""
    names = {field.name for field in dataclasses.fields(cls)}
    presets = {} if "presets" in names else getattr(cls, "presets", {})
    assert not (presets and "preset" in names), f"{cls.__name__}.preset would hide its presets"
    return presets


def _with_preset_property(schema: dict[str, Any], cls: type) -> None:
    """Let the JSON Schema of a section with presets take `preset`, in place."""
    presets = presets_of(cls)
    if not presets:
        return
    preset = {
        "description": "A named set of values; what else this section sets wins over it.",
        "enum": list(presets),
        "title": "Preset",
        "type": "string",
    }
    schema["properties"] = {"preset": preset, **schema.get("properties", {})}
    required = schema.pop("required", [])
    given = [name for name in required if any(name in values for values in presets.values())]
    if rest := [name for name in required if name not in given]:
        schema["required"] = rest
    if given:  # someone has to give them: the section itself, or a preset
        schema["anyOf"] = [{"required": given}, {"required": ["preset"]}]


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
    from pydantic import ValidationError

    try:
        # JSON mode, because strict Python mode would want the dataclasses already made.
        return _adapter(cls).validate_json(json.dumps(values, default=date_as_text))
    except ValidationError as error:
        problems = [
            _problem(cls, values, details)  # type: ignore[arg-type]
            for details in error.errors(include_url=False)
        ]
        # A choice of kinds fails once for each kind, and each time is told in the same words.
        raise SettingsError(_deepest(list(dict.fromkeys(problems)))) from None


@cache
def _adapter(cls: type) -> Any:
    """Pydantic's reader of a class, which takes longer to make than to use."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def json_schema(cls: type) -> dict[str, Any]:
    """The JSON Schema of a settings class, for editors that complete and check TOML."""
    return _adapter(cls).json_schema()


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
    kinds = kinds_in(cls)
    if not path or path[0] not in kinds:
        return None
    kind = kinds[path[0]]
    if len(path) == 1:
        return kind
    path = path[1:]
    if path[0].isdigit() and (section := item_section(kind)):
        kind, path = section, path[1:]
    is_section = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    return field_kind(kind, path) if is_section and path else None


def kinds_in(cls: type) -> dict[str, Any]:
    """The annotated type of each key of a section: its settings, and `preset` if it has presets."""
    hints = typing.get_type_hints(cls)
    kinds = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    if presets := presets_of(cls):
        kinds["preset"] = Literal[tuple(presets)]  # type: ignore[valid-type]
    return kinds


def item_section(kind: Any) -> type | None:
    """The section that each item of a list is, also where the list is one of several choices."""
    for choice in choices_of(kind):
        if get_origin(choice) is tuple and dataclasses.is_dataclass(get_args(choice)[0]):
            return get_args(choice)[0]
    return None


def choices_of(kind: Any) -> tuple[Any, ...]:
    """The types that a choice of types consists of; of any other type, itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def nearest_name(wrong: Path, cls: type) -> str | None:
    """The existing setting that someone most likely meant, dotted; None if nothing is near."""
    known = [".".join(path) for path in _all_paths(cls)]
    elsewhere = [name for name in known if name.rpartition(".")[2] == wrong[-1]]
    # The right name in the wrong section is a likelier slip than a wrong name.
    close = difflib.get_close_matches(".".join(wrong), elsewhere or known, n=1, cutoff=0.6)
    return next(iter(close + elsewhere), None)


def _all_paths(cls: type, path: Path = ()) -> Iterator[Path]:
    for name, kind in kinds_in(cls).items():
        yield (*path, name)
        section = kind if dataclasses.is_dataclass(kind) else item_section(kind)
        if section is not None:
            yield from _all_paths(section, (*path, name))  # type: ignore[arg-type]


def _problem(cls: type, values: Mapping[str, Any], details: Mapping[str, Any]) -> Problem:
    """Say one of pydantic's findings in this project's words."""
    path = _path_in(values, details["loc"])
    name = dotted(path)
    match details["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return Problem(path, f"unknown setting {name}" + _suggestion(path, cls))
        case "missing":
            return Problem(path, f"{name} is missing; it is {_kind_in_words(cls, path)}")
        case "value_error":
            return Problem(path, str(details["ctx"]["error"]))
        case _:
            return wrong_kind(cls, path, _look_up(values, path))


def date_as_text(value: Any) -> str:
    """A date or time of TOML, for JSON has none; no setting is one."""
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(f"{value!r} is nothing that TOML has")


def wrong_kind(cls: type, path: Path, found: Any) -> Problem:
    """Say of a value that it is none of those which a setting can have."""
    shown = json.dumps(found, default=date_as_text)
    message = f"{dotted(path)} is {shown}, but it is {_kind_in_words(cls, path)}"
    texts = {text.lower(): text for text in literal_texts(field_kind(cls, path))}
    close = difflib.get_close_matches(str(found).lower(), texts, n=1)
    return Problem(path, message + (f"; did you mean {texts[close[0]]!r}?" if close else ""))


def dotted(path: Path) -> str:
    """A path as people write it: data.source[0].weight."""
    return re.sub(r"\.(\d+)", r"[\1]", ".".join(path))


def literal_texts(kind: Any) -> list[str]:
    """The words that a setting can be, of which "auto" is the most frequent."""
    literals = [choice for choice in choices_of(kind) if get_origin(choice) is Literal]
    words = [word for literal in literals for word in get_args(literal)]
    return [word for word in words if isinstance(word, str)]


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
}


def _kind_in_words(cls: type, path: Path) -> str:
    kind = field_kind(cls, path)
    return describe_kind(kind) if kind is not None else "a setting"


def describe_kind(kind: Any) -> str:
    """A type as a person would say it: "a whole number or 'auto'", "one of 'rope', 'none'"."""
    if get_origin(kind) is Literal and len(get_args(kind)) > 1:
        return "one of " + ", ".join(repr(choice) for choice in get_args(kind))
    ways = [way for choice in choices_of(kind) for way in _ways(choice)]
    if _words[float] in ways and _words[int] in ways:
        ways.remove(_words[int])
    *first, last = ways
    return f"{', '.join(first)} or {last}" if first else last


def _ways(kind: Any) -> list[str]:
    """What a value of a type that is no choice of types can be, each in words."""
    origin = get_origin(kind)
    if kind is NoneType:
        return []  # nothing that could be written down
    if kind is bool:
        return ["true", "false"]
    if origin is Literal:
        return [repr(choice) for choice in get_args(kind)]
    if origin in (tuple, list):
        item = get_args(kind)[0]
        if dataclasses.is_dataclass(item):
            return ["a list of sections"]
        return ["a list, each item " + describe_kind(item)]
    if dataclasses.is_dataclass(kind):
        return ["a section of settings"]
    return [_words.get(kind, getattr(kind, "__name__", str(kind)))]
