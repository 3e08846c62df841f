"""The programs of `draw_kernels`, in Triton; loaded when one first runs.

Numbers go by rows, and a row by chunks. A search is for the least number, in the order of the
logits, that is kept; `draw_kernels` says how, and what its passes leave behind. A pass settles four
bits of it by the sums from sixteen points on.
"""

from typing import no_type_check

import triton  # pyright: ignore[reportMissingImports]
from triton import language as tl  # pyright: ignore[reportMissingImports]

# The checker of shapes would come between Triton and the text that it compiles.


@triton.jit
@no_type_check
def temperature_of(temperature, row):
    """That of a row, or one where the likeliest token is taken anyway."""
    own = tl.load(temperature + row)
    return tl.where(own > 0, own, 1.0)


@triton.jit
@no_type_check
def ordered(logits, bits: tl.constexpr):
    """Whole numbers in the order of the logits, equal where they are."""
    # Adding zero makes one of both zeros. The bits of negative numbers run backwards.
    number = (logits + 0.0).to(tl.int32, bitcast=True)
    number = number ^ ((number >> 31) & 0x7FFFFFFF)
    return number >> (32 - bits)


@triton.jit
@no_type_check
def peak_of(peaks, row, n_chunks, row_of_chunks: tl.constexpr):
    """The largest of a row's logits by its temperature."""
    chunks = tl.arange(0, row_of_chunks)
    found = tl.load(peaks + row * n_chunks + chunks, mask=chunks < n_chunks, other=float("-inf"))
    return tl.maximum(tl.max(found), -3.4028234663852886e38)


@triton.jit
@no_type_check
def sums_of(sums, row, n_rows, number, n_chunks, row_of_chunks: tl.constexpr):
    """The sums of a pass at or above each point, over all chunks of a row."""
    chunks = tl.arange(0, row_of_chunks)
    at = ((number * n_rows + row) * n_chunks + chunks)[:, None] * 16
    at += tl.arange(0, 16)[None, :]
    return tl.sum(tl.load(sums + at, mask=(chunks < n_chunks)[:, None], other=0.0), axis=0)


@triton.jit
@no_type_check
def aim_of(wanted, sums, row, by_chance: tl.constexpr, n_chunks, row_of_chunks: tl.constexpr):
    """What the sum has to reach: a number of tokens, or a share of all there is.

    That is what lies at or above the first point of the first pass.
    """
    aim = tl.load(wanted + row).to(tl.float32)
    if by_chance:
        chunks = tl.arange(0, row_of_chunks)
        first_points = sums + (row * n_chunks + chunks) * 16
        aim = aim * tl.sum(tl.load(first_points, mask=chunks < n_chunks, other=0.0))
    return aim


@triton.jit
@no_type_check
def range_before(
    sums, least, above, wanted, row, n_rows, number, by_chance: tl.constexpr,
    bits: tl.constexpr, n_chunks, row_of_chunks: tl.constexpr,
):  # fmt: skip
    """Where the range begins before a pass, and the sum of what lies above the range."""
    # Before the first pass nothing has been found, and the range is all there is.
    start = tl.full([], -(1 << (bits - 1)), tl.int32)
    over = tl.full([], 0.0, tl.float32)
    if number > 0:
        before = number - 1
        found = sums_of(sums, row, n_rows, before, n_chunks, row_of_chunks)
        aim = aim_of(wanted, sums, row, by_chance, n_chunks, row_of_chunks)
        at = tl.arange(0, 16)
        chosen = tl.max(tl.where(found >= aim, at, 0))
        start = tl.load(least + before * n_rows + row) + chosen * (1 << (bits - 4 - 4 * before))
        over = tl.load(above + before * n_rows + row)
        next_sum = tl.sum(tl.where(at == chosen + 1, found, 0.0))
        over = tl.where(chosen == 15, over, next_sum)
    return start, over


