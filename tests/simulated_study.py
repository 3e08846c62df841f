"""Studies whose runs were never trained: run folders with metrics as a run would have them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from modelwright.config.loading import load_settings, to_toml
from modelwright.experiments.study_folder import write_study
from modelwright.experiments.study_record import Outcome, StudyRecord, StudyRun, Variant
from modelwright.training.config import RunConfig
from modelwright.training.metrics import config_file, facts_file, metrics_file, to_line

n_vocab = 2048
context = 64


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A variant, and how its runs are to turn out."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    shift: float = 0.0  # of the final loss, from the base's
    spread: float = 0.004  # of the shift over seeds
    diverges: frozenset[int] = frozenset()  # seeds
    absent: Mapping[int, Outcome] = field(default_factory=dict)


def write_run(
    folder: Path,
    config: RunConfig,
    *,
    final: float,
    seconds_a_step: float = 0.08,
    diverges_at: int | None = None,
    samples: bool = False,
    until: int | None = None,
) -> None:
    """A run whose loss falls by a power law to `final`, with noise of its own seed."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(config.seed)  # the same data, so the same noise, for all variants
    n_steps, batch = config.training.n_steps, config.training.batch_tokens
    first = math.log(n_vocab)
    lines = [{"step": 0, "validation_loss": first, "validation_bits_per_byte": first / 2.8}]
    every = max(1, n_steps // 8)
    for step in range(1, n_steps + 1):
        share = step / n_steps
        loss = final + (first - final) * ((1 + 60 * share) ** -0.75 - 61**-0.75)
        loss += 0.04 * rng.normal()
        if diverges_at is not None and step > diverges_at:
            loss *= 1.05 ** (step - diverges_at)
        record: dict[str, Any] = {
            "step": step,
            "loss": float(loss),
            "learning_rate": config.schedule.peak_lr * min(1, step / 20),
            "gradient_norm": float((0.4 + 1.6 / (1 + 20 * share)) * np.exp(0.1 * rng.normal())),
            "n_tokens": step * batch,
            "seconds": round(step * seconds_a_step, 3),
            "step_seconds": seconds_a_step,
            "tokens_per_second": batch / seconds_a_step,
        }
        is_measured = step % every == 0 or step == n_steps
        if is_measured:
            noise = 0.0 if step == n_steps else 0.01 * rng.normal()
            smooth = final + (first - final) * ((1 + 60 * share) ** -0.75 - 61**-0.75)
            record["validation_loss"] = float(smooth + noise)
            record["validation_bits_per_byte"] = record["validation_loss"] / 2.8
        if samples and step == n_steps:
            record["samples"] = ["One day a <small> bird sat & sang.", "The sun was warm."]
        if diverges_at is not None and (step > diverges_at + 60 or loss > 1e3):
            record |= {"event": "not_finite", "action": "stop", "found": "loss", "loss": None}
            lines.append(record)
            break
        lines.append(record)
        if step == until:
            break
    (folder / metrics_file).write_text("".join(map(to_line, lines)))
    (folder / config_file).write_text(to_toml(config))
    facts = {
        "started": "2026-01-01T00:00:00+00:00",
        "machine": {"processor": "a processor", "gpu": None, "n_threads": 2, "torch": "2"},
        "precision": "float32",
        "step_flops": 6 * 1_200_000 * batch,
        "parameters": {"total": 1_200_000},
        "data": {"train": {"n_tokens": 1_000_000}},
        "tokenizer": "0" * 64,
        "n_vocab": n_vocab,
    }
    (folder / facts_file).write_text(json.dumps(facts))


def write_simulated(
    folder: Path,
    variants: list[Simulated],
    *,
    n_seeds: int = 3,
    n_steps: int = 400,
    name: str = "simulated",
    question: str = "Which of these is better?",
    equal_tokens: bool = False,
    samples: bool = False,
    base: tuple[str, ...] = (),
) -> StudyRecord:
    """Run folders of a study and its `study.json`; the first variant is the baseline."""
    common = (
        f"training.n_steps={n_steps}", f"model.context={context}",
        "training.batch_tokens=1024", "tokenizer.vocab_size=1024", *base,
    )  # fmt: skip
    runs: list[StudyRun] = []
    for place, variant in enumerate(variants):
        for seed in range(1, n_seeds + 1):
            run_folder = folder / "runs" / f"{variant.name}-seed{seed}"
            outcome: Outcome = "diverged" if seed in variant.diverges else "finished"
            outcome = variant.absent.get(seed, outcome)
            of_seed = 0.02 * np.random.default_rng(seed).normal()
            of_run = variant.spread * np.random.default_rng([seed, place]).normal()
            sets = [f"{key}={json.dumps(value)}" for key, value in variant.changes.items()]
            batch = int(variant.changes.get("training.batch_tokens", 1024))
            if equal_tokens:
                sets.append(f"training.n_steps={n_steps * 1024 // batch}")
            config = load_settings(RunConfig, None, [*common, *sets, f"seed={seed}"]).config
            if outcome != "missing":
                write_run(
                    run_folder,
                    config,
                    final=2.4 + variant.shift + of_seed + of_run,
                    seconds_a_step=0.02 + 0.06 * batch / 1024,
                    diverges_at=60 + 15 * seed if outcome == "diverged" else None,
                    until=100 if outcome in ("stopped", "failed") else None,
                    samples=samples,
                )
            runs.append(
                StudyRun(
                    variant=variant.name,
                    seed=seed,
                    folder=run_folder,
                    outcome=outcome,
                    reason="the loss is not finite" if outcome == "diverged" else None,
                )
            )
    record = StudyRecord(
        name=name,
        question=question,
        baseline=variants[0].name,
        variants=tuple(Variant(name=one.name, changes=one.changes) for one in variants),
        runs=tuple(runs),
    )
    write_study(folder, record)
    return record


def twelve() -> list[Simulated]:
    """Variants of every kind: better, worse, alike, noisy, diverging, with seeds that are absent."""
    return [
        Simulated(name="base"),
        Simulated(name="gelu", changes={"model.mlp": "gelu"}, shift=-0.05),
        Simulated(name="post-norm", changes={"model.placement": "post"}, shift=0.002, spread=0.002),
        Simulated(name="no-norm", changes={"model.norm": "none"}, shift=0.4, spread=0.02),
        Simulated(name="no-positions", changes={"model.positions": "none"}, shift=0.12),
        Simulated(
            name="learned-positions",
            changes={"model.positions": "learned"},
            shift=0.02,
            spread=0.02,
        ),
        Simulated(name="bias", changes={"model.bias": True}, shift=0.001, spread=0.012),
        Simulated(name="untied", changes={"model.tie_embeddings": False}, shift=-0.02),
        Simulated(
            name="rate-0.01", changes={"schedule.peak_lr": 0.01}, shift=0.1, diverges=frozenset({2})
        ),
        Simulated(
            name="rate-0.1", changes={"schedule.peak_lr": 0.1}, diverges=frozenset({1, 2, 3})
        ),
        Simulated(name="sgd", changes={"optimizer.kind": "sgd"}, shift=0.9, spread=0.1),
        Simulated(
            name="dropout",
            changes={"model.dropout": 0.1},
            shift=0.03,
            absent={3: "missing", 2: "stopped"},
        ),
    ]
