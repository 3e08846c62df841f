"""`modelwright tokenizer`: train one on a text, or cut a text with one."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelwright.cli import tokenizer_files, tokenizer_inspect
from modelwright.cli.display import progress_bars

if TYPE_CHECKING:
    from modelwright.tokenizer.tokenizer import Ids, Tokenizer

_patterns = ("gpt2", "cl100k", "llama3", "o200k", "none")

app = typer.Typer(help="Train a byte-level BPE tokenizer, or use one.", no_args_is_help=True)
app.command("inspect")(tokenizer_inspect.inspect)
app.command("import")(tokenizer_files.import_)
app.command("export")(tokenizer_files.export)


@app.command("train")
def train(
    source: list[str] = typer.Argument(
        ..., help="Text files (plain, .gz, .zst), folders of them, or 'stories'."
    ),
    out: Path = typer.Option(Path("tokenizer.json"), "--out", help="Where the tokenizer goes."),
    vocab_size: int = typer.Option(4096, "--vocab-size", help="Tokens, special ones included."),
    special: list[str] = typer.Option(
        ["<|endoftext|>"],
        "--special",
        help="A special token; may be repeated. In the text it is a border between documents.",
    ),
    pattern: str = typer.Option(
        "gpt2", "--pattern", help="How text is cut: " + ", ".join(_patterns) + ", or a regex."
    ),
    digits_apart: bool = typer.Option(
        False, "--digits-apart", help="Make every digit a piece of its own."
    ),
    ties: str = typer.Option(
        "lexicographic",
        "--ties",
        help="Which of equally common pairs is merged: lexicographic, smallest-ids, huggingface.",
    ),
    min_frequency: int = typer.Option(
        1, "--min-frequency", help="How often a pair has to occur to be merged."
    ),
    max_token_length: int | None = typer.Option(
        None, "--max-token-length", help="Bytes of the longest token that may be learned."
    ),
    threads: int | None = typer.Option(None, "--threads", help="Left out: all processors."),
    max_pieces: int | None = typer.Option(
        None,
        "--max-pieces",
        help="Forget the rarest pieces when there are more; saves memory, changes the result.",
    ),
    force: bool = typer.Option(False, "--force", help="Write over a tokenizer that is there."),
) -> None:
    """Train a tokenizer on text and write it in Hugging Face's format."""
    from typing import cast

    from modelwright.data.config import DataConfig
    from modelwright.data.progress import tokenizer_progress
    from modelwright.data.sources import told_stories
    from modelwright.runtime.files import require_writable, write_atomically
    from modelwright.tokenizer.config import TokenizerConfig
    from modelwright.tokenizer.text_files import is_compressed, text_files
    from modelwright.tokenizer.training import (
        TieRule,
        TrainingProgress,
        report_json,
        report_path,
        train_tokenizer,
    )

    config = TokenizerConfig(vocab_size=vocab_size, pattern=pattern, digits_apart=digits_apart)
    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already; choose another --out, or add --force")
    require_writable(out.parent)
    if source == ["stories"]:
        defaults = DataConfig()
        n_bytes = defaults.stories_bytes
        text = told_stories(defaults.stories_seed, n_bytes)
    else:
        text = text_files([Path(name) for name in source])
        # How long a compressed text is shows only when it has been read.
        is_known = not any(map(is_compressed, text))
        n_bytes = sum(path.stat().st_size for path in text) if is_known else None
    with progress_bars() as bars:

        def tell(progress: TrainingProgress) -> None:
            bars(tokenizer_progress(progress, n_bytes))

        trained = train_tokenizer(
            text,
            vocab_size=config.vocab_size,
            special_tokens=special,
            pattern=config.split_pattern,
            ties=cast(TieRule, ties),  # checked by what is called
            min_frequency=min_frequency,
            max_token_length=max_token_length,
            n_threads=threads,
            max_pieces=max_pieces,
            on_progress=tell,
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    trained.save(out)
    report = trained.training
    assert report is not None
    write_atomically(report_path(out), report_json(report))
    if trained.n_vocab < vocab_size:
        print(
            f"the text has no more pairs to merge: {trained.n_vocab:,} tokens, not {vocab_size:,}"
        )
    print(f"{out}: {trained.n_vocab:,} tokens, fingerprint {trained.fingerprint[:16]}")
    print(
        f"counted {report.n_bytes / 1e6:,.1f} MB in {report.counting_seconds:.2f} s "
        f"({report.n_pieces:,} distinct pieces, {report.n_threads} threads), learned "
        f"{report.n_merges:,} merges in {report.merging_seconds:.2f} s, peak memory "
        f"{report.peak_memory_bytes / 2**20:,.0f} MiB"
    )


@app.command("encode")
def encode(
    tokenizer: Path = typer.Argument(..., help="A tokenizer.json."),
    text: str | None = typer.Argument(None, help="The text; left out, standard input is read."),
    pieces: bool = typer.Option(False, "--pieces", help="Show the text of each token instead."),
    file: Path | None = typer.Option(None, "--file", help="Encode this text file into --out."),
    out: Path | None = typer.Option(None, "--out", help="The token shard that --file turns into."),
    threads: int = typer.Option(2, "--threads", help="How many share the work on --file."),
    force: bool = typer.Option(False, "--force", help="Write over a shard that is there."),
) -> None:
    """Print the ids of a text, or with --pieces how it is cut; with --file write a token shard."""
    from modelwright.tokenizer.tokenizer import Tokenizer

    if (file is None) != (out is None) or (file is not None and (text is not None or pieces)):
        raise ValueError("--file and --out go together, and without a text or --pieces")
    loaded = Tokenizer.load(tokenizer)
    if file is not None and out is not None:
        _encode_file(loaded, file, out, threads, force)
        return
    content = sys.stdin.buffer.read() if text is None else text.encode()
    ids = loaded.encode(content)
    if pieces:
        shown = (loaded.decode_bytes([token]) for token in ids)
        print("|".join(piece.decode("utf-8", "backslashreplace") for piece in shown))
    else:
        print(" ".join(str(token) for token in ids))


def _encode_file(loaded: "Tokenizer", file: Path, out: Path, threads: int, force: bool) -> None:
    """Write the shard of a file, in which the end-of-text token divides the documents."""
    from modelwright.data.shards import write_shard_parts
    from modelwright.runtime.files import require_writable
    from modelwright.runtime.progress import Progress
    from modelwright.tokenizer.text_files import text_files
    from modelwright.tokenizer.vocabulary import END_OF_TEXT

    if threads < 1:
        raise ValueError(f"--threads is {threads}; the least is 1")
    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already; choose another --out, or add --force")
    text_files(file)
    require_writable(out.parent)
    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with progress_bars() as bars:
        n_tokens = 0

        def parts() -> "Iterator[Ids]":
            nonlocal n_tokens
            for ids in loaded.encode_file(file, allowed_special=[END_OF_TEXT], n_threads=threads):
                n_tokens += len(ids)
                rate = n_tokens / (time.perf_counter() - start)
                bars(
                    Progress(phase="encoding", done=n_tokens, total=None, unit="tokens", rate=rate)
                )
                yield ids

        n_tokens, n_documents = write_shard_parts(
            out,
            parts(),
            dtype=loaded.id_dtype,
            end_of_text=loaded.end_of_text,
            fingerprint=loaded.fingerprint,
        )
    seconds = time.perf_counter() - start
    n_bytes = file.stat().st_size
    print(
        f"{out}: {n_tokens:,} tokens as {loaded.id_dtype}, {n_documents:,} documents, "
        f"{n_bytes / 1e6:,.1f} MB of text in {seconds:.2f} s ({n_bytes / 1e6 / seconds:,.0f} MB/s)"
    )
