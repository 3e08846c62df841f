"""The plan's memory beside the GPU's: the same step followed without numbers and taken in reality.

    python benchmarks/plan_gpu.py [--out FILE] [--only NAME ...] [--operations] [--ledger FILE]
    python benchmarks/plan_gpu.py --no-predictions --out FILE    # where the GPU is
    python benchmarks/plan_gpu.py --measured FILE --ledger docs/results/ledger.jsonl    # anywhere

Prints a table in Markdown and writes one line of JSON a configuration. With --operations, it also
lists what each operation of an eager step takes beyond its results, which is what
`planning/gpu_operations.py` has to know. With --ledger docs/results/ledger.jsonl, it adds each
configuration to the record that later predictions are held to (tests/reference/test_ledger.py).
The steps are asked for kernel by kernel: a recording has memory of its own.
"""

import argparse
import gc
import json
import platform
import statistics
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from modelwright.config.loading import load_settings
from modelwright.model.config import AttentionKind
from modelwright.planning.ledger import (
    Entry,
    append_entry,
    predict,
    site_facts,
    site_of,
    tolerances,
)
from modelwright.planning.measuring import Measured, RealStep, count_flops, measure_on_gpu
from modelwright.planning.step import Site
from modelwright.runtime.device import describe_machine
from modelwright.training.choices import chosen_kernels
from modelwright.training.config import RunConfig

formats = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
formats |= {"fp16": torch.float16}


def case(
    preset: str,
    micro_batch: int,
    precision: str = "bf16",
    *sets: str,
    n_portions: int = 1,
    context: int = 1024,
    attention: AttentionKind | None = None,
    is_compiled: bool = False,
) -> dict[str, Any]:
    """A configuration to be measured."""
    return {
        "preset": preset,
        "micro_batch": micro_batch,
        "precision": precision,
        "sets": list(sets),
        "n_portions": n_portions,
        "context": context,
        "attention": attention or ("flash" if precision in ("bf16", "fp16") else "efficient"),
        "compiled": is_compiled,
    }


def cases() -> list[dict[str, Any]]:
    """Sizes, batches, lengths, number formats, recomputing, accumulation, chunks, compilation."""
    small, medium, large, xl = (f"gpt2-{size}" for size in ("small", "medium", "large", "xl"))
    swiglu = "gpt2-xl-swiglu"
    found = []
    for is_compiled in (False, True):
        both: Any = {"is_compiled": is_compiled}
        found += [
            case(small, 1, **both),
            case(small, 8, **both),
            case(small, 32, **both),
            case(small, 8, "fp32", **both),
            case(small, 8, "tf32", **both),
            case(small, 8, "fp16", **both),
            case(small, 8, n_portions=2, **both),
            case(small, 8, "bf16", "training.recompute=blocks", **both),
            case(small, 8, "bf16", "training.recompute=selective", **both),
            case(small, 8, "bf16", "training.loss_chunk=512", **both),
            case(small, 32, "bf16", "model.context=256", context=256, **both),
            case(small, 8, "bf16", "training.cut=packed", attention="cudnn", **both),
            case(small, 8, "bf16", "model.norm=rmsnorm", "model.mlp=swiglu", **both),
            case(small, 8, "bf16", "model.n_kv_heads=4", "model.positions=rope", **both),
            case(medium, 8, **both),
            case(medium, 8, "fp32", **both),
            case(medium, 8, n_portions=3, **both),
            case(large, 4, **both),
            case(large, 8, "bf16", "training.recompute=blocks", **both),
            case(xl, 2, **both),
            case(xl, 4, "bf16", "training.recompute=blocks", **both),
            case(xl, 2, "bf16", "training.recompute=selective", n_portions=2, **both),
            case(swiglu, 2, **both),
            case(swiglu, 4, "bf16", "training.recompute=blocks", **both),
            case("tinystories-17m", 64, "bf16", context=256, **both),
            case(small, 8, "bf16", attention="math", **both),
        ]
    found += [case(small, 8, "bf16", "optimizer.kind=muon"), case(small, 8, attention="plain")]
    return [c | {"name": name_of(c)} for c in found]


def name_of(c: dict[str, Any]) -> str:
    """A short name."""
    parts = [c["preset"], f"{c['n_portions']}x{c['micro_batch']}x{c['context']}", c["precision"]]
    parts += [c["attention"], *(s.partition(".")[2] for s in c["sets"])]
    return " ".join([*parts, *(["compiled"] if c["compiled"] else [])])


def settings_of(c: dict[str, Any]) -> list[str]:
    """What a case sets over the defaults."""
    tokens = c["n_portions"] * c["micro_batch"] * c["context"]
    settings = [f"model.preset={c['preset']}", "tokenizer.vocab_size=300", *c["sets"]]
    settings += ["model.vocab_multiple=64", "training.cuda_graph=false"]
    return [*settings, f"training.batch_tokens={tokens}"]


def config_and_site(c: dict[str, Any]) -> tuple[RunConfig, Site]:
    """What a case comes to."""
    config = load_settings(RunConfig, None, settings_of(c)).config
    site = Site(
        device="cuda",
        dtype=formats[c["precision"]],
        attention=c["attention"],
        is_compiled=c["compiled"],
        micro_batch=c["micro_batch"],
        capability=torch.cuda.get_device_capability(),
        kernels=chosen_kernels(config, torch.device("cuda")),
    )
    return config, site


