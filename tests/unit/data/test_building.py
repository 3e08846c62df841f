import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from modelwright.data.building import (
    DataConfig,
    build_data,
    open_data,
    require_same_settings,
    split_by_hash,
    split_off_tails,
)
from modelwright.data.shards import open_shard
from modelwright.data.sources import open_source, split_documents
from modelwright.runtime.files import sha256_of
from modelwright.tokenizer.config import TokenizerConfig
from small import texts

vocabulary = TokenizerConfig(vocab_size=300)


def story_file(folder: Path, n: int = 150) -> Path:
    path = folder / "stories.txt"
    path.write_text("".join(f"{text}\n<|endoftext|>\n" for text in texts(n)))
    return path


def decoded_documents(data, side: str) -> list[str]:
    found = []
    for path in sorted(data.folder.glob(f"{side}-*.shard")):
        shard = open_shard(path)
        starts = shard.document_starts.tolist()
        for start, end in itertools.pairwise(starts):
            tokens = shard.tokens[start:end]
            assert tokens[-1] == data.tokenizer.end_of_text
            found.append(data.tokenizer.decode(tokens[:-1]))
    return found


def test_every_document_comes_back_on_one_side(tmp_path: Path):
    config = DataConfig(
        folder=str(tmp_path / "d"), source=str(story_file(tmp_path)), validation_fraction=0.2
    )
    data = build_data(config, vocabulary)
    sides = {side: decoded_documents(data, side) for side in ("train", "validation")}
    assert sorted(sides["train"] + sides["validation"]) == sorted(texts(150))
    assert 10 < len(sides["validation"]) < 60
    counts = data.facts["splits"]["validation"]
    assert counts["n_documents"] == len(sides["validation"])
    assert counts["n_bytes"] == sum(len(text.encode()) for text in sides["validation"])
    assert counts["n_tokens"] == len(data.validation)


def test_a_document_stays_on_its_side_when_others_are_added():
    documents = [text.encode() for text in texts(200)]
    few, many = (dict(split_by_hash(some, 0.3)) for some in (documents[::2], documents))
    assert all(many[document] == side for document, side in few.items())


def test_building_twice_gives_the_same_bytes(tmp_path: Path):
    source = str(story_file(tmp_path))
    for name in ("a", "b"):
        build_data(DataConfig(folder=str(tmp_path / name), source=source), vocabulary)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 4
    assert [sha256_of(tmp_path / "a" / n) for n in names] == [
        sha256_of(tmp_path / "b" / n) for n in names
    ]


@pytest.mark.parametrize("shard_tokens", [1000, 2500])
def test_shards_hold_whole_documents_and_no_more_tokens_than_allowed(
    tmp_path: Path, shard_tokens: int
):
    source = str(story_file(tmp_path))
    whole = build_data(DataConfig(folder=str(tmp_path / "one"), source=source), vocabulary)
    parts = build_data(
        DataConfig(folder=str(tmp_path / "many"), source=source, shard_tokens=shard_tokens),
        vocabulary,
    )
    shards = sorted(parts.folder.glob("train-*.shard"))
    assert len(shards) > 2
    assert all(len(open_shard(path).tokens) <= shard_tokens for path in shards)
    assert np.array_equal(
        whole.train.read(0, len(whole.train)), parts.train.read(0, len(parts.train))
    )


def test_a_document_longer_than_a_shard_has_one_to_itself(tmp_path: Path):
    path = tmp_path / "long.txt"
    path.write_text("<|endoftext|>".join(["short one", "word " * 3000, "another"] * 40))
    config = DataConfig(folder=str(tmp_path / "d"), source=str(path), shard_tokens=1000)
    data = build_data(config, vocabulary)
    sizes = [len(open_shard(path).tokens) for path in sorted(data.folder.glob("train-*.shard"))]
    assert max(sizes) > 1000
    assert sum(sizes) == len(data.train)


def test_the_ends_of_a_few_long_documents_are_kept_for_validation():
    documents = [b"one two three four five six seven eight nine ten" * 5, "ééééééé".encode() * 9]
    parts = list(split_off_tails(documents, 0.2))
    assert [side for _, side in parts] == ["train", "validation"] * 2
    assert [a + b for (a, _), (b, _) in zip(parts[::2], parts[1::2], strict=True)] == documents
    for part, _ in parts:
        part.decode()  # no character is cut
    assert 0.15 < len(parts[1][0]) / len(documents[0]) < 0.25


