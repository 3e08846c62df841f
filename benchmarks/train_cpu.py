"""Training on this CPU: our trainer beside Hugging Face's GPT-2, in turns and in tokens a second.

    python benchmarks/train_cpu.py > docs/results/train-cpu.md
    python benchmarks/train_cpu.py --rounds 3 --precision bf16 --no-compile
    python benchmarks/train_cpu.py --set model.n_layers=6 --set model.d_model=384

The model is the preset `laptop` in GPT-2's arrangement. Every contender (`train_cpu_contenders.py`)
is a process of its own. All are started and warmed up, one after the other; then each takes one
update, in another order each round, so that a slow spell is everybody's and nobody always comes
after the same one. Those whose turn it is not sleep; what they use of the processor is measured.
"""

import argparse
import json
import os
import platform
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modelwright.accounting.flops import training_flops
from modelwright.config.loading import load_settings
from modelwright.runtime.device import processor_name
from modelwright.training.config import RunConfig

PAUSE_SECONDS = 0.1  # before a turn, so that the threads of the one before are asleep
MOST_USED = 0.02  # of a core, by all that wait; more would disturb the one whose turn it is
LEAST_STEADINESS = 0.8  # of the peak, lowest to highest, on a machine without other work

shape = (
    "model.preset=laptop",
    "model.vocab_size=4096",
    "model.positions=learned",
    "model.bias=true",
    "model.norm=layernorm",
    "model.mlp=gelu_tanh",
    "model.tie_embeddings=true",
)


