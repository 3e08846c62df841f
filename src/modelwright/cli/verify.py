"""`modelwright plan --verify`: predicted beside measured, by steps taken now or of a whole run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modelwright.accounting.hardware import Device
    from modelwright.training.config import RunConfig


def show_verified(
    recipe_or_run: Path | None,
    overrides: list[str],
    on: str | None,
    others: "Mapping[str, object]",
    *,
    as_json: bool,
) -> None:
    """Print what was predicted beside what is measured.

    Args:
        recipe_or_run: a recipe, of which steps are taken; or a run folder.
        others: options of `modelwright plan` that ask for something else.

    Raises:
        ValueError: if one of those is given, or what only a recipe can have with a run.
    """
    for name, value in others.items():
        if value not in (None, False):
            raise ValueError(f"{name} and --verify are two questions; ask them one by one")
    if recipe_or_run is not None and recipe_or_run.is_dir():
        if overrides or on:
            raise ValueError(
                f"{recipe_or_run} is a run, whose settings and device stand; leave --set and --on "
                "out, or give a recipe"
            )
        show_run(recipe_or_run, as_json=as_json)
        return
    from modelwright.cli.plan import named_devices
    from modelwright.config.loading import load_settings
    from modelwright.training.config import RunConfig

    config = load_settings(RunConfig, recipe_or_run, overrides).config
    show_steps(config, named_devices(on), as_json=as_json)


def show_run(run_folder: Path, *, as_json: bool) -> None:
    """Print what a run that ended or was stopped had been compared to."""
    from modelwright.planning.verify import comparisons_in, read_verified, render_comparisons

    verified = read_verified(run_folder)
    if as_json:
        print(json.dumps(verified, indent=2))
        return
    machine = verified["machine"]
    print(f"{machine['gpu'] or machine['processor']}, torch {machine['torch']}")
    for other in verified["otherwise"]:
        print(f"other than planned: {other}")
    print(f"\n{render_comparisons(comparisons_in(verified))}")


def show_steps(config: "RunConfig", devices: "list[Device | None]", *, as_json: bool) -> None:
    """Plan a run, take a few of its steps here, and print both."""
    if len(devices) > 1:
        raise ValueError("--verify takes steps on one device; name one with --on")
    from modelwright.planning.verify_here import require_here

    device = devices[0]
    where = require_here(device)

    import dataclasses

    from modelwright.planning.choosing import settle_recompute
    from modelwright.planning.plan import make_plan
    from modelwright.planning.render import headline
    from modelwright.planning.stored_rates import stored_rates
    from modelwright.planning.verify import render_comparisons
    from modelwright.planning.verify_here import verify_here
    from modelwright.runtime.device import describe_machine

    config = settle_recompute(config, device)
    plan = make_plan(config, device, rates=stored_rates(device))
    comparisons = verify_here(config, plan, device)
    machine = describe_machine(where)
    if as_json:
        plain = {
            "machine": dataclasses.asdict(machine),
            "place": dataclasses.asdict(plan.place),
            "comparisons": [one.to_json() for one in comparisons],
        }
        print(json.dumps(plain, indent=2))
        return
    print(f"{headline(plan)}\n{machine.gpu or machine.processor}, torch {machine.torch}\n")
    print(render_comparisons(comparisons))
