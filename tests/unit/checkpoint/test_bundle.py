import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import saving
import small
from modelwright.checkpoint.bundle import (
    distinct_weights,
    kind,
    load_bundle,
    load_weights,
    write_bundle,
)
from modelwright.runtime.manifest import write_manifest

choices = [{}, {"tie_embeddings": False, "bias": True, "norm": "layernorm"}]


def bundle_of(folder: Path, model) -> Path:
    folder.mkdir()
    write_bundle(folder, model.config, distinct_weights(model), saving.tokenizer)
    write_manifest(folder, kind, {})
    return folder


def make_model(**choice):
    return small.model(vocab_size=saving.tokenizer.n_vocab, **choice)


@pytest.mark.parametrize("choice", choices)
def test_a_bundle_loads_as_the_model_that_was_saved(tmp_path: Path, choice: dict):
    model = make_model(**choice)
    bundle = load_bundle(bundle_of(tmp_path / "bundle", model))
    ids = small.ids(n_vocab=saving.tokenizer.n_vocab)
    # To the bit but for the kind of attention, which is chosen for the device it is loaded on.
    assert torch.allclose(bundle.model(ids), model(ids), atol=1e-5)
    for loaded, saved in zip(bundle.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(loaded, saved)
    assert bundle.model.config == model.config
    assert bundle.tokenizer.fingerprint == saving.tokenizer.fingerprint
    assert not bundle.model.training


def test_weights_of_any_layout_are_written(tmp_path: Path):
    model = make_model()
    weights = distinct_weights(model)
    turned = {n: w.mT.contiguous().mT if w.ndim == 2 else w for n, w in weights.items()}
    assert not all(weight.is_contiguous() for weight in turned.values())
    write_bundle(tmp_path, model.config, turned, saving.tokenizer)
    stored = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(stored[name], weight) for name, weight in turned.items())


def test_a_shared_matrix_is_stored_once_and_shared_again(tmp_path: Path):
    model = make_model(tie_embeddings=True)
    names = distinct_weights(model)
    assert len({weight.data_ptr() for weight in names.values()}) == len(names)
    folder = bundle_of(tmp_path / "bundle", model)
    again = load_bundle(folder).model
    assert again.unembedding.weight is again.embedding.weight
    n_bytes = (folder / "model.safetensors").stat().st_size
    assert n_bytes < 4 * sum(p.numel() for p in model.parameters()) + 4000


def test_the_averaged_weights_load_when_they_are_asked_for(tmp_path: Path):
    folder = saving.save(tmp_path)
    last = distinct_weights(load_bundle(folder).model)
    averaged = distinct_weights(load_bundle(folder, averaged=True).model)
    assert all(torch.equal(averaged[name], last[name] / 2) for name in last)


def test_a_bundle_without_an_average_says_so(tmp_path: Path):
    folder = saving.save(tmp_path, averaged=False)
    with pytest.raises(ValueError, match="kept no moving average of the weights"):
        load_bundle(folder, averaged=True)
    # Nor is one taken for the average that was put there later.
    (folder / "averaged.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match="kept no moving average of the weights"):
        load_bundle(folder, averaged=True)


def test_a_damaged_bundle_is_refused(tmp_path: Path):
    folder = bundle_of(tmp_path / "bundle", make_model())
    saving.flip_a_bit(folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors does not match its sha256"):
        load_bundle(folder)


def test_a_manifest_that_does_not_list_a_file_does_not_vouch_for_it(tmp_path: Path):
    folder = bundle_of(tmp_path / "bundle", make_model())
    content = json.loads((folder / "manifest.json").read_text())
    del content["files"]["model.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"does not list model\.safetensors"):
        load_bundle(folder)


def test_another_tokenizer_than_the_models_is_refused_with_both_fingerprints(tmp_path: Path):
    folder = bundle_of(tmp_path / "bundle", make_model())
    other = small.tokenizer(299)
    other.save(folder / "tokenizer.json")
    write_manifest(folder, kind, {})
    with pytest.raises(ValueError) as raised:
        load_bundle(folder)
    assert saving.tokenizer.fingerprint[:16] in str(raised.value)
    assert other.fingerprint[:16] in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_ff": 41}, "but the config makes it"),
        ({"n_layers": 1}, "left over"),
        ({"n_layers": 3}, "missing.* and [0-9]+ more"),
        ({"depth": 3}, "unknown setting depth"),
        ({"n_heads": "4"}, "is not a model's config"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(
    tmp_path: Path, change: dict, message: str
):
    folder = bundle_of(tmp_path / "bundle", make_model())
    content = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(content))
    write_manifest(folder, kind, {})
    with pytest.raises(ValueError, match=message):
        load_bundle(folder)


def test_weights_of_another_type_are_refused_and_the_model_stays_as_it_was(tmp_path: Path):
    model = make_model()
    before = {name: weight.clone() for name, weight in distinct_weights(model).items()}
    stored = {name: torch.zeros_like(weight) for name, weight in before.items()}
    last = list(stored)[-1]
    stored[last] = stored[last].to(torch.bfloat16)
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=rf"{last} in bfloat16, but weights are kept in float32"):
        load_weights(model, tmp_path)
    assert all(torch.equal(weight, before[n]) for n, weight in distinct_weights(model).items())


@pytest.mark.parametrize("apart", [False, True])
def test_the_attention_is_one_for_what_the_rows_will_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool
):
    asked: list[bool] = []

    def choose(*_: object, masked: bool, **__: object) -> str:
        asked.append(masked)
        return "plain"

    monkeypatch.setattr("modelwright.checkpoint.bundle.choose_attention", choose)
    load_bundle(bundle_of(tmp_path / "bundle", make_model()), apart=apart)
    assert asked == [apart]
