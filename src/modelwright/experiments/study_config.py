"""What a study file may say."""

import dataclasses
import math
from typing import Any, Literal

from modelwright.config.schema import settings
from modelwright.generation.variety import fewest_to_measure

Changes = dict[str, Any]


allowed_in_names = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+")


def require_folder_name(
    setting: str, name: str | None, becomes: str = "part of a folder's name"
) -> None:
    """Refuse a name that no folder can have."""
    letters = frozenset(name or "")
    if name is not None and (letters <= {"."} or not letters <= allowed_in_names):
        raise ValueError(
            f"{setting} is {name!r}, but it becomes {becomes}; choose letters, digits, '.', '_', "
            "'-' and '+', and not dots alone"
        )


@settings
class VariantConfig:
    """One way of doing it, by name."""

    name: str
    """What it is called in tables, and its part of the names of run folders."""
    set: Changes = dataclasses.field(default_factory=dict)
    """The settings that differ from the base, as "section.key" = value."""

    def __post_init__(self) -> None:
        require_folder_name("variants.name", self.name)


@settings
class BisectionConfig:
    """The value of one setting at which runs begin to diverge, by halving where it may be."""

    setting: str | None = None
    """Which setting, such as "schedule.peak_lr"; left out, nothing is looked for."""
    trains: float = 0.0
    """A value at which no seed diverges."""
    diverges: float = 0.0
    """A value at which at least one seed does."""
    ratio: float = 1.25
    """How near the two have to come: the larger one over the smaller one."""

    def __post_init__(self) -> None:
        if self.setting is None:
            return
        for name in ("trains", "diverges"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"bisection.{name} is {getattr(self, name)}; both ends are numbers above 0, "
                    "such as trains = 1e-3 and diverges = 1e-1"
                )
        if self.trains == self.diverges:
            raise ValueError(
                f"bisection.trains and bisection.diverges are both {self.trains}, so there is "
                "nothing between them"
            )
        if self.ratio <= 1:
            raise ValueError(
                f"bisection.ratio is {self.ratio}; choose a number above 1, such as 1.25"
            )

    def n_between(self, low: float, high: float) -> int:
        """The most values that are tried between two."""
        distance = abs(math.log(high / low)) / math.log(self.ratio)
        return max(0, math.ceil(math.log2(distance) - 1e-9)) if distance > 0 else 0


@settings
class SearchConfig:
    """Settings to be chosen by optuna, which tries where the loss was low; the extra `search`."""

    n_trials: int = 0
    """How many combinations are tried; 0 searches for nothing."""
    settings: Changes = dataclasses.field(default_factory=dict)
    """The settings, each with {from = 1e-4, to = 1e-1, log = true}, whole numbers if both ends are,
    or {choices = [...]}."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How the next combination is found: near what did well, or by chance."""
    seed: int = 1
    """Of the sampler's chance."""
    pruner: Literal["none", "median"] = "none"
    """Whether a trial is stopped whose validation loss is above the median of the others after as
    many steps. Its first seed decides; the others follow only when that is finished."""
    storage: str | None = None
    """Where optuna keeps the trials, as a URL of SQLAlchemy, so that several machines can share a
    search, each with a folder of its own; left out, an SQLite file in the study's folder."""

    def __post_init__(self) -> None:
        if self.n_trials < 0:
            raise ValueError(f"search.n_trials is {self.n_trials}; the least is 0, for no search")
        if not 0 <= self.seed < 2**31:
            raise ValueError(
                f"search.seed is {self.seed}; choose a whole number from 0 to {2**31 - 1}"
            )
        if self.n_trials and not self.settings:
            raise ValueError(
                f"search.n_trials is {self.n_trials}, but search.settings is empty; name a setting "
                'there, such as "schedule.peak_lr" = {from = 1e-4, to = 1e-1, log = true}'
            )


@settings
class BudgetConfig:
    """What the study may take by its plan unless someone says yes to more."""

    hours: float | None = None
    """Hours from start to end, on the devices at hand."""
    usd: float | None = None
    """US dollars at the devices' list prices."""

    def __post_init__(self) -> None:
        for name in ("hours", "usd"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"budget.{name} is {value}; choose a number above 0, or none")


