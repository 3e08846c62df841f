"""`modelwright tokenizer` and its verbs as a person meets them."""

import json
import shutil
from pathlib import Path

import pytest

import small
from command import Done, run
from modelwright.data.shards import open_shard
from modelwright.tokenizer.splitting import pattern_named
from modelwright.tokenizer.tokenizer import Tokenizer
from modelwright.tokenizer.training import train_tokenizer


def call(*arguments: object, cwd: Path) -> Done:
    return run("tokenizer", *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text.txt, and tok.json trained on it, and what `export` makes of that."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "text.txt").write_text("\n<|endoftext|>\n".join(small.texts(40)))
    done = call("train", "text.txt", "--vocab-size", 320, "--out", "tok.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    for form in ("tiktoken", "vocab-merges", "huggingface"):
        done = call("export", "tok.json", "--format", form, "--out", f"out.{form}", cwd=folder)
        assert done.returncode == 0, done.stderr
    assert "320 tokens" in done.stdout
    return folder


def place_like(trained: Path, folder: Path) -> Path:
    """A copy to work in."""
    return Path(shutil.copytree(trained, folder / "copy"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["out.tiktoken", "--pattern", "gpt2", "--special", "<|endoftext|>"],
        ["out.tiktoken", "--pattern", "gpt2", "--special", "<|endoftext|>=319"],
        ["out.vocab-merges"],
        ["out.huggingface"],
        ["out.huggingface/tokenizer.json"],
        ["--vocab", "out.vocab-merges/vocab.json", "--merges", "out.vocab-merges/merges.txt"],
    ],
    ids=" ".join,
)
def test_what_was_exported_is_imported_as_it_was(
    trained: Path, tmp_path: Path, arguments: list[str]
):
    done = call("import", *arguments, "--out", tmp_path / "new" / "tok.json", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "320 tokens" in done.stdout
    assert (tmp_path / "new" / "tok.json").read_bytes() == (trained / "tok.json").read_bytes()


def test_exporting_a_rank_file_says_what_is_not_in_it(trained: Path, tmp_path: Path):
    arguments = ("export", "tok.json", "--format", "tiktoken", "--out", tmp_path / "x")
    done = call(*arguments, cwd=trained)
    assert "not in the file: the pattern, and the special tokens <|endoftext|>=319" in done.stdout


def test_a_pattern_may_be_a_regular_expression(trained: Path, tmp_path: Path):
    out = tmp_path / "tok.json"
    done = call("import", "out.vocab-merges", "--pattern", r"\p{L}+|.", "--out", out, cwd=trained)
    assert done.returncode == 0, done.stderr
    split = json.loads(out.read_text())["pre_tokenizer"]["pretokenizers"][0]
    assert split["pattern"] == {"Regex": r"\p{L}+|."}


def test_a_template_is_dropped_on_request(trained: Path, tmp_path: Path):
    content = json.loads((trained / "tok.json").read_text())
    content["post_processor"] = {"type": "TemplateProcessing"}
    (tmp_path / "framed.json").write_text(json.dumps(content))
    refused = call("import", "framed.json", "--out", "x.json", cwd=tmp_path)
    assert refused.returncode == 2
    assert "unless --drop-template is given" in refused.stderr
    done = call("import", "framed.json", "--out", "x.json", "--drop-template", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.json").read_bytes() == (trained / "tok.json").read_bytes()


def test_force_writes_over_what_is_there(trained: Path, tmp_path: Path):
    folder = place_like(trained, tmp_path)
    (folder / "out.tiktoken").write_text("old")
    arguments = ("export", "tok.json", "--format", "tiktoken", "--out", "out.tiktoken")
    assert call(*arguments, cwd=folder).returncode == 2
    assert (folder / "out.tiktoken").read_text() == "old"
    assert call(*arguments, "--force", cwd=folder).returncode == 0
    assert (folder / "out.tiktoken").read_bytes() == (trained / "out.tiktoken").read_bytes()


def test_inspect_tells_draws_and_cuts(trained: Path, tmp_path: Path):
    picture = tmp_path / "tok.png"
    done = call(
        "inspect",
        "tok.json",
        *("--text", "text.txt", "--sample", 30),
        *("--corpus-size", "825 GB", "--picture", picture, "--cut", "Once upon\na zoo"),
        cwd=trained,
    )
    assert done.returncode == 0, done.stderr
    for line in (
        "tokens          320",
        "special tokens  <|endoftext|> 319",
        "split pattern   gpt2",
        "sample          30 documents",
        "a corpus of 825 GB takes",
        "GB on disk as uint16",
    ):
        assert line in done.stdout
    assert "95 % interval" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = done.stdout.splitlines()
    cut = lines[[line.endswith(" tokens:") for line in lines].index(True) + 1]
    assert cut.replace("|", "") == r"Once␣upon\na␣zoo"
    assert "|" in cut


def test_inspect_needs_no_text(trained: Path):
    done = call("inspect", "tok.json", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "bytes per token" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import"], "there is nothing to import; give a SOURCE"),
        (["import", "nowhere"], "there is no tokenizer at nowhere"),
        (["import", "--vocab", "text.txt"], "--vocab and --merges belong together"),
        (
            ["import", "tok.json", "--vocab", "text.txt", "--merges", "text.txt"],
            "SOURCE is tok.json, but --vocab is given too",
        ),
        (["import", "out.tiktoken"], "out.tiktoken does not say how text is cut; add --pattern"),
        (["import", "out.tiktoken", "--pattern", "gpt4"], "'gpt4', which is not known; choose one"),
        (["import", "out.tiktoken", "--pattern", "(a"], "'(a' is not a regular expression"),
        (["import", "text.txt", "--pattern", "gpt2"], "text.txt: line 1 is"),
        (["import", "out.huggingface", "--pattern", "gpt2"], "says itself what --pattern would"),
        (["import", "out.huggingface", "--special", "<s>"], "says itself what --special would"),
        (["import", "out.vocab-merges", "--special", "<s>"], "'<s>', which is not in"),
        (
            ["import", "out.vocab-merges", "--special", "<|endoftext|>=7"],
            "asks for id 7, but out.vocab-merges/vocab.json gives it 319",
        ),
        (
            ["import", "out.vocab-merges", "--special", "a", "--special", "a=3"],
            "--special names 'a' twice",
        ),
        (["import", "empty"], "it has neither; name the files with --vocab and --merges"),
        (["import", "out.huggingface", "--out", "tok.json"], "tok.json is there already"),
        (
            ["export", "tok.json", "--format", "tiktoken", "--out", "text.txt"],
            "text.txt is there already; choose another --out, or add --force",
        ),
        (
            ["export", "tok.json", "--format", "huggingface", "--out", "text.txt"],
            "text.txt is a file, but huggingface needs a folder",
        ),
        (
            ["export", "tok.json", "--format", "tiktoken", "--out", "empty", "--force"],
            "empty is a folder, but tiktoken needs a file",
        ),
        (
            ["export", "tok.json", "--format", "vocab-merges", "--out", "out.vocab-merges"],
            "vocab.json is there already",
        ),
        (
            ["export", "text.txt", "--format", "tiktoken", "--out", "x"],
            "text.txt: this is not JSON",
        ),
        (["inspect", "nowhere.json"], "there is no tokenizer file at nowhere.json"),
        (["inspect", "tok.json", "--text", "nowhere"], "there is no text at nowhere"),
        (
            ["inspect", "tok.json", "--corpus-size", "big"],
            "the size 'big' is not a number of bytes",
        ),
        (["inspect", "tok.json", "--corpus-size", "1GB"], "give some with --text"),
        (["inspect", "tok.json", "--text", "text.txt", "--sample", "0"], "to have 0 documents"),
        (["inspect", "tok.json", "--picture", "text.txt"], "choose another --picture"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_sentence_and_leaves_nothing(
    trained: Path, tmp_path: Path, arguments: list[str], message: str
):
    folder = place_like(trained, tmp_path)
    (folder / "empty").mkdir()
    if arguments[0] == "import" and "--out" not in arguments:
        arguments = [*arguments, "--out", "new.json"]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = call(*arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_file_becomes_a_shard_of_its_ids(trained: Path, tmp_path: Path):
    shard_path = tmp_path / "new" / "text.shard"
    done = call("encode", "tok.json", "--file", "text.txt", "--out", shard_path, cwd=trained)
    assert done.returncode == 0, done.stderr
    tokenizer = Tokenizer.load(trained / "tok.json")
    text = (trained / "text.txt").read_bytes()
    ids = [*tokenizer.encode(text, allowed_special="all").tolist(), tokenizer.end_of_text]
    shard = open_shard(shard_path)
    assert shard.tokens.tolist() == ids
    assert shard.fingerprint == tokenizer.fingerprint
    ends = [0, *(i + 1 for i, token in enumerate(ids) if token == tokenizer.end_of_text)]
    assert shard.document_starts.tolist() == ends
    assert f"{len(ids):,} tokens as uint16, 40 documents" in done.stdout
    again = call("encode", "tok.json", "--file", "text.txt", "--out", shard_path, cwd=trained)
    assert again.returncode == 2
    assert "is there already; choose another --out, or add --force" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--file", "text.txt"], "--file and --out go together"),
        (["a text", "--file", "text.txt", "--out", "x"], "--file and --out go together"),
        (["--file", "absent.txt", "--out", "x"], "there is no text at absent.txt"),
        (["--file", "text.txt", "--out", "x", "--threads", "0"], "--threads is 0; the least is 1"),
    ],
)
def test_encoding_a_file_refuses_what_makes_no_sense(
    trained: Path, arguments: list[str], message: str
):
    done = call("encode", "tok.json", *arguments, cwd=trained)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_options_of_training_reach_the_trainer(trained: Path, tmp_path: Path):
    out = tmp_path / "tok.json"
    done = call(
        "train",
        "text.txt",
        *("--vocab-size", 400, "--pattern", "cl100k", "--digits-apart", "--ties", "huggingface"),
        *("--min-frequency", 3, "--max-token-length", 4, "--threads", 1),
        *("--special", "<|endoftext|>", "--special", "<|pad|>", "--out", out),
        cwd=trained,
    )
    assert done.returncode == 0, done.stderr
    expected = train_tokenizer(
        trained / "text.txt",
        vocab_size=400,
        pattern=pattern_named("cl100k", digits_apart=True),
        ties="huggingface",
        min_frequency=3,
        max_token_length=4,
        special_tokens=("<|endoftext|>", "<|pad|>"),
    )
    assert Tokenizer.load(out).fingerprint == expected.fingerprint
    report = json.loads((tmp_path / "tok.training.json").read_text())
    assert report["n_bytes"] == (trained / "text.txt").stat().st_size
    assert (report["ties"], report["n_threads"]) == ("huggingface", 1)


def test_inspect_says_where_the_training_time_went(trained: Path):
    done = call("inspect", "tok.json", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "training  " in done.stdout
    assert "63 merges, ties lexicographic" in done.stdout
    (trained / "tok.training.json").rename(trained / "aside.json")
    try:
        assert "merges, ties" not in call("inspect", "tok.json", cwd=trained).stdout
    finally:
        (trained / "aside.json").rename(trained / "tok.training.json")
