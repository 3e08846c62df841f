import dataclasses
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

import foreign
import saving
import small
from modelwright.checkpoint.bundle import Bundle
from modelwright.interop import gguf as ours
from modelwright.interop.gguf import export_gguf, gguf_family
from modelwright.interop.gguf_check import allowed_error
from modelwright.tokenizer.splitting import pattern_named
from modelwright.tokenizer.tokenizer import Tokenizer

gpt2: dict[str, Any] = {
    "norm": "layernorm",
    "positions": "learned",
    "mlp": "gelu_tanh",
    "n_kv_heads": None,
}
llama3_rope: dict[str, Any] = {
    "rope_theta": 100.0,
    "rope_factor": 4.0,
    "rope_low_frequency": 1.0,
    "rope_high_frequency": 4.0,
    "rope_original_context": 64,
}
wide: dict[str, Any] = {"vocab_size": foreign.n_vocab, "d_model": 64, "d_ff": 96}


def bundle(tokenizer: Tokenizer = saving.tokenizer, **changes: Any) -> Bundle:
    return Bundle(Path("nowhere"), small.model(**(wide | changes)).eval(), tokenizer)


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    reader = gguf.GGUFReader(folder / "model.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {tensor.name: tensor for tensor in reader.tensors}


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        (gpt2, "gpt2"),
        ({}, "llama"),
        ({"bias": True, "tie_embeddings": False, "vocab_multiple": 64}, "llama"),
        ({"window": 11}, "llama"),
        ({"qk_norm": True}, "qwen3"),
        ({"norm": "layernorm", "mlp": "gelu_tanh"}, "starcoder2"),
    ],
)
def test_in_fp32_everything_reads_back_to_the_bit(
    tmp_path: Path, changes: dict[str, Any], family: str
):
    written = export_gguf(bundle(**changes), tmp_path / "out")
    assert (written.family, written.largest_error) == (family, 0)
    assert "as written, to the bit" in written.in_words()
    fields, tensors = read(tmp_path / "out")
    config = small.model_config(**(wide | changes))
    assert fields["general.architecture"] == family
    assert fields[f"{family}.block_count"] == config.n_layers
    assert fields[f"{family}.attention.head_count_kv"] == config.key_heads
    assert fields[f"{family}.context_length"] == config.context
    assert len(tensors) == written.n_tensors
    assert tensors["token_embd.weight"].shape.tolist() == [64, foreign.n_vocab]
    assert ("output.weight" in tensors) == (not config.tie_embeddings)


