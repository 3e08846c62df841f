"""`modelwright explain`: what textbooks say a model takes, and what is right instead."""

import typer


def explain(
    figure: str | None = typer.Argument(
        None, metavar="FIGURE-ID", help="Such as 1.33; without it, all figures are listed."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead."),
) -> None:
    """Say what is right about a figure that textbooks give for parameters, FLOPs or memory."""
    import json

    from modelwright.accounting.textbook import figure_named, textbook_figures

    if figure is None:
        every = textbook_figures().values()
        if as_json:
            print(json.dumps([one.to_json() for one in every], indent=2, ensure_ascii=False))
            return
        for one in every:
            print(f"{one.id:5} {one.verdict:24} {one.claim}: {one.said}")
        return
    found = figure_named(figure)
    if as_json:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        return
    print(f"{found.id}  {found.claim}")
    print(f"      in {found.document.title}\n")
    for name in ("said", "exact", "verdict", "why"):
        print(f"{name:9}{getattr(found, name)}")
