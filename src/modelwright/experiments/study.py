"""A study from its first run to its last, however often it is stopped in between.

Every run has a folder of its own and is carried out by a worker (`study_worker.py`); this process
knows which runs are wanted, gives them out, and keeps the record. What is done is found in the run
folders, so a study that was killed at any time goes on with what is missing.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from modelwright.experiments.study_agenda import Agenda, Key
from modelwright.experiments.study_file import Study, bisected
from modelwright.experiments.study_plan import StudyPlan, plan_study
from modelwright.experiments.study_record import StudyRecord, Variant
from modelwright.experiments.study_worker import RunReport, RunTask, carry_out
from modelwright.runtime.cluster import ClusterPlaces, RayCrew, cluster_places
from modelwright.runtime.crew import (
    Crew,
    LocalCrew,
    gpu_place,
    share_of_processor,
    visible_gpus,
)
from modelwright.runtime.device import choose_device
from modelwright.runtime.files import lock_folder, require_writable
from modelwright.runtime.interrupts import StopRequest, stop_on_signals
from modelwright.runtime.progress import Listener, nobody
from modelwright.training.runs import Tell, tell_nobody

worker_module = "modelwright.experiments.study_worker"
seconds_between_looks = 0.5


class StudyStopped(Exception):
    """Someone asked the study to stop; what its runs had is saved."""

    def __init__(self, record: StudyRecord, signal_number: int) -> None:
        super().__init__(f"{record.name} was stopped")
        self.record = record
        self.signal_number = signal_number


@dataclass(frozen=True)
class Places:
    """Where the workers are: the environment of each, and how many devices these are on."""

    environments: tuple[dict[str, str], ...]
    n_devices: int

    @property
    def n_workers(self) -> int:
        """How many runs are under way at the same time."""
        return len(self.environments)


def choose_places(
    study: Study, *, devices: Sequence[str] | None = None, at_once: int | None = None
) -> Places:
    """One worker for each GPU, or one for the processor; more of them where that is asked for.

    Args:
        devices: the GPUs by number or name, as CUDA_VISIBLE_DEVICES takes them; None is all.
        at_once: runs at the same time on each device.

    Raises:
        ValueError: if there are no such devices.
    """
    each = 1 if at_once is None else at_once
    if each < 1:
        raise ValueError(f"--at-once is {at_once}; the least is 1")
    config = study.run_config(study.variants[0], study.seeds[0])
    if choose_device(config.training.device).type == "cpu":
        if devices is not None:
            raise ValueError(
                f"--devices is {','.join(devices)}, but the runs are on the processor "
                f"(training.device is {config.training.device!r}); leave it out"
            )
        return Places((share_of_processor(each),) * each, 1)
    here = visible_gpus() or [str(number) for number in range(torch.cuda.device_count())]
    chosen = here if devices is None else list(devices)
    if unknown := [name for name in chosen if name not in here]:
        raise ValueError(
            f"--devices names {', '.join(unknown)}, but the GPUs here are {', '.join(here)}"
        )
    if len(set(chosen)) < len(chosen):
        raise ValueError(
            f"--devices names {', '.join(chosen)}, one of them twice; for several runs at the same "
            "time on a GPU there is --at-once"
        )
    return Places(tuple(gpu_place(name) for _ in range(each) for name in chosen), len(chosen))


def choose_cluster_places(study: Study, *, at_once: int | None = None) -> ClusterPlaces:
    """The workers on the Ray cluster that RAY_ADDRESS names, or on one that is started here.

    Raises:
        ValueError: if there is none, or the study wants of it what it cannot do.
    """
    if at_once is not None and at_once < 1:
        raise ValueError(f"--at-once is {at_once}; the least is 1")
    if study.config.search.pruner != "none":
        raise ValueError(
            f"search.pruner is {study.config.search.pruner!r}, but runs on a Ray cluster tell "
            "nothing on the way; use 'none', or --engine processes on each machine with one "
            "search.storage"
        )
    wanted = study.run_config(study.variants[0], study.seeds[0]).training.device
    on_gpus = None if wanted == "auto" else wanted == "cuda"
    return cluster_places(on_gpus=on_gpus, at_once=at_once or 1)


def plan_missing(study: Study, folder: Path, places: Places | ClusterPlaces) -> StudyPlan:
    """What the runs that are missing in a study's folder will take.

    Raises:
        ValueError: if a run there was made with other settings.
    """
    agenda = Agenda(study, folder, begins_trials=False)
    wanted = agenda.variants()
    runs = [(v.name, agenda.n_missing(v), agenda.config(v, study.seeds[0]), False) for v in wanted]
    n_done = sum(agenda.n_over(variant) for variant in wanted)
    bisection = study.config.bisection
    if agenda.edge is not None and agenda.edge.wanted:
        # The next values are among the wanted; of those after them only the number is known.
        low, high = agenda.edge.trains, agenda.edge.diverges
        n_more = bisection.n_between(low or bisection.trains, high or bisection.diverges)
        n_more -= 1 if low and high else 0
        middle = study.run_config(bisected(study.config, bisection.trains), study.seeds[0])
        if n_more > 0:
            runs.append(("bisection", n_more * len(study.seeds), middle, True))
    if n_trials := agenda.n_trials_left():
        base = agenda.config(Variant(name="search", changes={}), study.seeds[0])
        runs.append(("search", n_trials * len(study.seeds), base, True))
    return plan_study(runs, n_done=n_done, n_workers=places.n_workers, n_places=places.n_devices)


def run_study(
    study: Study,
    folder: Path,
    places: Places | ClusterPlaces,
    *,
    on_progress: Listener = nobody,
    on_note: Tell = tell_nobody,
) -> StudyRecord:
    """Carry out what is missing of a study, and write its record.

    Args:
        on_note: is told of each run that is over.

    Raises:
        ValueError, OSError: if something that all runs need cannot be used, or a run in the folder
            was made with other settings.
        StudyStopped: if a signal asked it to stop; the same call goes on from there.
    """
    require_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        held.enter_context(lock_folder(folder))
        agenda = Agenda(study, folder, n_at_once=places.n_workers)
        agenda.variants()  # says early what is wrong with the folder
        crew = held.enter_context(_crew_at(places))
        agenda.prepare_data(on_progress)
        stop = held.enter_context(stop_on_signals())
        _go_on(agenda, crew, stop, on_progress, on_note)
        record = agenda.record()
        if stop.requested and any(run.outcome in ("stopped", "missing") for run in record.runs):
            raise StudyStopped(record, stop.signal_number or 0)
        return record


def _crew_at(places: Places | ClusterPlaces) -> Crew:
    if isinstance(places, ClusterPlaces):
        return RayCrew(carry_out, places)
    return LocalCrew(carry_out, places.environments, preload=worker_module)


def _go_on(
    agenda: Agenda, crew: Crew, stop: StopRequest, on_progress: Listener, on_note: Tell
) -> None:
    """Give out runs until none is wanted any more, or someone asks to stop."""
    under_way: dict[Key, int] = {}  # to the steps that are done
    asked = False

    def on_report(task: RunTask, report: RunReport) -> None:
        key = task.variant, task.seed
        under_way[key] = report.step
        if agenda.is_to_be_pruned(key, report):
            crew.ask_to_stop(task)

    over: list[Key] = []
    while True:
        missing = [key for key in agenda.missing() if key not in under_way]
        if stop.requested and not asked:
            crew.ask_to_stop()
            asked = True
        while missing and crew.n_free and not stop.requested:
            key = missing.pop(0)
            under_way[key] = 0
            crew.give(agenda.task(key))
        agenda.write()  # after the workers have something to do again
        for key in over:
            on_note(agenda.told(key))
        on_progress(agenda.progress(under_way))
        if not under_way:
            return
        over = []
        while not over and not (stop.requested and not asked):
            for ended in crew.wait(seconds_between_looks, on_report):
                key = ended.task.variant, ended.task.seed
                del under_way[key]
                agenda.note(key, ended, is_stopping=stop.requested)
                over.append(key)
            on_progress(agenda.progress(under_way))
