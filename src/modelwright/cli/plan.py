"""`modelwright plan`: what a run will take and cost, before it begins and on any device."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelwright.cli.verify import show_verified

if TYPE_CHECKING:
    from modelwright.accounting.hardware import Device
    from modelwright.planning.plan import Plan


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
    gpus: int | None = typer.Option(
        None,
        "--gpus",
        metavar="N",
        help="Also plan for so many GPUs of each device, by each way to share a step.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the plans as JSON instead."),
    max_batch: bool = typer.Option(
        False, "--max-batch", help="Also find the largest micro-batch that fits; takes longer."
    ),
    explain: str | None = typer.Option(
        None, "--explain", metavar="peak", help="Show the sum at the fullest moment of a step."
    ),
    inference: bool = typer.Option(
        False, "--inference", help="Also say what using the model takes, and how fast it can be."
    ),
    context: int | None = typer.Option(
        None, "--context", help="Tokens of a text, for --inference; left out, the model's context."
    ),
    batch: int | None = typer.Option(
        None, "--batch", help="Texts at the same time, for --inference; left out, one."
    ),
    report: Path | None = typer.Option(
        None, "--report", metavar="FILE.html", help="Write the plans as a page here, with pictures."
    ),
    force: bool = typer.Option(False, "--force", help="Write over a page that is there."),
    verify: bool = typer.Option(
        False, "--verify", help="Take a few steps here and compare; or of a run folder, show that."
    ),
) -> None:
    """Say whether a run fits, how long it takes and what it costs, without running it.

    The trainer's own step is followed on tensors that hold no numbers: no GPU is needed.
    """
    if explain not in (None, "peak"):
        raise ValueError(f"--explain is {explain!r}, but only the peak can be explained: 'peak'")
    if not inference and (context is not None or batch is not None):
        raise ValueError(
            "--context and --batch are for --inference, so add that; what training has is changed "
            "with --set model.context=... or --set training.batch_tokens=..."
        )
    if report is not None:
        _require_new(report, force=force)
    if verify:
        others = {"--gpus": gpus, "--max-batch": max_batch, "--explain": explain}
        others |= {"--inference": inference, "--report": report}
        show_verified(recipe, overrides, on, others, as_json=as_json)
        return
    import dataclasses
    import gc
    import json

    gc.disable()  # a trace makes many objects, and the process ends after a few
    devices = named_devices(on)

    from modelwright.config.loading import load_settings
    from modelwright.planning.choosing import settle_recompute
    from modelwright.planning.inference import plan_inference
    from modelwright.planning.plan import make_plan
    from modelwright.planning.ranks import (
        fewest_gpus,
        fewest_line,
        make_ranks,
        render_ranks,
        require_divisible,
    )
    from modelwright.planning.render import explain_peak, render
    from modelwright.planning.render_inference import render_inference
    from modelwright.planning.stored_rates import stored_rates
    from modelwright.training.config import RunConfig

    loaded = load_settings(RunConfig, recipe, overrides).config
    runs = [(settle_recompute(loaded, device), device) for device in devices]
    if gpus is not None:
        for config, device in runs:
            require_divisible(config, device, gpus)
    used = [
        plan_inference(config, device, context=context, batch=1 if batch is None else batch)
        for config, device in runs
        if inference
    ]
    plans = [
        make_plan(config, device, rates=stored_rates(device), max_batch=max_batch)
        for config, device in runs
    ]
    if inference:
        plans = [
            dataclasses.replace(one, inference=use) for one, use in zip(plans, used, strict=True)
        ]
    ranks = [
        None if gpus is None else make_ranks(config, device, gpus, too_few=int(not one.memory.fits))
        for (config, device), one in zip(runs, plans, strict=True)
    ]
    if report is not None:
        _write_page(report, recipe, plans)
    if as_json:
        shared = [{"ranks": several.to_json()} if several else {} for several in ranks]
        both = zip(plans, shared, strict=True)
        print(json.dumps([one.to_json() | several for one, several in both], indent=2))
        return
    for number, ((config, device), one, several) in enumerate(zip(runs, plans, ranks, strict=True)):
        if number:
            print()
        print(render(one))
        if several is not None:
            print(f"\n{render_ranks(several)}")
        elif device is not None and not one.memory.fits:
            print(f"\n{fewest_line(fewest_gpus(config, device, too_few=1), device.key)}")
        if explain:
            print(f"\n{explain_peak(one)}")
        if inference:
            print(f"\n{render_inference(one.inference, one.place.title)}")
    if report is not None:
        print(f"\nreport: {report}")


def _require_new(report: Path, *, force: bool) -> None:
    """Refuse a page that cannot be written, or that would replace one.

    Raises:
        FileExistsError: if there is one and nobody said to write over it.
    """
    from modelwright.runtime.files import require_writable

    if report.exists() and not force:
        raise FileExistsError(f"{report} is there already; choose another --report, or add --force")
    require_writable(report.parent)


def _write_page(report: Path, recipe: Path | None, plans: "list[Plan]") -> None:
    from modelwright.experiments.plan_report import plan_page
    from modelwright.runtime.files import write_atomically

    name = "The plan of the defaults" if recipe is None else f"The plan of {recipe.stem}"
    report.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(report, plan_page(name, plans))


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
