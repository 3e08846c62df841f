import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import traced
from modelwright.accounting.trace import Trace
from modelwright.accounting.tracing import Tracer
from modelwright.model.config import AttentionKind
from modelwright.model.cross_entropy import usual_chunk
from modelwright.planning import gpu_operations
from modelwright.planning.gpu_operations import (
    attend,
    gpu_scratch,
    kernels,
    library_workspaces,
    update_as_on_gpu,
)
from modelwright.planning.step import WatchedOptimizer, traced_model
from modelwright.training.optimizers import OptimizerConfig, make_optimizer

gpu: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
fused: list[AttentionKind] = ["flash", "efficient", "cudnn"]


def count(trace: Trace, name: str, phase: str) -> int:
    return sum(o.name == name and o.phase == phase for o in trace.operations)


@pytest.mark.parametrize("attention", fused)
@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize(("kind", "again"), [("none", 0), ("blocks", 3), ("selective", 0)])
def test_attention_is_the_gpu_s_on_the_way_forth_and_back(
    attention: AttentionKind, is_compiled: bool, kind: str, again: int
):
    trace = traced.trace(
        f"training.recompute={kind}", attention=attention, is_compiled=is_compiled, **gpu
    )
    name = f"_scaled_dot_product_{attention}_attention"
    assert count(trace, name, "forward") == 3
    assert count(trace, name, "backward") == again
    assert count(trace, f"{name}_backward", "backward") == 3
    assert not any("for_cpu" in operation.name for operation in trace.operations)


def test_on_a_processor_attention_is_the_processor_s():
    names = {operation.name for operation in traced.trace(attention="flash").operations}
    assert "_scaled_dot_product_flash_attention_for_cpu" in names


@pytest.mark.parametrize(("kind", "again"), [("none", 0), ("blocks", 6)])
def test_a_norm_is_one_operation(kind: str, again: int):
    trace = traced.trace(f"training.recompute={kind}", attention="flash", **gpu)
    n_norms = 2 * 3 + 1
    assert count(trace, "_fused_rms_norm", "forward") == n_norms
    assert count(trace, "_fused_rms_norm", "backward") == again
    assert count(trace, "_fused_rms_norm_backward", "backward") == n_norms
    assert not {"rsqrt", "mean.dim"} & {o.name for o in trace.operations if o.phase != "update"}


def test_a_compiled_norm_is_the_compiler_s():
    trace = traced.trace(attention="flash", is_compiled=True, **gpu)
    assert count(trace, "_fused_rms_norm", "forward") == 0


@pytest.mark.parametrize("attention", ["efficient", "cudnn"])
def test_a_mask_becomes_what_is_added_to_the_scores(
    attention: AttentionKind, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Any] = []

    def kernel(*inputs: Any) -> Tensor:
        seen.append(inputs)
        return inputs[0]

    monkeypatch.setitem(kernels, attention, kernel)
    queries, keys = torch.ones(2, 4, 5, 8, dtype=torch.bfloat16), torch.ones(2, 2, 5, 8)
    visible = torch.ones(2, 1, 5, 5, dtype=torch.bool).tril()
    attend(attention, queries, keys, keys, visible, 0.0)
    _, shared, _, added, _, causal = seen[0]
    assert shared.shape == queries.shape  # heads that share keys have their own copies
    assert (added.shape, added.dtype, causal) == ((2, 4, 5, 5), torch.bfloat16, False)
    assert added.eq(0).equal(visible.expand(2, 4, 5, 5))
    assert added[~visible.expand(2, 4, 5, 5)].eq(-torch.inf).all()
    attend(attention, queries, keys, keys, None, 0.0)
    assert seen[1][3:] == (None, 0.0, True)


def test_packed_documents_reach_the_kernel_as_such_a_mask():
    packed = traced.trace("training.cut=packed", attention="efficient", **gpu)
    plain = traced.trace(attention="efficient", **gpu)

    def masks(trace: Trace) -> int:
        square = (traced.context, traced.context)
        return sum(h.shape[-2:] == square and h.dtype == torch.bfloat16 for h in trace.storages)

    assert masks(packed) >= 3
    assert masks(plain) == 0


