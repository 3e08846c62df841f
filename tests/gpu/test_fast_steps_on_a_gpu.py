"""Steps that never wait for the host, and steps that are recorded: the same numbers, and no waiting.

`SHAPE_CHECKS=off python -m pytest tests/gpu`, as torch.compile wants it.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import small
from modelwright.checkpoint.resume import newest_checkpoint
from modelwright.data.loader import Batch
from modelwright.model.attention import make_attend
from modelwright.model.attention_speed import AttentionShape, attention_seconds
from modelwright.runtime.files import sha256_of
from modelwright.runtime.graphs import cuda_graph
from modelwright.runtime.progress import Progress
from modelwright.training.assembly import fresh_state, make_loader, prepare
from modelwright.training.attempt import take_step
from modelwright.training.capture import RecordedStep
from modelwright.training.loop import Interrupted
from modelwright.training.metrics import read_metrics
from modelwright.training.runs import resume, train
from modelwright.training.step import StartedStep, training_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
gpu = torch.device("cuda")
on_gpu = ("training.device=cuda", "training.precision=bf16", "training.micro_batch=auto")
longer = (*on_gpu, "training.n_steps=12", "checkpoints.every_steps=5", "evaluation.every_steps=50")


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_never_waits_for_the_gpu(tmp_path: Path, kind: str, compiled: bool):
    changes = [*on_gpu, f"optimizer.kind={kind}", f"training.compile={str(compiled).lower()}"]
    prepared = prepare(small.run_config(tmp_path, *changes, "training.average_decay=0.9"))
    state = fresh_state(prepared)

    def step(batch: Batch) -> torch.Tensor:
        found = training_step(
            state.model,
            state.optimizer,
            batch,
            learning_rate=1e-3,
            clip_norm=1.0,
            micro_batch=2,
            gate=state.gate,
        )
        assert state.average is not None
        state.average.update(state.model, found[2])
        return found

    with make_loader(prepared) as loader:
        batches = [loader.batch(number) for number in range(4)]
        for batch in batches[:3]:
            step(batch)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = step(batches[3])
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert StartedStep(found).result().taken


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(run) if "loss" in record]


def weights(run: Path) -> str:
    return sha256_of(newest_checkpoint(run)[0] / "model.safetensors")


@pytest.mark.parametrize("extra", [(), ("training.cut=packed",)], ids=str)
def test_looking_ahead_gives_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: tuple[str, ...]
):
    from modelwright.training import runs

    config = small.run_config(tmp_path, *longer, "training.deterministic=true", *extra)
    train(config, tmp_path / "ahead")
    begin = runs.fresh_state

    def one_by_one(prepared: Any) -> Any:
        state = begin(prepared)
        assert state.looks_ahead
        state.looks_ahead = False
        return state

    monkeypatch.setattr(runs, "fresh_state", one_by_one)
    train(config, tmp_path / "one")
    assert losses(tmp_path / "ahead") == losses(tmp_path / "one")
    assert weights(tmp_path / "ahead") == weights(tmp_path / "one")
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "extra",
    [
        (),
        ("training.compile=false",),
        ("optimizer.kind=muon",),
        ("training.cut=packed",),
        ("training.recompute=blocks",),
        ("training.precision=fp16",),
        ("training.micro_batch=1",),
        ("base_width=2", "schedule.peak_lr=0.02"),
        ("base_width=2", "schedule.peak_lr=0.02", "optimizer.kind=muon"),
    ],
    ids=str,
)
def test_recorded_steps_learn_what_others_do(tmp_path: Path, extra: tuple[str, ...]):
    for graph in ("true", "false"):
        config = small.run_config(tmp_path, *longer, *extra, f"training.cuda_graph={graph}")
        train(config, tmp_path / graph)
    assert losses(tmp_path / "true") == pytest.approx(losses(tmp_path / "false"), rel=2e-3)


def test_a_recorded_run_that_was_stopped_ends_with_the_same_bits(tmp_path: Path):
    changes = [*longer, "training.deterministic=true", "training.cuda_graph=true"]
    config = small.run_config(tmp_path, *changes)
    train(config, tmp_path / "whole")

    def interrupt(progress: Progress) -> None:
        if progress.phase == "training" and progress.done == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(config, tmp_path / "stopped", on_progress=interrupt)
    resume(tmp_path / "stopped")
    assert weights(tmp_path / "whole") == weights(tmp_path / "stopped")
    torch.use_deterministic_algorithms(False)


def test_a_recorded_run_goes_on_after_a_bad_batch(tmp_path: Path):
    """The step behind it, which was started already, comes to nothing and is taken again."""
    prepared = prepare(small.run_config(tmp_path, *longer, "training.cuda_graph=true"))
    config = small.run_config(tmp_path, *longer, "policies.not_finite=skip")
    state = fresh_state(prepared)
    assert state.recorded is not None
    with make_loader(prepared) as loader:
        for _ in range(6):
            take_step(state, config, loader, is_followed=True)
        kept = state.model.embedding.weight.detach().clone()
        with torch.no_grad():
            state.model.embedding.weight.fill_(torch.nan)
        take_step(state, config, loader, is_followed=True)  # was on its way before
        _, action = take_step(state, config, loader)
        assert action == "skip"
        with torch.no_grad():
            state.model.embedding.weight.copy_(kept)
        metrics, action = take_step(state, config, loader)
    assert action == "take"
    assert metrics["loss"] < 10


def test_where_the_memory_for_a_recording_is_missing_steps_go_on_without(tmp_path: Path):
    prepared = prepare(small.run_config(tmp_path, *longer, "training.cuda_graph=true"))
    state = fresh_state(prepared)
    n_tries = []

    def record(function: Any) -> Any:
        def with_too_much() -> torch.Tensor:
            result = function()
            n_tries.append(torch.empty(2**45, dtype=torch.uint8, device=gpu))
            return result

        n_tries.append(None)
        return cuda_graph(with_too_much)

    state.recorded = RecordedStep(state.model, state.optimizer, record=record)
    with make_loader(prepared) as loader:
        found = [take_step(state, prepared.config, loader)[0]["loss"] for _ in range(9)]
    assert n_tries == [None]
    assert found[-1] < found[0]
    assert torch.randn(3, device=gpu).isfinite().all()  # the generator is out of it too


def test_attention_is_timed_as_it_is_used():
    shape = AttentionShape(
        n_sequences=4, n_heads=8, n_kv_heads=4, n_tokens=512, d_head=64, dtype=torch.bfloat16
    )
    short = attention_seconds("flash", shape, gpu)
    assert 0 < short < 0.05
    assert make_attend("flash") is not None


def test_the_most_that_a_step_held_is_on_record(tmp_path: Path):
    train(small.run_config(tmp_path, *longer), tmp_path / "run")
    records = [record for record in read_metrics(tmp_path / "run") if "loss" in record]
    assert len(records) == 12
    assert all(0 < record["memory_bytes"] <= record["reserved_bytes"] for record in records)


def test_a_recording_has_its_scratch_memory_to_itself():
    few, long = torch.randn(64, 4096, device=gpu), torch.randn(4096, 768, device=gpu)
    few, long = few.bfloat16(), long.bfloat16()  # products whose sums are cut into pieces
    expected = few @ long
    first = cuda_graph(lambda: few @ long)
    assert first().equal(expected)
    del first
    second = cuda_graph(lambda: few @ long)
    before = torch.cuda.memory_allocated()
    torch._C._cuda_clearCublasWorkspaces()  # as whoever records graphs of its own may do
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() == before
    assert second().equal(expected)


def test_scores_on_tasks_leave_recorded_steps_as_they_are(tmp_path: Path):
    rows = [
        {"query": f"Thing {i} fell, because", "choices": ["it was hit.", "it flew."], "gold": i % 2}
        for i in range(12)
    ]
    (tmp_path / "copa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = [*longer, "model.context=32", "training.deterministic=true"]
    changes.append("training.cuda_graph=true")
    scored = ['tasks.names=["copa"]', "tasks.every_steps=4", f"tasks.data={tmp_path}"]
    train(small.run_config(tmp_path, *changes), tmp_path / "plain")
    train(small.run_config(tmp_path, *changes, *scored), tmp_path / "scored")
    assert losses(tmp_path / "scored") == losses(tmp_path / "plain")
    assert weights(tmp_path / "scored") == weights(tmp_path / "plain")
    assert any("tasks" in record for record in read_metrics(tmp_path / "scored"))
    torch.use_deterministic_algorithms(False)
