import json
from pathlib import Path

import numpy as np
import pytest

import small
from modelwright.data.building import build_data
from modelwright.data.config import DataConfig
from modelwright.data.describing import as_plain, described
from modelwright.data.inspection import (
    check_shard,
    histogram_of,
    inspect_data,
    inspect_shard,
    lengths_of,
    text_bytes_of_ids,
    training_histogram,
    visible,
)
from modelwright.data.shards import open_shard, write_shard
from modelwright.tokenizer.config import TokenizerConfig

tokenizer = small.tokenizer()
end = tokenizer.end_of_text
first, second = b"caf\xc3\xa9 \x1b[31m\xff\r\nsecond line\xe2\x80\xae", b"word " * 500


def shard_of(path: Path, documents: list[list[int]], dtype: type = np.uint16):
    starts = np.cumsum([0, *map(len, documents)])
    tokens = np.array([i for document in documents for i in document], dtype)
    write_shard(path, tokens, starts, tokenizer.fingerprint)
    return open_shard(path)


def built(folder: Path) -> Path:
    config = DataConfig(folder=str(folder / "data"), stories_bytes=60_000, shard_tokens=5000)
    return build_data(config, TokenizerConfig(vocab_size=300)).folder


def test_a_folder_is_described_as_its_manifest_and_its_files_say(tmp_path: Path):
    folder = built(tmp_path)
    facts = json.loads((folder / "manifest.json").read_text())["facts"]
    found = inspect_data(folder)
    for name, side in found.sides.items():
        counts = facts["splits"][name]
        assert (side.n_tokens, side.n_documents) == (counts["n_tokens"], counts["n_documents"])
        assert (side.n_bytes, side.n_shards) == (counts["n_bytes"], counts["n_shards"])
        assert side.bytes_per_token == counts["n_bytes"] / counts["n_tokens"]
        files = folder.glob(f"{name}-*.shard")
        assert side.bytes_on_disk == sum(path.stat().st_size for path in files)
    assert found.sides["train"].n_shards > 2
    assert (found.fingerprint, found.n_vocab) == (facts["fingerprint"], 300)


def test_lengths_are_those_of_all_documents_of_all_shards(tmp_path: Path):
    lengths = [1, 3, 2, 9, 4, 100]
    documents = [[5] * (n - 1) + [end] for n in lengths]
    shards = [
        shard_of(tmp_path / "a", documents[:4]),
        shard_of(tmp_path / "b", documents[4:]),
    ]
    found = lengths_of(shards)
    assert found is not None
    assert (found.least, found.most) == (1, 100)
    assert found.median == np.median(lengths)
    assert found.mean == np.mean(lengths)
    assert found.percentile_90 == np.percentile(lengths, 90)
    assert found.percentile_99 == np.percentile(lengths, 99)


@pytest.mark.parametrize(
    "lengths", [[1], [7] * 5, [1, 2, 3, 4], list(range(1, 3000, 7)), [100, 120, 131, 200, 255, 256]]
)
def test_every_document_is_in_its_bin_of_the_histogram(lengths: list[int]):
    found = histogram_of(np.array(lengths))
    bins = list(zip(found.edges, found.edges[1:], strict=False))
    assert all(low < high for low, high in bins)
    for (low, high), n_documents, n_tokens in zip(
        bins, found.n_documents, found.n_tokens, strict=True
    ):
        inside = [n for n in lengths if low <= n < high]
        assert (len(inside), sum(inside)) == (n_documents, n_tokens)
    assert sum(found.n_documents) == len(lengths)


def test_bins_grow_finer_where_lengths_are_close():
    wide = histogram_of(np.array([2, 70_000]))
    assert wide.edges == tuple(2**i for i in range(1, 18))
    close = histogram_of(np.array([90, 230]))
    assert close.edges[:2] == (83, 91)
    assert len(close.edges) > 8


def test_what_a_terminal_would_obey_is_made_visible():
    assert visible(first) == "café \\x1b[31m\\xff\\r\nsecond line\\u202e"


def test_the_first_documents_are_shown_and_long_ones_cut(tmp_path: Path):
    ids = [[*tokenizer.encode(text).tolist(), end] for text in (first, second, b"")]
    path = tmp_path / "a.shard"
    shard_of(path, ids)
    excerpts = inspect_shard(path, tokenizer, n_excerpts=3).sides["shard"].excerpts
    assert [excerpt.text for excerpt in excerpts] == [
        "café \\x1b[31m\\xff\\r\nsecond line\\u202e",
        ("word " * 500)[:400],
        "",
    ]
    assert [excerpt.is_whole for excerpt in excerpts] == [True, False, True]
    assert [excerpt.n_tokens for excerpt in excerpts] == list(map(len, ids))


@pytest.mark.parametrize("n", [0, 1, 3])
def test_as_many_documents_are_shown_as_asked_for(tmp_path: Path, n: int):
    found = inspect_data(built(tmp_path), n_excerpts=n)
    assert [len(side.excerpts) for side in found.sides.values()] == [n, n]


