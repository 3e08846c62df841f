import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import small
from modelwright.data.shards import header_bytes, open_shard, write_shard
from modelwright.data.verification import verify_data
from modelwright.runtime.manifest import write_manifest

tokenizer = small.tokenizer()
end = tokenizer.end_of_text
kind = "modelwright-data-1"


def shard(path: Path, documents: list[list[int]], dtype: type = np.uint16) -> None:
    starts = np.cumsum([0, *map(len, documents)])
    tokens = np.array([i for document in documents for i in document], dtype)
    write_shard(path, tokens, starts, tokenizer.fingerprint)


def facts() -> dict:
    return {
        "settings": {},
        "fingerprint": tokenizer.fingerprint,
        "n_vocab": tokenizer.n_vocab,
        "splits": {
            "train": {"n_documents": 3, "n_bytes": 9, "n_tokens": 8, "n_shards": 2},
            "validation": {"n_documents": 1, "n_bytes": 1, "n_tokens": 2, "n_shards": 1},
        },
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    tokenizer.save(path / "tokenizer.json")
    shard(path / "train-00000.shard", [[1, 2, end], [3, end]])
    shard(path / "train-00001.shard", [[4, 5, end]])
    shard(path / "validation-00000.shard", [[6, end]])
    write_manifest(path, kind, facts())
    return path


def damage(path: Path, change: Callable[[bytearray], None]) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def change_manifest(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("n_threads", [None, 1, 3])
def test_a_right_folder_is_told_file_by_file(folder: Path, n_threads):
    heard = []
    verified = verify_data(folder, heard.append, n_threads=n_threads)
    assert [(file.name, file.n_tokens, file.n_documents) for file in verified.files] == [
        ("tokenizer.json", None, None),
        ("train-00000.shard", 5, 2),
        ("train-00001.shard", 3, 1),
        ("validation-00000.shard", 2, 1),
    ]
    assert all(file.n_bytes == (folder / file.name).stat().st_size for file in verified.files)
    assert heard[-1].done == heard[-1].total == sum(file.n_bytes for file in verified.files)
    assert heard[-1].rate > 0


def flip_bit(content: bytearray) -> None:
    content[header_bytes] ^= 1


def cut_short(content: bytearray) -> None:
    del content[-1]


@pytest.mark.parametrize("name", ["tokenizer.json", "train-00001.shard", "validation-00000.shard"])
@pytest.mark.parametrize(
    ("change", "message"), [(flip_bit, "does not match its sha256"), (cut_short, "was cut short")]
)
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_altered_bytes_are_found(folder: Path, monkeypatch, name, change, message, chunk):
    monkeypatch.setattr("modelwright.data.verification.chunk_bytes", chunk)
    damage(folder / name, change)
    with pytest.raises(ValueError, match=rf"{name}.*{message}"):
        verify_data(folder)


def test_the_first_of_several_faults_is_told(folder: Path):
    for name in ("validation-00000.shard", "train-00001.shard"):
        damage(folder / name, flip_bit)
    for n_threads in (1, 2, 4):
        with pytest.raises(ValueError, match=r"train-00001\.shard"):
            verify_data(folder, n_threads=n_threads)


@pytest.mark.parametrize(
    ("documents", "dtype", "message"),
    [
        ([[4, 300, end]], np.uint16, "token 1 is the id 300"),
        ([[4, 5, 6]], np.uint16, "document 0 ends at token 2 with the id 6"),
        ([[4, 5, end]], np.uint32, "has ids of 4 bytes"),
    ],
)
def test_a_wrong_shard_in_a_consistent_folder_is_found(folder: Path, documents, dtype, message):
    shard(folder / "train-00001.shard", documents, dtype)
    write_manifest(folder, kind, facts())
    with pytest.raises(ValueError, match=rf"train-00001\.shard.*{message}"):
        verify_data(folder)


def test_document_starts_out_of_order_are_found(folder: Path):
    def swap(content: bytearray) -> None:
        content[-16:-8] = (5).to_bytes(8, "little")

    damage(folder / "train-00000.shard", swap)
    write_manifest(folder, kind, facts())
    with pytest.raises(ValueError, match=r"train-00000\.shard: document 1 starts at token 5"):
        verify_data(folder)


def test_a_header_that_contradicts_the_size_is_found(folder: Path):
    def lie(content: bytearray) -> None:
        content[24] += 1

    damage(folder / "train-00000.shard", lie)
    write_manifest(folder, kind, facts())
    with pytest.raises(ValueError, match=r"train-00000\.shard has .* where its header says"):
        verify_data(folder)


def test_another_tokenizer_is_found_with_both_fingerprints(folder: Path):
    other = small.tokenizer(299)
    other.save(folder / "tokenizer.json")
    write_manifest(folder, kind, facts() | {"fingerprint": other.fingerprint, "n_vocab": 299})
    with pytest.raises(ValueError) as raised:
        verify_data(folder)
    assert "train-00000.shard was made by another tokenizer" in str(raised.value)
    for one in (other, tokenizer):
        assert one.fingerprint[:12] in str(raised.value)


def test_a_manifest_that_describes_another_tokenizer_is_found(folder: Path):
    write_manifest(folder, kind, facts() | {"n_vocab": 301})
    with pytest.raises(ValueError, match="has n_vocab 300, but manifest.json says 301"):
        verify_data(folder)


@pytest.mark.parametrize("name", ["n_tokens", "n_documents", "n_shards"])
def test_counts_that_the_shards_do_not_have_are_found(folder: Path, name: str):
    wrong = facts()
    wrong["splits"]["train"][name] += 1
    write_manifest(folder, kind, wrong)
    with pytest.raises(ValueError, match=rf"says \d for {name} of train, but its shards have \d"):
        verify_data(folder)


def test_a_missing_file_is_found_before_anything_is_read(folder: Path):
    (folder / "train-00001.shard").unlink()
    heard = []
    with pytest.raises(ValueError, match=r"train-00001\.shard is missing, though manifest"):
        verify_data(folder, heard.append)
    assert not heard


def test_a_shard_that_nobody_listed_is_found(folder: Path):
    shard(folder / "train-00002.shard", [[1, end]])
    with pytest.raises(ValueError, match=r"train-00002\.shard is not in manifest\.json"):
        verify_data(folder)


@pytest.mark.parametrize("name", ["../outside.shard", "/etc/hostname", "a/../../b"])
def test_a_name_outside_the_folder_is_refused(folder: Path, name: str):
    (folder.parent / "outside.shard").write_bytes(b"x")

    def add(content: dict) -> None:
        content["files"][name] = {"n_bytes": 1, "sha256": "0" * 64}

    change_manifest(folder, add)
    with pytest.raises(ValueError, match=r"which is outside its folder"):
        verify_data(folder)


def test_a_manifest_without_the_tokenizer_is_refused(folder: Path):
    change_manifest(folder, lambda content: content["files"].pop("tokenizer.json"))
    with pytest.raises(ValueError, match=r"does not list tokenizer\.json"):
        verify_data(folder)


def test_a_folder_without_manifest_was_never_finished(folder: Path):
    (folder / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="it is not a finished modelwright-data-1"):
        verify_data(folder)
    with pytest.raises(FileNotFoundError, match="there is no folder at"):
        verify_data(folder / "absent")


def test_many_shards_are_shared_by_threads(tmp_path: Path):
    folder = tmp_path / "many"
    folder.mkdir()
    tokenizer.save(folder / "tokenizer.json")
    for i in range(20):
        shard(folder / f"train-{i:05}.shard", [[i] * 2000 + [end]])
    write_manifest(folder, kind, {})
    assert len(verify_data(folder, n_threads=4).files) == 21
    assert open_shard(folder / "train-00019.shard").tokens[0] == 19
