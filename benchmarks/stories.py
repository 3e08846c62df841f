"""How rich the built-in stories are, beside the same amount of any other collection of stories.

    python benchmarks/stories.py                                    ten million bytes of ours
    python benchmarks/stories.py tinystories.txt [more.txt ...]     and an equal amount of theirs

In the files, stories end with a line `<|endoftext|>`. The table is Markdown, for `docs/stories.md`.
"""

from __future__ import annotations

import argparse
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from modelwright.data.stories import stories

END = "<|endoftext|>"
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_SENTENCE_END = re.compile(r"[.!?]+[\"']?(?:\s|$)")
N_GRAM_WORDS = 8
OPENING_WORDS = 4


def ours(n_bytes: int, seed: int) -> tuple[list[str], float]:
    """Our stories up to `n_bytes`, and how many bytes per second they came at."""
    started = time.perf_counter()
    told, total = [], 0
    for story in stories(seed):
        told.append(story)
        total += len(story)
        if total >= n_bytes:
            break
    return told, total / (time.perf_counter() - started)


def theirs(paths: Sequence[Path], n_bytes: int) -> list[str]:
    """The stories in some files, up to `n_bytes`."""
    kept, total = [], 0
    for path in paths:
        for story in path.read_text(encoding="utf-8").split(END):
            if total >= n_bytes:
                return kept
            if story.strip():
                kept.append(story.strip())
                total += len(story.encode())
    return kept


def n_grams(words: Sequence[str], length: int) -> Iterable[tuple[str, ...]]:
    """All runs of `length` words."""
    return zip(*(words[start:] for start in range(length)), strict=False)


def measure(collection: Sequence[str]) -> dict[str, str]:
    """The figures of one collection, ready to print."""
    vocabulary: Counter[str] = Counter()
    grams: Counter[tuple[str, ...]] = Counter()
    openings: Counter[str] = Counter()
    n_sentences = 0
    for story in collection:
        words = _WORD.findall(story.lower().replace("\u2019", "'"))
        vocabulary.update(words)
        grams.update(n_grams(words, N_GRAM_WORDS))
        openings[" ".join(words[:OPENING_WORDS])] += 1
        n_sentences += len(_SENTENCE_END.findall(story))
    text = "\n".join(collection).encode()
    n_stories, n_words, n_grams_in_all = len(collection), vocabulary.total(), grams.total()
    often, times = grams.most_common(1)[0]
    opening, opened = openings.most_common(1)[0]
    common = sum(count for _, count in vocabulary.most_common(2000))
    return {
        "bytes": f"{len(text):,}",
        "stories": f"{n_stories:,}",
        "distinct stories": f"{len(set(collection)):,}",
        "words per story": f"{n_words / n_stories:.1f}",
        "sentences per story": f"{n_sentences / n_stories:.1f}",
        "words per sentence": f"{n_words / n_sentences:.1f}",
        "distinct words": f"{len(vocabulary):,}",
        "share of text in the 2,000 commonest words": f"{common / n_words:.1%}",
        f"distinct {N_GRAM_WORDS}-grams of words": f"{len(grams):,}",
        "their share of all": f"{len(grams) / n_grams_in_all:.1%}",
        "zlib ratio, level 9": f"{len(text) / len(zlib.compress(text, 9)):.2f}",
        f"commonest {N_GRAM_WORDS}-gram": f"{' '.join(often)} ({times / n_stories:.2%} of stories)",
        f"commonest first {OPENING_WORDS} words": f"{opening} ({opened / n_stories:.1%})",
        "distinct openings": f"{len(openings):,}",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, help="files of stories to compare with")
    parser.add_argument("--bytes", type=int, default=10_000_000, help="how much of ours to measure")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    list(islice(stories(arguments.seed + 1), 3000))  # every pattern has been read before timing
    told, bytes_per_second = ours(arguments.bytes, arguments.seed)
    columns = {"ours": measure(told)}
    if arguments.paths:
        other = theirs(arguments.paths, arguments.bytes)
        n_bytes = sum(len(story.encode()) for story in other)
        columns["as much of ours"] = measure(ours(n_bytes, arguments.seed)[0])
        columns["theirs"] = measure(other)

    print(f"Told at {bytes_per_second / 1e6:.1f} MB/s.\n")
    print("| | " + " | ".join(columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for figure in columns["ours"]:
        row = [column[figure] for column in columns.values()]
        print(f"| {figure} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