def test_fewer_bits_round_within_their_bounds_and_say_by_how_much(tmp_path: Path):
    errors = [
        export_gguf(bundle(), tmp_path / dtype, dtype=dtype).largest_error
        for dtype in ("fp16", "q8_0")
    ]
    assert 0 < errors[0] < errors[1] < 0.02
    _, tensors = read(tmp_path / "q8_0")
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert kinds["blk.0.ffn_up.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    sizes = [(tmp_path / name / "model.gguf").stat().st_size for name in ("fp16", "q8_0")]
    assert sizes[0] > sizes[1]


def test_rows_that_make_no_blocks_and_learned_positions_keep_more_bits(tmp_path: Path):
    export_gguf(bundle(**gpt2, d_ff=40), tmp_path / "out", dtype="q8_0")
    _, tensors = read(tmp_path / "out")
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["position_embd.weight"] == "F32"


def test_llama_3s_slower_wavelengths_are_told_by_factors(tmp_path: Path):
    export_gguf(bundle(**llama3_rope), tmp_path / "out")
    _, tensors = read(tmp_path / "out")
    factors = tensors["rope_freqs.weight"].data
    assert len(factors) == 8
    assert factors[0] == 1
    assert factors[-1] == pytest.approx(4)
    assert (np.diff(factors) >= 0).all()


def test_the_tokenizer_is_in_the_file(tmp_path: Path):
    export_gguf(bundle(vocab_size=foreign.n_vocab + 2), tmp_path / "out")
    fields, _ = read(tmp_path / "out")
    tokens = fields["tokenizer.ggml.tokens"]
    vocabulary = saving.tokenizer.vocabulary
    assert len(tokens) == foreign.n_vocab + 2
    assert tokens[saving.tokenizer.end_of_text] == "<|endoftext|>"
    assert tokens[-1] == "[PAD301]"
    assert fields["tokenizer.ggml.token_type"][-3:] == [3, 5, 5]
    assert len(fields["tokenizer.ggml.merges"]) == len(vocabulary.merges)
    left, right = vocabulary.merges[0]
    assert fields["tokenizer.ggml.merges"][0] == f"{tokens[left]} {tokens[right]}"
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.ggml.eos_token_id"] == saving.tokenizer.end_of_text
    assert fields["tokenizer.ggml.add_bos_token"] is False


def with_pattern(pattern: str) -> Tokenizer:
    return Tokenizer(dataclasses.replace(saving.tokenizer.vocabulary, pattern=pattern))


def test_llama_3s_cuts_have_their_own_name(tmp_path: Path):
    export_gguf(bundle(with_pattern(pattern_named("llama3"))), tmp_path / "out")
    assert read(tmp_path / "out")[0]["tokenizer.ggml.pre"] == "llama-bpe"


@pytest.mark.parametrize(
    ("pattern", "named"),
    [(pattern_named("cl100k"), "cl100k"), ("", "none"), (r"\p{L}+|.", r"'\\p{L}+|.'")],
)
def test_other_cuts_are_refused(tmp_path: Path, pattern: str, named: str):
    message = f"cuts text as {named}, which llama.cpp does not do exactly, so that ids would differ"
    with pytest.raises(ValueError, match=re.escape(message)):
        export_gguf(bundle(with_pattern(pattern)), tmp_path / "out")
    assert foreign.tree(tmp_path) == set()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": 5}, "model.window is 5, but this family sees the whole context in llama.cpp"),
        (gpt2 | {"mlp": "gelu"}, "model.mlp is 'gelu', but llama.cpp has 'gelu_tanh'"),
        ({"placement": "post"}, "model.placement is 'post'"),
    ],
)
def test_what_llama_cpp_lacks_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        gguf_family(small.model_config(**changes))


def test_an_unknown_dtype_and_too_large_numbers_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="--dtype is bf16, .*choose one of fp32, fp16, q8_0"):
        export_gguf(bundle(), tmp_path / "out", dtype="bf16")
    large = bundle()
    with torch.no_grad():
        large.model.embedding.weight[3, 5] = 70_000
    with pytest.raises(ValueError, match=r"token_embd.weight reaches 7e\+04, more than F16 can"):
        export_gguf(large, tmp_path / "out", dtype="fp16")
    assert foreign.tree(tmp_path) == set()
    export_gguf(large, tmp_path / "out")


def test_a_file_with_another_number_in_it_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write = ours._write

    def write_otherwise(path: Path, family: str, config: Any, tensors: Any, *rest: Any) -> None:
        write(path, family, config, tensors, *rest)
        tensors["output_norm.weight"] = tensors["output_norm.weight"] + 1e-6

    monkeypatch.setattr(ours, "_write", write_otherwise)
    with pytest.raises(RuntimeError, match="output_norm.weight in model.gguf is further off than"):
        export_gguf(bundle(), tmp_path / "out")
    assert foreign.tree(tmp_path) == set()


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e4])
def test_the_bound_of_q8_0_holds_and_is_tight(scale: float):
    numbers = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32) * scale
    kind = gguf.GGMLQuantizationType.Q8_0
    stored = gguf.quants.dequantize(gguf.quants.quantize(numbers, kind), kind)
    error, bound = np.abs(stored - numbers), allowed_error(numbers, "Q8_0")
    assert (error <= bound).all()
    if scale > 1e-6:
        assert (error > bound / 2).mean() > 0.2
