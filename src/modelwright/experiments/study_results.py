"""What the runs of a study came to, read from their folders, and each variant judged."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from modelwright.config.loading import load_settings
from modelwright.experiments.plots import with_number
from modelwright.experiments.statistics import Comparison, Outcomes, Question, judge
from modelwright.experiments.study_record import Outcome, StudyRecord, StudyRun, Variant
from modelwright.experiments.study_texts import read_texts
from modelwright.generation.temperatures import AtTemperature
from modelwright.planning.foresight import read_plan
from modelwright.planning.verify import read_verified, verify_file
from modelwright.training.config import RunConfig
from modelwright.training.metrics import config_file, facts_file, metrics_file, read_metrics

Measure = Literal["validation_loss", "validation_bits_per_byte", "loss"]

measures: dict[Measure, tuple[str, str]] = {
    "validation_loss": ("final validation loss", "nats per token"),
    "validation_bits_per_byte": ("final validation loss", "bits per byte"),
    "loss": ("training loss over the last tenth of the steps", "nats per token"),
}
worthwhile_share = 0.01  # of the baseline's mean: what counts as a difference if nobody says
last_share = 0.1  # of the steps, whose mean stands for a training loss


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run as far as it got; a run that was never begun has nothing but its record.

    Attributes:
        texts: what its model wrote in the end, at each temperature.
    """

    run: StudyRun
    records: list[dict[str, Any]] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    config: RunConfig | None = None
    plan: Mapping[str, Any] | None = None
    verified: Mapping[str, Any] | None = None
    texts: Sequence[AtTemperature] = ()

    @property
    def outcome(self) -> Outcome:
        return self.run.outcome

    @cached_property
    def trained(self) -> list[dict[str, Any]]:
        """The records of steps that were taken."""
        return with_number(self.records, "loss")

    @property
    def n_steps(self) -> int:
        return self.trained[-1]["step"] if self.trained else 0

    @property
    def n_tokens(self) -> int:
        return self.trained[-1].get("n_tokens", 0) if self.trained else 0

    @property
    def seconds(self) -> float:
        """In steps, without what is between them."""
        return self.trained[-1].get("seconds", 0.0) if self.trained else 0.0

    @property
    def step_flops(self) -> float | None:
        return self.facts.get("step_flops")

    def final(self, measure: Measure) -> float | None:
        """The figure it is compared by; of a run whose folder is gone, what the study noted."""
        if not self.records:
            noted = self.run.final.get(measure)
            return noted if noted is not None and math.isfinite(noted) else None
        if measure == "loss":
            if not self.trained:
                return None
            n = math.ceil(last_share * len(self.trained))
            return statistics.fmean(record["loss"] for record in self.trained[-n:])
        measured = with_number(self.records, measure)
        return measured[-1][measure] if measured else None

    @cached_property
    def samples(self) -> tuple[int, list[str]]:
        """What the model wrote last, and after which step; nothing if it never did."""
        told = [record for record in self.records if record.get("samples")]
        return (told[-1]["step"], told[-1]["samples"]) if told else (0, [])


@dataclass(frozen=True, kw_only=True)
class VariantResult:
    """A variant with its runs, in the order of their seeds."""

    variant: Variant
    runs: tuple[RunResult, ...]
    outcomes: Outcomes

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def finals(self) -> list[float]:
        return list(self.outcomes.finals.values())

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.finals) if self.finals else None

    @property
    def deviation(self) -> float | None:
        """Of the final figures over seeds, with n - 1."""
        return statistics.stdev(self.finals) if len(self.finals) > 1 else None

    @property
    def begun(self) -> list[RunResult]:
        """The runs that took a step."""
        return [run for run in self.runs if run.trained]

    @property
    def finished(self) -> list[RunResult]:
        return [run for run in self.begun if run.outcome == "finished"]

    @property
    def run_seconds(self) -> float | None:
        """The mean time of those that finished; of all that began only where none did."""
        seconds = [run.seconds for run in self.finished or self.begun]
        return statistics.fmean(seconds) if seconds else None

    @property
    def config(self) -> RunConfig | None:
        """Of its first run that has one; its runs differ in the seed alone."""
        return next((run.config for run in self.runs if run.config is not None), None)


@dataclass(frozen=True, kw_only=True)
class Results:
    """A study and what it came to.

    Attributes:
        comparisons: of every variant but the baseline, by its name.
    """

    study: StudyRecord
    measure: Measure
    question: Question
    variants: tuple[VariantResult, ...]
    comparisons: Mapping[str, Comparison]
    notes: tuple[str, ...] = ()

    @property
    def baseline(self) -> VariantResult:
        return next(one for one in self.variants if one.name == self.study.baseline)

    @property
    def others(self) -> list[VariantResult]:
        return [one for one in self.variants if one.name != self.study.baseline]

    @property
    def runs(self) -> list[RunResult]:
        return [run for one in self.variants for run in one.runs]

    @property
    def measure_name(self) -> str:
        return measures[self.measure][0]

    @property
    def unit(self) -> str:
        return measures[self.measure][1]


