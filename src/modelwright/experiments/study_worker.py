"""One run of a study, in a worker that has done others before and will do more.

What runs share stays: the loaded libraries, the checked data, and compiled programs for as long as
the shapes they were made for come again.
"""

import dataclasses
import gc
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from modelwright.data.folder import Data, open_data
from modelwright.experiments.divergence import Diverged, Watch
from modelwright.experiments.study_config import DivergenceConfig, TextsConfig
from modelwright.experiments.study_plan import what_costs
from modelwright.experiments.study_record import Outcome
from modelwright.planning.foresight import is_planned, plan_run, write_plan
from modelwright.planning.plan import Plan
from modelwright.planning.verify import verify_run
from modelwright.runtime.device import describe_machine
from modelwright.runtime.files import lock_folder, write_atomically
from modelwright.runtime.manifest import file_name as manifest_file
from modelwright.training.assembly import Prepared
from modelwright.training.config import RunConfig
from modelwright.training.loop import Interrupted
from modelwright.training.metrics import config_file, metrics_file, read_metrics
from modelwright.training.runs import resume, train

outcome_file = "outcome.json"
seconds_between_reports = 0.2
longest_wait_seconds = 60.0  # for a worker of a killed study, which ends after the step in hand


@dataclass(frozen=True, kw_only=True)
class RunTask:
    """A run that is to be carried out, or to be gone on with.

    Attributes:
        token_loss: of the run's text, as `divergence.Watch` takes it.
        texts: what its model is to write in the end; None asks for nothing.
    """

    variant: str
    seed: int
    folder: Path
    config: RunConfig
    divergence: DivergenceConfig
    token_loss: float
    texts: TextsConfig | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What became of a run.

    Attributes:
        reason: why it did not finish.
        final: the last figures on its record.
    """

    outcome: Outcome
    reason: str | None
    final: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """How far a run is, and its validation loss if it was measured just then."""

    step: int
    validation_loss: float | None = None


Report = Callable[[RunReport], None]


def carry_out(_: None, task: RunTask, report: Report) -> RunResult:
    """Train a run to its end, or until it diverges or is asked to stop; never raise for a run.

    Args:
        report: is told now and then.
    """
    _forget_other_shapes(task.config)
    gc.freeze()  # what is there by now stays, and looking through it takes longer than a short run
    try:
        outcome, reason = _train(task, report)
    except Interrupted as stop:
        outcome, reason = "stopped", str(stop)
    except (Diverged, FloatingPointError) as error:
        outcome, reason = "diverged", str(error)
    except Exception as error:  # noqa: BLE001 - the other runs go on, and the record says why
        first = str(error).partition("\n")[0]
        is_told = isinstance(error, ValueError | OSError)
        outcome, reason = "failed", first if is_told else f"{type(error).__name__}: {first}"
    result = RunResult(outcome=outcome, reason=reason, final=final_figures(task.folder))
    if outcome in ("finished", "diverged"):
        write_atomically(
            task.folder / outcome_file, json.dumps(dataclasses.asdict(result), indent=2) + "\n"
        )
    gc.collect()  # a run's tensors are in cycles, and the next run needs the room
    return result


def read_result(folder: Path) -> RunResult | None:
    """What became of the run in a folder; None if it is not over."""
    try:
        return RunResult(**json.loads((folder / outcome_file).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def final_figures(folder: Path) -> dict[str, float]:
    """The newest of each figure on a run's record; empty if it has none."""
    figures: dict[str, float] = {}
    if (folder / metrics_file).is_file():
        names = ("step", "n_tokens", "seconds", "loss", "validation_loss")
        for record in read_metrics(folder):
            figures |= {name: record[name] for name in names if record.get(name) is not None}
    return figures


