"""Weights in eight bits beside packed ones in bf16, for products with few rows on a processor.

    python benchmarks/narrow_weights_cpu.py [--threads 2]

Each product reads another matrix than the one before, so that none comes from the cache. Prints a
table in Markdown: microseconds (medians of five rounds), and how many times as fast eight bits are.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

SHAPES = ((768, 3072), (3072, 768), (768, 50_304))  # d_in, d_out
N_BYTES = 200_000_000  # of the matrices that take turns; more than any cache


def microseconds(products: Iterator[Callable[[], Tensor]], n_times: int) -> float:
    """The median time of a product."""
    rounds = []
    for _ in range(6):
        began = time.perf_counter()
        for product in itertools.islice(products, n_times):
            product()
        rounds.append((time.perf_counter() - began) / n_times * 1e6)
    return statistics.median(rounds[1:])


def packed(x: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """As `generation.packing` does it."""
    ordered = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
    return partial(torch.ops.mkldnn._linear_pointwise, x, ordered, None, "none", [], "")


def narrow(x: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """With a factor for each row, by PyTorch's own operation."""
    scale = weight.float().abs().amax(1) / 127
    rounded = (weight.float() / scale[:, None]).round().to(torch.int8)
    return partial(torch.ops.aten._weight_int8pack_mm, x, rounded, scale.bfloat16())


def main() -> None:
    """Measure every shape and number of rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    print(
        "| rows x d_in x d_out | packed bf16 | int8 | times as fast |\n| --- | ---: | ---: | ---: |"
    )
    for (d_in, d_out), n_rows in itertools.product(SHAPES, (1, 4, 8)):
        weights = [
            torch.randn(d_out, d_in, dtype=torch.bfloat16)
            for _ in range(max(1, N_BYTES // (2 * d_in * d_out)))
        ]
        x = torch.randn(n_rows, d_in, dtype=torch.bfloat16)
        n_times = max(20, 4_000_000_000 // (d_in * d_out * 10))
        wide, eight = (
            microseconds(itertools.cycle([way(x, weight) for weight in weights]), n_times)
            for way in (packed, narrow)
        )
        print(f"| {n_rows} x {d_in} x {d_out} | {wide:.0f} | {eight:.0f} | {wide / eight:.2f} |")


if __name__ == "__main__":
    main()
