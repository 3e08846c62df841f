"""`modelwright data`: cut a text into token shards."""

from pathlib import Path

import typer

from modelwright.cli.display import progress_bars

app = typer.Typer(help="Make token shards out of text.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """A callback, so that the one command below keeps its name."""


@app.command("build")
def build(
    recipe: Path | None = typer.Argument(
        None, help="A recipe whose [data] and [tokenizer] are built; none builds the defaults."
    ),
    source: str | None = typer.Option(
        None, "--source", help="Short for --set data.source: a text file, a folder, or 'stories'."
    ),
    out: str | None = typer.Option(None, "--out", help="Short for --set data.folder."),
    overrides: list[str] = typer.Option(
        [], "--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated."
    ),
) -> None:
    """Train the tokenizer if the recipe names none, and write the folder of token shards."""
    from modelwright.config.loading import load_settings
    from modelwright.data.building import build_data
    from modelwright.training.config import RunConfig

    shorts = [f"data.source={source}"] if source is not None else []
    shorts += [f"data.folder={out}"] if out is not None else []
    config = load_settings(RunConfig, recipe, [*overrides, *shorts]).config
    with progress_bars() as bars:
        built = build_data(config.data, config.tokenizer, bars)
    print(f"{built.folder}: tokenizer of {built.tokenizer.n_vocab:,} tokens")
    for side, counts in built.facts["splits"].items():
        ratio = counts["n_bytes"] / max(1, counts["n_tokens"])
        print(
            f"{side:>10}: {counts['n_documents']:,} documents, {counts['n_bytes'] / 1e6:.2f} MB, "
            f"{counts['n_tokens']:,} tokens, {ratio:.2f} bytes per token"
        )
