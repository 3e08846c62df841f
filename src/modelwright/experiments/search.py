"""A search by optuna: which combinations of settings were tried, and which one comes next.

Trials are in optuna's own storage, which several machines may share; a trial belongs to the study
folder that asked for it, and its runs are there. So a study that was killed goes on with its own.
Those in a file of the folder belong to it wherever it is moved.
"""

import math
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelwright.experiments.study_config import SearchConfig
from modelwright.experiments.study_record import Outcome, Variant

owner_attribute = "modelwright_folder"
file_name = "optuna.db"


@dataclass(frozen=True)
class TriedVariant:
    """A trial of this folder as a variant, and whether its runs may still be wanted."""

    variant: Variant
    is_open: bool


class Search:
    """The trials of a study."""

    def __init__(self, config: SearchConfig, name: str, folder: Path) -> None:
        """Args:
        name: of the study, also in the storage.
        folder: of the study; it has to be there if the storage is to be a file in it.

        Raises:
            ValueError: if optuna is missing, a setting's range is none or another than that of
                the trials there are, or the storage cannot be used.
        """
        optuna = _import_optuna()
        self._optuna = optuna
        self.config = config
        self._distributions = distributions(config.settings)
        self._owner = f"{socket.gethostname()}:{folder.resolve()}"
        samplers = optuna.samplers
        pruners = optuna.pruners
        try:
            self._study = optuna.create_study(
                study_name=name,
                storage=config.storage or f"sqlite:///{folder.resolve() / file_name}",
                direction="minimize",
                load_if_exists=True,
                pruner=pruners.MedianPruner() if config.pruner == "median" else pruners.NopPruner(),
            )
        except Exception as error:  # noqa: BLE001 - each database has errors of its own
            raise ValueError(_why_unusable(config.storage, folder, error)) from None
        self._require_same_choices()
        # So that a study that goes on does not draw again what it has drawn.
        seed = config.seed + len(self._study.trials)
        self._study.sampler = (
            samplers.TPESampler(seed=seed)
            if config.sampler == "tpe"
            else samplers.RandomSampler(seed=seed)
        )

    @property
    def n_left(self) -> int:
        """How many trials nobody has begun yet."""
        trials = self._study.trials
        if self.config.storage is None:  # of others it is not known whether they are being drawn
            trials = [trial for trial in trials if self._is_ours(trial)]
        return max(0, self.config.n_trials - len(trials))

    def tried(self) -> list[TriedVariant]:
        """The trials of this folder, in their order."""
        running = self._optuna.trial.TrialState.RUNNING
        return [
            TriedVariant(_variant(trial.number, trial.params), trial.state == running)
            for trial in self._study.trials
            if self._is_ours(trial)
        ]

    def _is_ours(self, trial: Any) -> bool:
        """Whether a trial was drawn by this folder, to the end."""
        owner = trial.user_attrs.get(owner_attribute)
        return owner is not None and (self.config.storage is None or owner == self._owner)

    def _require_same_choices(self) -> None:
        """Refuse what optuna does not take: other choices than those of the trials there are.

        Raises:
            ValueError: naming the setting.
        """
        drawn = {name: kind for t in self._study.trials for name, kind in t.distributions.items()}
        for name in drawn.keys() & self._distributions.keys():
            try:
                self._optuna.distributions.check_distribution_compatibility(
                    drawn[name], self._distributions[name]
                )
            except ValueError:
                raise ValueError(
                    f'search.settings."{name}" is {_told(self._distributions[name])}, but the '
                    f"trials that are there were drawn from {_told(drawn[name])}; put that back, "
                    "or choose another folder with --out"
                ) from None

    def ask(self) -> Variant:
        """Begin a trial."""
        trial = self._study.ask(self._distributions)
        trial.set_user_attr(owner_attribute, self._owner)
        return _variant(trial.number, trial.params)

    def tell(self, variant: str, outcomes: Sequence[Outcome], losses: Sequence[float]) -> None:
        """Say what a trial came to, once.

        Args:
            outcomes: of its runs; one that diverged, or was stopped, makes it worse than all that
                finished, and one that failed tells nothing.
            losses: validation losses of those that finished, of which the mean counts.
        """
        states = self._optuna.trial.TrialState
        number = _number(variant)
        if "failed" in outcomes:
            self._study.tell(number, state=states.FAIL)
        elif set(outcomes) == {"finished"}:
            self._study.tell(number, sum(losses) / len(losses))
        else:
            self._study.tell(number, state=states.PRUNED)

    def report(self, variant: str, step: int, loss: float) -> bool:
        """Note a validation loss on the way; whether the trial is to be stopped for it."""
        number = _number(variant)
        frozen = self._study.trials[number]
        trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
        if step not in frozen.intermediate_values:  # a run that goes on takes some steps again
            trial.report(loss, step)
        return trial.should_prune()

    def best(self) -> dict[str, Any] | None:
        """The best trial of all folders; None before one is finished."""
        complete = self._optuna.trial.TrialState.COMPLETE
        done = self._study.get_trials(deepcopy=False, states=[complete])
        if not done:
            return None
        trial = min(done, key=lambda trial: trial.value)
        changes = _variant(trial.number, trial.params)
        return {"variant": changes.name, "changes": dict(changes.changes), "loss": trial.value}


