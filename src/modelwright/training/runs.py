"""A run from its first step to its last, however often it is stopped in between."""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from modelwright.checkpoint.bundle import averaged_file, load_weights, read_tensors
from modelwright.checkpoint.keeping import (
    Keep,
    checkpoint_bytes,
    clear_unfinished,
    forget_checkpoints_after,
    require_space,
)
from modelwright.checkpoint.resume import (
    load_optimizer_tensors,
    load_state,
    newest_checkpoint,
    step_folders,
)
from modelwright.checkpoint.writer import Writer
from modelwright.config.differences import differences
from modelwright.config.loading import load_settings, to_toml
from modelwright.config.schema import SettingsError, check
from modelwright.data.folder import Data
from modelwright.runtime.files import lock_folder, require_writable, write_atomically
from modelwright.runtime.interrupts import StopRequest, stop_on_signals
from modelwright.runtime.progress import Listener, nobody
from modelwright.training.actions import Evaluate, ForecastEnd, Sample, Save
from modelwright.training.assembly import Prepared, fresh_state, make_loader, prepare
from modelwright.training.attempt import TrainingState
from modelwright.training.config import RunConfig
from modelwright.training.curve_forecast import Curve
from modelwright.training.fine_tuning import require_same_tokenizer, with_initial_model
from modelwright.training.loop import Action, run_loop
from modelwright.training.metrics import config_file, forget_after, metrics_file, read_metrics
from modelwright.training.record import Record, note_changes, run_facts, step_flops, write_facts
from modelwright.training.same_run import require_same_run
from modelwright.training.task_scores import ScoreTasks

Tell = Callable[[str], None]
Ready = Callable[[Prepared], None]
Watch = Callable[[dict[str, Any]], None]


def tell_nobody(_: str) -> None:
    """For texts that nobody wants to see."""


def do_nothing(_: Prepared) -> None:
    """For a beginning that nobody waits for."""


def look_away(_: dict[str, Any]) -> None:
    """For metrics that are only put on record."""


def train(
    config: RunConfig,
    run_folder: Path,
    *,
    on_progress: Listener = nobody,
    on_sample: Tell = tell_nobody,
    on_ready: Ready = do_nothing,
    on_metrics: Watch = look_away,
    data: Data | None = None,
) -> None:
    """Carry out a new run from its first step, building its data if that is not there.

    Args:
        on_ready: is called when the run's folder is there, before the first step.
        on_metrics: is given each step's metrics once they are on record; what it raises ends the
            run where it is.
        data: the run's, if it is open already.

    Raises:
        FileExistsError: if the folder holds a run already.
        ValueError, OSError: if something it needs cannot be used; a folder made for it is gone.
        Interrupted: if a signal asked it to stop; its state is saved.
    """
    require_new_run(run_folder)
    with removed_on_failure(run_folder):
        prepared = prepare(config, on_progress, data=data)
        with lock_folder(run_folder):
            require_new_run(run_folder)  # another process may have been quicker
            state = fresh_state(prepared)
            require_room(prepared, state, run_folder)
            write_facts(run_folder, run_facts(prepared, state))
            write_atomically(run_folder / config_file, to_toml(config))  # last: it makes it a run
            on_ready(prepared)
            _run(prepared, state, run_folder, on_progress, on_sample, on_metrics)


