"""What a step holds from its first operation to its last, in few enough moments for a picture."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from modelwright.planning.step import StepTrace

most_moments = 400
# What lasts comes first, so that in a picture it lies below what comes and goes.
kinds_in_order = (
    "weights",
    "optimizer",
    "average",
    "batches",
    "gradients",
    "activations",
    "loss",
    "temporaries",
    "scratch",
)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of a step, from one of its operations to the next part."""

    name: str
    begins: int


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Bytes of each kind at some moments of a step: of each short stretch, when it is fullest.

    Attributes:
        n_operations: of the step that was followed.
        n_followed: how many of its portions that has.
        moments: numbers of operations, ascending.
        kinds: bytes at those, in the order in which they are to be stacked.
        phases: in the order in which they come; forward and backward come for each portion.
        peak: which of the moments is the step's fullest.
    """

    n_operations: int
    n_followed: int
    moments: tuple[int, ...]
    kinds: dict[str, tuple[int, ...]]
    phases: tuple[Phase, ...]
    peak: int


def timeline_of(step: StepTrace) -> Timeline:
    """The moments of a step to be shown; its peak is one of them."""
    trace = step.trace
    lines = trace.timeline()
    held = np.sum(list(lines.values()), axis=0)
    n_moments = min(most_moments, len(held))
    stretches = np.array_split(np.arange(len(held)), n_moments)
    moments = [int(stretch[held[stretch].argmax()]) for stretch in stretches]
    phases: list[Phase] = []
    for name, operations in groupby(enumerate(trace.operations), lambda one: one[1].phase):
        phases.append(Phase(name=name, begins=next(operations)[0]))
    assert set(lines) <= set(kinds_in_order)
    return Timeline(
        n_operations=len(held),
        n_followed=step.n_followed,
        moments=tuple(moments),
        kinds={
            kind: tuple(int(n_bytes) for n_bytes in lines[kind][moments])
            for kind in kinds_in_order
            if kind in lines
        },
        phases=tuple(phases),
        peak=int(held[moments].argmax()),
    )
