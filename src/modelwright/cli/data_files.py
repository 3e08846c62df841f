"""`modelwright data import` and `export`: token files from and for other programs."""

from enum import StrEnum
from pathlib import Path

import typer

from modelwright.cli.display import progress_bars


class Format(StrEnum):
    """Whose token files are meant."""

    nanogpt = "nanogpt"
    llmc = "llmc"


def import_bins_command(
    train: list[Path] = typer.Option(
        [], "--train", help="A .bin file of training tokens; may be repeated, in order."
    ),
    validation: list[Path] = typer.Option(
        [], "--validation", help="A .bin file of validation tokens; may be repeated."
    ),
    tokenizer: Path = typer.Option(
        ..., "--tokenizer", help="The tokenizer.json of the vocabulary that made the ids."
    ),
    out: Path = typer.Option(..., "--out", help="The folder of token shards to make."),
    format: Format | None = typer.Option(
        None, "--format", help="Whose files they are; recognised if left out."
    ),
    shard_tokens: int = typer.Option(100_000_000, "--shard-tokens", help="Most tokens in a shard."),
) -> None:
    """Make a folder of token shards out of nanoGPT's or llm.c's .bin files."""
    from modelwright.data.bins import import_bins
    from modelwright.tokenizer.tokenizer import Tokenizer

    for option, paths in (("--train", train), ("--validation", validation)):
        if not paths:
            raise ValueError(
                f"{option} is missing; name a .bin file for each side, such as "
                "--train train.bin --validation val.bin"
            )
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"there is no token file at {path}, which {option} names")
    with progress_bars() as bars:
        facts = import_bins(
            train,
            validation,
            Tokenizer.load(tokenizer),
            out,
            shard_tokens=shard_tokens,
            format=None if format is None else format.value,
            on_progress=bars,
        )
    print(f"{out}: tokenizer of {facts['n_vocab']:,} tokens")
    for side, counts in facts["splits"].items():
        plural = "" if counts["n_shards"] == 1 else "s"
        print(
            f"{side:>10}: {counts['n_documents']:,} documents, {counts['n_bytes'] / 1e6:,.2f} MB "
            f"of text, {counts['n_tokens']:,} tokens in {counts['n_shards']:,} shard{plural}"
        )


def export_bins_command(
    folder: Path = typer.Argument(..., help="A folder of token shards."),
    format: Format = typer.Option(..., "--format", help="Whose files to write."),
    out: Path = typer.Option(..., "--out", help="A folder for them that is not there yet."),
) -> None:
    """Verify a folder of token shards and write it as nanoGPT's or llm.c's .bin files."""
    from modelwright.data.bins import export_bins

    with progress_bars() as bars:
        n_tokens = export_bins(folder, out, format.value, on_progress=bars)
    for name, n in n_tokens.items():
        path = out / name
        print(f"{path}: {n:,} tokens, {path.stat().st_size / 1e6:,.2f} MB")
