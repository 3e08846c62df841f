"""Runs from beginning to end: repeated, stopped and resumed, and what they leave on record."""

import hashlib
import json
import math
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import small
from modelwright.checkpoint import keeping
from modelwright.checkpoint.bundle import load_bundle, read_tensors
from modelwright.checkpoint.resume import checkpoint_folders, newest_checkpoint
from modelwright.config.loading import load_settings
from modelwright.experiments.report import write_report
from modelwright.model.config import AttentionKind
from modelwright.runtime.files import lock_folder, sha256_of
from modelwright.runtime.progress import Progress
from modelwright.training.assembly import make_loader, prepare
from modelwright.training.config import RunConfig
from modelwright.training.fine_tuning import with_initial_model
from modelwright.training.loop import Interrupted
from modelwright.training.metrics import read_metrics
from modelwright.training.runs import removed_on_failure, resume, train

pytestmark = pytest.mark.usefixtures("one_thread")


def weights_hash(run: Path) -> str:
    return sha256_of(newest_checkpoint(run)[0] / "model.safetensors")


def stopping_after(step: int) -> Callable[[Progress], None]:
    """A listener that presses Ctrl-C when a step is done."""

    def listen(progress: Progress) -> None:
        if progress.phase == "training" and progress.done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return listen


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went through without a stop; its data is beside it."""
    folder = tmp_path_factory.mktemp("whole")
    train(small.run_config(folder), folder / "run")
    return folder / "run"


def test_a_run_folder_holds_everything(finished: Path):
    names = {path.name for path in finished.iterdir()}
    assert {"config.toml", "run.json", "metrics.jsonl", "checkpoints"} <= names
    assert (finished / "tensorboard").is_dir()
    assert [folder.name for folder in checkpoint_folders(finished)] == [
        "step-000004",
        "step-000006",
    ]


def test_every_step_is_on_record(finished: Path):
    records = read_metrics(finished)
    assert [record["step"] for record in records] == list(range(7))
    assert [r["step"] for r in records if "validation_loss" in r] == [0, 3, 6]
    assert [r["step"] for r in records if "samples" in r] == [0, 3, 6]
    assert records[-1]["n_tokens"] == 6 * 64
    assert records[-1]["validation_loss"] < records[0]["validation_loss"]


def test_a_step_says_what_it_did_how_fast_and_on_what(finished: Path):
    records = read_metrics(finished)
    config = load_settings(RunConfig, finished / "config.toml").config
    prepared = prepare(config)
    facts = json.loads((finished / "run.json").read_text())
    with make_loader(prepared) as batches:
        for number, record in enumerate(records[1:]):
            assert record.keys() - {"samples"} - {k for k in record if "validation" in k} == {
                "step", "loss", "learning_rate", "gradient_norm", "n_tokens", "seconds",
                "step_seconds", "data_seconds", "tokens_per_second", "memory_bytes", "data_ids",
                "mfu",
            }  # fmt: skip
            samples = batches.batch(number).samples
            assert record["data_ids"] == hashlib.sha256(samples.tobytes()).hexdigest()[:12]
            speed = facts["step_flops"] / record["step_seconds"]
            assert record["mfu"] == pytest.approx(
                speed / facts["peak"]["flops_per_second"], abs=1e-4
            )
            assert 0 <= record["mfu"] < 1
            assert record["tokens_per_second"] == pytest.approx(
                64 / record["step_seconds"], rel=0.01
            )
            assert record["memory_bytes"] > 50e6  # Python with PyTorch is more than that


def test_the_perplexity_is_that_of_the_loss(finished: Path):
    for record in read_metrics(finished):
        if "validation_loss" in record:
            expected = math.exp(record["validation_loss"])
            assert record["validation_perplexity"] == pytest.approx(expected)
            assert record["validation_bits_per_byte"] > 0


def test_the_facts_name_what_auto_came_to(finished: Path):
    facts = json.loads((finished / "run.json").read_text())
    assert facts["precision"] == "fp32"
    config = load_settings(RunConfig, finished / "config.toml").config
    assert facts["attention"] == prepare(config).attention in get_args(AttentionKind)
    assert (facts["kernels"], facts["cuda_graph"]) == ("torch", False)  # on a processor
    assert facts["compiled"] is False
    assert facts["micro_batch"] == 2
    assert (
        sum(group["n_parameters"] for group in facts["optimizer_groups"])
        == (facts["parameters"]["total"])
    )


def test_no_tensorboard_is_written_where_none_is_wanted(finished: Path, tmp_path: Path):
    train(small.run_config(finished.parent, "training.tensorboard=false"), tmp_path / "run")
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert weights_hash(tmp_path / "run") == weights_hash(finished)


def test_the_finished_config_repeats_the_run(finished: Path, tmp_path: Path):
    config = load_settings(RunConfig, finished / "config.toml").config
    train(config, tmp_path / "again")
    assert weights_hash(tmp_path / "again") == weights_hash(finished)
    losses = [[r.get("loss") for r in read_metrics(run)] for run in (finished, tmp_path / "again")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    "change",
    [
        "seed=2",
        "schedule.peak_lr=0.001",
        "training.batch_tokens=128",
        "training.cut=packed",
        "training.precision=bf16",
        "optimizer.clip_norm=0.01",
        "optimizer.kind=muon",
        "model.dropout=0.2",
    ],
)
def test_a_changed_setting_changes_the_weights(finished: Path, tmp_path: Path, change: str):
    settings = [f"data.folder={finished.parent / 'data'}", change]
    train(small.run_config(finished.parent, *settings), tmp_path / "run")
    assert weights_hash(tmp_path / "run") != weights_hash(finished)


@pytest.mark.parametrize(
    "change",
    [
        "training.recompute=blocks",
        "training.recompute=selective",
        "checkpoints.background=false",
        "evaluation.n_tokens=128",
        "samples.n_samples=2",
        "training.average_decay=0.5",
    ],
)
def test_what_only_costs_or_watches_changes_no_weight(finished: Path, tmp_path: Path, change: str):
    train(small.run_config(finished.parent, change), tmp_path / "run")
    assert weights_hash(tmp_path / "run") == weights_hash(finished)


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3, 5, 6])
def test_a_stopped_run_goes_on_to_the_same_bits(finished: Path, tmp_path: Path, stop_after: int):
    run = tmp_path / "run"
    with pytest.raises(Interrupted) as raised:
        train(small.run_config(finished.parent), run, on_progress=stopping_after(stop_after))
    assert raised.value.step == stop_after
    resume(run)
    assert weights_hash(run) == weights_hash(finished)
    losses = [
        [(r["step"], r["loss"]) for r in read_metrics(one) if "loss" in r]
        for one in (run, finished)
    ]
    assert losses[0] == losses[1]
    measured = [
        {r["step"]: r["validation_loss"] for r in read_metrics(one) if "validation_loss" in r}
        for one in (run, finished)
    ]
    assert measured[0] == measured[1]


variants = {
    "dropout": ["model.dropout=0.2"],
    "average": ["training.average_decay=0.8"],
    "muon": ["optimizer.kind=muon"],
    "sgd": ["optimizer.kind=sgd"],
    "packed": ["training.cut=packed"],
    "recompute": ["training.recompute=blocks"],
    "fp16": ["training.precision=fp16"],
    "lanes": ["training.lanes=2"],
    "all": [
        "model.dropout=0.2",
        "training.average_decay=0.8",
        "optimizer.kind=muon",
        "training.cut=packed",
        "training.recompute=selective",
        "training.micro_batch=auto",
    ],
}


def tensors_of(run: Path) -> dict[str, str]:
    """The digest of each file of tensors in the newest checkpoint."""
    return {path.name: sha256_of(path) for path in newest_checkpoint(run)[0].glob("*.safetensors")}


@pytest.mark.parametrize("name", variants)
def test_with_each_option_a_stopped_run_goes_on_to_the_same_bits(
    finished: Path, tmp_path: Path, name: str
):
    changes = [*variants[name], "training.tensorboard=false", "samples.every_steps=99"]
    config = small.run_config(finished.parent, *changes)
    train(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "stopped", on_progress=stopping_after(3))
    resume(tmp_path / "stopped")
    assert tensors_of(tmp_path / "stopped") == tensors_of(tmp_path / "whole")
    has_average = "averaged.safetensors" in tensors_of(tmp_path / "whole")
    assert has_average is (name in ("average", "all"))


def test_a_run_resumed_from_an_older_checkpoint_comes_to_the_same_bits(
    finished: Path, tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    weights = run / "checkpoints" / "step-000006" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    notes: list[str] = []
    resume(run, on_note=notes.append)
    assert [note.partition(":")[0] for note in notes] == ["passed over a damaged checkpoint"]
    assert "step-000006" in notes[0]
    assert [r["step"] for r in read_metrics(run)] == list(range(7))
    # The damaged folder of the last step was replaced by a whole one.
    assert weights_hash(run) == weights_hash(finished)


def test_a_run_that_died_before_its_first_checkpoint_begins_again(finished: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "checkpoints")
    resume(run)
    assert [record["step"] for record in read_metrics(run)] == list(range(7))
    assert weights_hash(run) == weights_hash(finished)


def test_a_run_folder_in_use_is_not_trained_over(finished: Path):
    before = weights_hash(finished)
    with pytest.raises(FileExistsError, match="go on with it by `modelwright train --resume"):
        train(small.run_config(finished.parent), finished)
    assert weights_hash(finished) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.source=/nowhere/at/all.txt", "there is no text at"),
        ("tokenizer.file=/nowhere/tokenizer.json", "tokenizer.json"),
        ("model.context=65536", "fewer than one context"),
    ],
)
def test_a_run_that_cannot_begin_leaves_nothing_behind(tmp_path: Path, change: str, message: str):
    changes = [change, f"data.folder={tmp_path / 'run' / 'data'}", "training.batch_tokens=65536"]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(small.run_config(tmp_path, *changes), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_which_another_process_works_is_not_cleared_away(tmp_path: Path):
    run = tmp_path / "run"
    with pytest.raises(RuntimeError), removed_on_failure(run), lock_folder(run):
        raise RuntimeError
    assert not run.exists()  # it was ours alone
    with pytest.raises(RuntimeError), removed_on_failure(run):
        (run / "theirs").touch()
        other = lock_folder(run)
        other.__enter__()
        raise RuntimeError
    assert (run / "theirs").exists()
    other.__exit__(None, None, None)
    with pytest.raises(RuntimeError), removed_on_failure(run):
        raise RuntimeError
    assert (run / "theirs").exists()  # it was there before


def test_a_run_that_another_process_began_meanwhile_is_not_trained_over(
    finished: Path, tmp_path: Path
):
    """Both found no run there; the slower one, which still built its data, has to see it."""
    run = tmp_path / "run"

    def quicker(progress: Progress) -> None:
        if not run.joinpath("config.toml").exists():
            shutil.copytree(finished, run, dirs_exist_ok=True)

    with pytest.raises(FileExistsError, match="holds a run already"):
        train(small.run_config(finished.parent), run, on_progress=quicker)
    assert tensors_of(run) == tensors_of(finished)


def test_a_disk_that_cannot_hold_the_checkpoints_is_said_before_the_first_step(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(finished, tmp_path / "old")
    monkeypatch.setattr(keeping, "free_bytes", lambda _: 10_000_000)
    with pytest.raises(ValueError, match=r"need \d+\.\d MiB, but 9\.5 MiB are free there"):
        train(small.run_config(finished.parent), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"but 9\.5 MiB are free there"):
        resume(tmp_path / "old", overrides=["training.n_steps=8"])
    assert tensors_of(tmp_path / "old") == tensors_of(finished)


def test_the_room_asked_for_is_that_of_a_real_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []
    from modelwright.training import runs

    monkeypatch.setattr(runs, "require_space", lambda _, size, __: asked.append(size))
    for changes in ([], ["training.average_decay=0.9", "optimizer.kind=muon"]):
        run = tmp_path / f"run{len(changes)}"
        train(small.run_config(finished.parent, *changes), run)
        newest = newest_checkpoint(run)[0]
        tensors = [t for f in newest.glob("*.safetensors") for t in read_tensors(f).values()]
        n_bytes = sum(tensor.nbytes for tensor in tensors)
        # AdamW also counts its steps, a number for each tensor.
        assert 0 <= n_bytes - (asked[-1] - keeping.margin_bytes) <= 4 * len(tensors)


def test_an_average_is_measured_beside_the_weights(finished: Path, tmp_path: Path):
    train(small.run_config(finished.parent, "training.average_decay=0.9"), tmp_path / "run")
    last = read_metrics(tmp_path / "run")[-1]
    assert last["averaged_validation_loss"] > last["validation_loss"]  # it lags behind
    newest = newest_checkpoint(tmp_path / "run")[0]
    averaged = read_tensors(newest / "averaged.safetensors")
    weights = read_tensors(newest / "model.safetensors")
    assert averaged.keys() == weights.keys()
    assert not torch.equal(averaged["embedding.weight"], weights["embedding.weight"])


def fine_tuned(finished: Path, *changes: str) -> RunConfig:
    settings = [
        f"training.init_from={finished}",
        f"data.folder={finished.parent / 'data'}",
        "data.stories_bytes=60_000",
        "data.validation_fraction=0.1",
        "model.context=16",
        "training.batch_tokens=64",
        "training.n_steps=3",
        "training.precision=fp32",
        "training.device=cpu",
        "evaluation.n_tokens=64",
        "samples.max_tokens=5",
    ]
    return with_initial_model(load_settings(RunConfig, None, [*settings, *changes]))


def test_fine_tuning_begins_with_the_weights_of_a_run_and_at_step_zero(
    finished: Path, tmp_path: Path
):
    train(fine_tuned(finished, f"data.folder={tmp_path / 'data'}"), tmp_path / "run")
    records = read_metrics(tmp_path / "run")
    assert [record["step"] for record in records] == [0, 1, 2, 3]
    end = read_metrics(finished)[-1]["validation_loss"]
    assert records[0]["validation_loss"] == pytest.approx(end, rel=1e-6)
    assert records[-1]["n_tokens"] == 3 * 64
    assert records[-1]["validation_loss"] != end


def test_a_fine_tuned_run_goes_on_even_if_its_beginning_is_gone(finished: Path, tmp_path: Path):
    begun = tmp_path / "first"
    shutil.copytree(finished, begun)
    config = fine_tuned(begun, f"data.folder={tmp_path / 'data'}")
    train(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", on_progress=stopping_after(1))
    shutil.rmtree(begun)
    resume(tmp_path / "run")
    assert tensors_of(tmp_path / "run") == tensors_of(tmp_path / "whole")


def test_a_longer_run_learns_the_stories(tmp_path: Path):
    changes = [
        "training.n_steps=150",
        "training.batch_tokens=512",
        "training.micro_batch=32",
        "model.d_model=32",
        "evaluation.n_tokens=4096",
        "schedule.peak_lr=0.01",
    ]
    train(small.run_config(tmp_path, *changes), tmp_path / "run")
    records: list[dict[str, Any]] = read_metrics(tmp_path / "run")
    measured = [r["validation_loss"] for r in records if "validation_loss" in r]
    assert measured[0] > 5.5  # nearly log(300): it knows nothing yet
    assert measured[-1] < 4.2


def test_where_the_loss_will_end_is_said_from_a_third_on_and_a_stop_changes_nothing(tmp_path: Path):
    changes = [
        "training.n_steps=240",
        "training.batch_tokens=256",
        "training.micro_batch=16",
        "evaluation.every_steps=40",
        "samples.every_steps=999",
        "checkpoints.every_steps=100",
    ]
    config = small.run_config(tmp_path, *changes)
    notes: dict[int, str] = {}

    def listen(progress: Progress) -> None:
        if progress.phase == "training":
            notes[int(progress.done)] = progress.note

    train(config, tmp_path / "run", on_progress=listen)
    records = read_metrics(tmp_path / "run")
    said = {r["step"]: r for r in records if "forecast_loss" in r}
    assert list(said) == [120, 160, 200]  # half of 80 steps is too little, and 240 is the end
    for record in said.values():
        assert record["forecast_low"] < record["forecast_loss"] < record["forecast_high"]
    end = records[-1]["validation_loss"]
    assert said[200]["forecast_low"] < end < said[200]["forecast_high"]
    assert end < said[200]["forecast_loss"] * 1.05
    told = f"end at about {said[120]['forecast_loss']:.2f} ("
    assert [step for step, note in notes.items() if told in note] == list(range(120, 160))
    assert "end at about" not in notes[119] + notes[240]
    assert "forecast of the last loss" in write_report(tmp_path / "run").read_text()

    with pytest.raises(Interrupted):
        train(config, tmp_path / "stopped", on_progress=stopping_after(150))
    resume(tmp_path / "stopped")
    again = {r["step"]: r for r in read_metrics(tmp_path / "stopped") if "forecast_loss" in r}
    for name in ("forecast_loss", "forecast_low", "forecast_high"):
        assert [r[name] for r in again.values()] == [r[name] for r in said.values()]


def test_the_report_stands_on_its_own(finished: Path):
    page = write_report(finished).read_text()
    for expected in (
        "<svg",
        "validation loss",
        "tokens per second",
        "parameters",
        "peak_lr",
        "Once upon a time",
    ):
        assert expected in page
    for forbidden in ("http://", "https://", "<script", "url("):
        assert forbidden not in page.replace("http://www.w3.org", "").replace("url(#", "")


def test_a_bundle_of_a_run_generates(finished: Path):
    bundle = load_bundle(newest_checkpoint(finished)[0])
    assert bundle.model.config.vocab_size == bundle.tokenizer.n_vocab == 300


def test_data_is_built_once_and_opened_after(finished: Path, tmp_path: Path):
    told: list[str] = []
    prepare(small.run_config(finished.parent), lambda progress: told.append(progress.phase))
    assert set(told) == {"verifying"}
    told.clear()
    prepare(small.run_config(tmp_path), lambda progress: told.append(progress.phase))
    assert list(dict.fromkeys(told)) == [
        "telling stories",
        "reading text",
        "training the tokenizer",
        "cutting text into tokens",
        "verifying",
    ]


def test_data_that_was_removed_meanwhile_is_built_again(finished: Path, tmp_path: Path):
    with pytest.raises(Interrupted):
        train(small.run_config(tmp_path), tmp_path / "run", on_progress=stopping_after(3))
    shutil.rmtree(tmp_path / "data")
    resume(tmp_path / "run")
    assert tensors_of(tmp_path / "run") == tensors_of(finished)
