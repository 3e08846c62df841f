"""What is wanted of a study, what became of it so far, and the record of both."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelwright.config.differences import differences
from modelwright.config.loading import load_settings
from modelwright.data.config import DataConfig
from modelwright.experiments.bisection import Edge, find_edge, trains
from modelwright.experiments.divergence import token_loss
from modelwright.experiments.search import Search
from modelwright.experiments.search import file_name as storage_file
from modelwright.experiments.study_file import Study, bisected
from modelwright.experiments.study_folder import write_study
from modelwright.experiments.study_record import FoundEdge, StudyRecord, StudyRun, Variant
from modelwright.experiments.study_worker import RunReport, RunTask, read_result, shape_of
from modelwright.planning.foresight import settle_here
from modelwright.runtime.crew import Ended, WorkerDied
from modelwright.runtime.progress import Listener, Progress, nobody
from modelwright.tokenizer.config import TokenizerConfig
from modelwright.training.assembly import open_or_build
from modelwright.training.config import RunConfig
from modelwright.training.metrics import config_file

runs_folder = "runs"
most_attempts = 2  # of a run whose worker died

Key = tuple[str, int]  # variant and seed
is_over = ("finished", "diverged")
told_outcomes = ("diverged", "failed", "stopped")
no_change = Variant(name="base", changes={})


@dataclass
class Agenda:
    """What is wanted of a study, what became of it so far, and its record.

    Attributes:
        n_at_once: how many runs can be under way, and so how many trials are begun.
        begins_trials: whether a search goes on; else only what it has tried is looked at.
        runs: that are known, by variant and seed.
        edge: how far a bisection is.
    """

    study: Study
    folder: Path
    n_at_once: int = 1
    begins_trials: bool = True
    runs: dict[Key, StudyRun] = field(default_factory=dict)
    edge: Edge | None = None
    _configs: dict[str, RunConfig] = field(default_factory=dict)
    _known: dict[str, Variant] = field(default_factory=dict)
    _token_losses: dict[tuple[DataConfig, TokenizerConfig], float] = field(default_factory=dict)
    _n_deaths: dict[Key, int] = field(default_factory=dict)
    _failed: set[Key] = field(default_factory=set)
    _pruned: set[Key] = field(default_factory=set)
    _trials: set[str] = field(default_factory=set)
    _closed: set[str] = field(default_factory=set)  # trials that are told to the search
    _search: Search | None = None

    def variants(self) -> list[Variant]:
        """The variants that are wanted by what is known now, in the order of the record."""
        for variant in self.study.variants:
            self._take_up(variant)
        if self.study.config.bisection.setting is not None:
            self._bisect()
        if self.study.config.search.n_trials:
            self._try_settings()
        return list(self._known.values())

    def missing(self) -> list[Key]:
        """The runs to be done next, those of one shape together and in turns of a seed."""
        self.variants()
        shapes: list[RunConfig] = []
        order: dict[Key, tuple[int, int]] = {}
        for name, seed in self.runs:
            if self._is_settled((name, seed)) or self._waits_for_first((name, seed)):
                continue
            shape = shape_of(self._configs[name])
            if shape not in shapes:
                shapes.append(shape)
            order[name, seed] = shapes.index(shape), self.study.seeds.index(seed)
        return sorted(order, key=order.__getitem__)

    def n_missing(self, variant: Variant) -> int:
        """How many runs of a variant are still to be done."""
        return sum(not self._is_settled((variant.name, seed)) for seed in self.study.seeds)

    def n_over(self, variant: Variant) -> int:
        """How many runs of a variant are finished, or have diverged."""
        outcomes = [self.runs[variant.name, seed].outcome for seed in self.study.seeds]
        return sum(outcome in is_over for outcome in outcomes)

    def n_trials_left(self) -> int:
        """How many trials of a search are still to be begun."""
        if self._search is None:
            return self.study.config.search.n_trials
        return self._search.n_left

    def config(self, variant: Variant, seed: int) -> RunConfig:
        """The finished config of a run, with what it left to the plan."""
        return settle_here(self.study.run_config(variant, seed))

    def prepare_data(self, on_progress: Listener) -> None:
        """Build or check the data of all variants, so that no run has to."""
        for config in self._configs.values():
            self._prepare_data_of(config, on_progress)

    def task(self, key: Key) -> RunTask:
        """The run, as a worker takes it."""
        name, seed = key
        config = self.config(self._known[name], seed)
        texts = self.study.config.texts
        return RunTask(
            variant=name,
            seed=seed,
            folder=self.runs[key].folder,
            config=config,
            divergence=self.study.config.divergence,
            token_loss=self._prepare_data_of(config, nobody),
            texts=texts if texts.are_written_by(first_seed=seed == self.study.seeds[0]) else None,
        )

    def note(self, key: Key, ended: Ended, *, is_stopping: bool) -> None:
        """Put on record what became of a run that a worker had."""
        if key in self._pruned and is_stopped(ended):
            final = {} if ended.error is not None else ended.result.final
            self._set(key, "stopped", "pruned by the search", final)
        elif ended.error is None:
            result = ended.result
            self._set(key, result.outcome, result.reason, result.final)
        elif not isinstance(ended.error, WorkerDied):
            self._set(key, "failed", f"{type(ended.error).__name__}: {ended.error}", {})
        elif is_stopping:
            self._set(
                key, "stopped", "its worker was ended; it goes on from its newest checkpoint", {}
            )
        else:
            self._n_deaths[key] = self._n_deaths.get(key, 0) + 1
            is_last = self._n_deaths[key] >= most_attempts
            again = f", {self._n_deaths[key]} times" if is_last else "; it is tried again"
            self._set(key, "failed" if is_last else "missing", f"{ended.error}{again}", {})
        if self.runs[key].outcome == "failed":
            self._failed.add(key)

    def told(self, key: Key) -> str:
        """What became of a run, in a line."""
        run = self.runs[key]
        told = [f"{run.variant}, seed {run.seed}: {run.outcome}"]
        if run.outcome == "finished" and "validation_loss" in run.final:
            told.append(f"loss {run.final['validation_loss']:.4f}")
        elif run.outcome in ("diverged", "stopped") and "step" in run.final:
            told.append(f"step {run.final['step']:,}")
        if "seconds" in run.final:
            told.append(f"{run.final['seconds']:.1f} s")
        why = f": {run.reason}" if run.reason and run.outcome in ("failed", "missing") else ""
        return ", ".join(told) + why

    def progress(self, under_way: dict[Key, int]) -> Progress:
        """How many steps are done; those that a lost run was spared count too.

        Args:
            under_way: the steps of runs that workers have.
        """
        n_steps = {key: self._configs[key[0]].training.n_steps for key in self.runs}
        over = [key for key in self.runs if self._is_settled(key)]
        outcomes = [run.outcome for key, run in self.runs.items() if key not in under_way]
        counts = {outcome: outcomes.count(outcome) for outcome in told_outcomes}
        notes = [f"{len(over)} of {len(self.runs)} runs"]
        return Progress(
            phase="study",
            done=sum(n_steps[key] for key in over) + sum(under_way.values()),
            total=sum(n_steps.values()),
            unit="steps",
            note=", ".join(notes + [f"{n} {outcome}" for outcome, n in counts.items() if n]),
        )

    def record(self) -> StudyRecord:
        """What is known now."""
        return StudyRecord(
            name=self.study.name,
            question=self.study.config.question,
            baseline=self.study.baseline,
            variants=tuple(self._known.values()),
            runs=tuple(self.runs.values()),
            edge=self._edge_so_far(),
        )

    def _edge_so_far(self) -> FoundEdge | None:
        setting = self.study.config.bisection.setting
        if self.edge is None or setting is None:
            return None
        is_known = None not in (self.edge.trains, self.edge.diverges)
        return FoundEdge(
            setting=setting,
            trains=self.edge.trains,
            diverges=self.edge.diverges,
            is_found=is_known and not self.edge.wanted,
            note=self.edge.note,
        )

    def write(self) -> None:
        """Write the record into the study's folder."""
        besides: dict[str, Any] = {
            "file": str(self.study.path.resolve()),
            "overrides": list(self.study.overrides),
        }
        if self._search is not None:
            besides["search"] = {"n_left": self._search.n_left, "best": self._search.best()}
        write_study(self.folder, self.record(), besides)

    def is_to_be_pruned(self, key: Key, report: RunReport) -> bool:
        """Whether a run is to be stopped for what it reports; its trial's first seed decides."""
        name, seed = key
        loss = report.validation_loss
        if self._search is None or name not in self._trials or loss is None:
            return False
        if seed != self.study.seeds[0] or key in self._pruned or name in self._closed:
            return False
        is_worse = self._search.report(name, report.step, loss)
        # A run that is through would be asked when it has nothing left to stop.
        if is_worse and report.step < self._configs[name].training.n_steps:
            self._pruned.add(key)
            return True
        return False

    def _is_settled(self, key: Key) -> bool:
        """Whether nothing more is to be done about a run."""
        is_failed = key in self._failed or key in self._pruned
        return self.runs[key].outcome in is_over or is_failed or key[0] in self._closed

    def _waits_for_first(self, key: Key) -> bool:
        """Whether a run of a trial is wanted only if the trial's first one finishes."""
        name, seed = key
        first = self.study.seeds[0]
        is_later = name in self._trials and seed != first
        return is_later and self.runs[name, first].outcome != "finished"

    def _try_settings(self) -> None:
        """Tell the search what its trials came to, and begin new ones for workers that are free."""
        if self._search is None:
            settings = self.study.config.search
            is_there = settings.storage is not None or (self.folder / storage_file).exists()
            if not self.begins_trials and not is_there:
                return
            self._search = Search(settings, self.study.name, self.folder)
        for tried in self._search.tried():
            self._take_up_trial(tried.variant)
            if not tried.is_open:
                self._closed.add(tried.variant.name)
        if not self.begins_trials:
            return
        for name in sorted(self._trials - self._closed, key=list(self._known).index):
            self._close_if_settled(name)
        while self._search.n_left and len(self._trials - self._closed) < self.n_at_once:
            variant = self._search.ask()
            self._take_up_trial(variant)
            self._close_if_settled(variant.name)

    def _take_up_trial(self, variant: Variant) -> None:
        """Make a trial known; one whose settings do not go together has failed."""
        self._trials.add(variant.name)
        if variant.name in self._known:
            return
        try:
            self.config(variant, self.study.seeds[0])
        except ValueError as error:
            self._make_known(variant)
            self._configs[variant.name] = self.study.run_config(no_change, self.study.seeds[0])
            for seed in self.study.seeds:
                key = variant.name, seed
                self._set(key, "failed", str(error), {})
                self._failed.add(key)
        else:
            self._take_up(variant)

    def _close_if_settled(self, name: str) -> None:
        assert self._search is not None
        keys = [(name, seed) for seed in self.study.seeds]
        first, *others = keys
        is_lost = self._is_settled(first) and self.runs[first].outcome != "finished"
        if not is_lost and not all(self._is_settled(key) for key in keys):
            return
        tried = keys[:1] if is_lost else keys
        for key in others if is_lost else []:
            why = f"not tried, since seed {first[1]} was {self.runs[first].outcome}"
            self._set(key, "missing", why, {})
        runs = [self.runs[key] for key in tried]
        losses = [run.final["validation_loss"] for run in runs if run.outcome == "finished"]
        self._search.tell(name, [run.outcome for run in runs], losses)
        self._closed.add(name)

    def _bisect(self) -> None:
        while True:
            self.edge = find_edge(self.study.config.bisection, self._values_tried())
            wanted = [bisected(self.study.config, value) for value in self.edge.wanted]
            known = [one for name, one in self._known.items() if name not in self._trials]
            # A value may have been tried under another name.
            new = [one for one in wanted if one.changes not in [other.changes for other in known]]
            if not new:
                return
            for variant in new:
                self._take_up(variant)

    def _values_tried(self) -> dict[float, bool]:
        setting = self.study.config.bisection.setting
        if setting is None:
            return {}
        found: dict[float, bool] = {}
        for name, variant in self._known.items():
            outcomes = [self.runs[name, seed].outcome for seed in self.study.seeds]
            if list(variant.changes) == [setting] and set(outcomes) <= set(is_over):
                found[float(str(variant.changes[setting]))] = trains(outcomes)
        return found

    def _take_up(self, variant: Variant) -> None:
        """Make a variant known, with what its run folders hold already.

        Raises:
            ValueError: if another one has its name, or a run there was made with other settings.
        """
        if (known := self._known.get(variant.name)) is not None:
            if known.changes != variant.changes:
                raise ValueError(
                    f"{variant.name!r} is the name of two variants, {dict(known.changes)} and "
                    f"{dict(variant.changes)}; call the one in {self.study.path} otherwise"
                )
            return
        self._make_known(variant)
        self._configs[variant.name] = self.config(variant, self.study.seeds[0])
        for seed in self.study.seeds:
            key = variant.name, seed
            run_folder = self.runs[key].folder
            if (run_folder / config_file).exists():
                require_same_settings(run_folder, self.config(variant, seed))
                result = read_result(run_folder)
                if result is None:
                    self._set(key, "stopped", None, {})
                else:
                    self._set(key, result.outcome, result.reason, result.final)

    def _make_known(self, variant: Variant) -> None:
        self._known[variant.name] = variant
        for seed in self.study.seeds:
            run_folder = self.folder / runs_folder / f"{variant.name}-seed{seed}"
            run = StudyRun(variant=variant.name, seed=seed, folder=run_folder, outcome="missing")
            self.runs[variant.name, seed] = run

    def _set(self, key: Key, outcome: Any, reason: str | None, final: dict[str, float]) -> None:
        name, seed = key
        self.runs[key] = StudyRun(
            variant=name,
            seed=seed,
            folder=self.runs[key].folder,
            outcome=outcome,
            reason=reason,
            final=final,
        )

    def _prepare_data_of(self, config: RunConfig, on_progress: Listener) -> float:
        key = config.data, config.tokenizer
        if key not in self._token_losses:
            data = open_or_build(config, on_progress, is_new=True)
            self._token_losses[key] = token_loss(data.train, data.tokenizer.n_vocab)
        return self._token_losses[key]


def is_stopped(ended: Ended) -> bool:
    """Whether a run that was asked to stop did so, be it by its worker's end."""
    if ended.error is not None:
        return isinstance(ended.error, WorkerDied)
    return ended.result.outcome == "stopped"


def require_same_settings(run_folder: Path, config: RunConfig) -> None:
    """Refuse to take a run for one of the study's that was made with other settings.

    Raises:
        ValueError: showing the first of them.
    """
    there = load_settings(RunConfig, run_folder / config_file).config
    found = differences(there, config)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ValueError(
            f"{run_folder} was made with other settings than the study has now "
            f"({'; '.join(map(str, found[:3]))}{more}); put them back, remove that folder, or "
            "choose another one for the study with --out"
        )
