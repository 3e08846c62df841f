"""Our loader beside the usual ways to make batches, in the same run and from the same file.

    python benchmarks/loader.py
    python benchmarks/loader.py --megatokens 20 --repeats 2
    python benchmarks/loader.py --device cuda

Makes its own file of random ids and reads it once, so that it is in the page cache. The contenders
take turns, and all of them have one core, worker processes included, unless --cores gives more.
With --device cuda the batches feed a small GPT, and the table says how long its steps wait.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from modelwright.data.loader import Batch, Chunks, Cut, Loader
from modelwright.data.packing import Packed, report_contiguous
from modelwright.data.sampler import batch_samples
from modelwright.data.shards import TokenSequence, header_bytes, open_shard, write_shard
from modelwright.model.config import ModelConfig
from modelwright.model.initialise import initialise
from modelwright.model.transformer import Transformer
from modelwright.runtime.device import processor_name
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.step import StartedStep, training_step

END_OF_TEXT = 50_256
MEDIAN_DOCUMENT = 400
N_WARM_UP = 10
N_RESIDENT = 50

InputsAndTargets = tuple[Tensor, Tensor]
Batches = Callable[[int], InputsAndTargets]  # of a step, on the device
Contender = Callable[[], AbstractContextManager[Batches]]
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every contender needs."""

    path: Path
    tokens: TokenSequence
    batch_size: int
    context: int
    device: torch.device

    def to_device(self, inputs: Tensor, targets: Tensor) -> InputsAndTargets:
        """As training scripts do it: through pinned memory and without waiting."""
        if self.device.type == "cpu":
            return inputs, targets
        inputs, targets = (
            part if part.is_pinned() else part.pin_memory() for part in (inputs, targets)
        )
        return (
            inputs.to(self.device, non_blocking=True),
            targets.to(self.device, non_blocking=True),
        )


