"""The editions of the vector loops, which the processor chooses between, give the same everywhere."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

# Runs in a process of its own, since the edition is chosen once: prints it, and a hash of the
# pieces, ids and merges of some megabytes of text.
PROGRAM = r"""
import hashlib
import random

from modelwright import _native
from modelwright.tokenizer.splitting import pattern_named, split
from modelwright.tokenizer.training import train_tokenizer

rng = random.Random(0)
# Characters of one to four bytes, white space of several bytes, numbers, marks, broken ones.
ODD = ["é", "中", "🙂", "\u3000", "\u00a0", "½", "Ⅳ", "e\u0301", "ſ", "٣", "Ж", "\U00010400"]
BROKEN = [b"\xe2\x82", b"\xf0\x9f", b"\xff", b"\x80\x80\x80", b"\xed\xa0\x80"]
ENDINGS = ["'s", "'ll", "'LL", "'ve", "'re", "'d", "'", "''", "'sa", "'l"]
COMMON = "etaoin shrdlu ETAOIN 0123 .,!?-\n\t\r"


def piece():
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(BROKEN)
    if kind == 1:
        return (rng.choice("ab 中") + rng.choice(ENDINGS)).encode()
    if kind == 2:
        return (rng.choice(["a", " ", "A", "1", "=", "中", "\n"]) * rng.randint(1, 140)).encode()
    pool = ODD if kind == 3 else COMMON
    return "".join(rng.choices(pool, k=rng.randint(1, 30))).encode()


documents = []
# Every offset in a block of 64 bytes, for what stands there and for where the text ends.
for n_before in range(130):
    for middle in [*ENDINGS, *ODD, *BROKEN, "  ", " \n", " x", "1", "x"]:
        data = middle if isinstance(middle, bytes) else middle.encode()
        for before, after in (("x", "x"), (" ", ""), ("1", " "), ("!", "a"), ("é", "é")):
            fill = (before * n_before).encode()[:n_before]
            documents.append(fill + data + after.encode())
for _ in range(4000):
    documents.append(b"".join(piece() for _ in range(rng.randint(0, 8))))
documents.append(b"".join(piece() for _ in range(60_000)))

print(_native.SIMD)
print(sum(map(len, documents)))
digest = hashlib.sha256()
for name, digits_apart in [("gpt2", False), ("gpt2", True), ("cl100k", False), ("o200k", False)]:
    pattern = pattern_named(name, digits_apart=digits_apart)
    for document in documents:
        pieces = split(document, pattern)
        assert b"".join(pieces) == document
        digest.update(b"".join(len(piece).to_bytes(8, "little") for piece in pieces))
    tokenizer = train_tokenizer(documents, vocab_size=1000, pattern=pattern)
    assert tokenizer.n_vocab == 1000
    digest.update(repr(tokenizer.vocabulary.merges).encode())
    # Pieces of all lengths up to those that are merged in the short way.
    words = [b"abcdefgh"[: i % 7 + 1] * (i % 40 + 1) for i in range(500)]
    ids, offsets = tokenizer.encode_documents([*documents, *words])
    digest.update(ids.tobytes() + offsets.tobytes())
print(digest.hexdigest())
"""


def wanted_edition(level: str) -> str:
    """What runs when this edition is asked for: without the processor for it, the portable one."""
    flag = {"avx2": "avx2", "avx512": "avx512bw"}.get(level)
    if flag is None or platform.machine() not in ("x86_64", "AMD64"):
        return "portable"
    flags = Path("/proc/cpuinfo").read_text().split()
    return level if flag in flags else "portable"


def run_with(level: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "MODELWRIGHT_SIMD": level},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.fixture(scope="module")
def portable() -> list[str]:
    return run_with("portable")


def test_the_portable_edition_runs_where_it_is_asked_for(portable: list[str]):
    edition, n_bytes, _ = portable
    assert edition == "portable"
    assert int(n_bytes) > 2_000_000


if sys.platform == "linux":  # where the processor's abilities can be read

    @pytest.mark.parametrize("level", ["avx2", "avx512"])
    def test_the_edition_asked_for_runs_and_gives_what_the_portable_one_gives(
        level: str, portable: list[str]
    ):
        edition, *results = run_with(level)
        assert edition == wanted_edition(level)
        assert results == portable[1:]
