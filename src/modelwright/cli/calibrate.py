"""`modelwright calibrate`: measure this machine, so that plans say how long a step takes."""

from typing import TYPE_CHECKING

import typer

from modelwright.cli.display import progress_bars

if TYPE_CHECKING:
    from modelwright.accounting.rates import Rates


def calibrate(
    on: str = typer.Option(
        "auto", "--on", metavar="cpu|cuda|auto", help="What to measure; auto takes a GPU if any."
    ),
) -> None:
    """Measure what this machine does, in about two minutes, and keep it for `modelwright plan`.

    Leave the machine alone meanwhile: what else it does makes it look slower.
    """
    if on not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--on is {on!r}; use 'cpu', 'cuda', or 'auto'")
    import torch

    from modelwright.planning.calibrating import calibrate as measure
    from modelwright.planning.stored_rates import keep_rates

    name = "cuda" if on == "cuda" or (on == "auto" and torch.cuda.is_available()) else "cpu"
    with progress_bars() as bars:
        rates = measure(torch.device(name), on_progress=bars)
    file = keep_rates(rates)
    print(summary(rates))
    print(f"kept in  {file}")


def summary(rates: "Rates") -> str:
    """What was found, a line each."""
    machine = rates.machine
    lines = [f"{machine.gpu or machine.processor}, torch {machine.torch}"]
    for precision, flops in rates.flops_per_second.items():
        lines.append(f"  {precision:<5} {flops / 1e12:8.2f} teraflops in the best matrix product")
    lines.append(f"  copy  {rates.bytes_per_second / 1e9:8.1f} GB/s, read and written together")
    if rates.host is not None:
        host = rates.host
        lines.append(
            f"  the processor needs {host.operation * 1e6:.0f} µs to hand out an operation, "
            f"{host.program * 1e6:.0f} µs to enter a compiled block"
        )
    return "\n".join(lines)
