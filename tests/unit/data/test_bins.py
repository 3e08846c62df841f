import json
import struct
from collections.abc import Iterable
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import small
from modelwright.data import bins
from modelwright.data.bins import export_bins, import_bins, open_bin
from modelwright.data.folder import open_data
from modelwright.data.inspection import open_folder
from modelwright.data.verification import verify_data
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.vocabulary import Vocabulary

tokenizer = small.tokenizer()
end = tokenizer.end_of_text


def joined(lists: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def raw(path: Path, ids: list[int]) -> Path:
    np.array(ids, "<u2").tofile(path)
    return path


def with_header(
    path: Path, ids: list[int], *, magic: int = 20240520, version: int = 1, form: str = "H"
) -> Path:
    header = struct.pack("<256i", magic, version, len(ids), *[0] * 253)
    path.write_bytes(header + struct.pack(f"<{len(ids)}{form}", *ids))
    return path


def stream(folder: Path, side: str = "train") -> list[int]:
    return [int(i) for shard in open_folder(folder).shards[side] for i in shard.tokens]


def documents(folder: Path, side: str = "train") -> list[list[int]]:
    found = []
    for shard in open_folder(folder).shards[side]:
        starts = shard.document_starts.tolist()
        found += [shard.tokens[a:b].tolist() for a, b in pairwise(starts)]
    return found


def imported(folder: Path, train: list[Path], **options) -> Path:
    val = raw(folder / "validation_of_its_own.bin", [1, end])
    import_bins(train, [val], tokenizer, folder / "data", **options)
    return folder / "data"


def wide_tokenizer() -> Tokenizer:
    """More tokens than sixteen bits can number."""
    narrow = tokenizer.vocabulary
    unused = {f"<|unused_{i}|>": i for i in range(len(narrow.tokens), 70_000)}
    return Tokenizer(
        Vocabulary(
            tokens=(*narrow.tokens, *(text.encode() for text in unused)),
            merges=narrow.merges,
            special_tokens={**narrow.special_tokens, **unused},
            pattern=narrow.pattern,
        )
    )


def test_a_file_without_header_is_nanogpts_and_ends_each_document(tmp_path: Path):
    path = raw(tmp_path / "train.bin", [1, 2, end, end, 3, end])
    assert open_bin(path).format == "nanogpt"
    folder = imported(tmp_path, [path])
    assert documents(folder) == [[1, 2, end], [end], [3, end]]


def test_a_file_with_header_is_llmcs_and_begins_each_document(tmp_path: Path):
    path = with_header(tmp_path / "a.bin", [end, 1, 2, end, end, 3])
    assert open_bin(path).format == "llmc"
    folder = imported(tmp_path, [path])
    assert documents(folder) == [[1, 2, end], [end], [3, end]]


def test_a_document_of_llmcs_goes_on_in_the_next_file(tmp_path: Path):
    first = with_header(tmp_path / "a.bin", [4, 5, end, 1])
    second = with_header(tmp_path / "b.bin", [2, end, 3])
    assert documents(imported(tmp_path, [first, second])) == [[4, 5, end], [1, 2, end], [3, end]]


def test_a_file_of_nanogpts_ends_its_last_document(tmp_path: Path):
    first, second = raw(tmp_path / "a.bin", [1, 2]), raw(tmp_path / "b.bin", [3, end])
    assert documents(imported(tmp_path, [first, second])) == [[1, 2, end], [3, end]]


def test_the_llama_edition_has_ids_of_four_bytes(tmp_path: Path):
    path = with_header(tmp_path / "a.bin", [end, 1, 2], magic=20240801, version=7, form="I")
    opened = open_bin(path)
    assert opened.tokens.dtype.itemsize == 4
    folder = imported(tmp_path, [path])
    assert stream(folder) == [1, 2, end]
    assert open_folder(folder).shards["train"][0].tokens.dtype == np.uint16


def test_an_imported_folder_opens_and_counts_like_a_built_one(tmp_path: Path):
    texts = small.texts(20)
    ids = [[*tokenizer.encode(text).tolist(), end] for text in texts]
    train = raw(tmp_path / "t.bin", joined(ids[:15]))
    val = raw(tmp_path / "v.bin", joined(ids[15:]))
    facts = import_bins([train], [val], tokenizer, tmp_path / "data")
    data = open_data(tmp_path / "data")
    assert data.facts == json.loads(json.dumps(facts))
    assert data.facts["splits"]["train"] == {
        "n_documents": 15,
        "n_bytes": sum(len(text.encode()) for text in texts[:15]),
        "n_tokens": sum(map(len, ids[:15])),
        "n_shards": 1,
    }
    assert data.tokenizer.decode(data.validation.read(0, len(ids[15]) - 1)) == texts[15]
    assert data.facts["settings"]["data.imported"] == {"train": ["t.bin"], "validation": ["v.bin"]}
    assert verify_data(tmp_path / "data").files


def test_a_shard_holds_whole_documents_and_a_long_one_alone(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(bins, "part_tokens", 3)
    lengths = [4, 5, 25, 2, 3, 5, 1]
    ids = joined([1] * (n - 1) + [end] for n in lengths)
    folder = imported(tmp_path, [raw(tmp_path / "t.bin", ids)], shard_tokens=10)
    shards = open_folder(folder).shards["train"]
    assert [len(shard.tokens) for shard in shards] == [9, 25, 10, 1]
    assert [len(document) for document in documents(folder)] == lengths
    assert open_data(folder).facts["splits"]["train"]["n_shards"] == 4


@pytest.mark.parametrize("form", ["nanogpt", "llmc"])
@pytest.mark.parametrize("part", [1, 3, 1000])
@hypothesis_settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lists=st.lists(st.lists(st.integers(0, 250), max_size=6), min_size=1, max_size=12),
    shard_tokens=st.integers(1, 20),
)
def test_what_was_exported_is_imported_as_it_was(
    tmp_path_factory, monkeypatch, form, part, lists, shard_tokens
):
    monkeypatch.setattr(bins, "part_tokens", part)
    place = tmp_path_factory.mktemp("trip")
    ids = joined([*text, end] for text in lists)
    folder = imported(place, [raw(place / "t.bin", ids)], shard_tokens=shard_tokens)
    export_bins(folder, place / "out", form)
    import_bins(
        sorted((place / "out").glob("train*")),
        sorted((place / "out").glob("val*")),
        tokenizer,
        place / "again",
        shard_tokens=shard_tokens,
    )
    assert stream(place / "again") == ids
    assert stream(place / "again", "validation") == [1, end]
    assert documents(place / "again") == documents(folder)


def test_llmcs_files_are_one_for_each_shard(tmp_path: Path):
    folder = imported(tmp_path, [raw(tmp_path / "t.bin", [1, end, 2, end, 3, end])], shard_tokens=4)
    counts = export_bins(folder, tmp_path / "out", "llmc")
    assert counts == {"train_000000.bin": 4, "train_000001.bin": 2, "val_000000.bin": 2}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(counts)


def test_wide_ids_go_to_the_llama_edition_and_never_to_nanogpt(tmp_path: Path):
    wide = wide_tokenizer()
    path = with_header(tmp_path / "a.bin", [end, 69_999, 2], magic=20240801, version=7, form="I")
    import_bins([path], [path], wide, tmp_path / "data")
    with pytest.raises(ValueError, match=r"70,000 tokens.* above 65,535; export it as llmc"):
        export_bins(tmp_path / "data", tmp_path / "out", "nanogpt")
    export_bins(tmp_path / "data", tmp_path / "out", "llmc")
    assert (tmp_path / "out" / "train_000000.bin").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x01\x00\x02", "has 3 bytes, an odd number"),
        (struct.pack("<256i", 20240520, 1, 3, *[0] * 253) + b"\0" * 4, "1,028 bytes .* 3 tokens, asks for 1,030"),
        (struct.pack("<256i", 20240520, 1, 1, *[0] * 253) + b"\0" * 4, "asks for 1,026"),
        (struct.pack("<256i", 20240520, 7, 1, *[0] * 253) + b"\0" * 2, "of version 7; .* version 1"),
        (struct.pack("<256i", 20240801, 1, 1, *[0] * 253) + b"\0" * 4, "of version 1; .* version 7"),
        (struct.pack("<256i", 20240520, 1, 0, *[0] * 253), "says that it has 0 tokens"),
        (struct.pack("<256i", 20240520, 1, -5, *[0] * 253), "says that it has -5 tokens"),
        (struct.pack("<3i", 20240520, 1, 5), "has 12 bytes, but the header .* 1,024"),
        (struct.pack("<256i", 20240522, 1, 1, *[0] * 253), "questions for an evaluation"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "odd.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"odd\.bin .*{message}"):
        open_bin(path)
    with pytest.raises(ValueError, match=r"odd\.bin"):
        imported(tmp_path, [path])
    assert not (tmp_path / "data").exists()


def test_a_format_that_is_asked_for_has_to_be_there(tmp_path: Path):
    path = raw(tmp_path / "a.bin", [7, 0, 1, end])
    with pytest.raises(ValueError, match="the number 7 where an llm.c file has 20240520 or"):
        open_bin(path, "llmc")
    headed = with_header(tmp_path / "b.bin", [end, 1])
    assert len(open_bin(headed, "nanogpt").tokens) == 512 + 2


@pytest.mark.parametrize(("write", "at"), [(raw, 6), (with_header, 1030)])
def test_an_id_beyond_the_vocabulary_is_told_with_its_byte(tmp_path: Path, write, at: int):
    first = write(tmp_path / "good.bin", [end, 1])
    path = write(tmp_path / "bad.bin", [1, 2, 299, 300, 301, end])
    with pytest.raises(
        ValueError, match=rf"bad\.bin has the id 300 at byte {at:,}, but the vocabulary has 300"
    ):
        imported(tmp_path, [first, path])
    assert not (tmp_path / "data").exists()


def test_two_formats_do_not_make_one_side(tmp_path: Path):
    first, second = raw(tmp_path / "a.bin", [1, end]), with_header(tmp_path / "b.bin", [end, 1])
    with pytest.raises(ValueError, match=r"a\.bin is of the format nanogpt and .*b\.bin of llmc"):
        imported(tmp_path, [first, second])


def test_nothing_is_written_over(tmp_path: Path):
    folder = imported(tmp_path, [raw(tmp_path / "t.bin", [1, end])])
    with pytest.raises(FileExistsError, match="is there already"):
        imported(tmp_path, [tmp_path / "t.bin"])
    with pytest.raises(FileExistsError, match="is there already"):
        export_bins(folder, folder, "nanogpt")


def test_no_files_for_a_side_is_said(tmp_path: Path):
    path = raw(tmp_path / "t.bin", [1, end])
    with pytest.raises(ValueError, match="no files are given for validation"):
        import_bins([path], [], tokenizer, tmp_path / "data")


def test_damaged_data_is_not_exported(tmp_path: Path):
    folder = imported(tmp_path, [raw(tmp_path / "t.bin", [1, 2, 3, end])])
    shard = folder / "train-00000.shard"
    content = bytearray(shard.read_bytes())
    content[128] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"train-00000\.shard does not match its sha256"):
        export_bins(folder, tmp_path / "out", "nanogpt")
    assert not (tmp_path / "out").exists()


def test_the_listener_hears_every_phase_to_its_end(tmp_path: Path):
    heard = []
    folder = imported(tmp_path, [raw(tmp_path / "t.bin", [1, end] * 50)], on_progress=heard.append)
    export_bins(folder, tmp_path / "out", "llmc", on_progress=heard.append)
    last = {progress.phase: progress for progress in heard}
    assert list(last) == ["checking ids", "writing shards", "verifying", "writing files"]
    assert all(progress.done == progress.total for progress in last.values())
