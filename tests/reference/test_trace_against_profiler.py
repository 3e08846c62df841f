"""The traced peak of a step beside what PyTorch's profiler sees of the same step, taken for real."""

import pytest
import torch

from modelwright.config.loading import load_settings
from modelwright.model.config import AttentionKind
from modelwright.planning.measuring import measure_on_cpu
from modelwright.planning.step import Site, trace_step
from modelwright.training.config import RunConfig

shape = ["tokenizer.vocab_size=300", "model.vocab_size=4096", "model.context=64"]
shape += ["model.d_model=64", "model.n_layers=3", "model.n_heads=4"]
gpt2 = ["norm=layernorm", "mlp=gelu_tanh", "positions=learned", "bias=true"]
cases: dict[str, tuple[list[str], AttentionKind, torch.dtype, int]] = {
    "plain": ([], "plain", torch.float32, 2),
    "plain in bf16": ([], "plain", torch.bfloat16, 2),
    "striped": ([], "striped", torch.float32, 2),
    "math": ([], "math", torch.float32, 2),
    "flash": ([], "flash", torch.float32, 2),
    "flash in bf16": ([], "flash", torch.bfloat16, 4),
    "gpt2": ([f"model.{choice}" for choice in gpt2], "plain", torch.float32, 2),
    "recompute blocks": (["training.recompute=blocks"], "flash", torch.float32, 2),
    "recompute every second": (
        ["training.recompute=blocks", "training.recompute_every=2"],
        "plain",
        torch.float32,
        2,
    ),
    "average": (["training.average_decay=0.9"], "plain", torch.float32, 2),
    "sgd": (["optimizer.kind=sgd"], "plain", torch.float32, 2),
    "packed": (["training.cut=packed"], "plain", torch.float32, 2),
    "dropout": (["model.dropout=0.1"], "plain", torch.float32, 2),
    "chunks": (["training.loss_chunk=16"], "plain", torch.float32, 2),
    "one portion": ([], "flash", torch.float32, 4),
    "grouped heads": (["model.n_kv_heads=2"], "plain", torch.float32, 2),
}


@pytest.mark.parametrize("name", cases)
def test_the_traced_peak_is_the_measured_one(name: str):
    overrides, attention, dtype, micro_batch = cases[name]
    batch = ["training.batch_tokens=256"]
    config = load_settings(RunConfig, None, [*shape, *batch, *overrides]).config
    site = Site(
        device="cpu",
        dtype=dtype,
        attention=attention,
        is_compiled=False,
        micro_batch=micro_batch,
    )
    traced = trace_step(config, config.model, site).trace.peak_bytes
    measured = measure_on_cpu(config, config.model, site).peak_bytes
    assert traced == pytest.approx(measured, rel=5e-4)
