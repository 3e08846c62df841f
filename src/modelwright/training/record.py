"""What a run leaves behind to be read: its facts, and each step's metrics."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelwright.accounting.flops import training_flops
from modelwright.accounting.parameters import count_parameters
from modelwright.config.differences import Difference
from modelwright.data.inspection import training_histogram
from modelwright.runtime.device import describe_machine
from modelwright.runtime.files import write_atomically
from modelwright.training.assembly import Prepared
from modelwright.training.attempt import TrainingState
from modelwright.training.choices import chosen_kernels
from modelwright.training.metrics import MetricsFile, facts_file, forget_after
from modelwright.training.tensorboard import EventFile


def run_facts(prepared: Prepared, state: TrainingState) -> dict[str, Any]:
    """What is worth knowing about a run that its config does not say."""
    config, data = prepared.config, prepared.data
    count = count_parameters(prepared.model.config)
    groups = state.optimizer.groups()
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dataclasses.asdict(describe_machine(prepared.device)),
        "precision": prepared.precision,
        "attention": prepared.attention,
        "compiled": prepared.is_compiled,
        "kernels": chosen_kernels(config, prepared.device),
        "cuda_graph": state.recorded is not None,
        "micro_batch": state.micro_batch,
        "lanes": state.lanes.n_lanes,
        "peak": dataclasses.asdict(prepared.peak),
        "step_flops": step_flops(prepared),
        "parameters": dataclasses.asdict(count) | {"total": count.total},
        "optimizer_groups": [
            {
                "rule": group.rule,
                "weight_decay": group.weight_decay,
                "rate_factor": group.rate_factor,
                "n_tensors": group.n_tensors,
                "n_parameters": group.n_parameters,
            }
            for group in groups
        ],
        "n_tokens": config.n_tokens,
        "epochs": config.n_tokens / len(data.train),
        "data": data.facts["splits"],
        "document_lengths": training_histogram(data.folder),
        "n_vocab": data.tokenizer.n_vocab,
        "tokenizer": data.tokenizer.fingerprint,
    }


def step_flops(prepared: Prepared) -> int:
    """The work of one step."""
    config = prepared.config
    return training_flops(prepared.model.config, batch=config.batch_size, seq=config.model.context)


def write_facts(run_folder: Path, facts: dict[str, Any]) -> None:
    """Write the run's record beside its config."""
    write_atomically(run_folder / facts_file, json.dumps(facts, indent=2) + "\n")


def note_changes(run_folder: Path, step: int, changes: Sequence[Difference]) -> None:
    """Put changed settings on record."""
    facts = json.loads((run_folder / facts_file).read_text())
    changed = {"after_step": step, "changes": [str(change) for change in changes]}
    facts["changed_settings"] = [*facts.get("changed_settings", []), changed]
    write_facts(run_folder, facts)


class Record:
    """Where each step's metrics go: a line of JSON, and TensorBoard if it is wanted."""

    def __init__(self, run_folder: Path, *, first_step: int, tensorboard: bool) -> None:
        self.run_folder = run_folder
        self.tensorboard = tensorboard
        self._open(first_step)

    def _open(self, first_step: int) -> None:
        self._lines = MetricsFile(self.run_folder)
        self._events = (
            EventFile(self.run_folder / "tensorboard", first_step=first_step)
            if self.tensorboard
            else None
        )

    def write(self, metrics: dict[str, Any]) -> None:
        """Add one step's."""
        self._lines.append(metrics)
        if self._events is not None:
            self._events.write(metrics)

    def go_back(self, step: int) -> None:
        """Drop what was recorded after a step."""
        self.close()
        forget_after(self.run_folder, step)
        self._open(step + 1)

    def close(self) -> None:
        """Leave everything on the disk."""
        self._lines.close()
        if self._events is not None:
            self._events.close()
