import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from modelwright.data import loader as module
from modelwright.data.loader import (
    Batch,
    Chunks,
    Loader,
    StoppedWaiting,
    batch_on_cpu,
    batch_on_device,
    not_a_target,
    widen,
)
from modelwright.data.packing import Packed
from modelwright.data.sampler import batch_samples
from modelwright.data.shards import Shard, TokenSequence, open_shard, write_shard

CPU = torch.device("cpu")
END = 65_535


def sequence(dtype: type = np.uint16) -> TokenSequence:
    """Random ids, the high ones too, in two shards of the same lengths of documents."""
    starts = np.cumsum([0, 3, 10, 7, 20, 13, 1, 9, 17, 12, 8])
    shards = []
    for seed in range(2):
        tokens = np.random.default_rng(seed).integers(0, END, starts[-1]).astype(dtype)
        tokens[starts[1:] - 1] = END
        shards.append(Shard(None, tokens, starts.astype(np.uint64), ""))  # type: ignore[arg-type]
    return TokenSequence(shards)


def cuts(dtype: type = np.uint16) -> list[Chunks | Packed]:
    return [Chunks(sequence(dtype), 16), Packed(sequence(dtype), 16, END)]


def loader(cut: Chunks | Packed | None = None, **changes) -> Loader:
    settings = {"seed": 1, "batch_size": 4, "device": CPU} | changes
    return Loader(cut or cuts()[0], **settings)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "modelwright-loader"]


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32])
def test_ids_are_widened_without_a_sign(dtype: torch.dtype):
    most = torch.iinfo(dtype).max
    ids = torch.tensor([[0, 1, 32_767], [32_768, most - 1, most]], dtype=torch.int64)
    narrow = torch.from_numpy(ids.numpy().astype(np.uint16 if most < 2**16 else np.uint32))
    assert narrow.dtype == dtype
    assert torch.equal(widen(narrow), ids)
    assert torch.equal(widen(narrow[:, 1:]), ids[:, 1:])
    assert widen(narrow[:, 1:]).is_contiguous()


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("which", [0, 1])
def test_the_way_of_the_device_gives_the_batch_of_the_cpu(dtype: type, which: int):
    cut = cuts(dtype)[which]
    samples = np.arange(len(cut))
    rows = cut.rows(len(samples))
    cut.fill(samples, rows)
    assert rows.tokens.element_size() == np.dtype(dtype).itemsize
    batches = [
        batch_on_cpu(rows, samples),
        batch_on_device(rows, samples, n_targets=rows.n_targets()),
    ]
    for ours, theirs in zip(batches[0].tensors(), batches[1].tensors(), strict=True):
        assert torch.equal(ours, theirs)
    for batch in batches:
        assert batch.n_targets == batch.count_targets() == (batch.targets != not_a_target).sum()
    assert batches[0].inputs.max() >= 32_768
    assert (batches[0].targets == not_a_target).any()


def test_where_all_targets_count_the_device_is_told_so():
    for cut in cuts():
        full = np.array([0])
        rows = cut.rows(1)
        cut.fill(full, rows)
        expected = bool((cut.batch(full).targets != not_a_target).all())
        assert (rows.n_targets() == cut.context) == expected
        made = batch_on_device(rows, full, n_targets=rows.n_targets())
        assert torch.equal(made.targets, cut.batch(full).targets)
    chunks = cuts()[0]
    rows = chunks.rows(len(chunks))
    chunks.fill(np.arange(len(chunks)), rows)
    assert rows.n_targets() < len(chunks) * chunks.context


def test_chunks_are_the_tokens_and_the_ones_after():
    chunks = cuts()[0]
    tokens = chunks.tokens.read(0, 200)
    batch = chunks.batch(np.array([3, 5, 12]))  # the sixth crosses into the second shard
    for row, start in enumerate((48, 80, 200 - 17)):
        assert batch.inputs[row].tolist() == tokens[start : start + 16].tolist()
        first = 9 if row == 2 else 0  # the last chunk repeats what the one before it has
        assert (
            batch.targets[row, first:].tolist()
            == tokens[start + 1 + first :][: 16 - first].tolist()
        )
        assert (batch.targets[row, :first] == not_a_target).all()
    assert batch.positions is None and batch.documents is None


def test_rows_are_read_from_mapped_shards(tmp_path: Path):
    tokens = np.arange(50, dtype=np.uint16)
    write_shard(tmp_path / "a", tokens, np.array([0, 50], np.int64), "ab" * 32)
    chunks = Chunks(TokenSequence([open_shard(tmp_path / "a")]), 7)
    assert chunks.batch(np.array([2])).inputs.tolist() == [list(range(14, 21))]


