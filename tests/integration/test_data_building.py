"""Building data as a person meets it: real processes that are killed, stopped and starved."""

import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import small
from fake_hub import fake_hub
from modelwright.data.building import build_data, unfinished_folder
from modelwright.data.config import DataConfig
from modelwright.data.folder import open_data
from modelwright.data.shards import folder_kind, open_shard, write_shard
from modelwright.runtime.files import sha256_of
from modelwright.runtime.manifest import write_manifest
from modelwright.tokenizer.config import TokenizerConfig
from modelwright.training.assembly import prepare
from modelwright.training.runs import train
from small import texts

command = [sys.executable, "-m", "modelwright", "data", "build"]
settings = ["--set", "tokenizer.vocab_size=400", "--set", "data.shard_tokens=1_000_000"]
vocabulary = TokenizerConfig(vocab_size=300)


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 20 MB of stories, and what they become when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("building")
    some = texts(300)
    rng = random.Random(0)
    with (folder / "t.txt").open("w") as file:
        while file.tell() < 20_000_000:
            file.write(f"{rng.random()} {rng.choice(some)}\n<|endoftext|>\n")
    done = build(folder, "whole")
    assert done.wait(timeout=120) == 0
    assert len(list((folder / "whole").glob("train-*.shard"))) > 4
    return folder


