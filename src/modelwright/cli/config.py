"""`modelwright config`: the finished settings of a recipe, and where each one came from."""

from pathlib import Path

import typer


def config(
    recipe: Path | None = typer.Argument(None, help="A recipe in TOML; none shows the defaults."),
    overrides: list[str] = typer.Option(
        [], "--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated."
    ),
    schema: bool = typer.Option(
        False, "--schema", help="Print the JSON Schema of a recipe, for editors, instead."
    ),
) -> None:
    """Show every setting of a run with its value and where that value came from."""
    import json

    from modelwright.config.loading import load_settings, to_toml
    from modelwright.config.schema import json_schema
    from modelwright.training.config import RunConfig

    if schema:
        print(json.dumps(json_schema(RunConfig), indent=2))
        return
    loaded = load_settings(RunConfig, recipe, overrides)
    print(to_toml(loaded.config, loaded.origins), end="")