def facts_of(c: dict[str, Any], site: Site, measured: Measured) -> dict[str, Any]:
    """A line of what was measured."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "case": c,
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": torch.cuda.get_device_name(),
        "versions": own_versions() | {"driver": driver},
        "site": site_facts(site),
        "allocated_bytes": measured.peak_bytes,
        "reserved_bytes": measured.reserved_bytes or 0,
        "outside_bytes": measured.outside_bytes or 0,
        "n_parameters": measured.n_parameters,
        "step_seconds": measured.step_seconds,
        "first_step_seconds": measured.first_step_seconds,
    }


def own_versions() -> dict[str, str]:
    """What is used here."""
    return {"python": platform.python_version(), "torch": torch.__version__}


def entry_of(facts: dict[str, Any]) -> Entry:
    """What was measured with what is predicted, for the ledger; on any machine."""
    c, site = facts["case"], site_of(facts["site"])
    config = load_settings(RunConfig, None, settings_of(c)).config
    names = ("allocated_bytes", "reserved_bytes", "outside_bytes", "n_parameters")
    measured: dict[str, float] = {name: facts[name] for name in names}
    return Entry(
        name=c["name"],
        date=facts["date"],
        hardware=facts["hardware"],
        versions=facts["versions"],
        settings=settings_of(c),
        precision=c["precision"],
        site=facts["site"],
        predicted=predict(settings_of(c), site),
        measured=measured | {"flops": count_flops(config, config.model)},
        tolerance=tolerances["compiled" if site.is_compiled else "eager"],
        predicted_with=own_versions(),
    )


def row_of(entry: Entry, facts: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [entry.name]
    for name in ("allocated_bytes", "reserved_bytes"):
        predicted, measured = entry.predicted[name], entry.measured[name]
        cells += [f"{predicted / 2**30:.3f}", f"{measured / 2**30:.3f}",
                  f"{predicted / measured - 1:+.2%}"]  # fmt: skip
    cells += [f"{entry.measured['outside_bytes'] / 2**30:.2f}"]
    cells += [f"{statistics.median(facts['step_seconds']) * 1e3:.1f}"]
    return f"| {' | '.join(cells)} |"


class Scratch(TorchDispatchMode):
    """What each operation takes for itself while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        out = func(*args, **(kwargs or {}))
        after = torch.cuda.memory_allocated()
        extra = torch.cuda.max_memory_allocated() - max(before, after)
        name = f"{func} {[tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]}"
        if extra:
            self.found[name] = max(extra, self.found.get(name, 0))
        return out


def scratch_of(config: RunConfig, site: Site) -> dict[str, int]:
    """What the operations of an eager step take for themselves, the most first."""
    gc.collect()
    step = RealStep(config, config.model, site)
    step.take()
    with Scratch() as scratch:
        step.take()
    return dict(sorted(scratch.found.items(), key=lambda item: -item[1]))


def measure(c: dict[str, Any], *, n_steps: int, lists_operations: bool) -> dict[str, Any]:
    """A line of what a case takes on this GPU."""
    config, site = config_and_site(c)
    torch.set_float32_matmul_precision("high" if c["precision"] == "tf32" else "highest")
    measured = measure_on_gpu(config, config.model, site, n_steps=n_steps)
    facts = facts_of(c, site, measured)
    if lists_operations and not c["compiled"]:
        facts["scratch"] = scratch_of(config, site)
    return facts


def main() -> None:
    """Measure all cases, or read what was measured elsewhere, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="gets a line of JSON for each measured case")
    parser.add_argument("--measured", type=Path, help="take the lines of this file instead")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--operations", action="store_true")
    parser.add_argument("--no-predictions", action="store_true", help="measure alone")
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=480)
    arguments = parser.parse_args()
    began = time.monotonic()
    if arguments.measured is None:
        print(describe_machine(torch.device("cuda")))
        chosen = [c for c in cases() if not arguments.only
                  or any(part in c["name"] for part in arguments.only)]  # fmt: skip
    else:
        chosen = [json.loads(line) for line in arguments.measured.read_text().splitlines()]
    print("Most memory in GiB: in tensors, reserved by PyTorch, and outside of it.")
    heads = ("case", "predicted", "measured", "error", "reserved: predicted", "measured", "error",
             "outside", "ms")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n| --- |{' ---: |' * (len(heads) - 1)}")
    for c in chosen:
        name = c["name"] if arguments.measured is None else c["case"]["name"]
        if time.monotonic() - began > arguments.seconds:
            print("out of time before", name)
            break
        try:
            facts = c
            if arguments.measured is None:
                facts = measure(c, n_steps=arguments.steps, lists_operations=arguments.operations)
                if arguments.out:
                    with arguments.out.open("a") as file:
                        file.write(json.dumps(facts) + "\n")
            if arguments.no_predictions:
                print(f"| {name} | {facts['allocated_bytes'] / 2**30:.3f} |", flush=True)
                continue
            entry = entry_of(facts)
            print(row_of(entry, facts), flush=True)
            for operation, n_bytes in list(facts.get("scratch", {}).items())[:12]:
                print(f"    {n_bytes / 2**20:9.2f} MiB {operation[:150]}")
            if arguments.ledger:
                append_entry(arguments.ledger, entry)
        except Exception as error:  # noqa: BLE001 - the other cases go on
            print(f"| {name} | failed: {str(error).splitlines()[:1]} |", flush=True)


if __name__ == "__main__":
    main()
