"""The models that textbooks speak of, and what our functions say of their parts and steps."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy

from modelwright.accounting.flops import forward_flops
from modelwright.accounting.hardware import device_named
from modelwright.accounting.memory import (
    Workload,
    block_activations,
    saved_activations,
    static_memory,
    total,
)
from modelwright.accounting.memory_peak import peak_estimate
from modelwright.accounting.memory_rules import textbook_rules
from modelwright.accounting.parameters import (
    count_parameters,
    parameters_per_norm,
    tensor_counts,
)
from modelwright.accounting.tracing import Tracer
from modelwright.config.loading import load_settings
from modelwright.model.config import AttentionKind, ModelConfig
from modelwright.model.presets import presets
from modelwright.planning.step import Site, trace_step
from modelwright.training.config import RunConfig

Values = Sequence[float]

# The models that the documents speak of.


def model(preset: str, **changes: object) -> ModelConfig:
    return replace(ModelConfig(**presets[preset]), **changes)


def matrices_only(config: ModelConfig) -> ModelConfig:
    """What is left of a model for one who counts weight matrices alone."""
    return replace(config, bias=False, norm="none", positions="none")


def swiglu(gpt2: str) -> ModelConfig:
    """The assignment's models: GPT-2's widths in Llama's style, with 4 d_model in the MLP."""
    shape = ModelConfig(**presets[gpt2])
    return model("gpt2-xl-swiglu", d_model=shape.d_model, n_layers=shape.n_layers,
                 n_heads=shape.n_heads, d_ff=4 * shape.d_model)  # fmt: skip


small = model("gpt2-small")
untied = model("gpt2-small", tie_embeddings=False)
padded = model("gpt2-small", vocab_size=50_304)
fifty_thousand = model("gpt2-small", vocab_size=50_000)
xl, openai_xl = model("gpt2-xl-swiglu"), model("gpt2-xl")
gpt3 = model("gpt3-175b")
recipe = Path(__file__).parents[1] / "recipes" / "gpt2-small.toml"


def tensor(config: ModelConfig, *names: str) -> int:
    """Numbers in the tensors of a model's first block that have one of these names."""
    wanted = {f"blocks.0.{name}" for name in names}
    found = {one.name: one.n_parameters for one in tensor_counts(config) if one.name in wanted}
    assert set(found) == wanted
    return sum(found.values())


def in_blocks(config: ModelConfig) -> int:
    """Parameters of all blocks, their norms included."""
    count = count_parameters(config)
    return count.attention + count.mlp + count.norms - last_norm(config)


def last_norm(config: ModelConfig) -> int:
    return parameters_per_norm(config)


def n_parameters(config: ModelConfig) -> int:
    return count_parameters(config).total


# What their steps hold and do.


@cache
def peak(
    preset: str,
    attention: AttentionKind,
    n_sequences: int,
    *settings: str,
    micro_batch: int | None = None,
    on: str = "a100-80gb",
    dtype: torch.dtype = torch.float32,
) -> int:
    """Bytes at the fullest moment of our step, followed on tensors without numbers."""
    context = presets[preset]["context"]
    changes = [f"model.preset={preset}", f"training.batch_tokens={n_sequences * context}"]
    config = load_settings(RunConfig, None, [*changes, *settings]).config
    site = Site(
        device="cuda",
        dtype=dtype,
        attention=attention,
        is_compiled=False,
        micro_batch=micro_batch or n_sequences,
        capability=device_named(on).capability,
        kernels="triton",
    )
    return trace_step(config, config.model, site).trace.peak_bytes


def per_sequence(config: ModelConfig, attention: AttentionKind) -> int:
    """Bytes that one more sequence in a batch keeps for the backward pass, in fp32.

    A batch of one keeps a little less: its heads lie as they have to by themselves.
    """
    two, three = (
        total(saved_activations(config, workload(batch, attention=attention))) for batch in (2, 3)
    )
    return three - two


def workload(batch: int, **changes: object) -> Workload:
    return replace(Workload(batch=batch, seq=1024, device="cuda"), **changes)


def block_keeps(config: ModelConfig, work: Workload) -> tuple[float, float]:
    """Bytes of a block for each number of the stream, and for each pair of positions and head.

    The 16-bit copies of the weights, which no text makes longer, are left out.
    """
    terms = block_activations(config, work)
    pairs = [term for term in terms if "T²" in term.formula]
    copies = [term for term in terms if "copies" in term.name]
    n_pairs = work.batch * config.n_heads * work.seq**2
    stream = work.batch * work.seq * config.d_model
    return (total(terms) - total(pairs) - total(copies)) / stream, total(pairs) / n_pairs


def largest_batch(config: ModelConfig, attention: AttentionKind) -> int:
    usable = device_named("a100-80gb").usable_bytes
    batch = 1
    while peak_estimate(config, workload(batch + 1, attention=attention)).n_bytes <= usable:
        batch += 1
    return batch


def bytes_that_stay(config: ModelConfig) -> int:
    """Weights, gradients and AdamW's means."""
    counters = "AdamW's count of steps", "rotary tables in fp64"
    return total(term for term in static_memory(config) if term.name not in counters)


def bytes_by_the_rule_of_24() -> float:
    (rule,) = [r for r in textbook_rules(small, batch=1, seq=1) if r.name.startswith("24")]
    return rule.n_bytes / n_parameters(small)


def shares(config: ModelConfig, seq: int = 1024) -> dict[str, float]:
    """Of a forward pass, by what they are for."""
    forward = forward_flops(config, batch=1, seq=seq)
    return {
        "blocks": 1 - forward.unembedding / forward.total,
        "output": forward.unembedding / forward.total,
        "mlp": forward.mlp / forward.total,
        "pairs": (forward.attention_scores + forward.attention_values) / forward.total,
    }


def forward_figures(config: ModelConfig) -> Values:
    forward = forward_flops(config, batch=1, seq=1024)
    of, blocks = shares(config), forward.total - forward.unembedding
    return [forward.total, of["blocks"], of["output"], blocks, forward.unembedding]


def plain_loss_bytes(n_tokens: int, vocab: int) -> int:
    """At the fullest moment of a loss that has all logits at once, of arrays of their size."""
    tracer = Tracer()
    with FakeTensorMode():
        head = nn.Linear(8, vocab, bias=False)
        hidden = torch.empty(n_tokens, 8, requires_grad=True)
        targets = torch.empty(n_tokens, dtype=torch.int64)
        tracer.hold([hidden, targets, head.weight], "given")
        with tracer.watching(head):
            cross_entropy(head(hidden), targets).backward()
        trace = tracer.finish()
    held = trace.held_at(trace.peak_at)
    return sum(one.n_bytes for one in held if math.prod(one.shape) == n_tokens * vocab)
