"""What the trace of a step says of it: phases, kinds, modules, work, and what adds to the peak."""

from typing import Any

import numpy as np
import pytest
import torch

from modelwright.accounting.flops import training_flops
from modelwright.accounting.trace import Trace
from modelwright.config.loading import load_settings
from modelwright.model.config import AttentionKind
from modelwright.model.gpu_kernels import Kernels
from modelwright.planning.step import Site, trace_step
from modelwright.training.config import RunConfig

shape = ["tokenizer.vocab_size=300", "model.vocab_size=1024", "model.context=32"]
shape += ["model.d_model=32", "model.n_layers=3", "model.n_heads=4"]


def traced(
    *overrides: str,
    device: str = "cpu",
    attention: AttentionKind = "plain",
    is_compiled: bool = False,
    micro_batch: int = 2,
    n_sequences: int = 4,
    n_lanes: int = 1,
    dtype: torch.dtype = torch.float32,
    kernels: Kernels = "torch",
) -> tuple[RunConfig, Trace]:
    batch = f"training.batch_tokens={32 * n_sequences}"
    config = load_settings(RunConfig, None, [*shape, batch, *overrides]).config
    site = Site(
        device="cuda" if device == "cuda" else "cpu",
        dtype=dtype,
        attention=attention,
        is_compiled=is_compiled,
        micro_batch=micro_batch,
        n_lanes=n_lanes,
        capability=(9, 0) if device == "cuda" else None,
        kernels=kernels,
    )
    return config, trace_step(config, config.model, site).trace


def names(trace: Trace) -> set[str]:
    return {operation.name for operation in trace.operations}


def test_a_step_goes_forward_measures_the_loss_goes_back_clips_and_updates():
    _, trace = traced(n_sequences=2)
    phases = [operation.phase for operation in trace.operations]
    assert list(dict.fromkeys(phases)) == ["forward", "loss", "backward", "clip", "update"]


def test_the_kinds_add_up_to_what_is_held_at_every_moment():
    _, trace = traced("training.average_decay=0.9")
    total = sum(trace.timeline().values(), np.zeros(len(trace.operations), dtype=np.int64))
    assert total.tolist() == [operation.held for operation in trace.operations]
    found = set(trace.kinds_at(trace.peak_at))
    assert found >= {"weights", "optimizer", "average", "gradients", "batches"}


def test_the_work_of_the_products_is_that_of_the_closed_form():
    config, trace = traced()
    n_flops = sum(
        operation.n_flops for operation in trace.operations if operation.phase != "update"
    )
    assert n_flops == training_flops(config.model, batch=4, seq=32)


def test_work_on_the_way_back_is_put_down_to_the_module_that_it_is_for():
    _, trace = traced()
    modules = {operation.module for operation in trace.operations if operation.phase == "backward"}
    assert {"blocks.1.mlp.up", "blocks.2.attention.qkv"} <= modules


def test_a_second_portion_finds_the_gradients_of_the_first():
    """In the closed form, 4 bytes for each parameter; the activations are the same."""
    _, one = traced(n_sequences=2)
    _, two = traced(n_sequences=4)
    assert one.kinds_at(one.peak_at).get("gradients", 0) == 0
    gradients = two.kinds_at(two.peak_at)["gradients"]
    assert gradients == two.kinds_at(0)["weights"] - buffers_bytes()
    _, three = traced(n_sequences=6)
    assert three.peak_bytes - two.peak_bytes == 2 * 2 * 32 * 8  # of the larger batch itself


def buffers_bytes() -> int:
    """Rotary tables: cosine and sine, in fp64, for each place and half of a head."""
    return 2 * 8 * 32 * 4


def test_lanes_keep_their_activations_side_by_side():
    _, alone = traced(micro_batch=1)
    _, beside = traced(micro_batch=1, n_lanes=2)
    kinds, doubled = alone.kinds_at(alone.peak_at), beside.kinds_at(beside.peak_at)
    assert doubled["weights"] == kinds["weights"]
    assert beside.peak_bytes > alone.peak_bytes
    at_update = next(n for n, o in enumerate(beside.operations) if o.phase == "update")
    weights = beside.kinds_at(at_update)["weights"] - buffers_bytes()
    assert beside.kinds_at(at_update)["gradients"] == weights  # of one lane again


