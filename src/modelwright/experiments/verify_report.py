"""The section of a report that has the plan's figures beside those that were measured."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelwright.planning.verify import cells, comparisons_in, read_verified, verify_file


def predicted_and_measured(run_folder: Path) -> str:
    """The section about a run; nothing for a run that was not compared with its plan.

    Raises:
        ValueError: if `verify.json` is damaged.
    """
    if not (run_folder / verify_file).is_file():
        return ""
    return verified_section(read_verified(run_folder))


def verified_section(verified: Mapping[str, Any]) -> str:
    """A table of all comparisons, and where the run came to something else than was planned."""
    head = "".join(f"<th>{title}</th>" for title in ("figure", "predicted", "measured", "error"))
    rows = ""
    for one in comparisons_in(verified):
        parts = "".join(f"<td>{html.escape(part)}</td>" for part in cells(one))
        rows += f"<tr>{parts}<td>{html.escape(one.note)}</td></tr>"
    otherwise = "; ".join(verified["otherwise"])
    told = f"<p>Other than planned: {html.escape(otherwise)}.</p>" if otherwise else ""
    return (
        "<section><h2>Predicted and measured</h2><table class='plain words'>"
        f"<tr>{head}<th>how it was measured</th></tr>{rows}</table>{told}</section>"
    )
