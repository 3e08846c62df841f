import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelwright.data import reference
from modelwright.data.loader import Chunks, Loader, not_a_target
from modelwright.data.sampler import batch_samples, permute
from modelwright.data.shards import Shard, TokenSequence


def sequence_of(*parts: np.ndarray) -> TokenSequence:
    starts = np.zeros(1, np.uint64)
    return TokenSequence([Shard(None, part, starts, "") for part in parts])  # type: ignore[arg-type]


@given(n_samples=st.integers(1, 3000), key=st.integers(0, 2**63 - 1))
def test_every_key_permutes_every_count_of_samples(n_samples: int, key: int):
    permuted = permute(np.arange(n_samples), n_samples, key)
    assert np.array_equal(np.sort(permuted), np.arange(n_samples))


@given(
    n_samples=st.one_of(st.integers(1, 5000), st.integers(1, 2**62)),
    positions=st.lists(st.integers(0, 2**62), max_size=20),
    key=st.integers(0, 2**63 - 1),
)
def test_the_permutation_is_the_references(n_samples: int, positions: list[int], key: int):
    positions = [position % n_samples for position in positions]
    expected = [reference.permute(position, n_samples, key) for position in positions]
    assert permute(np.array(positions, np.int64), n_samples, key).tolist() == expected


@settings(max_examples=60)
@given(
    n_tokens=st.integers(2, 200),
    context=st.integers(1, 30),
    batch_size=st.integers(1, 17),
    seed=st.integers(0, 2**31),
    cut=st.integers(0, 200),
)
def test_each_token_is_target_exactly_once_an_epoch(n_tokens, context, batch_size, seed, cut):
    if context + 1 > n_tokens:
        context = n_tokens - 1
    tokens = np.arange(n_tokens, dtype=np.uint16)
    cut = min(cut, n_tokens)
    chunks = Chunks(sequence_of(tokens[:cut], tokens[cut:]), context)
    n_epochs, seen = 2, []
    n_batches = -(-n_epochs * len(chunks) // batch_size)
    for step in range(n_batches):
        samples = batch_samples(seed=seed, step=step, batch_size=batch_size, n_samples=len(chunks))
        batch = chunks.batch(samples)
        inputs, targets = batch.inputs, batch.targets
        counted = targets != not_a_target
        assert torch.equal(inputs[counted] + 1, targets[counted])  # the token after each input
        for sample, row in zip(samples, targets, strict=True):
            seen.append((int(sample), row[row != not_a_target].tolist()))
    for epoch in range(n_epochs):
        of_epoch = seen[epoch * len(chunks) : (epoch + 1) * len(chunks)]
        targets = sorted(target for _, row in of_epoch for target in row)
        assert targets == list(range(1, n_tokens))


@given(
    seed=st.integers(0, 2**31),
    step=st.integers(0, 2**40),
    rank_size=st.integers(1, 12),
    n_samples=st.integers(1, 50),
    world_size=st.integers(1, 9),
)
def test_the_ranks_divide_the_samples_of_a_step(seed, step, rank_size, n_samples, world_size):
    settings = {"seed": seed, "step": step, "n_samples": n_samples}
    batch_size = rank_size * world_size
    parts = [
        batch_samples(**settings, batch_size=batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    whole = batch_samples(**settings, batch_size=batch_size)
    assert np.array_equal(np.concatenate(parts), whole)


@given(
    seed=st.integers(0, 2**31),
    batch_size=st.integers(1, 40),
    n_samples=st.integers(1, 50),
    n_steps=st.integers(1, 20),
)
def test_each_sample_comes_once_an_epoch_whatever_the_batch(seed, batch_size, n_samples, n_steps):
    drawn = np.concatenate(
        [
            batch_samples(seed=seed, step=step, batch_size=batch_size, n_samples=n_samples)
            for step in range(n_steps)
        ]
    )
    for first in range(0, len(drawn), n_samples):
        epoch = drawn[first : first + n_samples]
        assert len(set(epoch.tolist())) == len(epoch)
        assert epoch.min() >= 0 and epoch.max() < n_samples


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    rank_size=st.integers(1, 4),
    world_size=st.integers(1, 4),
    depth=st.integers(1, 5),
    visited=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    n_tokens=st.integers(20, 90),
)
def test_ranks_depth_and_restarts_leave_each_steps_samples_alone(
    seed, rank_size, world_size, depth, visited, n_tokens
):
    chunks = Chunks(sequence_of(np.arange(n_tokens, dtype=np.uint16)), 7)
    batch_size = rank_size * world_size
    expected = {
        step: batch_samples(seed=seed, step=step, batch_size=batch_size, n_samples=len(chunks))
        for start in visited
        for step in range(start, start + 3)
    }
    seen: dict[int, list[np.ndarray]] = {step: [] for step in expected}
    for rank in range(world_size):
        taken = {}
        with Loader(
            chunks,
            seed=seed,
            batch_size=batch_size,
            device=torch.device("cpu"),
            rank=rank,
            world_size=world_size,
            depth=depth,
        ) as loader:
            for start in visited:
                for step in range(start, start + 3):
                    batch = loader.batch(step)
                    taken[step] = batch.samples
                    assert torch.equal(batch.inputs, chunks.batch(batch.samples).inputs)
                    assert torch.equal(batch.targets, chunks.batch(batch.samples).targets)
        for step, samples in taken.items():
            seen[step].append(samples)
    for step, parts in seen.items():
        assert np.array_equal(np.concatenate(parts), expected[step])


def test_seeds_and_epochs_give_different_orders():
    def epoch(seed: int, number: int) -> list[int]:
        return batch_samples(seed=seed, step=number, batch_size=500, n_samples=500).tolist()

    orders = [epoch(seed, number) for seed in range(4) for number in range(3)]
    assert len({tuple(order) for order in orders}) == len(orders)


def test_the_order_is_well_mixed():
    n = 4096
    order = permute(np.arange(n), n, key=12345)
    # For a random permutation the correlation with the position has standard deviation 1/sqrt(n).
    assert abs(np.corrcoef(np.arange(n), order)[0, 1]) < 4 / np.sqrt(n)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 4 / np.sqrt(n)
    # Neighbours stay neighbours about twice by chance.
    assert (np.abs(np.diff(order)) == 1).sum() < 12


@pytest.mark.parametrize("n_tokens", [1, 5])
def test_a_text_shorter_than_one_context_is_refused(n_tokens: int):
    with pytest.raises(ValueError, match=f"has {n_tokens} tokens, fewer than one context of 5"):
        Chunks(sequence_of(np.arange(n_tokens, dtype=np.uint16)), 5)
