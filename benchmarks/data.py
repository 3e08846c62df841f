"""Our token shards of a corpus beside token files made the usual way, in the same run, as ratios.

    python benchmarks/data.py --data ~/modelwright-data/data > docs/results/data-cpu.md
    python benchmarks/data.py --limit 10 --repeats 1 --only ours tiktoken

The usual way is Hugging Face's `datasets` with tiktoken or with tokenizers (`data_peers.py`). Each
run is a command of its own with an empty cache and a folder of its own, the programs taking turns,
so that a machine that slows down does so for all of them. Looking at the memory of a process holds
it up, so memory and disk are looked at in runs that are not timed. After each run its ids are
compared with those of the others. Do not quote figures of a corpus that was cut short.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
from data_peers import documents_of
from tokenizer_peers import END, END_ID
from tokenizer_turns import MEGABYTES, SECONDS, spread

from modelwright.data.shards import open_shard
from modelwright.runtime.device import processor_name
from modelwright.tokenizer.formats import read_vocab_and_merges, tokenizer_json
from modelwright.tokenizer.rank_files import write_tiktoken

VOCAB_SIZE, TRAINED_VOCAB_SIZE = 50_257, 32_000
VALIDATION_FRACTION = 0.02
ROWS_OF_A_GROUP = 1000  # in a Parquet file
SECONDS_BETWEEN_SAMPLES = 0.02
SAMPLES_BETWEEN_DISK = 5
MOST_SAMPLED_RUNS = 3
FORMATS = {"txt": "Text files", "jsonl": "JSON lines", "parquet": "Parquet"}
PACKAGES = ("modelwright", "datasets", "pyarrow", "tiktoken", "tokenizers", "numpy")

# What `modelwright data build` imports in the end.
OUR_IMPORTS = (
    "import modelwright.cli.app, modelwright.cli.data, modelwright.config.loading, "
    "modelwright.data.building, modelwright.training.config"
)
QUANTITIES = {
    "seconds": ("time", SECONDS),
    "seconds_after_imports": ("time less importing", SECONDS),
    "pss_bytes": ("peak memory (PSS)", MEGABYTES),
    "own_bytes": ("of it, no pages of files", MEGABYTES),
    "rss_bytes": ("peak of the sum of RSS", MEGABYTES),
    "output_bytes": ("output", MEGABYTES),
    "ids_bytes": ("of it, files of ids", MEGABYTES),
    "disk_bytes": ("disk at most, output included", MEGABYTES),
}

Found = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every run needs."""

    folder: Path  # for corpora, vocabularies and what the programs write
    n_processes: int
    n_repeats: int
    extra: tuple[str, ...]  # more arguments for ours

    def corpus(self, kind: str) -> Path:
        """The folder of the corpus in one format."""
        return self.folder / kind


@dataclass(frozen=True, kw_only=True)
class Program:
    """One of the commands that are compared."""

    title: str
    command: Callable[[Setup, str, Path], list[str]]  # of the format and the folder for the output
    imports: list[str]
    contents: Callable[[Path], "Contents | None"]
    peer: bool = False


# The corpus


