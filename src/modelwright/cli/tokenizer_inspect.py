"""`modelwright tokenizer inspect`: look into a tokenizer, and measure it on a text."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from modelwright.tokenizer.inspection import Inspection, SampleFacts

_backgrounds = ("on cyan", "on yellow")  # every terminal that has colours tells these apart
_widest_bar = 40
_longest_row = 24


def inspect(
    tokenizer: Path = typer.Argument(..., help="A tokenizer.json."),
    text: list[str] = typer.Option(
        [], "--text", help="A text file or a folder of them to measure on; may be repeated."
    ),
    sample: int = typer.Option(1000, "--sample", help="Documents drawn from the text."),
    separator: str = typer.Option("<|endoftext|>", help="What stands between two documents."),
    corpus_size: str | None = typer.Option(
        None, "--corpus-size", help="Tell what a corpus of this size costs: 825GB, 10GiB, 1e12."
    ),
    picture: Path | None = typer.Option(None, "--picture", help="Draw a PNG into this file."),
    cut: str | None = typer.Option(None, "--cut", help="Show how this text is cut into tokens."),
    force: bool = typer.Option(False, "--force", help="Write over a picture that is there."),
) -> None:
    """Say what a tokenizer consists of and, on a sample of text, how well and how fast it works."""
    from rich.console import Console

    from modelwright.runtime.files import require_writable, write_atomically
    from modelwright.tokenizer.inspection import inspect_tokenizer, parse_size, sample_documents
    from modelwright.tokenizer.tokenizer import Tokenizer

    corpus_bytes = None if corpus_size is None else parse_size(corpus_size)
    if picture is not None:
        if picture.exists() and not force:
            raise FileExistsError(
                f"{picture} is there already; choose another --picture, or add --force"
            )
        require_writable(picture.parent)
    loaded = Tokenizer.load(tokenizer)
    documents = sample_documents(_documents(text, separator), sample)
    inspection = inspect_tokenizer(
        loaded, documents, corpus_bytes=corpus_bytes, with_curve=picture is not None
    )
    console = Console(highlight=False, markup=False, soft_wrap=True)
    _tell_tokens(console, inspection)
    _tell_training(console, tokenizer)
    if inspection.sample:
        _tell_sample(console, inspection.sample)
    if cut is not None:
        _show_cut(console, [loaded.decode_bytes([token]) for token in loaded.encode(cut)])
    if picture is not None:
        from modelwright.experiments.tokenizer_plots import tokenizer_picture

        curve = inspection.sample.bytes_per_token_by_size if inspection.sample else {}
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(picture, tokenizer_picture(inspection.n_tokens_by_length, curve))
        console.print(f"\npicture: {picture}")


def _documents(names: Sequence[str], separator: str) -> Iterator[bytes]:
    from modelwright.data.reading import documents_at

    for documents in [documents_at(name, separator) for name in names]:
        yield from documents


def _tell_tokens(console: "Console", inspection: "Inspection") -> None:
    from modelwright.tokenizer.inspection import shown

    special = inspection.special_tokens.items()
    some = ", ".join(f"{text} {token_id}" for text, token_id in list(special)[:8])
    more = f", and {len(special) - 8} more" if len(special) > 8 else ""
    console.print(f"tokens          {inspection.n_tokens:,}")
    console.print(f"special tokens  {some or 'none'}{more}")
    console.print(f"split pattern   {inspection.pattern_name}")
    console.print(f"fingerprint     {inspection.fingerprint}")
    console.print("\nlongest tokens  bytes  id")
    for token_id, token in inspection.longest_tokens:
        text = shown(token)
        text = text if len(text) <= 60 else f"{text[:57]}..."
        console.print(f"                {len(token):>5}  {token_id:<7} {text}")
    console.print("\ntokens by length in bytes")
    by_length = inspection.n_tokens_by_length
    rows = [
        (f"{n:>6}", by_length.get(n, 0)) for n in range(1, min(max(by_length), _longest_row) + 1)
    ]
    if longer := sum(count for length, count in by_length.items() if length > _longest_row):
        rows.append(("longer", longer))
    most = max(count for _, count in rows)
    for label, count in rows:
        console.print(f"{label} {count:>8,}  {'█' * round(_widest_bar * count / most)}".rstrip())


def _tell_training(console: "Console", tokenizer: Path) -> None:
    """Where time and memory went, if the training left its report beside the tokenizer."""
    from modelwright.tokenizer.training import read_report, report_path

    if not report_path(tokenizer).is_file():
        return
    report = read_report(report_path(tokenizer))
    seconds = max(report.counting_seconds + report.merging_seconds, 1e-9)
    console.print(
        f"\ntraining        {seconds:.2f} s on {report.n_bytes / 1e6:,.1f} MB, peak memory "
        f"{report.peak_memory_bytes / 2**20:,.0f} MiB, {report.n_threads} threads"
    )
    for what, part, done in (
        ("counting", report.counting_seconds, f"{report.n_pieces:,} distinct pieces"),
        ("merging", report.merging_seconds, f"{report.n_merges:,} merges, ties {report.ties}"),
    ):
        bar = "█" * round(_widest_bar * part / seconds)
        console.print(f"  {what:<13} {part:.2f} s  {done}  {bar}".rstrip())


def _tell_sample(console: "Console", facts: "SampleFacts") -> None:
    compression = facts.compression
    interval = compression.interval
    plural = "" if compression.n_documents == 1 else "s"
    bounds = "" if interval is None else f", 95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
    console.print(
        f"\nsample          {compression.n_documents:,} document{plural}, "
        f"{compression.n_bytes / 1e6:,.3g} MB, {compression.n_tokens:,} tokens"
    )
    console.print(f"bytes per token {compression.bytes_per_token:.3f} in all")
    console.print(
        f"                {compression.mean_bytes_per_token:.3f} in the mean document{bounds}"
    )
    console.print(
        f"speed           {facts.bytes_per_second / 1e6:,.2f} MB/s, measured here on the sample"
    )
    if facts.corpus:
        corpus = facts.corpus
        console.print(
            f"a corpus of {corpus.n_bytes / 1e9:,.3g} GB takes {corpus.hours:,.3g} h at this "
            f"speed, and {corpus.bytes_on_disk / 1e9:,.4g} GB on disk as {corpus.id_type}"
        )


def _show_cut(console: "Console", tokens: Sequence[bytes]) -> None:
    from rich.text import Text

    from modelwright.tokenizer.inspection import shown

    has_colours = console.color_system is not None and not console.no_color
    line = Text()
    for i, token in enumerate(tokens):
        line.append(shown(token), style=f"black {_backgrounds[i % 2]}")
        if not has_colours and i + 1 < len(tokens):
            line.append("|")
    console.print(f"\n{len(tokens)} tokens:")
    console.print(line)
