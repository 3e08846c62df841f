"""`modelwright evaluate` on checkpoints and files that take milliseconds."""

import io
import json
import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import saving
from fake_hub import fake_hub
from modelwright.checkpoint.bundle import load_bundle
from modelwright.cli.app import app
from modelwright.evaluation import running, task_fetching
from modelwright.interop.huggingface import export_model
from modelwright.runtime.user_folder import user_folder

copa_rows = [
    {"query": f"Thing {i} fell, because", "choices": ["it was pushed.", "it flew."], "gold": i % 2}
    for i in range(12)
]
piqa_rows = [
    {"goal": f"Open box {i}", "sol1": "Lift the lid.", "sol2": "Sit on it.", "label": i % 2}
    for i in range(9)
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    saving.save(folder / "first", step=1, context=64)
    saving.save(folder / "second", step=2, context=64)
    return folder / "first", folder / "second"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "eval"
    folder.mkdir()
    for name, rows in (("copa_val", copa_rows), ("piqa_val", piqa_rows)):
        lines = (json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def shown(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.exception
    return result.stdout


def refused(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, ValueError | OSError), result.output
    return str(result.exception)


def facts(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def kept() -> list[Path]:
    folder = user_folder() / "evaluations"
    return list(folder.iterdir()) if folder.exists() else []


def test_two_models_stand_beside_each_other_with_a_comparison(
    runs: tuple[Path, Path], data: Path, tmp_path: Path
):
    out = tmp_path / "scores.json"
    text = shown(*runs, "--data", data, "--tasks", "copa,piqa", "--out", out)
    assert re.search(r"^copa +acc +\d+\.\d\d ± \d+\.\d\d % PARTIAL +\d+", text, re.MULTILINE)
    assert "PARTIAL: 12 of 100 items" in text and "PARTIAL: 9 of 1,838 items" in text
    assert re.search(r"first - .*second +copa +acc .* points .*p [01]\.\d{4}", text)
    found = facts(out)
    assert found["format"] == "modelwright-evaluation-1" and found["status"] == "partial"
    assert [len(model["tasks"]["copa"]["items"]) for model in found["models"]] == [12, 12]
    assert {one["task"] for one in found["comparisons"]} == {"copa", "piqa"}
    assert kept() == []
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert "piqa, acc_norm (PARTIAL)" in (tmp_path / "scores.svg").read_text()
    page = (tmp_path / "scores.html").read_text()
    assert f"pictures {tmp_path / 'scores.html'}" in text
    assert all(line in page for line in ("first - ", "<svg", "Open marks are PARTIAL"))


def test_a_whole_task_is_not_partial(
    runs: tuple[Path, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from dataclasses import replace

    from modelwright.evaluation.tasks import tasks

    monkeypatch.setitem(tasks, "copa", replace(tasks["copa"], n_items=12))
    out = tmp_path / "scores.json"
    text = shown(runs[0], "--data", data, "--tasks", "copa", "--out", out)
    assert "PARTIAL" not in text
    assert facts(out)["status"] == facts(out)["models"][0]["tasks"]["copa"]["status"] == "full"
    limited = shown(runs[0], "--data", data, "--tasks", "copa", "--limit", 11, "--out", out)
    assert "PARTIAL: 11 of 12 items" in limited and facts(out)["status"] == "partial"


def test_all_takes_the_tasks_that_are_there_and_names_the_others(
    runs: tuple[Path, Path], data: Path
):
    result = call(runs[0], "--data", data)
    assert result.exit_code == 0
    assert "hellaswag (hellaswag_val.jsonl)" in result.stderr
    assert "copa" in result.stdout and "hellaswag" not in result.stdout


def test_a_task_whose_answers_are_too_long_is_left_out_of_all_and_refused_by_name(
    runs: tuple[Path, Path], data: Path, tmp_path: Path
):
    long = {"goal": "Open it", "sol1": "Lift " * 60, "sol2": "Sit.", "label": 0}
    with (data / "piqa_val.jsonl").open("a") as file:
        file.write(json.dumps(long) + "\n")
    out = tmp_path / "scores.json"
    result = call(runs[0], "--data", data, "--out", out)
    assert result.exit_code == 0 and "copa" in result.stdout
    assert facts(out)["not_begun"] == [f"{runs[0]}: piqa"] and facts(out)["status"] == "partial"
    message = refused(runs[0], "--data", data, "--tasks", "copa,piqa")
    assert "cannot be asked piqa: a continuation has" in message
    assert "but model.context is 64" in message


def test_a_named_task_without_a_file_is_refused(runs: tuple[Path, Path], data: Path):
    assert "the original is the hub dataset Rowan/hellaswag" in refused(
        runs[0], "--data", data, "--tasks", "copa,hellaswag"
    )
    assert "no folder is given" in refused(runs[0])


def test_files_that_are_missing_are_fetched_if_that_is_asked_for(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    row = {"premise": "It fell.", "choice1": "No.", "choice2": "Yes.", "question": "cause"}
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row | {"label": i % 2} for i in range(100)]), file)
    asked = (runs[0], "--fetch", "--tasks", "copa", "--data", tmp_path / "new")
    assert "--fetch needs a folder" in refused(runs[0], "--fetch", "--tasks", "copa")
    with fake_hub() as hub:
        content = {"copa/validation/0000.parquet": file.getvalue()}
        commit = hub.commit("aps/super_glue", content, task_fetching.parquet_branch)
        here = partial(task_fetching.fetch_task, endpoint=hub.endpoint)
        monkeypatch.setattr(task_fetching, "fetch_task", here)
        first = call(*asked)
        assert f"fetched  copa: 100 items of aps/super_glue at {commit[:12]}" in first.stderr
        assert re.search(r"^copa +acc .* 100$", first.stdout, re.MULTILINE)
        n_requests = len(hub.requests)
        assert "fetched" not in call(*asked).stderr
        assert len(hub.requests) == n_requests


def test_a_folder_for_transformers_scores_as_the_model_it_was_exported_from(
    runs: tuple[Path, Path], data: Path, tmp_path: Path
):
    exported = tmp_path / "exported"
    export_model(load_bundle(runs[0] / "checkpoints" / "step-000001"), exported)
    out = tmp_path / "scores.json"
    shown(runs[0], exported, "--data", data, "--tasks", "copa", "--out", out)
    ours, theirs = (model["tasks"]["copa"]["items"] for model in facts(out)["models"])
    for one, another in zip(ours, theirs, strict=True):
        assert one["logprobs"] == pytest.approx(another["logprobs"], abs=1e-4)


def test_text_is_measured_in_bits_per_byte_first(runs: tuple[Path, Path], tmp_path: Path):
    story = tmp_path / "story.txt"
    story.write_text("Once upon a time.\n<|endoftext|>\nThe end of it.\n")
    out = tmp_path / "scores.json"
    text = shown(runs[0], "--text", story, "--out", out)
    assert re.search(r"^story.txt +bits per byte +\d+\.\d{4}", text, re.MULTILINE)
    assert facts(out)["status"] == "full"
    assert not (tmp_path / "scores.svg").exists()  # bits are no share of items
    assert facts(out)["models"][0]["text"]["n_documents"] == 2
    limited = shown(runs[0], "--text", story, "--limit", 1)
    assert "PARTIAL: the first 1 documents" in limited


def test_a_stop_keeps_what_is_scored_and_the_same_command_goes_on(
    runs: tuple[Path, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "scores.json"
    command = (runs[0], "--data", data, "--tasks", "copa,piqa", "--out", out, "--batch-tokens", 60)
    whole = shown(*command)
    expected = facts(out)
    out.unlink()
    scorers = running.Scorer.outcomes

    def interrupted(self: Any, questions: Any) -> Any:
        for number, found in enumerate(scorers(self, questions)):
            if number == 2:
                signal.raise_signal(signal.SIGINT)
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(running.Scorer, "outcomes", interrupted)
        stopped = call(*command)
    assert stopped.exit_code == 130
    assert "PARTIAL" in stopped.stdout and "the same command goes on" in stopped.stderr
    assert facts(out)["status"] == "partial"
    assert facts(out)["not_begun"] == [f"{runs[0]}: piqa"]
    n_kept = facts(out)["models"][0]["tasks"]["copa"]["n_items"]
    assert 0 < n_kept < 12 and len(kept()) == 1

    asked: list[int] = []

    def counted(self: Any, questions: Any) -> Any:
        asked.append(len(questions))
        return scorers(self, questions)

    monkeypatch.setattr(running.Scorer, "outcomes", counted)
    assert shown(*command) == whole
    assert asked == [12 - n_kept, 9]
    assert facts(out)["models"] == expected["models"]
    assert kept() == []


def test_the_averaged_weights_score_otherwise(
    runs: tuple[Path, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # What is kept of one must not be taken for the other.
    monkeypatch.setattr(running.Evaluation, "forget_records", lambda self: None)
    out = tmp_path / "scores.json"
    logprobs: list[Any] = []
    for option in ([], ["--averaged"]):
        shown(runs[0], "--data", data, "--tasks", "copa", "--out", out, *option)
        logprobs.append(facts(out)["models"][0]["tasks"]["copa"]["items"][0]["logprobs"])
    assert logprobs[0] != logprobs[1]


def test_what_cannot_be_is_refused(runs: tuple[Path, Path], data: Path, tmp_path: Path):
    assert "is no task here" in refused(runs[0], "--tasks", "hellaswagg")
    assert "--device is 'tpu'" in refused(runs[0], "--data", data, "--device", "tpu")
    assert "--precision is 'fp8'" in refused(runs[0], "--data", data, "--precision", "fp8")
    assert "there is no folder" in refused(tmp_path / "none", "--data", data)
    one = data / "copa_val.jsonl"
    assert "name its task by --tasks" in refused(runs[0], "--data", one)
    assert "nothing at --data" in refused(runs[0], "--data", tmp_path / "none")
    assert "--harness needs --tasks" in refused(runs[0], "--harness")
    drawn = refused(runs[0], "--data", data, "--out", tmp_path / "scores.svg")
    assert f"choose {tmp_path / 'scores.json'}" in drawn


def test_a_swapped_tokenizer_is_refused(tmp_path: Path, data: Path):
    import small

    folder = saving.save(tmp_path / "run", context=64)
    small.tokenizer(290).save(folder / "tokenizer.json")
    message = refused(folder, "--data", data, "--tasks", "copa")
    assert "tokenizer.json" in message
