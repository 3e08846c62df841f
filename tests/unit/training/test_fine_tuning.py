import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

import saving
import small
from modelwright.checkpoint.bundle import load_bundle, write_bundle
from modelwright.checkpoint.keeping import Keep
from modelwright.config.loading import load_settings
from modelwright.data.config import DataConfig
from modelwright.training.assembly import fresh_state, prepare
from modelwright.training.config import RunConfig
from modelwright.training.fine_tuning import (
    initial_bundle,
    require_same_tokenizer,
    with_initial_model,
)

context = small.model_config().context  # of the model that `saving` makes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the checkpoints of two steps."""
    folder = tmp_path_factory.mktemp("first") / "run"
    for step in (1, 2):
        saving.save(folder, step, Keep(last=9))
    return folder


def recipe(folder: Path, *changes: str) -> RunConfig:
    """A recipe that begins with the model of a folder."""
    settings = [
        f"training.init_from={folder}",
        f"model.context={context}",
        f"training.batch_tokens={4 * context}",
        "training.device=cpu",
        "training.precision=fp32",
        *changes,
    ]
    return with_initial_model(load_settings(RunConfig, None, settings))


def data_settings(place: Path) -> list[str]:
    return [
        f"data.folder={place / 'data'}",
        "data.stories_bytes=60_000",
        "data.validation_fraction=0.1",
    ]


def test_without_a_model_to_begin_with_nothing_changes():
    loaded = load_settings(RunConfig, None, ["model.d_model=64"])
    assert with_initial_model(loaded) == loaded.config


def test_the_model_and_the_tokenizer_come_from_the_newest_checkpoint_of_a_run(run: Path):
    config = recipe(run)
    newest = run / "checkpoints" / "step-000002"
    assert config.model == load_bundle(newest).model.config
    assert config.tokenizer.file == str(newest / "tokenizer.json")
    assert config.tokenizer.vocab_size == saving.tokenizer.n_vocab


def test_a_checkpoint_may_be_named_itself(run: Path):
    older = run / "checkpoints" / "step-000001"
    assert initial_bundle(str(older)) == older
    assert recipe(older).tokenizer.file == str(older / "tokenizer.json")


def test_a_bundle_is_enough(run: Path, tmp_path: Path):
    from modelwright.runtime.manifest import write_manifest

    bundle = load_bundle(run / "checkpoints" / "step-000001")
    weights = {name: p.detach() for name, p in bundle.model.named_parameters()}
    write_bundle(tmp_path, bundle.model.config, weights, bundle.tokenizer)
    write_manifest(tmp_path, "modelwright-checkpoint-1", {})
    assert recipe(tmp_path).model == bundle.model.config


def test_a_damaged_checkpoint_of_a_run_is_passed_over_and_a_named_one_refused(
    run: Path, tmp_path: Path
):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    newest = copy / "checkpoints" / "step-000002"
    saving.flip_a_bit(newest / "model.safetensors")
    assert initial_bundle(str(copy)).name == "step-000001"
    with pytest.raises(ValueError, match="model.safetensors"):
        initial_bundle(str(newest))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "training.init_from is .*nowhere, but there is no such folder; name a run"),
        ("empty", "holds no whole checkpoint"),
    ],
)
def test_where_no_model_is_there_is_none_to_begin_with(tmp_path: Path, name: str, message: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=message):
        initial_bundle(str(tmp_path / name))


def test_what_the_recipe_makes_otherwise_is_listed(run: Path):
    with pytest.raises(ValueError) as raised:
        recipe(run, "model.d_model=32", "model.n_layers=3", "tokenizer.vocab_size=500")
    for shown in (
        "model.d_model: 24 → 32",
        "model.n_layers: 2 → 3",
        "tokenizer.vocab_size: 300 → 500",
    ):
        assert shown in str(raised.value)
    assert "leave these out" in str(raised.value)


def test_what_the_recipe_repeats_is_no_clash(run: Path):
    assert recipe(run, "model.d_model=24", "tokenizer.vocab_size=300") == recipe(run)


def test_what_is_no_shape_of_a_weight_may_differ(run: Path):
    config = recipe(run, "model.dropout=0.2", "model.window=4", "model.context=22")
    assert (config.model.dropout, config.model.window, config.model.context) == (0.2, 4, 22)
    assert config.model.d_model == 24


def test_the_context_of_learned_positions_is_a_shape_of_a_weight(tmp_path: Path):
    saving.save(tmp_path, 1, positions="learned")
    with pytest.raises(ValueError, match="model.context: 11 → 22"):
        recipe(tmp_path, "model.context=22")


def test_the_weights_are_those_and_everything_else_is_fresh(run: Path, tmp_path: Path):
    ready = prepare(recipe(run, *data_settings(tmp_path)))
    begun = load_bundle(run / "checkpoints" / "step-000002").model
    for name, parameter in ready.model.named_parameters():
        assert torch.equal(parameter, begun.get_parameter(name))
    state = fresh_state(ready)
    assert (state.step, state.seconds, state.optimizer.named_state()) == (0, 0.0, {})
    assert ready.data.tokenizer.fingerprint == saving.tokenizer.fingerprint


def test_text_cut_by_another_tokenizer_is_refused_and_both_fingerprints_are_shown(
    run: Path, tmp_path: Path
):
    other = small.tokenizer(280)
    folder = run / "checkpoints" / "step-000002"
    require_same_tokenizer(folder, saving.tokenizer)
    with pytest.raises(ValueError) as raised:
        require_same_tokenizer(folder, other)
    assert saving.tokenizer.fingerprint[:16] in str(raised.value)
    assert other.fingerprint[:16] in str(raised.value)
    # The same through a run: the recipe names a tokenizer of its own.
    other.save(tmp_path / "other.json")
    named = [f"tokenizer.file={tmp_path / 'other.json'}", f"tokenizer.vocab_size={other.n_vocab}"]
    with pytest.raises(ValueError, match=other.fingerprint[:16]):
        prepare(recipe(run, *data_settings(tmp_path), *named))


def test_the_config_of_a_checkpoint_is_read_with_todays_settings(run: Path, tmp_path: Path):
    """What a later version no longer knows is an error with the setting's name, not a guess."""
    copy = tmp_path / "step-000001"
    shutil.copytree(run / "checkpoints" / "step-000001", copy)
    content = json.loads((copy / "config.json").read_text()) | {"n_ears": 2}
    (copy / "config.json").write_text(json.dumps(content))
    from modelwright.runtime.manifest import write_manifest

    (copy / "manifest.json").unlink()
    write_manifest(copy, "modelwright-checkpoint-1", {})
    with pytest.raises(ValueError, match="n_ears"):
        recipe(copy)


def test_a_data_folder_elsewhere_is_no_matter_of_the_model(run: Path, tmp_path: Path):
    config = recipe(run, f"data.folder={tmp_path}")
    assert config.data == dataclasses.replace(DataConfig(), folder=str(tmp_path))