def build(folder: Path, out: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, "--source", "t.txt", "--out", out, "--workers", "2", *settings, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_build_that_is_killed_again_and_again_gives_the_same_bytes(place: Path):
    rng = random.Random(1)
    n_kills = 0
    for _ in range(40):
        process = build(place, "killed")
        try:
            process.wait(timeout=rng.uniform(0.3, 0.8))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            n_kills += 1
            if (place / "killed").exists():  # it was only reading it again
                break
            assert not (place / "killed.unfinished" / "manifest.json").exists()
    else:
        assert build(place, "killed").wait(timeout=120) == 0
    assert n_kills > 0
    assert files_of(place / "killed") == files_of(place / "whole")
    assert not (place / "killed.unfinished").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_build_that_is_stopped_says_so_and_goes_on(place: Path, number: signal.Signals):
    out = f"stopped-{number}"
    process = build(place, out)
    parts = unfinished_folder(place / out) / "parts"
    while not list(parts.glob("*.json")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    if process.returncode != 0:  # it may have been done before the signal came
        assert process.returncode == 128 + number
        assert "what is finished is kept in" in errors
        assert "Traceback" not in errors
        assert not (place / out).exists()
        assert build(place, out).wait(timeout=120) == 0
    assert files_of(place / out) == files_of(place / "whole")


def test_a_disk_that_takes_no_more_leaves_no_manifest_and_the_build_goes_on(place: Path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

    process = subprocess.run(
        [*command, "--source", "t.txt", "--out", "full", *settings],
        cwd=place,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    assert not list(place.glob("full*/manifest.json"))
    assert build(place, "full").wait(timeout=120) == 0
    assert files_of(place / "full") == files_of(place / "whole")


def test_standard_input_is_a_source(place: Path):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts(150))
    for source, given in (("-.jsonl", lines), ("-", "\n<|endoftext|>\n".join(texts(150)))):
        out = f"piped{len(source)}"
        done = subprocess.run(
            [*command, "--source", source, "--out", out, "--set", "tokenizer.vocab_size=300"],
            cwd=place,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        splits = open_data(place / out).facts["splits"]
        assert sum(side["n_documents"] for side in splits.values()) == 150
    assert files_of(place / "piped1").keys() == files_of(place / "piped7").keys()
    sha256s = [files_of(place / out)["train-00000.shard"] for out in ("piped1", "piped7")]
    assert sha256s[0] == sha256s[1]


def test_a_line_of_a_hundred_megabytes_is_a_document(tmp_path: Path):
    text = "one line and no end \x00 " * 5_000_000
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": "short"}) + "\n")
    assert path.stat().st_size > 100_000_000
    config = DataConfig(folder=str(tmp_path / "d"), source=str(path), validation_fraction=0.1)
    data = build_data(config, TokenizerConfig(vocab_size=300, learn_bytes=1_000_000))
    parts = [
        data.tokenizer.decode(side.read(0, len(side))) for side in (data.train, data.validation)
    ]
    end = "<|endoftext|>"
    assert parts[0].count(end) == 2  # of the short document, nothing is kept out
    assert parts[0].split(end)[0] + parts[1].removesuffix(end) == text


@pytest.mark.cluster
def test_a_ray_cluster_of_two_workers_gives_the_same_bytes(place: Path):
    process = build(place, "ray", "--engine", "ray")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert files_of(place / "ray") == files_of(place / "whole")


@pytest.mark.cluster
def test_what_a_task_on_a_ray_cluster_raises_is_told_as_usual(tmp_path: Path):
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n' * 200 + "no JSON\n")
    small.tokenizer().save(tmp_path / "tokenizer.json")
    done = subprocess.run(
        [
            *[*command, "--source", "t.jsonl", "--out", "d", "--engine", "ray", "--workers", "2"],
            *["--set", f"tokenizer.file={tmp_path / 'tokenizer.json'}"],
            *["--set", "tokenizer.vocab_size=300"],
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"RAY_DEDUP_LOGS": "0"},
    )
    assert done.returncode == 2, done.stderr
    assert "t.jsonl, line 201 is not JSON" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dataset_of_the_hub_gives_the_same_bytes_as_its_files(tmp_path: Path):
    some = texts(240)
    contents: dict[str, bytes] = {}
    for number, part in enumerate((some[:80], some[80:160], some[160:])):
        file = io.BytesIO()
        pq.write_table(pa.table({"text": part}), file)
        contents[f"data/train-{number:05}-of-00003.parquet"] = file.getvalue()
        (tmp_path / f"{number}.parquet").write_bytes(file.getvalue())
    arguments = ["--set", "tokenizer.vocab_size=300", "--set", "data.deduplicate=true"]
    with fake_hub() as hub:
        hub.commit("some/stories", contents)
        for out, source, more in (
            ("files", "*.parquet", []),
            ("hub", "hub:some/stories", []),
            ("kept", "hub:some/stories", ["--set", "data.downloads=downloads"]),
        ):
            done = subprocess.run(
                [*command, "--source", source, "--out", out, "--workers", "2", *arguments, *more],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                env=os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"},
            )
            assert done.returncode == 0, done.stderr
        assert "licence: see its page" in done.stderr
    shards = [
        {name: sha256 for name, sha256 in files_of(tmp_path / out).items() if "shard" in name}
        for out in ("files", "hub", "kept")
    ]
    assert shards[0] == shards[1] == shards[2]
    assert len(list((tmp_path / "downloads").rglob("*.parquet"))) == 3
    assert not list((tmp_path / "hub").rglob("*.parquet"))


def test_what_was_fetched_stays_when_the_hub_fails(tmp_path: Path):
    some = texts(240)
    files: dict[str, bytes] = {}
    for name, part in (("a", some[:120]), ("b", some[120:])):
        file = io.BytesIO()
        pq.write_table(pa.table({"text": part}), file)
        files[f"{name}.parquet"] = file.getvalue()
    with fake_hub() as hub:
        hub.commit("some/stories", files)
        hub.faults.statuses = [200] + [404] * 10

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*command, "--source", "hub:some/stories", "--out", "d"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                env=os.environ | {"HF_ENDPOINT": hub.endpoint},
            )

        failed = run()
        assert failed.returncode == 2, failed.stderr
        assert "what is finished is kept in" in failed.stderr
        hub.faults.statuses = []
        before = len(hub.fetched())
        assert run().returncode == 0
        (fetched,) = hub.fetched()[before:]
        assert hashlib.sha256(files["b.parquet"]).hexdigest() in fetched


def test_a_hub_build_that_was_stopped_goes_on_with_the_commit_it_began_with(tmp_path: Path):
    some = texts(240)
    with fake_hub() as hub:
        environment = os.environ | {"HF_ENDPOINT": hub.endpoint}

        def parquet(part: list[str]) -> bytes:
            file = io.BytesIO()
            pq.write_table(pa.table({"text": part}), file)
            return file.getvalue()

        def run(out: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [
                    *command,
                    "--source",
                    "hub:some/stories",
                    "--out",
                    out,
                    "--workers",
                    "1",
                    "--set",
                    "tokenizer.vocab_size=300",
                ],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                env=environment,
            )

        first, second = parquet(some[:120]), parquet(some[120:])
        hub.commit("some/stories", {"a.parquet": first, "b.parquet": second})
        assert run("whole").returncode == 0
        work = tmp_path / "stopped.unfinished"
        process = subprocess.Popen(
            [
                *command,
                "--source",
                "hub:some/stories",
                "--out",
                "stopped",
                "--workers",
                "1",
                "--set",
                "tokenizer.vocab_size=300",
            ],
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        while not (work / "tokenizer.json").exists() and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        process.wait()
        assert not (tmp_path / "stopped").exists()
        hub.commit("some/stories", {"a.parquet": second, "b.parquet": first})
        done = run("stopped")
        assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")


@pytest.fixture(scope="module")
def trainable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, and the command line's settings that train on it."""
    folder = tmp_path_factory.mktemp("trainable")
    prepare(small.run_config(folder))
    return folder


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def put_a_wild_id(path: Path) -> None:
    """Such as another program may write: the hashes agree, the ids mean nothing."""
    shard = open_shard(path)
    tokens = np.array(shard.tokens)
    tokens[5] = 300
    write_shard(path, tokens, shard.document_starts.astype(np.int64), shard.fingerprint)
    facts = json.loads((path.parent / "manifest.json").read_text())["facts"]
    write_manifest(path.parent, folder_kind, facts)


def widen_ids(path: Path) -> None:
    shard = open_shard(path)
    starts = shard.document_starts.astype(np.int64)
    write_shard(path, np.array(shard.tokens, np.uint32), starts, shard.fingerprint)
    facts = json.loads((path.parent / "manifest.json").read_text())["facts"]
    write_manifest(path.parent, folder_kind, facts)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "train-00000.shard has [0-9,]+ bytes where manifest.json says"),
        (flip_a_bit, "train-00000.shard does not match its sha256"),
        (put_a_wild_id, "train-00000.shard: token 5 is the id 300, but the vocabulary has 300"),
        (widen_ids, "train-00000.shard has ids of 4 bytes, but a vocabulary of 300 tokens takes 2"),
    ],
)
def test_damaged_data_is_refused_by_name_before_the_first_step(
    trainable: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
):
    config = small.run_config(tmp_path)
    shutil.copytree(trainable / "data", tmp_path / "data")
    damage(tmp_path / "data" / "train-00000.shard")
    with pytest.raises(ValueError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