def write_random_shard(path: Path, n_tokens: int) -> None:
    """Random ids of GPT-2's vocabulary in documents of random lengths."""
    chance = np.random.default_rng(0)
    tokens = chance.integers(0, END_OF_TEXT, n_tokens, dtype=np.uint16)
    lengths = np.exp(chance.normal(np.log(MEDIAN_DOCUMENT), 1.0, 2 * n_tokens // MEDIAN_DOCUMENT))
    ends = np.cumsum(np.maximum(2, lengths).astype(np.int64))
    starts = np.concatenate([[0], ends[ends < n_tokens - 1], [n_tokens]])
    tokens[starts[1:] - 1] = END_OF_TEXT
    write_shard(path, tokens, starts, "00" * 32)


# The contenders


@contextmanager
def ours(setup: Setup, cut: Cut) -> Iterator[Batches]:
    """The loader, as training uses it."""
    with Loader(cut, seed=1, batch_size=setup.batch_size, device=setup.device) as loader:

        def batch(step: int) -> InputsAndTargets:
            made = loader.batch(step)
            return made.inputs, made.targets

        yield batch


@contextmanager
def our_rows(setup: Setup, cut: Cut) -> Iterator[Batches]:
    """What is done on the host for a GPU: the rows in the shard's own number format, no thread."""
    rows = cut.rows(setup.batch_size)

    def batch(step: int) -> InputsAndTargets:
        samples = batch_samples(seed=1, step=step, batch_size=setup.batch_size, n_samples=len(cut))
        cut.fill(samples, rows)
        return rows.inputs_and_targets()

    yield batch


@contextmanager
def nanogpt_way(setup: Setup) -> Iterator[Batches]:
    """Random places of a file that is mapped anew for each batch, row by row to int64."""
    chance = torch.Generator().manual_seed(1)

    def batch(_: int) -> InputsAndTargets:
        ids = np.memmap(setup.path, np.uint16, "r", offset=header_bytes, shape=(len(setup.tokens),))
        last = len(ids) - setup.context
        places = torch.randint(last, (setup.batch_size,), generator=chance).tolist()
        inputs, targets = (
            torch.stack(
                [
                    torch.from_numpy(ids[place : place + setup.context].astype(np.int64))
                    for place in (place + shift for place in places)
                ]
            )
            for shift in (0, 1)
        )
        return setup.to_device(inputs, targets)

    yield batch


class MappedChunks(Dataset[InputsAndTargets]):
    """The same chunks as ours, one at a time."""

    def __init__(self, path: Path, n_tokens: int, context: int) -> None:
        self.ids = np.memmap(path, np.uint16, "r", offset=header_bytes, shape=(n_tokens,))
        self.context = context

    def __len__(self) -> int:
        return (len(self.ids) - 1) // self.context

    def __getitem__(self, index: int) -> InputsAndTargets:
        start = index * self.context
        row = torch.from_numpy(self.ids[start : start + self.context + 1].astype(np.int64))
        return row[:-1], row[1:]


@contextmanager
def torch_data_loader(setup: Setup, n_workers: int) -> Iterator[Batches]:
    """torch.utils.data.DataLoader, shuffled; its start is not in the time."""
    loader = DataLoader(
        MappedChunks(setup.path, len(setup.tokens), setup.context),
        setup.batch_size,
        shuffle=True,
        num_workers=n_workers,
        pin_memory=setup.device.type == "cuda",
        drop_last=True,
    )
    batches = iter(loader)
    try:
        yield lambda _: setup.to_device(*next(batches))
    finally:
        del batches  # ends the workers


@contextmanager
def resident(setup: Setup) -> Iterator[Batches]:
    """Batches that are on the device already: steps without loading."""
    chunks = Chunks(setup.tokens, setup.context)
    batches: list[InputsAndTargets] = []
    for step in range(N_RESIDENT):
        samples = batch_samples(
            seed=1, step=step, batch_size=setup.batch_size, n_samples=len(chunks)
        )
        batch = chunks.batch(samples)
        batches.append((batch.inputs.to(setup.device), batch.targets.to(setup.device)))
    yield lambda step: batches[step % N_RESIDENT]


def contenders(setup: Setup) -> Mapping[str, Contender]:
    """Who takes part; the first one is what the ratios are to."""
    chunks = Chunks(setup.tokens, setup.context)
    packed = Packed(setup.tokens, setup.context, END_OF_TEXT)
    return {
        "ours, contiguous": partial(ours, setup, chunks),
        "ours, packed": partial(ours, setup, packed),
        "nanoGPT's get_batch": partial(nanogpt_way, setup),
        "DataLoader, 0 workers": partial(torch_data_loader, setup, 0),
        "DataLoader, 2 workers": partial(torch_data_loader, setup, 2),
    }


# The measurements


def seconds_a_batch(contender: Contender, n_batches: int) -> float:
    """Make batches and do nothing with them."""
    with contender() as batch:
        for step in range(N_WARM_UP):
            batch(step)
        began = time.perf_counter()
        for step in range(N_WARM_UP, N_WARM_UP + n_batches):
            batch(step)
        return (time.perf_counter() - began) / n_batches


def speed_table(setup: Setup, n_repeats: int, n_batches: int) -> None:
    """Print how many tokens a second each contender makes."""
    chunks = Chunks(setup.tokens, setup.context)
    packed = Packed(setup.tokens, setup.context, END_OF_TEXT)
    entrants = {
        **contenders(setup),
        "ours, contiguous, 16-bit rows only": partial(our_rows, setup, chunks),
        "ours, packed, 16-bit rows only": partial(our_rows, setup, packed),
    }
    taken = take_turns(
        {name: partial(seconds_a_batch, entrant, n_batches) for name, entrant in entrants.items()},
        n_repeats,
    )
    n_tokens = setup.batch_size * setup.context
    baseline = statistics.median(next(iter(taken.values())))
    print("\n| batches on the CPU | million tokens/s | least to most | time, in times of ours |")
    print("| --- | ---: | ---: | ---: |")
    for name, seconds in taken.items():
        speeds = sorted(n_tokens / each / 1e6 for each in seconds)
        print(
            f"| {name} | {statistics.median(speeds):,.1f} | {speeds[0]:,.1f} to {speeds[-1]:,.1f} "
            f"| {statistics.median(seconds) / baseline:.1f} |"
        )


class SmallGpt:
    """A small GPT that takes training steps."""

    def __init__(self, setup: Setup) -> None:
        shape = ModelConfig(
            vocab_size=END_OF_TEXT + 48,  # a multiple of 64
            context=setup.context,
            d_model=384,
            n_layers=6,
            n_heads=6,
        )
        self.model = Transformer(shape, dtype=torch.bfloat16, attention="flash")
        initialise(self.model, seed=1)
        self.model.to(setup.device)
        self.optimizer = make_optimizer(self.model, OptimizerConfig())

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        """Learn from a batch, and wait until it is done."""
        batch = Batch(inputs, targets, np.arange(len(inputs)))
        found = training_step(
            self.model,
            self.optimizer,
            batch,
            learning_rate=1e-4,
            clip_norm=1.0,
            micro_batch=len(inputs),
        )
        StartedStep(found).result()


def step_and_wait(contender: Contender, gpt: SmallGpt, n_steps: int) -> tuple[float, float]:
    """The median step in seconds, and the median of what went by in asking for its batch."""
    waited: list[float] = []
    taken: list[float] = []
    with contender() as batch:
        for step in range(N_WARM_UP):
            gpt.step(*batch(step))
        for step in range(N_WARM_UP, N_WARM_UP + n_steps):
            asked = time.perf_counter()
            inputs, targets = batch(step)
            waited.append(time.perf_counter() - asked)
            gpt.step(inputs, targets)
            taken.append(time.perf_counter() - asked)
    return statistics.median(taken), statistics.median(waited)


def step_table(setup: Setup, n_repeats: int, n_steps: int) -> None:
    """Print how long a step on the GPU takes with each contender, and without loading."""
    gpt = SmallGpt(setup)
    entrants: Mapping[str, Contender] = {
        "no loading": partial(resident, setup),
        **contenders(setup),
    }
    taken = take_turns(
        {name: partial(step_and_wait, entrant, gpt, n_steps) for name, entrant in entrants.items()},
        n_repeats,
    )
    baseline = statistics.median(step for step, _ in taken["no loading"])
    print("\n| a step of a small GPT | ms | least to most | beyond no loading | waiting for data |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, found in taken.items():
        steps = sorted(step for step, _ in found)
        share = statistics.median(waited / step for step, waited in found)
        median = statistics.median(steps)
        print(
            f"| {name} | {1e3 * median:.2f} | {1e3 * steps[0]:.2f} to {1e3 * steps[-1]:.2f} "
            f"| {(median - baseline) / median:+.2%} | {share:.2%} |"
        )


def take_turns(
    measurements: Mapping[str, Callable[[], Result]], n_repeats: int
) -> dict[str, list[Result]]:
    """Every measurement once, then every one again, so that a slow spell is everybody's."""
    found: dict[str, list[Result]] = {name: [] for name in measurements}
    for turn in range(n_repeats):
        for name, measure in measurements.items():
            print(f"turn {turn + 1} of {n_repeats}: {name}", file=sys.stderr)
            found[name].append(measure())
    return found


def cut_table(setup: Setup) -> None:
    """Print what the two cuts make of the documents, and how long packing takes."""
    began = time.perf_counter()
    packed = Packed(setup.tokens, setup.context, END_OF_TEXT)
    seconds = time.perf_counter() - began
    reports = {
        "contiguous": report_contiguous(setup.tokens, setup.context),
        "packed": packed.report(),
    }
    print("\n| cut | rows | padding | documents divided | documents a row |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, report in reports.items():
        print(
            f"| {name} | {report.n_rows:,} | {report.padding_share:.4%} | {report.share_cut:.1%} "
            f"| {report.documents_per_row:.2f} |"
        )
    print(f"\n{reports['packed'].n_documents:,} documents were packed in {seconds:.2f} s.")


def heading(setup: Setup, n_repeats: int) -> str:
    """The command, the machine and the versions."""
    gpu = f", {torch.cuda.get_device_name(setup.device)}" if setup.device.type == "cuda" else ""
    return (
        f"# The loader beside others\n\n    python {' '.join(sys.argv)}\n\n"
        f"{processor_name()} with {len(os.sched_getaffinity(0))} core(s) in use{gpu}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"{date.today()}. {len(setup.tokens):,} random 16-bit ids in the page cache, batches of "
        f"{setup.batch_size} × {setup.context}. Every cell is the median of {n_repeats} turns."
    )


def main() -> None:
    """Make the file, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--megatokens", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--batches", type=int, help="in each turn; 400, or 40 steps on a GPU")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1)
    arguments = parser.parse_args()

    # Two workers on one core are asked for here.
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(arguments.cores)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.shard"
        write_random_shard(path, arguments.megatokens * 1_000_000)
        setup = Setup(
            path=path,
            tokens=TokenSequence([open_shard(path)]),
            batch_size=arguments.batch_size,
            context=arguments.context,
            device=torch.device(arguments.device),
        )
        path.read_bytes()
        print(heading(setup, arguments.repeats), flush=True)
        cut_table(setup)
        if arguments.device == "cuda":
            step_table(setup, arguments.repeats, arguments.batches or 40)
        else:
            speed_table(setup, arguments.repeats, arguments.batches or 400)


if __name__ == "__main__":
    main()
