"""The bill afterwards: what a plan predicted beside what was measured, figure by figure."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modelwright.checkpoint.keeping import margin_bytes
from modelwright.checkpoint.resume import checkpoint_folders
from modelwright.config.loading import load_settings
from modelwright.planning.foresight import plan_file, read_plan
from modelwright.planning.measuring import Measured, count_flops
from modelwright.runtime.device import Machine
from modelwright.runtime.files import write_atomically
from modelwright.training.config import RunConfig
from modelwright.training.metrics import config_file, facts_file, is_taken, read_metrics

verify_file = "verify.json"
n_first_steps = 3  # whatever is loaded, compiled or tuned on the way is done by then
# What a record has of work between this step and the next.
besides_steps = ("samples", "tasks", "validation_loss")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One figure of the plan beside the same one of reality.

    Attributes:
        low: the least that was predicted, and the most; both are None where nothing was.
        high: see there.
        measured: None where it was not.
        note: how it was measured, or why not.
    """

    name: str
    unit: str
    low: float | None
    high: float | None
    measured: float | None
    note: str = ""

    @property
    def error(self) -> float | None:
        """The share of the measured by which the prediction is too high; below zero, too low.

        Inside of a predicted range it is zero, outside it counts from the nearer end.
        """
        if self.low is None or self.high is None or not self.measured:
            return None
        nearest = min(max(self.measured, self.low), self.high)
        return nearest / self.measured - 1

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"error": self.error}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What reality came to, each with how it was measured or why not.

    Attributes:
        step_seconds: in the median.
        saved_bytes: of a checkpoint.
    """

    n_parameters: tuple[float | None, str]
    flops: tuple[float | None, str]
    peak_bytes: tuple[float | None, str]
    reserved_bytes: tuple[float | None, str]
    step_seconds: tuple[float | None, str]
    saved_bytes: tuple[float | None, str]


def compare(plan: Mapping[str, Any], found: Found) -> list[Comparison]:
    """Every figure that can be measured, in the order in which a plan gives them.

    Args:
        plan: as `Plan.to_json` gives it.
    """
    memory, saved = plan["memory"], plan["disk"]["checkpoint_bytes"]
    on_gpu = memory["reserved_bytes"] is not None
    libraries = memory["outside_bytes"] - memory["context_bytes"]  # which PyTorch counts too
    peak = memory["peak_bytes"] + libraries
    seconds, tokens = plan["time"]["step_seconds"], plan["batch_tokens"]
    measured, how = found.step_seconds
    speed = (tokens / measured if measured else None, how)
    figures = [
        ("parameters", "", plan["n_parameters"], plan["n_parameters"], found.n_parameters),
        ("work of a step", "FLOPs", plan["work"]["model"], plan["work"]["model"], found.flops),
        ("peak memory", "bytes", peak, peak, found.peak_bytes),
    ]
    if on_gpu:
        reserved = memory["reserved_bytes"]
        figures.append(("reserved memory", "bytes", reserved, reserved, found.reserved_bytes))
    figures += [
        ("time of a step", "seconds", seconds["low"], seconds["high"], found.step_seconds),
        ("speed", "tokens/s", tokens / seconds["high"], tokens / seconds["low"], speed),
        ("checkpoint", "bytes", saved - margin_bytes, saved, found.saved_bytes),
    ]
    return [
        Comparison(name=name, unit=unit, low=low, high=high, measured=one[0], note=one[1])
        for name, unit, low, high, one in figures
    ]


def found_in_steps(measured: Measured, flops: int, *, on_gpu: bool, n_lanes: int = 1) -> Found:
    """What a few steps came to that were taken for their own sake.

    Args:
        flops: of the whole step, as PyTorch counts them.
        n_lanes: threads of a processor that work on portions; only one can be watched.
    """
    peak: tuple[float | None, str] = (measured.peak_bytes, "PyTorch's counter")
    if n_lanes > 1:
        peak = (None, f"only one of {n_lanes} lanes can be watched; --set training.lanes=1 does")
    elif not on_gpu:
        peak = (measured.peak_bytes, "every allocation of a tensor")
    return Found(
        n_parameters=(measured.n_parameters, "of the model that was built"),
        flops=(flops, counted_how),
        peak_bytes=peak,
        reserved_bytes=(measured.reserved_bytes, "PyTorch's counter"),
        step_seconds=(
            statistics.median(measured.step_seconds),
            f"the median of {len(measured.step_seconds)} steps",
        ),
        saved_bytes=(measured.saved_bytes, "the tensors of one, which was not written"),
    )


counted_how = "PyTorch counted the products of one sequence"


def found_in_run(run_folder: Path) -> Found:
    """What a run came to, from its records and its newest checkpoint.

    Raises:
        FileNotFoundError: if the folder holds no run.
    """
    records = [one for one in read_metrics(run_folder) if is_taken(one) and "step_seconds" in one]
    facts = json.loads((run_folder / facts_file).read_text())
    seconds = [one["step_seconds"] for one in records]
    seconds = seconds[n_first_steps:] or seconds[1:] or seconds
    on_gpu = facts["machine"]["gpu"] is not None
    return Found(
        n_parameters=(
            sum(group["n_parameters"] for group in facts["optimizer_groups"])
            - facts["parameters"].get("padding", 0),
            "of the tensors that the optimizer got",
        ),
        flops=(flops_of_run(run_folder, facts), counted_how),
        peak_bytes=_peak(records) if on_gpu else (None, no_peak),
        reserved_bytes=_most(records, "reserved_bytes", "PyTorch's counter, all of the run"),
        step_seconds=(statistics.median(seconds), f"the median of {len(seconds)} steps")
        if seconds
        else (None, "no step was taken"),
        saved_bytes=_newest_checkpoint_bytes(run_folder),
    )


no_peak = "a process's memory is more than its tensors; plan --verify measures those"


def flops_of_run(run_folder: Path, facts: Mapping[str, Any]) -> int:
    """The matrix products of a run's step, counted by PyTorch."""
    config = load_settings(RunConfig, run_folder / config_file).config
    n_vocab = config.model.vocab_size or facts["n_vocab"]
    return count_flops(config, replace(config.model, vocab_size=n_vocab))


