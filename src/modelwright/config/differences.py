"""What differs between two configs of the same class, setting by setting."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from modelwright.config.schema import Path, choices_of, dotted, field_kind


@dataclass(frozen=True)
class Difference:
    """One setting with two values; None is a setting, or an item of a list, that is left out."""

    path: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.path}: {_in_words(self.before)} → {_in_words(self.after)}"


def differences(before: Any, after: Any) -> list[Difference]:
    """The settings whose values differ, in the order of definition.

    Lists of sections are compared item by item, in their order.
    """
    assert type(before) is type(after), f"{type(before).__name__} is no {type(after).__name__}"
    return list(_between(type(before), before, after, ()))


def _between(root: type, before: Any, after: Any, path: Path) -> Iterator[Difference]:
    if dataclasses.is_dataclass(before) and type(before) is type(after):
        for field in dataclasses.fields(before):
            one, other = getattr(before, field.name), getattr(after, field.name)
            yield from _between(root, one, other, (*path, field.name))
    elif isinstance(before, tuple) and isinstance(after, tuple) and _has_sections(before + after):
        for index, (one, other) in enumerate(zip_longest(before, after)):
            yield from _between(root, one, other, (*path, str(index)))
    elif not _same(field_kind(root, path), before, after):
        yield Difference(dotted(path), before, after)


def _has_sections(items: tuple[Any, ...]) -> bool:
    return any(dataclasses.is_dataclass(item) for item in items)


def _same(kind: Any, before: Any, after: Any) -> bool:
    """Whether two values mean the same: 1 and 1.0 do, unless the setting tells them apart."""
    tells_apart = int in choices_of(kind)
    return before == after and (not tells_apart or type(before) is type(after))


def _in_words(value: Any) -> str:
    """A value about as TOML has it, on one line."""
    if value is None:
        return "left out"
    if isinstance(value, tuple):
        return "[" + ", ".join(_in_words(item) for item in value) + "]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        inside = (f"{name} = {_in_words(item)}" for name, item in pairs if item is not None)
        return "{" + ", ".join(inside) + "}"
    return json.dumps(value, ensure_ascii=False)
