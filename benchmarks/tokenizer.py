"""Our tokenizer beside others, in the same run and under the same conditions, as ratios.

    python benchmarks/tokenizer.py --data ~/modelwright-data/data
    python benchmarks/tokenizer.py --megabytes 5 --repeats 2 --only encoding latency

Every measurement is a process of its own (`tokenizer_peers.py`); the programs take turns
(`tokenizer_turns.py`), so that a machine that slows down does so for all of them. The tables are
Markdown, for `docs/results/tokenizer-cpu.md`. Do not quote figures of texts that were cut short:
in training, for one, gigatoken slows down where many pairs are equally rare.
"""

import argparse
import json
import os
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tokenizer_peers import END, cut_at_document
from tokenizer_turns import (
    MEGABYTES,
    MICROSECONDS,
    MILLISECONDS,
    SECONDS,
    Job,
    Table,
    run,
    take_turns,
)

from modelwright import _native
from modelwright.runtime.device import processor_name
from modelwright.tokenizer.formats import read_vocab_and_merges, tokenizer_json
from modelwright.tokenizer.rank_files import write_tiktoken
from modelwright.tokenizer.tokenizer import Tokenizer

MEGABYTES_OF_CODE = 60
MEGABYTES_FOR_SLOW_PEERS = 4
VOCAB_SIZES = (10_000, 32_000, 50_257)
PACKAGES = ("modelwright", "gigatoken", "tiktoken", "tokenizers", "rustbpe", "numpy")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every section needs."""

    folder: Path  # for the texts, the vocabulary and what the programs write
    texts: Mapping[str, Path]
    n_repeats: int
    slow_peers: bool
    tokenizer: Tokenizer

    def common(self, text: str, **more: Any) -> dict[str, Any]:
        """The settings that most jobs share."""
        return {"folder": str(self.folder), "path": str(self.texts[text]), **more}

    def described(self, text: str) -> str:
        """A text and its size."""
        return f"{text}, {self.texts[text].stat().st_size / 1e6:.1f} MB"


# The texts


def english(data: Path) -> bytes:
    """Books, articles and manuals."""
    return b"".join(path.read_bytes() for path in sorted((data / "english/train").glob("*.txt")))


def multilingual(data: Path) -> bytes:
    """Stories, manuals and declarations in hundreds of languages."""
    paths = [*sorted((data / "unicode").glob("multilingual_*.jsonl")), data / "unicode/udhr2.jsonl"]
    lines = (line for path in paths for line in path.read_text(encoding="utf-8").split("\n"))
    return "".join(f"{json.loads(line)['text']}\n{END}\n" for line in lines if line).encode()


def code(_: Path) -> bytes:
    """The Python files that came with this interpreter and with its packages."""
    standard, packages = (Path(sysconfig.get_paths()[kind]) for kind in ("stdlib", "purelib"))
    paths = [path for path in sorted(standard.rglob("*.py")) if "site-packages" not in path.parts]
    parts, n_bytes = [], 0
    for path in [*paths, *sorted(packages.rglob("*.py"))]:
        content = path.read_bytes()
        if n_bytes >= MEGABYTES_OF_CODE * 1e6:
            break
        try:
            text = content.decode()
        except UnicodeDecodeError:
            continue  # a test of what Python does with such a file
        if END not in text:
            parts.append(f"{text}\n{END}\n".encode())
            n_bytes += len(parts[-1])
    return cut_at_document(b"".join(parts), MEGABYTES_OF_CODE)


TEXTS: Mapping[str, Callable[[Path], bytes]] = {
    "English": english,
    "multilingual": multilingual,
    "code": code,
}


def check_same_ids(setup: Setup, what: str, names: Sequence[str], paths: Sequence[Path]) -> str:
    """Compare the ids that the programs left, and say how it came out."""
    ours, *others = (
        np.load(path) if path.suffix == ".npy" else np.fromfile(path, np.uint16) for path in paths
    )
    said = []
    for name, theirs in zip(names[1:], others, strict=True):
        if np.array_equal(ours, theirs):
            said.append(f"{what}: the {len(ours):,} ids are those of {name}.")
            continue
        shorter = min(len(ours), len(theirs))
        unlike = np.flatnonzero(ours[:shorter] != theirs[:shorter])
        at = int(unlike[0]) if unlike.size else shorter
        around = slice(max(0, at - 4), at + 8)
        said.append(
            f"{what}: THE IDS DIFFER from those of {name}, at {at:,} of {len(ours):,} and "
            f"{len(theirs):,}: ours {ours[around].tolist()} "
            f"({setup.tokenizer.decode_bytes(ours[around])!r}), theirs {theirs[around].tolist()} "
            f"({setup.tokenizer.decode_bytes(theirs[around])!r})."
        )
    return "\n".join(f"- {line}" for line in said)


# The sections


def training(setup: Setup) -> None:
    """Text to vocabulary."""
    table = Table(
        "Training",
        "From a file in the page cache to a vocabulary, GPT-2's pattern; each program has its own "
        "rule for ties. Peak memory is of the whole process, its packages and what it maps of the "
        "file included; importing is not in the time.",
    )
    quantities = {"first": ("time", SECONDS), "peak_memory": ("peak memory", MEGABYTES)}
    cases = [("English", size, n) for size in VOCAB_SIZES for n in (1, 2)]
    cases += [(text, 32_000, n) for text in ("multilingual", "code") for n in (1, 2)]
    remarks = []
    for text, vocab_size, n_threads in cases:
        what = f"{setup.described(text)}, vocabulary {vocab_size:,}, {_threads(n_threads)}"
        settings = setup.common(text, vocab_size=vocab_size)

        def jobs(*programs: str, settings: Any = settings, n: int = n_threads) -> list[Job]:
            return [
                Job(program=program, work="training", settings=settings, n_threads=n)
                for program in programs
            ]

        entrants = jobs("ours", "gigatoken")
        found = take_turns(entrants, setup.n_repeats)
        if setup.slow_peers and text == "English" and n_threads == 1 and vocab_size <= 32_000:
            slow = jobs("rustbpe", "tokenizers")
            entrants, found = entrants + slow, found + take_turns(slow, 1)
        table.add(what, entrants, found, quantities)
        for job, outcome in zip(entrants, found, strict=True):
            if set(outcome["n_tokens"]) != {vocab_size}:
                n_tokens = outcome["n_tokens"][0]
                remarks.append(f"- {what}: {job.name} stopped at {n_tokens:,} tokens.")
    print("\n" + "\n".join(remarks or ["Every vocabulary has the size that was asked for."]))
    if setup.slow_peers:
        print("\nrustbpe and tokenizers were measured once.")


def encoding(setup: Setup) -> None:
    """Text in memory to ids."""
    table = Table(
        "Encoding",
        "GPT-2's ids on 1 thread. The first pass in a fresh process, and the median of the three "
        "after it. Beside gigatoken, a whole text as one bytes object, in which the end-of-text "
        "token is special. Beside tiktoken and tokenizers, which are slower, only the first "
        f"{MEGABYTES_FOR_SLOW_PEERS} MB, document by document as str.",
    )
    quantities = {"first": ("first pass", MILLISECONDS), "repeat": ("repeat pass", MILLISECONDS)}
    remarks = []
    for text in TEXTS:
        part = {"first_megabytes": MEGABYTES_FOR_SLOW_PEERS, "by_document": True}
        for what, settings, peers in (
            (setup.described(text), {}, ["gigatoken"]),
            (f"{text} documents", part, ["tiktoken", "tokenizers"]),
        ):
            programs = ["ours", *peers]
            jobs = [
                Job(program=program, work="encoding", settings=setup.common(text, **settings))
                for program in programs
            ]
            paths = [setup.folder / f"{program}.npy" for program in programs]
            table.add(what, jobs, take_turns(jobs, setup.n_repeats, paths), quantities)
            remarks.append(check_same_ids(setup, what, programs, paths))
    print("\n" + "\n".join(remarks))


def shard(setup: Setup) -> None:
    """File of text to file of ids."""
    table = Table(
        "Text file to file of ids",
        "From a file in the page cache to 16-bit ids on disk, end-of-text ids included, in a fresh "
        "process. gigatoken's `encode_files` returns the 32-bit ids of every document, which numpy "
        "joins and narrows.",
    )
    quantities = {"first": ("time", SECONDS), "peak_memory": ("peak memory", MEGABYTES)}
    remarks = []
    for n_threads in (1, 2):
        programs = ["ours", "gigatoken"]
        jobs = [
            Job(
                program=program, work="shard", settings=setup.common("English"), n_threads=n_threads
            )
            for program in programs
        ]
        paths = [setup.folder / f"{program}.bin" for program in programs]
        what = f"{setup.described('English')}, {_threads(n_threads)}"
        table.add(what, jobs, take_turns(jobs, setup.n_repeats, paths), quantities)
        remarks.append(check_same_ids(setup, what, programs, paths))
    print("\n" + "\n".join(remarks))


def decoding(setup: Setup) -> None:
    """Ids in memory to text."""
    table = Table(
        "Decoding",
        "GPT-2's ids of English to bytes, all at once, 1 thread: uint16 for ours, uint32 for "
        f"gigatoken, and for tiktoken a list of those of the first {MEGABYTES_FOR_SLOW_PEERS} MB. "
        "Every program gave back the text.",
    )
    quantities = {"first": ("first pass", MILLISECONDS), "repeat": ("repeat pass", MILLISECONDS)}
    for what, first_megabytes, peer in (
        (setup.described("English"), None, "gigatoken"),
        ("part of English", MEGABYTES_FOR_SLOW_PEERS, "tiktoken"),
    ):
        ids = setup.folder / "ids.npy"
        settings = setup.common("English", first_megabytes=first_megabytes)
        run(Job(program="ours", work="encoding", settings=settings), save=str(ids))
        jobs = [
            Job(program=program, work="decoding", settings=settings | {"ids": str(ids)})
            for program in ("ours", peer)
        ]
        table.add(what, jobs, take_turns(jobs, setup.n_repeats), quantities)


def latency(setup: Setup) -> None:
    """One short text."""
    table = Table(
        "Latency",
        "One call with a short English str that was encoded before: the median of loops of a "
        "thousand calls, and of the processes that ran them.",
    )
    with setup.texts["English"].open(encoding="ascii", errors="ignore") as file:
        text = file.read(4096).lstrip()
    for n_bytes in (1024, 10):
        settings = {"folder": str(setup.folder), "text": text[:n_bytes]}
        jobs = [
            Job(program=program, work="latency", settings=settings)
            for program in ("ours", "gigatoken", "tiktoken")
        ]
        found = take_turns(jobs, setup.n_repeats)
        table.add(f"{n_bytes:,} bytes", jobs, found, {"call": ("a call", MICROSECONDS)})


def portable(setup: Setup) -> None:
    """What the processor's wide instructions are worth."""
    table = Table(
        "Without the processor's wide instructions",
        f"Ours, as it chooses for this processor ({_native.SIMD}), beside "
        "`MODELWRIGHT_SIMD=portable`; English, 1 thread. Cutting is of the first "
        f"{MEGABYTES_FOR_SLOW_PEERS} MB, document by document, and makes a bytes object of every "
        "piece, which takes most of its time.",
        ("chosen", "portable"),
    )
    part = {"first_megabytes": MEGABYTES_FOR_SLOW_PEERS}
    for what, work, more, quantities in (
        ("training, 32,000", "training", {"vocab_size": 32_000}, {"first": ("time", SECONDS)}),
        ("encoding", "encoding", {}, {"repeat": ("repeat pass", MILLISECONDS)}),
        ("cutting", "splitting", part, {"repeat": ("repeat pass", MILLISECONDS)}),
    ):
        settings = setup.common("English", **more)
        chosen = Job(program="ours", work=work, settings=settings)
        plain = Job(
            program="ours",
            work=work,
            settings=settings,
            environment={"MODELWRIGHT_SIMD": "portable"},
            label="ours, portable",
        )
        table.add(what, [chosen, plain], take_turns([chosen, plain], setup.n_repeats), quantities)