@pytest.mark.parametrize("attention", ["flash", "efficient", "cudnn"])
@pytest.mark.parametrize("recompute", ["none", "blocks", "selective"])
def test_a_gpu_gets_its_own_attention_on_both_ways(attention: AttentionKind, recompute: str):
    _, trace = traced(
        f"training.recompute={recompute}",
        device="cuda",
        attention=attention,
        dtype=torch.bfloat16,
    )
    ours = f"_scaled_dot_product_{attention}_attention"
    found = {name for name in names(trace) if "scaled_dot" in name}
    assert found == {ours, f"{ours}_backward"}


def test_a_gpu_gives_memory_out_in_steps():
    _, trace = traced(device="cuda", attention="efficient")
    assert all(held.n_bytes % 512 == 0 for held in trace.storages if held.kind != "batches")


def test_rmsnorm_is_one_operation_on_a_gpu():
    _, eager = traced(device="cuda", attention="efficient")
    assert {"_fused_rms_norm", "_fused_rms_norm_backward"} <= names(eager)
    assert "_fused_rms_norm" not in names(traced()[1])


def test_recomputing_blocks_keep_only_what_enters_them():
    _, kept = traced(n_sequences=2)
    _, forgotten = traced("training.recompute=blocks", n_sequences=2)

    def activations(trace: Trace) -> int:
        at = next(n for n, o in enumerate(trace.operations) if o.phase == "loss")
        return trace.kinds_at(at)["activations"]

    entering = 3 * 2 * 32 * 32 * 4  # a stream for each of the blocks
    assert entering <= activations(forgotten) < 3 * entering < activations(kept)


@pytest.mark.parametrize("recompute", ["none", "blocks", "selective"])
def test_compiled_blocks_do_the_same_products_and_leave_nothing_behind(recompute: str):
    settings = {"device": "cuda", "attention": "flash", "dtype": torch.bfloat16}
    choice = f"training.recompute={recompute}"
    _, eager = traced(choice, **settings)
    _, compiled = traced(choice, **settings, is_compiled=True)

    def products(trace: Trace) -> int:
        return sum(o.n_flops for o in trace.operations if o.phase == "forward")

    assert products(compiled) == products(eager)
    assert compiled.peak_bytes < 1.01 * eager.peak_bytes
    assert "fused" in names(compiled)
    last = compiled.kinds_at(len(compiled.operations) - 1)
    assert last.get("activations", 0) == 0


def test_a_chunk_of_the_loss_is_of_the_size_that_is_set():
    def logits(chunk: str) -> int:
        _, trace = traced(f"training.loss_chunk={chunk}", n_sequences=2)
        return max(held.n_bytes for held in trace.storages if held.operation == "mm")

    assert logits("64") == 64 * 1024 * 4
    assert logits("8") < logits("64")


on_gpu: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16, "attention": "flash"}


@pytest.mark.parametrize("is_compiled", [False, True])
def test_the_kernels_writes_in_the_place_of_the_logits(is_compiled: bool):
    usual, ours = (
        traced(**on_gpu, is_compiled=is_compiled, n_sequences=2, kernels=kernel)[1]
        for kernel in ("torch", "triton")
    )
    assert [one.name for one in ours.operations].count("turn_into_slope") == 1
    assert "turn_into_slope" not in names(usual)

    def at_loss(trace: Trace) -> int:
        held = np.sum(list(trace.timeline().values()), axis=0)
        return max(held[n] for n, one in enumerate(trace.operations) if one.phase == "loss")

    n_logits = 2 * 32 * 1024
    assert at_loss(usual) - at_loss(ours) > 4 * n_logits  # in fp32 alone


@pytest.mark.parametrize("is_compiled", [False, True])
def test_products_in_fp8_are_followed(is_compiled: bool):
    plain, eight = (
        traced(*changes, **on_gpu, is_compiled=is_compiled, n_sequences=2)[1]
        for changes in ((), ("training.fp8=true",))
    )
    products = [one for one in eight.operations if one.name == "_scaled_mm"]
    assert len(products) == 3 * 5 * 3  # forward and twice back, five layers, three blocks
    flops = [sum(one.n_flops for one in trace.operations) for trace in (plain, eight)]
    assert flops[0] == flops[1]


@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_residual_stream_in_fp32_takes_more_and_is_followed(is_compiled: bool):
    """What enters a block waits for the way back, in the stream's own format."""
    changes = ((), ("training.residual=fp32",))
    usual, wide = (
        traced(*change, **on_gpu, is_compiled=is_compiled, n_sequences=2)[1] for change in changes
    )
    a_stream = 2 * 32 * 32
    assert wide.peak_bytes - usual.peak_bytes >= 2 * a_stream
    flops = [sum(one.n_flops for one in trace.operations) for trace in (usual, wide)]
    assert flops[0] == flops[1]
