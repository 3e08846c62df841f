"""A ladder: models of several sizes, each trained for several budgets, to fit a scaling law to.

Each run has a schedule of its own that ends with its budget, as Hoffmann et al. 2022 (section 3.1)
found necessary: a run cut out of a longer schedule has not cooled down and looks worse than its
tokens allow. A trunk that stays at the peak and decays once for each budget would save what the
shorter runs cost, a quarter of a ladder whose budgets differ by factors of three, and would tie
the ladder to one kind of schedule; runs of their own take any.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modelwright.accounting.flops import training_flops
from modelwright.accounting.law_fit import why_undetermined
from modelwright.accounting.parameters import count_parameters
from modelwright.config.loading import load_settings
from modelwright.config.schema import settings
from modelwright.data.folder import Data
from modelwright.experiments.study_config import (
    Changes,
    StudyConfig,
    TextsConfig,
    require_folder_name,
)
from modelwright.experiments.study_file import Study, common_changes, flat
from modelwright.experiments.study_record import Variant
from modelwright.training.assembly import make_cut, model_config
from modelwright.training.config import RunConfig

Count = Literal["all", "non_embedding"]

fewest_steps = 10  # fewer leave no schedule to speak of
check_name = "check"  # how the name of a run outside the fit ends
# By the ladder, and from what of it.
decided = {
    "seed": "seeds",
    "training.n_steps": "the budgets",
    "evaluation.every_steps": "n_evaluations",
}


@settings
class SizeConfig:
    """One size of model: what differs from the base recipe."""

    name: str | None = None
    """What runs of this size are called; left out, its width and layers."""
    preset: str | None = None
    """A named model, such as "gpt2-small"; what else is given here wins over it."""
    d_model: int | None = None
    """Width of the residual stream."""
    n_layers: int | None = None
    """Number of blocks."""
    n_heads: int | None = None
    """Attention heads in a block."""
    d_ff: int | None = None
    """Width inside the MLP; left out, the usual multiple of d_model."""
    set: Changes = dataclasses.field(default_factory=dict)
    """Other settings of this size, as "section.key" = value, such as a learning rate of its own."""

    def __post_init__(self) -> None:
        require_folder_name("size.name", self.name)
        for setting in flat(self.set):
            require_undecided(setting, "a size")

    @property
    def changes(self) -> dict[str, Any]:
        """All of it, by dotted name."""
        named = ("preset", "d_model", "n_layers", "n_heads", "d_ff")
        values = {f"model.{name}": getattr(self, name) for name in named}
        return {name: value for name, value in values.items() if value is not None} | flat(self.set)


@settings
class BudgetConfig:
    """How long each size is trained; exactly one of flops, tokens and tokens_per_parameter."""

    name: str | None = None
    """What runs of this budget are called; left out, the number."""
    flops: float | None = None
    """Work of each run, forward and backward; the smaller the model, the more tokens it gets."""
    tokens: float | None = None
    """Tokens of each run, whatever its size."""
    tokens_per_parameter: float | None = None
    """Tokens of each run for each parameter, embeddings included."""
    sizes: tuple[str, ...] = ()
    """Names of the sizes that are trained for it; left out, all of them."""

    def __post_init__(self) -> None:
        require_folder_name("budget.name", self.name)
        given = {name: value for name, value in self._ways().items() if value is not None}
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(
                f"a budget is one of flops, tokens and tokens_per_parameter, but {found} is given; "
                "write for example flops = 1e15"
            )
        (way, value), *_ = given.items()
        if value <= 0:
            raise ValueError(f"budget.{way} is {value}; choose a number above 0, such as 1e15")

    def _ways(self) -> dict[str, float | None]:
        return {
            "flops": self.flops,
            "tokens": self.tokens,
            "tokens_per_parameter": self.tokens_per_parameter,
        }

    @property
    def title(self) -> str:
        """Its name, or its number: "1e15", "20M", "20x"."""
        if self.name is not None:
            return self.name
        if self.flops is not None:
            return re.sub(r"e\+?0*(\d)", r"e\1", f"{self.flops:.3g}")
        if self.tokens is not None:
            return f"{self.tokens / 1e6:g}M"
        return f"{self.tokens_per_parameter:g}x"

    def n_tokens(self, n_parameters: int, flops_per_token: float) -> float:
        if self.flops is not None:
            return self.flops / flops_per_token
        if self.tokens is not None:
            return self.tokens
        assert self.tokens_per_parameter is not None
        return self.tokens_per_parameter * n_parameters


@settings
class CheckConfig:
    """One larger run outside the fit, by which its forecast is judged."""

    size: SizeConfig
    """Its model."""
    budget: BudgetConfig
    """Its length."""


@settings
class LadderConfig:
    """Which models are trained for how long, and how the law is fitted."""

    name: str | None = None
    """What the ladder and its folder are called; left out, the name of its file."""
    base: str | None = None
    """The recipe that all runs share, by its path from this file; left out, the default
    settings."""
    set: Changes = dataclasses.field(default_factory=dict)
    """What all runs have otherwise than the base, as "section.key" = value."""
    size: tuple[SizeConfig, ...]
    """The sizes."""
    budget: tuple[BudgetConfig, ...]
    """The budgets."""
    seeds: int | tuple[int, ...] = 1
    """How many runs each size and budget has, or their seeds."""
    check: CheckConfig | None = None
    """A larger run to check the forecast with; trained with --check."""
    count: Count = "all"
    """Which parameters are N: all, or those that are no embedding or unembedding. The other one
    is fitted too and shown beside it."""
    repeats: Literal["refuse", "leave_out", "allow"] = "refuse"
    """What becomes of runs that would see a token twice: nothing begins, they are left out, or
    they are trained all the same and the law is one of repeated text."""
    n_evaluations: int = 1
    """How often the validation loss is measured on the way of each run, the last step included."""
    level: float = 0.95
    """Chance with which intervals hold."""
    n_draws: int = 500
    """Resampled fits that the intervals come from."""
    resampling: Literal["residuals", "runs"] = "residuals"
    """What is drawn anew for each of them: the scatter around the law, or the runs themselves."""

    def __post_init__(self) -> None:
        for name in ("size", "budget"):
            if not getattr(self, name):
                raise ValueError(f"the ladder has no {name}; give at least one [[{name}]]")
        if self.n_evaluations < 1:
            raise ValueError(f"n_evaluations is {self.n_evaluations}; the least is 1")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}, but it is a chance; choose one such as 0.95")
        if self.n_draws < 100:
            raise ValueError(
                f"n_draws is {self.n_draws}; the least is 100, or intervals jump about"
            )
        require_folder_name("name", self.name)
        for setting in flat(self.set):
            require_undecided(setting)


def require_undecided(setting: str, whose: str = "all runs") -> None:
    """Refuse a setting that the ladder itself decides."""
    if setting in decided:
        raise ValueError(
            f"{setting} is set for {whose}, but it follows from {decided[setting]} of the ladder; "
            "leave it out"
        )


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The runs as a study, whose variants are a size and a budget each.

    Attributes:
        fitted: names of the variants that the law is fitted to; the others check it.
        left_out: a sentence for each run that would repeat text.
        repeating: a sentence for each run that does.
        undetermined: why no law will follow from the fitted runs, however they end; empty if one
            may.
        n_unique_tokens: that a run can see before it sees one again.
    """

    study: Study
    config: LadderConfig
    fitted: tuple[str, ...]
    left_out: tuple[str, ...]
    repeating: tuple[str, ...]
    undetermined: str
    n_unique_tokens: int


