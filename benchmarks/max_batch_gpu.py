"""The largest portion that the plan says fits, on a GPU: it does, and one sequence more does not.

    python benchmarks/max_batch_gpu.py [--seconds 300] [--largest 45,19,...]

Finding the portions needs no GPU and takes a while; --largest says what was found before, in order.
"""

import argparse
import dataclasses
import gc
import time

import torch

from modelwright.accounting.hardware import device_of
from modelwright.config.loading import load_settings
from modelwright.planning.fit import largest_micro_batch, room_bytes
from modelwright.planning.measuring import RealStep
from modelwright.planning.step import Site
from modelwright.runtime.device import describe_machine
from modelwright.training.choices import chosen_kernels
from modelwright.training.config import RunConfig

cases = [
    ("gpt2-large", "bf16", True, ()),
    ("gpt2-xl", "bf16", False, ()),
    ("gpt2-medium", "fp32", False, ("model.context=2048",)),
    ("gpt2-xl-swiglu", "bf16", True, ()),
    ("gpt2-xl", "bf16", True, ("training.recompute=selective",)),
    ("gpt2-medium", "bf16", True, ("model.context=2048", "model.mlp=swiglu", "model.norm=rmsnorm")),
    ("gpt2-xl", "fp32", False, ()),
    ("gpt2-xl-swiglu", "bf16", False, ()),
]


def config_of(preset: str, settings: tuple[str, ...], n_sequences: int) -> RunConfig:
    """A run of that many sequences a step."""
    overrides = [f"model.preset={preset}", "tokenizer.vocab_size=300", "model.vocab_multiple=64"]
    overrides += list(settings)
    context = load_settings(RunConfig, None, overrides).config.model.context
    overrides += [f"training.batch_tokens={n_sequences * context}"]
    return load_settings(RunConfig, None, overrides).config


def outcome(config: RunConfig, site: Site) -> str:
    """What comes of three steps: the most memory in GiB, or that there was too little."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.compiler.reset()
    torch.cuda.reset_peak_memory_stats()
    try:
        step = RealStep(config, config.model, site)
        for _ in range(3):
            step.take()
    except (torch.OutOfMemoryError, MemoryError):
        return "out of memory"
    return f"fits: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB in tensors"


def main() -> None:
    """Run them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--largest", help="portions found before, divided by commas")
    began = time.monotonic()
    arguments = parser.parse_args()
    known = [int(n) for n in arguments.largest.split(",")] if arguments.largest else []
    print(describe_machine(torch.device("cuda")))
    device = device_of(torch.cuda.get_device_name())
    if device is None:
        raise SystemExit("this GPU is not in the table of devices")
    free, total = torch.cuda.mem_get_info()
    print(f"{total / 2**30:.2f} GiB there, {free / 2**30:.2f} free, the table has "
          f"{device.usable_bytes / 2**30:.2f}")  # fmt: skip
    print("| case | largest portion | with it | with one sequence more |")
    print("| --- | ---: | --- | --- |")
    for number, (preset, precision, is_compiled, settings) in enumerate(cases):
        if time.monotonic() - began > arguments.seconds:
            print("out of time before", preset, settings)
            break
        short = precision in ("bf16", "fp16")
        config = config_of(preset, settings, 512)
        site = Site(
            device="cuda",
            dtype=torch.bfloat16 if short else torch.float32,
            attention="flash" if short else "efficient",
            is_compiled=is_compiled,
            micro_batch=1,
            n_batches=1,
            capability=torch.cuda.get_device_capability(),
            kernels=chosen_kernels(config, torch.device("cuda")),
        )
        if number < len(known):
            largest = known[number]
        else:
            largest = largest_micro_batch(config, config.model, site, room_bytes(device)) or 0
        found = []
        for n in (largest, largest + 1):
            there = dataclasses.replace(site, micro_batch=n)
            found.append(outcome(config_of(preset, settings, 2 * n), there))
        name = " ".join([preset, precision, *settings, *(["compiled"] if is_compiled else [])])
        print(f"| {name} | {largest} | {found[0]} | {found[1]} |", flush=True)


if __name__ == "__main__":
    main()
