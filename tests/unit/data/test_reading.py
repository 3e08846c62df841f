"""Documents out of files of every kind: the same ones, whatever the kind and the parts."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from modelwright.data.reading import Span, documents_at, documents_in, parts_between
from modelwright.data.sources import InputFile, local_file

texts = ["first\nline", 'with "quotes" and \\', "", "tabs\t, NUL \x00 and é 世界 😀", "last"]
hostile = b"\xff\xfe no UTF-8 \xed\xa0\x80"


def read(file: InputFile, *spans: Span) -> list[bytes | None]:
    wanted = spans or (Span(0, 0, None, file.n_bytes),)
    return [text for span in wanted for batch in documents_in(file, span) for text in batch]


def compressed(path: Path, content: bytes) -> list[Path]:
    """The content in a plain file and in both kinds of compression."""
    path.write_bytes(content)
    gz, zst = path.with_name(f"{path.name}.gz"), path.with_name(f"{path.name}.zst")
    gz.write_bytes(gzip.compress(content))
    zst.write_bytes(zstandard.compress(content))
    return [path, gz, zst]


def json_lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts).encode()


def test_text_files_are_cut_at_the_separator_and_its_own_line_is_left_out(tmp_path: Path):
    content = (
        b"first\nline\n<|endoftext|>\nsecond \x00\xff<|endoftext|>third\r\n<|endoftext|>\r\n\n"
        b"<|endoftext|>\nlast\n"
    )
    for path in compressed(tmp_path / "t.txt", content):
        file = local_file(path, "<|endoftext|>")
        assert read(file) == [b"first\nline", b"second \x00\xff", b"third", b"last\n"]
        assert read(local_file(path, "")) == [content]


def test_json_lines_give_the_text_field(tmp_path: Path):
    for path in compressed(tmp_path / "t.jsonl", b"\n" + json_lines(texts) + b"  \n"):
        assert read(local_file(path, "")) == [text.encode() for text in texts]
        assert read(local_file(path, "unused separator")) == [text.encode() for text in texts]


def test_another_text_field_may_be_named_and_null_is_no_document(tmp_path: Path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "no", "body": "yes"}\n{"body": null}')
    assert read(local_file(path, "", "body")) == [b"yes", None]


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.binary()])
def test_parquet_gives_the_text_column_by_row_groups(tmp_path: Path, type_: pa.DataType):
    path = tmp_path / "t.parquet"
    values = pa.array([*(text.encode() for text in texts), None], pa.binary()).cast(type_)
    pq.write_table(pa.table({"id": range(6), "text": values}), path, row_group_size=2)
    file = local_file(path, "")
    expected = [*(text.encode() for text in texts), None]
    assert read(file) == expected
    assert read(file, Span(0, 0, 1, 0), Span(0, 1, 3, 0)) == expected
    assert read(file, Span(0, 1, 2, 0)) == expected[2:4]


def test_bytes_that_are_no_text_come_back_from_text_and_json(tmp_path: Path):
    plain, lines = tmp_path / "t.txt", tmp_path / "t.jsonl"
    plain.write_bytes(hostile)
    lines.write_bytes(b'{"text": "' + hostile + b'"}\n{"text": "\\ud800 alone"}')
    assert read(local_file(plain, "<|endoftext|>")) == [hostile]
    assert read(local_file(lines, "")) == [hostile, b"\xed\xa0\x80 alone"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", ', "line 3 is not JSON"),
        ("[" * 100_000, "line 3 is JSON that is nested too deeply"),
        ('{"content": "a", "id": 3}', "line 3 has no field 'text'; it has: content, id; set"),
        ('["a"]', "line 3 has no field 'text'; it has: a list"),
        ('{"text": 17}', "line 3: the field 'text' holds 17, which is not text"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_its_number(
    tmp_path: Path, line: str, message: str
):
    content = f'{{"text": "{"a" * 50}"}}\n\n{line}\n{{"text": "c"}}\n'.encode()
    for path in compressed(tmp_path / "t.jsonl", content):
        with pytest.raises(ValueError, match=message) as raised:
            read(local_file(path, ""))
        assert str(path) in str(raised.value)
    plain = local_file(tmp_path / "t.jsonl", "")
    with pytest.raises(ValueError, match=message):  # also where reading begins in the middle
        read(plain, Span(0, 20, plain.n_bytes, 0))


def test_a_parquet_file_without_the_column_says_which_it_has(tmp_path: Path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": [1, 2], "body": ["a", "b"]}), path)
    with pytest.raises(ValueError, match=r"no column of text named 'text'; it has: text \(int64\)"):
        read(local_file(path, ""))
    assert read(local_file(path, "", "body")) == [b"a", b"b"]


@pytest.mark.parametrize("n_lost", [1, 30, 400])
def test_a_parquet_file_cut_short_is_refused_by_name(tmp_path: Path, n_lost: int):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["a", "b"]}), path)
    path.write_bytes(path.read_bytes()[:-n_lost])
    with pytest.raises(ValueError, match=r"t\.parquet cannot be read as a Parquet file"):
        read(local_file(path, ""))


def test_a_parquet_file_with_a_damaged_page_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["some text " * 50]}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.parquet: the Parquet file is damaged"):
        read(local_file(path, ""))


def test_large_files_come_in_batches(tmp_path: Path):
    for path in compressed(tmp_path / "t.jsonl", json_lines(["x" * 1_500_000] * 9))[1:]:
        file = local_file(path, "")
        sizes = [len(batch) for batch in documents_in(file, Span(0, 0, None, file.n_bytes))]
        assert len(sizes) == 3
        assert sum(sizes) == 9


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_parts_do_not_depend_on_how_the_stream_is_cut(size: int):
    content = b"--one--two---three----"
    chunks = [content[at : at + size] for at in range(0, len(content), size)]
    found = list(parts_between(chunks, b"--"))
    assert [part for part, _ in found] == content.split(b"--")
    assert [is_last for _, is_last in found] == [False] * (len(found) - 1) + [True]


def test_documents_of_a_folder_come_in_the_order_of_its_names(tmp_path: Path):
    for name in ("b.txt", "a.md", "c.bin", ".hidden.txt", "sub/d.jsonl", ".cache/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f'{{"text": "{name}"}}' if "jsonl" in name else name)
    assert list(documents_at(str(tmp_path), "")) == [b"a.md", b"b.txt", b"sub/d.jsonl"]
    assert list(documents_at(str(tmp_path / "*.txt"), "")) == [b"b.txt"]
    assert list(documents_at(str(tmp_path / "**/*.jsonl"), "")) == [b"sub/d.jsonl"]