def load_ladder(path: Path) -> LadderConfig:
    """Read a ladder's file.

    Raises:
        FileNotFoundError, ValueError: as `load_settings` does.
    """
    return load_settings(LadderConfig, path).config


def shared_study(path: Path, ladder: LadderConfig, overrides: Sequence[str] = ()) -> Study:
    """A study with what all runs share and the base as its only variant.

    Args:
        path: of the ladder's file, from where its base recipe is found.
        overrides: changes from the command line, which win.

    Raises:
        FileNotFoundError: if there is no such base.
        ValueError: if an override is of what the ladder decides or its sizes differ in.
    """
    sizes = [*ladder.size, *([] if ladder.check is None else [ladder.check.size])]
    varied = {setting for size in sizes for setting in size.changes}
    for override in overrides:
        setting = override.partition("=")[0].strip()
        if setting != "evaluation.every_steps":  # which --set may change, as it wins over all
            require_undecided(setting)
        if setting in varied:
            raise ValueError(
                f"--set {setting} is for all runs, but {path} has a size with a value of its own; "
                "change it there"
            )
    base = None if ladder.base is None else path.parent / ladder.base
    if base is not None and not base.is_file():
        raise FileNotFoundError(
            f"{path} has base = {ladder.base!r}, but there is no {base}; name a recipe by its "
            "path from the ladder's file"
        )
    name = ladder.name or path.stem
    return Study(
        name=name,
        path=path,
        config=StudyConfig(
            name=name,
            base=ladder.base,
            set=ladder.set,
            seeds=ladder.seeds,
            texts=TextsConfig(temperatures=()),  # which the page about a ladder has no place for
        ),
        base=base,
        overrides=tuple(overrides),
        common=common_changes(ladder.set, path),
        variants=(Variant(name="base", changes={}),),
    )


