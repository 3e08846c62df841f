"""Train a tokenizer on a large corpus and see that memory stays small.

    python benchmarks/tokenizer_memory.py --gigabytes 10

The corpus is made as it is read: the built-in stories again and again, each time with words
that were never met before, as many as a corpus of that size would bring. By Heaps' law `n` words
have about `K * n**BETA` distinct ones (Manning, Raghavan and Schütze 2008, section 5.1.1, who fit
K = 44 and BETA = 0.49 to Reuters-RCV1). The values here are meant for web text, with its names and
misspellings, and make far more: eight million in ten gigabytes.
"""

import argparse
import platform
import resource
import time
from collections.abc import Iterator

import numpy as np

from modelwright import __version__, stories
from modelwright.tokenizer.training import TrainingProgress, train_tokenizer

HEAPS_FACTOR, HEAPS_EXPONENT = 8.0, 0.65
BYTES_PER_WORD = 5.7
BLOCK_BYTES = 64_000_000


def corpus(n_bytes: int) -> Iterator[bytes]:
    """Yield blocks of text with new words at the rate of Heaps' law."""
    told: list[str] = []
    size = 0
    for story in stories(0):
        told.append(story)
        size += len(story)
        if size > BLOCK_BYTES // 8:
            break
    base = "\n".join(told).encode() * 8
    rng = np.random.default_rng(0)
    n_done, n_known = 0, 0
    while n_done < n_bytes:
        n_done += len(base)
        n_words = n_done / BYTES_PER_WORD
        n_wanted = int(HEAPS_FACTOR * n_words**HEAPS_EXPONENT)
        letters = rng.integers(ord("a"), ord("z") + 1, (n_wanted - n_known, 9), dtype=np.uint8)
        letters[:, 0] = ord(" ")
        n_known = n_wanted
        yield base + letters.tobytes()


def main() -> None:
    """Train, and print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--vocab-size", type=int, default=32_000)
    options = parser.parse_args()
    start = time.perf_counter()
    reported = 0.0

    def tell(progress: TrainingProgress) -> None:
        nonlocal reported
        if time.perf_counter() - reported > 5:
            reported = time.perf_counter()
            print(f"{progress.phase}: {progress.n_bytes / 1e9:.2f} GB, {progress.n_merges} merges")

    trained = train_tokenizer(
        corpus(int(options.gigabytes * 1e9)), vocab_size=options.vocab_size, on_progress=tell
    )
    report = trained.training
    assert report is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"modelwright {__version__}, Python {platform.python_version()}: "
        f"{report.n_bytes / 1e9:.2f} GB, {report.n_pieces:,} distinct pieces, "
        f"{report.n_merges:,} merges in {time.perf_counter() - start:.0f} s; peak memory "
        f"{peak / 1e9:.2f} GB, of which about {3 * BLOCK_BYTES / 1e9:.2f} GB is the text made here"
    )


if __name__ == "__main__":
    main()