@pytest.mark.parametrize("which", [0, 1])
def test_the_loader_gives_each_step_its_samples(which: int):
    cut = cuts()[which]
    with loader(cut) as batches:
        for step in range(20):
            samples = batch_samples(seed=1, step=step, batch_size=4, n_samples=len(cut))
            batch, expected = batches.batch(step), cut.batch(samples)
            assert np.array_equal(batch.samples, samples)
            for ours, theirs in zip(batch.tensors(), expected.tensors(), strict=True):
                assert torch.equal(ours, theirs)


def test_any_step_may_come_next():
    with loader() as batches:
        for step in (5, 6, 0, 1, 1, 9):
            expected = batch_samples(seed=1, step=step, batch_size=4, n_samples=13)
            assert np.array_equal(batches.batch(step).samples, expected)
            assert len(threads()) == 1


class Watched(Chunks):
    """Chunks that tell how many batches were made and can fail at one of them."""

    n_made = 0
    fails_at = -1

    def batch(self, samples: np.ndarray) -> Batch:
        self.n_made += 1
        if self.n_made == self.fails_at:
            raise OSError("the disk is gone")
        return super().batch(samples)


@pytest.mark.parametrize("depth", [1, 4])
def test_as_many_batches_are_made_ahead_as_the_depth_says(depth: int):
    cut = Watched(sequence(), 16)
    with loader(cut, depth=depth) as batches:
        for step in range(3):
            batches.batch(step)
        deadline = time.monotonic() + 10
        while cut.n_made < 3 + depth and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert cut.n_made == 3 + depth


def test_an_error_is_raised_at_its_own_step_and_the_step_can_be_asked_for_again():
    cut = Watched(sequence(), 16)
    cut.fails_at = 3
    with loader(cut) as batches:
        batches.batch(0)
        batches.batch(1)
        with pytest.raises(OSError, match="the disk is gone"):
            batches.batch(2)
        assert not threads()
        expected = batch_samples(seed=1, step=2, batch_size=4, n_samples=13)
        assert np.array_equal(batches.batch(2).samples, expected)


class Blocked(Chunks):
    """Chunks of which one batch comes only when it is let go."""

    blocks_at = 2

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.let_go = threading.Event()
        self.n_made = 0

    def batch(self, samples: np.ndarray) -> Batch:
        self.n_made += 1
        if self.n_made == self.blocks_at:
            self.let_go.wait(60)
        return super().batch(samples)


def test_waiting_for_a_batch_can_be_stopped_and_taken_up_again():
    cut = Blocked(sequence(), 16)
    with loader(cut) as batches:
        batches.batch(0, is_stopped=lambda: True)  # it is there or comes soon, so it is given
        asked: list[int] = []

        def is_stopped() -> bool:
            asked.append(1)
            return len(asked) == 2

        with pytest.raises(StoppedWaiting):
            batches.batch(1, is_stopped=is_stopped)
        assert len(asked) == 2
        cut.let_go.set()
        expected = batch_samples(seed=1, step=1, batch_size=4, n_samples=13)
        assert np.array_equal(batches.batch(1).samples, expected)
        assert cut.n_made <= 6  # the thread is still the first one


def test_a_thread_whose_batch_never_comes_does_not_keep_the_process(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "seconds_to_end", 0.1)
    cut = Blocked(sequence(), 16)
    began = time.monotonic()
    with loader(cut) as batches:
        batches.batch(0)
        with pytest.raises(StoppedWaiting):
            batches.batch(1, is_stopped=lambda: True)
    assert time.monotonic() - began < 10
    assert all(thread.daemon for thread in threads())
    cut.let_go.set()
    for thread in threads():
        thread.join(10)
    assert not threads()


def test_no_thread_is_left_behind():
    with loader() as batches:
        batches.batch(0)
        assert len(threads()) == 1
    assert not threads()
    with pytest.raises(KeyError), loader() as batches:
        batches.batch(0)
        raise KeyError
    assert not threads()
    with loader():
        pass  # nothing was asked for
    assert not threads()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth is 0; the least is 1"),
        ({"world_size": 3}, "batch_size is 4 sequences"),
        ({"rank": 1}, "rank is 1"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        loader(**change)


def test_a_batch_stays_as_it_is_while_later_ones_are_made():
    with loader(cuts()[1], depth=1) as batches:
        first = batches.batch(0)
        before = [tensor.clone() for tensor in first.tensors()]
        for step in range(1, 10):
            batches.batch(step)
    for ours, theirs in zip(first.tensors(), before, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("which", [0, 1])
def test_batches_on_a_gpu_are_those_of_the_cpu(dtype: type, which: int):
    cut = cuts(dtype)[which]
    with loader(cut, device=torch.device("cuda")) as batches:
        for step in range(50):
            batch = batches.batch(step)
            torch.cuda._sleep(1_000_000)  # so that the next batches come while this one is used
            used = [tensor.clone() for tensor in batch.tensors()]
            expected = cut.batch(batch.samples)
            del batch
            for ours, theirs in zip(used, expected.tensors(), strict=True):
                assert torch.equal(ours.cpu(), theirs)