@pytest.mark.parametrize(("d_head", "padded"), [(64, 64), (20, 24)])
def test_flash_fills_heads_up_to_its_widths(d_head: int, padded: int):
    tracer = Tracer()
    with FakeTensorMode():
        q = torch.empty(1, 2, 16, d_head, dtype=torch.bfloat16)
        with tracer.watching(torch.nn.Identity()):
            assert attend("flash", q, q, q, None, 0.0).shape == q.shape
    out = [h for h in tracer.storages if h.operation == "_scaled_dot_product_flash_attention"]
    assert padded in {size for h in out for size in h.shape}


def test_flash_takes_memory_for_itself_on_its_way_back():
    trace = traced.trace(attention="flash", **gpu)
    with_scratch = {o.name for o in trace.operations if o.scratch}
    assert with_scratch == {"_scaled_dot_product_flash_attention_backward"}
    queries = torch.empty(2, 4, 130, 40, device="meta")
    operation = torch.ops.aten._scaled_dot_product_flash_attention_backward.default
    # Rows are filled up to 256 of 64 numbers in fp32, and one more number each.
    assert gpu_scratch(None)(operation, [None, queries]) == 2 * 4 * 256 * 4 * (64 + 1)


def test_a_softmax_takes_memory_for_itself_on_its_way_back():
    trace = traced.trace(attention="math", **gpu)
    scratch = [(o.name, o.scratch) for o in trace.operations if o.scratch]
    # A slope times a weight for each pair of positions, in each block.
    config = traced.run_config().model
    n_pairs = 2 * config.n_heads * config.context**2
    assert scratch == [("_softmax_backward_data", 4 * n_pairs)] * config.n_layers


def test_the_loss_is_in_the_chunks_of_a_gpu():
    config = traced.run_config()
    for device in ("cpu", "cuda"):
        with FakeTensorMode():
            site = traced.site(device=device)
            model = traced_model(config, config.model, site, Tracer())
        assert model.loss_chunk == usual_chunk(device, 320)


def test_what_has_no_kernel_of_a_gpu_is_left_as_it_is():
    trace = traced.trace(attention="plain", **gpu)
    assert not any("_scaled_dot_product" in operation.name for operation in trace.operations)
    assert set(gpu_operations.kernels) == set(fused)


def test_newer_gpus_have_larger_workspaces():
    assert library_workspaces((8, 0))[0] < library_workspaces((9, 0))[0]
    assert library_workspaces(None) == library_workspaces((9, 0))


def test_adamw_reads_four_numbers_and_writes_three():
    with FakeTensorMode():
        model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2, bias=False))
        tracer = Tracer()
        optimizer = WatchedOptimizer(model, OptimizerConfig(), tracer)
        optimizer.make_state()
        update_as_on_gpu(optimizer, tracer)
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        with tracer.watching(model):
            optimizer.step(0.1, divisor=torch.empty(()), void=torch.empty(()))
    moved = [one for one in tracer.operations if one.name == "adamw"]
    assert [one.n_read for one in moved] == [16 * (15 + 10), 16 * 5]
    assert [one.n_written for one in moved] == [12 * (15 + 10), 12 * 5]
    assert {(one.phase, one.dtype) for one in moved} == {("update", torch.float32)}
    assert not any("_fused_adamw_" in one.name for one in tracer.operations)


def test_other_rules_move_as_on_a_processor():
    model = torch.nn.Linear(3, 5)
    optimizer = make_optimizer(model, OptimizerConfig(kind="sgd"))
    update_as_on_gpu(optimizer, Tracer())
    model.weight.grad = torch.ones_like(model.weight)
    before = model.weight.clone()
    optimizer.step(0.1)
    assert not torch.equal(model.weight, before)


