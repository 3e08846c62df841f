import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

import saving
from modelwright.checkpoint.bundle import load_bundle
from modelwright.checkpoint.resume import load_optimizer_tensors
from modelwright.checkpoint.snapshot import Buffers, take_snapshot
from modelwright.checkpoint.writer import write_checkpoint


def take(buffers: Buffers, weight: torch.Tensor, facts: dict | None = None):
    made = saving.snapshot(1)
    return take_snapshot(
        buffers,
        step=1,
        config=made.config,
        tokenizer=saving.tokenizer,
        weights={"w": weight},
        optimizer={"w/step": torch.tensor(3.0)},
        averaged={"w": weight + 1},
        state=facts or {},
    )


def test_what_training_does_next_does_not_change_a_snapshot():
    weight, facts = torch.arange(6.0), {"order": [1, 2]}
    snapshot = take(Buffers(), weight, facts)
    weight.zero_()
    facts["order"].append(3)
    assert snapshot.weights["w"].tolist() == [0, 1, 2, 3, 4, 5]
    assert snapshot.averaged is not None
    assert snapshot.averaged["w"].tolist() == [1, 2, 3, 4, 5, 6]
    assert snapshot.optimizer["w/step"].item() == 3
    assert snapshot.state == {"order": [1, 2]}


def test_a_snapshot_knows_the_size_of_its_tensors():
    assert take(Buffers(), torch.zeros(6)).n_bytes == 6 * 4 + 6 * 4 + 4


def test_memory_is_the_same_from_save_to_save():
    buffers = Buffers()
    places = {take(buffers, torch.full((6,), float(n))).weights["w"].data_ptr() for n in range(3)}
    assert len(places) == 1
    assert take(buffers, torch.ones(7)).weights["w"].shape == (7,)  # unless the shape is another
    assert take(buffers, torch.ones(7).double()).weights["w"].dtype == torch.float64


def test_a_snapshot_of_turned_tensors_is_laid_out_anew():
    weight = torch.arange(6.0).view(2, 3).mT
    copied = take(Buffers(), weight).weights["w"]
    assert torch.equal(copied, weight)
    assert copied.is_contiguous()


def test_a_snapshot_waits_for_the_write_that_still_reads_from_its_buffers():
    buffers = Buffers()
    first = take(buffers, torch.zeros(6))
    write: Future[None] = Future()
    buffers.lend(write)
    thread = threading.Thread(target=take, args=(buffers, torch.ones(6)))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    assert first.weights["w"].sum() == 0
    write.set_result(None)
    thread.join(10)
    assert not thread.is_alive()
    assert first.weights["w"].sum() == 6  # now it is overwritten, as Buffers says


def test_facts_that_json_cannot_say_are_refused_while_training_waits():
    with pytest.raises(TypeError):
        take(Buffers(), torch.zeros(1), {"folder": Path()})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_snapshot_of_a_gpu_is_copied_into_pinned_memory_and_complete(tmp_path: Path):
    buffers = Buffers()
    weight = torch.randn(3000, 2000, device="cuda")
    for _ in range(3):
        weight += 1
        expected = weight.cpu()
        snapshot = take(buffers, weight)
        weight += 1  # queued at once; the copy is over by now
        assert snapshot.weights["w"].is_pinned()
        assert torch.equal(snapshot.weights["w"], expected)
    place = snapshot.weights["w"].data_ptr()
    assert take(buffers, weight).weights["w"].data_ptr() == place
    folder = write_checkpoint(tmp_path, saving.snapshot(1, buffers=buffers))
    assert load_optimizer_tensors(folder).keys() == saving.snapshot(1).optimizer.keys()
    bundle = load_bundle(folder, device=torch.device("cuda"))
    assert next(bundle.model.parameters()).is_cuda