def _train(task: RunTask, report: Report) -> tuple[Outcome, str | None]:
    settings = task.divergence
    watch = Watch(
        n_steps=task.config.training.n_steps,
        token_loss=task.token_loss,
        after=settings.after,
        rise=settings.rise,
    )
    last_report = 0.0

    def on_metrics(metrics: dict[str, Any]) -> None:
        nonlocal last_report
        watch.add(metrics)
        if settings.prune and watch.is_due and (verdict := watch.verdict()):
            raise Diverged(verdict)
        loss = metrics.get("validation_loss")
        if loss is not None or time.monotonic() - last_report >= seconds_between_reports:
            last_report = time.monotonic()
            # Where nobody listens any more, the worker is about to be told to save and leave.
            with suppress(BrokenPipeError, ConnectionResetError):
                report(RunReport(step=metrics["step"], validation_loss=loss))

    foresight = _Foresight(task.folder)

    def on_ready(prepared: Prepared) -> None:
        if (task.folder / metrics_file).is_file():  # what is left of it: those steps stay
            for record in read_metrics(task.folder):
                watch.add(record)
        foresight.plan(prepared)

    data = _data_of(task.config)
    if (task.folder / config_file).exists():
        _wait_until_free(task.folder)
        resume(task.folder, on_metrics=on_metrics, on_ready=on_ready, data=data)
    else:
        train(task.config, task.folder, on_metrics=on_metrics, on_ready=on_ready, data=data)
    foresight.compare()
    if verdict := watch.verdict():
        return "diverged", verdict
    if task.texts is not None:
        from modelwright.experiments.study_texts import write_texts

        with suppress(Exception):  # the page goes without: no text is worth a run
            write_texts(task.folder, task.config, task.texts)
    return "finished", None


class _Foresight:
    """What a run was going to take, and what it took, beside it in its folder.

    A worker plans once for all runs that take the same, and compares the first of them, for which
    PyTorch counts the work of a step. No prediction is worth a run: what cannot be planned or
    compared goes on without, and the page has a dash there.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self.is_first = False
        self.device = torch.device("cpu")

    def plan(self, prepared: Prepared) -> None:
        """Write `plan.json`."""
        self.device = prepared.device
        if is_planned(self.run_folder, prepared.config):
            return
        key = repr((what_costs(prepared.config), prepared.config.training.n_steps))
        if key not in _plans:
            self.is_first = True
            _plans[key] = None
            with suppress(Exception):
                _plans[key] = plan_run(prepared)
        if (plan := _plans[key]) is not None:
            write_plan(self.run_folder, prepared.config, plan)

    def compare(self) -> None:
        """Write `verify.json`, for the first run of its kind."""
        if self.is_first:
            with suppress(Exception):
                verify_run(self.run_folder, describe_machine(self.device))


_plans: dict[str, Plan | None] = {}


def _wait_until_free(folder: Path) -> None:
    """Return when nobody works on a run any more, or after a while all the same."""
    until = time.monotonic() + longest_wait_seconds
    while time.monotonic() < until:
        try:
            with lock_folder(folder):
                return
        except ValueError:
            time.sleep(0.2)


def _data_of(config: RunConfig) -> Data:
    """A run's data; checked once by each worker, and again when the folder was made anew."""
    folder = Path(config.data.folder)
    stamp = (folder / manifest_file).read_bytes()
    if _opened.get(folder, (b"", None))[0] != stamp:
        _opened[folder] = (stamp, open_data(folder))
    return _opened[folder][1]


_opened: dict[Path, tuple[bytes, Data]] = {}


def _forget_other_shapes(config: RunConfig) -> None:
    """Drop compiled programs that were made for runs of another shape.

    Left alone, the compiler would take a second size for one of many and make programs for any,
    so that how fast a run is would depend on the runs before it; and after a few more shapes it
    would compile no longer.
    """
    global _shape
    shape = shape_of(config)
    if _shape is not None and shape != _shape:
        gc.unfreeze()
        if "torch._dynamo" in sys.modules:  # loading it takes longer than there is to forget
            torch.compiler.reset()
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    _shape = shape


_shape: RunConfig | None = None


def shape_of(config: RunConfig) -> RunConfig:
    """A config in which only that is left of a run which decides what programs it needs."""
    replace = dataclasses.replace
    usual = RunConfig()
    return replace(
        usual,
        data=replace(usual.data, folder=config.data.folder),
        tokenizer=config.tokenizer,
        model=config.model,
        optimizer=replace(usual.optimizer, kind=config.optimizer.kind),
        training=replace(config.training, n_steps=1),
    )
