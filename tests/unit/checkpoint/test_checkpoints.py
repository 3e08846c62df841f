import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

import small
from modelwright.checkpoint.bundle import load_bundle
from modelwright.checkpoint.resume import (
    checkpoint_folders,
    load_training_state,
    newest_checkpoint,
    save_checkpoint,
)
from modelwright.runtime.manifest import write_manifest
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.step import training_step

tokenizer = small.tokenizer()


def trained(**choice):
    model = small.model(vocab_size=tokenizer.n_vocab, **choice)
    optimizer = make_optimizer(model, OptimizerConfig())
    learn(model, optimizer)
    return model, optimizer


def learn(model, optimizer) -> None:
    inputs = small.ids(n_vocab=tokenizer.n_vocab)
    training_step(
        model, optimizer, inputs, inputs.roll(-1, 1), learning_rate=1e-2, clip_norm=1, micro_batch=2
    )


def save(run: Path, step: int = 1, keep: int = 2, made=None) -> Path:
    model, optimizer = made or trained()
    return save_checkpoint(
        run,
        step=step,
        model=model,
        tokenizer=tokenizer,
        optimizer=optimizer,
        state={"seconds": 1.5},
        keep=keep,
    )


@pytest.mark.parametrize(
    "choice", [{}, {"tie_embeddings": False, "bias": True, "norm": "layernorm"}]
)
def test_a_bundle_loads_as_the_model_that_was_saved(tmp_path: Path, choice: dict):
    model, optimizer = trained(**choice)
    bundle = load_bundle(save(tmp_path, made=(model, optimizer)))
    ids = small.ids(n_vocab=tokenizer.n_vocab)
    assert torch.equal(bundle.model(ids), model(ids))
    assert bundle.model.config == model.config
    assert bundle.tokenizer.fingerprint == tokenizer.fingerprint


def test_a_shared_matrix_is_stored_once_and_shared_again(tmp_path: Path):
    folder = save(tmp_path)
    model = load_bundle(folder).model
    assert model.unembedding.weight is model.embedding.weight
    n_bytes = (folder / "model.safetensors").stat().st_size
    assert n_bytes < 4 * sum(p.numel() for p in model.parameters()) + 4000


def test_a_resumed_optimizer_takes_the_very_same_step(tmp_path: Path):
    model, optimizer = trained()
    folder = save(tmp_path, made=(model, optimizer))
    again = load_bundle(folder).model
    fresh = make_optimizer(again, OptimizerConfig())
    assert load_training_state(folder, fresh) == {"step": 1, "seconds": 1.5}
    learn(model, optimizer)
    learn(again, fresh)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path):
    made = trained()
    for step in (1, 2, 10):
        save(tmp_path, step=step, keep=2, made=made)
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == [
        "step-000002",
        "step-000010",
    ]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip_a_bit(folder / "model.safetensors"),
        lambda folder: flip_a_bit(folder / "optimizer.safetensors"),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "state.json").unlink(),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, damage):
    made = trained()
    older, newer = save(tmp_path, 1, made=made), save(tmp_path, 2, made=made)
    assert newest_checkpoint(tmp_path) == (newer, [])
    damage(newer)
    found, complaints = newest_checkpoint(tmp_path)
    assert found == older
    assert len(complaints) == (newer / "manifest.json").exists()  # an unfinished one is no surprise


def test_a_damaged_bundle_is_refused(tmp_path: Path):
    folder = save(tmp_path)
    flip_a_bit(folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors does not match its sha256"):
        load_bundle(folder)


def test_a_run_without_a_whole_checkpoint_says_so(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="holds no whole checkpoint"):
        newest_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="no run folder"):
        newest_checkpoint(tmp_path / "none")


def test_another_tokenizer_than_the_models_is_refused_with_both_fingerprints(tmp_path: Path):
    folder = save(tmp_path)
    other = small.tokenizer(299)
    other.save(folder / "tokenizer.json")
    write_manifest(folder, "modelwright-checkpoint-1", {})
    with pytest.raises(ValueError) as raised:
        load_bundle(folder)
    assert tokenizer.fingerprint[:16] in str(raised.value)
    assert other.fingerprint[:16] in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_ff": 41}, "but the config makes it"),
        ({"n_layers": 1}, "disagree about"),
        ({"depth": 3}, "unknown setting depth"),
        ({"n_heads": "4"}, "is not a model's config"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(
    tmp_path: Path, change: dict, message: str
):
    folder = save(tmp_path)
    content = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(content))
    write_manifest(folder, "modelwright-checkpoint-1", {})
    with pytest.raises(ValueError, match=message):
        load_bundle(folder)


def test_a_pickle_is_never_loaded(tmp_path: Path):
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (canary,))

    folder = save(tmp_path)
    for name in ("model.safetensors", "optimizer.safetensors"):
        torch.save(Bomb(), folder / name)
    write_manifest(folder, "modelwright-checkpoint-1", {})
    with pytest.raises(SafetensorError):
        load_bundle(folder)
    _, optimizer = trained()
    with pytest.raises(SafetensorError):
        load_training_state(folder, optimizer)
    assert not canary.exists()