@dataclass
class Contender:
    """A process that takes turns, and what it measured."""

    name: str
    process: subprocess.Popen[str]
    facts: dict[str, Any] = field(default_factory=dict)
    measured: list[float] = field(default_factory=list)
    used_while_waiting: list[float] = field(default_factory=list)  # seconds, before each turn

    def take_turn(self) -> None:
        """Let it measure once while nobody else does anything."""
        time.sleep(PAUSE_SECONDS)
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.measured.append(answer["measured"])
        self.used_while_waiting.append(answer["used_while_waiting"])

    def answer(self) -> dict[str, Any]:
        """Its next line.

        Raises:
            RuntimeError: if it ended instead.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name!r} ended; see its message above")
        return json.loads(line)

    @property
    def median(self) -> float:
        return statistics.median(self.measured)


@contextmanager
def started(name: str, overrides: Sequence[str]) -> Iterator[Contender]:
    """A contender that is warmed up; it ends with the block."""
    print(f"{name}: warming up", file=sys.stderr)
    program = Path(__file__).with_name("train_cpu_contenders.py")
    with subprocess.Popen(
        [sys.executable, str(program), name, *overrides],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        contender = Contender(name, process)
        contender.facts = contender.answer()
        print(f"{name}: {contender.facts}", file=sys.stderr)
        yield contender  # on leaving, Popen closes the pipe, which the process takes as the end


def measure(overrides: Sequence[str], *, n_rounds: int, with_compiled: bool) -> list[Contender]:
    """Let all contenders take turns in one precision, after a round that does not count."""
    names = ["peak", "ours", "Hugging Face"]
    if with_compiled:
        names += ["Hugging Face, compiled", "ours, compiled"]
    order = random.Random(1)
    with ExitStack() as processes:
        contenders = [
            processes.enter_context(
                started(name, [*overrides, f"training.compile={str('compiled' in name).lower()}"])
            )
            for name in names
        ]
        for number in range(n_rounds + 1):
            print(f"round {number} of {n_rounds}", file=sys.stderr)
            for contender in order.sample(contenders, len(contenders)):
                contender.take_turn()
            if number == 0:
                for contender in contenders:
                    contender.measured.clear()
                    contender.used_while_waiting.clear()
    return contenders


def speed_table(config: RunConfig, contenders: Sequence[Contender]) -> None:
    """Print who trains how fast; ours is what the last column is relative to."""
    peak, *trainers = contenders
    ours = trainers[0].median
    work = training_flops(config.model, batch=config.batch_size, seq=config.model.context)
    n_tokens = config.training.batch_tokens
    print("| | sequences at once | tokens/s | at best | share of peak | ours is faster by |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for trainer in trainers:
        seconds = trainer.median
        print(
            f"| {trainer.name} | {trainer.facts['portions']} | {n_tokens / seconds:,.0f} "
            f"| {n_tokens / min(trainer.measured):,.0f} | {work / seconds / peak.median:.0%} "
            f"| {seconds / ours:.2f} |"
        )
    print(
        f"\nPeak: {peak.median / 1e9:,.0f} GFLOP/s ({min(peak.measured) / 1e9:,.0f} to "
        f"{max(peak.measured) / 1e9:,.0f}), the best matrix product, measured in turn with the "
        f"rest. {waiting_note(contenders)}"
    )


def waiting_note(contenders: Sequence[Contender]) -> str:
    """How much of a core those who waited used, and whether that is too much."""
    used = sum(statistics.median(contender.used_while_waiting) for contender in contenders)
    round_seconds = sum(
        PAUSE_SECONDS + (0.0 if contender.name == "peak" else contender.median)
        for contender in contenders
    )
    note = f"Those who waited used {used / round_seconds:.2%} of a core."
    if used > MOST_USED * round_seconds:
        note += " **That is too much: the figures are disturbed.**"
    # Threads that wait for each other suffer most from neighbours, so the ratio would flatter ours.
    peaks = contenders[0].measured
    if min(peaks) < LEAST_STEADINESS * max(peaks):
        note += " **The machine was not quiet, which slows the others down more than ours.**"
    return note


def check_note(precision: str, facts: dict[str, Any]) -> str:
    """What was found when both computed the same batch with the same weights."""
    exact, ours, theirs = facts["loss"]
    our_error, their_error = facts["gradient_error"]
    if precision == "fp32":
        return (
            f"Checked before: with the same weights the loss is {ours:.6f} and theirs {exact:.6f}; "
            f"the gradients differ by {our_error:.0e} of their length, the one that differs most "
            f"by {facts['worst']:.0e}."
        )
    return (
        f"Checked before: with the same weights the loss is {ours:.5f} and theirs {theirs:.5f}, "
        f"{exact:.5f} in fp32; the gradient in fp32 is {our_error:.2%} of its length "
        f"from ours and {their_error:.2%} from theirs."
    )


def heading(config: RunConfig, n_rounds: int) -> str:
    """The command, the machine, the versions and the task."""
    model = config.model
    return (
        f"# Training on a CPU\n\n    python {shlex.join(sys.argv)}\n\n"
        f"{processor_name()} with {len(os.sched_getaffinity(0))} cores, Python "
        f"{platform.python_version()}, torch {version('torch')}, transformers "
        f"{version('transformers')}, {date.today()}.\n\n"
        f"GPT-2 with {model.n_layers} layers, d_model {model.d_model}, {model.n_heads} heads, "
        f"context {model.context} and {model.known_vocab:,} tokens; an update learns from "
        f"{config.training.batch_tokens:,} tokens ({config.batch_size} sequences). Medians of "
        f"{n_rounds} updates each, taken in turns; the last column is the ratio of the medians. "
        "Ours is what `modelwright train` runs, loading included. Theirs is `GPT2LMHeadModel` "
        "without dropout in a plain loop (loss, backward, `clip_grad_norm_`, `torch.optim.AdamW`) "
        "over batches in memory, in bf16 under `torch.autocast`, with the fastest of several "
        "portions of the batch; compiled is `torch.compile(model)` for them, "
        "`training.compile = true` for us, and compiling is not in the time."
    )


def main() -> None:
    """Check, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--precision", choices=["fp32", "bf16"], action="append", help="both")
    parser.add_argument("--no-compile", action="store_true", help="leave the compiled ones out")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        common = [
            *shape,
            f"data.folder={folder}/stories",
            "data.stories_bytes=3_000_000",
            "training.n_steps=10_000",
            "training.device=cpu",
            f"training.batch_tokens={arguments.batch_tokens}",
            *arguments.set,
        ]
        print(heading(load_settings(RunConfig, None, common).config, arguments.rounds), flush=True)
        for precision in arguments.precision or ["fp32", "bf16"]:
            overrides = [*common, f"training.precision={precision}"]
            config = load_settings(RunConfig, None, overrides).config
            with started("check", [*overrides, "training.compile=false"]) as check:
                note = check_note(precision, check.facts)
            print(f"\n## {precision}\n\n{note}\n", flush=True)
            contenders = measure(
                overrides, n_rounds=arguments.rounds, with_compiled=not arguments.no_compile
            )
            speed_table(config, contenders)


if __name__ == "__main__":
    main()
