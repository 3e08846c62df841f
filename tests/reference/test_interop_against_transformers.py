"""Models that transformers wrote come in and go out again with every bit and every logit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Model

import foreign
import saving
import small
from modelwright.checkpoint.bundle import Bundle, load_bundle
from modelwright.interop import name_maps
from modelwright.interop.agreement import sample_texts
from modelwright.interop.configs import ours_of
from modelwright.interop.huggingface import export_model, import_model, read_model
from modelwright.model.transformer import Transformer

pytestmark = pytest.mark.usefixtures("one_thread")

# What a model is, in the words of each family; the rest of a config.json is use and training.
told = {
    "gpt2": {*foreign.gpt2_shape, "activation_function", "layer_norm_epsilon"} - {"n_inner"},
    "llama": {*foreign.rotary_shape, "rms_norm_eps", "attention_bias", "mlp_bias"},
    "mistral": {*foreign.rotary_shape, "rms_norm_eps", "sliding_window"},
    "qwen3": {*foreign.rotary_shape, "rms_norm_eps", "attention_bias", "use_sliding_window"},
    "starcoder2": {*foreign.rotary_shape, "norm_epsilon", "use_bias", "sliding_window"}
    - {"head_dim"},
}


def logits_of(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder).eval()(foreign.ids()).logits


@pytest.mark.parametrize("case", foreign.cases, ids=foreign.title)
def test_a_round_trip_keeps_every_bit_and_the_logits(tmp_path: Path, case: Any):
    family, changes = case
    made = foreign.model(family, **changes)
    foreign.save(made, tmp_path / "theirs")
    import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    bundle = load_bundle(tmp_path / "ours")
    with torch.no_grad():
        expected = made(foreign.ids()).logits
        difference = (bundle.model(foreign.ids()) - expected).abs().max()
    # The same fp32 numbers, added in another order.
    assert difference <= 1e-5 * expected.abs().max()

    written = export_model(bundle, tmp_path / "back")
    assert written.family == family
    before = load_file(tmp_path / "theirs" / "model.safetensors")
    after = load_file(tmp_path / "back" / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype == torch.float32
        assert torch.equal(tensor, after[name]), name
    assert torch.equal(logits_of(tmp_path / "back"), expected)

    was, now = (
        AutoConfig.from_pretrained(tmp_path / name).to_dict() for name in ("theirs", "back")
    )
    told_too = {"model_type", "architectures", "tie_word_embeddings"}
    told_too |= set() if family == "gpt2" else {"rope_parameters"}
    for name in told[family] | told_too:
        assert now[name] == was[name], name


def test_a_mistral_without_a_window_is_a_llama(tmp_path: Path):
    theirs = foreign.save(foreign.model("mistral", sliding_window=None), tmp_path / "theirs")
    import_model(str(theirs), tmp_path / "ours")
    assert export_model(load_bundle(tmp_path / "ours"), tmp_path / "back").family == "llama"
    assert torch.equal(logits_of(tmp_path / "back"), logits_of(theirs))


@pytest.mark.parametrize("family", foreign.kinds)
def test_what_a_config_leaves_out_is_what_transformers_takes(tmp_path: Path, family: str):
    foreign.model(family).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    needed = {"model_type", "layer_norm_epsilon", "rms_norm_eps", "norm_epsilon"}
    needed |= set(foreign.gpt2_shape) | set(foreign.rotary_shape)
    if family in ("gpt2", "llama"):
        needed -= {"n_inner", "num_key_value_heads"}
    needed -= {"head_dim"}
    short = {name: value for name, value in content.items() if name in needed}
    assert len(short) < len(content)
    complete = AutoConfig.for_model(**short).to_dict()
    assert ours_of(short) == ours_of(complete)


def test_rope_is_told_in_the_words_of_transformers_four_and_five():
    rest = foreign.model("llama").config.to_dict()
    del rest["rope_parameters"]
    new = ours_of(rest | {"rope_parameters": foreign.llama3_rope})
    scaling = dict(foreign.llama3_rope)
    theta = scaling.pop("rope_theta")
    old = rest | {"rope_theta": theta, "rope_scaling": scaling}
    assert ours_of(old) == new
    assert (new.rope_factor, new.rope_theta) == (4.0, 100.0)
    scaling["type"] = scaling.pop("rope_type")
    assert ours_of(old) == new


@pytest.mark.parametrize("case", [foreign.cases[1], foreign.cases[4]], ids=foreign.title)
def test_weights_in_several_files_are_the_same_weights(tmp_path: Path, case: Any):
    family, changes = case
    made = foreign.model(family, **changes)
    one = foreign.save(made, tmp_path / "one")
    many = foreign.save(made, tmp_path / "many", max_shard_size="20KB")
    assert not (many / "model.safetensors").exists()
    expected, found = read_model(str(one)).weights, read_model(str(many)).weights
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounded_weights_are_read_as_they_are(tmp_path: Path, dtype: torch.dtype):
    made = foreign.model("llama").to(dtype)
    folder = foreign.save(made, tmp_path / "theirs")
    weights = read_model(str(folder)).weights
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    expected = made.model.embed_tokens.weight.float()
    assert torch.equal(weights["embedding.weight"], expected)


def test_a_gpt2_without_its_head_and_with_old_masks_is_read(tmp_path: Path):
    """As the weights that were published first are."""
    made = foreign.model("gpt2")
    whole = read_model(str(foreign.save(made, tmp_path / "whole"))).weights
    folder = foreign.save(made, tmp_path / "bare")
    stored = {
        name.removeprefix("transformer."): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    assert stored.keys() == {name for name, _ in GPT2Model(made.config).named_parameters()}
    for layer in range(2):
        stored[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 24, 24).tril()
        stored[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(stored, folder / "model.safetensors")
    found = read_model(str(folder)).weights
    assert whole.keys() == found.keys()
    assert all(torch.equal(whole[name], found[name]) for name in whole)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_the_check_says_how_far_apart_the_programs_are(tmp_path: Path, dtype: str):
    bundle = Bundle(tmp_path, small.model(vocab_size=foreign.n_vocab).eval(), saving.tokenizer)
    written = export_model(bundle, tmp_path / "out", dtype=dtype)
    assert written.agreement is not None
    assert 0 < written.agreement.difference < 1e-4 < written.agreement.largest_logit
    assert (written.agreement.rounding > 1e-4) == (dtype != "fp32")
    stored = load_file(tmp_path / "out" / "model.safetensors")
    wanted = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    assert {tensor.dtype for tensor in stored.values()} == {wanted}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert loaded.dtype == wanted
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{written.agreement.difference:.2g}" in card


def test_an_export_in_several_files_opens_too(tmp_path: Path):
    bundle = Bundle(tmp_path, small.model(vocab_size=foreign.n_vocab).eval(), saving.tokenizer)
    export_model(bundle, tmp_path / "one")
    export_model(bundle, tmp_path / "many", most_bytes=20_000)
    files = sorted((tmp_path / "many").glob("model-*-of-*.safetensors"))
    assert len(files) > 2
    for path in files:
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == {"format": "pt"}  # or transformers 4 refuses it
    ids = foreign.ids(11)
    one, many = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name)(ids).logits
        for name in ("one", "many")
    )
    assert torch.equal(one, many)


def test_a_mistaken_name_is_noticed_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    swapped = dict(name_maps.llama.inner)
    swapped["mlp.gate"], swapped["mlp.up"] = swapped["mlp.up"], swapped["mlp.gate"]
    layout = name_maps.Layout(
        outer=name_maps.llama.outer, block=name_maps.llama.block, inner=swapped
    )
    monkeypatch.setitem(name_maps.layouts, "llama", layout)
    bundle = Bundle(tmp_path, small.model(vocab_size=foreign.n_vocab).eval(), saving.tokenizer)
    with pytest.raises(
        RuntimeError, match=r"transformers .* away from ours .* nothing was exported"
    ):
        export_model(bundle, tmp_path / "out")
    assert foreign.tree(tmp_path) == set()


def test_padding_is_made_on_the_way_in_and_cut_on_the_way_out(tmp_path: Path):
    made = foreign.model("llama")
    theirs = foreign.save(made, tmp_path / "theirs")
    import_model(str(theirs), tmp_path / "ours", vocab_multiple=64)
    bundle = load_bundle(tmp_path / "ours")
    assert isinstance(bundle.model, Transformer)
    for matrix in (bundle.model.embedding.weight, bundle.model.unembedding.weight):
        assert len(matrix) == 320
        assert not matrix[foreign.n_vocab :].any()
    assert bundle.model(foreign.ids()).shape[-1] == foreign.n_vocab
    export_model(bundle, tmp_path / "back")
    before, after = (load_file(tmp_path / n / "model.safetensors") for n in ("theirs", "back"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_with_more_rows_than_tokens_keeps_them(tmp_path: Path):
    made = foreign.model("llama", vocab_size=foreign.n_vocab + 5)
    theirs = foreign.save(made, tmp_path / "theirs")
    model = import_model(str(theirs), tmp_path / "ours")
    assert model.config.vocab_size == model.tokenizer.n_vocab == foreign.n_vocab + 5
    assert "the last 5 ids are named <|unused_ID|>" in model.notes[0]
    for text in sample_texts:
        assert (model.tokenizer.encode(text) == saving.tokenizer.encode(text)).all()
    export_model(load_bundle(tmp_path / "ours"), tmp_path / "back")
    before, after = (load_file(tmp_path / n / "model.safetensors") for n in ("theirs", "back"))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_ids_are_those_of_auto_tokenizer(tmp_path: Path, form: str):
    from modelwright.tokenizer.formats import write_vocab_and_merges

    theirs = foreign.save(foreign.model("gpt2"), tmp_path / "theirs")
    if form == "vocab.json":
        (theirs / "tokenizer.json").unlink()
        write_vocab_and_merges(saving.tokenizer.vocabulary, theirs)
    import_model(str(theirs), tmp_path / "ours")
    bundle = load_bundle(tmp_path / "ours")
    export_model(bundle, tmp_path / "back")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "back")
    assert tokenizer.eos_token_id == saving.tokenizer.end_of_text
    hostile = [
        *sample_texts,
        "",
        "<|endoftext|>a<|endoftext|><|endoftext",
        "\ufffd\ud7ff\U0010ffff" + "\u0301" * 50,
        "a" * 3000 + "\n" * 500 + " " * 500,
        "".join(map(chr, range(1, 1500))),
    ]
    for text in hostile:
        expected = bundle.tokenizer.encode(text, allowed_special="all").tolist()
        assert tokenizer(text, add_special_tokens=False).input_ids == expected
        assert bundle.tokenizer.decode(expected) == text
