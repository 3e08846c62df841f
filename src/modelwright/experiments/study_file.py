"""A study read from its file: which variants there are, and the config of each run."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelwright.config.loading import Change, Loaded, SettingPath, key_lines, load_settings
from modelwright.config.schema import field_kind
from modelwright.experiments.search import first_values
from modelwright.experiments.study_config import StudyConfig, allowed_in_names
from modelwright.experiments.study_record import Variant
from modelwright.training.config import RunConfig
from modelwright.training.fine_tuning import with_initial_model

# What runs of a study have otherwise than a run by itself, unless the study says so: nothing is
# written that the comparison does not need, and models share what they have in the same shape.
usual_changes: dict[str, Any] = {
    "initial.draws": "by_name",
    "samples.prompts": [],
    "training.tensorboard": False,
    "checkpoints.keep": 1,
    "checkpoints.keep_best": False,
}


@dataclass(frozen=True)
class Study:
    """A study file, read and checked, and the changes of the command line to all its runs.

    Attributes:
        name: of the study and its folder.
        base: the recipe; None is the default settings.
        overrides: as `--set` takes them.
        common: what all variants have otherwise than the base.
    """

    name: str
    path: Path
    config: StudyConfig
    base: Path | None
    overrides: tuple[str, ...]
    common: tuple[Change, ...]
    variants: tuple[Variant, ...]

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with."""
        if self.config.baseline is not None:
            return self.config.baseline
        return self.variants[0].name

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the runs of each variant."""
        return self.config.each_seed

    def run_config(self, variant: Variant, seed: int) -> RunConfig:
        """The finished config of a run.

        Raises:
            ValueError: if the variant's settings cannot be; the message says where they are from.
        """
        origin = f"{self.path}, variant {variant.name}"
        changes = [Change(_path(name), value, origin) for name, value in variant.changes.items()]
        loaded = self._load([*changes, Change(("seed",), seed, origin)], origin)
        config = with_initial_model(loaded)
        training, evaluation = config.training, config.evaluation
        named = {change.path for change in (*self.common, *changes)} | self._overridden
        if self.config.equal_tokens:
            base = with_initial_model(self._load([], origin))
            n_steps = max(1, round(base.n_tokens / training.batch_tokens))
            # As often for equally many tokens.
            every = evaluation.every_steps * base.training.batch_tokens / training.batch_tokens
            training = dataclasses.replace(training, n_steps=n_steps)
            evaluation = dataclasses.replace(evaluation, every_steps=max(1, round(every)))
        checkpoints = config.checkpoints
        if ("checkpoints", "every_steps") not in named:
            checkpoints = dataclasses.replace(checkpoints, every_steps=training.n_steps)
        return dataclasses.replace(
            config, training=training, evaluation=evaluation, checkpoints=checkpoints
        )

    @property
    def _overridden(self) -> set[SettingPath]:
        return {_path(override.partition("=")[0].strip()) for override in self.overrides}

    def _load(self, changes: Sequence[Change], origin: str) -> Loaded[RunConfig]:
        usual = [Change(_path(name), value, "studies") for name, value in usual_changes.items()]
        all_changes = [*usual, *self.common, *changes]
        with _told_of(self.path, origin):
            return load_settings(RunConfig, self.base, self.overrides, changes=all_changes)


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study file and check every variant of it.

    Args:
        overrides: `section.key=value` of the runs' settings, for all of them.

    Raises:
        FileNotFoundError: if there is no such file, or not the base that it names.
        ValueError: for a setting that is unknown, of the wrong kind, or impossible, of the study or
            of a run; the message names the file and, where it is known, the line.
    """
    with _told_of(path):
        config = load_settings(StudyConfig, path).config
        variants = expand(config)
    base = None
    if config.base is not None:
        base = path.parent / config.base
        if not base.is_file():
            raise FileNotFoundError(
                f"{path} has base = {config.base!r}, but there is no {base}; name a recipe by its "
                "path from the study file"
            )
    study = Study(
        name=config.name or path.stem,
        path=path,
        config=config,
        base=base,
        overrides=tuple(overrides),
        common=common_changes(config.set, path),
        variants=variants,
    )
    _require_free(study)
    names = [variant.name for variant in study.variants]
    if study.baseline not in names:
        raise ValueError(
            f"{path} has baseline = {study.baseline!r}, which is no variant of it; these are: "
            f"{', '.join(names)}"
        )
    for variant in study.variants:
        study.run_config(variant, study.seeds[0])
    if config.bisection.setting is not None:
        study.run_config(bisected(config, config.bisection.trains), study.seeds[0])
    if config.search.n_trials:
        with _told_of(path):
            first = first_values(config.search.settings)
        study.run_config(Variant(name="search", changes=first), study.seeds[0])
    return study


