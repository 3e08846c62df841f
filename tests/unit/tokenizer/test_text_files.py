import gzip
from pathlib import Path

import pytest
import zstandard

from modelwright.tokenizer import text_files as module
from modelwright.tokenizer.text_files import (
    chunks_of,
    documents_between,
    is_compressed,
    parts_of,
    text_files,
)
from modelwright.tokenizer.tokenizer import native_specials
from modelwright.tokenizer.training import train_tokenizer

TEXT = b"the cat sat on the mat " * 500


def compressed(kind: str) -> bytes:
    return gzip.compress(TEXT) if kind == "gz" else zstandard.compress(TEXT)


def test_a_folder_means_the_text_files_in_it_and_below_in_order(tmp_path: Path):
    for name in ("b.txt", "a/z.md.gz", "a/y.text", "c.txt.zst", "skip.json", "skip.txt.bz2", "gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.txt").mkdir()
    names = ["a/y.text", "a/z.md.gz", "b.txt", "c.txt.zst"]
    assert text_files(tmp_path) == tuple(tmp_path / name for name in names)


def test_a_file_is_taken_whatever_its_name_and_in_the_order_given(tmp_path: Path):
    first, second = tmp_path / "z.json", tmp_path / "a"
    first.write_bytes(b"x")
    second.write_bytes(b"")
    assert text_files([first, second]) == (first, second)
    assert text_files(first) == (first,)


def test_a_missing_file_is_named(tmp_path: Path):
    (tmp_path / "there.txt").write_bytes(b"x")
    absent = tmp_path / "absent.txt"
    with pytest.raises(FileNotFoundError, match=f"there is no text at {absent}; give a file or"):
        text_files([tmp_path / "there.txt", absent])


def test_a_folder_without_text_files_says_what_it_looked_for(tmp_path: Path):
    (tmp_path / "data.json").write_bytes(b"x")
    message = rf"{tmp_path} holds no text files \(\.txt, \.text, \.md, or these with \.gz or \.zst"
    with pytest.raises(ValueError, match=message):
        text_files(tmp_path)


def test_files_without_text_are_named(tmp_path: Path):
    path = tmp_path / "empty.txt"
    path.write_bytes(b"")
    for source in (path, [path], tmp_path):
        with pytest.raises(ValueError, match=f"{path}: there is no text in it"):
            text_files(source)
    with pytest.raises(ValueError, match="the list of files: there is no text in it"):
        text_files([])


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_compressed_file_is_read_in_chunks(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / f"text.txt.{kind}"
    path.write_bytes(compressed(kind) * 2)  # two members or frames
    assert is_compressed(path)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1000)
    chunks = list(chunks_of(path))
    assert b"".join(chunks) == TEXT * 2
    assert max(map(len, chunks)) <= 1000


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("fault", ["cut short", "a byte changed", "not compressed"])
def test_a_damaged_file_is_named(kind: str, fault: str, tmp_path: Path):
    content = compressed(kind)
    if fault == "cut short":
        content = content[: len(content) // 2]
    elif fault == "a byte changed":
        content = content[:4] + bytes([content[4] ^ 0xFF]) + content[5:]
        content = content[:-6] + bytes([content[-6] ^ 0xFF]) + content[-5:]
    else:
        content = TEXT
    path = tmp_path / f"text.txt.{kind}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}: the compressed file is damaged"):
        list(chunks_of(path))
    with pytest.raises(ValueError, match=f"{path}: the compressed file is damaged"):
        train_tokenizer(path, vocab_size=300)


def test_training_on_compressed_nothing_says_so(tmp_path: Path):
    path = tmp_path / "text.txt.gz"
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(ValueError, match="there is no text to train a tokenizer on: empty files"):
        train_tokenizer(path, vocab_size=300)


def test_parts_join_to_the_file_and_none_ends_inside_a_special_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "text.txt"
    monkeypatch.setattr(module, "_PART_BYTES", 5)
    path.write_bytes(data := b"ab cd ab cd ef gh\nij" * 20)

    def ends(*special_tokens: str) -> set[int]:
        specials = native_specials(dict.fromkeys(special_tokens, 0))
        parts = list(parts_of(path, ("gpt2", False), specials))
        assert b"".join(data[part.begin : part.end] for part in parts) == data
        return {part.end for part in parts}

    def cuts_after(word: bytes, found: set[int]) -> int:
        return sum(data[:end].endswith(word) for end in found if end < len(data))

    assert cuts_after(b"ab", ends()) > 0
    assert cuts_after(b"ab", ends("ab cd")) == 0
    assert len(ends("ab cd")) > 10
    assert ends("ab", "unheard of") == ends()


def test_an_empty_file_has_no_parts(tmp_path: Path):
    path = tmp_path / "empty.txt"
    path.write_bytes(b"")
    assert list(parts_of(path, ("gpt2", False), native_specials({}))) == []
    assert list(chunks_of(path)) == []


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 100])
def test_documents_stand_between_borders_however_the_chunks_are_cut(n_bytes: int):
    data = b"<one<|x|>two<|x|>><|x|>three<|"
    chunks = [data[i : i + n_bytes] for i in range(0, len(data), n_bytes)]
    documents = list(documents_between(chunks, [b"<|x|>>", b"<|x|>"]))
    assert documents == [b"<one", b"two", b"", b"three<|"]
    assert list(documents_between(chunks, [])) == [data]
