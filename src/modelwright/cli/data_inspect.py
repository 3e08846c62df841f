"""`modelwright data info` and `verify`: look at a folder of token shards, or read all of it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelwright.cli.display import progress_bars

if TYPE_CHECKING:
    from rich.console import Console

    from modelwright.data.inspection import DataInspection, Histogram
    from modelwright.data.packing import PackingReport

_widest_bar = 24
_label_width = 18


def info(
    data: Path = typer.Argument(..., help="A folder of token shards, or a single .shard file."),
    documents: int = typer.Option(2, "--documents", help="How many to show of each side."),
    context: int | None = typer.Option(
        None, "--context", help="Tell how whole documents, or a text cut anywhere, fill such rows."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON instead."),
    report: Path | None = typer.Option(None, "--report", help="Write a page as HTML here."),
    tokenizer: Path | None = typer.Option(
        None, "--tokenizer", help="The tokenizer.json of a single .shard, to see its text."
    ),
    force: bool = typer.Option(False, "--force", help="Write over a page that is there."),
) -> None:
    """Say how much is in the data, how long its documents are, and how the first ones begin."""
    from rich.console import Console

    from modelwright.data.describing import as_plain
    from modelwright.data.inspection import compare_cuts
    from modelwright.runtime.files import require_writable, write_atomically

    if documents < 0:
        raise ValueError(f"--documents is {documents}; the least is 0")
    if report is not None:
        if report.exists() and not force:
            raise FileExistsError(
                f"{report} is there already; choose another --report, or add --force"
            )
        require_writable(report.parent)
    inspection = _inspect(data, tokenizer, documents)
    cuts = {} if context is None else compare_cuts(data, context)
    if as_json:
        import json

        print(json.dumps(as_plain(inspection, cuts), indent=2))
    else:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        _tell(console, inspection)
        for side, reports in cuts.items():
            _tell_cuts(console, f"{side} in rows of {context:,} tokens", reports)
        _tell_excerpts(console, inspection)
        if inspection.facts:
            console.print("\nnot verified; `modelwright data verify` reads every byte")
    if report is not None:
        from modelwright.experiments.data_report import data_page

        report.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(report, data_page(inspection, cuts, context))
        if not as_json:
            print(f"\nreport: {report}")


def verify(folder: Path = typer.Argument(..., help="A folder of token shards.")) -> None:
    """Read every byte, and compare it with the manifest and the tokenizer."""
    from modelwright.data.verification import verify_data

    with progress_bars() as bars:
        verified = verify_data(folder, bars)
    widest = max(len(file.name) for file in verified.files)
    for file in verified.files:
        counts = (
            ""
            if file.n_tokens is None
            else f"  {file.n_tokens:>15,} tokens  {file.n_documents:>11,} documents"
        )
        print(f"{file.name:<{widest}}  {file.n_bytes / 1e6:>10,.2f} MB{counts}")
    n_bytes = sum(file.n_bytes for file in verified.files)
    seconds = max(verified.seconds, 1e-9)
    print(
        f"all {len(verified.files):,} files are as they were written "
        f"({n_bytes / 1e6:,.1f} MB, {n_bytes / seconds / 1e6:,.0f} MB/s)"
    )


def _inspect(data: Path, tokenizer: Path | None, n_excerpts: int) -> "DataInspection":
    from modelwright.data.inspection import inspect_data, inspect_shard
    from modelwright.tokenizer.tokenizer import Tokenizer

    if data.is_file():
        loaded = None if tokenizer is None else Tokenizer.load(tokenizer)
        return inspect_shard(data, loaded, n_excerpts=n_excerpts)
    if tokenizer is not None:
        raise ValueError(
            f"{data} is a folder, which has its own tokenizer.json; leave --tokenizer out"
        )
    return inspect_data(data, n_excerpts=n_excerpts)


def _tell(console: "Console", inspection: "DataInspection") -> None:
    size = "" if inspection.n_vocab is None else f"{inspection.n_vocab:,} tokens, "
    console.print(str(inspection.path))
    console.print(f"{'tokenizer':<{_label_width}}{size}fingerprint {inspection.fingerprint[:16]}")
    settings = inspection.facts.get("settings", {})
    for i, (name, value) in enumerate(settings.items()):
        console.print(f"{'' if i else 'built with':<{_label_width}}{name} = {value!r}")
    _tell_sides(console, inspection)
    _tell_sources(console, inspection)
    for name, side in inspection.sides.items():
        if side.lengths is not None:
            _tell_histogram(console, name, side.lengths.histogram)


def _tell_excerpts(console: "Console", inspection: "DataInspection") -> None:
    for name, side in inspection.sides.items():
        for i, excerpt in enumerate(side.excerpts, start=1):
            more = "" if excerpt.is_whole else ", its beginning"
            console.print(f"\n{name} document {i}: {excerpt.n_tokens:,} tokens{more}")
            for line in excerpt.text.splitlines() or ["(no text)"]:
                console.print(f"  {line}".rstrip())
            if not excerpt.is_whole:
                console.print("  …")


def _tell_sides(console: "Console", inspection: "DataInspection") -> None:
    from modelwright.data.describing import described

    console.print("\n" + " " * _label_width + "".join(f"{name:>16}" for name in inspection.sides))
    columns = [described(side) for side in inspection.sides.values()]
    for label in columns[0]:
        values = "".join(f"{column[label]:>16}" for column in columns)
        console.print(f"{label:<{_label_width}}{values}")
    console.print("(lengths in tokens, the one that ends the text included)")


def _tell_sources(console: "Console", inspection: "DataInspection") -> None:
    sources = inspection.facts.get("sources") or []
    total = sum(source["n_tokens"] for source in sources) or 1
    if sources:
        console.print("\nshare of tokens  weight       documents  source")
    for source in sources:
        console.print(
            f"{source['n_tokens'] / total:>15.1%}  {source['weight']:>6g}  "
            f"{source['n_documents']:>14,}  {source['path']}"
        )
    dropped = inspection.facts.get("dropped") or {}
    if dropped:
        told = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        console.print(f"left out: {told}")


def _tell_histogram(console: "Console", name: str, histogram: "Histogram") -> None:
    console.print(f"\n{name} documents by length in tokens")
    console.print(f"{'length':>17}  {'documents':>13}{'':<{_widest_bar + 2}}  {'their tokens':>13}")
    rows = zip(
        _ranges(histogram.edges),
        _bars(histogram.n_documents),
        _bars(histogram.n_tokens),
        strict=True,
    )
    for label, documents, tokens in rows:
        console.print(f"{label:>17}  {documents:<{_widest_bar + 15}}  {tokens}".rstrip())


def _tell_cuts(console: "Console", title: str, reports: "Mapping[str, PackingReport]") -> None:
    from modelwright.data.describing import described_cut

    console.print(f"\n{title}\n{'':<{_label_width}}" + "".join(f"{n:>16}" for n in reports))
    columns = [described_cut(report) for report in reports.values()]
    for label in columns[0]:
        values = "".join(f"{column[label]:>16}" for column in columns)
        console.print(f"{label:<{_label_width}}{values}")


def _ranges(edges: Sequence[int]) -> list[str]:
    return [f"{a:,}" if b - a == 1 else f"{a:,} to {b - 1:,}" for a, b in pairwise(edges)]


def _bars(counts: Sequence[int]) -> list[str]:
    most = max(counts)
    return [f"{count:>13,}  {'█' * round(_widest_bar * count / most)}" for count in counts]
