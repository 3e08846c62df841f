"""Which samples a step sees: a pure function of the seed and the step.

No shuffled list is stored. A keyed permutation maps each position of an epoch to a sample, so
the order does not depend on how many workers, ranks or restarts there were.
"""

import numpy as np
import numpy.typing as npt

from modelwright.runtime.seeding import stream_seed

n_rounds = 6
Integers = npt.NDArray[np.uint64]


def batch_samples(
    *, seed: int, step: int, batch_size: int, n_samples: int
) -> npt.NDArray[np.int64]:
    """The samples of one step, in order.

    Steps count through epoch after epoch without a gap: every sample comes once before any comes
    again, and a batch may hold the end of one epoch and the start of the next.

    Args:
        seed: the run's seed; the order comes from its stream "order".
        step: from 0.
        n_samples: how many samples an epoch has.
    """
    places = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs, positions = np.divmod(places, n_samples)
    samples = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        samples[chosen] = permute(positions[chosen], n_samples, stream_seed(seed, f"order/{epoch}"))
    return samples


def permute(positions: npt.NDArray[np.int64], n_samples: int, key: int) -> npt.NDArray[np.int64]:
    """Map positions to samples by a keyed permutation of 0 … n_samples - 1.

    A Feistel network permutes the numbers of an even count of bits; a number that lands beyond
    the last sample is sent through again until it lands inside, which keeps it a permutation.

    Source: Black & Rogaway 2002, "Ciphers with Arbitrary Finite Domains", the cycle-walking
    cipher.
    """
    half_bits = max(1, ((n_samples - 1).bit_length() + 1) // 2)
    numbers = _feistel(positions.astype(np.uint64), half_bits, key)
    while (outside := numbers >= n_samples).any():
        numbers[outside] = _feistel(numbers[outside], half_bits, key)
    return numbers.astype(np.int64)


def _feistel(numbers: Integers, half_bits: int, key: int) -> Integers:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = numbers >> shift, numbers & mask
    for turn in range(n_rounds):
        round_key = np.uint64((key + turn * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF)
        left, right = right, left ^ (_scramble(right ^ round_key) & mask)
    return (left << shift) | right


def _scramble(numbers: Integers) -> Integers:
    """Spread every input bit over all output bits.

    Source: the finaliser of splitmix64, Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom
    Number Generators", with the constants that David Stafford calls Mix13.
    """
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
