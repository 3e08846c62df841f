"""How long work tells how far it is, without knowing who listens.

A room that works for long takes a `Listener` and calls it with `Progress`; the command line
draws a bar from it, a test collects it, and by default nobody listens.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one phase of the work is.

    Attributes:
        phase: what is being done, as a person would say it ("training the tokenizer").
        done: how much is finished, in `unit`.
        total: how much there is in all; None where nobody can know.
        unit: what is counted ("bytes", "tokens", "steps").
        note: anything worth showing beside the bar ("loss 2.31").
        rate: how much is done in a second, where it is worth showing.
    """

    phase: str
    done: float
    total: float | None
    unit: str
    note: str = ""
    rate: float | None = None


Listener = Callable[[Progress], None]


def nobody(_: Progress) -> None:
    """The listener that does not listen."""
