"""Why a step ran out of memory: where it all was, where the plan says it goes, what would fit."""

import dataclasses
import textwrap

from modelwright.planning.fit import Suggestion, suggestions
from modelwright.planning.foresight import config_to_plan, device_here
from modelwright.planning.plan import Memory, Plan, make_plan
from modelwright.planning.render import purposes
from modelwright.planning.site import first_site
from modelwright.planning.verify import amount
from modelwright.runtime.gpu_memory import MemoryFigures
from modelwright.training.assembly import Prepared
from modelwright.training.out_of_memory import OutOfMemory

line_width = 98
n_largest = 4  # tensors of the fullest moment that are shown
usual_others_bytes = 2 * 2**30  # what is held beside PyTorch where no other process is at work


def explain_out_of_memory(prepared: Prepared, error: OutOfMemory) -> str:
    """All that is known of a run's step that did not fit.

    Raises:
        ValueError: if the run cannot be planned.
    """
    device = device_here(prepared.device, prepared.precision, prepared.peak)
    config = config_to_plan(prepared)
    training = dataclasses.replace(config.training, micro_batch=error.micro_batch)
    config = dataclasses.replace(config, training=training)
    plan = make_plan(config, device)
    found = list(plan.suggestions)
    room = room_left(plan.memory, error.figures)
    if not found or any(one.peak_bytes > room for one in found):  # for a room that was not there
        site = first_site(config, device)
        found = suggestions(
            config, config.model, site, room, lambda other: first_site(other, device)
        )
    parts = [
        said_by_the_plan(plan, error),
        "",
        *where_it_goes(plan.memory),
        "",
        *what_fits(found, plan),
    ]
    if error.figures is not None:
        parts = [*where_it_was(error.figures), "", *parts]
    return "\n".join(parts)


def room_left(memory: Memory, figures: MemoryFigures | None) -> int:
    """What tensors could have had: no more than was there, and less than the step that failed.

    What is lost between blocks is no part of it here: a plan finds out itself whether they fit.
    """
    room = memory.usable_bytes - memory.outside_bytes
    if figures is not None:
        libraries = memory.outside_bytes - memory.context_bytes
        room = min(room, figures.reserved_bytes + figures.free_bytes - libraries)
    return max(0, min(room, memory.peak_bytes - 1))


def where_it_was(figures: MemoryFigures) -> list[str]:
    """The GPU's memory when the request failed, and whether it failed for being in pieces."""
    rows = [
        (figures.wanted_bytes, "were asked for"),
        (figures.allocated_bytes, "allocated: in tensors and libraries' workspaces"),
        (figures.unused_bytes, "reserved but not allocated: pieces between them (fragmentation)"),
        (figures.others_bytes, "outside of PyTorch: the CUDA context, libraries, other processes"),
        (figures.free_bytes, "free"),
        (figures.total_bytes, "in all"),
    ]
    lines = [f"  {amount(n_bytes, 'bytes'):>12}  {what}" for n_bytes, what in rows]
    if figures.is_fragmented:
        lines += wrapped(
            "The request would have fitted into what is reserved but not allocated, had that been "
            "in one piece. With PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in the "
            "environment PyTorch joins such pieces."
        )
    if figures.others_bytes > usual_others_bytes:
        lines += wrapped(
            f"{amount(figures.others_bytes, 'bytes')} outside of PyTorch is more than one process "
            "needs: nvidia-smi shows who else uses this GPU."
        )
    return lines


def said_by_the_plan(plan: Plan, error: OutOfMemory) -> str:
    """What the plan had expected of this very step."""
    memory, n = plan.memory, error.micro_batch
    size = "a sequence" if n == 1 else f"{n} sequences"
    needs = f"needs {amount(memory.needed_bytes, 'bytes')}"
    of_all = f"of {amount(memory.usable_bytes, 'bytes')}"
    verdict = "so it should have fitted" if memory.fits else "which is not there"
    return "\n".join(wrapped(f"By the plan a step of {size} at once {needs} {of_all}, {verdict}."))


def where_it_goes(memory: Memory) -> list[str]:
    """The fullest moment of the step as the plan has it: what for, and the largest tensors."""
    where = f" of {memory.module}" if memory.module else ""
    lines = [f"Most is held at the operation {memory.operation}{where}:"]
    parts = [(n_bytes, kind, purposes.get(kind, "")) for kind, n_bytes in memory.kinds.items()]
    if memory.outside_bytes:
        parts.append((memory.outside_bytes, "CUDA", "its context, and cuBLAS"))
    for n_bytes, kind, purpose in parts:
        lines.append(f"  {amount(n_bytes, 'bytes'):>12}  {kind:<12} {purpose}".rstrip())
    lines.append("The largest tensors there:")
    for tensor in memory.largest[:n_largest]:
        shape = " x ".join(str(length) for length in tensor.shape)
        lines.append(
            f"  {amount(tensor.n_bytes, 'bytes'):>12}  {tensor.kind:<12} {shape} {tensor.dtype}"
        )
    return lines


def what_fits(found: list[Suggestion], plan: Plan) -> list[str]:
    """Single changes with which a step fits, the largest portions among them."""
    if not found:
        return wrapped(
            "No single change of these makes it fit: smaller portions, recompute, 16-bit products. "
            "A smaller model or model.context would."
        )
    lines = ["Any one of these makes it fit, a micro_batch being the largest that does:"]
    for one in found:
        sets = " ".join(f"--set {setting}" for setting in one.settings)
        whole = one.peak_bytes + plan.memory.outside_bytes
        lines.append(f"  {sets:<42} {amount(whole, 'bytes'):>12}   {one.costs}")
    return lines


def wrapped(text: str) -> list[str]:
    """A text in lines of a terminal's width."""
    return textwrap.wrap(text, line_width, break_on_hyphens=False, break_long_words=False)
