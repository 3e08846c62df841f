"""Tiny steps that tests follow: their settings, and where they run."""

from typing import Any

import torch

from modelwright.accounting.trace import Trace
from modelwright.config.loading import load_settings
from modelwright.planning.step import Site, trace_step
from modelwright.training.config import RunConfig

context = 32


def run_config(*changes: str, batch: int = 2) -> RunConfig:
    """A run of a model whose parts are all of other sizes."""
    settings = [
        "tokenizer.vocab_size=300",
        "model.vocab_size=320",
        f"model.context={context}",
        "model.d_model=48",
        "model.d_ff=80",
        "model.n_layers=3",
        "model.n_heads=4",
        f"training.batch_tokens={batch * context}",
    ]
    return load_settings(RunConfig, None, [*settings, *changes]).config


def site(**changes: Any) -> Site:
    """A processor with plain attention in fp32, two sequences at a time."""
    usual: dict[str, Any] = {
        "device": "cpu",
        "dtype": torch.float32,
        "attention": "plain",
        "is_compiled": False,
        "micro_batch": 2,
    }
    return Site(**(usual | changes))


def trace(*changes: str, batch: int = 2, **where: Any) -> Trace:
    """A step of such a run as it is followed."""
    config = run_config(*changes, batch=batch)
    return trace_step(config, config.model, site(**where)).trace
