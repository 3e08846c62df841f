import dataclasses
import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fake_hub import FakeHub, closed_endpoint, fake_hub
from modelwright.data import fetching
from modelwright.data.fetching import fetch
from modelwright.data.hub import (
    DATASETS,
    HubDataset,
    HubFile,
    choose_files,
    hub_source,
    list_files,
)


def parquet(*texts: str) -> bytes:
    """The bytes of a small Parquet file with one column."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": list(texts)}), file)
    return file.getvalue()


STORIES = parquet("Once upon a time.", "There was a dog.")
# Longer than the buffers on the way, so that the part before a break arrives.
LARGE = hashlib.shake_128(b"seed").digest(600_000)
HALF = 300_000


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(fetching, "_waits_at_first_seconds", (0.01, 0.01, 0.01))
    monkeypatch.setattr(fetching, "_waits_once_flowing_seconds", (0.01, 0.01, 0.01))
    with fake_hub() as running:
        yield running


def listed(hub: FakeHub, files: dict[str, bytes], name: str = "some/text") -> list[HubFile]:
    """Put files in a repository and list them."""
    hub.commit("some/text", files)
    return list_files(hub_source(name), endpoint=hub.endpoint)


def only(files: list[HubFile]) -> HubFile:
    assert len(files) == 1
    return files[0]


def paths(files: list[HubFile]) -> list[str]:
    return [file.path for file in files]


def ranges(hub: FakeHub) -> list[str]:
    """The ranges that were asked for, "" for the whole of a file."""
    return [line.partition("bytes=")[2] for line in hub.fetched()]


def paths_in(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


# What a recipe names


def test_every_named_dataset_says_what_it_is_and_how_large():
    for name, dataset in DATASETS.items():
        assert hub_source(name) == dataset
        assert dataset.name == name
        assert all(value for key, value in vars(dataset).items() if key != "revision"), name


def test_a_name_may_have_a_revision():
    assert hub_source("tinystories@v1").revision == "v1"
    assert hub_source("tinystories@v1").files == DATASETS["tinystories"].files
    other = hub_source("some/text@refs/convert/parquet")
    assert (other.repository, other.files, other.revision) == (
        "some/text",
        (),
        "refs/convert/parquet",
    )


def test_a_repository_may_have_a_glob_and_a_revision():
    dataset = hub_source("some/text.v2/data/train-*.parquet@abc")
    assert (dataset.repository, dataset.files) == ("some/text.v2", ("data/train-*.parquet",))
    assert (dataset.revision, dataset.text_field) == ("abc", None)


def test_an_unknown_name_gets_the_nearest_and_the_list():
    with pytest.raises(ValueError, match="did you mean hub:tinystories.*hub:fineweb-edu.*owner/n"):
        hub_source("tinystory")
    with pytest.raises(ValueError, match="hub:zzz is no dataset that is known here; Choose one of"):
        hub_source("zzz")


@pytest.mark.parametrize(
    "name", ["", "/", "../x", "a/../b", "a//b", "a/b--c", "/etc/passwd", "~/x"]
)
def test_a_name_that_is_no_repository_is_refused(name: str):
    with pytest.raises(ValueError, match="is no dataset that is known here"):
        hub_source(name)


def test_an_empty_revision_is_refused():
    with pytest.raises(ValueError, match="hub:tinystories@ ends in @"):
        hub_source("tinystories@")


# Which files


REAL_LAYOUTS = {
    "tinystories": (
        [f"data/train-0000{i}-of-00004-2d5a1467fff1081b.parquet" for i in range(4)],
        [
            ".gitattributes",
            "README.md",
            "Evaluation prompts.yaml",
            "TinyStories-train.txt",
            "TinyStories-valid.txt",
            "TinyStoriesV2-GPT4-train.txt",
            "TinyStories_all_data.tar.gz",
            "MLP_input_output.npy",
            "data/validation-00000-of-00001-869c898b519ad725.parquet",
        ],
    ),
    "fineweb-edu": (
        [f"sample/10BT/{i:03}_00000.parquet" for i in range(14)],
        [
            "README.md",
            "data/CC-MAIN-2013-20/train-00000-of-00014.parquet",
            "sample/100BT/000_00000.parquet",
            "sample/350BT/000_00000.parquet",
        ],
    ),
    "openwebtext": (
        [f"plain_text/train-{i:05}-of-00080.parquet" for i in range(80)],
        [".gitattributes", "README.md"],
    ),
}


@pytest.mark.parametrize("name", DATASETS)
def test_a_named_dataset_is_exactly_its_split_in_the_real_layout(name: str, hub: FakeHub):
    meant, others = REAL_LAYOUTS[name]
    hub.commit(DATASETS[name].repository, dict.fromkeys([*others, *reversed(meant)], STORIES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paths(list_files(hub_source(name), endpoint=hub.endpoint)) == meant


def test_without_a_glob_the_train_split_is_taken_and_that_is_said(hub: FakeHub):
    files = {"data/test-0.parquet": STORIES, "data/train-0.parquet": STORIES, "README.md": b"#"}
    said = r"taking 1 of 2 .*the .parquet files of the train split; left out is data/test-0.parquet"
    with pytest.warns(UserWarning, match=said):
        assert paths(listed(hub, files)) == ["data/train-0.parquet"]


def test_a_split_is_a_word_of_the_path_and_not_a_part_of_one():
    dataset = hub_source("some/text")
    assert choose_files(dataset, ["strained.txt", "b.txt"]) == (["b.txt", "strained.txt"], "")
    assert choose_files(dataset, ["en/Train/0.txt", "b.txt"])[0] == ["en/Train/0.txt"]


def test_the_same_text_in_several_kinds_of_files_is_taken_once():
    dataset = hub_source("some/text")
    everything = ["a.txt", "a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "a.parquet"]
    assert choose_files(dataset, everything)[0] == ["a.parquet"]
    assert choose_files(dataset, everything[:-1])[0] == ["a.jsonl", "b.jsonl.gz", "c.jsonl.zst"]
    assert "left out is a.txt" in choose_files(dataset, everything[:-1])[1]


def test_a_glob_is_taken_at_its_word():
    files = ["data/test-0.parquet", "data/train-0.parquet", "data/notes.csv", "x.parquet"]
    everything = hub_source("some/text/data/*")
    assert choose_files(everything, files) == (sorted(files[:3]), "")


def test_a_folder_may_be_named():
    files = ["big/train-0.parquet", "small/test-0.parquet", "small/train-0.parquet"]
    assert choose_files(hub_source("some/text/small"), files)[0] == ["small/train-0.parquet"]
    assert choose_files(hub_source("some/text/small/"), files)[0] == ["small/train-0.parquet"]


def test_where_nothing_fits_the_message_says_what_is_there(hub: FakeHub):
    files = {"a.csv": b"1", "b.csv": b"2", "c.json.gz": b"3", "LICENSE": b"4"}
    with pytest.raises(ValueError, match=r"no files that can be read .*\.csv \(2\), .*\.json\.gz"):
        listed(hub, files)
    with pytest.raises(ValueError, match=r"has no data/\*\.parquet; what is there: \.csv \(2\)"):
        listed(hub, files, "some/text/data/*.parquet")


# Listing


def test_a_listing_holds_what_is_needed_to_check_the_files(hub: FakeHub):
    commit = hub.commit("some/text", {"b.jsonl": b"{}", "a.jsonl.gz": b"gz"})
    large, small = list_files(hub_source("some/text"), endpoint=hub.endpoint + "/")
    assert large == HubFile("some/text", commit, "a.jsonl.gz", 2, hashlib.sha256(b"gz").hexdigest())
    assert (small.path, small.n_bytes, small.sha256) == ("b.jsonl", 2, None)
    assert small.git_sha1 == hashlib.sha1(b"blob 2\0{}").hexdigest()


def test_a_listing_of_many_pages_is_whole(hub: FakeHub):
    hub.page_size = 3
    assert len(listed(hub, {f"{i}.jsonl": b"{}" for i in range(10)})) == 10


def test_a_listed_file_survives_json_and_pickle(hub: FakeHub):
    file = only(listed(hub, {"a.parquet": STORIES}))
    assert HubFile(**json.loads(json.dumps(dataclasses.asdict(file)))) == file
    assert pickle.loads(pickle.dumps(file)) == file


@pytest.mark.parametrize(
    "path",
    [
        "../evil.parquet",
        "/evil.parquet",
        "a/../../evil.parquet",
        "a\\evil.parquet",
        "~/evil.parquet",
        "a\0.parquet",
        "a//evil.parquet",
        "./evil.parquet",
        "a\n.parquet",
    ],
)
def test_a_hostile_name_is_refused_and_nothing_is_written(path: str, hub: FakeHub, tmp_path: Path):
    with pytest.raises(ValueError, match="some/text holds a file named .* not a plain path"):
        listed(hub, {path: STORIES})
    file = HubFile("some/text", "main", path, len(STORIES), None)
    with pytest.raises(ValueError, match="not a plain path"):
        fetch(file, tmp_path / "folder" / "deep", endpoint=hub.endpoint)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_that_is_not_there_says_so(hub: FakeHub):
    with pytest.raises(ValueError, match="no dataset no/thing that you may read.*hf auth login"):
        list_files(hub_source("no/thing"), endpoint=hub.endpoint)


def test_a_revision_that_is_not_there_says_so(hub: FakeHub):
    with pytest.raises(ValueError, match="some/text has no branch, tag or commit v9"):
        listed(hub, {"a.txt": b"a"}, "some/text@v9")


def test_what_is_no_hub_is_told_apart(hub: FakeHub):
    with pytest.raises(ValueError, match="the answer about some/text is not a hub's"):
        list_files(hub_source("some/text"), endpoint=f"{hub.endpoint}/portal")
    with pytest.raises(ValueError, match="/elsewhere knows nothing of the dataset some/text .*404"):
        list_files(hub_source("some/text"), endpoint=f"{hub.endpoint}/elsewhere")


def test_without_the_package_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'modelwright\[hub\]'.*give their path"):
        list_files(hub_source("tinystories"))


def test_importing_does_not_load_the_package():
    code = "import sys, modelwright.data.hub; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_offline_is_said_quickly(tmp_path: Path):
    endpoint, begin = closed_endpoint(), time.monotonic()
    with pytest.raises(
        ConnectionError, match="cannot be reached for some/text .*HF_ENDPOINT.*other means"
    ):
        list_files(hub_source("some/text"), endpoint=endpoint)
    file = HubFile("some/text", "main", "a.txt", 1, None)
    with pytest.raises(ConnectionError, match="cannot be reached for some/text"):
        fetch(file, tmp_path, endpoint=endpoint)
    assert time.monotonic() - begin < 10


def test_where_going_to_the_hub_is_forbidden_nothing_is_tried(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = only(listed(hub, {"a.txt": b"a"}))
    n_requests = len(hub.requests)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(fetching, "_waits_at_first_seconds", (60.0,))
    for work in (
        lambda: list_files(hub_source("some/text"), endpoint=hub.endpoint),
        lambda: fetch(file, tmp_path, endpoint=hub.endpoint),
    ):
        with pytest.raises(
            ValueError, match="HF_HUB_OFFLINE forbids .* fetch the files by other means"
        ):
            work()
    assert len(hub.requests) == n_requests


def test_the_endpoint_of_the_environment_is_used(hub: FakeHub, tmp_path: Path):
    hub.commit("some/text", {"a.txt": b"a"})
    code = (
        "import pathlib, sys\nfrom modelwright.data.fetching import *\nfrom modelwright.data.hub import *\n"
        "fetch(list_files(hub_source('some/text'))[0], pathlib.Path(sys.argv[1]))"
    )
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True)
    assert (tmp_path / "a.txt").read_bytes() == b"a"


# Fetching


def test_a_file_is_put_at_its_own_path(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"data/a.parquet": STORIES}))
    path = fetch(file, tmp_path / "new" / "folder", endpoint=hub.endpoint)
    assert path == tmp_path / "new" / "folder" / "data" / "a.parquet"
    assert pq.read_table(path)["text"].to_pylist() == ["Once upon a time.", "There was a dog."]
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_file_is_fetched_too(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.txt": b""}))
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == b""


def test_a_file_that_is_there_and_right_is_not_fetched_again(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": STORIES}))
    fetch(file, tmp_path, endpoint=hub.endpoint)
    n_requests = len(hub.requests)
    assert fetch(file, tmp_path, endpoint=closed_endpoint()) == tmp_path / "a.parquet"
    assert len(hub.requests) == n_requests


def test_a_file_that_is_there_and_right_needs_no_package(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = only(listed(hub, {"a.parquet": STORIES}))
    (tmp_path / "a.parquet").write_bytes(STORIES)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert fetch(file, tmp_path) == tmp_path / "a.parquet"


def test_a_whole_file_that_only_lacks_its_name_is_not_fetched_again(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": STORIES}))
    assert file.sha256 is not None
    (tmp_path / f".a.parquet.{file.sha256[:12]}.part").write_bytes(STORIES)
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == STORIES
    assert hub.fetched() == []


@pytest.mark.parametrize("name", ["a.parquet", "a.txt"])
def test_a_file_of_the_right_length_and_other_content_is_replaced(
    name: str, hub: FakeHub, tmp_path: Path
):
    file = only(listed(hub, {name: STORIES}))
    (tmp_path / name).write_bytes(bytes(len(STORIES)))
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == STORIES


def test_the_commit_of_the_listing_is_fetched_when_main_has_moved_on(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": STORIES, "b.md": b""}))
    hub.commit("some/text", {"a.parquet": parquet("Something else.")})
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == STORIES


def test_an_older_revision_can_be_chosen(hub: FakeHub):
    old = hub.commit("some/text", {"old.txt": b"old"})
    hub.commit("some/text", {"new.txt": b"new"})
    assert paths(list_files(hub_source("some/text"), endpoint=hub.endpoint)) == ["new.txt"]
    dataset = hub_source(f"some/text@{old}")
    assert paths(list_files(dataset, endpoint=hub.endpoint)) == ["old.txt"]
    dataset = HubDataset("some/text", "some/text")
    assert paths(list_files(dataset, revision=old, endpoint=hub.endpoint)) == ["old.txt"]


@pytest.mark.parametrize("name", ["a.parquet", "a.txt"])
def test_a_dropped_connection_goes_on_where_it_broke(name: str, hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {name: LARGE}))
    hub.faults.cut_after = [HALF, 100_000]
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == LARGE
    assert ranges(hub) == ["", f"{HALF}-", f"{HALF + 100_000}-"]


def test_many_breaks_are_no_failure_as_long_as_something_comes(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": LARGE}))
    hub.faults.cut_after = [50_000] * 11
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == LARGE


def test_a_hub_that_always_sends_the_whole_is_followed(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": LARGE}))
    hub.faults.cut_after, hub.faults.without_ranges = [HALF], True
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == LARGE
    assert ranges(hub) == ["", f"{HALF}-"]


def test_a_busy_hub_is_asked_again(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": STORIES}))
    hub.faults.statuses = [503, 429]
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == STORIES


@pytest.mark.parametrize(("asked", "waited"), [("7", 7), ("99999", 300), ("soon", 0.01)])
def test_a_busy_hub_says_how_long_to_wait(
    asked: str, waited: float, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = only(listed(hub, {"a.txt": b"a"}))
    hub.faults.statuses, hub.faults.retry_after = [503], asked
    waits: list[float] = []
    monkeypatch.setattr(fetching.time, "sleep", waits.append)
    fetch(file, tmp_path, endpoint=hub.endpoint)
    assert waits == [waited]


def test_a_hub_that_stays_busy_is_given_up_and_what_came_is_kept(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": LARGE}))
    hub.faults.cut_after, hub.faults.statuses = [HALF], [200] + [503] * 9
    with pytest.raises(ConnectionError, match="HTTP 503 about some/text; try again later"):
        fetch(file, tmp_path, endpoint=hub.endpoint)
    hub.faults.statuses = []
    hub.requests.clear()
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == LARGE
    assert ranges(hub) == [f"{HALF}-"]


FETCH = """
import json, pathlib, sys
from modelwright.data.fetching import fetch; from modelwright.data.hub import HubFile
fetch(HubFile(**json.loads(sys.argv[1])), pathlib.Path(sys.argv[2]), endpoint=sys.argv[3])
"""


def fetch_in_a_process(file: HubFile, folder: Path, hub: FakeHub) -> subprocess.Popen[bytes]:
    plan = json.dumps(dataclasses.asdict(file))
    return subprocess.Popen([sys.executable, "-c", FETCH, plan, str(folder), hub.endpoint])


def test_a_killed_fetch_is_continued_by_the_next(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": LARGE}))
    hub.faults.stall_after = HALF
    process = fetch_in_a_process(file, tmp_path, hub)
    deadline = time.monotonic() + 60
    while sum(path.stat().st_size for path in tmp_path.iterdir()) < HALF // 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "a.parquet").exists()
    n_kept = sum(path.stat().st_size for path in tmp_path.iterdir())
    hub.faults.stall_after = None
    hub.requests.clear()
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == LARGE
    assert ranges(hub) == [f"{n_kept}-"]
    assert paths_in(tmp_path) == ["a.parquet"]


def test_a_damaged_part_is_thrown_away_once(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": LARGE}))
    assert file.sha256 is not None
    (tmp_path / f".a.parquet.{file.sha256[:12]}.part").write_bytes(bytes(HALF))
    assert fetch(file, tmp_path, endpoint=hub.endpoint).read_bytes() == LARGE
    assert ranges(hub) == [f"{HALF}-", ""]


def test_a_part_of_another_content_is_not_continued(hub: FakeHub, tmp_path: Path):
    old = only(listed(hub, {"a.parquet": LARGE}))
    assert old.sha256 is not None
    (tmp_path / f".a.parquet.{old.sha256[:12]}.part").write_bytes(LARGE[:HALF])
    new = only(listed(hub, {"a.parquet": LARGE[::-1]}))
    assert fetch(new, tmp_path, endpoint=hub.endpoint).read_bytes() == LARGE[::-1]
    assert ranges(hub) == [""]


@pytest.mark.parametrize("name", ["a.parquet", "a.txt"])
@pytest.mark.parametrize(
    ("instead", "problem"),
    [
        (bytes(len(STORIES)), "its (git sha1|sha256) is"),
        (STORIES[:-1], f"it has {len(STORIES) - 1} bytes instead of {len(STORIES)}"),
        (STORIES + b"x", f"it has {len(STORIES) + 1} bytes instead of {len(STORIES)}"),
    ],
    ids=["other", "shorter", "longer"],
)
def test_wrong_content_is_asked_for_twice_and_not_kept(
    name: str, instead: bytes, problem: str, hub: FakeHub, tmp_path: Path
):
    file = only(listed(hub, {name: STORIES}))
    hub.faults.instead[name] = instead
    with pytest.raises(ValueError, match=f"{name} of some/text came twice .*: {problem}"):
        fetch(file, tmp_path, endpoint=hub.endpoint)
    assert ranges(hub).count("") == 2
    assert paths_in(tmp_path) == []


def test_wrong_content_leaves_an_older_file_alone(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": STORIES}))
    (tmp_path / "a.parquet").write_bytes(b"older")
    hub.faults.instead["a.parquet"] = b"wrong"
    with pytest.raises(ValueError, match="came twice"):
        fetch(file, tmp_path, endpoint=hub.endpoint)
    assert (tmp_path / "a.parquet").read_bytes() == b"older"


def test_a_link_that_leads_out_of_the_folder_is_not_followed(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"data/a.parquet": STORIES}))
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (folder / "data").symlink_to(outside)
    with pytest.raises(ValueError, match="leads out of .* by a symbolic link; remove the link"):
        fetch(file, folder, endpoint=hub.endpoint)
    (folder / "data").unlink()
    (folder / "data").mkdir()
    (folder / "data" / "a.parquet").symlink_to(outside / "a.parquet")
    with pytest.raises(ValueError, match="symbolic link"):
        fetch(file, folder, endpoint=hub.endpoint)
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_the_part_is_not_followed(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": STORIES}))
    assert file.sha256 is not None
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / f".a.parquet.{file.sha256[:12]}.part").symlink_to(outside)
    with pytest.raises(OSError):
        fetch(file, tmp_path, endpoint=hub.endpoint)
    assert outside.read_bytes() == b"mine"


def test_a_folder_that_is_itself_a_link_is_used(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"data/a.parquet": STORIES}))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    fetch(file, tmp_path / "link", endpoint=hub.endpoint)
    assert (tmp_path / "real" / "data" / "a.parquet").read_bytes() == STORIES


def test_a_gated_dataset_says_how_to_get_in(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": STORIES}))
    hub.gated.add("some/text")
    with pytest.raises(
        ValueError, match="gated: accept its terms at .*/datasets/some/text.*hf auth"
    ):
        fetch(file, tmp_path, endpoint=hub.endpoint)


def test_a_file_that_has_gone_says_so(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": STORIES}))
    with pytest.raises(ValueError, match="a file of some/text that was listed is not there"):
        fetch(dataclasses.replace(file, path="b.parquet"), tmp_path, endpoint=hub.endpoint)


def test_a_full_disk_is_told_before_anything_is_fetched(hub: FakeHub, tmp_path: Path):
    file = dataclasses.replace(only(listed(hub, {"a.parquet": STORIES})), n_bytes=1 << 60)
    with pytest.raises(ValueError, match=rf"needs {1 << 60} bytes more, and .* free; make room"):
        fetch(file, tmp_path, endpoint=hub.endpoint)
    assert hub.fetched() == []


def test_two_processes_that_want_a_file_fetch_it_once(hub: FakeHub, tmp_path: Path):
    file = only(listed(hub, {"a.parquet": LARGE}))
    both = [fetch_in_a_process(file, tmp_path, hub) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "a.parquet").read_bytes() == LARGE
    assert len(hub.fetched()) == 1
    assert paths_in(tmp_path) == ["a.parquet"]


def test_who_waited_for_a_part_gets_what_stands_there_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, waits, read = tmp_path / "part", threading.Event(), list[bytes]()
    path.write_bytes(b"old")
    lock = fetching.fcntl.flock

    def lock_and_tell(file: IO[bytes], how: int) -> None:
        waits.set()
        lock(file, how)

    def wait_and_read() -> None:
        with fetching._held_file(path) as content:
            read.append(content.read())

    waiter = threading.Thread(target=wait_and_read)
    with fetching._held_file(path):
        monkeypatch.setattr(fetching.fcntl, "flock", lock_and_tell)
        waiter.start()
        assert waits.wait(timeout=30)
        path.replace(tmp_path / "finished")
        path.write_bytes(b"new")
    waiter.join()
    assert read == [b"new"]
