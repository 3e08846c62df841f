"""`modelwright landscape` on a run of a few steps: maps, refusals, stops, and what is drawn."""

import csv
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import landscape_that_ends
import saving
import small
from modelwright.checkpoint.bundle import load_bundle
from modelwright.checkpoint.resume import checkpoint_folders
from modelwright.cli.app import app
from modelwright.config.loading import load_settings
from modelwright.data.building import build_data
from modelwright.data.config import DataConfig
from modelwright.evaluation.landscape_file import read_landscape
from modelwright.evaluation.perplexity import validation_loss
from modelwright.experiments.report import write_report
from modelwright.tokenizer.config import TokenizerConfig
from modelwright.training.assembly import make_cut, prepare
from modelwright.training.config import RunConfig
from modelwright.training.metrics import read_metrics
from modelwright.training.runs import train

pytestmark = pytest.mark.usefixtures("one_thread")
few = ("--points", 3, "--tokens", 64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its data beside it and checkpoints of steps 4 and 6."""
    folder = tmp_path_factory.mktemp("runs")
    train(small.run_config(folder, "training.average_decay=0.5"), folder / "run")
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, without landscapes."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "stories.txt"
    path.write_text("\n".join(small.texts(3)))
    return path


def call(model: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["landscape", *map(str, (model, *arguments))])


def told(model: Path, *arguments: object) -> str:
    result = call(model, *arguments)
    assert result.exit_code == 0, result.exception
    return result.stdout


def refused(model: Path, *arguments: object) -> str:
    result = call(model, *arguments)
    assert isinstance(result.exception, ValueError | FileNotFoundError), result.exception
    return str(result.exception)


def losses_of(path: Path) -> dict[tuple[float, ...], float]:
    return {point.at: point.loss for point in read_landscape(path).points}


def test_a_plane_is_measured_drawn_and_told(run: Path):
    said = told(run, *few)
    folder = run / "landscape"
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    pictures = {f"{name}.{kind}" for name in ("plane", "surface") for kind in ("svg", "png")}
    assert names == {"plane.jsonl", "plane.csv", "landscape.html"} | pictures
    middle = read_metrics(run)[-1]["validation_loss"]
    assert f"loss in the middle   {middle:.3f} nats per token, the trained model" in said
    assert "lowest found" in said
    assert "sharpness            " in said
    assert "largest rise of the loss above the trained model's at the 4 points within 1 of" in said
    assert str(folder / "landscape.html") in said
    rows = list(csv.DictReader((folder / "plane.csv").open()))
    assert len(rows) == 9
    assert {(float(r["first"]), float(r["second"])): float(r["loss"]) for r in rows} == losses_of(
        folder / "plane.jsonl"
    )
    page = (folder / "landscape.html").read_text()
    assert f"Loss landscape of {run}, step 6" in page
    assert "the first 64 tokens of the validation text in" in page


def test_the_middle_is_the_validation_loss_of_the_run(run: Path):
    told(run, "--one-dimension", "--points", 3, "--tokens", 0)
    config = load_settings(RunConfig, run / "config.toml").config
    prepared = prepare(config, is_new=False)
    model = load_bundle(checkpoint_folders(run)[-1]).model
    cut = make_cut(config, prepared.data.validation, prepared.data.tokenizer, is_long=False)
    expected = validation_loss(model, cut, max_tokens=0, batch_size=8)
    found = losses_of(run / "landscape" / "curve.jsonl")
    assert found[0.0,] == pytest.approx(expected.loss, rel=1e-6)


def test_each_option_changes_the_map(run: Path, text: Path):
    maps = {}
    for name, options in {
        "usual": (),
        "seed": ("--seed", 2),
        "span": ("--span", 0.5),
        "tokens": ("--tokens", 128),
        "vectors": ("--vectors",),
        "averaged": ("--averaged",),
        "text": ("--text", text),
    }.items():
        out = run.parent / name
        told(run, "--one-dimension", *few, "--out", out, *options)
        maps[name] = list(losses_of(out / "curve.jsonl").values())
    assert len(set(map(tuple, maps.values()))) == len(maps)
    about = read_landscape(run.parent / "averaged" / "curve.jsonl").about
    assert about["model"] == f"{run}, step 6, averaged weights"
    for name in ("seed", "span", "vectors"):
        assert maps[name][0] == maps["usual"][0]
    for name in ("tokens", "averaged", "text"):
        assert maps[name][0] != maps["usual"][0]


def test_a_path_goes_to_a_step_or_a_folder(run: Path):
    said = told(run, "--to", 4, *few)
    first, last = checkpoint_folders(run)
    assert f"loss at 1      {losses_of(run / 'landscape' / 'path.jsonl')[1.0,]:.3f}" in said
    assert f"{run}, step 4" in said and f"{run}, step 6" in said
    assert "barrier" in said
    told(last, "--to", first, *few, "--out", run.parent / "same")
    assert losses_of(run.parent / "same" / "path.jsonl") == losses_of(
        run / "landscape" / "path.jsonl"
    )
    told(first, "--to", last, *few, "--out", run.parent / "turned")
    turned = losses_of(run.parent / "turned" / "path.jsonl")
    for (share,), loss in losses_of(run / "landscape" / "path.jsonl").items():
        assert turned[1 - share,] == pytest.approx(loss, rel=1e-6)


def test_packed_documents_do_not_see_each_other(tmp_path: Path):
    config = small.run_config(tmp_path, "training.cut=packed", "evaluation.n_tokens=64")
    train(config, tmp_path / "run")
    said = told(tmp_path / "run", "--one-dimension", *few)
    expected = read_metrics(tmp_path / "run")[-1]["validation_loss"]
    assert f"loss in the middle   {expected:.3f} " in said


def test_the_products_are_in_the_precision_of_the_run(run: Path):
    config = run / "config.toml"
    config.write_text(config.read_text().replace('precision = "fp32"', 'precision = "bf16"'))
    told(run, "--one-dimension", *few)
    assert read_landscape(run / "landscape" / "curve.jsonl").settings["precision"] == "bfloat16"


def test_the_other_end_does_not_settle_how_products_are_done(
    run: Path, monkeypatch: pytest.MonkeyPatch
):
    config = run / "config.toml"
    config.write_text(config.read_text().replace('precision = "fp32"', 'precision = "bf16"'))
    settled: list[str] = []
    monkeypatch.setattr(
        "modelwright.runtime.device.set_matmul_precision",
        lambda choice, _: settled.append(choice),
    )
    told(run, "--to", 4, *few)
    assert settled == ["bf16"]


def test_the_report_of_a_run_shows_its_landscapes(run: Path):
    before = write_report(run).read_text()
    told(run, *few)
    told(run, "--one-dimension", *few)
    after = write_report(run).read_text()
    assert "Loss around the model" not in before
    assert "Loss around the model, in the plane of two random directions" in after
    assert after.count("<svg") == before.count("<svg") + 3


def test_a_model_without_its_data_needs_a_text(tmp_path: Path, text: Path):
    model = shutil.copytree(saving.save(tmp_path / "run"), tmp_path / "alone")
    assert "comes without its data; name a text with --text" in refused(model, *few)
    told(model, "--one-dimension", *few, "--text", text)
    assert (tmp_path / "alone-landscape" / "landscape.html").exists()
    assert not (model / "landscape").exists()


def test_data_that_is_gone_is_missed(run: Path):
    config = run / "config.toml"
    config.write_text(re.sub(r'folder = ".*"', 'folder = "gone"', config.read_text()))
    assert "is not in gone; call this from where the run was started" in refused(run, *few)


def test_data_of_another_tokenizer_is_refused(run: Path, tmp_path: Path):
    other = DataConfig(folder=str(tmp_path / "other"), stories_bytes=60_000)
    build_data(other, TokenizerConfig(vocab_size=290))
    config = run / "config.toml"
    config.write_text(re.sub(r'folder = ".*"', f'folder = "{other.folder}"', config.read_text()))
    assert "was trained with the tokenizer" in refused(run, *few)


def test_another_model_is_no_other_end(run: Path, tmp_path: Path):
    other = saving.save(tmp_path / "other")
    assert "was trained with the tokenizer" in refused(run, "--to", other, *few)
    assert "holds no checkpoint of step 5; it has those of: 4, 6" in refused(run, "--to", 5, *few)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--points", 4), "choose an odd number such as 5"),
        (("--span", 0), "choose a number above 0"),
        (("--tokens", -1), "0 takes all"),
        (("--to", 4, "--one-dimension"), "leave out --one-dimension"),
        (("--text", "nothing.txt"), "--text is nothing.txt, but there is no such file"),
        (("--device", "cuda"), "--device is 'cuda', but PyTorch sees no CUDA GPU"),
    ],
)
def test_what_does_not_go_is_said_before_anything_is_made(
    run: Path, arguments: tuple[object, ...], message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert message in refused(run, *arguments)
    assert not (run / "landscape").exists()


def test_an_empty_text_and_a_missing_folder_are_refused(run: Path, tmp_path: Path):
    (tmp_path / "empty.txt").touch()
    assert "is empty; choose a longer text" in refused(run, "--text", tmp_path / "empty.txt")
    assert "there is no folder" in refused(tmp_path / "none")
    assert "holds no whole checkpoint" in refused(tmp_path)


def test_other_settings_are_refused_and_may_go_elsewhere(run: Path):
    told(run, *few)
    said = refused(run, *few, "--seed", 3)
    assert "seed is 3 here and 1 there" in said and "--out" in said
    told(run, *few, "--seed", 3, "--out", run / "another")


def in_a_process(signal_number: int, n_points: int, *arguments: object) -> tuple[int, str]:
    words = [landscape_that_ends.__file__, int(signal_number), n_points, *arguments]
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)],
    ids=["killed", "Ctrl-C", "SIGTERM"],
)
def test_a_map_that_was_ended_goes_on_to_the_same_files(
    run: Path, number: signal.Signals, code: int
):
    whole, parts = run.parent / "whole", run.parent / "parts"
    told(run, *few, "--out", whole)
    ended, said = in_a_process(number, 4, run, *few, "--out", parts)
    assert ended == code, said
    assert len(read_landscape(parts / "plane.jsonl").points) == 4
    if number != signal.SIGKILL:
        assert f"stopped; what was measured is in {parts}, and the same command goes on" in said
        assert "4 of 9 points" in (parts / "landscape.html").read_text()
    told(run, *few, "--out", parts)
    for name in ("plane.jsonl", "plane.csv", "plane.svg", "surface.png", "landscape.html"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_time_is_estimated_after_the_first_points(run: Path):
    said = call(run, *few).stderr
    assert re.search(r"s for a point: about \d+ s for the 6 that are left", said)
