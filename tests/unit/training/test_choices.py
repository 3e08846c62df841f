from pathlib import Path
from typing import Any, get_args

import pytest
import torch

import small
from modelwright.model.config import AttentionKind
from modelwright.training import choices
from modelwright.training.choices import (
    choose_lanes,
    first_micro_batch,
    records_step,
    require_kernels,
    resolve_attention,
)

cpu = torch.device("cpu")


@pytest.mark.parametrize(
    ("batch", "context", "device", "n_lanes", "expected"),
    [
        (16, 16, "cpu", 1, 16),  # all of it is few enough
        (48, 64, "cpu", 1, 16),  # at most 1024 tokens, and a divisor
        (30, 128, "cpu", 1, 6),  # 8 do not divide 30
        (7, 256, "cpu", 1, 1),
        (6, 10_000, "cpu", 1, 1),  # one sequence is more than that already
        (96, 1024, "cuda", 1, 48),  # 64 do not divide 96
        (16, 16, "cpu", 4, 4),  # so that each lane has a portion
        (3, 16, "cpu", 2, 1),  # 2 do not divide 3
    ],
)
def test_auto_begins_with_a_divisor_that_suits_the_device(
    tmp_path: Path, batch: int, context: int, device: str, n_lanes: int, expected: int
):
    config = small.run_config(
        tmp_path,
        "training.micro_batch=auto",
        f"model.context={context}",
        f"training.batch_tokens={batch * context}",
    )
    assert first_micro_batch(config, torch.device(device), n_lanes) == expected


def test_a_portion_is_at_most_the_batch(tmp_path: Path):
    assert first_micro_batch(small.run_config(tmp_path, "training.micro_batch=3"), cpu, 1) == 3
    assert first_micro_batch(small.run_config(tmp_path, "training.micro_batch=100"), cpu, 1) == 4


def test_attention_is_the_one_that_is_named_or_the_one_that_suits(tmp_path: Path):
    def kind(*changes: str) -> str:
        return resolve_attention(small.run_config(tmp_path, *changes), cpu, "fp32")

    assert kind("training.attention=math") == "math"
    assert kind("training.attention=plain") == "plain"
    assert kind() in get_args(AttentionKind)
    assert kind("model.dropout=0.1") == "plain"  # no fused kernel of a CPU drops


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((), 2),
        (("training.micro_batch=4",), 1),  # the whole batch of 4 sequences is one portion
        (("training.lanes=3",), 3),
        (("model.dropout=0.1",), 1),
    ],
)
def test_there_is_a_lane_for_each_core_that_has_a_portion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple[str, ...], expected: int
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    config = small.run_config(tmp_path, "training.micro_batch=auto", *changes)
    found = choose_lanes(config, torch.device("cpu"), n_parameters=1000, is_compiled=False)
    assert found == expected


def test_lanes_whose_gradients_would_fill_the_memory_are_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    config = small.run_config(tmp_path, "training.micro_batch=auto", "training.batch_tokens=4096")
    found = choose_lanes(config, torch.device("cpu"), n_parameters=50_000_000, is_compiled=False)
    assert found == 5  # a gibibyte for gradients of 200 MB


@pytest.mark.parametrize(
    ("device", "change", "compiled", "reason"),
    [
        ("cuda", "seed=1", False, "a GPU works on one portion at a time"),
        ("cpu", "model.dropout=0.1", False, "the draws of dropout come from one stream"),
        ("cpu", "seed=1", True, "compiled blocks already use all cores"),
    ],
)
def test_lanes_that_cannot_be_are_refused(
    tmp_path: Path, device: str, change: str, compiled: bool, reason: str
):
    config = small.run_config(tmp_path, "training.lanes=2", change)
    with pytest.raises(ValueError, match=rf"training\.lanes is 2, but {reason}"):
        choose_lanes(config, torch.device(device), n_parameters=1000, is_compiled=compiled)


@pytest.mark.parametrize(
    ("changes", "device", "expected"),
    [
        (["training.cuda_graph=auto"], "cuda", True),
        (["training.cuda_graph=auto", "training.batch_tokens=160000000000"], "cuda", False),
        (["training.cuda_graph=true", "training.batch_tokens=160000000000"], "cuda", True),
        (["training.cuda_graph=false"], "cuda", False),
        (["training.cuda_graph=auto", "model.dropout=0.1"], "cuda", False),
        (["training.cuda_graph=auto"], "cpu", False),
        ([], "cuda", True),
        ([], "cpu", False),
    ],
    ids=str,
)
def test_short_steps_are_recorded_where_that_is_possible(
    tmp_path: Path, changes: list[str], device: str, expected: bool
):
    config = small.run_config(tmp_path, "model.vocab_size=300", *changes)
    assert records_step(config, device, config.model) is expected


@pytest.mark.parametrize(
    ("change", "device", "why"),
    [("model.dropout=0", "cpu", "only an NVIDIA GPU"), ("model.dropout=0.1", "cuda", "draws anew")],
)
def test_recording_is_refused_where_it_is_not_possible(
    tmp_path: Path, change: str, device: str, why: str
):
    config = small.run_config(tmp_path, "model.vocab_size=300", "training.cuda_graph=true", change)
    with pytest.raises(ValueError, match=f"training.cuda_graph is true, but .*{why}"):
        records_step(config, device, config.model)


def test_fp8_wants_bf16_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(choices, "fp8_obstacle", lambda _: None)
    config = small.run_config(tmp_path, "training.fp8=true")
    require_kernels(config, cpu, "bf16")
    with pytest.raises(ValueError, match="in bf16, and training.precision fp32"):
        require_kernels(config, cpu, "fp32")


def test_on_a_gpu_the_kernels_that_work_are_timed_with_the_runs_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[Any] = []

    def fastest(kinds: Any, shape: Any, device: torch.device) -> str:
        asked.append((kinds, shape))
        return kinds[-1]

    monkeypatch.setattr(choices, "fastest_attention", fastest)
    working = ["efficient", "math", "flash"]
    monkeypatch.setattr(choices, "working_attention", lambda *_, **__: iter(working))
    monkeypatch.setattr(choices, "choose_attention", lambda *_, **__: "the first")
    config = small.run_config(tmp_path, "training.precision=fp32", "training.micro_batch=2")
    cuda = torch.device("cuda")
    assert resolve_attention(config, cuda, "fp32") == "efficient"
    ((kinds, shape),) = asked
    assert kinds == ("flash", "efficient")
    model = config.model
    assert (shape.n_sequences, shape.n_heads, shape.n_tokens) == (2, model.n_heads, model.context)
    working[:] = ["math"]
    assert resolve_attention(config, cuda, "fp32") == "math"
    fixed = small.run_config(tmp_path, "training.deterministic=true")
    assert resolve_attention(fixed, cuda, "fp32") == "the first"
    assert len(asked) == 1