@triton.jit
@no_type_check
def floor_of(
    sums, least, above, top_k, row, n_rows, has_top_k: tl.constexpr,
    bits: tl.constexpr, n_chunks, row_of_chunks: tl.constexpr,
):  # fmt: skip
    """The least number that top_k keeps."""
    floor = tl.full([], -(1 << (bits - 1)), tl.int32)
    if has_top_k:
        found, _ = range_before(
            sums, least, above, top_k, row, n_rows, bits // 4, False,
            bits, n_chunks, row_of_chunks,
        )  # fmt: skip
        floor = tl.where(tl.load(top_k + row) > 0, found, floor)
    return floor


@triton.jit(do_not_specialize=["n_vocab", "n_chunks"])
@no_type_check
def find_likeliest(logits, stride, n_vocab, peaks, places, chunk: tl.constexpr, n_chunks):
    """The largest logit of each chunk of each row, and where it is; of equal ones the first."""
    row = tl.program_id(0)
    own = tl.program_id(1)
    at = own * chunk + tl.arange(0, chunk)
    place = logits + row.to(tl.int64) * stride + at
    found = tl.load(place, mask=at < n_vocab, other=float("-inf")).to(tl.float32)
    largest, inside = tl.max(found, axis=0, return_indices=True)
    tl.store(peaks + row * n_chunks + own, largest)
    tl.store(places + row * n_chunks + own, own * chunk + inside)


@triton.jit(do_not_specialize=["n_chunks"])
@no_type_check
def take_likeliest(peaks, places, tokens, n_chunks, row_of_chunks: tl.constexpr):
    """The place of the largest of all chunks of a row."""
    row = tl.program_id(0)
    chunks = tl.arange(0, row_of_chunks)
    is_there = chunks < n_chunks
    found = tl.load(peaks + row * n_chunks + chunks, mask=is_there, other=float("-inf"))
    _, chosen = tl.max(found, axis=0, return_indices=True)
    tl.store(tokens + row, tl.load(places + row * n_chunks + chosen).to(tl.int64))


@triton.jit(do_not_specialize=["n_vocab", "n_chunks"])
@no_type_check
def find_peaks(logits, stride, n_vocab, temperature, peaks, chunk: tl.constexpr, n_chunks):
    """The largest of each chunk of each row, by the row's temperature."""
    row = tl.program_id(0)
    at = tl.program_id(1) * chunk + tl.arange(0, chunk)
    place = logits + row.to(tl.int64) * stride + at
    found = tl.load(place, mask=at < n_vocab, other=float("-inf")).to(tl.float32)
    largest = tl.max(found / temperature_of(temperature, row))
    tl.store(peaks + row * n_chunks + tl.program_id(1), largest)


@triton.jit(do_not_specialize=["n_vocab", "n_chunks", "number"])
@no_type_check
def narrow(
    logits, stride, n_vocab, temperature, peaks,
    k_sums, k_least, k_above, top_k, sums, least, above, wanted,
    number, by_chance: tl.constexpr, bits: tl.constexpr, chunk: tl.constexpr,
    n_chunks, row_of_chunks: tl.constexpr, has_top_k: tl.constexpr,
):  # fmt: skip
    """One pass: how many tokens of a chunk, or what share, lie at or above each point."""
    row = tl.program_id(0)
    n_rows = tl.num_programs(0)
    own = tl.program_id(1)
    start, over = range_before(
        sums, least, above, wanted, row, n_rows, number, by_chance,
        bits, n_chunks, row_of_chunks,
    )  # fmt: skip
    floor = tl.full([], -(1 << (bits - 1)), tl.int32)
    if by_chance:
        floor = floor_of(
            k_sums, k_least, k_above, top_k, row, n_rows, has_top_k,
            bits, n_chunks, row_of_chunks,
        )  # fmt: skip
    peak = peak_of(peaks, row, n_chunks, row_of_chunks)
    warmth = temperature_of(temperature, row)
    limits = start + tl.arange(0, 16) * (1 << (bits - 4 - 4 * number))
    few: tl.constexpr = chunk // 4
    found = tl.zeros([16, few], tl.float32)  # summed up by each thread before they exchange sums
    for first in range(0, chunk, few):
        at = own * chunk + first + tl.arange(0, few)
        place = logits + row.to(tl.int64) * stride + at
        some = tl.load(place, mask=at < n_vocab, other=0.0).to(tl.float32)
        numbers = ordered(some, bits)
        weight = tl.full([few], 1.0, tl.float32)
        if by_chance:
            weight = tl.exp(some / warmth - peak)
        weight = tl.where((at < n_vocab) & (numbers >= floor), weight, 0.0)
        is_over = numbers[None, :] >= limits[:, None]
        found += tl.where(is_over, weight[None, :], 0.0)
    at = ((number * n_rows + row) * n_chunks + own) * 16 + tl.arange(0, 16)
    tl.store(sums + at, tl.sum(found, axis=1))
    if own == 0:
        tl.store(least + number * n_rows + row, start)
        tl.store(above + number * n_rows + row, over)


