"""Which samples a step sees: a pure function of the seed and the step.

No shuffled list is stored. A keyed permutation maps each position of an epoch to a sample, so
the order does not depend on how many workers, ranks or restarts there were.
"""

import numpy as np
import numpy.typing as npt

from modelwright import _native
from modelwright.runtime.seeding import stream_seed


def batch_samples(
    *,
    seed: int,
    step: int,
    batch_size: int,
    n_samples: int,
    rank: int = 0,
    world_size: int = 1,
) -> npt.NDArray[np.int64]:
    """The samples of one step that fall to one rank, in order.

    Steps count through epoch after epoch without a gap: every sample comes once before any comes
    again, and a batch may hold the end of one epoch and the start of the next. The ranks' samples,
    one rank after the other, are those of the step, however many ranks there are.

    Args:
        seed: the run's seed; the order comes from its stream "order".
        step: from 0.
        batch_size: samples of the step, over all ranks.
        n_samples: how many samples an epoch has.

    Raises:
        ValueError: if the batch does not divide over the ranks, or there is no such rank.
    """
    rows = rows_of_rank(batch_size, rank=rank, world_size=world_size)
    samples = np.empty(len(rows), np.int64)
    epoch, position = divmod(step * batch_size + rows.start, n_samples)
    n_done = 0
    while n_done < len(rows):
        n_here = min(len(rows) - n_done, n_samples - position)
        samples[n_done : n_done + n_here] = permute(
            np.arange(position, position + n_here), n_samples, stream_seed(seed, f"order/{epoch}")
        )
        n_done += n_here
        epoch, position = epoch + 1, 0
    return samples


def rows_of_rank(batch_size: int, *, rank: int, world_size: int) -> range:
    """Which rows of a step's batch fall to a rank.

    Raises:
        ValueError: if the batch does not divide over the ranks, or there is no such rank.
    """
    assert world_size >= 1
    if not 0 <= rank < world_size:
        raise ValueError(
            f"rank is {rank}, but of world_size = {world_size} ranks the last is {world_size - 1}; "
            f"choose from 0 to {world_size - 1}"
        )
    if batch_size % world_size:
        nearest = max(1, round(batch_size / world_size)) * world_size
        raise ValueError(
            f"batch_size is {batch_size} sequences, which do not divide over world_size = "
            f"{world_size} ranks; the nearest number that does is {nearest}, so set "
            f"training.batch_tokens to {nearest} times model.context"
        )
    n_rows = batch_size // world_size
    return range(rank * n_rows, (rank + 1) * n_rows)


def permute(positions: npt.NDArray[np.int64], n_samples: int, key: int) -> npt.NDArray[np.int64]:
    """Map positions to samples by a keyed permutation of 0 … n_samples - 1.

    The permutation is the one of `reference.permute`.
    """
    samples = np.array(positions, np.int64)
    _native.permute(samples, n_samples, key)
    return samples