def resume(
    run_folder: Path,
    *,
    recipe: Path | None = None,
    overrides: Sequence[str] = (),
    on_progress: Listener = nobody,
    on_sample: Tell = tell_nobody,
    on_note: Tell = tell_nobody,
    on_ready: Ready = do_nothing,
    on_metrics: Watch = look_away,
    data: Data | None = None,
) -> None:
    """Go on with a run from its newest whole checkpoint, as if it had never stopped.

    A run that died before its first checkpoint begins again, which comes to the same.

    Args:
        recipe: settings to go on with; None takes those of the run's own config.
        overrides: changes to them, as `--set` takes them.
        on_note: is told of checkpoints that were passed over, and of every changed setting.
        on_ready: is called before the next step.
        on_metrics: as `train` takes it.
        data: the run's, if it is open already.

    Raises:
        FileNotFoundError: if there is no run or no whole checkpoint in the folder.
        ValueError: if another process works on the run, or a changed setting would make another
            run of it; the message shows each.
    """
    if not (run_folder / config_file).exists():
        newest_checkpoint(run_folder)  # says what is wrong with it
        raise FileNotFoundError(f"{run_folder} holds no {config_file}, so there is no run in it")
    with lock_folder(run_folder):
        clear_unfinished(run_folder)
        checkpoint, complaints = None, []
        if step_folders(run_folder):
            checkpoint, complaints = newest_checkpoint(run_folder)
        for complaint in complaints:
            on_note(f"passed over a damaged checkpoint: {complaint}")
        loaded = load_settings(RunConfig, recipe or run_folder / config_file, overrides)
        config = loaded.config if recipe is None else with_initial_model(loaded)
        before = config_of(run_folder, checkpoint)
        config = forgetting_as(before, config)
        changes = differences(before, config)
        require_same_run(run_folder, changes)
        for change in changes:
            on_note(f"changed: {change}")
        prepared = prepare(config, on_progress, is_new=checkpoint is None, data=data)
        state = fresh_state(prepared)
        if checkpoint is None:
            (run_folder / metrics_file).unlink(missing_ok=True)
        else:
            restore(state, checkpoint, prepared)
            forget_after(run_folder, state.step)
            forget_checkpoints_after(run_folder, state.step)  # damaged ones
        require_room(prepared, state, run_folder)
        if changes:
            write_atomically(run_folder / config_file, to_toml(config))
            note_changes(run_folder, state.step, changes)
        on_ready(prepared)
        _run(prepared, state, run_folder, on_progress, on_sample, on_metrics)


def forgetting_as(before: RunConfig, config: RunConfig) -> RunConfig:
    """A config that leaves to a plan what blocks forget, as the run was settled when it began."""
    if config.training.recompute != "auto":
        return config
    was = before.training
    training = dataclasses.replace(
        config.training, recompute=was.recompute, recompute_every=was.recompute_every
    )
    return dataclasses.replace(config, training=training)


def require_new_run(run_folder: Path) -> None:
    """Refuse to write over a run, and say early where nothing can be written.

    Raises:
        FileExistsError: saying how to go on with the run that is there.
    """
    require_writable(run_folder)
    if (run_folder / config_file).exists():
        raise FileExistsError(
            f"{run_folder} holds a run already; go on with it by `modelwright train --resume "
            f"{run_folder}`, or choose another folder with --out"
        )


