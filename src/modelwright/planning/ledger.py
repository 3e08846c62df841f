"""The record of configurations that were planned and measured: a line of JSON each.

`docs/results/ledger.jsonl` keeps them, with all that is needed to make a prediction again: when one
comes out otherwise than it is on record, somebody has to measure anew.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from modelwright.accounting.allocator import reserved_by
from modelwright.accounting.flops import training_flops
from modelwright.accounting.parameters import count_parameters
from modelwright.config.loading import load_settings
from modelwright.planning.gpu_operations import library_workspaces
from modelwright.planning.site import planned_shape
from modelwright.planning.step import Site, trace_step
from modelwright.training.config import RunConfig

# By what share a prediction may miss its measurement; the blocks between tensors are known less.
tolerances = {
    "eager": {"allocated_bytes": 0.01, "reserved_bytes": 0.06},
    "compiled": {"allocated_bytes": 0.05, "reserved_bytes": 0.06},
}
most_drift = 0.001  # from a prediction on record to the same one now


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A configuration, what was predicted of it, and what came of it.

    Attributes:
        date: of the measurement.
        hardware: as the system names it.
        versions: of what it was measured with.
        settings: over the defaults, as `--set` takes them.
        precision: of the products; tf32 and fp32 differ in nothing but time.
        site: where a step runs, as `site_facts` gives it.
        predicted: figures by name: `allocated_bytes`, `reserved_bytes`, `n_parameters`, `flops`.
        measured: the same, as far as they were; and others that nobody predicted.
        tolerance: by what share the two may differ, by name; other figures agree to the last digit.
        predicted_with: versions of what the prediction was made with.
        is_rounded: whether the measured bytes are those of a printed table.
        time: seconds and what belongs to them, once there are some.
    """

    name: str
    date: str
    hardware: str
    versions: dict[str, str]
    settings: list[str]
    precision: str
    site: dict[str, Any]
    predicted: dict[str, float]
    measured: dict[str, float]
    tolerance: dict[str, float]
    predicted_with: dict[str, str]
    is_rounded: bool = False
    time: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_compiled(self) -> bool:
        return self.site["is_compiled"]

    def misses(self) -> list[str]:
        """Where the prediction on record is further from the measurement than it may be."""
        found = []
        for name, predicted in self.predicted.items():
            measured = self.measured.get(name)
            if measured is None:
                continue
            error = predicted / measured - 1
            if abs(error) > self.tolerance.get(name, 0):
                found.append(
                    f"{name}: predicted {predicted:,}, measured {measured:,}, off by {error:+.2%}, "
                    f"where {self.tolerance.get(name, 0):.0%} is allowed"
                )
        return found

    def drift(self, now: Mapping[str, float]) -> list[str]:
        """Where a prediction made now is another one than that on record."""
        return [
            f"{name}: on record {was:,}, now {now[name]:,}"
            for name, was in self.predicted.items()
            if abs(now[name] / was - 1) > most_drift
        ]


def predict(settings: Sequence[str], site: Site) -> dict[str, float]:
    """What is said of a configuration today, by the names of the ledger.

    Args:
        settings: over the defaults, as `--set` takes them.
    """
    config = load_settings(RunConfig, None, list(settings)).config
    shape, _ = planned_shape(config)
    trace = trace_step(config, shape, site).trace
    figures: dict[str, float] = {
        "allocated_bytes": trace.peak_bytes,
        "n_parameters": count_parameters(shape).total,
        "flops": training_flops(shape, batch=config.batch_size, seq=shape.context),
    }
    if site.device == "cuda":
        held = reserved_by(trace, workspaces=library_workspaces(site.capability))
        figures["allocated_bytes"] = held.allocated_bytes
        figures["reserved_bytes"] = held.reserved_bytes
    return figures


def site_facts(site: Site) -> dict[str, Any]:
    """A site in plain values."""
    plain = dataclasses.asdict(site)
    plain["dtype"] = str(site.dtype).removeprefix("torch.")
    plain["capability"] = None if site.capability is None else list(site.capability)
    return plain


def site_of(facts: Mapping[str, Any]) -> Site:
    """The site that `site_facts` wrote down."""
    capability = facts["capability"]
    changed = {
        "dtype": getattr(torch, facts["dtype"]),
        "capability": None if capability is None else tuple(capability),
    }
    return Site(**(dict(facts) | changed))


def read_ledger(path: Path) -> list[Entry]:
    """All entries, in the order in which they were made.

    Raises:
        ValueError: if a line is not an entry.
    """
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}, line {number}, is not an entry: {error}") from None
    return entries


def append_entry(path: Path, entry: Entry) -> None:
    """Add an entry at the end."""
    plain = dataclasses.asdict(entry)
    if not entry.time:
        del plain["time"]
    if not entry.is_rounded:
        del plain["is_rounded"]
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(plain, ensure_ascii=False) + "\n")
