"""One file for llama.cpp and the programs around it: a GGUF with weights, shape and tokenizer.

Needs the `gguf` package, which comes with the extra of that name. Names, keys and the order of
rotary channels are those that llama.cpp reads. Vectors and learned positions stay in fp32, and
rows that do not split into blocks stay in fp16. What is written is read back with the package's own
reader, and every tensor and token compared.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modelwright.accounting.parameters import count_parameters
from modelwright.checkpoint.bundle import Bundle, distinct_weights
from modelwright.interop.card import model_card
from modelwright.interop.families import family_of
from modelwright.interop.folders import model_folder, refuse_occupied
from modelwright.interop.gguf_check import Numbers, block_size, compare
from modelwright.interop.name_maps import Layout, gpt2, llama, places, starcoder2, to_theirs
from modelwright.model.config import ModelConfig
from modelwright.model.positions import rotary_frequencies, stretched
from modelwright.tokenizer.merging import check_whole_tokens
from modelwright.tokenizer.spelling import spell
from modelwright.tokenizer.splitting import PATTERNS
from modelwright.tokenizer.vocabulary import END_OF_TEXT, Vocabulary

file_name = "model.gguf"
dtypes = {"fp32": "F32", "fp16": "F16", "q8_0": "Q8_0"}

# How llama.cpp calls the ways of cutting that it does exactly as we do.
_cuts = {PATTERNS["gpt2"]: "gpt-2", PATTERNS["llama3"]: "llama-bpe"}
_outer = {
    "embedding": "token_embd",
    "positions": "position_embd",
    "norm": "output_norm",
    "unembedding": "output",
}
_inner = {
    "attention_norm": "attn_norm",
    "attention.qkv": ("attn_q", "attn_k", "attn_v"),
    "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "attention.output": "attn_output",
    "mlp_norm": "ffn_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}


def _renamed(layout: Layout, **changes: Any) -> Layout:
    return replace(layout, outer=_outer, block="blk.{}.", inner=_inner, **changes)


layouts = {
    "gpt2": replace(_renamed(gpt2, transposed=False), inner=_inner | {"attention.qkv": "attn_qkv"}),
    "llama": _renamed(llama, neighbours_turn=True),
    "qwen3": _renamed(llama),
    # llama.cpp wants every bias of this family.
    "starcoder2": _renamed(starcoder2, always_biased=frozenset(_inner) | {"norm"}),
}


@dataclass(frozen=True)
class GgufExport:
    """What was written, and what reading it back found."""

    folder: Path
    family: str
    dtype: str
    n_parameters: int
    n_bytes: int
    n_tensors: int
    largest_error: float  # of a weight, from storing it in fewer bits

    def in_words(self) -> str:
        """What was compared, in a sentence."""
        tokens = "and the tokenizer are as written"
        if not self.largest_error:
            return f"read back, all {self.n_tensors} tensors {tokens}, to the bit"
        return (
            f"read back, all {self.n_tensors} tensors {tokens}; storing weights in {self.dtype} "
            f"moved one by up to {self.largest_error:.2g}, within what its rounding allows"
        )


def export_gguf(
    bundle: Bundle, folder: Path, *, dtype: str = "fp32", force: bool = False
) -> GgufExport:
    """Write a model as a folder with one GGUF file and a card, in one piece.

    Args:
        dtype: of the matrices, one of `dtypes`.
        force: whether a model that is there may be replaced.

    Raises:
        FileExistsError: if something is there already.
        ValueError: if the package is missing, or llama.cpp cannot express the model, its way of
            cutting text, or its numbers in this dtype.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(
            "writing a GGUF file needs the package gguf, which comes with "
            "pip install 'modelwright[gguf]'"
        )
    if dtype not in dtypes:
        raise ValueError(
            f"--dtype is {dtype}, which --format gguf has not; choose one of {', '.join(dtypes)}"
        )
    config, vocabulary = bundle.model.config, bundle.tokenizer.vocabulary
    family = gguf_family(config)
    cut = cut_name(vocabulary)
    refuse_occupied(folder, force=force, option="--to", source=bundle.folder)
    where = places(layouts[family], config)
    tensors = {
        name: np.ascontiguousarray(tensor.float().cpu().numpy())
        for name, tensor in to_theirs(where, distinct_weights(bundle.model))
    }
    if config.positions == "rope" and config.rope_factor > 1:
        tensors["rope_freqs.weight"] = _slowing(config)
    with model_folder(folder, force=force, option="--to") as unfinished:
        path = unfinished / file_name
        tokens = _spelled(vocabulary, config.known_vocab)
        _write(path, family, config, tensors, dtypes[dtype], vocabulary, tokens, cut)
        written = GgufExport(
            folder=folder,
            family=family,
            dtype=dtype,
            n_parameters=count_parameters(config).total,
            n_bytes=path.stat().st_size,
            n_tensors=len(tensors),
            largest_error=compare(path, tensors, tokens),
        )
        check = f"With the reader of the gguf package: {written.in_words()}."
        card = model_card(bundle, folder.name, dtype=dtype, family=family, check=check)
        (unfinished / "README.md").write_text(card)
    return written