def take_share(paths: Sequence[Path], megabytes: float | None) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file, of which about the same share is taken, a document or more."""
    n_bytes = sum(path.stat().st_size for path in paths)
    share = min(1.0, megabytes * 1e6 / n_bytes) if megabytes else 1.0
    line = f"{END}\n".encode()
    for path in paths:
        content = path.read_bytes()
        if share < 1:
            limit = int(share * len(content))
            end = content.rfind(line, 0, limit)
            end = end if end >= 0 else content.index(line)
            content = content[: end + len(line)]
        yield path.stem, content


def write_corpus(setup: Setup, data: Path, megabytes: float | None, kinds: Sequence[str]) -> None:
    """Write the corpus in every format that is asked for, a file for each file of text."""
    paths = sorted((data / "english/train").glob("*.txt"))
    if not paths:
        raise ValueError(f"--data is {data}, but there are no text files in its english/train")
    for kind in {"txt", *kinds}:
        setup.corpus(kind).mkdir()
    for name, content in take_share(paths, megabytes):
        path = setup.corpus("txt") / f"{name}.txt"
        path.write_bytes(content)
        rows = list(documents_of([str(path)]))
        if "jsonl" in kinds:
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (setup.corpus("jsonl") / f"{name}.jsonl").write_bytes(lines.encode())
        if "parquet" in kinds:
            import pyarrow
            import pyarrow.parquet

            pyarrow.parquet.write_table(
                pyarrow.Table.from_pylist(rows),
                setup.corpus("parquet") / f"{name}.parquet",
                row_group_size=ROWS_OF_A_GROUP,
            )


# What a program left


@dataclass(frozen=True)
class Contents:
    """The tokens of both sides in numbers that do not depend on the order of the documents."""

    n_tokens: int
    sum_of_ids: int
    n_documents: int
    digest: int  # the sum of the documents' hashes
    n_validation_documents: int

    def same_documents(self, other: "Contents") -> bool:
        """Whether both hold the same documents, wherever they stand."""
        return (self.n_tokens, self.sum_of_ids, self.n_documents, self.digest) == (
            other.n_tokens,
            other.sum_of_ids,
            other.n_documents,
            other.digest,
        )

    def __str__(self) -> str:
        return (
            f"{self.n_documents:,} documents ({self.n_validation_documents:,} of them for "
            f"validation), {self.n_tokens:,} tokens, sum of ids {self.sum_of_ids:,}, "
            f"documents' hash {self.digest % 2**64:016x}"
        )


def contents(sides: Mapping[str, Sequence[np.ndarray]]) -> Contents:
    """Count and hash the documents, each of which an end-of-text id ends."""
    n_documents = dict.fromkeys(sides, 0)
    n_tokens = sum_of_ids = digest = 0
    for side, arrays in sides.items():
        for ids in arrays:
            start = 0
            for end in (np.flatnonzero(ids == END_ID) + 1).tolist():
                hashed = hashlib.blake2b(ids[start:end].tobytes(), digest_size=16)
                digest += int.from_bytes(hashed.digest(), "big")
                n_documents[side] += 1
                start = end
            if start != len(ids):
                raise RuntimeError(f"the ids for {side} end inside a document")
            n_tokens += len(ids)
            sum_of_ids += int(ids.sum(dtype=np.int64))
    return Contents(
        n_tokens,
        sum_of_ids,
        sum(n_documents.values()),
        digest % 2**128,
        n_documents["validation"],
    )


def contents_of_ours(out: Path) -> Contents:
    """Of a folder of shards."""
    return contents(
        {
            side: [open_shard(path).tokens for path in sorted(out.glob(f"{side}-*.shard"))]
            for side in ("train", "validation")
        }
    )


def contents_of_theirs(out: Path) -> Contents:
    """Of two files of ids."""
    return contents(
        {side: [np.fromfile(out / f"{side}.bin", np.uint16)] for side in ("train", "validation")}
    )


# The programs


def ours(*, n_workers: int | None = None, vocab_size: int = VOCAB_SIZE) -> Program:
    """Our command.

    Args:
        n_workers: None for as many as the peers have processes.
        vocab_size: GPT-2's, or another, and then the tokenizer is trained.
    """
    trains = vocab_size != VOCAB_SIZE

    def command(setup: Setup, kind: str, out: Path) -> list[str]:
        settings = [f"tokenizer.vocab_size={vocab_size}"]
        settings += [f"data.validation_fraction={VALIDATION_FRACTION}"]
        settings += [] if trains else [f"tokenizer.file={setup.folder / 'gpt2.json'}"]
        words = [sys.executable, "-m", "modelwright", "data", "build"]
        words += ["--source", str(setup.corpus(kind)), "--out", str(out)]
        words += ["--workers", str(n_workers or setup.n_processes)]
        words += [word for setting in settings for word in ("--set", setting)]
        return [*words, *setup.extra]

    number = "" if n_workers is None else f", {n_workers} worker{'s' if n_workers > 1 else ''}"
    return Program(
        title=f"ours{number}{f', training {vocab_size:,} tokens' if trains else ''}",
        command=command,
        imports=[sys.executable, "-c", OUR_IMPORTS],
        contents=(lambda _: None) if trains else contents_of_ours,
    )


def theirs(program: str) -> Program:
    """`datasets` with one of the tokenizers."""
    words = [sys.executable, str(Path(__file__).with_name("data_peers.py"))]

    def command(setup: Setup, kind: str, out: Path) -> list[str]:
        request = {
            "program": program,
            "format": kind,
            "source": str(setup.corpus(kind)),
            "vocabulary": str(setup.folder),
            "n_processes": setup.n_processes,
            "validation_fraction": VALIDATION_FRACTION,
            "out": str(out),
        }
        return [*words, json.dumps(request)]

    return Program(
        title=f"datasets, {program}",
        command=command,
        imports=[*words, json.dumps({"program": program, "import_only": True})],
        contents=contents_of_theirs,
        peer=True,
    )


PROGRAMS: Mapping[str, Program] = {
    "ours": ours(),
    "tiktoken": theirs("tiktoken"),
    "tokenizers": theirs("tokenizers"),
    "ours-1": ours(n_workers=1),
    "ours-training": ours(vocab_size=TRAINED_VOCAB_SIZE),
}


# Running and looking


def environment(temporary: Path) -> dict[str, str]:
    """An empty cache and nothing from the network; one thread for each of their processes."""
    return {
        **os.environ,
        "TMPDIR": str(temporary),
        "HF_HOME": str(temporary / "huggingface"),
        "HF_DATASETS_CACHE": str(temporary / "huggingface/datasets"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RAYON_NUM_THREADS": "1",
    }


def processes_of_session(session: int) -> Iterator[Path]:
    """The folders in /proc of a program and of all that it started."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                # The name in brackets may hold anything; after it: state, parent, group, session.
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session:
                yield path


