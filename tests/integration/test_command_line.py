"""The command line as a person meets it: exit codes, what is said, what is left on disk.

The first demo, signals and the version are those of real processes.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import command
import small
from modelwright.cli.app import app

program = [sys.executable, "-m", "modelwright"]
call = command.run


def call_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `modelwright demo --fast` has run."""
    folder = tmp_path_factory.mktemp("demo")
    done = call_process("demo", "--fast", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "What it writes now" in done.stdout
    assert "validation loss" in done.stdout
    return folder


def test_the_demo_leaves_a_run_and_a_report(place: Path):
    run = place / "runs" / "demo"
    assert (run / "report.html").stat().st_size > 20_000
    assert (run / "data" / "manifest.json").exists()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 31


def test_a_second_demo_takes_a_folder_of_its_own(place: Path):
    assert call("demo", "--fast", cwd=place).returncode == 0
    assert (place / "runs" / "demo-2" / "report.html").exists()


def test_generate_continues_a_prompt_and_repeats_with_a_seed(place: Path):
    arguments = ("generate", "runs/demo", "--prompt", "Once", "--max-tokens", 12, "--seed", 4)
    first, again = call(*arguments, cwd=place), call(*arguments, cwd=place)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Once")
    assert first.stdout == again.stdout
    assert re.search(r"\[\d+ tokens, \d+ tokens/s, seed 4\]", first.stderr)
    several = call(*arguments, "--samples", 2, cwd=place)
    assert several.stdout.count("---") == 1
    piped = call("generate", "runs/demo", "-p", "-", "--max-tokens", 3, cwd=place, given=b"One day")
    assert piped.stdout.startswith("One day")


def test_report_and_train_resume_work_on_a_finished_run(place: Path):
    report = place / "runs" / "demo" / "report.html"
    report.unlink()
    assert call("report", "runs/demo", cwd=place).returncode == 0
    assert report.exists()
    assert call("train", "--resume", "runs/demo", cwd=place).returncode == 0
    changed = call("train", "--resume", "runs/demo", "--set", "checkpoints.keep=3", cwd=place)
    assert changed.returncode == 0
    assert "note: changed: checkpoints.keep: 2 → 3" in changed.stderr
    refused = call("train", "--resume", "runs/demo", "--set", "seed=2", cwd=place)
    assert refused.returncode == 2
    assert "seed: 1 → 2; put them back" in refused.stderr


def test_the_way_by_single_verbs(tmp_path: Path):
    text = tmp_path / "text.txt"
    text.write_text("\n<|endoftext|>\n".join(small.texts(120)))
    made = call(
        "tokenizer", "train", "text.txt", "--vocab-size", 320, "--out", "tok.json", cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    assert "320 tokens" in made.stdout
    ids = call("tokenizer", "encode", "tok.json", "Once upon a time", cwd=tmp_path).stdout.split()
    assert all(0 <= int(token) < 320 for token in ids)
    pieces = call(
        "tokenizer", "encode", "tok.json", "--pieces", cwd=tmp_path, given="a zoo ü".encode()
    )
    assert pieces.stdout.strip().replace("|", "").startswith("a zoo")
    settings = ["--set", "tokenizer.file=tok.json", "--set", "tokenizer.vocab_size=320"]
    built = call(
        "data", "build", "--source", "text.txt", "--out", "shards", *settings, cwd=tmp_path
    )
    assert built.returncode == 0, built.stderr
    assert "bytes per token" in built.stdout
    small_run = [
        "model.d_model=16",
        "model.n_heads=2",
        "model.context=32",
        "training.batch_tokens=64",
        "training.n_steps=3",
    ]
    arguments = [
        part
        for setting in ["data.source=text.txt", "data.folder=shards", *small_run]
        for part in ("--set", setting)
    ]
    trained = call("train", *settings, *arguments, "--out", "runs/mine", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "runs" / "mine" / "report.html").exists()


def test_demo_learns_from_your_own_text(tmp_path: Path):
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(small.texts(60)):
        (tmp_path / "texts" / f"{number}.txt").write_text(text)
    done = call("demo", "--fast", "--text", "texts", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["data"]["train"]["n_documents"] == 60


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--text", "missing.txt"], "there is no text at missing.txt"),
        (["demo", "--text", "empty.txt"], "empty.txt is empty"),
        (["demo", "--text", "blank.txt"], "blank.txt; choose one with words in it"),
        (["demo", "--text", "short.txt", "--fast"], "fewer than one context"),
        (["demo", "--out", "taken"], "taken holds a run already"),
        (["demo", "--out", "file.txt/run"], "file.txt is a file"),
        (["demo", "--seconds", "-1"], "--seconds is -1"),
        (["train", "missing.toml"], "there is no recipe missing.toml"),
        (
            ["train", "bad.toml"],
            "bad.toml, line 2: unknown setting schedule.peak_Ir; did you mean schedule.peak_lr?",
        ),
        (["train", "--set", "tokenizer.vocab_size=200"], "the least is 257"),
        (["train", "--set", "training.batch_tokens=1000"], "the nearest that is, is 1024"),
        (["train", "--resume", "nowhere"], "there is no run folder nowhere"),
        (["train", "--resume", "empty"], "holds no whole checkpoint"),
        (["train", "--resume", "taken", "--out", "runs"], "--resume takes one run folder"),
        (["train", "--set", "training.device=cuda"], "PyTorch sees no CUDA GPU"),
        (["tokenizer", "train", "short.txt", "--vocab-size", "100"], "the least is 257"),
        (["tokenizer", "train", "short.txt", "--out", "file.txt"], "add --force"),
        (["tokenizer", "encode", "file.txt", "x"], "file.txt"),
        (["data", "build", "--source", "none", "--out", "d"], "there is no text at none"),
        (["generate", "nowhere"], "there is no run folder nowhere"),
        (["generate", "taken", "--temperature", "-1"], "temperature is -1"),
        (["report", "empty"], "there is no run in it"),
        (["config", "bad.toml"], "did you mean schedule.peak_lr?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "runs").mkdir()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text(" \n\n")
    (tmp_path / "short.txt").write_text("only a few words here")
    (tmp_path / "file.txt").write_text("not a tokenizer")
    (tmp_path / "bad.toml").write_text("[schedule]\npeak_Ir = 1\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.toml").touch()
    before = files_in(tmp_path)
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert files_in(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_no_permission_to_write_is_said(tmp_path: Path):
    tmp_path.chmod(0o500)
    done = call("demo", "--fast", cwd=tmp_path)
    tmp_path.chmod(0o700)
    assert done.returncode == 2
    assert "no permission to write" in done.stderr


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*program, *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_training_saves_and_says_how_to_go_on(
    tmp_path: Path, number: int, code: int
):
    settings = [
        "data.stories_bytes=60_000",
        "tokenizer.vocab_size=300",
        "model.d_model=16",
        "model.n_heads=2",
        "model.context=32",
        "training.batch_tokens=64",
        "training.n_steps=100_000",
    ]
    process = start(
        "train", *[p for s in settings for p in ("--set", s)], "--out", "run", cwd=tmp_path
    )
    wait_for(tmp_path / "run" / "metrics.jsonl", process)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "modelwright train --resume run" in errors
    assert (tmp_path / "run" / "checkpoints").exists()
    assert not list((tmp_path / "run").rglob("*.part"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_training_leaves_nothing(tmp_path: Path, number: int, code: int):
    process = start("data", "build", "--set", "data.stories_bytes=2_000_000_000", cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("data/stories.unfinished/spool")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "stopped; start again with the same command" in errors
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_config_shows_origins_and_schema(tmp_path: Path):
    (tmp_path / "r.toml").write_text("seed = 3\n")
    shown = call("config", "r.toml", "--set", "model.n_layers=9", cwd=tmp_path).stdout
    assert "seed = 3 # r.toml, line 1" in shown
    assert "n_layers = 9 # --set model.n_layers=9" in shown
    schema = json.loads(call("config", "--schema", cwd=tmp_path).stdout)
    assert schema["properties"]["seed"]["type"] == "integer"


def commands_of(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    yield name, group
    for part, inner in getattr(group, "commands", {}).items():
        yield from commands_of(inner, f"{name} {part}".strip())


@pytest.mark.parametrize(
    ("name", "verb"),
    [(name, verb) for name, verb in commands_of(get_command(app)) if "commands" not in vars(verb)],
)
def test_what_help_says_stands_there_to_the_last_bracket(
    name: str, verb: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 400)
    shown = " ".join(call(*name.split(), "--help").stdout.split())
    for parameter in verb.params:
        told = (parameter.help or "").replace("\\[", "[")
        assert re.search(re.escape(told).replace("\\ ", r"\W+"), shown), f"{name}: {told}"


def test_version_is_said(tmp_path: Path):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", call_process("--version", cwd=tmp_path).stdout)