def require_room(prepared: Prepared, state: TrainingState, run_folder: Path) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        ValueError: saying how many bytes are needed and how many are free.
    """
    weights_bytes = sum(parameter.nbytes for parameter in prepared.model.parameters())
    optimizer_bytes = sum(
        group.n_parameters * (8 if group.rule == "adamw" else 4)
        for group in state.optimizer.groups()
    )
    size = checkpoint_bytes(weights_bytes, optimizer_bytes, weights_bytes if state.average else 0)
    require_space(run_folder, size, keep_of(prepared.config))


def keep_of(config: RunConfig) -> Keep:
    """Which checkpoints stay."""
    return Keep(last=config.checkpoints.keep, best=config.checkpoints.keep_best)


def config_of(run_folder: Path, checkpoint: Path | None) -> RunConfig:
    """The config that a checkpoint was made with; without one, that of the run.

    Raises:
        ValueError: if it is of a version of the program with other settings.
    """
    if checkpoint is None:
        return load_settings(RunConfig, run_folder / config_file).config
    try:
        return check(RunConfig, load_state(checkpoint)["config"])
    except (KeyError, SettingsError) as error:
        raise ValueError(
            f"{checkpoint} was saved with settings that are not known here: {error}"
        ) from None


def restore(state: TrainingState, checkpoint: Path, prepared: Prepared) -> None:
    """Bring a run's state to that of a checkpoint, in place.

    Raises:
        ValueError: if it was trained with another tokenizer or text; both fingerprints are shown.
    """
    require_same_tokenizer(checkpoint, prepared.data.tokenizer)
    facts = load_state(checkpoint)
    fingerprint = data_fingerprint(prepared.data)
    if facts["data"] != fingerprint:
        raise ValueError(
            f"{checkpoint} was trained on the data {facts['data'][:16]}, but "
            f"{prepared.data.folder} is {fingerprint[:16]}; point data.folder at the data of that "
            "run, or begin a new run with training.init_from"
        )
    state.give_up_what_is_ahead()
    load_weights(state.model, checkpoint)
    state.optimizer.load_named_state(load_optimizer_tensors(checkpoint))
    if state.average is not None:
        state.average.load(read_tensors(checkpoint / averaged_file))
    state.loss_scale.restore(facts["loss_scale"])
    if prepared.config.training.micro_batch == "auto":
        state.micro_batch = min(state.micro_batch, facts["micro_batch"])
    state.step = facts["step"]
    state.seconds = max(state.seconds, facts["seconds"])
    state.left_out = facts["left_out"]
    state.recent_losses = facts["recent_losses"]
    state.validation_loss = facts["validation_loss"]
    state.measured = list(facts.get("measured", []))


def facts_to_resume(prepared: Prepared) -> Callable[[TrainingState], dict[str, Any]]:
    """What a checkpoint keeps besides its tensors; every stream of chance follows from the step."""
    config = dataclasses.asdict(prepared.config)
    data = data_fingerprint(prepared.data)

    def facts(state: TrainingState) -> dict[str, Any]:
        return {
            "seconds": state.seconds,
            "loss_scale": state.loss_scale.facts(),
            "micro_batch": state.micro_batch,
            "left_out": state.left_out,
            "recent_losses": state.recent_losses,
            "measured": list(state.measured),
            "data": data,
            "config": config,
        }

    return facts


def data_fingerprint(data: Data) -> str:
    """The sha256 of what a folder of shards says of every byte in it."""
    return hashlib.sha256((data.folder / "manifest.json").read_bytes()).hexdigest()


def has_lines(path: Path) -> bool:
    """Whether something is written in a file."""
    return path.is_file() and path.stat().st_size > 0


@contextmanager
def removed_on_failure(run_folder: Path) -> Iterator[None]:
    """Make a run folder, and remove it again if the block fails before the first step.

    Only a folder that this call made is removed, and not while another process works in it.
    """
    run_folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        run_folder.mkdir()
        made = True
    except FileExistsError:
        made = False
    try:
        yield
    except BaseException:
        if made and not has_lines(run_folder / metrics_file):
            with suppress(ValueError), lock_folder(run_folder):
                shutil.rmtree(run_folder, ignore_errors=True)
        raise


def _scored_tasks(prepared: Prepared, stop: StopRequest, on_progress: Listener) -> list[ScoreTasks]:
    """Scoring on tasks, if the run asks for it."""
    if not prepared.questions:
        return []
    every_steps = prepared.config.tasks.every_steps
    return [
        ScoreTasks(prepared.questions, every_steps=every_steps, stop=stop, on_progress=on_progress)
    ]


def _run(
    prepared: Prepared,
    state: TrainingState,
    run_folder: Path,
    on_progress: Listener,
    on_sample: Tell,
    on_metrics: Watch,
) -> None:
    config, data = prepared.config, prepared.data
    with ExitStack() as open_things:
        record = Record(
            run_folder,
            first_step=state.step + 1 if state.step else 0,
            tensorboard=config.training.tensorboard,
        )
        open_things.callback(record.close)
        curve = Curve(config.schedule, n_steps=config.training.n_steps)
        for metrics in read_metrics(run_folder):
            curve.add(metrics)
        writer = open_things.enter_context(
            Writer(run_folder, keep_of(config), background=config.checkpoints.background)
        )
        loader = open_things.enter_context(make_loader(prepared))
        stop = open_things.enter_context(stop_on_signals())
        actions: list[Action] = [
            Evaluate(
                config.evaluation,
                prepared.validation,
                bytes_per_token=data.validation_bytes_per_token,
                stop=stop,
            ),
            ForecastEnd(config.evaluation.every_steps, curve),
            *_scored_tasks(prepared, stop, on_progress),
            Sample(config.samples, data.tokenizer, seed=config.seed, tell=on_sample, stop=stop),
        ]

        def rewind(state: TrainingState) -> None:
            writer.wait()
            checkpoint, _ = newest_checkpoint(run_folder)
            restore(state, checkpoint, prepared)
            record.go_back(state.step)
            curve.forget_after(state.step)

        def put_on_record(metrics: dict[str, Any]) -> None:
            record.write(metrics)
            curve.add(metrics)
            on_metrics(metrics)

        run_loop(
            state,
            config,
            loader,
            actions=actions,
            save=Save(
                config.checkpoints.every_steps, writer, data.tokenizer, facts_to_resume(prepared)
            ),
            rewind=rewind,
            record=put_on_record,
            on_progress=on_progress,
            stop=stop,
            step_flops=step_flops(prepared),
            peak_flops=prepared.peak.flops_per_second,
        )
