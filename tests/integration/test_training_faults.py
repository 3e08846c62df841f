"""What must not break a run: rows 1, 3, 9, 10, 14, 15, 16, 18, 19, 20 and 21 of the list of faults."""

import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import saving
import small
from modelwright.checkpoint.resume import checkpoint_folders, newest_checkpoint
from modelwright.config.loading import load_settings, to_toml
from modelwright.data.shards import header_bytes
from modelwright.experiments.report import write_report
from modelwright.runtime.files import lock_folder, sha256_of
from modelwright.runtime.manifest import write_manifest
from modelwright.runtime.progress import Progress
from modelwright.training import assembly, step
from modelwright.training.assembly import make_loader, prepare
from modelwright.training.config import RunConfig
from modelwright.training.loop import Interrupted
from modelwright.training.metrics import events, read_metrics
from modelwright.training.precision import LossScale
from modelwright.training.runs import resume, train

pytestmark = pytest.mark.usefixtures("one_thread")

tests = Path(__file__).parent.parent
command = [sys.executable, "-m", "modelwright", "train"]
environment = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")]),
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went through without a fault; its data is beside it."""
    folder = tmp_path_factory.mktemp("whole")
    train(small.run_config(folder), folder / "run")
    return folder / "run"


def config_in(finished: Path, *changes: str) -> RunConfig:
    return small.run_config(finished.parent, "samples.every_steps=99", *changes)


def stopping_after(step: int) -> Callable[[Progress], None]:
    """A listener that presses Ctrl-C when a step is done."""

    def listen(progress: Progress) -> None:
        if progress.phase == "training" and progress.done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return listen


def recipe_in(place: Path, config: RunConfig) -> Path:
    path = place / "recipe.toml"
    path.write_text(to_toml(config))
    return path


def tensors_of(run: Path) -> dict[str, str]:
    """The digest of each file of tensors in the newest checkpoint."""
    return {path.name: sha256_of(path) for path in newest_checkpoint(run)[0].glob("*.safetensors")}


def losses_of(run: Path) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in read_metrics(run) if "loss" in record}


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256_of(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def run_script(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=cwd,
    )


# Row 1: a run that is killed.

mortal = [
    "training.n_steps=40",
    "checkpoints.every_steps=3",
    "evaluation.every_steps=7",
    "model.dropout=0.1",
    "training.average_decay=0.9",
    "training.cut=packed",
    "optimizer.kind=muon",
    "training.micro_batch=auto",
]


@pytest.fixture(scope="module")
def immortal(finished: Path) -> Path:
    """The run of `mortal` settings that nobody killed, and beside it its recipe."""
    place = finished.parent / "immortal"
    place.mkdir()
    recipe = recipe_in(place, config_in(finished, *mortal))
    done = run_script(sys.executable, tests / "mortal_run.py", recipe, place / "run", "inside")
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    return place / "run"


@pytest.mark.parametrize("mode", ["inside", "outside"])
def test_a_run_killed_again_and_again_comes_to_the_same_bits(
    immortal: Path, tmp_path: Path, mode: str
):
    chance = random.Random(1)
    moments: list[float] = (
        sorted(chance.sample(range(1, 40), 20))
        if mode == "inside"
        else [round(chance.uniform(0.05, 0.8), 3) for _ in range(8)]
    )
    run = tmp_path / "run"
    recipe = immortal.parent / "recipe.toml"
    done = run_script(sys.executable, tests / "mortal_run.py", recipe, run, mode, *moments)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 20 if mode == "inside" else int(done.stdout) > 0
    assert tensors_of(run) == tensors_of(immortal)
    assert losses_of(run) == losses_of(immortal)
    assert [record["step"] for record in read_metrics(run)] == list(range(41))
    assert not list(run.rglob("*.part"))


# Row 3: a run that is asked to stop.


class HeldUp:
    """A `modelwright train` that is at a place where it stays for a while."""

    all: ClassVar[list[subprocess.Popen[str]]] = []

    def __init__(self, place: str, folder: Path, *changes: str) -> None:
        self.run = folder / "run"
        self.ready = folder / "ready"
        recipe = recipe_in(folder, small.run_config(folder, "samples.every_steps=99", *changes))
        self.process = subprocess.Popen(
            [
                sys.executable,
                tests / "held_up_train.py",
                place,
                self.ready,
                recipe,
                "--out",
                self.run,
            ],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.all.append(self.process)
        deadline = time.monotonic() + 120
        while not self.ready.exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, float]:
        """Exit code, what was said, and after how many seconds."""
        began = time.monotonic()
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said, time.monotonic() - began


@pytest.fixture(autouse=True)
def nobody_left_behind() -> Iterator[None]:
    """No process outlives its test, however that ends."""
    yield
    for process in HeldUp.all:
        process.kill()
        process.wait()
    HeldUp.all.clear()


endless = [
    "training.n_steps=100000",
    "checkpoints.every_steps=100000",
    "evaluation.every_steps=9999",
]


@pytest.mark.parametrize(
    ("place", "number", "code"),
    [
        ("training", signal.SIGTERM, 143),
        ("training", signal.SIGINT, 130),
        ("evaluating", signal.SIGTERM, 143),
        ("waiting", signal.SIGTERM, 143),
    ],
)
def test_a_run_asked_to_stop_saves_within_a_step_wherever_it_is(
    tmp_path: Path, place: str, number: int, code: int
):
    # Long enough for an evaluation that would take minutes where each batch is slow.
    long = ["evaluation.n_tokens=0", "data.stories_bytes=200_000"] if place == "evaluating" else []
    held_up = HeldUp(place, tmp_path, *endless, *long)
    held_up.send(number)
    returned, said, seconds = held_up.end()
    assert returned == code, said
    assert seconds < 30
    assert f"modelwright train --resume {held_up.run}" in " ".join(said.split())
    last = read_metrics(held_up.run)[-1]["step"]
    assert checkpoint_folders(held_up.run)[-1].name == f"step-{last:06}"
    assert f"after step {last};" in said
    assert not list(held_up.run.rglob("*.part"))


def test_a_run_asked_to_stop_while_its_text_is_cut_into_tokens_leaves_nothing(tmp_path: Path):
    held_up = HeldUp("tokenising", tmp_path)
    held_up.send(signal.SIGTERM)
    returned, said, seconds = held_up.end()
    assert returned == 143, said
    assert seconds < 30
    assert "stopped; start again with the same command" in said
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"ready", "recipe.toml"}
    assert not held_up.run.exists()


def test_a_second_signal_ends_a_run_at_once(tmp_path: Path):
    held_up = HeldUp("stepping", tmp_path, *endless)
    held_up.send(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for the step
        held_up.process.wait(1)
    held_up.send(signal.SIGINT)
    returned, said, seconds = held_up.end()
    assert returned == 130, said
    assert seconds < 10
    assert checkpoint_folders(held_up.run) == []


# Rows 9, 10 and 14: damaged data.


def truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-1])


def flip(shard: Path) -> None:
    saving.flip_a_bit(shard, at=shard.stat().st_size // 2)


def put_beyond_the_vocabulary(shard: Path) -> None:
    """As a faulty builder would: the manifest agrees with every byte."""
    content = bytearray(shard.read_bytes())
    content[header_bytes + 14 : header_bytes + 16] = (300).to_bytes(2, "little")
    shard.write_bytes(content)
    manifest = json.loads((shard.parent / "manifest.json").read_text())
    write_manifest(shard.parent, manifest["kind"], manifest["facts"])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "bytes"),
        (flip, "altered"),
        (put_beyond_the_vocabulary, "token 7 is the id 300, but the vocabulary has 300"),
    ],
)
def test_damaged_data_is_refused_before_the_first_step(
    finished: Path, tmp_path: Path, damage: Callable[[Path], None], said: str
):
    data = tmp_path / "data"
    shutil.copytree(finished.parent / "data", data)
    shard = data / "train-00000.shard"
    damage(shard)
    recipe = recipe_in(tmp_path, config_in(finished, f"data.folder={data}"))
    done = run_script(*command, recipe, "--out", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert shard.name in done.stderr
    assert said in done.stderr
    assert not (tmp_path / "run").exists()
    # And so is going on with a run.
    shutil.copytree(finished, tmp_path / "old")
    before = files_of(tmp_path / "old")
    with pytest.raises(ValueError, match=shard.name):
        resume(tmp_path / "old", overrides=[f"data.folder={data}", "training.n_steps=8"])
    assert files_of(tmp_path / "old") == before


# Row 15: another tokenizer.


def test_going_on_with_text_of_another_tokenizer_is_refused_and_both_are_shown(
    finished: Path, tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = files_of(run)
    other = prepare(
        config_in(finished, "data.stories_seed=2", f"data.folder={tmp_path / 'other'}")
    ).data.tokenizer
    ours = json.loads((newest_checkpoint(run)[0] / "config.json").read_text())
    with pytest.raises(ValueError, match="was trained with the tokenizer") as raised:
        resume(run, overrides=[f"data.folder={tmp_path / 'other'}"])
    assert ours["tokenizer_fingerprint"][:16] in str(raised.value)
    assert other.fingerprint[:16] in str(raised.value)
    assert files_of(run) == before


# Rows 16 and 18: losses that are no number or far too high.


def bad_batch(
    monkeypatch: pytest.MonkeyPatch, config: RunConfig, *numbers: int, times: float
) -> None:
    """Multiply the loss of the batches of these numbers, whenever they come."""
    bad: set[tuple[int, ...]] = set()
    with make_loader(prepare(config)) as batches:
        for number in numbers:
            bad |= {tuple(row) for row in batches.batch(number).inputs.tolist()}
    whole = step.next_token_loss

    def loss(model: Any, inputs: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        found = whole(model, inputs, *others, **named)
        return found * times if tuple(inputs[0].tolist()) in bad else found

    monkeypatch.setattr(step, "next_token_loss", loss)


policies = ["training.n_steps=8", "policies.spike_window=5", "checkpoints.every_steps=2"]


def test_a_run_whose_loss_is_no_number_stops_before_it_and_goes_on_without(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, config = tmp_path / "run", config_in(finished, *policies)
    train(
        config_in(finished, *policies, "training.n_steps=5", "schedule.kind=constant"),
        tmp_path / "five",
    )
    bad_batch(monkeypatch, config, 5, times=math.nan)
    with pytest.raises(
        FloatingPointError, match="step 6 has loss nan .* 'skip' or 'rewind' leaves"
    ):
        train(config_in(finished, *policies, "schedule.kind=constant"), run)
    assert newest_checkpoint(run)[0].name == "step-000005"
    assert tensors_of(run) == tensors_of(tmp_path / "five")  # the state before that step
    event = events(read_metrics(run))[-1]
    assert (event["step"], event["event"], event["action"]) == (6, "not_finite", "stop")
    with make_loader(prepare(config)) as batches:
        assert event["sample_ids"] == batches.batch(5).samples.tolist()
    assert "loss" not in event
    with pytest.raises(FloatingPointError):  # going on as before comes to the same
        resume(run)
    assert len(events(read_metrics(run))) == 1
    resume(run, overrides=["policies.not_finite=skip"])
    assert [event["action"] for event in events(read_metrics(run))] == ["skip"]
    assert sorted(losses_of(run)) == [1, 2, 3, 4, 5, 7, 8]
    write_report(run)  # which tells of the event


@pytest.mark.parametrize(("times", "policy"), [(math.nan, "not_finite"), (10.0, "spike")])
def test_a_step_that_is_skipped_moves_no_weight(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: float, policy: str
):
    changes = [*policies, "schedule.kind=constant", "checkpoints.keep=9"]
    config = config_in(finished, *changes, f"policies.{policy}=skip")
    bad_batch(monkeypatch, config, 3, times=times)
    train(config, tmp_path / "run")
    saved = tmp_path / "run" / "checkpoints"
    before, after = (sha256_of(saved / f"step-{n:06}" / "model.safetensors") for n in (4, 6))
    assert before != after
    # Step 4 left the weights as step 3 had them: a run of three steps ends with the same.
    train(config_in(finished, *changes, "training.n_steps=3"), tmp_path / "three")
    assert sha256_of(newest_checkpoint(tmp_path / "three")[0] / "model.safetensors") == before
    event = events(read_metrics(tmp_path / "run"))
    assert [(e["step"], e["event"], e["action"]) for e in event] == [(4, policy, "skip")]


@pytest.mark.parametrize("name", ["not_finite", "spike"])
def test_a_run_goes_back_and_leaves_a_bad_batch_out_however_often_it_is_stopped(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    config = config_in(finished, *policies, f"policies.{name}=rewind")
    bad_batch(monkeypatch, config, 3, 5, times=math.nan if name == "not_finite" else 10.0)
    train(config, tmp_path / "run")
    found = events(read_metrics(tmp_path / "run"))
    # Batch 3 fails at step 4, so back to 2; then step 4 learns from batch 4, and 5 fails at step 5.
    assert [(e["batch"], e["from_step"], e["step"]) for e in found] == [(3, 4, 2), (5, 5, 4)]
    assert [e["event"] for e in found] == [name] * 2
    records = read_metrics(tmp_path / "run")
    learned = [record["data_ids"] for record in records if "data_ids" in record]
    with make_loader(prepare(config)) as batches:
        samples = [batches.batch(number).samples for number in (0, 1, 2, 4, 6, 7, 8, 9)]
    assert learned == [hashlib.sha256(ids.tobytes()).hexdigest()[:12] for ids in samples]
    for number in range(1, 9):
        run = tmp_path / f"stopped-{number}"
        with pytest.raises(Interrupted):
            train(config, run, on_progress=stopping_after(number))
        resume(run)
        assert tensors_of(run) == tensors_of(tmp_path / "run")
        assert losses_of(run) == losses_of(tmp_path / "run")


def test_a_run_that_went_back_too_often_stops(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    changes = [*policies, "policies.not_finite=rewind", "policies.most_rewinds=2"]
    config = config_in(finished, *changes)
    bad_batch(monkeypatch, config, 0, 1, 2, times=math.nan)
    with pytest.raises(FloatingPointError, match="a larger policies.most_rewinds than 2"):
        train(config, tmp_path / "run")
    found = events(read_metrics(tmp_path / "run"))
    assert [e["action"] for e in found] == ["rewind", "rewind", "stop"]
    assert newest_checkpoint(tmp_path / "run")[0].name == "step-000000"


def test_a_loss_ten_times_as_high_is_flagged(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = config_in(finished, *policies)
    bad_batch(monkeypatch, config, 4, times=10.0)
    train(config, tmp_path / "run")
    (event,) = events(read_metrics(tmp_path / "run"))
    assert (event["step"], event["event"], event["action"]) == (5, "spike", "take")
    assert event["loss"] > 5 * losses_of(tmp_path / "run")[4]
    assert len(event["sample_ids"]) == 4
    assert sorted(losses_of(tmp_path / "run")) == list(range(1, 9))


# Overflows in fp16.


def test_a_loss_scale_that_is_far_too_high_falls_while_the_run_goes_on(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    changes = ["training.n_steps=20", "schedule.kind=constant", "schedule.warmup=0"]
    kept = ["checkpoints.every_steps=20", "evaluation.n_tokens=0", "evaluation.every_steps=20"]
    with monkeypatch.context() as patch:
        patch.setattr(assembly, "make_loss_scale", lambda _: LossScale(2.0**24))
        config = config_in(finished, *changes, *kept, "training.precision=fp16")
        train(config, tmp_path / "narrow")
        with pytest.raises(Interrupted):
            train(config, tmp_path / "stopped", on_progress=stopping_after(9))
        resume(tmp_path / "stopped")
    assert tensors_of(tmp_path / "stopped") == tensors_of(tmp_path / "narrow")
    records = read_metrics(tmp_path / "narrow")
    found = events(records)
    n_skipped = len(found)
    assert 0 < n_skipped < 20
    assert {e["event"] for e in found} == {"overflow"}
    assert found[0]["step"] == 1
    assert records[-1]["loss_scale"] == 2.0 ** (24 - n_skipped)
    # A run in fp32 of as many updates comes about as far, though with other batches.
    n_updates = f"training.n_steps={20 - n_skipped}"
    train(config_in(finished, *changes, *kept, n_updates), tmp_path / "wide")
    last = read_metrics(tmp_path / "wide")[-1]
    assert "loss_scale" not in last
    assert last["validation_loss"] < records[0]["validation_loss"] - 0.3
    assert records[-1]["validation_loss"] == pytest.approx(last["validation_loss"], abs=0.1)


def test_losses_in_fp16_are_near_those_in_fp32(finished: Path, tmp_path: Path):
    for name in ("fp16", "fp32"):
        train(
            config_in(finished, f"training.precision={name}", "training.n_steps=10"),
            tmp_path / name,
        )
    narrow, wide = losses_of(tmp_path / "fp16"), losses_of(tmp_path / "fp32")
    assert narrow != wide
    assert narrow == pytest.approx(wide, rel=2e-3)  # fp16 has eleven bits: a rounding of 5e-4


# Row 19: other settings on the way.


def copy_of(finished: Path, place: Path) -> Path:
    shutil.copytree(finished, place / "run")
    return place / "run"


def resumed(run: Path, **changes: Any) -> list[str]:
    notes: list[str] = []
    resume(run, on_note=notes.append, **changes)
    return notes


@pytest.mark.parametrize("way", ["set", "edited", "recipe"])
def test_settings_that_may_change_are_shown_recorded_and_followed(
    finished: Path, tmp_path: Path, way: str
):
    run = copy_of(finished, tmp_path)
    changes = ["training.n_steps=9", "schedule.peak_lr=0.001", "schedule.kind=constant"]
    changed = small.run_config(finished.parent, *changes)
    if way == "set":
        notes = resumed(run, overrides=changes)
    elif way == "edited":
        (run / "config.toml").write_text(to_toml(changed))
        notes = resumed(run)
    else:
        notes = resumed(run, recipe=recipe_in(tmp_path, changed))
    assert notes == [
        'changed: schedule.kind: "cosine" → "constant"',
        "changed: schedule.peak_lr: 0.003 → 0.001",
        "changed: training.n_steps: 6 → 9",
    ]
    assert load_settings(RunConfig, run / "config.toml").config == changed
    records = read_metrics(run)
    assert [record["step"] for record in records] == list(range(10))
    assert [record["learning_rate"] for record in records[7:]] == [0.001] * 3
    (recorded,) = json.loads((run / "run.json").read_text())["changed_settings"]
    assert recorded["after_step"] == 6
    assert [f"changed: {change}" for change in recorded["changes"]] == notes
    assert resumed(run) == []  # the new settings are those of its newest checkpoint


@pytest.mark.parametrize(
    "change",
    ["model.d_model=32", "seed=2", "data.validation_fraction=0.2", "training.batch_tokens=128"],
)
@pytest.mark.parametrize("way", ["set", "edited"])
def test_settings_of_another_run_are_refused_and_nothing_changes(
    finished: Path, tmp_path: Path, change: str, way: str
):
    run = copy_of(finished, tmp_path)
    overrides = [change, "training.n_steps=9"]
    if way == "edited":
        (run / "config.toml").write_text(to_toml(small.run_config(finished.parent, *overrides)))
        overrides = []
    before = files_of(run)
    name, _, value = change.partition("=")
    with pytest.raises(ValueError, match=rf"{name}: \S+ → {value}; put them back"):
        resumed(run, overrides=overrides)
    assert files_of(run) == before


def test_another_text_under_the_same_settings_is_refused(finished: Path, tmp_path: Path):
    run = tmp_path / "run"
    text, stories = tmp_path / "text.txt", small.texts(300)
    tokenizer = finished.parent / "data" / "tokenizer.json"
    changes = [f"data.source={text}", f"tokenizer.file={tokenizer}"]
    text.write_text("\n<|endoftext|>\n".join(stories[:150]))
    train(config_in(finished, *changes, f"data.folder={tmp_path / 'first'}"), run)
    text.write_text("\n<|endoftext|>\n".join(stories[150:]))
    prepare(config_in(finished, *changes, f"data.folder={tmp_path / 'second'}"))
    before = files_of(run)
    with pytest.raises(ValueError, match="was trained on the data .* begin a new run"):
        resumed(run, overrides=[f"data.folder={tmp_path / 'second'}"])
    assert files_of(run) == before
    # The same text in another place is the same text.
    shutil.copytree(tmp_path / "first", tmp_path / "moved")
    assert len(resumed(run, overrides=[f"data.folder={tmp_path / 'moved'}"])) == 1


# Row 20: two processes.


def test_a_second_process_on_a_run_is_refused(finished: Path, tmp_path: Path):
    run = copy_of(finished, tmp_path)
    before = files_of(run)
    with lock_folder(run):
        done = run_script(*command, "--resume", run)
    assert done.returncode == 2
    assert f"in use by another modelwright process (id {os.getpid()})" in done.stderr
    assert files_of(run) == before


def test_the_lock_of_a_killed_process_is_taken_over(finished: Path, tmp_path: Path):
    held_up = HeldUp("stepping", tmp_path, *endless)
    with pytest.raises(ValueError, match=f"in use by another .* {held_up.process.pid}\\)"):
        resume(held_up.run, overrides=["training.n_steps=4"])
    held_up.send(signal.SIGKILL)
    held_up.process.communicate(timeout=30)
    resume(held_up.run, overrides=["training.n_steps=4"])
    assert newest_checkpoint(held_up.run)[0].name == "step-000004"


# Row 21: too little memory.


def make_scarce(monkeypatch: pytest.MonkeyPatch, most: int, from_call: int = 0) -> None:
    """Memory into which so many sequences fit, from a call on."""
    whole, calls = step.next_token_loss, []

    def loss(model: Any, inputs: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        calls.append(len(inputs))
        if len(calls) > from_call and len(inputs) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(model, inputs, *others, **named)

    monkeypatch.setattr(step, "next_token_loss", loss)


def test_portions_that_do_not_fit_halve_and_the_run_stays_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = config_in(finished, "training.micro_batch=auto")
    train(config, tmp_path / "roomy")
    assert json.loads((tmp_path / "roomy" / "run.json").read_text())["micro_batch"] == 4
    make_scarce(monkeypatch, most=1, from_call=2)
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(config, run, on_progress=stopping_after(4))
    resume(run)
    (event,) = events(read_metrics(run))  # the resumed run began with the smaller portions
    assert (event["step"], event["event"], event["micro_batch"]) == (3, "out_of_memory", 1)
    roomy = read_metrics(tmp_path / "roomy")
    for ours, theirs in zip(read_metrics(run)[1:], roomy[1:], strict=True):
        assert ours["data_ids"] == theirs["data_ids"]
        # The same sum in another order, and AdamW's first steps divide by small numbers.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_an_update_that_does_not_fit_ends_the_run_at_its_last_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from modelwright.training.updates import Optimizer

    whole, calls = Optimizer.step, []

    def update(self: Optimizer, rate: float, **told: Any) -> None:
        calls.append(rate)
        whole(self, rate, **told)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Optimizer, "step", update)
        with pytest.raises(MemoryError, match="half of it may be done"):
            train(config_in(finished, "training.micro_batch=auto"), run)
    assert len(calls) == 4
    assert newest_checkpoint(run)[0].name == "step-000002"
    train(config_in(finished, "training.micro_batch=auto"), tmp_path / "whole")
    resume(run)
    assert tensors_of(run) == tensors_of(tmp_path / "whole")
