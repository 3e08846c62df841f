"""Text that is meant to do harm, or never meant to be text: nothing is lost, and nothing explodes."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelwright.tokenizer.splitting import PATTERNS
from modelwright.tokenizer.tokenizer import END_OF_TEXT, Tokenizer
from modelwright.tokenizer.training import train_tokenizer

HOSTILE = {
    "no UTF-8 at all": bytes(range(256)) * 40,
    "random bytes": random.Random(0).randbytes(50_000),
    "lone continuation bytes": b"\x80\xbf" * 5000,
    "half characters": "世🙂é".encode()[:-1] * 3000,
    "surrogates": b"\xed\xa0\x80\xed\xb0\x80" * 2000,
    "overlong forms": b"\xc0\xa0\xe0\x80\xaf\xf0\x80\x80\xa0" * 1000,
    "above the last code point": b"\xf4\x90\x80\x80\xff\xfe" * 1000,
    "NUL bytes": b"\x00" * 9999 + b"a\x00b \x00\n\x00",
    "a NUL in each word": b"th\x00e c\x00at " * 2000,
    "byte order marks": b"\xef\xbb\xbf\xff\xfe" + "\ufefftext".encode("utf-16"),
    "special tokens": f"{END_OF_TEXT}<|pad|>".encode() * 500,
    "half special tokens": b"<|endoftext|" * 500 + b"|><|endoftext",
    "marks without letters": "\u0301\u0300\u0489".encode() * 3000,
    "directions": "\u202e\u2066abc\u2069".encode() * 500,
    "all line ends": "\r\n\n\r\u2028\u2029\x85\x0b\x0c".encode() * 800,
}


@pytest.fixture(scope="module", params=PATTERNS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return train_tokenizer(
        ["the cat sat on the mat, the <|endoftext|> " * 20, *HOSTILE.values()],
        vocab_size=500,
        special_tokens=("<|pad|>", END_OF_TEXT),
        pattern=PATTERNS[request.param],
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_come_back_and_turn_into_no_special_token(tokenizer: Tokenizer, name: str):
    data = HOSTILE[name]
    specials = list(tokenizer.special_tokens.values())
    ids = tokenizer.encode(data)
    assert tokenizer.decode_bytes(ids) == data
    assert not np.isin(ids, specials).any()
    batch, _ = tokenizer.encode_documents([data, data], end_of_text=False, n_threads=2)
    assert np.array_equal(batch, np.concatenate([ids, ids]))
    with_specials = tokenizer.encode(data, allowed_special="all")
    assert tokenizer.decode_bytes(with_specials) == data
    n_special = sum(data.count(text.encode()) for text in tokenizer.special_tokens)
    assert np.isin(with_specials, specials).sum() == n_special


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_in_a_file_come_back(tokenizer: Tokenizer, name: str, tmp_path: Path):
    path = tmp_path / "hostile.txt"
    path.write_bytes(HOSTILE[name])
    parts = list(tokenizer.encode_file(path, n_threads=2))
    assert tokenizer.decode_bytes(np.concatenate(parts)) == HOSTILE[name]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_can_be_trained_on_alone(name: str):
    data = HOSTILE[name]
    tokenizer = train_tokenizer([data], vocab_size=400)
    assert tokenizer.decode_bytes(tokenizer.encode(data)) == data


def least_seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("unit", ["a", " ", "=", "A", "\n", "\u3000", "中A", "'", "ab", "\x00"])
def test_the_time_for_a_run_without_a_break_grows_in_proportion(tokenizer: Tokenizer, unit: str):
    """Ten times the text; were the time quadratic, it would take a hundred times as long."""
    runs = [unit * (n_bytes // len(unit.encode())) for n_bytes in (200_000, 2_000_000)]

    def seconds_of(work: Callable[[str], object]) -> list[float]:
        return [least_seconds(lambda run=run: work(run)) for run in runs]

    assert tokenizer.decode(tokenizer.encode(runs[0])) == runs[0]
    for work in (
        tokenizer.encode,
        lambda run: list(
            tokenizer.encode_chunks(run[i : i + 5000] for i in range(0, len(run), 5000))
        ),
        lambda run: train_tokenizer([run], vocab_size=300, pattern=tokenizer.vocabulary.pattern),
    ):
        short, long = seconds_of(work)
        assert long < 40 * short + 0.1


# ---- a line of 100 MB

N_BYTES = 100_000_000

# Runs in a process of its own, so that its peak of memory is that of this work. Prints what was
# already taken before, the peak, and what the vocabulary came to.
LONG_LINE = """
import resource, sys
from modelwright.tokenizer.splitting import PATTERNS
from modelwright.tokenizer.training import train_tokenizer

kind, pattern, n_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3])
units = {"words": b"the cat sat on a mat; ", "letters": b"abcd", "equals": b"="}
line = units[kind] * (n_bytes // len(units[kind]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tokenizer = train_tokenizer([line], vocab_size=270, pattern=PATTERNS[pattern])
ids = tokenizer.encode(line)
assert tokenizer.decode_bytes(ids) == line
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, tokenizer.n_vocab, len(ids))
"""


@pytest.mark.parametrize(
    ("kind", "pattern", "most_bytes_a_byte"),
    [
        # Pieces are short: the ids and the text that comes back are all that there is.
        ("words", "gpt2", 4),
        ("words", "o200k", 4),
        # One piece: each of its bytes has a place among others, in training and in merging.
        ("letters", "gpt2", 40),
        ("equals", "cl100k", 40),
    ],
)
def test_a_line_of_100_mb_is_trained_on_encoded_and_decoded(
    kind: str, pattern: str, most_bytes_a_byte: int
):
    n_bytes = N_BYTES // 4 if kind == "equals" else N_BYTES
    done = subprocess.run(
        [sys.executable, "-c", LONG_LINE, kind, pattern, str(n_bytes)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,  # it takes seconds
    )
    before, peak, n_vocab, n_ids = map(int, done.stdout.split())
    scale = 1 if sys.platform == "darwin" else 1024
    assert (peak - before) * scale < most_bytes_a_byte * n_bytes + (64 << 20)
    assert n_vocab > 257
    assert n_ids < n_bytes / 2
