"""Drawing tokens by kernels of our own, for an NVIDIA GPU: no row is sorted.

What top_k and top_p keep are the tokens from some logit on. It is found as one finds a word in a
dictionary: with the order of the numbers as that of their bits, each pass takes the sums from
sixteen points on, all programs together, and leaves a sixteenth of the range. The twin is
`row_drawing.draw_rows`; a sum may differ from its own in the last bits, and so may a token whose
chance decides whether `top_p` is reached.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from modelwright.generation.row_drawing import RowSettings, Stages, penalised_rows

# What a benchmark may vary: they change the speed, and no more than the last bits of a sum.
chunk = 2048  # tokens of a row that are left to one program; a power of two
warps_of = {1: 8, 16: 4}  # from so many rows on: groups of 32 threads that share them

n_points = 16  # of a pass, which settles four bits
bits_a_pass = 4


def draw_rows(
    logits: Float[Tensor, "row vocab"],
    settings: RowSettings,
    stages: Stages,
    chances: Float64[Tensor, " row"],
    seen: Bool[Tensor, "row vocab"] | None,
) -> Int[Tensor, " row"]:
    """The edition of `row_drawing.draw_rows` for a GPU."""
    if stages.penalty:
        logits = penalised_rows(logits, settings, seen)
    if logits.shape[1] > 1 and logits.stride(1) != 1:
        logits = logits.contiguous()
    with torch.cuda.device_of(logits):
        if not stages.sampled:
            return _likeliest(logits)
        drawn = _drawn(logits, settings, stages, chances)
        if not stages.greedy:
            return drawn
        return torch.where(settings.temperature == 0, _likeliest(logits), drawn)


def warps_for(n_rows: int) -> int:
    """How many groups of threads a program has."""
    return warps_of[max(least for least in warps_of if least <= n_rows)]


def _likeliest(logits: Float[Tensor, "row vocab"]) -> Int[Tensor, " row"]:
    from modelwright.generation import draw_programs

    programs: Any = draw_programs
    n_rows, n_vocab = logits.shape
    warps = warps_for(n_rows)
    n_chunks = -(-n_vocab // chunk)
    grid = (n_rows, n_chunks)
    peaks = logits.new_empty(grid, dtype=torch.float32)
    places = logits.new_empty(grid, dtype=torch.int32)
    tokens = logits.new_empty(n_rows, dtype=torch.int64)
    programs.find_likeliest[grid](
        logits, logits.stride(0), n_vocab, peaks, places, chunk=chunk, n_chunks=n_chunks,
        num_warps=warps,
    )  # fmt: skip
    programs.take_likeliest[(n_rows,)](
        peaks, places, tokens, n_chunks=n_chunks, row_of_chunks=1 << (n_chunks - 1).bit_length(),
        num_warps=1,
    )  # fmt: skip
    return tokens


class _Search(NamedTuple):
    """What the passes of one search leave for those after them.

    Attributes:
        sums: of what lies at or above each of the points, of each pass, row and chunk.
        least: where the range began before each pass, of each row.
        above: the sum above the range before each pass, of each row.
    """

    sums: Float[Tensor, "pass row chunk point"]
    least: Int[Tensor, "pass row"]
    above: Float[Tensor, "pass row"]


def _drawn(
    logits: Float[Tensor, "row vocab"],
    settings: RowSettings,
    stages: Stages,
    chances: Float64[Tensor, " row"],
) -> Int[Tensor, " row"]:
    from modelwright.generation import draw_programs

    programs: Any = draw_programs  # functions to a reader, kernels once Triton has seen them

    n_rows, n_vocab = logits.shape
    warps = warps_for(n_rows)
    n_chunks = -(-n_vocab // chunk)
    # Half of a bf16 number's bits in fp32 are always zero.
    bits = 16 if logits.dtype == torch.bfloat16 else 32
    fixed: dict[str, Any] = {
        "bits": bits,
        "chunk": chunk,
        "n_chunks": n_chunks,
        "row_of_chunks": 1 << (n_chunks - 1).bit_length(),
        "has_top_k": stages.top_k,
        "num_warps": warps,
    }
    grid = (n_rows, n_chunks)
    row_of = (logits, logits.stride(0), n_vocab, settings.temperature)
    peaks = logits.new_empty(grid, dtype=torch.float32)
    programs.find_peaks[grid](*row_of, peaks, chunk=chunk, n_chunks=n_chunks, num_warps=warps)

    def search(by_chance: bool, wanted: Tensor, first: "_Search") -> _Search:
        n_passes = bits // bits_a_pass
        found = _Search(
            logits.new_empty(n_passes, *grid, n_points, dtype=torch.float32),
            logits.new_empty(n_passes, n_rows, dtype=torch.int32),
            logits.new_empty(n_passes, n_rows, dtype=torch.float32),
        )
        for number in range(n_passes):
            programs.narrow[grid](
                *row_of, peaks, *(first if by_chance else found), settings.top_k, *found, wanted,
                number=number, by_chance=by_chance, **fixed,
            )  # fmt: skip
        return found

    nothing = _Search(peaks, peaks, peaks)  # which no kernel reads
    likeliest = search(False, settings.top_k, nothing) if stages.top_k else nothing
    nucleus = search(True, settings.top_p, likeliest) if stages.top_p else nothing
    strict = logits.new_empty(grid, dtype=torch.float64)
    ties = logits.new_empty(grid, dtype=torch.int32)
    share_of_tie = logits.new_empty(grid, dtype=torch.float32)
    kept = (*likeliest, settings.top_k, *nucleus, settings.top_p, settings.min_p)
    tokens = logits.new_empty(n_rows, dtype=torch.int64)
    programs.weigh[grid](
        *row_of, peaks, *kept, strict, ties, share_of_tie, has_top_p=stages.top_p, **fixed
    )
    programs.select[(n_rows,)](
        *row_of, peaks, *kept, strict, ties, share_of_tie, chances, tokens,
        has_top_p=stages.top_p, **fixed,
    )  # fmt: skip
    return tokens