@pytest.mark.parametrize("read_size", [1, 7, 1 << 20])
def test_documents_do_not_depend_on_how_the_file_is_read(
    tmp_path: Path, monkeypatch, read_size: int
):
    monkeypatch.setattr("modelwright.data.sources.read_size", read_size)
    path = tmp_path / "t.txt"
    path.write_bytes(
        b"first\nline\n<|endoftext|>\nsecond \x00\xff<|endoftext|>third\r\n<|endoftext|>\r\n\n<|endoftext|>\nlast\n"
    )
    found = list(split_documents(path, b"<|endoftext|>"))
    assert found == [b"first\nline", b"second \x00\xff", b"third", b"last\n"]
    assert list(split_documents(path, b"")) == [path.read_bytes()]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path):
    for name in ("b.txt", "a.md", "c.bin"):
        (tmp_path / name).write_text(name)
    source = open_source(str(tmp_path), separator="", seed=0, n_bytes=0)
    assert list(source.documents()) == [b"a.md", b"b.txt"]


def test_stories_stop_at_the_wanted_size():
    source = open_source("stories", separator="", seed=3, n_bytes=20_000)
    sizes = [len(document) for document in source.documents()]
    assert sum(sizes[:-1]) < 20_000 <= sum(sizes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.txt", "there is no text at"),
        ("empty.txt", "is empty"),
        ("folder", "holds no text files"),
    ],
)
def test_a_source_without_text_is_refused(tmp_path: Path, name: str, message: str):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "folder").mkdir()
    config = DataConfig(folder=str(tmp_path / "d"), source=str(tmp_path / name))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build_data(config, vocabulary)
    assert not (tmp_path / "d").exists()


def test_a_failure_while_building_leaves_nothing_behind(tmp_path: Path):
    source = str(story_file(tmp_path))

    def fail(progress) -> None:
        if progress.phase == "cutting text into tokens":
            raise RuntimeError

    with pytest.raises(RuntimeError):
        build_data(DataConfig(folder=str(tmp_path / "d"), source=source), vocabulary, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["stories.txt"]


def built(folder: Path):
    config = DataConfig(folder=str(folder / "d"), stories_bytes=60_000)
    return config, build_data(config, vocabulary)


def test_one_flipped_bit_in_a_shard_is_found_before_anything_is_read(tmp_path: Path):
    _, data = built(tmp_path)
    path = data.folder / "train-00000.shard"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"train-00000\.shard does not match its sha256"):
        open_data(data.folder)


def test_shards_of_another_tokenizer_are_refused_with_both_fingerprints(tmp_path: Path):
    from modelwright.runtime.manifest import write_manifest

    _, data = built(tmp_path)
    other = build_data(
        DataConfig(folder=str(tmp_path / "other"), stories_bytes=60_000),
        TokenizerConfig(vocab_size=299),
    )
    facts = json.loads((data.folder / "manifest.json").read_text())["facts"]
    other.tokenizer.save(data.folder / "tokenizer.json")
    write_manifest(data.folder, "modelwright-data-1", facts)
    with pytest.raises(ValueError) as raised:
        open_data(data.folder)
    assert other.tokenizer.fingerprint[:12] in str(raised.value)
    assert data.tokenizer.fingerprint[:12] in str(raised.value)


def test_data_of_other_settings_is_refused_and_the_difference_shown(tmp_path: Path):
    config, data = built(tmp_path)
    require_same_settings(data, config, vocabulary)
    with pytest.raises(ValueError, match="tokenizer.vocab_size is 400 here and 300 there"):
        require_same_settings(data, config, TokenizerConfig(vocab_size=400))
    moved = DataConfig(folder="elsewhere", stories_bytes=60_000, separator="unused")
    require_same_settings(data, moved, vocabulary)


def test_a_given_tokenizer_is_used_and_must_have_the_size_said(tmp_path: Path):
    _, data = built(tmp_path)
    file = str(data.folder / "tokenizer.json")
    config = DataConfig(folder=str(tmp_path / "e"), stories_bytes=50_000, stories_seed=2)
    with pytest.raises(ValueError, match="set tokenizer.vocab_size = 300"):
        build_data(config, TokenizerConfig(vocab_size=301, file=file))
    again = build_data(config, TokenizerConfig(vocab_size=300, file=file))
    assert again.tokenizer.fingerprint == data.tokenizer.fingerprint
    with pytest.raises(ValueError, match="built with other settings"):
        require_same_settings(again, config, vocabulary)


def test_a_literal_end_of_text_is_text_where_no_separator_is_asked_for(tmp_path: Path):
    path = tmp_path / "t.txt"
    path.write_text("before <|endoftext|> after " * 50)
    data = build_data(
        DataConfig(folder=str(tmp_path / "d"), source=str(path), separator=""), vocabulary
    )
    tokens = data.train.read(0, len(data.train))
    assert (tokens == data.tokenizer.end_of_text).sum() == 1
    assert "before <|endoftext|> after" in data.tokenizer.decode(tokens[:-1])
