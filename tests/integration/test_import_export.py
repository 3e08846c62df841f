"""`modelwright import` and `export` as a person meets them, and training from what was imported."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

import foreign
import saving
import small
from command import Done, run
from modelwright.config.loading import load_settings
from modelwright.training.assembly import prepare
from modelwright.training.config import RunConfig
from modelwright.training.fine_tuning import with_initial_model
from modelwright.training.metrics import read_metrics
from modelwright.training.runs import train

pytestmark = pytest.mark.usefixtures("one_thread")


def call(*arguments: object, cwd: Path) -> Done:
    return run(*arguments, cwd=cwd)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `theirs`, a GPT-2, and `ours`, what the command made of it."""
    folder = tmp_path_factory.mktemp("import")
    foreign.save(foreign.model("gpt2"), folder / "theirs")
    done = call("import", "theirs", "--out", "ours", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "300 tokens" in done.stdout
    assert "--set training.init_from=ours" in done.stdout
    return folder


def test_what_was_imported_writes(place: Path):
    done = call("generate", "ours", "--prompt", "One day", "--max-tokens", 5, cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("One day")


def test_a_run_is_exported_and_the_command_says_how_it_was_checked(tmp_path: Path):
    saving.save(tmp_path / "run", 1)
    saving.save(tmp_path / "run", 2)
    done = call("export", "run", "--to", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "out: llama, 16,536 parameters in fp32" in done.stdout
    assert re.search(r"checked: transformers \S+ gives our logits to within \S+ on 3", done.stdout)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "<|endoftext|>"
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    newest = small.model(seed=2, vocab_size=foreign.n_vocab).eval()
    ids = foreign.ids(11)
    assert torch.allclose(theirs(ids).logits, newest(ids), atol=1e-4)

    refused = call("export", "run", "--to", "out", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: out is there already; choose another --to, or add")

    step = tmp_path / "run" / "checkpoints" / "step-000001"
    done = call(
        *("export", step, "--to", "out", "--averaged", "--force"),
        *("--format", "gguf", "--dtype", "fp16"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "checked: read back, all 20 tensors and the tokenizer are as written" in done.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.gguf", "README.md"}


def test_a_damaged_file_is_one_sentence_and_leaves_nothing_behind(tmp_path: Path):
    theirs = foreign.save(foreign.model("llama"), tmp_path / "theirs")
    path = theirs / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    before = foreign.tree(tmp_path)
    done = call("import", "theirs", "--out", "ours", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: theirs/model.safetensors is damaged")
    assert done.stderr.count("\n") == 1
    assert foreign.tree(tmp_path) == before


def test_training_begins_with_the_loss_of_the_model_that_was_imported(place: Path, tmp_path: Path):
    settings = [
        f"training.init_from={place / 'ours'}",
        f"data.folder={tmp_path / 'data'}",
        "data.stories_bytes=60_000",
        "data.validation_fraction=0.1",
        "model.context=24",
        "training.batch_tokens=96",
        "training.n_steps=1",
        "training.precision=fp32",
        "training.device=cpu",
        "evaluation.n_tokens=96",
        "samples.max_tokens=5",
    ]
    config = with_initial_model(load_settings(RunConfig, None, settings))
    assert config.model.positions == "learned"
    tokens = torch.from_numpy(prepare(config).data.validation.read(0, 97))
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(place / "theirs").eval()
        logits = theirs(tokens[:96].reshape(4, 24)).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), tokens[1:])
    train(config, tmp_path / "run")
    first, *_, last = read_metrics(tmp_path / "run")
    assert first["step"] == 0
    assert first["validation_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert last["validation_loss"] != first["validation_loss"]
