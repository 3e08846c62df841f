"""`modelwright generate --measure`: how varied texts are at several temperatures."""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelwright.checkpoint.bundle import Bundle
    from modelwright.generation.requests import Request


def temperatures_of(measure: str) -> list[float]:
    """The numbers of a comma-separated list.

    Raises:
        ValueError: if it is none.
    """
    try:
        found = [float(word) for word in measure.split(",")]
    except ValueError:
        found = []
    if not found:
        raise ValueError(
            f"--measure is {measure!r}, but it is a list of temperatures such as 0.5,0.8,1.0,1.2"
        )
    return found


def show_variety(
    bundle: "Bundle",
    temperatures: Sequence[float],
    requests_at: "Callable[[float], list[Request]]",
    *,
    as_json: bool,
) -> None:
    """Write the texts of each temperature, and print how varied they are and how each begins.

    Args:
        requests_at: what is to be written at a temperature.
    """
    from modelwright.generation.temperatures import write_at

    rows = [
        write_at(bundle, temperature, requests_at(temperature)).to_json()
        for temperature in temperatures
    ]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    print(table(rows))
    for row in rows:
        begin = " ".join(row["texts"][0].split())
        print(f"\nat {row['temperature']:g}: {begin}")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The measures as a table, each with its standard error."""
    names = list(rows[0]["measures"])
    cells = [["temperature", "tokens", *(name.replace("_", "-") for name in names)]]
    for row in rows:
        spreads = [row["measures"][name] for name in names]
        shown = [f"{one['mean']:.3f} ± {one['standard_error']:.3f}" for one in spreads]
        cells.append([f"{row['temperature']:g}", f"{row['n_tokens']:.0f}", *shown])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    first = rows[0]
    lines.append(
        f"{first['n_texts']} texts each, in {first['n_groups']} groups; ± is the standard error "
        "over the groups"
    )
    return "\n".join(lines)
