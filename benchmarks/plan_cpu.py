"""The plan's memory beside a processor's: the same step followed without numbers and in reality.

    python benchmarks/plan_cpu.py [--ledger FILE]

In one lane, because PyTorch's profiler, which has every allocation on record, watches one thread.
With --ledger docs/results/ledger.jsonl, it adds each configuration to the record that later
predictions are held to (tests/reference/test_ledger.py).
"""

import argparse
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

from modelwright.config.loading import load_settings
from modelwright.planning.ledger import Entry, append_entry, predict, site_facts, tolerances
from modelwright.planning.measuring import count_flops, measure_on_cpu
from modelwright.planning.site import planned_shape
from modelwright.planning.step import Site
from modelwright.runtime.device import processor_name
from modelwright.training.config import RunConfig

laptop = ["model.preset=laptop", "tokenizer.vocab_size=2048", "training.batch_tokens=2048"]
cases = {
    "laptop 1x8x256 fp32 math": (laptop, torch.float32),
    "laptop 1x8x256 bf16 math": (laptop, torch.bfloat16),
    "laptop 1x8x256 fp32 math recompute=blocks": (
        [*laptop, "training.recompute=blocks"],
        torch.float32,
    ),
    "laptop 1x8x256 fp32 math kind=muon": ([*laptop, "optimizer.kind=muon"], torch.float32),
}


def measure(name: str) -> Entry:
    """Plan a case and take its step."""
    settings, dtype = cases[name]
    config = load_settings(RunConfig, None, settings).config
    shape, _ = planned_shape(config)
    site = Site(
        device="cpu",
        dtype=dtype,
        attention="math",
        is_compiled=False,
        micro_batch=config.batch_size,
    )
    measured = measure_on_cpu(config, shape, site)
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return Entry(
        name=name,
        date=datetime.now(UTC).date().isoformat(),
        hardware=processor_name(),
        versions=versions,
        settings=settings,
        precision="bf16" if dtype == torch.bfloat16 else "fp32",
        site=site_facts(site),
        predicted=predict(settings, site),
        measured={
            "allocated_bytes": measured.peak_bytes,
            "n_parameters": measured.n_parameters,
            "flops": count_flops(config, shape),
        },
        tolerance={"allocated_bytes": tolerances["eager"]["allocated_bytes"]},
        predicted_with=versions,
    )


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", type=Path)
    arguments = parser.parse_args()
    print("| case | MiB predicted | measured | error |\n| --- | ---: | ---: | ---: |")
    for name in cases:
        entry = measure(name)
        predicted, measured = (
            figures["allocated_bytes"] for figures in (entry.predicted, entry.measured)
        )
        print(
            f"| {name} | {predicted / 2**20:.3f} | {measured / 2**20:.3f} "
            f"| {predicted / measured - 1:+.2%} |",
            flush=True,
        )
        if arguments.ledger:
            append_entry(arguments.ledger, entry)


if __name__ == "__main__":
    main()