def test_a_product_is_added_while_it_is_multiplied():
    trace = traced.trace(attention="flash", **gpu)
    added = [o for o in trace.operations if o.phase == "loss" and o.name == "addmm_"]
    assert len(added) == 1
    n_tokens, (rows, width) = 2 * traced.context, added[0].shapes[0]
    assert added[0].n_flops == 2 * n_tokens * rows * width
    assert added[0].dtype == torch.bfloat16
    here = [o.name for o in trace.operations if o.phase == "loss"]
    assert here.count("mm") == 1  # of the logits


def test_a_chunk_s_logits_are_gone_before_the_next_ones_are_there():
    trace = traced.trace("training.loss_chunk=16", attention="flash", **gpu)
    logits = [held for held in trace.storages if held.operation == "mm" and held.phase == "loss"]
    assert len(logits) == 2 * traced.context // 16
    for one, following in itertools.pairwise(logits):
        assert one.died is not None
        assert one.died <= following.born


@pytest.mark.parametrize("is_compiled", [False, True])
def test_the_kernels_of_the_blocks_are_followed(is_compiled: bool):
    changes = ("model.qk_norm=true", "model.bias=true", "model.mlp=gelu_tanh")
    where: dict[str, Any] = {"attention": "flash", "is_compiled": is_compiled} | gpu
    ours = traced.trace(*changes, kernels="triton", **where)
    assert count(ours, "turn_heads", "forward") == 3
    assert count(ours, "heads_slope", "backward") == 3
    assert count(ours, "gelu_slope", "backward") == 3
    usual = traced.trace(*changes, kernels="torch", **where)
    assert count(usual, "turn_heads", "forward") == 0
    (slope, *_) = (o for o in ours.operations if o.name == "gelu_slope")
    n_bytes = 2 * traced.context * 80 * 2
    assert slope.n_read == 2 * n_bytes
    assert n_bytes < slope.n_written < n_bytes + 1000  # with the slope of the bias


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("recompute", ["none", "blocks", "selective"])
def test_the_kernel_of_the_norms_is_followed(norm: str, recompute: str):
    changes = (f"model.norm={norm}", "model.bias=true", f"training.recompute={recompute}")
    where: dict[str, Any] = {"attention": "flash", "is_compiled": True} | gpu
    ours = traced.trace(*changes, kernels="triton", **where)
    last, *others = (one for one in ours.operations if one.name == "norm_slope")
    assert {one.phase for one in (last, *others)} == {"backward"}
    assert len(others) == 2 * 3
    n_bytes, width = 2 * traced.context * 48 * 2, 4 * 48
    assert last.n_read == 2 * n_bytes + width  # the stream ends there
    # In a program, the sums that came with the slope of the stream are counted with it.
    assert all(0 <= one.n_read - 3 * n_bytes - width <= 2 * width for one in others)
    n_sums = 2 if norm == "layernorm" else 1
    assert {one.n_written for one in (last, *others)} == {n_bytes + n_sums * width}
    usual = traced.trace(*changes, kernels="torch", **where)
    assert count(usual, "norm_slope", "backward") == 0
    assert kept_bytes(ours) <= kept_bytes(usual)


def kept_bytes(trace: Trace) -> int:
    """What waits for the way back."""
    return sum(one.n_bytes for one in trace.storages if one.kind == "activations")


def test_in_eager_mode_the_kernel_of_the_norms_is_not_used():
    trace = traced.trace(attention="flash", kernels="triton", **gpu)
    assert count(trace, "_fused_rms_norm", "forward") == 2 * 3 + 1
    assert count(trace, "norm_slope", "backward") == 0


def test_a_stream_in_a_format_of_its_own_is_followed():
    """The products send their slopes in theirs."""
    changes = ("training.residual=fp32", "model.mlp=gelu_tanh")
    trace = traced.trace(*changes, attention="flash", kernels="triton", is_compiled=True, **gpu)
    _, *others = (one for one in trace.operations if one.name == "norm_slope")
    n_numbers = 2 * traced.context * 48
    n_read = (2 + 4 + 4) * n_numbers + 4 * 48
    assert all(0 <= one.n_read - n_read <= 4 * 48 for one in others)
    assert {one.n_written for one in others} == {4 * n_numbers + 4 * 48}