@triton.jit
@no_type_check
def limits_of(
    k_sums, k_least, k_above, top_k, p_sums, p_least, p_above, top_p, row, n_rows,
    bits: tl.constexpr, n_chunks, row_of_chunks: tl.constexpr,
    has_top_k: tl.constexpr, has_top_p: tl.constexpr,
):  # fmt: skip
    """The least number that is kept, the one of which only some may be (else one that there
    is not), and what share those may have together."""
    floor = floor_of(
        k_sums, k_least, k_above, top_k, row, n_rows, has_top_k, bits, n_chunks, row_of_chunks
    )
    tied = tl.full([], -(1 << 31), tl.int32)
    room = tl.full([], 0.0, tl.float32)
    if has_top_p:
        found, over = range_before(
            p_sums, p_least, p_above, top_p, row, n_rows, bits // 4, True,
            bits, n_chunks, row_of_chunks,
        )  # fmt: skip
        is_narrow = tl.load(top_p + row) < 1
        floor = tl.where(is_narrow, found, floor)
        tied = tl.where(is_narrow, found, tied)
        room = aim_of(top_p, p_sums, row, True, n_chunks, row_of_chunks) - over
    return floor, tied, room


@triton.jit(do_not_specialize=["n_vocab", "n_chunks"])
@no_type_check
def weigh(
    logits, stride, n_vocab, temperature, peaks,
    k_sums, k_least, k_above, top_k, p_sums, p_least, p_above, top_p, min_p,
    strict, ties, share_of_tie,
    bits: tl.constexpr, chunk: tl.constexpr, n_chunks,
    row_of_chunks: tl.constexpr, has_top_k: tl.constexpr, has_top_p: tl.constexpr,
):  # fmt: skip
    """The chances of a chunk, all relative to the likeliest one: the sum of what is kept for
    certain, how many are equal to the last one kept, and the chance of each of these."""
    row = tl.program_id(0)
    own = tl.program_id(1)
    floor, tied, _ = limits_of(
        k_sums, k_least, k_above, top_k, p_sums, p_least, p_above, top_p, row,
        tl.num_programs(0), bits, n_chunks, row_of_chunks, has_top_k, has_top_p,
    )  # fmt: skip
    at = own * chunk + tl.arange(0, chunk)
    place = logits + row.to(tl.int64) * stride + at
    some = tl.load(place, mask=at < n_vocab, other=0.0).to(tl.float32)
    numbers = ordered(some, bits)
    peak = peak_of(peaks, row, n_chunks, row_of_chunks)
    weight = tl.exp(some / temperature_of(temperature, row) - peak)
    is_kept = (at < n_vocab) & (numbers >= floor) & (weight >= tl.load(min_p + row))
    is_tie = is_kept & (numbers == tied)
    certain = tl.where(is_kept & (numbers != tied), weight, 0.0).to(tl.float64)
    where = row * n_chunks + own
    tl.store(strict + where, tl.sum(certain))
    tl.store(ties + where, tl.sum(is_tie.to(tl.int32)))
    tl.store(share_of_tie + where, tl.max(tl.where(is_tie, weight, 0.0)))


