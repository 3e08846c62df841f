from pathlib import Path

import numpy as np
import pytest

from modelwright.data.shards import (
    TokenSequence,
    header_bytes,
    open_shard,
    write_shard,
    write_shard_parts,
)

fingerprint = "ab" * 32


def write(path: Path, n_tokens: int = 10, dtype: type = np.uint16, first: int = 0) -> Path:
    tokens = np.arange(first, first + n_tokens, dtype=dtype)
    write_shard(path, tokens, np.array([0, 4, n_tokens], np.int64), fingerprint)
    return path


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("n_tokens", [5, 8, 9])
def test_a_shard_reads_back_as_it_was_written(tmp_path: Path, dtype: type, n_tokens: int):
    shard = open_shard(write(tmp_path / "a.shard", n_tokens, dtype))
    assert shard.tokens.dtype == dtype
    assert shard.tokens.tolist() == list(range(n_tokens))
    assert shard.document_starts.tolist() == [0, 4, n_tokens]
    assert shard.fingerprint == fingerprint


def test_the_bytes_are_those_of_the_documented_format(tmp_path: Path):
    content = write(tmp_path / "a.shard", 5).read_bytes()
    assert content[:8] == b"MWSHARD\x01"
    assert content[8:16] == (1).to_bytes(4, "little") + (2).to_bytes(4, "little")
    assert content[16:32] == (5).to_bytes(8, "little") + (2).to_bytes(8, "little")
    assert content[32:64].hex() == fingerprint
    assert content[header_bytes : header_bytes + 10] == bytes([0, 0, 1, 0, 2, 0, 3, 0, 4, 0])
    assert content[header_bytes + 16 :] == b"".join(n.to_bytes(8, "little") for n in (0, 4, 5))


@pytest.mark.parametrize("n_lost", [1, 8, 40, 200])
def test_a_truncated_shard_is_refused_by_name(tmp_path: Path, n_lost: int):
    path = write(tmp_path / "a.shard")
    path.write_bytes(path.read_bytes()[:-n_lost])
    with pytest.raises(ValueError, match=r"a\.shard"):
        open_shard(path)


def test_something_else_is_not_taken_for_a_shard(tmp_path: Path):
    path = tmp_path / "a.shard"
    path.write_bytes(b"x" * 500)
    with pytest.raises(ValueError, match="is not a token shard"):
        open_shard(path)


def test_a_shard_of_another_version_is_refused(tmp_path: Path):
    path = write(tmp_path / "a.shard")
    content = bytearray(path.read_bytes())
    content[8] = 9
    path.write_bytes(content)
    with pytest.raises(ValueError, match="version 9"):
        open_shard(path)


def test_shards_read_as_one_sequence(tmp_path: Path):
    sizes = [7, 5, 9]
    shards, first = [], 0
    for index, size in enumerate(sizes):
        shards.append(open_shard(write(tmp_path / f"{index}.shard", size, first=first)))
        first += size
    tokens = TokenSequence(shards)
    assert len(tokens) == 21
    for start in range(22):
        for stop in range(start, 22):
            assert tokens.read(start, stop).tolist() == list(range(start, stop))


def test_no_shards_are_an_empty_sequence():
    assert len(TokenSequence([])) == 0


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("is_ended", [True, False])
def test_a_shard_written_in_parts_is_that_of_the_whole(tmp_path: Path, dtype: type, is_ended: bool):
    end = 9
    whole = np.array([1, 2, end, 3, end, end, 4, 5, end], dtype)
    given = whole if is_ended else whole[:-1]
    parts = [given[:2], given[2:2], given[2:5], given[5:]]
    counts = write_shard_parts(
        tmp_path / "parts", parts, dtype=np.dtype(dtype), end_of_text=end, fingerprint=fingerprint
    )
    write_shard(tmp_path / "whole", whole, np.array([0, 3, 5, 6, 9], np.int64), fingerprint)
    assert counts == (9, 4)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_shard_whose_parts_fail_is_not_left_behind(tmp_path: Path):
    def parts():
        yield np.array([1], np.uint16)
        raise RuntimeError("the text ended")

    with pytest.raises(RuntimeError, match="the text ended"):
        write_shard_parts(
            tmp_path / "a",
            parts(),
            dtype=np.dtype(np.uint16),
            end_of_text=9,
            fingerprint=fingerprint,
        )
    assert list(tmp_path.iterdir()) == []
