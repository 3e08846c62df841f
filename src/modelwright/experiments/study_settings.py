"""Which settings the variants of a study differ in, and along which numbers they lie."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelwright.config.differences import differences
from modelwright.experiments.study_results import Results, VariantResult
from modelwright.training.config import RunConfig

fewest_values = 3  # of a setting, for a curve over it


@dataclass(frozen=True, kw_only=True)
class Line:
    """Variants that differ in one numeric setting alone, by its rising value."""

    label: str  # what they have in common; empty if that is the base
    points: tuple[tuple[float, VariantResult], ...]


@dataclass(frozen=True, kw_only=True)
class NumericAxis:
    """A numeric setting, and the lines of variants along it."""

    setting: str
    lines: tuple[Line, ...]

    @property
    def values(self) -> list[float]:
        return sorted({value for line in self.lines for value, _ in line.points})


def numeric_axes(results: Results, *, fewest: int = fewest_values) -> list[NumericAxis]:
    """The numeric settings that take several values while all others stand still.

    Args:
        fewest: values that at least one line has.
    """
    settings = {name for one in results.variants for name in one.variant.changes}
    axes = [
        NumericAxis(setting=setting, lines=tuple(_lines(results, setting, fewest)))
        for setting in sorted(settings)
    ]
    return [axis for axis in axes if axis.lines]


def ordering_axis(results: Results) -> NumericAxis | None:
    """The one numeric setting that tells all the variants apart, if there is one."""
    for axis in numeric_axes(results, fewest=2):
        if len(axis.lines) == 1 and len(axis.lines[0].points) == len(results.variants):
            return axis
    return None


def _lines(results: Results, setting: str, fewest: int) -> list[Line]:
    found: dict[str, list[tuple[float, VariantResult]]] = {}
    for one in results.variants:
        value = value_of(results, one, setting)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        others = {name: x for name, x in one.variant.changes.items() if name != setting}
        found.setdefault(in_words(others), []).append((float(value), one))
    return [
        Line(label=label, points=tuple(sorted(points, key=lambda point: point[0])))
        for label, points in found.items()
        if len({value for value, _ in points}) >= fewest
    ]


def value_of(results: Results, one: VariantResult, setting: str) -> Any:
    """What a variant has for a setting: its change, or else what stands in its config."""
    if setting in one.variant.changes:
        return one.variant.changes[setting]
    config = one.config or results.baseline.config
    return setting_in(config, setting) if config is not None else None


def setting_in(config: RunConfig, setting: str) -> Any:
    """The value at a dotted name; None if there is no such setting."""
    value: Any = config
    for name in setting.split("."):
        value = getattr(value, name, None)
    return value


def in_words(changes: Mapping[str, Any]) -> str:
    """Changes by the last part of their names: "norm none, peak_lr 0.001"."""
    return ", ".join(f"{name.rpartition('.')[2]} {shown(x)}" for name, x in changes.items())


def shown(value: Any) -> str:
    """A value of a setting on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "left out"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or "none"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return in_words({k: v for k, v in dataclasses.asdict(value).items() if v is not None})
    return str(value)


def differing_settings(results: Results) -> tuple[list[str], list[list[str]]]:
    """The settings in which any variant differs from the baseline.

    They are those of the configs that were trained with, so what follows from a change is there
    too; of a variant without a run, only what it changes.

    Returns:
        The settings, and for each variant, in order, its values in words.
    """
    base = results.baseline.config
    named = [name for one in results.variants for name in one.variant.changes]
    names = dict.fromkeys(named)
    values: list[dict[str, str]] = []
    for one in results.variants:
        changed = {name: shown(value) for name, value in one.variant.changes.items()}
        if base is not None and one.config is not None:
            for found in differences(base, one.config):
                if found.path != "seed":
                    changed.setdefault(found.path, shown(found.after))
        names |= dict.fromkeys(changed)
        values.append(changed)

    def cell(one: VariantResult, changed: Mapping[str, str], name: str) -> str:
        if name in changed:
            return changed[name]
        if one.config is None and name not in named:
            return "–"  # follows from a change, and no run says to what
        config = one.config or base
        return shown(setting_in(config, name)) if config is not None else ""

    rows = [
        [cell(one, changed, name) for name in names]
        for one, changed in zip(results.variants, values, strict=True)
    ]
    telling = [n for n in range(len(names)) if len({row[n] for row in rows}) > 1]
    return [list(names)[n] for n in telling], [[row[n] for n in telling] for row in rows]
