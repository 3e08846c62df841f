"""Checkpoints that take milliseconds, for the tests of writing, finding and reading them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import small
from modelwright.checkpoint.bundle import distinct_weights
from modelwright.checkpoint.keeping import Keep
from modelwright.checkpoint.snapshot import Buffers, Snapshot, take_snapshot
from modelwright.checkpoint.writer import write_checkpoint

tokenizer = small.tokenizer()
state = {"seconds": 1.5, "order": [3, 1, 2]}


def optimizer_tensors(weights: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """What an optimizer keeps of each weight, under the names that it gives them."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        tensors[f"{name}/exp_avg"] = torch.randn(weight.shape, generator=generator)
        tensors[f"{name}/step"] = torch.tensor(float(seed))
    return tensors


def snapshot(
    step: int = 1,
    *,
    buffers: Buffers | None = None,
    averaged: bool = True,
    loss: float | None = None,
    **choice: Any,
) -> Snapshot:
    """A run after `step` steps: every tensor of every step is another."""
    model = small.model(seed=step, vocab_size=tokenizer.n_vocab, **choice)
    weights = distinct_weights(model)
    return take_snapshot(
        buffers or Buffers(),
        step=step,
        config=model.config,
        tokenizer=tokenizer,
        weights=weights,
        optimizer=optimizer_tensors(weights, step),
        averaged={name: weight / 2 for name, weight in weights.items()} if averaged else None,
        state=state,
        validation_loss=loss,
    )


def save(run: Path, step: int = 1, keep: Keep | None = None, **choice: Any) -> Path:
    return write_checkpoint(run, snapshot(step, **choice), keep or Keep(last=9))


def flip_a_bit(path: Path, at: int = -20) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
