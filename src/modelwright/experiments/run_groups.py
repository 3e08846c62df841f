"""Any runs as a study: those whose settings differ in the seed alone are one variant."""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from modelwright.config.differences import differences
from modelwright.config.loading import load_settings
from modelwright.experiments.plots import with_number
from modelwright.experiments.study_record import Outcome, StudyRecord, StudyRun, Variant
from modelwright.experiments.study_settings import in_words
from modelwright.experiments.verdicts import listed
from modelwright.training.config import RunConfig
from modelwright.training.metrics import config_file, events, facts_file, is_taken, read_metrics


def study_of(
    runs: Sequence[Path], *, baseline: str | None = None, question: str = ""
) -> StudyRecord:
    """Put runs together that differ in the seed alone; the first one's group is the baseline.

    Args:
        baseline: a variant by its name, or one of the run folders, whose group is the baseline.

    Raises:
        FileNotFoundError: if a folder holds no run.
        ValueError: if two runs have the same settings and seed, or there is no such baseline.
    """
    configs = {run: _config_of(run) for run in dict.fromkeys(runs)}
    groups: list[list[Path]] = []
    for run, config in configs.items():
        for group in groups:
            if _without_seed(configs[group[0]]) == _without_seed(config):
                group.append(run)
                break
        else:
            groups.append([run])
    for group in groups:
        _require_own_seeds(group, configs)
    first = _baseline_group(groups, baseline)
    base = configs[first[0]]
    changes = [_changes(base, configs[group[0]]) for group in groups]
    names = _names(groups, configs, changes)
    if baseline is not None and baseline in names:
        # By its name: the changes are from that group's settings then.
        first = groups[names.index(baseline)]
        changes = [_changes(configs[first[0]], configs[group[0]]) for group in groups]
    elif baseline is not None and Path(baseline) not in configs:
        raise ValueError(
            f"--baseline {baseline} is neither a variant ({', '.join(names)}) nor one of the runs"
        )
    return StudyRecord(
        name=f"Comparison of {listed(names)}",
        question=question,
        baseline=names[groups.index(first)],
        variants=tuple(
            Variant(name=name, changes=change) for name, change in zip(names, changes, strict=True)
        ),
        runs=tuple(
            StudyRun(
                variant=name,
                seed=configs[run].seed,
                folder=run,
                outcome=outcome_of(run, configs[run]),
            )
            for name, group in zip(names, groups, strict=True)
            for run in group
        ),
    )


def outcome_of(folder: Path, config: RunConfig) -> Outcome:
    """What became of a run, as far as its own record tells.

    A run that ends worse than guessing every token alike has diverged, like one whose loss is no
    number at its end.
    """
    records = read_metrics(folder)
    taken = [record for record in records if is_taken(record) and "loss" in record]
    gave_up = [
        event
        for event in events(records)
        if event["event"] == "not_finite" and event.get("action") == "stop"
    ]
    if gave_up and gave_up[-1]["step"] >= max((record["step"] for record in taken), default=0):
        return "diverged"
    if not taken or taken[-1]["step"] < config.training.n_steps:
        return "stopped"
    facts = folder / facts_file
    n_vocab = json.loads(facts.read_text()).get("n_vocab") if facts.is_file() else None
    measured = with_number(records, "validation_loss") or with_number(records, "loss")
    if not measured or taken[-1]["loss"] is None:
        return "diverged"
    last = measured[-1].get("validation_loss") or measured[-1]["loss"]
    return "diverged" if n_vocab and last > math.log(n_vocab) else "finished"


def _config_of(run: Path) -> RunConfig:
    path = run / config_file
    if not path.is_file():
        raise FileNotFoundError(f"{run} holds no {config_file}, so there is no run in it")
    return load_settings(RunConfig, path).config


def _without_seed(config: RunConfig) -> RunConfig:
    return dataclasses.replace(config, seed=0)


def _require_own_seeds(group: Sequence[Path], configs: dict[Path, RunConfig]) -> None:
    seen: dict[int, Path] = {}
    for run in group:
        seed = configs[run].seed
        if seed in seen:
            raise ValueError(
                f"{seen[seed]} and {run} have the same settings and seed ({seed}), so they are one "
                "run twice; leave one out"
            )
        seen[seed] = run


def _baseline_group(groups: Sequence[list[Path]], baseline: str | None) -> list[Path]:
    if baseline is not None:
        for group in groups:
            if Path(baseline) in group:
                return group
    return groups[0]


def _changes(base: RunConfig, config: RunConfig) -> dict[str, object]:
    found = differences(_without_seed(base), _without_seed(config))
    return {one.path: one.after for one in found}


def _names(
    groups: Sequence[list[Path]],
    configs: dict[Path, RunConfig],
    changes: Sequence[dict[str, object]],
) -> list[str]:
    """The folders' names less the seed, where these tell the groups apart; else what differs."""
    names = [_less_seed(group[0].resolve().name, configs[group[0]].seed) for group in groups]
    if len(set(names)) == len(names):
        return names
    told = [in_words(change) or "base" for change in changes]
    if len(set(told)) == len(told):
        return told
    return [f"{name} {number}" for number, name in enumerate(names, start=1)]


def _less_seed(name: str, seed: int) -> str:
    """A run folder's name less the seed that it ends with: "norm" of "norm-seed3".

    What may be the end of a number stays, as in "lr-0.001" and "lr-1e-3".
    """
    begins = r"[-_. ](?:seed|s)|(?<!\d[eE])[-_ ]|(?<!\d)\."
    return re.sub(rf"(?<=.)(?:{begins})[-_. ]?0*{seed}$", "", name)