def expand(config: StudyConfig) -> tuple[Variant, ...]:
    """Every named variant at every point of the grid; without either, the base alone.

    Raises:
        ValueError: if a grid is not one, changes what a variant sets, or two come out alike.
    """
    axes = [[(name, value) for value in _values(name, axis)] for name, axis in config.grid.items()]
    named = [(variant.name, flat(variant.set)) for variant in config.variants]
    for name, changes in named:
        for setting in changes.keys() & config.grid.keys():
            raise ValueError(
                f"the variant {name!r} sets {setting}, but the grid goes through values of it; "
                "leave one of the two out"
            )
    only_grid = bool(axes) and not named
    if not named:
        named = [("base", {})]
    made: list[Variant] = []
    for name, changes in named:
        for point in itertools.product(*axes):
            parts = [] if only_grid else [name]
            parts += [value_name(setting, value, list(config.grid)) for setting, value in point]
            made.append(Variant(name="_".join(parts), changes=changes | dict(point)))
    for one, other in itertools.combinations(made, 2):
        if one.name == other.name or one.changes == other.changes:
            same = "name" if one.name == other.name else "settings"
            raise ValueError(
                f"the variants {one.name!r} and {other.name!r} have the same {same}; leave one out"
            )
    return tuple(made)


def bisected(config: StudyConfig, value: float) -> Variant:
    """The variant of a value of the setting whose edge is looked for."""
    setting = config.bisection.setting
    assert setting is not None
    return Variant(name=value_name(setting, value, list(config.grid)), changes={setting: value})


def value_name(setting: str, value: Any, grid: Sequence[str] = ()) -> str:
    """A setting's value as part of a folder's name, such as "peak_lr-0.001".

    Args:
        grid: the settings among which the last part of the name has to tell which one it is.
    """
    last = setting.rpartition(".")[2]
    is_only = sum(other.rpartition(".")[2] == last for other in {*grid, setting}) == 1
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    text = text.lower() if isinstance(value, bool) else text
    kept = "".join(letter if letter in allowed_in_names else "-" for letter in text)
    return f"{last if is_only else setting}-{kept}"


def flat(changes: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by dotted name, whether they are written dotted or as sections."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}.")
        else:
            found[above + name] = value
    return found


def _values(setting: str, axis: Any) -> list[Any]:
    """The values of an axis of a grid."""
    if isinstance(axis, list) and axis:
        return axis
    if isinstance(axis, Mapping) and axis.keys() == {"from", "to", "n"}:
        first, last, n = axis["from"], axis["to"], axis["n"]
        numbers = all(isinstance(one, int | float) and one > 0 for one in (first, last))
        if numbers and isinstance(n, int) and n >= 2:
            return [rounded(first * (last / first) ** (i / (n - 1))) for i in range(n)]
    kind = field_kind(RunConfig, _path(setting))
    example = "[0.001, 0.01]" if kind is float else "[1, 2]" if kind is int else '["a", "b"]'
    raise ValueError(
        f'grid."{setting}" is {axis!r}, but it is a list of values such as {example}, or '
        "{from = 1e-5, to = 1e-1, n = 5} with n values from 2 on, in equal ratios"
    )


def rounded(value: float) -> float:
    """A number of four digits, so that a folder's name tells the whole of it."""
    return float(f"{value:.4g}") if math.isfinite(value) else value


@contextmanager
def _told_of(path: Path, origin: str | None = None) -> Iterator[None]:
    """Have what is wrong with a study's settings name its file, if it does not already."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{origin or path}: {error}") from None


def common_changes(given: Mapping[str, Any], path: Path) -> tuple[Change, ...]:
    """What a file's section `set` changes in all runs, each with the line that says so."""
    lines = key_lines(path.read_text(encoding="utf-8"))
    changes: list[Change] = []
    for name, value in flat(given).items():
        line = lines.get(("set", *_path(name)))
        origin = f"{path}, line {line}" if line else str(path)
        changes.append(Change(_path(name), value, origin))
    return tuple(changes)


def _require_free(study: Study) -> None:
    """Refuse to set for all runs what the variants differ in, and what the study itself decides.

    Raises:
        ValueError: naming the setting.
    """
    varied = {_path(name): variant.name for variant in study.variants for name in variant.changes}
    if study.config.bisection.setting is not None:
        varied[_path(study.config.bisection.setting)] = "the bisection"
    varied |= {_path(name): "the search" for name in study.config.search.settings}
    for path in sorted(study._overridden):
        if path in varied:
            name = ".".join(path)
            raise ValueError(
                f"--set {name} is for all runs, but {study.path} varies it ({varied[path]}); "
                "change the study file"
            )
    if study.config.equal_tokens and ("training", "n_steps") in varied:
        raise ValueError(
            f"{study.path}: training.n_steps varies, but with equal_tokens = true it follows from "
            "training.batch_tokens; leave one of the two out"
        )
    for variant in study.variants if study.config.search.n_trials else ():
        if re.fullmatch(r"trial-\d+", variant.name):
            raise ValueError(
                f"{study.path}: a variant is called {variant.name!r}, as a trial of the search is; "
                "call it otherwise"
            )
    for path in [*study._overridden, *(change.path for change in study.common), *varied]:
        if path == ("seed",):
            raise ValueError(
                f"{study.path}: the seed of a run is one of the study's; set seeds = [...] there"
            )


def _path(name: str) -> SettingPath:
    return tuple(part.strip() for part in name.split("."))
