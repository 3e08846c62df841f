import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import modelwright
import small
from modelwright.cli.app import is_for_the_user, message_of
from modelwright.cli.demo import first_free, steps_for, with_steps
from modelwright.cli.display import amount, time_left
from modelwright.cli.train import run_name, shortened
from modelwright.model.config import ModelConfig
from modelwright.runtime.progress import Progress
from modelwright.training.step import no_second_try


def error_of(call) -> Exception:
    try:
        call()
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError("nothing was raised")


def test_our_own_complaints_are_for_the_user():
    assert is_for_the_user(error_of(lambda: ModelConfig(d_model=-1)))
    assert is_for_the_user(error_of(lambda: Path("/nowhere/at/all").read_text()))


def test_too_little_memory_is_for_the_user_to_mend():
    def update() -> None:
        with no_second_try(micro_batch=1):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    error = error_of(update)
    assert isinstance(error, MemoryError)
    assert is_for_the_user(error)
    assert "resume it from its newest checkpoint" in message_of(error)


def test_a_fault_inside_a_library_is_not_put_on_the_user():
    assert not is_for_the_user(error_of(lambda: np.zeros(3).reshape(2, 2)))
    assert not is_for_the_user(error_of(lambda: {}["key"]))


def test_the_systems_errors_name_the_file_first():
    assert (
        message_of(error_of(lambda: Path("/nowhere").read_text()))
        == "/nowhere: no such file or directory"
    )


def test_the_first_free_folder_is_numbered_from_two(tmp_path: Path):
    assert first_free(tmp_path / "demo") == tmp_path / "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert first_free(tmp_path / "demo") == tmp_path / "demo-3"


def test_the_demo_takes_the_steps_that_time_and_text_allow(tmp_path: Path):
    config = small.run_config(tmp_path)
    assert steps_for(config, 537.0, n_tokens=10_000_000) == 530
    assert steps_for(config, 3.0, n_tokens=10_000_000) == 100  # fewer would teach nothing
    assert steps_for(config, 1e9, n_tokens=10_000) == 20 * 10_000 // 64 // 10 * 10
    changed = with_steps(config, 500)
    assert (changed.training.n_steps, changed.evaluation.every_steps) == (500, 50)
    assert dataclasses.replace(changed, training=config.training, evaluation=config.evaluation,
                               samples=config.samples, checkpoints=config.checkpoints) == config  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (None, "default"),
        (Path("recipes/laptop.toml"), "laptop"),
        (Path("runs/mine/config.toml"), "mine"),
    ],
)
def test_a_run_is_called_after_its_recipe(recipe: Path | None, name: str):
    assert run_name(recipe) == name


def test_long_samples_are_cut_visibly():
    assert shortened("short", 10) == "short"
    assert shortened("a longer text", 9) == "a longer…"


def test_amounts_are_in_units_for_people():
    assert (
        amount(Progress(phase="", done=3_100_000, total=10_000_000, unit="bytes"))
        == "3.1 of 10.0 MB"
    )
    assert amount(Progress(phase="", done=1500, total=None, unit="steps")) == "1,500 steps"
    counted = Progress(phase="", done=2_000_000, total=None, unit="bytes", rate=3.5e8)
    assert amount(counted) == "2.0 MB, 350 MB/s"


def test_a_warning_of_our_own_is_a_sentence_and_others_keep_their_place():
    from modelwright.cli.app import in_one_line

    ours = str(Path(modelwright.__file__).parent / "data" / "hub.py")
    assert in_one_line("half is left out", UserWarning, ours, 7) == "note: half is left out\n"
    theirs = in_one_line("old", DeprecationWarning, "/elsewhere/library.py", 7, "call()")
    assert theirs.startswith("/elsewhere/library.py:7: DeprecationWarning: old")


def test_the_time_left_follows_from_the_rate():
    def left(done: int, total: int | None, rate: float | None) -> str:
        return time_left(Progress(phase="", done=done, total=total, unit="bytes", rate=rate))

    assert left(100, 1000, 10) == "1:30 left"
    assert left(0, 40_000, 10) == "1:06:40 left"
    assert left(0, None, 10) == left(0, 10, None) == left(10, 10, 5) == ""