def memory_of_session(session: int) -> dict[str, int]:
    """What the processes hold now; PSS counts a page that several of them share once."""
    sums = {"pss_bytes": 0, "own_bytes": 0, "rss_bytes": 0}
    for path in processes_of_session(session):
        try:
            lines = (path / "smaps_rollup").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
        sums["pss_bytes"] += sizes.get("Pss", 0)
        sums["own_bytes"] += sizes.get("Pss_Anon", 0) + sizes.get("Pss_Shmem", 0)
        sums["rss_bytes"] += sizes.get("Rss", 0)
    return sums


def disk_bytes(folder: Path, *, allocated: bool) -> int:
    """The size of all files, or what they take on the disk, while they may come and go."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.stat(os.path.join(parent, name))  # noqa: PTH116, PTH118  (often)
            except FileNotFoundError:
                continue
            total += found.st_blocks * 512 if allocated else found.st_size
    return total


def run(words: Sequence[str], folder: Path, *, sample: bool = False) -> dict[str, float]:
    """Run a command once; its time, or its peaks if it is sampled."""
    temporary = folder / "temporary"
    temporary.mkdir(parents=True, exist_ok=True)
    os.sync()  # what an earlier run wrote is not for this one to wait for
    peaks: dict[str, float] = {}

    def look(with_disk: bool) -> None:
        seen = memory_of_session(process.pid)
        if with_disk:
            seen["disk_bytes"] = disk_bytes(folder, allocated=True)
        for key, value in seen.items():
            peaks[key] = max(value, peaks.get(key, 0))

    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            words,
            env=environment(temporary),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            n_samples = 0
            while sample and process.poll() is None:
                look(n_samples % SAMPLES_BETWEEN_DISK == 0)
                n_samples += 1
                time.sleep(SECONDS_BETWEEN_SAMPLES)
            process.wait()
            seconds = time.perf_counter() - began
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        if process.returncode != 0:
            said.seek(0)
            raise RuntimeError(f"{' '.join(words)}\n{said.read().decode(errors='replace')}")
    if sample:
        peaks["disk_bytes"] = max(peaks["disk_bytes"], disk_bytes(folder, allocated=True))
        return peaks
    return {"seconds": seconds}


def take_turns(
    setup: Setup, kind: str, names: Sequence[str]
) -> tuple[dict[str, Found], dict[str, Contents]]:
    """Run every program as often as asked, and then again to look at memory and disk.

    Returns:
        For each program the values of each quantity, and what it left.

    Raises:
        RuntimeError: if a program fails, or leaves something else than it did before.
    """
    found: dict[str, Found] = {name: {} for name in names}
    left: dict[str, Contents] = {}
    n_sampled = min(setup.n_repeats, MOST_SAMPLED_RUNS)
    for name in names:
        run(PROGRAMS[name].imports, setup.folder / "run")  # so that no first run reads packages
    for i in range(setup.n_repeats + n_sampled):
        sample = i >= setup.n_repeats
        for name in names:
            print(f"{kind} {i + 1}/{setup.n_repeats + n_sampled} {name}", file=sys.stderr)
            program, folder = PROGRAMS[name], setup.folder / "run"
            out = folder / "out"
            values = run(program.command(setup, kind, out), folder, sample=sample)
            if not sample:
                values["output_bytes"] = disk_bytes(out, allocated=False)
                of_ids = (path for path in out.iterdir() if path.suffix in (".bin", ".shard"))
                values["ids_bytes"] = sum(path.stat().st_size for path in of_ids)
                importing = run(program.imports, folder)["seconds"]
                values["seconds_after_imports"] = values["seconds"] - importing
            for key, value in values.items():
                found[name].setdefault(key, []).append(value)
            if (seen := program.contents(out)) is not None and left.setdefault(name, seen) != seen:
                raise RuntimeError(f"{name} left {seen}, and {left[name]} before")
            shutil.rmtree(folder)
    return found, left


# The report


def print_table(found: Mapping[str, Found]) -> None:
    """A row for each quantity, a column for each program, and ours as a share of each peer's."""
    peers = [name for name in found if PROGRAMS[name].peer and "ours" in found]
    columns = ["what", *(PROGRAMS[name].title for name in found)]
    columns += [f"ours / {name}" for name in peers]
    print(f"| {' | '.join(columns)} |\n| --- |{' ---: |' * (len(columns) - 1)}")
    for key, (named, (unit, scale)) in QUANTITIES.items():
        cells = [spread([scale * value for value in values[key]]) for values in found.values()]
        for peer in peers:
            ratio = statistics.median(found["ours"][key]) / statistics.median(found[peer][key])
            cells.append(f"{ratio:.{2 if ratio >= 0.1 else 3}f}")
        print(f"| {named}, {unit} | {' | '.join(cells)} |", flush=True)