def gguf_family(config: ModelConfig) -> str:
    """What llama.cpp calls a model of this shape.

    Raises:
        ValueError: naming the setting that it cannot express.
    """
    family = family_of(config)
    if config.masked_beyond_causal:
        raise ValueError(
            f"model.window is {config.window}, but this family sees the whole context in "
            f"llama.cpp; use --format huggingface"
        )
    if family in ("gpt2", "starcoder2") and config.mlp != "gelu_tanh":
        raise ValueError(
            f"model.mlp is {config.mlp!r}, but llama.cpp has 'gelu_tanh' in this family; use "
            "--format huggingface"
        )
    return "llama" if family == "mistral" else family


def cut_name(vocabulary: Vocabulary) -> str:
    """What llama.cpp calls the way in which a tokenizer cuts text.

    Raises:
        ValueError: if it has no such way.
    """
    name = _cuts.get(vocabulary.pattern)
    if name is None:
        known = [ours for ours, pattern in PATTERNS.items() if pattern in _cuts]
        ours = next((key for key, pattern in PATTERNS.items() if pattern == vocabulary.pattern), "")
        raise ValueError(
            f"the tokenizer cuts text as {ours or repr(vocabulary.pattern)}, which llama.cpp does "
            f"not do exactly, so that ids would differ; it does {' and '.join(known)}; use "
            "--format huggingface"
        )
    if name == "llama-bpe":  # takes a piece that is a token whole
        check_whole_tokens(vocabulary)
    return name


def _slowing(config: ModelConfig) -> Numbers:
    """By how much each pair of channels turns more slowly than without a longer context."""
    plain = rotary_frequencies(config.head_width, theta=config.rope_theta)
    slowed = stretched(
        plain,
        factor=config.rope_factor,
        low=config.rope_low_frequency,
        high=config.rope_high_frequency,
        original_context=config.rope_original_context,
    )
    return (plain / slowed).float().numpy()


def _spelled(vocabulary: Vocabulary, n_rows: int) -> list[str]:
    """Each token as files spell it, and a name for each row of the model that is none."""
    special = {token_id: text for text, token_id in vocabulary.special_tokens.items()}
    spelled = [special.get(i) or spell(token) for i, token in enumerate(vocabulary.tokens)]
    return spelled + [f"[PAD{i}]" for i in range(len(spelled), n_rows)]


def _write(
    path: Path,
    family: str,
    config: ModelConfig,
    tensors: Mapping[str, Numbers],
    type_name: str,
    vocabulary: Vocabulary,
    tokens: list[str],
    cut: str,
) -> None:
    import gguf

    writer = gguf.GGUFWriter(path, family)
    try:
        writer.add_context_length(config.context)
        writer.add_embedding_length(config.d_model)
        writer.add_block_count(config.n_layers)
        writer.add_feed_forward_length(config.d_hidden)
        writer.add_head_count(config.n_heads)
        writer.add_head_count_kv(config.key_heads)
        writer.add_vocab_size(config.known_vocab)
        if config.norm == "rmsnorm":
            writer.add_layer_norm_rms_eps(config.norm_epsilon)
        else:
            writer.add_layer_norm_eps(config.norm_epsilon)
        if config.positions == "rope":
            writer.add_rope_dimension_count(config.head_width)
            writer.add_rope_freq_base(config.rope_theta)
            writer.add_key_length(config.head_width)
            writer.add_value_length(config.head_width)
        file_types = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0"}
        writer.add_file_type(gguf.LlamaFileType[file_types[type_name]])
        _add_tokenizer(writer, vocabulary, tokens, cut)
        for name, tensor in tensors.items():
            kind = gguf.GGMLQuantizationType[_stored_type(name, tensor, type_name)]
            writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _add_tokenizer(writer: Any, vocabulary: Vocabulary, tokens: list[str], cut: str) -> None:
    import gguf

    n_vocab = len(vocabulary.tokens)
    special = set(vocabulary.special_tokens.values())
    kinds = [
        gguf.TokenType.CONTROL
        if i in special
        else gguf.TokenType.NORMAL
        if i < n_vocab
        else gguf.TokenType.UNUSED
        for i in range(len(tokens))
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [f"{tokens[left]} {tokens[right]}" for left, right in vocabulary.merges]
    )
    end_of_text = vocabulary.special_tokens.get(END_OF_TEXT)
    if end_of_text is not None:
        writer.add_bos_token_id(end_of_text)
        writer.add_eos_token_id(end_of_text)
    writer.add_add_bos_token(False)


def _stored_type(name: str, tensor: Numbers, type_name: str) -> str:
    """The type in which a tensor is kept: what is asked for, where llama.cpp can use it.

    Raises:
        ValueError: if its numbers are too large for it.
    """
    if tensor.ndim == 1 or name == "position_embd.weight":
        return "F32"
    if type_name == "Q8_0" and tensor.shape[-1] % block_size:
        type_name = "F16"
    largest = float(np.abs(tensor).max())
    # A block of q8_0 keeps a 127th of its largest number in fp16.
    most = {"F16": 65504.0, "Q8_0": 65504.0 * 127}.get(type_name, np.inf)
    if not largest <= most:
        raise ValueError(
            f"{name} reaches {largest:.3g}, more than {type_name} can hold; choose --dtype fp32"
        )
    return type_name