def compare(
    study: StudyRecord,
    *,
    worthwhile: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Results:
    """Read the runs of a study and judge every variant against the baseline.

    Args:
        worthwhile: the smallest difference worth knowing of; None is a hundredth of the baseline's
            mean.
        alpha: the chance of one false verdict or more among all variants.
        power: the chance with which a worthwhile difference is to show.

    Raises:
        ValueError: if no run of the study has a result, or a run's record is damaged.
    """
    runs = {variant.name: _read_runs(study, variant.name) for variant in study.variants}
    measure = _measure([run for those in runs.values() for run in those])
    variants = tuple(
        VariantResult(
            variant=variant,
            runs=runs[variant.name],
            outcomes=_outcomes(variant.name, runs[variant.name], measure),
        )
        for variant in study.variants
    )
    if not any(one.outcomes.judged for one in variants):
        outcomes = sorted({run.outcome for run in study.runs})
        raise ValueError(
            f"no run of {study.name} has come to an end yet ({', '.join(outcomes) or 'no runs'}), "
            "so there is nothing to compare"
        )
    baseline = next(one for one in variants if one.name == study.baseline)
    if worthwhile is None:
        # Without a baseline there is no verdict on a difference either.
        means = [one.mean for one in (baseline, *variants) if one.mean is not None]
        worthwhile = worthwhile_share * abs(means[0]) if means else worthwhile_share
    question = Question(worthwhile=worthwhile, alpha=alpha, power=power)
    others = [one.outcomes for one in variants if one.name != study.baseline]
    judged = judge(baseline.outcomes, others, question)
    return Results(
        study=study,
        measure=measure,
        question=question,
        variants=variants,
        comparisons={one.variant: one for one in judged},
        notes=tuple(_notes(variants, measure)),
    )


def _read_runs(study: StudyRecord, variant: str) -> tuple[RunResult, ...]:
    return tuple(read_run(run) for run in study.runs_of(variant))


def read_run(run: StudyRun) -> RunResult:
    """What a run left in its folder, if that is there.

    Raises:
        ValueError: if something there is damaged.
    """
    folder = run.folder
    if not (folder / metrics_file).is_file():
        return RunResult(run=run)
    return RunResult(
        run=run,
        records=read_metrics(folder),
        facts=_facts(folder / facts_file),
        config=_config(folder / config_file),
        plan=read_plan(folder),
        verified=read_verified(folder) if (folder / verify_file).is_file() else None,
        texts=read_texts(folder),
    )


def _facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path} is not JSON; bring it back from a copy") from None


def _config(path: Path) -> RunConfig | None:
    return load_settings(RunConfig, path).config if path.is_file() else None


def _measure(runs: Sequence[RunResult]) -> Measure:
    """What all finished runs have: per byte if their tokens are not the same."""
    finished = [run for run in runs if run.outcome == "finished"]
    per_byte = have_other_tokens(finished)
    wanted: Measure = "validation_bits_per_byte" if per_byte else "validation_loss"
    return wanted if all(run.final(wanted) is not None for run in finished) else "loss"


def have_other_tokens(runs: Iterable[RunResult]) -> bool:
    """Whether losses per token of these runs are not of the same tokens."""
    return len({run.facts["tokenizer"] for run in runs if "tokenizer" in run.facts}) > 1


def _outcomes(name: str, runs: Sequence[RunResult], measure: Measure) -> Outcomes:
    finals: dict[int, float] = {}
    diverged: set[int] = set()
    absent: dict[int, str] = {}
    for run in runs:
        seed, final = run.run.seed, run.final(measure)
        if run.outcome == "diverged":
            diverged.add(seed)
        elif run.outcome == "finished" and final is not None:
            finals[seed] = final
        elif run.outcome == "finished":
            absent[seed] = "has no metrics"
        elif run.outcome == "stopped" and run.n_steps:
            absent[seed] = f"stopped after step {run.n_steps:,}"
        else:
            absent[seed] = {"failed": "failed", "missing": "is missing"}.get(run.outcome, "stopped")
    return Outcomes(name=name, finals=finals, diverged=frozenset(diverged), absent=absent)


def _notes(variants: Sequence[VariantResult], measure: Measure) -> list[str]:
    """What makes the runs less comparable than they look."""
    finished = [run for one in variants for run in one.finished]
    notes: list[str] = []
    if measure == "validation_bits_per_byte":
        notes.append("The tokenizers differ, so losses are compared per byte, not per token.")
    elif have_other_tokens(finished):
        notes.append(
            "The tokenizers differ, but not every run has a loss per byte: compared are losses per "
            "token, which are not of the same tokens."
        )
    texts = {json.dumps(run.facts["data"], sort_keys=True) for run in finished if run.facts}
    if len(texts) > 1:
        notes.append("The runs did not all have the same data.")
    machines = {_machine(run.facts) for run in finished if run.facts}
    if len(machines) > 1:
        notes.append(f"Times are not of one machine: {'; '.join(sorted(machines))}.")
    n_tokens = {run.n_tokens for run in finished}
    if len(n_tokens) > 1:
        notes.append(
            f"The runs did not see equally many tokens: {min(n_tokens):,} to {max(n_tokens):,}."
        )
    return notes


def _machine(facts: Mapping[str, Any]) -> str:
    machine = facts.get("machine", {})
    return machine.get("gpu") or machine.get("processor") or "an unknown machine"


def machines_of(results: Results) -> list[str]:
    """On what the runs were carried out, each once."""
    return sorted({_machine(run.facts) for run in results.runs if run.facts})


def same_but_seed(one: RunConfig, other: RunConfig) -> bool:
    """Whether two configs are of the same variant."""
    return dataclasses.replace(one, seed=other.seed) == other