@triton.jit(do_not_specialize=["n_vocab", "n_chunks"])
@no_type_check
def select(
    logits, stride, n_vocab, temperature, peaks,
    k_sums, k_least, k_above, top_k, p_sums, p_least, p_above, top_p, min_p,
    strict, ties, share_of_tie, chances, tokens,
    bits: tl.constexpr, chunk: tl.constexpr, n_chunks,
    row_of_chunks: tl.constexpr, has_top_k: tl.constexpr, has_top_p: tl.constexpr,
):  # fmt: skip
    """The token at which the sum of chances passes a row's number: first its chunk, then it.

    Of equal ones at the end of the nucleus those with the larger ids are kept, and of these as
    many as it takes for the rest to be reached.
    """
    row = tl.program_id(0)
    floor, tied, room = limits_of(
        k_sums, k_least, k_above, top_k, p_sums, p_least, p_above, top_p, row,
        tl.num_programs(0), bits, n_chunks, row_of_chunks, has_top_k, has_top_p,
    )  # fmt: skip
    chunks = tl.arange(0, row_of_chunks)
    is_there = chunks < n_chunks
    where = row * n_chunks + chunks
    certain = tl.load(strict + where, mask=is_there, other=0.0)
    n_ties = tl.load(ties + where, mask=is_there, other=0)
    share = tl.max(tl.load(share_of_tie + where, mask=is_there, other=0.0))
    n_wanted = tl.ceil(room / tl.maximum(share, 1e-38))
    n_wanted = tl.minimum(tl.maximum(n_wanted, 1.0), 1e9).to(tl.int32)
    n_behind = tl.sum(n_ties) - tl.cumsum(n_ties)
    n_kept = tl.minimum(tl.maximum(n_wanted - n_behind, 0), n_ties)
    mass = certain + n_kept.to(tl.float64) * share.to(tl.float64)
    sums = tl.cumsum(mass)
    passed = tl.load(chances + row) * tl.max(sums)
    # The number may round up to the sum of all, which no sum passes.
    last = tl.max(tl.where(mass > 0, chunks, 0))
    chosen = tl.minimum(tl.sum((is_there & (sums <= passed)).to(tl.int32)), last)
    passed = tl.maximum(passed - tl.sum(tl.where(chunks < chosen, mass, 0.0)), 0.0)
    n_kept_here = tl.sum(tl.where(chunks == chosen, n_kept, 0))

    inside = tl.arange(0, chunk)
    at = chosen * chunk + inside
    place = logits + row.to(tl.int64) * stride + at
    some = tl.load(place, mask=at < n_vocab, other=0.0).to(tl.float32)
    numbers = ordered(some, bits)
    peak = peak_of(peaks, row, n_chunks, row_of_chunks)
    weight = tl.exp(some / temperature_of(temperature, row) - peak)
    is_kept = (at < n_vocab) & (numbers >= floor) & (weight >= tl.load(min_p + row))
    is_tie = (is_kept & (numbers == tied)).to(tl.int32)
    n_behind_it = tl.sum(is_tie) - tl.cumsum(is_tie)
    is_kept = is_kept & ((numbers != tied) | (n_behind_it < n_kept_here))
    mass_here = tl.where(is_kept, weight, 0.0).to(tl.float64)
    n_before = tl.sum((tl.cumsum(mass_here) <= passed).to(tl.int32))
    last_here = tl.max(tl.where(mass_here > 0, inside, 0))
    token = chosen * chunk + tl.minimum(n_before, last_here)
    tl.store(tokens + row, tl.minimum(token, n_vocab - 1).to(tl.int64))