@settings
class DivergenceConfig:
    """When a run counts as diverged, besides a loss or gradient that is no finite number.

    The rule and its reasons are in `divergence.py`.
    """

    after: float = 0.25
    """The share of the run before which nothing is judged."""
    rise: float = 0.5
    """How far the loss has to have risen at some time, in nats per token."""
    prune: bool = True
    """Whether a run ends as soon as it counts as diverged; else only its end is judged."""

    def __post_init__(self) -> None:
        if not 0 <= self.after <= 1:
            raise ValueError(
                f"divergence.after is {self.after}, but it is a share of the run; choose a number "
                "from 0 to 1, such as 0.25"
            )
        if self.rise <= 0:
            raise ValueError(f"divergence.rise is {self.rise}; choose a number above 0, as 0.5")


@settings
class TextsConfig:
    """What a trained model writes, at several temperatures, to be read on the page.

    A few texts are written by the first seed's run of each variant. Eight and more are written by
    every run, and it is measured how varied they are.
    """

    temperatures: tuple[float, ...] = (0.5, 0.8, 1.0, 1.2)
    """At which; none, and nothing is written."""
    prompt: str = ""
    """How each text begins; empty lets the model begin by itself."""
    n_texts: int = 1
    """How many at each temperature."""
    max_tokens: int = 100
    """The longest text, as far as the model's context goes."""
    top_p: float = 1.0
    """Below 1, tokens are drawn from the likeliest ones up to this chance."""

    def __post_init__(self) -> None:
        for name in ("n_texts", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"texts.{name} is {getattr(self, name)}; the least is 1")
        if any(not math.isfinite(one) or one < 0 for one in self.temperatures):
            raise ValueError(
                f"texts.temperatures is {list(self.temperatures)}; choose numbers from 0 on, such "
                "as [0.5, 1.0]"
            )
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError(
                f"texts.temperatures is {list(self.temperatures)}; name none of them twice"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"texts.top_p is {self.top_p}; choose a number above 0 and up to 1")

    def are_written_by(self, *, first_seed: bool) -> bool:
        """Whether a run writes them, by whether it is the first of its variant."""
        return bool(self.temperatures) and (first_seed or self.n_texts >= fewest_to_measure)


@settings
class StudyConfig:
    """A question, and the runs that are to answer it."""

    name: str | None = None
    """What the study and its folder are called; left out, the name of its file."""
    question: str = ""
    """What the runs are to answer, in a sentence."""
    base: str | None = None
    """The recipe that all variants change, by its path from the study file; left out, the default
    settings."""
    set: Changes = dataclasses.field(default_factory=dict)
    """What all variants have otherwise than the base, as "section.key" = value."""
    variants: tuple[VariantConfig, ...] = ()
    """Variants by name; with a grid, each of them at each of its points."""
    grid: Changes = dataclasses.field(default_factory=dict)
    """Settings with a list of values each, or {from = 1e-5, to = 1e-1, n = 5} for n values in equal
    ratios; a variant for every combination."""
    baseline: str | None = None
    """The variant that the others are compared with; left out, the first."""
    seeds: int | tuple[int, ...] = 3
    """How many runs each variant has, or their seeds; the same for all variants."""
    equal_tokens: bool = False
    """Whether variants whose training.batch_tokens differ take as many steps as give each the
    tokens of the base, and measure the loss as often; else all take equally many steps."""
    bisection: BisectionConfig = BisectionConfig()
    search: SearchConfig = SearchConfig()
    budget: BudgetConfig = BudgetConfig()
    divergence: DivergenceConfig = DivergenceConfig()
    texts: TextsConfig = TextsConfig()

    def __post_init__(self) -> None:
        if isinstance(self.seeds, int) and self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; the least is 1, and 3 show a spread")
        if len(set(self.each_seed)) < len(self.each_seed) or not self.each_seed:
            raise ValueError(f"seeds is {list(self.each_seed)}; name at least one, and none twice")
        require_folder_name("name", self.name, "a folder's name")

    @property
    def each_seed(self) -> tuple[int, ...]:
        """The seeds, also where there is only their number."""
        return tuple(range(1, self.seeds + 1)) if isinstance(self.seeds, int) else self.seeds
