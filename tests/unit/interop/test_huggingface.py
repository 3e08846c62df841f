import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import foreign
import saving
import small
from modelwright.checkpoint.bundle import Bundle, load_bundle
from modelwright.interop import huggingface
from modelwright.interop.huggingface import export_model, import_model, read_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return foreign.save(foreign.model("llama"), tmp_path / "theirs")


def bundle(**changes: Any) -> Bundle:
    model = small.model(vocab_size=foreign.n_vocab, **changes).eval()
    return Bundle(Path("nowhere"), model, saving.tokenizer)


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_model(str(folder))


def test_an_import_is_a_bundle_that_says_where_it_is_from(folder: Path, tmp_path: Path):
    model = import_model(str(folder), tmp_path / "ours")
    assert model.notes == ()
    assert load_bundle(tmp_path / "ours").model.config == model.config
    manifest = json.loads((tmp_path / "ours" / "manifest.json").read_text())
    assert manifest["facts"] == {"imported_from": str(folder)}
    with pytest.raises(FileExistsError, match="choose another --out, or add --force"):
        import_model(str(folder), tmp_path / "ours")
    with pytest.raises(FileExistsError, match="is what the model is read from"):
        import_model(str(folder), folder, force=True)
    refused(tmp_path / "ours", "is a model of modelwright already; use it as it is")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "holds no config.json, so it is no model for transformers"),
        ("config.json", "{", "config.json is not JSON"),
        ("config.json", "[]", "config.json holds list, where a JSON object belongs"),
        ("tokenizer.json", None, "holds neither a tokenizer.json nor a vocab.json with a merges"),
        ("tokenizer.json", "{}", "tokenizer.json: this is not a tokenizer.json"),
        ("model.safetensors", "x", "is damaged or no safetensors file"),
    ],
)
def test_a_damaged_folder_is_refused_and_leaves_nothing_behind(
    folder: Path, tmp_path: Path, name: str, content: str | None, message: str
):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    before = foreign.tree(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        import_model(str(folder), tmp_path / "ours")
    assert foreign.tree(tmp_path) == before


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(folder: Path):
    change_json(folder / "config.json", vocab_size=foreign.n_vocab - 1)
    refused(folder, f'has {foreign.n_vocab} tokens, but "vocab_size" is {foreign.n_vocab - 1}')


def test_tokens_around_every_text_are_left_out_with_a_note(folder: Path):
    template = {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}}
    change_json(folder / "tokenizer.json", post_processor=template)
    model = read_model(str(folder))
    assert model.tokenizer.fingerprint == saving.tokenizer.fingerprint
    assert model.notes == ("the tokens that its tokenizer puts around every text are left out",)


def test_a_tokenizer_that_cannot_end_a_document_is_noted(folder: Path):
    text = (folder / "tokenizer.json").read_text().replace("<|endoftext|>", "<|end|>")
    (folder / "tokenizer.json").write_text(text)
    (note,) = read_model(str(folder)).notes
    assert note.startswith("the tokenizer has no <|endoftext|>, with which documents begin and end")


def test_without_transformers_the_check_is_left_out_and_the_card_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(huggingface, "is_installed", lambda: False)
    written = export_model(bundle(), tmp_path / "out")
    assert written.agreement is None
    card = (tmp_path / "out" / "README.md").read_text()
    assert "transformers was not installed, so the export was not compared with it" in card


def test_a_dtype_that_cannot_hold_the_weights_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="--dtype is q8_0, .* choose one of fp32, bf16, fp16"):
        export_model(bundle(), tmp_path / "out", dtype="q8_0")
    large = bundle()
    with torch.no_grad():
        large.model.get_parameter("blocks.1.mlp.up.weight")[0, 0] = 1e5
    message = r"model.layers.1.mlp.up_proj.weight reaches 1e\+05, more than --dtype fp16 can hold"
    with pytest.raises(ValueError, match=message):
        export_model(large, tmp_path / "out", dtype="fp16")
    with torch.no_grad():
        large.model.get_parameter("blocks.1.mlp.up.weight")[0, 0] = float("nan")
    with pytest.raises(ValueError, match="up_proj.weight holds numbers that are not finite"):
        export_model(large, tmp_path / "out")
    assert foreign.tree(tmp_path) == set()


def test_an_export_names_what_it_cannot_express_before_it_writes(tmp_path: Path):
    with pytest.raises(ValueError, match="model.mlp is 'relu2'"):
        export_model(bundle(mlp="relu2"), tmp_path / "out")
    assert foreign.tree(tmp_path) == set()


def test_a_cut_of_ones_own_that_others_understand_differently_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = small.tokenizer(290)
    write = huggingface.write_huggingface_folder
    monkeypatch.setattr(
        huggingface,
        "write_huggingface_folder",
        lambda _, folder: write(other.vocabulary, folder),
    )
    with pytest.raises(ValueError, match="the tokenizers library gives .* other ids than ours"):
        export_model(bundle(), tmp_path / "out")
    assert foreign.tree(tmp_path) == set()