def _peak(records: Sequence[Mapping[str, Any]]) -> tuple[float | None, str]:
    """The most of the steps that did nothing but learn: a record's memory begins at the last one's.

    The first step has no optimizer's state yet, and a step without memory took place twice.
    """
    plain = [
        after
        for before, after in itertools.pairwise(records)
        if "event" not in after and not any(name in before for name in besides_steps)
    ]
    if plain:
        return _most(plain, "memory_bytes", "PyTorch's counter, steps without an evaluation")
    return _most(records, "memory_bytes", "PyTorch's counter, an evaluation included")


def _most(records: Sequence[Mapping[str, Any]], name: str, how: str) -> tuple[float | None, str]:
    found = [one[name] for one in records if name in one]
    return (max(found), how) if found else (None, "not on record")


def _newest_checkpoint_bytes(run_folder: Path) -> tuple[float | None, str]:
    folders = checkpoint_folders(run_folder)
    if not folders:
        return None, "the run has no checkpoint"
    n_bytes = sum(path.stat().st_size for path in folders[-1].iterdir())
    return n_bytes, f"the files of {folders[-1].name}"


def differences_in_place(place: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Where a run did not come to what its plan had expected of "auto"."""
    pairs = {
        "precision": (place["precision"], facts["precision"]),
        "attention": (place["attention"], facts["attention"]),
        "compiled": (place["is_compiled"], facts["compiled"]),
        "micro_batch": (place["micro_batch"], facts["micro_batch"]),
        "lanes": (place["n_lanes"], facts["lanes"]),
    }
    return [
        f"{name}: planned {planned}, was {was}"
        for name, (planned, was) in pairs.items()
        if planned != was
    ]


def verify_run(run_folder: Path, machine: Machine) -> list[Comparison] | None:
    """Compare a run with its plan and write `verify.json` beside it.

    Args:
        machine: on which it ended.

    Returns:
        The comparisons; None if the run has no plan, or has not taken a step.
    """
    plan = read_plan(run_folder)
    if plan is None:
        return None
    found = found_in_run(run_folder)
    if found.step_seconds[0] is None:
        return None
    facts = json.loads((run_folder / facts_file).read_text())
    shrunk = [one["micro_batch"] for one in read_metrics(run_folder) if "micro_batch" in one]
    facts["micro_batch"] = shrunk[-1] if shrunk else facts["micro_batch"]
    comparisons = compare(plan, found)
    plain = {
        "machine": asdict(machine),
        "settings_sha256": plan["settings_sha256"],
        "place": plan["place"],
        "otherwise": differences_in_place(plan["place"], facts),
        "comparisons": [one.to_json() for one in comparisons],
    }
    write_atomically(run_folder / verify_file, json.dumps(plain, indent=2) + "\n")
    return comparisons


def read_verified(run_folder: Path) -> dict[str, Any]:
    """What was written of a run by `verify_run`.

    Raises:
        FileNotFoundError: if it was never compared; says what is missing.
        ValueError: if the file is damaged.
    """
    path = run_folder / verify_file
    if not path.is_file():
        why = (
            "it is written when a run ends or stops after a step"
            if (run_folder / plan_file).is_file()
            else f"it has no {plan_file} to be compared with either"
        )
        raise FileNotFoundError(f"{run_folder} holds no {verify_file}; {why}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; train --resume writes it anew") from None


def comparisons_in(verified: Mapping[str, Any]) -> list[Comparison]:
    """The comparisons of a `verify.json`."""
    names = Comparison.__dataclass_fields__
    return [
        Comparison(**{key: value for key, value in one.items() if key in names})
        for one in verified["comparisons"]
    ]


def render_comparisons(comparisons: Sequence[Comparison]) -> str:
    """A table of four columns, each figure with how it was measured."""
    rows = [("", "predicted", "measured", "error", "")]
    rows += [(*cells(one), one.note) for one in comparisons]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  "
        f"{row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    )


def cells(one: Comparison) -> tuple[str, str, str, str]:
    """A comparison in words: name, predicted, measured, error."""
    predicted = "–"
    if one.low is not None and one.high is not None:
        low, high = amount(one.low, one.unit), amount(one.high, one.unit)
        predicted = low if low == high else f"{low} to {high}"
    measured = "–" if one.measured is None else amount(one.measured, one.unit)
    return one.name, predicted, measured, _error(one)


def _error(one: Comparison) -> str:
    if one.error is None:
        return "–"
    if one.error == 0:
        return "exact" if one.low == one.high else "in the range"
    if one.error >= 1:
        return f"x {1 + one.error:.3g}"
    return f"{one.error:+.2%}" if abs(one.error) < 0.1 else f"{one.error:+.0%}"


def amount(value: float, unit: str) -> str:
    """A figure for people, in the unit that suits it."""
    if unit == "bytes":
        size, name = next(
            (each for each in ((2**30, "GiB"), (2**20, "MiB")) if value >= each[0]), (2**10, "KiB")
        )
        return f"{value / size:,.3f} {name}"
    if unit == "seconds":
        return f"{value:.3f} s" if value >= 1 else f"{value * 1000:.3g} ms"
    if unit == "FLOPs":
        return f"{value:.4e} FLOPs"
    return f"{value:,.0f} {unit}".rstrip()
