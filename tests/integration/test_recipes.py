"""Every recipe loads, tells the truth about itself, and trains."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch

import small
from modelwright.accounting.parameters import count_parameters
from modelwright.config.loading import load_settings
from modelwright.model.transformer import Transformer
from modelwright.training.config import RunConfig
from modelwright.training.metrics import read_metrics
from modelwright.training.runs import train
from modelwright.training.updates import parameter_groups

folder = Path(__file__).parents[2] / "recipes"
recipes = sorted(folder.glob("*.toml"))
each_recipe = pytest.mark.parametrize("recipe", recipes, ids=lambda recipe: recipe.stem)

# What makes any recipe small enough for a test; what is not here stays as the recipe has it.
toy_settings = (
    "data.source=stories",
    "data.stories_bytes=60_000",
    "data.validation_fraction=0.1",
    "tokenizer.vocab_size=300",
    "model.vocab_size=300",
    "model.context=16",
    "model.d_model=16",
    "model.n_layers=1",
    "model.n_heads=2",
    "model.d_ff=40",
    "training.n_steps=2",
    "training.batch_tokens=64",
    "training.device=cpu",
    "training.precision=fp32",
    "evaluation.n_tokens=64",
    "samples.max_tokens=5",
)


def header(recipe: Path) -> str:
    """The comment that a recipe begins with, its lines joined."""
    lines = recipe.read_text().split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in lines)
    return "\n".join(line.removeprefix("#").strip() for line in lines)


def settings(recipe: Path) -> RunConfig:
    return load_settings(RunConfig, recipe).config


def test_there_are_recipes():
    assert {"demo", "gpt2-small", "tinystories", "tinystories-17m"} <= {r.stem for r in recipes}


@each_recipe
def test_the_header_says_what_is_trained_on_what_and_what_to_expect(recipe: Path):
    parts = re.findall(r"^(\w+): +\S", header(recipe), re.MULTILINE)
    assert parts[0] == "Trains"
    assert {"On", "Expect"} <= set(parts)


@each_recipe
def test_the_header_counts_the_parameters(recipe: Path):
    told = re.search(r"([\d.,]+)(M?) parameters", header(recipe))
    assert told is not None, "the header does not say how many parameters the model has"
    config = settings(recipe)
    vocab_size = config.model.vocab_size or config.tokenizer.vocab_size
    total = count_parameters(dataclasses.replace(config.model, vocab_size=vocab_size)).total
    number = told[1].replace(",", "")
    if told[2]:  # millions, with as many digits as there are
        n_digits = len(number.partition(".")[2])
        assert f"{total / 1e6:.{n_digits}f}" == number
    else:
        assert int(number) == total


@each_recipe
def test_a_small_edition_trains(recipe: Path, tmp_path: Path):
    tokenizer = tmp_path / "tokenizer.json"
    small.tokenizer(300).save(tokenizer)
    places = [f"data.folder={tmp_path / 'data'}", f"tokenizer.file={tokenizer}"]
    config = load_settings(RunConfig, recipe, [*toy_settings, *places]).config
    train(config, tmp_path / "run")
    records = read_metrics(tmp_path / "run")
    assert [record["step"] for record in records] == [0, 1, 2]
    assert records[2]["samples"]


def test_gpt2_small_decays_matrices_and_embeddings_only():
    config = settings(folder / "gpt2-small.toml")
    with torch.device("meta"):
        model = Transformer(config.model)
    groups = parameter_groups(model, config.optimizer)
    assert [(g.weight_decay, g.n_tensors, g.n_parameters) for g in groups] == [
        (0.1, 50, 124_354_560),
        (0.0, 98, 121_344),
    ]


@pytest.mark.parametrize(
    ("name", "n_tokens"), [("gpt2-small", 10_000_000_000), ("tinystories-17m", 327_680_000)]
)
def test_a_run_reads_the_tokens_that_it_is_known_for(name: str, n_tokens: int):
    config = settings(folder / f"{name}.toml")
    assert abs(config.n_tokens - n_tokens) < config.training.batch_tokens


def test_the_short_run_of_gpt2_small_is_what_its_header_sets():
    recipe = folder / "gpt2-small.toml"
    overrides = re.findall(r"--set '?([^\s']+)", header(recipe))
    config = load_settings(RunConfig, recipe, overrides).config
    assert 499e6 < config.n_tokens < 500e6
    assert config.schedule.warmup == 100
    assert (config.training.precision, config.training.micro_batch) == ("fp16", 8)
    assert config.data.sources[0].path.startswith("hub:")
