"""Published models by name, in the settings of `ModelConfig` that differ from its defaults.

A recipe takes one with `model.preset = "llama-3-8b"` and may change any setting of it.

Sources: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", table 2, and
the released weights; Brown et al. 2020, "Language Models are Few-Shot Learners", table 2.1, whose
every second layer looks back in narrow bands where ours sees everything; Touvron et al. 2023,
"Llama 2", and the configs released with its weights; Grattafiori et al. 2024, "The Llama 3 Herd of
Models", table 3; Jiang et al. 2023, "Mistral 7B", table 1.
"""

from typing import Any


def _gpt2(d_model: int, n_layers: int, n_heads: int, *, context: int = 1024) -> dict[str, Any]:
    return {
        "vocab_size": 50_257,
        "context": context,
        "d_model": d_model,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "norm": "layernorm",
        "positions": "learned",
        "mlp": "gelu_tanh",
        "bias": True,
        "tie_embeddings": True,
    }


def _llama(vocab_size: int, context: int, **shape: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "context": context,
        "norm": "rmsnorm",
        "positions": "rope",
        "mlp": "swiglu",
        "bias": False,
        "tie_embeddings": False,
        **shape,
    }


def _fast(n_layers: int) -> dict[str, Any]:
    """Widths that GPUs multiply at full speed, 64 for each layer: all are multiples of 128.

    Heads of 128 make attention about half again as fast as twice as many of 64, and relu(x)² is
    cheaper to undo than a GELU and needs no third matrix. The shape is that of Karpathy's nanochat.
    """
    d_model = 128 * round(n_layers / 2)
    return _llama(32_768, 2048, d_model=d_model, n_layers=n_layers, n_heads=d_model // 128) | {
        "mlp": "relu2",
        "qk_norm": True,
    }


_llama_2_70b = _llama(
    32_000, 4096, d_model=8192, n_layers=80, n_heads=64, n_kv_heads=8, d_ff=28_672
)
_llama_3_8b = _llama(
    128_256,
    8192,
    d_model=4096,
    n_layers=32,
    n_heads=32,
    n_kv_heads=8,
    d_ff=14_336,
    rope_theta=500_000.0,
)

presets: dict[str, dict[str, Any]] = {
    # A million parameters and a few more for the vocabulary: minutes on two processor cores.
    "laptop": {
        "context": 256,
        "d_model": 128,
        "n_layers": 4,
        "n_heads": 4,
        "norm": "layernorm",
        "positions": "rope",
        "mlp": "gelu_tanh",
        "bias": False,
        "tie_embeddings": True,
    },
    "gpt2-small": _gpt2(768, 12, 12),
    "gpt2-medium": _gpt2(1024, 24, 16),
    "gpt2-large": _gpt2(1280, 36, 20),
    "gpt2-xl": _gpt2(1600, 48, 25),
    # GPT-2 XL's widths in Llama's style, at the full 4 d_model in all three matrices of the MLP.
    "gpt2-xl-swiglu": _llama(50_257, 1024, d_model=1600, n_layers=48, n_heads=25, d_ff=6400),
    "gpt3-175b": _gpt2(12_288, 96, 96, context=2048),
    # Made for the chip rather than for a comparison.
    "fast-12": _fast(12),
    "fast-20": _fast(20),
    "fast-26": _fast(26),
    "tinystories-17m": _llama(10_000, 256, d_model=512, n_layers=4, n_heads=16, d_ff=1344),
    "llama-2-7b": _llama(32_000, 4096, d_model=4096, n_layers=32, n_heads=32, d_ff=11_008),
    "llama-2-13b": _llama(32_000, 4096, d_model=5120, n_layers=40, n_heads=40, d_ff=13_824),
    "llama-2-70b": _llama_2_70b,
    "llama-3-8b": _llama_3_8b,
    "llama-3-70b": _llama_2_70b | {"vocab_size": 128_256, "context": 8192, "rope_theta": 500_000.0},
    "llama-3.1-8b": _llama_3_8b | {"context": 131_072, "rope_factor": 8.0},
    "mistral-7b": _llama(
        32_000,
        32_768,
        d_model=4096,
        n_layers=32,
        n_heads=32,
        n_kv_heads=8,
        d_ff=14_336,
        window=4096,
    ),
}
