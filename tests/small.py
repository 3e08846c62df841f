"""Small things that many tests need: a tokenizer, a model and a run that take milliseconds."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelwright.config.loading import load_settings
from modelwright.data.shards import Shard, TokenSequence
from modelwright.data.stories import stories
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.initialise import initialise
from modelwright.model.transformer import Transformer
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.training import train_tokenizer
from modelwright.training.config import RunConfig
from modelwright.training.metrics import MetricsFile


def model_config(**changes: Any) -> ModelConfig:
    """A shape in which every width differs, so that a swapped axis shows."""
    shape: dict[str, Any] = {
        "vocab_size": 37,
        "context": 11,
        "d_model": 24,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "d_ff": 40,
    }
    return ModelConfig(**(shape | changes))


def model(
    *,
    seed: int = 0,
    attention: AttentionKind = "math",
    dtype: torch.dtype = torch.float32,
    stream_dtype: torch.dtype | None = None,
    **changes: Any,
) -> Transformer:
    """An initialised model with weights large enough that every part of it matters.

    Args:
        dtype: of the matrix products; in fp64 the weights are fp64 too, so that nothing is rounded.
        changes: of the shape. A new model is in training mode, so that a dropout is at work.
    """
    made = Transformer(
        model_config(**changes), attention=attention, dtype=dtype, stream_dtype=stream_dtype
    )
    initialise(made, seed=seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(1.5)
            elif name.endswith("bias"):
                parameter.add_(torch.linspace(-0.5, 0.5, len(parameter)))
            else:
                parameter.mul_(torch.linspace(0.5, 1.5, len(parameter)))
    return made.double() if dtype == torch.float64 else made


def tokens(n: int = 100, *, seed: int = 0) -> TokenSequence:
    """A text of one document, drawn from the vocabulary of `model`."""
    drawn = np.random.default_rng(seed).integers(0, 37, n).astype(np.uint16)
    return sequence(drawn)


def sequence(drawn: np.ndarray) -> TokenSequence:
    """Token ids as the text of one shard that is no file."""
    return TokenSequence([Shard(Path("made-up"), drawn, np.zeros(1, np.uint64), "")])


def ids(batch: int = 2, seq: int = 11, n_vocab: int = 37) -> torch.Tensor:
    return torch.randint(n_vocab, (batch, seq), generator=torch.Generator().manual_seed(1))


def texts(n: int = 40) -> list[str]:
    """The first stories of the built-in corpus."""
    return [text for _, text in zip(range(n), stories(1), strict=False)]


def tokenizer(vocab_size: int = 300) -> Tokenizer:
    return train_tokenizer(texts(), vocab_size=vocab_size)


def run_config(folder: Path, *changes: str) -> RunConfig:
    """A run of six steps on a few kilobytes of stories, its data inside `folder`."""
    settings = [
        f"data.folder={folder / 'data'}",
        "data.stories_bytes=60_000",
        "data.validation_fraction=0.1",
        "tokenizer.vocab_size=300",
        "model.context=16",
        "model.d_model=16",
        "model.n_layers=1",
        "model.n_heads=2",
        "training.n_steps=6",
        "training.batch_tokens=64",
        "training.micro_batch=2",
        "training.precision=fp32",
        "training.device=cpu",
        "evaluation.every_steps=3",
        "evaluation.n_tokens=64",
        "samples.every_steps=3",
        "samples.max_tokens=5",
        "checkpoints.every_steps=2",
    ]
    return load_settings(RunConfig, None, [*settings, *changes]).config


def record(run_folder: Path, metrics: dict[str, Any]) -> None:
    """Put one line on the record of a run that is not going on."""
    with MetricsFile(run_folder) as file:
        file.append(metrics)
