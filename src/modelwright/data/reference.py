"""The compiled parts of this room in plain Python: slow, obvious, and what tests compare with."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Segment = tuple[int, int]  # the index of its first token, and how many it has

n_rounds = 6
whole_word = (1 << 64) - 1


def permute(position: int, n_samples: int, key: int) -> int:
    """Where the permutation of 0 … n_samples - 1 with this key sends a position.

    A Feistel network permutes the numbers of an even count of bits; a number that lands beyond
    the last sample is sent through again until it lands inside, which keeps it a permutation.

    Source: Black & Rogaway 2002, "Ciphers with Arbitrary Finite Domains", the cycle-walking
    cipher.
    """
    half_bits = max(1, ((n_samples - 1).bit_length() + 1) // 2)
    number = _feistel(position, half_bits, key)
    while number >= n_samples:
        number = _feistel(number, half_bits, key)
    return number


def _feistel(number: int, half_bits: int, key: int) -> int:
    mask = (1 << half_bits) - 1
    left, right = number >> half_bits, number & mask
    for turn in range(n_rounds):
        round_key = (key + turn * 0x9E3779B97F4A7C15) & whole_word
        left, right = right, left ^ (_scramble(right ^ round_key) & mask)
    return left << half_bits | right


def _scramble(number: int) -> int:
    """Spread every input bit over all output bits.

    Source: the finaliser of splitmix64, Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom
    Number Generators", with the constants that David Stafford calls Mix13.
    """
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & whole_word
    number = (number ^ number >> 27) * 0x94D049BB133111EB & whole_word
    return number ^ number >> 31


def pack(document_starts: Sequence[int], context: int) -> list[list[Segment]]:
    """Whole documents packed into rows: the segments of each row.

    The longest document goes first, each into the row with the least room that takes it, among
    equal ones into the row that was changed last. A document longer than a row is first cut into
    full rows, which come first, and a rest.

    Source: Ding et al. 2024, "Fewer Truncations Improve Language Modeling", section 3.2.
    """
    full_rows: list[list[Segment]] = []
    rests: list[Segment] = []
    for start, end in pairwise(document_starts):
        while end - start >= context:
            full_rows.append([(start, context)])
            start += context
        if end > start:
            rests.append((start, end - start))
    rows: list[list[Segment]] = []
    rooms: list[int] = []
    changed: list[int] = []  # when, counted in rests
    for turn, (start, length) in enumerate(sorted(rests, key=lambda rest: -rest[1])):
        fitting = [row for row, room in enumerate(rooms) if room >= length]
        if fitting:
            row = min(fitting, key=lambda row: (rooms[row], -changed[row]))
        else:
            row = len(rows)
            rows.append([])
            rooms.append(context)
            changed.append(turn)
        rows[row].append((start, length))
        rooms[row] -= length
        changed[row] = turn
    return full_rows + rows


def packed_row(
    tokens: npt.NDArray[np.integer], segments: Sequence[Segment], context: int, end_of_text: int
) -> tuple[list[int], list[int], list[int], list[int], int]:
    """Inputs, targets, positions and documents of one row, and how many places are filled."""
    inputs: list[int] = []
    targets: list[int] = []
    positions: list[int] = []
    documents: list[int] = []
    for document, (start, length) in enumerate(segments):
        for position in range(length):
            at = start + position
            inputs.append(end_of_text if at == 0 else int(tokens[at - 1]))
            targets.append(int(tokens[at]))
            positions.append(position)
            documents.append(document)
    n_filled, n_padding = len(targets), context - len(targets)
    inputs += [end_of_text] * n_padding
    targets += [end_of_text] * n_padding
    positions += range(n_padding)
    documents += [len(segments)] * n_padding
    return inputs, targets, positions, documents, n_filled
