import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from modelwright.data import tasks
from modelwright.data.building import build_data, unfinished_folder
from modelwright.data.config import DataConfig, SourceConfig
from modelwright.data.folder import open_data, require_same_settings
from modelwright.data.shards import ShardWriter, open_shard
from modelwright.data.sources import told_stories
from modelwright.runtime import workers
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


def test_stories_stop_at_the_wanted_size():
    sizes = [len(document) for document in told_stories(3, 20_000)]
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


def test_a_failure_before_anything_is_finished_leaves_nothing_behind(tmp_path: Path):
    source = str(story_file(tmp_path))

    def fail(progress) -> None:
        if progress.phase == "cutting text into tokens" and progress.done == 0:
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


def shards_of(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide even a small text into many tasks."""
    monkeypatch.setattr(tasks, "task_bytes", 7000)


@pytest.mark.parametrize("fewest_for_processes", [2, 1000])
@pytest.mark.parametrize("deduplicate", [False, True])
def test_the_number_of_workers_changes_no_byte(
    tmp_path: Path, small_tasks, monkeypatch, deduplicate: bool, fewest_for_processes: int
):
    monkeypatch.setattr(workers, "fewest_for_processes", fewest_for_processes)
    source = str(story_file(tmp_path))
    folders = []
    for n_workers in (1, 2, 3):
        config = DataConfig(
            folder=str(tmp_path / f"d{n_workers}"),
            source=source,
            shard_tokens=5000,
            deduplicate=deduplicate,
        )
        folders.append(shards_of(build_data(config, vocabulary, n_workers=n_workers).folder))
    assert len(folders[0]) > 5
    assert folders[0] == folders[1] == folders[2]


def test_how_the_text_is_divided_changes_no_token(tmp_path: Path, monkeypatch):
    source = str(story_file(tmp_path))
    found = []
    for size in (1000, 7000, 1 << 30):
        monkeypatch.setattr(tasks, "task_bytes", size)
        config = DataConfig(folder=str(tmp_path / f"d{size}"), source=source, shard_tokens=5000)
        shards = shards_of(build_data(config, vocabulary).folder)
        found.append({name: shards[name] for name in shards if name.endswith(".shard")})
    assert found[0] == found[1] == found[2]


class Stopped(Exception):
    """What stops a build in a test."""


def stop_after(n_tasks: int):
    """A listener that stops the build when so many tasks have been done."""

    def listen(progress) -> None:
        nonlocal n_tasks
        if progress.phase == "cutting text into tokens":
            n_tasks -= 1
            if n_tasks < 0:
                raise Stopped

    return listen


@pytest.mark.parametrize("deduplicate", [False, True])
def test_a_build_that_stops_again_and_again_gives_the_same_bytes(
    tmp_path: Path, small_tasks, deduplicate: bool
):
    source = str(story_file(tmp_path))
    config = DataConfig(
        folder=str(tmp_path / "d"), source=source, shard_tokens=3000, deduplicate=deduplicate
    )
    whole = build_data(
        DataConfig(
            folder=str(tmp_path / "w"), source=source, shard_tokens=3000, deduplicate=deduplicate
        ),
        vocabulary,
    )
    n_stops = 0
    while not Path(config.folder).exists():
        try:
            build_data(config, vocabulary, stop_after(2), n_workers=1)
        except Stopped:
            n_stops += 1
            assert not (unfinished_folder(Path(config.folder)) / "manifest.json").exists()
    assert n_stops > 5
    assert shards_of(Path(config.folder)) == shards_of(whole.folder)
    assert not unfinished_folder(Path(config.folder)).exists()


def test_finished_shards_and_tasks_are_not_done_again(tmp_path: Path, small_tasks, monkeypatch):
    config = DataConfig(
        folder=str(tmp_path / "d"), source=str(story_file(tmp_path)), shard_tokens=3000
    )
    with pytest.raises(Stopped):
        build_data(config, vocabulary, stop_after(10), n_workers=1)
    work = unfinished_folder(Path(config.folder))
    shards = {path.name: path.stat().st_mtime_ns for path in work.glob("*.shard")}
    assert len(shards) > 2
    n_done = len(list((work / "parts").glob("*.json")))
    done = []
    original = tasks.choose
    monkeypatch.setattr(tasks, "choose", lambda *a, **k: done.append(1) or original(*a, **k))
    build_data(config, vocabulary, n_workers=1)
    after = {path.name: path.stat().st_mtime_ns for path in Path(config.folder).glob("*.shard")}
    assert shards.items() <= after.items()
    n_tasks = -(-Path(str(config.source)).stat().st_size // tasks.task_bytes)
    assert len(done) == n_tasks - n_done


def test_a_part_that_a_power_cut_damaged_is_made_again(tmp_path: Path, small_tasks):
    source = str(story_file(tmp_path))
    config = DataConfig(folder=str(tmp_path / "d"), source=source, shard_tokens=100_000)
    with pytest.raises(Stopped):
        build_data(config, vocabulary, stop_after(9), n_workers=1)
    parts = unfinished_folder(Path(config.folder)) / "parts"
    (parts / "000001.train").write_bytes(bytes((parts / "000001.train").stat().st_size))
    (parts / "000002.json").write_bytes(b"")
    next(parts.glob("*.validation")).unlink()
    built = build_data(config, vocabulary)
    clean = build_data(
        DataConfig(folder=str(tmp_path / "c"), source=source, shard_tokens=100_000), vocabulary
    )
    assert shards_of(built.folder) == shards_of(clean.folder)


def test_parts_of_finished_shards_are_removed_while_building(tmp_path: Path, small_tasks):
    config = DataConfig(
        folder=str(tmp_path / "d"), source=str(story_file(tmp_path)), shard_tokens=3000
    )
    with pytest.raises(Stopped):
        build_data(config, vocabulary, stop_after(12), n_workers=1)
    parts = list((unfinished_folder(Path(config.folder)) / "parts").glob("*.train"))
    assert len(parts) < 5


def test_other_text_or_settings_begin_anew(tmp_path: Path, small_tasks):
    path = story_file(tmp_path)
    config = DataConfig(folder=str(tmp_path / "d"), source=str(path), shard_tokens=3000)
    with pytest.raises(Stopped):
        build_data(config, vocabulary, stop_after(5))
    path.write_text(path.read_text().replace("e", "E"))
    built = build_data(config, vocabulary)
    clean = build_data(
        DataConfig(folder=str(tmp_path / "c"), source=str(path), shard_tokens=3000), vocabulary
    )
    assert shards_of(built.folder) == shards_of(clean.folder)


def test_two_builds_of_one_folder_do_not_mix(tmp_path: Path):
    config = DataConfig(folder=str(tmp_path / "d"), stories_bytes=60_000)

    def build_again(progress) -> None:
        if progress.phase == "cutting text into tokens":
            with pytest.raises(ValueError, match="in use by another modelwright process"):
                build_data(config, vocabulary)

    build_data(config, vocabulary, build_again)


@pytest.mark.parametrize("n_before", [0, 3, 9])
def test_a_full_disk_is_told_and_the_same_build_goes_on(
    tmp_path: Path, small_tasks, monkeypatch, n_before: int
):
    import errno

    config = DataConfig(
        folder=str(tmp_path / "d"), source=str(story_file(tmp_path)), shard_tokens=3000
    )
    original, n_left = ShardWriter.add, n_before

    def add(self, tokens, ends) -> None:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, tokens, ends)

    with monkeypatch.context() as patched:
        patched.setattr(ShardWriter, "add", add)
        with pytest.raises(
            OSError, match=r"the disk is full: [\d,.]+ MB are free where .*run the same"
        ):
            build_data(config, vocabulary, n_workers=1)
    assert not list(tmp_path.rglob("manifest.json"))
    assert not list(tmp_path.rglob("*.part"))
    built = build_data(config, vocabulary)
    clean = build_data(
        DataConfig(folder=str(tmp_path / "c"), source=str(config.source), shard_tokens=3000),
        vocabulary,
    )
    assert shards_of(built.folder) == shards_of(clean.folder)


def json_lines(path: Path, some: list[str], field: str = "text") -> str:
    path.write_text("".join(json.dumps({field: text}) + "\n" for text in some))
    return str(path)


def test_a_mixture_takes_each_source_as_often_as_its_weight(tmp_path: Path):
    some = texts(300)
    mixed = (
        SourceConfig(path=str(story_file(tmp_path))),
        SourceConfig(
            path=json_lines(tmp_path / "b.jsonl", some[150:220], "body"),
            weight=2.0,
            text_field="body",
        ),
        SourceConfig(path=json_lines(tmp_path / "c.jsonl", some[220:]), weight=0.5),
    )
    data = build_data(DataConfig(folder=str(tmp_path / "d"), source=mixed), vocabulary)
    train, validation = (decoded_documents(data, side) for side in ("train", "validation"))
    counts = [train.count(text) for text in some]
    assert set(counts[:150]) == {0, 1} and set(counts[150:220]) == {0, 2}
    assert 20 < sum(counts[220:]) < 60
    assert len(validation) == len(set(validation))
    assert not set(train) & set(validation)
    told = data.facts["sources"]
    assert [source["weight"] for source in told] == [1.0, 2.0, 0.5]
    assert [source["n_documents"] for source in told] == [
        sum(counts[:150]),
        sum(counts[150:220]),
        sum(counts[220:]),
    ]
    total = data.facts["splits"]["train"]
    for name in ("n_documents", "n_bytes", "n_tokens"):
        assert sum(source[name] for source in told) == total[name]


def test_duplicates_are_left_out_and_counted_once(tmp_path: Path, small_tasks):
    some = texts(150)
    again = [text.upper() for text in some[:40]] + some[100:120]
    source = json_lines(tmp_path / "t.jsonl", some + again)
    config = DataConfig(folder=str(tmp_path / "d"), source=source, deduplicate=True)
    data = build_data(config, vocabulary)
    found = decoded_documents(data, "train") + decoded_documents(data, "validation")
    assert sorted(found) == sorted(some)
    assert data.facts["dropped"] == {"duplicate": 60}


def test_documents_of_other_lengths_are_left_out_and_counted(tmp_path: Path):
    some = texts(150)
    source = json_lines(tmp_path / "t.jsonl", ["", *some])
    least, most = sorted(len(text.encode()) for text in some)[10], 700
    config = DataConfig(folder=str(tmp_path / "d"), source=source, min_bytes=least, max_bytes=most)
    data = build_data(config, vocabulary)
    found = decoded_documents(data, "train") + decoded_documents(data, "validation")
    assert sorted(found) == sorted(t for t in some if least <= len(t.encode()) <= most)
    assert data.facts["dropped"]["empty"] == 1
    assert data.facts["dropped"]["too short"] == 10
    assert data.facts["dropped"]["too long"] == 150 - 10 - len(found)


def test_a_tokenizer_learns_from_a_part_spread_over_all_the_text(tmp_path: Path, small_tasks):
    path = tmp_path / "t.txt"
    path.write_text("aaaa " * 14000 + "<|endoftext|>" + "bbbb " * 14000)
    config = DataConfig(folder=str(tmp_path / "d"), source=str(path), separator=" ")
    data = build_data(config, TokenizerConfig(vocab_size=259, learn_bytes=20_000))
    assert data.tokenizer.encode("aaaabbbb").tolist() == [257, 257, 256, 256]


def test_text_that_ends_or_closes_nothing_round_trips(tmp_path: Path):
    hostile = [
        "quotes <|endoftext|> and goes on",
        "NUL \x00 and \x1a",
        "lines\r\n\r\nof\rall kinds\u2028",
        "no white space" * 3,
    ]
    source = json_lines(tmp_path / "t.jsonl", hostile + texts(150))
    data = build_data(DataConfig(folder=str(tmp_path / "d"), source=source), vocabulary)
    found = decoded_documents(data, "train") + decoded_documents(data, "validation")
    assert set(hostile) <= set(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_bytes": -1}, "data.min_bytes is -1; the least is 0"),
        ({"min_bytes": 10, "max_bytes": 5}, "data.max_bytes is 5, and data.min_bytes 10"),
        ({"source": ""}, "data.source names no text"),
        ({"source": ()}, "data.source names no text"),
        (
            {"source": (SourceConfig(path="-"), SourceConfig(path="-.jsonl"))},
            "data.source lists standard input twice",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        DataConfig(**changes)


@pytest.mark.parametrize("weight", [0.0, -1.0, 101.0])
def test_a_weight_that_makes_no_sense_is_refused(weight: float):
    with pytest.raises(ValueError, match=r"data.source.weight is .* for a.txt; choose a number"):
        SourceConfig(path="a.txt", weight=weight)
