"""Speed and memory of recipes on a GPU, step by step: what each choice of number format, kernel and
compiler gives.

    python benchmarks/gpu_runs.py RECIPE [--set section.key=value ...] [--steps 12]

Each variant trains some steps of the recipe's own batches in this process. It prints a table in
Markdown: median step, tokens per second, MFU, most memory, and the mean loss of the last steps, by
which fast ways and slow ones are seen to learn the same. Two orders of the same sums drift apart as
training goes on; a "nudged" run shows how far, by itself: it is the slow one, begun with every
weight of the embedding moved by one unit in its last place.
"""

import argparse
import gc
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from modelwright.accounting.flops import training_flops
from modelwright.config.loading import load_settings
from modelwright.runtime.device import describe_machine
from modelwright.training.assembly import fresh_state, make_loader, prepare
from modelwright.training.attempt import take_step
from modelwright.training.config import RunConfig

N_LAST = 10  # steps whose mean loss is shown

slow = ["training.compile=false", "training.attention=math", "training.kernels=torch"]
slow += ["training.cuda_graph=false"]
fast = ["training.kernels=triton", "training.cuda_graph=true"]
variants = {
    "bf16, slow": ["training.precision=bf16", *slow],
    "bf16, fast": ["training.precision=bf16", *fast],
    "fp32, slow": ["training.precision=fp32", *slow],
    "fp32, fast": ["training.precision=fp32", *fast],
    "bf16, slow, nudged": ["training.precision=bf16", *slow],
    "fp32, slow, nudged": ["training.precision=fp32", *slow],
    "bf16, torch": ["training.precision=bf16", "training.kernels=torch"],
    "bf16, no graph": ["training.precision=bf16", "training.cuda_graph=false"],
    "bf16, residual fp32": ["training.precision=bf16", "training.residual=fp32"],
    "bf16, fp8": ["training.precision=bf16", "training.fp8=true"],
    "bf16, compiled": ["training.precision=bf16", "training.compile=true"],
    "bf16": ["training.precision=bf16", "training.compile=false"],
    "fp16, compiled": ["training.precision=fp16", "training.compile=true"],
    "tf32, compiled": ["training.precision=tf32", "training.compile=true"],
    "bf16, recompute selective": ["training.precision=bf16", "training.recompute=selective"],
    "bf16, recompute blocks": ["training.precision=bf16", "training.recompute=blocks"],
    "bf16, packed": ["training.precision=bf16", "training.cut=packed"],
    "bf16, muon": ["training.precision=bf16", "optimizer.kind=muon"],
    "bf16, deterministic": ["training.precision=bf16", "training.deterministic=true"],
}


def nudge(weight: Tensor) -> None:
    """Move every number to the next larger one, in place."""
    with torch.no_grad():
        weight.copy_(torch.nextafter(weight, torch.full_like(weight, torch.inf)))


def measure(recipe: Path, overrides: list[str], n_steps: int, *, is_nudged: bool) -> str:
    """One row of the table."""
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
    prepared = prepare(load_settings(RunConfig, recipe, overrides).config)
    state = fresh_state(prepared)
    if is_nudged:
        nudge(prepared.model.embedding.weight)
    began, steps, memory = time.perf_counter(), [], 0
    losses: list[float] = []
    with make_loader(prepared) as loader:
        for step in range(n_steps):
            is_last = step == n_steps - 1
            metrics, _ = take_step(state, prepared.config, loader, is_followed=not is_last)
            if step == 0:
                first = time.perf_counter() - began
            else:
                steps.append(metrics["step_seconds"])
                memory = max(memory, metrics["memory_bytes"])
            losses += [metrics["loss"]] if "loss" in metrics else []
    torch.use_deterministic_algorithms(False)
    seconds = statistics.median(steps)
    config = prepared.config
    flops = training_flops(prepared.model.config, batch=config.batch_size, seq=config.model.context)
    share = flops / seconds / prepared.peak.flops_per_second
    return (
        f"{prepared.attention} | {state.micro_batch} | {first:.1f} | {seconds * 1e3:.0f} | "
        f"{config.training.batch_tokens / seconds:,.0f} | {share:.1%} | {memory / 2**30:.1f} | "
        f"{statistics.fmean(losses[-N_LAST:]):.5f}"
    )


def main() -> None:
    """Measure every variant and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--only", action="append", choices=list(variants))
    arguments = parser.parse_args()
    print(describe_machine(torch.device("cuda")))
    heads = ("variant", "attention", "micro-batch", "first step s", "step ms", "tokens/s", "MFU")
    print(f"| {' | '.join(heads)} | GiB | loss |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in arguments.only or variants:
        try:
            overrides = [*arguments.overrides, *variants[name]]
            is_nudged = name.endswith("nudged")
            row = measure(arguments.recipe, overrides, arguments.steps, is_nudged=is_nudged)
        except (RuntimeError, MemoryError, ValueError) as error:
            row = f"failed: {str(error).splitlines()[0]}"
        print(f"| {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
