"""How long an evaluation takes one sequence at a time, and as many as training puts together.

    python benchmarks/evaluation_portions.py

Two small models on 65,536 tokens drawn by chance, on a GPU if there is one; the median of five
turns, each of which measures both.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from modelwright.data.loader import Chunks
from modelwright.data.shards import Shard, TokenSequence
from modelwright.evaluation.perplexity import validation_loss
from modelwright.model.config import ModelConfig
from modelwright.model.initialise import initialise
from modelwright.model.transformer import Transformer
from modelwright.training.actions import least_at_once

n_vocab = 2048
n_tokens = 65_536
n_turns = 5


def measure(model: Transformer, cut: Chunks, batch_size: int) -> float:
    begun = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_available()):
        validation_loss(model, cut, max_tokens=0, batch_size=batch_size)  # waits for each result
    return time.perf_counter() - begun


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    drawn = np.random.default_rng(0).integers(0, n_vocab, n_tokens + 1).astype(np.uint16)
    shard = Shard(Path("drawn"), drawn, np.zeros(1, np.uint64), "")
    for d_model, n_layers, n_heads, context in ((64, 3, 2, 64), (128, 6, 4, 256)):
        shape = ModelConfig(
            vocab_size=n_vocab, context=context, d_model=d_model, n_layers=n_layers, n_heads=n_heads
        )
        model = Transformer(shape, attention="flash")
        initialise(model, seed=0)
        model.to(device)
        cut = Chunks(TokenSequence([shard]), context)
        together = least_at_once[device.type] // context
        for batch_size in (1, together):
            measure(model, cut, batch_size)
        turns = [[measure(model, cut, n) for n in (1, together)] for _ in range(n_turns)]
        one, several = (statistics.median(times) for times in zip(*turns, strict=True))
        n_parameters = sum(p.numel() for p in model.parameters())
        print(
            f"{n_parameters / 1e6:.1f}M parameters, sequences of {context}: "
            f"{one:.2f} s one at a time, {several:.2f} s {together} at a time, "
            f"{one / several:.1f} times as fast"
        )


if __name__ == "__main__":
    main()
