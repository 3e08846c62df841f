"""`modelwright data`: make token shards out of a text, and look at them."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from modelwright.cli import data_files, data_inspect
from modelwright.cli.display import progress_bars

if TYPE_CHECKING:
    from modelwright.data.building import Data

app = typer.Typer(help="Make token shards out of text, and look at them.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """A callback, so that every command below keeps its name."""


@app.command("build")
def build(
    recipe: Path | None = typer.Argument(
        None, help="A recipe whose \\[data] and \\[tokenizer] are built; none builds the defaults."
    ),
    source: str | None = typer.Option(
        None,
        "--source",
        help="Short for --set data.source: a file, a folder, a glob, hub:NAME, - or 'stories'.",
    ),
    out: str | None = typer.Option(None, "--out", help="Short for --set data.folder."),
    workers: int | None = typer.Option(
        None, "--workers", help="Processes that share the work; left out, one for each processor."
    ),
    engine: str = typer.Option(
        "processes", "--engine", help="processes: on this machine; ray: on a Ray cluster."
    ),
    overrides: list[str] = typer.Option(
        [], "--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated."
    ),
) -> None:
    """Train the tokenizer if the recipe names none, and write the folder of token shards.

    A build that was stopped goes on with the same command.
    """
    from typing import cast

    from modelwright.config.loading import load_settings
    from modelwright.data.building import build_data, unfinished_folder
    from modelwright.runtime.workers import EngineName
    from modelwright.training.config import RunConfig

    shorts = [f"data.source={source}"] if source is not None else []
    shorts += [f"data.folder={out}"] if out is not None else []
    config = load_settings(RunConfig, recipe, [*overrides, *shorts]).config
    for each in config.data.sources:
        tell_terms(each.path)
    began = time.perf_counter()
    try:
        with progress_bars() as bars:
            built = build_data(
                config.data,
                config.tokenizer,
                bars,
                n_workers=workers,
                engine=cast(EngineName, engine),  # checked by what is called
            )
    finally:
        unfinished = unfinished_folder(Path(config.data.folder))
        if unfinished.exists():
            print(
                f"what is finished is kept in {unfinished}; the same command goes on from there",
                file=sys.stderr,
            )
    tell_data(built)
    print(f"built in {time.perf_counter() - began:,.1f} s")


def tell_terms(source: str) -> None:
    """Say what will be fetched from the hub, and under which licence, before it is."""
    from modelwright.data.config import is_on_hub
    from modelwright.data.hub import hub_source

    if not is_on_hub(source):
        return
    dataset = hub_source(source.removeprefix("hub:"))
    facts = [
        dataset.download_bytes and f"about {dataset.download_bytes / 1e9:,.1f} GB to fetch",
        dataset.text_bytes and f"{dataset.text_bytes / 1e9:,.1f} GB of text",
        f"licence: {dataset.licence or 'see its page'}",
    ]
    told = ", ".join(fact for fact in facts if fact)
    print(f"https://huggingface.co/datasets/{dataset.repository}: {told}", file=sys.stderr)


def tell_data(built: "Data") -> None:
    """Say what a folder of data holds."""
    print(f"{built.folder}: tokenizer of {built.tokenizer.n_vocab:,} tokens")
    for side, counts in built.facts["splits"].items():
        ratio = counts["n_bytes"] / max(1, counts["n_tokens"])
        print(
            f"{side:>10}: {counts['n_documents']:,} documents, {counts['n_bytes'] / 1e6:.2f} MB, "
            f"{counts['n_tokens']:,} tokens, {ratio:.2f} bytes per token"
        )
    sources = built.facts["sources"]
    total = max(1, sum(source["n_tokens"] for source in sources))
    for source in sources if len(sources) > 1 else []:
        print(
            f"{source['n_tokens'] / total:>10.1%}  of the training tokens from {source['path']} "
            f"(weight {source['weight']:g})"
        )
    dropped = built.facts["dropped"]
    if dropped:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        print(f"  left out: {listed} documents")


app.command("info")(data_inspect.info)
app.command("verify")(data_inspect.verify)
app.command("import")(data_files.import_bins_command)
app.command("export")(data_files.export_bins_command)
