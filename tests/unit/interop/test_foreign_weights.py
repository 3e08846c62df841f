import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import foreign
from modelwright.interop.huggingface import read_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return foreign.save(foreign.model("llama", tie_word_embeddings=True), tmp_path / "theirs")


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Put other tensors into a weights file; None takes one out."""
    path = folder / "model.safetensors"
    stored = load_file(path) | tensors
    save_file({name: t for name, t in stored.items() if t is not None}, path)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        read_model(str(folder))


norm = "model.norm.weight"


def test_a_missing_a_left_over_and_a_misshapen_tensor_are_named(folder: Path):
    stored = load_file(folder / "model.safetensors")[norm]
    change(folder, **{norm: None, "model.extra.weight": torch.ones(3)})
    refused(folder, "disagree about model.norm.weight (missing), model.extra.weight (left over)")
    change(folder, **{norm: torch.ones(7), "model.extra.weight": None})
    refused(folder, "holds model.norm.weight as (7,), but config.json makes it (24,)")
    change(folder, **{norm: stored.double()})
    refused(folder, "model.norm.weight in float64; read are float32, bfloat16, float16")
    change(folder, **{norm: stored})
    read_model(str(folder))


def test_of_many_odd_tensors_four_are_named(folder: Path):
    change(folder, **{f"a{i}": torch.ones(1) for i in range(9)})
    refused(folder, "a0 (left over), a1 (left over), a2 (left over), a3 (left over) and 5 more")


def test_a_second_copy_of_the_shared_matrix_has_to_be_the_same(folder: Path):
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    change(folder, **{"lm_head.weight": embedding.clone()})
    assert "unembedding.weight" not in read_model(str(folder)).weights
    change(folder, **{"lm_head.weight": embedding + 1})
    refused(folder, '"tie_word_embeddings" is true in config.json; set it to false')


def test_a_pickle_is_refused_and_the_way_out_named(folder: Path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "holds no safetensors but pytorch_model.bin, a pickle, which can run any code")
    refused(folder, "safe_serialization=True")
    (folder / "pytorch_model.bin").unlink()
    refused(folder, "holds no model.safetensors and no model.safetensors.index.json")


def test_a_damaged_file_is_named(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    refused(folder, "model.safetensors is damaged or no safetensors file")


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({norm: "gone.safetensors"}, "gone.safetensors is missing, though"),
        (
            {norm: "../model.safetensors"},
            "names '../model.safetensors', which is no file beside it",
        ),
        ({norm: "model.bin"}, "names model.bin; only safetensors files are ever read"),
        ({norm: 3}, "names 3"),
        ([], "it has no usable weight_map"),
    ],
)
def test_an_index_names_files_beside_it(folder: Path, weight_map: object, message: str):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    content = json.dumps({"weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(content)
    refused(folder, message)


def test_a_tensor_in_two_files_is_refused(folder: Path):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    save_file({norm: torch.ones(24)}, folder / "b.safetensors")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, f"b.safetensors holds {norm}, which is in another file too")
