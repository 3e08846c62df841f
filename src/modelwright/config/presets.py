"""Presets: `preset = "small"` in a section stands for the values that its class gives that name.

They are filled in before anything is checked, below what the section sets itself. What a preset
is, and how a class has some, is in `schema.py`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from modelwright.config.schema import (
    Path,
    Problem,
    item_section,
    kinds_in,
    presets_of,
    wrong_kind,
)


def expand_presets(
    cls: type, values: Mapping[str, Any], origins: dict[Path, str], problems: list[Problem]
) -> dict[str, Any]:
    """Plain values with each preset replaced by what it stands for.

    Args:
        origins: where each value was set; gains those that a preset gave, and loses the presets.
        problems: gains one for each preset that there is not; its section is left without.
    """
    return _Expansion(cls, origins, problems).section(cls, values, ())


@dataclasses.dataclass(frozen=True)
class _Expansion:
    root: type
    origins: dict[Path, str]
    problems: list[Problem]

    def section(self, cls: type, values: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """The values of a section and those inside of it, presets replaced."""
        presets = presets_of(cls)
        expanded = dict(values)
        if presets and "preset" in values:
            preset = expanded.pop("preset")
            if isinstance(preset, str) and preset in presets:
                self.origins.pop((*path, "preset"), None)
                expanded = self.laid_over(presets[preset], expanded, path, f"preset {preset}")
            else:
                self.problems.append(wrong_kind(self.root, (*path, "preset"), preset))
        for name, kind in kinds_in(cls).items():
            if name in expanded:
                expanded[name] = self.value(kind, expanded[name], (*path, name))
        return expanded

    def value(self, kind: Any, value: Any, path: Path) -> Any:
        """A value of any kind, the presets inside of it replaced."""
        if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
            return self.section(kind, value, path)  # type: ignore[arg-type]
        section = item_section(kind)
        if section is not None and isinstance(value, list | tuple):
            return [
                self.section(section, item, (*path, str(index)))
                if isinstance(item, Mapping)
                else item
                for index, item in enumerate(value)
            ]
        return value

    def laid_over(
        self, preset: Mapping[str, Any], values: Mapping[str, Any], path: Path, origin: str
    ) -> dict[str, Any]:
        """The preset's values, and over them those set in the section, down to single settings."""
        merged = dict(values)
        for name, value in preset.items():
            below = (*path, name)
            if name not in values:
                self.origins[below] = origin
            if isinstance(value, Mapping):
                over = values.get(name, {})
                if isinstance(over, Mapping):
                    merged[name] = self.laid_over(value, over, below, origin)
            else:
                merged.setdefault(name, value)
        return merged
