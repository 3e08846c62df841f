"""What a study is made of and what became of its runs: all that its report is drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Outcome = Literal["finished", "diverged", "stopped", "failed", "missing"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of doing it: a base recipe with some settings changed."""

    name: str
    changes: Mapping[str, object]  # dotted setting to value; empty for the base itself


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One variant trained with one seed."""

    variant: str
    seed: int
    folder: Path  # the run folder, with its metrics and config; need not exist yet
    outcome: Outcome
    reason: str | None = None  # why it did not finish
    final: Mapping[str, float] = field(default_factory=dict)  # the newest figures of its metrics


@dataclass(frozen=True, kw_only=True)
class FoundEdge:
    """What a search for where runs begin to diverge has come to.

    Attributes:
        trains: the value of the setting nearest to the edge at which no run diverged.
        diverges: the value nearest to it at which one did; either is None where there is none.
        is_found: whether the search is over and both are known.
        note: what the search says of itself.
    """

    setting: str
    trains: float | None
    diverges: float | None
    is_found: bool
    note: str


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """A question, the variants that are to answer it, and their runs."""

    name: str
    question: str
    baseline: str  # the variant that the others are compared with
    variants: tuple[Variant, ...]
    runs: tuple[StudyRun, ...]
    edge: FoundEdge | None = None  # where a bisection was asked for

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"two variants of {self.name} have one name among {names}")
        for name in (self.baseline, *(run.variant for run in self.runs)):
            if name not in names:
                raise ValueError(f"{name!r} is not a variant of {self.name}; these are: {names}")
        if self.edge is not None and self.edge.is_found:
            known = self.along(self.edge.setting)
            for value in (self.edge.trains, self.edge.diverges):
                if value not in known:
                    raise ValueError(
                        f"the edge of {self.name} is at {self.edge.setting} = {value}, which no "
                        f"variant has; these are: {sorted(known)}"
                    )

    def along(self, setting: str) -> dict[float, Variant]:
        """The variants that change one numeric setting and nothing else, by its value."""
        return {
            float(str(variant.changes[setting])): variant
            for variant in self.variants
            if list(variant.changes) == [setting]
        }

    def runs_of(self, variant: str) -> tuple[StudyRun, ...]:
        """The runs of a variant, in the order of their seeds."""
        runs = (run for run in self.runs if run.variant == variant)
        return tuple(sorted(runs, key=lambda run: run.seed))
