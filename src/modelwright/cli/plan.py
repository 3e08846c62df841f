"""`modelwright plan`: what a run will take and cost, before it begins and on any device."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from modelwright.accounting.hardware import Device


def plan(
    recipe: Path | None = typer.Argument(None, help="A recipe in TOML; none plans the defaults."),
    overrides: list[str] = typer.Option(
        [], "--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated."
    ),
    on: str | None = typer.Option(
        None,
        "--on",
        metavar="DEVICE[,DEVICE]",
        help="Devices such as h100, t4, rtx-4090, or cpu; left out, this machine's processor.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the plans as JSON instead."),
    max_batch: bool = typer.Option(
        False, "--max-batch", help="Also find the largest micro-batch that fits; takes longer."
    ),
    explain: str | None = typer.Option(
        None, "--explain", metavar="peak", help="Show the sum at the fullest moment of a step."
    ),
) -> None:
    """Say whether a run fits, how long it takes and what it costs, without running it.

    The trainer's own step is followed on tensors that hold no numbers: no GPU is needed.
    """
    if explain not in (None, "peak"):
        raise ValueError(f"--explain is {explain!r}, but only the peak can be explained: 'peak'")
    import gc
    import json

    gc.disable()  # a trace makes many objects, and the process ends after a few
    devices = named_devices(on)

    from modelwright.config.loading import load_settings
    from modelwright.planning.plan import make_plan
    from modelwright.planning.render import explain_peak, render
    from modelwright.training.config import RunConfig

    config = load_settings(RunConfig, recipe, overrides).config
    plans = [make_plan(config, device, max_batch=max_batch) for device in devices]
    if as_json:
        print(json.dumps([one.to_json() for one in plans], indent=2))
        return
    for number, one in enumerate(plans):
        if number:
            print()
        print(render(one))
        if explain:
            print(f"\n{explain_peak(one)}")


def named_devices(on: str | None) -> "list[Device | None]":
    """The devices of a comma-separated list; None stands for this machine's processor.

    Raises:
        ValueError: if one of them is not known.
    """
    from modelwright.accounting.hardware import device_named

    keys = [key.strip() for key in (on or "cpu").split(",") if key.strip()]
    if not keys:
        raise ValueError(f"--on is {on!r}, which names no device; use for example --on h100,t4")
    return [None if key.lower() == "cpu" else device_named(key) for key in keys]
