"""`modelwright data` and its verbs as a person meets them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from command import Done, run
from modelwright.data.inspection import open_folder
from modelwright.runtime.manifest import write_manifest


def call(*arguments: object, cwd: Path) -> Done:
    return run("data", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with `built`, a folder of several shards, and what `export` makes of it."""
    place = tmp_path_factory.mktemp("data")
    settings = (
        "data.stories_bytes=100_000",
        "data.shard_tokens=10_000",
        "tokenizer.vocab_size=300",
    )
    options = [word for setting in settings for word in ("--set", setting)]
    done = call("build", "--out", "built", *options, cwd=place)
    assert done.returncode == 0, done.stderr
    for form in ("nanogpt", "llmc"):
        done = call("export", "built", "--format", form, "--out", form, cwd=place)
        assert done.returncode == 0, done.stderr
    return place


def place_like(made: Path, folder: Path) -> Path:
    """A copy to work in."""
    return Path(shutil.copytree(made, folder / "copy"))


def tokens_of(folder: Path, side: str) -> list[int]:
    return [int(i) for shard in open_folder(folder).shards[side] for i in shard.tokens]


@pytest.mark.parametrize("form", ["nanogpt", "llmc"])
def test_what_was_exported_is_imported_as_it_was(made: Path, tmp_path: Path, form: str):
    files = {side: sorted((made / form).glob(f"{side}*.bin")) for side in ("train", "val")}
    assert len(files["train"]) == (1 if form == "nanogpt" else len(list(made.glob("built/train*"))))
    done = call(
        "import",
        *(word for path in files["train"] for word in ("--train", path)),
        *("--validation", files["val"][0], "--tokenizer", made / "built" / "tokenizer.json"),
        *("--out", tmp_path / "new", "--shard-tokens", 10_000),
        cwd=made,
    )
    assert done.returncode == 0, done.stderr
    for side in ("train", "validation"):
        assert tokens_of(tmp_path / "new", side) == tokens_of(made / "built", side)
    counts = open_folder(made / "built").facts["splits"]
    assert open_folder(tmp_path / "new").facts["splits"] == counts
    assert f"{counts['train']['n_tokens']:,} tokens in {counts['train']['n_shards']}" in done.stdout
    verified = call("verify", tmp_path / "new", cwd=made)
    assert verified.returncode == 0, verified.stderr


def test_export_tells_the_size_of_each_file(made: Path, tmp_path: Path):
    done = call("export", "built", "--format", "nanogpt", "--out", tmp_path / "x", cwd=made)
    n_tokens = len(tokens_of(made / "built", "train"))
    assert f"{tmp_path / 'x' / 'train.bin'}: {n_tokens:,} tokens, " in done.stdout
    assert (tmp_path / "x" / "train.bin").stat().st_size == 2 * n_tokens


def test_info_tells_counts_lengths_and_texts(made: Path):
    done = call("info", "built", cwd=made)
    assert done.returncode == 0, done.stderr
    counts = open_folder(made / "built").facts["splits"]["train"]
    for part in (
        f"{counts['n_tokens']:,}",
        f"{counts['n_documents']:,}",
        "tokenizer         300 tokens, fingerprint ",
        "data.stories_bytes = 100000",
        "median document",
        "train documents by length in tokens",
        "█",
        "train document 2: ",
        "validation document 1: ",
        "not verified; `modelwright data verify` reads every byte",
    ):
        assert part in done.stdout
    assert "train document 3: " not in done.stdout


def test_info_shows_as_many_documents_as_asked_for(made: Path):
    assert "document 1" not in call("info", "built", "--documents", 0, cwd=made).stdout
    assert "train document 4: " in call("info", "built", "--documents", 4, cwd=made).stdout


def test_info_as_json_has_everything(made: Path):
    plain = json.loads(call("info", "built", "--json", cwd=made).stdout)
    side = plain["sides"]["train"]
    facts = open_folder(made / "built").facts
    assert side["n_tokens"] == facts["splits"]["train"]["n_tokens"]
    assert sum(side["lengths"]["histogram"]["n_documents"]) == side["n_documents"]
    assert plain["facts"] == facts


