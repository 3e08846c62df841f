"""The page that goes with an exported model: what it is, what it learned from, what it cost.

Where the model lies in a run folder, its figures come from the run's own records; whatever is not
there is left out.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelwright.accounting.parameters import count_parameters
from modelwright.checkpoint.bundle import Bundle
from modelwright.interop.agreement import Agreement
from modelwright.model.config import ModelConfig

facts_file = "run.json"
metrics_file = "metrics.jsonl"
plan_file = "plan.json"
verify_file = "verify.json"
config_file = "config.toml"


def model_card(
    bundle: Bundle,
    name: str,
    *,
    dtype: str,
    family: str,
    agreement: Agreement | None = None,
    check: str = "",
) -> str:
    """The card as Markdown, with the header that the Hugging Face hub reads.

    Args:
        name: of the model.
        family: what the format calls such a model.
        agreement: how far another program's logits are from ours, if it was asked.
        check: a sentence on how a file was checked, for formats that are checked otherwise.
    """
    config = bundle.model.config
    run = run_folder_of(bundle.folder)
    n_parameters = count_parameters(config).total
    sections = [
        f"---\npipeline_tag: text-generation\ntags:\n- modelwright\n- {family}\n---\n\n# {name}\n",
        f"A language model of {n_parameters:,} parameters in {dtype}, exported by modelwright as "
        f"`{family}`.\n",
        _shape(config),
        *(_records(run, bundle.folder) if run else ()),
        "## Check\n\n" + (check or _checked(agreement)) + "\n",
    ]
    return "\n".join(sections)


def run_folder_of(folder: Path) -> Path | None:
    """The run that a checkpoint belongs to, if it lies in one."""
    parents = folder.resolve().parents
    if (
        len(parents) > 1
        and parents[0].name == "checkpoints"
        and (parents[1] / facts_file).is_file()
    ):
        return parents[1]
    return None


def in_words(agreement: Agreement) -> str:
    """What a comparison found, in a sentence."""
    rounding = (
        f"; storing fewer bits moves one by up to {agreement.rounding:.2g}"
        if agreement.rounding
        else ""
    )
    return (
        f"{agreement.program} gives our logits to within {agreement.difference:.2g} on "
        f"{agreement.n_sequences} random sequences (the largest is {agreement.largest_logit:.3g})"
        f"{rounding}"
    )


def _checked(agreement: Agreement | None) -> str:
    if agreement is None:
        return "transformers was not installed, so the export was not compared with it."
    return f"{in_words(agreement)}. Its tokenizer gives the same ids to texts of many scripts."


def _shape(config: ModelConfig) -> str:
    default = ModelConfig()
    rows = [
        (name, value)
        for name, value in dataclasses.asdict(config).items()
        if name in ("vocab_size", "context", "d_model", "n_layers", "n_heads", "norm", "positions")
        or value != getattr(default, name)
    ]
    return "## Shape\n\n" + _table(("setting", "value"), rows)


def _records(run: Path, checkpoint: Path) -> Iterator[str]:
    """Sections on data, training, and the plan beside what was measured."""
    facts, plan, verified = (_object(run / name) for name in (facts_file, plan_file, verify_file))
    step = _object(checkpoint / "state.json").get("step")
    splits = facts.get("data") or {}
    rows = [
        (name, *(f"{split.get(what, 0):,}" for what in ("n_documents", "n_bytes", "n_tokens")))
        for name, split in splits.items()
    ]
    if rows:
        yield "## Data\n\n" + _table(("split", "documents", "bytes", "tokens"), rows)
    yield from _training(_lines(run / metrics_file), facts, step)
    expected = _expected(plan)
    if expected:
        yield "## Plan\n\n" + _table(("before the run", ""), expected)
    compared = [
        (one["name"], f"{one['low']:,.6g}", f"{one['high']:,.6g}", f"{one['measured']:,.6g}")
        for one in verified.get("comparisons", ())
        if one.get("measured") is not None and one.get("low") is not None
    ]
    if compared:
        yield "## Plan and run\n\n" + _table(("", "from", "to", "measured"), compared)
    if (run / config_file).is_file():
        text = (run / config_file).read_text()
        yield f"## Config\n\nTraining with it again repeats the run.\n\n```toml\n{text}```\n"


def _training(
    lines: list[dict[str, Any]], facts: dict[str, Any], step: int | None
) -> Iterator[str]:
    """Tokens and losses up to the exported step."""
    taken = [
        line
        for line in lines
        if line.get("loss") is not None
        and line.get("action") not in ("stop", "rewind")
        and (step is None or line["step"] <= step)
    ]
    if not taken:
        return
    last = taken[-1]
    measured = [line for line in taken if line.get("validation_loss") is not None]
    machine = facts.get("machine") or {}
    rows: list[tuple[Any, ...]] = [
        ("steps", f"{last['step']:,}"),
        ("tokens seen", f"{last.get('n_tokens', 0):,}"),
        ("training loss", f"{last['loss']:.4f} nats a token"),
    ]
    if measured:
        best = measured[-1]
        loss, step = best["validation_loss"], best["step"]
        rows.append(("validation loss", f"{loss:.4f} nats a token at step {step:,}"))
        if best.get("validation_bits_per_byte") is not None:
            rows.append(("", f"{best['validation_bits_per_byte']:.4f} bits a byte"))
    if last.get("seconds"):
        rows.append(("time", f"{last['seconds']:,.0f} s"))
    rows.append(("machine", machine.get("gpu") or machine.get("processor") or "unknown"))
    rows.append(("precision", facts.get("precision", "unknown")))
    yield "## Training\n\n" + _table(("", ""), rows)


def _expected(plan: dict[str, Any]) -> list[tuple[str, str]]:
    time = plan.get("time") or {}
    units = {
        "run_seconds": "seconds",
        "device_hours": "device hours",
        "price_usd": "price in US dollars",
        "kilowatt_hours": "kilowatt hours",
    }
    return [(unit, _span(time[name])) for name, unit in units.items() if time.get(name) is not None]


def _span(value: Any) -> str:
    numbers = [value["low"], value["high"]] if isinstance(value, dict) else [value]
    shown = [f"{number:,.4g}" for number in numbers if isinstance(number, (int, float))]
    return " to ".join(dict.fromkeys(shown)) or "unknown"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]] | list[tuple[str, str]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is none, for a card can do without."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        try:
            content = json.loads(line)
        except ValueError:  # a crash may cut the last line short
            continue
        if isinstance(content, dict) and isinstance(content.get("step"), int):
            found.append(content)
    return found