SECTIONS: Mapping[str, Callable[[Setup], None]] = {
    "training": training,
    "encoding": encoding,
    "decoding": decoding,
    "latency": latency,
    "shard": shard,
    "portable": portable,
}


def _threads(n_threads: int) -> str:
    return f"{n_threads} thread{'s' if n_threads > 1 else ''}"


def _heading(n_repeats: int) -> Iterator[str]:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    yield "# The tokenizer beside others\n"
    yield f"    python {' '.join([f'benchmarks/{Path(__file__).name}', *sys.argv[1:]])}\n"
    yield (
        f"{processor_name()} with {len(os.sched_getaffinity(0))} cores, Python "
        f"{platform.python_version()}, {packages}, {date.today()}. Every cell is the median of "
        f"{n_repeats} and, in brackets, the least and the most; each of them a process of its own, "
        "the programs taking turns. A ratio below 1: ours takes less."
    )


def main() -> None:
    """Make the texts, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    data = os.environ.get("MODELWRIGHT_DATA")
    parser.add_argument("--data", type=Path, default=data, required=data is None)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--megabytes", type=float, help="cut every text, for a quick try")
    parser.add_argument(
        "--slow-peers", action="store_true", help="rustbpe and tokenizers train too"
    )
    arguments = parser.parse_args()

    gpt2 = arguments.data / "gpt2"
    vocabulary = read_vocab_and_merges(gpt2 / "gpt2_vocab.json", gpt2 / "gpt2_merges.txt")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "gpt2.json").write_bytes(tokenizer_json(vocabulary))
        write_tiktoken(vocabulary, folder / "gpt2.tiktoken")
        texts = {text: folder / f"{text}.txt" for text in TEXTS}
        for text, path in texts.items():
            path.write_bytes(cut_at_document(TEXTS[text](arguments.data), arguments.megabytes))
        setup = Setup(
            folder=folder,
            texts=texts,
            n_repeats=arguments.repeats,
            slow_peers=arguments.slow_peers,
            tokenizer=Tokenizer(vocabulary),
        )
        print("\n".join(_heading(arguments.repeats)), flush=True)
        for section in arguments.only:
            SECTIONS[section](setup)


if __name__ == "__main__":
    main()
