"""The plan's step time beside the measured one, after this machine has been calibrated.

    python benchmarks/plan_time.py [--out FILE] [--rates FILE] [--seconds 400]

The shapes are none of those that calibration measures. Prints a table in Markdown; a step is said
to wait for the processor where more than a tenth of it goes by without work for the GPU.
"""

import argparse
import gc
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from modelwright.accounting.measured_peak import float32_products
from modelwright.accounting.rates import read_rates
from modelwright.config.loading import load_settings
from modelwright.planning.calibrating import calibrate
from modelwright.planning.measuring import RealStep
from modelwright.planning.site import dtypes
from modelwright.planning.step import Site, trace_step
from modelwright.planning.timing import StepTime, step_time
from modelwright.runtime.device import Precision, describe_machine
from modelwright.training.choices import chosen_kernels
from modelwright.training.config import RunConfig

llama = ("model.norm=rmsnorm", "model.mlp=swiglu", "model.positions=rope", "model.bias=false")


def shaped(n_layers: int, d_model: int, n_heads: int, *others: str) -> tuple[str, ...]:
    """Settings of a model of some size."""
    sizes = (f"model.n_layers={n_layers}", f"model.d_model={d_model}", f"model.n_heads={n_heads}")
    return ("model.preset=gpt2-small", *sizes, *others)


def cases() -> list[tuple[tuple[str, ...], int, int, int, Precision]]:
    """Settings, portions, sequences of each, positions, precision."""
    small, medium, large, xl = (
        (f"model.preset=gpt2-{size}",) for size in ("small", "medium", "large", "xl")
    )
    return [
        (small, 1, 12, 1024, "bf16"),
        (small, 1, 24, 1024, "bf16"),
        (small, 1, 48, 1024, "bf16"),
        (small, 1, 40, 640, "bf16"),
        (small, 1, 12, 2048, "bf16"),
        (small, 3, 20, 1024, "bf16"),
        (small, 1, 12, 1024, "tf32"),
        (small, 1, 6, 1024, "fp32"),
        (small, 1, 20, 1024, "fp16"),
        ((*small, "training.recompute=blocks"), 1, 40, 1024, "bf16"),
        (medium, 1, 12, 1024, "bf16"),
        (medium, 1, 20, 768, "bf16"),
        (large, 1, 6, 1024, "bf16"),
        (large, 1, 12, 1024, "bf16"),
        (large, 2, 8, 1024, "bf16"),
        (xl, 1, 6, 1024, "bf16"),
        ((*xl, "training.recompute=blocks"), 1, 12, 1024, "bf16"),
        (shaped(20, 896, 14, *llama), 1, 20, 1024, "bf16"),
        (shaped(12, 1280, 10, *llama), 1, 10, 2048, "bf16"),
        (shaped(10, 1792, 14, *llama, "model.n_kv_heads=7"), 1, 6, 1536, "bf16"),
        (shaped(8, 2304, 18, *llama), 1, 8, 1024, "bf16"),
        (shaped(16, 640, 10), 1, 40, 512, "bf16"),
    ]


def config_and_site(
    case: tuple[tuple[str, ...], int, int, int, Precision], *, is_compiled: bool
) -> tuple[RunConfig, Site]:
    """What a case comes to on this GPU."""
    settings, n_portions, micro_batch, context, precision = case
    overrides = [*settings, f"model.context={context}", "tokenizer.vocab_size=300"]
    overrides += [f"training.batch_tokens={n_portions * micro_batch * context}"]
    overrides += ["model.vocab_multiple=64"]
    config = load_settings(RunConfig, None, overrides).config
    return config, Site(
        device="cuda",
        dtype=dtypes[precision],
        attention="flash" if precision in ("bf16", "fp16") else "efficient",
        is_compiled=is_compiled,
        micro_batch=micro_batch,
        capability=torch.cuda.get_device_capability(),
        kernels=chosen_kernels(config, torch.device("cuda")),
    )


def measured_steps(config: RunConfig, site: Site, precision: Precision) -> list[float]:
    """Seconds of at least seven steps, once warm."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.compiler.reset()
    with float32_products(torch.device("cuda"), precision):
        step = RealStep(config, config.model, site)
        for _ in range(3):
            last = step.take()
        n_rounds, in_a_row = max(7, min(15, int(0.3 / last))), 5
        return [step.take_many(in_a_row) / in_a_row for _ in range(n_rounds)]


def main() -> None:
    """Calibrate, predict, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rates", type=Path, help="read from here if there, else written here")
    parser.add_argument("--seconds", type=float, default=400)
    arguments = parser.parse_args()
    print(describe_machine(torch.device("cuda")))
    began = time.monotonic()
    if arguments.rates and arguments.rates.exists():
        rates = read_rates(arguments.rates)
    else:
        rates = calibrate(torch.device("cuda"))
        if arguments.rates:
            arguments.rates.write_text(rates.to_json())
    print(f"calibrated in {time.monotonic() - began:.0f} s; {rates.host}; {rates.shares}")
    best = {name: f"{rate / 1e12:.0f}" for name, rate in rates.flops_per_second.items()}
    print(f"{rates.bytes_per_second / 1e9:.0f} GB/s, {best} teraflops")
    print("| case | predicted ms | measured | least | error | busy | waits |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    errors: dict[bool, list[float]] = {False: [], True: []}
    for case in cases():
        for is_compiled in (True, False):
            if time.monotonic() - began > arguments.seconds:
                print("out of time before", case)
                break
            config, site = config_and_site(case, is_compiled=is_compiled)
            try:
                followed = trace_step(config, config.model, site)
                predicted = step_time(followed, rates, case[-1], looks_ahead=True)
                seconds = measured_steps(config, site, case[-1])
            except torch.OutOfMemoryError:
                print("| does not fit:", case, "|")
                continue
            error = predicted.step / statistics.median(seconds) - 1
            errors[predicted.waits_for_host].append(abs(error))
            print(row(case, is_compiled, predicted, seconds), flush=True)
            if arguments.out:
                line: dict[str, Any] = {"case": case, "compiled": is_compiled, "seconds": seconds}
                line |= {"predicted": vars(predicted)}
                with arguments.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
    for waits, found in errors.items():
        if found:
            name = "waiting for the processor" if waits else "GPU at work"
            print(f"{name}: {len(found)} cases, median error {statistics.median(found):.1%}, "
                  f"worst {max(found):.1%}")  # fmt: skip


def row(case: Any, is_compiled: bool, predicted: StepTime, seconds: list[float]) -> str:
    """A line of the table."""
    settings, n_portions, micro_batch, context, precision = case
    name = " ".join(s.partition(".")[2] for s in settings)
    name += f" {n_portions}x{micro_batch}x{context} {precision}"
    measured = statistics.median(seconds)
    return (
        f"| {name}{' compiled' if is_compiled else ''} | {predicted.step * 1e3:.1f} "
        f"| {measured * 1e3:.1f} | {min(seconds) * 1e3:.1f} "
        f"| {predicted.step / measured - 1:+.1%} | {predicted.busy * 1e3:.1f} "
        f"| {'yes' if predicted.waits_for_host else ''} |"
    )


if __name__ == "__main__":
    main()