def lay_out(study: Study, ladder: LadderConfig, data: Data, *, with_check: bool = False) -> Ladder:
    """Each size at each budget as a variant of a study.

    Args:
        study: as `shared_study` gives it.
        data: the shards that all runs learn from.
        with_check: also the run outside the fit.

    Raises:
        ValueError: if two sizes have one name, if a run would be too short, or if one would
            repeat text and the ladder refuses that; the message names the tokens there are.
    """
    maker = _Maker(study, ladder, data)
    steps: list[_Step] = []
    for name, size in maker.named_sizes().items():
        for budget in ladder.budget:
            if not budget.sizes or name in budget.sizes:
                steps.append(maker.step(name, size, budget))
    fitted = {step.variant.name for step in steps}
    if len(fitted) < len(steps):
        raise ValueError("two budgets of the ladder have the same name; give each one of its own")
    if with_check:
        if ladder.check is None:
            raise ValueError(
                f"{study.path} has no [check] section, so there is no run to check the forecast "
                "with; add [check.size] and [check.budget]"
            )
        size = ladder.check.size
        steps.append(maker.step(maker.name_of(size), size, ladder.check.budget, f"-{check_name}"))
    said = {step.variant.name: maker.repetition(step) for step in steps}
    repeating = tuple(sentence for sentence in said.values() if sentence)
    if repeating and ladder.repeats == "refuse":
        raise ValueError(
            f"{len(repeating)} of {len(steps)} runs would see text twice, and a law of unique "
            f"tokens says nothing of that: {repeating[0]}; lower the budget, take more text, or "
            "set repeats = 'leave_out' (or 'allow')"
        )
    if ladder.repeats == "leave_out":
        steps = [step for step in steps if not said[step.variant.name]]
    if not steps:
        raise ValueError(f"every run of {study.path} would see text twice: {repeating[0]}")
    in_fit = [step for step in steps if step.variant.name in fitted]
    return Ladder(
        study=dataclasses.replace(study, variants=tuple(step.variant for step in steps)),
        config=ladder,
        fitted=tuple(step.variant.name for step in in_fit),
        left_out=repeating if ladder.repeats == "leave_out" else (),
        repeating=repeating if ladder.repeats == "allow" else (),
        undetermined=why_undetermined(
            [(step.n_parameters, step.config.n_tokens) for step in in_fit for _ in study.seeds]
        ),
        n_unique_tokens=maker.n_unique_tokens(steps[0].config),
    )


@dataclass(frozen=True)
class _Step:
    """A variant, and what is needed to judge it before it is trained."""

    variant: Variant
    config: RunConfig
    n_parameters: int


@dataclass(frozen=True)
class _Maker:
    study: Study
    ladder: LadderConfig
    data: Data

    def named_sizes(self) -> dict[str, SizeConfig]:
        """The sizes by name.

        Raises:
            ValueError: if two share one, or a budget names a size that there is not.
        """
        named: dict[str, SizeConfig] = {}
        for size in self.ladder.size:
            name = self.name_of(size)
            if name in named:
                raise ValueError(f"two sizes of the ladder are called {name!r}; give each a name")
            named[name] = size
        for budget in self.ladder.budget:
            unknown = [name for name in budget.sizes if name not in named]
            if unknown:
                raise ValueError(
                    f"budget {budget.title} names the size {unknown[0]!r}; the sizes are "
                    f"{', '.join(named)}"
                )
        return named

    def name_of(self, size: SizeConfig) -> str:
        if size.name is not None:
            return size.name
        model = self._config(size.changes).model
        return f"{model.d_model}x{model.n_layers}"

    def step(self, name: str, size: SizeConfig, budget: BudgetConfig, ending: str = "") -> _Step:
        """A size at a budget.

        Raises:
            ValueError: if it would take too few steps.
        """
        sized = self._config(size.changes)
        shape = model_config(sized, self.data.tokenizer)
        step_flops = training_flops(shape, batch=sized.batch_size, seq=shape.context)
        batch_tokens = sized.training.batch_tokens
        n_parameters = count_parameters(shape).total
        n_tokens = budget.n_tokens(n_parameters, step_flops / batch_tokens)
        n_steps = round(n_tokens / batch_tokens)
        whole = f"{name}_{budget.title}{ending}"
        if n_steps < fewest_steps:
            raise ValueError(
                f"the run {whole} would have {n_steps} steps of {batch_tokens:,} tokens; raise the "
                f"budget to at least {fewest_steps * step_flops:.2g} FLOPs for this size, or make "
                "training.batch_tokens smaller"
            )
        changes = size.changes | {
            "training.n_steps": n_steps,
            "evaluation.every_steps": math.ceil(n_steps / self.ladder.n_evaluations),
        }
        return _Step(Variant(name=whole, changes=changes), self._config(changes), n_parameters)

    def n_unique_tokens(self, config: RunConfig) -> int:
        """That a run sees before it sees one again."""
        cut = make_cut(config, self.data.train, self.data.tokenizer)
        return len(cut) * config.model.context

    def repetition(self, step: _Step) -> str:
        """By how much a run sees text twice, in a sentence; empty if it does not."""
        there, wanted = self.n_unique_tokens(step.config), step.config.n_tokens
        if wanted <= there:
            return ""
        return (
            f"{step.variant.name} wants {wanted:,} tokens, but {self.data.folder} has {there:,} to "
            "learn from"
        )

    def _config(self, changes: Mapping[str, Any]) -> RunConfig:
        variant = Variant(name="size", changes=changes)
        return self.study.run_config(variant, self.study.seeds[0])