def test_info_tells_how_rows_of_a_context_fill(made: Path, tmp_path: Path):
    page = tmp_path / "page.html"
    done = call("info", "built", "--context", 64, "--report", page, cwd=made)
    assert done.returncode == 0, done.stderr
    assert "train in rows of 64 tokens" in done.stdout
    assert "The train side in rows of 64 tokens" in page.read_text()
    plain = json.loads(call("info", "built", "--context", 64, "--json", cwd=made).stdout)
    packed, contiguous = (plain["cuts"]["train"][way] for way in ("packed", "contiguous"))
    n_tokens = plain["sides"]["train"]["n_tokens"]
    assert packed["n_tokens"] == n_tokens
    assert packed["n_rows"] * 64 == n_tokens + packed["n_padding"]
    assert contiguous["n_padding"] < 64
    assert f"{packed['padding_share']:.2%}" in done.stdout
    wider = json.loads(call("info", "built", "--context", 4096, "--json", cwd=made).stdout)
    assert wider["cuts"]["train"]["packed"]["n_documents_cut"] == 0
    assert packed["n_documents_cut"] > 0


def test_info_leaves_a_page(made: Path, tmp_path: Path):
    page = tmp_path / "new" / "page.html"
    done = call("info", "built", "--report", page, cwd=made)
    assert done.returncode == 0, done.stderr
    assert f"report: {page}" in done.stdout
    content = page.read_text()
    assert content.startswith("<!doctype html>")
    assert content.count("<svg") == 2
    again = call("info", "built", "--report", page, cwd=made)
    assert again.returncode == 2
    assert "page.html is there already; choose another --report, or add --force" in again.stderr
    assert call("info", "built", "--report", page, "--force", cwd=made).returncode == 0


def test_info_of_a_shard_needs_a_tokenizer_only_for_its_text(made: Path):
    shard = "built/train-00001.shard"
    alone = call("info", shard, cwd=made)
    assert alone.returncode == 0, alone.stderr
    assert "document 1: " not in alone.stdout
    assert "longest document" in alone.stdout
    both = call("info", shard, "--tokenizer", "built/tokenizer.json", cwd=made)
    assert "shard document 2: " in both.stdout


def test_verify_tells_every_file(made: Path):
    done = call("verify", "built", cwd=made)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (made / "built").iterdir())
    names.remove("manifest.json")
    *files, last = done.stdout.splitlines()
    assert [line.split()[0] for line in files] == names
    assert last.startswith(f"all {len(names)} files are as they were written (")
    assert "MB/s" in last


def test_verify_names_the_token_that_cannot_be(made: Path, tmp_path: Path):
    folder = place_like(made, tmp_path) / "built"
    facts = json.loads((folder / "manifest.json").read_text())["facts"]
    path = folder / "train-00001.shard"
    content = bytearray(path.read_bytes())
    content[128 + 2 * 7 : 128 + 2 * 8] = np.array([300], "<u2").tobytes()
    path.write_bytes(content)
    write_manifest(folder, "modelwright-data-1", facts)
    done = call("verify", folder, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: {path}: token 7 is the id 300, but the vocabulary has 300 tokens"
    )
    assert "as they were written" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "nowhere"], "there is no folder at nowhere"),
        (["info", "."], "has no manifest.json, so it is not a finished modelwright-data-1"),
        (["info", "nanogpt/val.bin"], "nanogpt/val.bin is not a token shard"),
        (["info", "built", "--context", "0"], "the context is 0; the least is 1"),
        (["info", "built", "--documents", "-1"], "--documents is -1; the least is 0"),
        (
            ["info", "built", "--tokenizer", "built/tokenizer.json"],
            "which has its own tokenizer.json; leave --tokenizer out",
        ),
        (["verify", "nowhere"], "there is no folder at nowhere"),
        (["verify", "."], "has no manifest.json, so it is not a finished modelwright-data-1"),
        (
            ["import", "--train", "nanogpt/train.bin"],
            "--validation is missing; name a .bin file for each side",
        ),
        (["import", "--validation", "nanogpt/val.bin"], "--train is missing"),
        (
            ["import", "--train", "no.bin", "--validation", "nanogpt/val.bin"],
            "there is no token file at no.bin, which --train names",
        ),
        (
            [
                *("import", "--train", "nanogpt/train.bin", "--validation", "nanogpt/val.bin"),
                *("--format", "llmc"),
            ],
            "where an llm.c file has 20240520 or 20240801",
        ),
        (
            [
                *("import", "--train", "nanogpt/train.bin", "--validation", "nanogpt/val.bin"),
                *("--shard-tokens", "0"),
            ],
            "shard_tokens is 0; the least is 1",
        ),
        (["export", "built", "--format", "llmc", "--out", "nanogpt"], "nanogpt is there already"),
        (["export", "nowhere", "--format", "llmc", "--out", "new"], "there is no folder at"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_sentence_and_leaves_nothing(
    made: Path, tmp_path: Path, arguments: list[str], message: str
):
    folder = place_like(made, tmp_path)
    if arguments[0] == "import":
        arguments = [*arguments, "--tokenizer", "built/tokenizer.json", "--out", "new"]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = call(*arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
