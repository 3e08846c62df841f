"""Drawing tokens on a GPU: the kernels over several cuts, beside sorting and taking the likeliest.

    python benchmarks/draw_gpu.py [--texts 64,1,8] [--drawn top-p]

Each way is recorded as a CUDA graph of twenty draws from fresh logits, as it stands in a step of
writing; the time of one is the median of ten replays. Prints a table in Markdown.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from modelwright.generation import draw_kernels, row_drawing
from modelwright.generation.config import SamplingConfig
from modelwright.generation.row_drawing import RowSettings, Stages
from modelwright.runtime.device import describe_machine
from modelwright.runtime.graphs import cuda_graph

N_VOCAB = 50257
N_DRAWS, N_REPLAYS = 20, 10
cuda = torch.device("cuda")
samplings = {
    "temperature": SamplingConfig(temperature=0.8, top_p=1),
    "top-k": SamplingConfig(temperature=0.8, top_k=50, top_p=1),
    "top-p": SamplingConfig(temperature=0.8, top_p=0.95),
    "top-k and top-p": SamplingConfig(temperature=0.8, top_k=50, top_p=0.95),
}
cuts = [(2048, 4), (2048, 8), (4096, 4), (4096, 8), (8192, 8), (8192, 16)]


def microseconds(draw: Callable[[Tensor], Tensor], many: Tensor) -> float:
    """Of one draw."""

    def draws() -> Tensor:
        return torch.stack([draw(logits) for logits in many])

    draws()  # compiles
    again = cuda_graph(draws)
    again()
    times: list[float] = []
    for _ in range(N_REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        again()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / N_DRAWS)
    return statistics.median(times)


def settings_of(sampling: SamplingConfig, n_rows: int) -> dict[str, Any]:
    """What rows that are drawn alike are drawn by."""
    settings = RowSettings.neutral(n_rows, cuda)
    settings.fill([sampling] * n_rows)
    return {
        "settings": settings,
        "stages": Stages.of([sampling]),
        "chances": torch.rand(n_rows, dtype=torch.float64, device=cuda),
        "seen": None,
    }


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", default="64,1,8")
    parser.add_argument("--drawn", nargs="*", choices=list(samplings), default=list(samplings))
    options = parser.parse_args()
    print(describe_machine(cuda))
    print("\n| texts | drawn | way | µs |\n| ---: | --- | --- | ---: |")
    for n_rows in map(int, options.texts.split(",")):
        many = torch.randn(N_DRAWS, n_rows, N_VOCAB, device=cuda).mul_(2).bfloat16()
        likeliest = microseconds(lambda logits: logits.argmax(-1), many)
        print(f"| {n_rows} | the likeliest | PyTorch | {likeliest:.1f} |", flush=True)
        given = settings_of(SamplingConfig(temperature=0), n_rows)
        took = microseconds(partial(draw_kernels.draw_rows, **given), many)
        print(f"| {n_rows} | the likeliest | ours | {took:.1f} |", flush=True)
        for name in options.drawn:
            given = settings_of(samplings[name], n_rows)
            took = microseconds(partial(row_drawing.draw_rows, **given), many)
            print(f"| {n_rows} | {name} | PyTorch, sorted | {took:.1f} |", flush=True)
            usual = draw_kernels.chunk, draw_kernels.warps_of
            for cut in cuts:
                draw_kernels.chunk, draw_kernels.warps_of = cut[0], {1: cut[1]}
                took = microseconds(partial(draw_kernels.draw_rows, **given), many)
                way = f"chunks of {cut[0]}, {cut[1]} warps"
                print(f"| {n_rows} | {name} | {way} | {took:.1f} |", flush=True)
            draw_kernels.chunk, draw_kernels.warps_of = usual


if __name__ == "__main__":
    main()