def test_first_documents_go_on_in_the_next_shard(tmp_path: Path):
    folder = built(tmp_path)
    n_first = len(open_shard(folder / "train-00000.shard").document_starts) - 1
    excerpts = inspect_data(folder, n_excerpts=n_first + 2).sides["train"].excerpts
    assert len(excerpts) == n_first + 2
    second_shard = open_shard(folder / "train-00001.shard")
    assert excerpts[n_first].n_tokens == int(second_shard.document_starts[1])


def test_a_shard_alone_has_counts_and_no_text(tmp_path: Path):
    path = tmp_path / "a.shard"
    shard_of(path, [[1, 2, end], [3, end]])
    found = inspect_shard(path)
    side = found.sides["shard"]
    assert (side.n_tokens, side.n_documents, side.n_bytes) == (5, 2, None)
    assert side.excerpts == ()
    assert (found.n_vocab, found.fingerprint) == (None, tokenizer.fingerprint)
    assert described(side)["bytes of text"] == "not known"


def test_a_shard_of_another_tokenizer_is_not_decoded(tmp_path: Path):
    path = tmp_path / "a.shard"
    shard_of(path, [[1, end]])
    other = small.tokenizer(299)
    with pytest.raises(ValueError) as raised:
        inspect_shard(path, other)
    assert other.fingerprint[:12] in str(raised.value)
    assert tokenizer.fingerprint[:12] in str(raised.value)


def test_an_id_that_cannot_be_decoded_is_told_with_the_file(tmp_path: Path):
    path = tmp_path / "a.shard"
    shard_of(path, [[1, 300, end]])
    with pytest.raises(ValueError, match=r"a\.shard: .*300"):
        inspect_shard(path, tokenizer)


def test_an_inspection_is_plain_json(tmp_path: Path):
    folder = built(tmp_path)
    plain = json.loads(json.dumps(as_plain(inspect_data(folder))))
    side = plain["sides"]["train"]
    assert side["bytes_per_token"] == side["n_bytes"] / side["n_tokens"]
    assert side["lengths"]["histogram"] == training_histogram(folder)
    assert plain["facts"]["splits"]["train"]["n_tokens"] == side["n_tokens"]


def test_bytes_of_text_are_those_of_the_decoded_documents():
    n_bytes = text_bytes_of_ids(tokenizer)
    for text in small.texts(5):
        ids = [*tokenizer.encode(text).tolist(), end]
        assert n_bytes[ids].sum() == len(text.encode())


def test_a_folder_that_was_never_finished_is_said_to_be(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="there is no folder at"):
        inspect_data(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.json, so it is not a finished"):
        inspect_data(tmp_path)


def test_a_right_shard_passes(tmp_path: Path):
    check_shard(shard_of(tmp_path / "a", [[1, 299, end], [end]]), 300, end)
    check_shard(shard_of(tmp_path / "b", [[65_536, end]], np.uint32), 65_537, end)


@pytest.mark.parametrize("chunk", [1, 2, 1000])
@pytest.mark.parametrize(
    ("documents", "dtype", "message"),
    [
        ([[1, end], [2, 300, end]], np.uint16, "token 3 is the id 300, but the vocabulary has 300"),
        ([[1, end], [2, 3], [4, end]], np.uint16, "document 1 ends at token 3 with the id 3 inst"),
        ([[1, end]], np.uint32, "has ids of 4 bytes, but a vocabulary of 300 tokens takes 2"),
    ],
)
def test_a_wrong_shard_is_told_with_the_token(
    tmp_path: Path, monkeypatch, chunk: int, documents, dtype, message: str
):
    monkeypatch.setattr("modelwright.data.inspection.chunk_tokens", chunk)
    shard = shard_of(tmp_path / "a.shard", documents, dtype)
    with pytest.raises(ValueError, match=rf"a\.shard.*{message}"):
        check_shard(shard, 300, end)


def test_ids_of_two_bytes_are_too_narrow_for_a_large_vocabulary(tmp_path: Path):
    shard = shard_of(tmp_path / "a.shard", [[1, end]])
    check_shard(shard, 65_536, end)
    with pytest.raises(ValueError, match="has ids of 2 bytes, .* takes 4"):
        check_shard(shard, 65_537, end)


@pytest.mark.parametrize("chunk", [1, 2, 1000])
@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ([0, 4, 3, 6], "document 1 starts at token 4 and the next one at 3; they have to rise"),
        ([0, 3, 3, 6], "document 1 starts at token 3 and the next one at 3"),
        ([0, 3, 2**63 + 4, 6], "document 1 starts at token 3 and the next one at"),
        ([1, 3, 4, 6], "its documents go from token 1 to 6, but it has the tokens from 0 to 6"),
        ([0, 3, 4, 5], "its documents go from token 0 to 5, but it has the tokens from 0 to 6"),
    ],
)
def test_document_starts_out_of_order_are_told(
    tmp_path: Path, monkeypatch, chunk: int, starts: list[int], message: str
):
    monkeypatch.setattr("modelwright.data.inspection.chunk_tokens", chunk)
    path = tmp_path / "a.shard"
    shard_of(path, [[1, 2, end], [end], [3, end]])
    content = path.read_bytes()
    path.write_bytes(content[:-32] + np.array(starts, "<u8").tobytes())
    with pytest.raises(ValueError, match=rf"a\.shard: {message}"):
        check_shard(open_shard(path), 300, end)
    with pytest.raises(ValueError, match=r"a\.shard"):
        inspect_shard(path)
