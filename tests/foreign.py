"""Toy models of other people's families, made and saved by transformers itself."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

import saving
from modelwright.tokenizer.formats import write_huggingface_folder

kinds: dict[str, tuple[Any, Any]] = {
    "gpt2": (GPT2Config, GPT2LMHeadModel),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "starcoder2": (Starcoder2Config, Starcoder2ForCausalLM),
}
n_vocab = saving.tokenizer.n_vocab
ends = {"bos_token_id": n_vocab - 1, "eos_token_id": n_vocab - 1}
gpt2_shape: dict[str, Any] = {
    "vocab_size": n_vocab,
    "n_positions": 24,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 40,
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    **ends,
}
rotary_shape: dict[str, Any] = {
    "vocab_size": n_vocab,
    "max_position_embeddings": 24,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    **ends,
}
llama3_rope = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
biased = {"attention_bias": True, "mlp_bias": True}
cases: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {}),
    ("gpt2", {"tie_word_embeddings": False}),
    ("gpt2", {"activation_function": "gelu", "layer_norm_epsilon": 0.1}),
    ("gpt2", {"activation_function": "relu2", "n_inner": None}),
    ("llama", {}),
    ("llama", {"tie_word_embeddings": True}),
    ("llama", {"num_key_value_heads": 4}),
    ("llama", {"head_dim": 10, "rms_norm_eps": 0.1}),
    ("llama", biased),
    ("llama", {"rope_parameters": llama3_rope}),
    ("mistral", {"sliding_window": 3}),
    ("qwen3", {"head_dim": 8}),
    ("starcoder2", {}),
    ("starcoder2", {"use_bias": False, "sliding_window": 5, "tie_word_embeddings": False}),
]


def title(case: Any) -> str:
    return f"{case[0]}-{case[1]}" if isinstance(case, tuple) else str(case)


def model(family: str, **changes: Any) -> Any:
    """A model with weights large enough that every part of it matters."""
    make_config, make = kinds[family]
    shape = dict(gpt2_shape if family == "gpt2" else rotary_shape)
    if family == "starcoder2":
        shape.pop("head_dim")
    torch.manual_seed(0)
    made = make(make_config(**(shape | changes))).eval()
    keeps_zeros = family == "starcoder2" and changes.get("use_bias") is False
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3)
            elif not (keeps_zeros and name.endswith("bias")):
                parameter.add_(torch.linspace(-0.5, 0.5, len(parameter)))
    return made


def save(made: Any, folder: Path, **how: Any) -> Path:
    """Write a model with the tokenizer that its vocabulary belongs to."""
    made.save_pretrained(folder, **how)
    write_huggingface_folder(saving.tokenizer.vocabulary, folder)
    return folder


def ids(n: int = 24) -> torch.Tensor:
    return torch.randint(n_vocab, (2, n), generator=torch.Generator().manual_seed(1))


def tree(folder: Path) -> set[str]:
    """Everything that is in a folder, hidden files too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
