"""The plan of a run for the very device that it is on, kept in the run's folder as `plan.json`."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from modelwright.accounting.hardware import Device, Peak, device_of, peak_flops
from modelwright.accounting.measured_peak import measured_bandwidth
from modelwright.config.loading import to_toml
from modelwright.planning.choosing import settle_recompute
from modelwright.planning.plan import Plan, make_plan
from modelwright.planning.stored_rates import stored_rates
from modelwright.runtime.device import Precision, choose_device, choose_precision
from modelwright.runtime.files import write_atomically
from modelwright.training.assembly import Prepared
from modelwright.training.config import RunConfig

plan_file = "plan.json"


def device_here(device: torch.device, precision: Precision, peak: Peak) -> Device | None:
    """A device that is here, as a plan takes it; None is the processor.

    Args:
        peak: what stands in for a data sheet where the table does not know the GPU.
    """
    if device.type != "cuda":
        return None
    known = device_of(torch.cuda.get_device_name(device))
    return known or reported_device(device, precision, peak)


def reported_device(device: torch.device, precision: Precision, peak: Peak) -> Device:
    """A GPU that the table does not know: what CUDA reports of it, and what was measured."""
    facts = torch.cuda.get_device_properties(device)
    return Device(
        key="this-gpu",
        title=facts.name,
        names="",
        capability=(facts.major, facts.minor),
        peaks={precision: peak.flops_per_second},
        bandwidth_bytes_per_second=measured_bandwidth(device),
        interconnect_bytes_per_second=None,
        memory_bytes=facts.total_memory,
        reported_bytes=facts.total_memory,
        reported_source="CUDA",
        reported_date=None,
        watts=0.0,
        source=peak.source,
        source_date="",
        price_per_hour_usd=None,
        price_source=None,
        price_date=None,
    )


def settle_here(config: RunConfig) -> RunConfig:
    """A config with what it left to the plan, settled for the device that a run would take here."""
    if config.training.recompute != "auto":
        return config
    device = choose_device(config.training.device)
    precision = choose_precision(config.training.precision, device)
    return settle_recompute(config, device_here(device, precision, peak_flops(device, precision)))


def config_to_plan(prepared: Prepared) -> RunConfig:
    """A run's config with the vocabulary that its tokenizer and its model really have."""
    n_vocab = prepared.data.tokenizer.n_vocab
    tokenizer = dataclasses.replace(prepared.config.tokenizer, vocab_size=n_vocab)
    return dataclasses.replace(prepared.config, model=prepared.model.config, tokenizer=tokenizer)


def plan_run(prepared: Prepared) -> Plan:
    """The plan of a run that is about to begin, on its device.

    Raises:
        ValueError: if it cannot be planned.
    """
    device = device_here(prepared.device, prepared.precision, prepared.peak)
    plan = make_plan(config_to_plan(prepared), device, rates=stored_rates(device))
    given = prepared.config.model.vocab_size is not None
    return plan if given else dataclasses.replace(plan, vocab_source="the run's tokenizer")


def keep_plan(run_folder: Path, prepared: Prepared) -> None:
    """Write a run's plan into its folder, unless one of these very settings is there already.

    Raises:
        ValueError: if it cannot be planned.
    """
    if not is_planned(run_folder, prepared.config):
        write_plan(run_folder, prepared.config, plan_run(prepared))


def is_planned(run_folder: Path, config: RunConfig) -> bool:
    """Whether a plan of these very settings is in a run's folder."""
    there = read_plan(run_folder)
    return there is not None and there.get("settings_sha256") == settings_hash(config)


def write_plan(run_folder: Path, config: RunConfig, plan: Plan) -> None:
    """Write the plan of a run of these settings into its folder."""
    plain = {"settings_sha256": settings_hash(config)} | plan.to_json()
    write_atomically(run_folder / plan_file, json.dumps(plain, indent=2) + "\n")


def read_plan(run_folder: Path) -> dict[str, Any] | None:
    """The plan in a run's folder; None if there is none that can be read."""
    try:
        return json.loads((run_folder / plan_file).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def settings_hash(config: RunConfig) -> str:
    """By which a plan knows the settings that it was made for."""
    return hashlib.sha256(to_toml(config).encode()).hexdigest()