def compared(left: Mapping[str, Contents]) -> Iterator[str]:
    """Whether all left the same documents."""
    if not left:
        return
    yield "Tokens, end-of-text included:\n"
    (first, reference), *others = left.items()
    yield f"- {PROGRAMS[first].title}: {reference}."
    for name, seen in others:
        if seen.same_documents(reference):
            said = f"the same tokens, {seen.n_validation_documents:,} documents for validation"
        else:
            said = f"OTHER TOKENS: {seen}"
        yield f"- {PROGRAMS[name].title}: {said}."


def heading(setup: Setup) -> Iterator[str]:
    """What was measured, on what and how."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    n_megabytes = disk_bytes(setup.corpus("txt"), allocated=False) / 1e6
    n_files = len(list(setup.corpus("txt").iterdir()))
    n = setup.n_processes
    yield "# From a corpus to tokens\n"
    yield f"    python {' '.join([f'benchmarks/{Path(__file__).name}', *sys.argv[1:]])}\n"
    yield (
        f"{processor_name()} with {len(os.sched_getaffinity(0))} cores, Python "
        f"{platform.python_version()}, {packages}, {date.today()}. English, {n_megabytes:.1f} MB "
        f"of text in {n_files} files in the page cache, GPT-2's vocabulary. Ours is "
        f"`modelwright data build` with {n} worker{'s' if n > 1 else ''} where nothing else is "
        f"said; beside it Hugging Face's datasets with `num_proc={n}` and its defaults otherwise, "
        "one thread each: tiktoken's `encode_ordinary` for every document, or tokenizers' "
        "`encode_batch_fast` for a batch of them, and then files of 16-bit ids. They shuffle the "
        f"documents; ours keeps their order. About {VALIDATION_FRACTION:.0%} of the documents are "
        "for validation, chosen at random there and by their hash here.\n"
    )
    yield (
        f"Every cell is the median and, in brackets, the least and the most, of {setup.n_repeats} "
        f"runs for time and {min(setup.n_repeats, MOST_SAMPLED_RUNS)} others for memory and disk; "
        "each of them a process of its own with an empty cache, the programs taking turns. A ratio "
        "below 1: ours takes less. Time is from the start of the process to its end, importing "
        "included; importing by itself was measured beside each run and taken off in the second "
        "row. Memory is that of all processes of a program together, looked at again "
        f"{1000 * SECONDS_BETWEEN_SAMPLES:.0f} ms after each look: PSS, which counts a shared page "
        "once, then only what is not a page of a mapped file, which the system could take back, "
        "and RSS, which counts a shared page in every process. Ours also keeps where each "
        "document begins and a copy of the tokenizer, waits until its files are on the disk, "
        "hashes them, and reads them back to compare; the others do not."
    )


def main() -> None:
    """Write the corpus, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    data = os.environ.get("MODELWRIGHT_DATA")
    parser.add_argument("--data", type=Path, default=data, required=data is None)
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument(
        "--formats", default="txt", help=f"some of {','.join(FORMATS)}, with commas between"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2, help="and as many cores")
    parser.add_argument("--limit", type=float, metavar="MB", help="a part, for a quick try")
    parser.add_argument(
        "--ours-set", nargs="+", default=[], metavar="SECTION.KEY=VALUE", help="more --set for ours"
    )
    arguments = parser.parse_args()
    kinds = arguments.formats.split(",")
    if unknown := set(kinds) - set(FORMATS):
        parser.error(f"--formats: {', '.join(unknown)} is not one of {', '.join(FORMATS)}")

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.processes])
    gpt2 = arguments.data / "gpt2"
    vocabulary = read_vocab_and_merges(gpt2 / "gpt2_vocab.json", gpt2 / "gpt2_merges.txt")
    with tempfile.TemporaryDirectory() as name:
        setup = Setup(
            folder=Path(name),
            n_processes=arguments.processes,
            n_repeats=arguments.repeats,
            extra=tuple(word for setting in arguments.ours_set for word in ("--set", setting)),
        )
        (setup.folder / "gpt2.json").write_bytes(tokenizer_json(vocabulary))
        write_tiktoken(vocabulary, setup.folder / "gpt2.tiktoken")
        write_corpus(setup, arguments.data, arguments.limit, kinds)
        print("\n".join(heading(setup)))
        for kind in kinds:
            n_bytes = disk_bytes(setup.corpus(kind), allocated=False)
            print(f"\n## {FORMATS[kind]}, {n_bytes / 1e6:.1f} MB\n", flush=True)
            found, left = take_turns(setup, kind, arguments.only)
            print_table(found)
            print("\n" + "\n".join(compared(left)), flush=True)


if __name__ == "__main__":
    main()