def distributions(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What optuna calls the ranges of settings.

    Raises:
        ValueError: if one is none.
    """
    kinds = _import_optuna().distributions
    found: dict[str, Any] = {}
    for name, spec in settings.items():
        spec = spec if isinstance(spec, Mapping) else {}
        choices = spec.get("choices")
        low, high, log = spec.get("from", 0), spec.get("to", 0), spec.get("log", False)
        ends = (low, high)
        are_numbers = all(type(end) in (int, float) for end in ends)
        if spec.keys() == {"choices"} and isinstance(choices, list) and len(choices) > 1:
            found[name] = kinds.CategoricalDistribution(choices)
        elif (
            {"from", "to"} <= spec.keys() <= {"from", "to", "log"}
            and are_numbers
            and isinstance(log, bool)
            and low < high < math.inf
            and (low > 0 or not log)
        ):
            is_whole = all(isinstance(end, int) for end in ends)
            kind = kinds.IntDistribution if is_whole else kinds.FloatDistribution
            found[name] = kind(low, high, log=log)
        else:
            raise ValueError(
                f'search.settings."{name}" is {settings[name]!r}, but it is {{choices = [...]}} of '
                "at least two, or {from = 1e-4, to = 1e-1, log = true} with the smaller number "
                "first, above 0 where log is true"
            )
    return found


def first_values(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A value that each setting may get, to see whether a run takes it.

    Raises:
        ValueError: as `distributions` does.
    """
    kinds = distributions(settings).items()
    return {name: k.choices[0] if hasattr(k, "choices") else k.low for name, k in kinds}


def _told(kind: Any) -> str:
    """A range in words."""
    return str(list(kind.choices)) if hasattr(kind, "choices") else f"{kind.low} to {kind.high}"


def _why_unusable(storage: str | None, folder: Path, error: Exception) -> str:
    """What is wrong with a storage; a password in its URL is not repeated."""
    why = str(error).partition("\n")[0]
    if storage is None:
        return (
            f"the trials are in {folder / file_name}, which cannot be used ({why}); take that file "
            "away, and the search begins anew"
        )
    shown = re.sub(r":[^:@/]*@", ":***@", storage)
    return (
        f"search.storage is {shown!r}, which cannot be used ({why}); give a URL such as "
        "'postgresql://user@host/name', or leave it out for a file in the study's folder"
    )


def _variant(number: int, params: Mapping[str, Any]) -> Variant:
    return Variant(name=f"trial-{number}", changes=dict(params))


def _number(variant: str) -> int:
    return int(variant.removeprefix("trial-"))


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ValueError(
            "a search needs the package optuna: pip install 'modelwright[search]'; without it, a "
            "[grid] tries every combination"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
