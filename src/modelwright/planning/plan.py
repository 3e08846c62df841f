"""The bill of a run before its first step: memory, work, time, tokens, disk, and what they cost."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from modelwright.accounting.allocator import reserved_by
from modelwright.accounting.elementwise import (
    clip_flops,
    elementwise_flops,
    optimizer_flops,
    orthogonalising_flops,
)
from modelwright.accounting.flops import hardware_flops, six_n_d_gap, step_flops
from modelwright.accounting.hardware import Device
from modelwright.accounting.parameters import count_parameters, tensor_counts
from modelwright.accounting.rates import Rates
from modelwright.accounting.scaling import chinchilla_tokens, loss_laws
from modelwright.accounting.trace import Trace
from modelwright.checkpoint.keeping import Keep, checkpoint_bytes
from modelwright.model.config import ModelConfig
from modelwright.planning.choosing import settle_recompute
from modelwright.planning.duration import Time, expected_time
from modelwright.planning.fit import (
    Suggestion,
    fits,
    outside_bytes,
    room_bytes,
    settle,
    suggestions,
    usable_bytes,
)
from modelwright.planning.fit import largest_micro_batch as find_largest
from modelwright.planning.gpu_operations import library_workspaces
from modelwright.planning.inference import Inference, inference_memory
from modelwright.planning.rules import Rule, compared_rules
from modelwright.planning.site import first_site, planned_precision, planned_shape
from modelwright.planning.step import Site, StepTrace
from modelwright.planning.timeline import Timeline, timeline_of
from modelwright.runtime.device import processor_name
from modelwright.training.choices import settled_recompute
from modelwright.training.config import RunConfig

n_largest = 8  # tensors shown of the fullest moment


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the run would be, and what "auto" comes to there."""

    key: str  # of the device table, or "cpu"
    title: str
    precision: str
    attention: str
    is_compiled: bool
    micro_batch: int
    n_portions: int
    n_lanes: int
    recompute: str = "none"
    recompute_every: int = 1


@dataclass(frozen=True, kw_only=True)
class Work:
    """FLOPs of a step.

    Attributes:
        model: matrix products that the model needs, hidden pairs of positions counted: MFU's.
        exact: all that is needed, hidden pairs left out, and what is no matrix product included.
        hardware: matrix products that are done, hidden pairs left out where a kernel skips them
            and what is computed twice included: HFU's.
        six_n_d: the rule of thumb.
        six_n_d_gap: by what share of `model` the rule is too high; below zero it is too low.
    """

    model: int
    exact: int
    hardware: int
    six_n_d: int
    six_n_d_gap: float


@dataclass(frozen=True, kw_only=True)
class Largest:
    """A tensor of the fullest moment."""

    n_bytes: int
    shape: tuple[int, ...]
    dtype: str
    kind: str
    module: str
    operation: str


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The fullest moment of a step.

    Attributes:
        peak_bytes: in tensors, as PyTorch counts what is allocated.
        kinds: what they are held for, in bytes; the sum is the peak.
        largest: some of them, the largest first.
        outside_bytes: what of the device no tensor gets.
        usable_bytes: what the device has, `outside_bytes` included.
        finds_room: whether there is a place for each tensor; on a GPU some of what is free may lie
            in pieces that are too small.
        reserved_bytes: what PyTorch's allocator would hold of a GPU with room to spare: tensors,
            libraries' workspaces, and what is lost between blocks; None on a processor.
        context_bytes: of `outside_bytes`, what is not PyTorch's.
    """

    peak_bytes: int
    kinds: dict[str, int]
    phase: str
    module: str
    operation: str
    largest: tuple[Largest, ...]
    outside_bytes: int
    usable_bytes: int
    finds_room: bool = True
    reserved_bytes: int | None = None
    context_bytes: int = 0

    @property
    def needed_bytes(self) -> int:
        """With what no tensor gets."""
        return self.peak_bytes + self.outside_bytes

    @property
    def fits(self) -> bool:
        return self.finds_room and self.needed_bytes <= self.usable_bytes

    @property
    def held_bytes(self) -> int:
        """Of the device, if the allocator need not give anything back."""
        if self.reserved_bytes is None:
            return self.needed_bytes
        return self.reserved_bytes + self.context_bytes

    @property
    def is_tight(self) -> bool:
        """Whether it fits only because the allocator gives blocks back before it fails."""
        return self.fits and self.held_bytes > self.usable_bytes


@dataclass(frozen=True, kw_only=True)
class Law:
    """What a published law says of the run, in nats per token of the law's own data."""

    optimal_tokens: float
    loss: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """How much the run learns from, and how much would suit its size."""

    n_tokens: int
    per_parameter: float
    rule_of_thumb: int
    laws: dict[str, Law]


@dataclass(frozen=True, kw_only=True)
class Disk:
    """What checkpoints take; one more is there while it is written."""

    checkpoint_bytes: int
    n_kept: int

    @property
    def total_bytes(self) -> int:
        """With the one that is being written."""
        return (self.n_kept + 1) * self.checkpoint_bytes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of the bill.

    Attributes:
        vocab_source: the setting that says how large the vocabulary is.
        largest_micro_batch: None if nobody asked, 0 if not even one sequence fits.
        suggestions: what to change, if it does not fit.
        rules: what textbooks say of the memory.
        inference: what using the model takes; how fast it is, only if somebody asked.
        timeline: the memory from the step's beginning to its end.
    """

    place: Place
    parameters: dict[str, int]
    n_parameters: int
    vocab_size: int
    vocab_source: str
    n_steps: int
    batch_tokens: int
    work: Work
    memory: Memory
    tokens: Tokens
    time: Time
    disk: Disk
    inference: Inference
    timeline: Timeline
    largest_micro_batch: int | None = None
    suggestions: tuple[Suggestion, ...] = ()
    rules: tuple[Rule, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; what follows from others is there too."""
        plain = dataclasses.asdict(self)
        memory = self.memory
        plain["memory"] |= {"needed_bytes": memory.needed_bytes, "held_bytes": memory.held_bytes}
        plain["memory"] |= {"fits": memory.fits, "is_tight": memory.is_tight}
        plain["disk"] |= {"total_bytes": self.disk.total_bytes}
        return plain


def make_plan(
    config: RunConfig,
    device: Device | None,
    *,
    rates: Rates | None = None,
    max_batch: bool = False,
) -> Plan:
    """Follow a run's step on a device that need not be here, and count what it will cost.

    Args:
        device: None is this machine's processor, whose speed is measured.
        rates: what was measured of the device, from which the time of a step follows; without them
            there is a range.
        max_batch: also find the largest portion that fits.

    Raises:
        ValueError: if the config asks for what the device does not have.
    """
    config = settle_recompute(config, device)
    shape, vocab_source = planned_shape(config)
    room = room_bytes(device)
    site, step = settle(config, shape, first_site(config, device), room)
    counts = dataclasses.asdict(count_parameters(shape))
    n_parameters = count_parameters(shape).total
    work = count_work(config, shape, site, device)
    memory = _memory(step.trace, device, finds_room=fits(step, site, room))
    advice: list[Suggestion] = []
    if not memory.fits:
        advice = suggestions(config, shape, site, room, lambda other: first_site(other, device))
    return Plan(
        place=_place(config, site, device, step.n_portions),
        parameters=counts,
        n_parameters=n_parameters,
        vocab_size=shape.known_vocab,
        vocab_source=vocab_source,
        n_steps=config.training.n_steps,
        batch_tokens=config.training.batch_tokens,
        work=work,
        memory=memory,
        tokens=count_tokens(n_parameters, config.n_tokens),
        time=expected_time(config, work.model, device, step, rates),
        disk=_disk(config, step),
        inference=inference_memory(shape),
        timeline=timeline_of(step),
        largest_micro_batch=(find_largest(config, shape, site, room) or 0) if max_batch else None,
        suggestions=tuple(advice),
        rules=compared_rules(
            config,
            shape,
            site,
            precision=planned_precision(config, device),
            peak_bytes=memory.peak_bytes,
        ),
    )


def count_work(config: RunConfig, shape: ModelConfig, site: Site, device: Device | None) -> Work:
    """The FLOPs of a step by each way to count."""
    batch, seq = config.batch_size, shape.context
    n_parameters = count_parameters(shape).total
    gap = six_n_d_gap(shape, batch=batch, seq=seq)
    needed = step_flops(shape, batch=batch, seq=seq, causal=True).total
    besides = elementwise_flops(shape, batch=batch, seq=seq, causal=True).total
    kind = config.optimizer.kind
    besides += optimizer_flops(n_parameters, "sgd" if kind == "sgd" else "adamw")
    if config.optimizer.clip_norm:
        besides += clip_flops(n_parameters)
    if kind == "muon":
        in_blocks = [one for one in tensor_counts(shape) if one.component in ("attention", "mlp")]
        matrices = [one.shape for one in in_blocks if one.is_matrix]
        besides += sum(orthogonalising_flops(rows, columns) for rows, columns in matrices)
    hardware = hardware_flops(
        shape,
        batch=batch,
        seq=seq,
        attention=site.attention,
        recompute=settled_recompute(config),
        every=config.training.recompute_every,
        causal=True,
        masked=config.training.cut == "packed",
        precision=planned_precision(config, device),
    )
    return Work(
        model=gap.exact,
        exact=needed + besides,
        hardware=hardware.total,
        six_n_d=gap.six_n_d,
        six_n_d_gap=gap.relative,
    )


def count_tokens(n_parameters: int, n_tokens: int) -> Tokens:
    """The run's tokens beside what published laws find best for its size."""
    laws = {
        name: Law(
            optimal_tokens=law.optimal_tokens(n_parameters),
            loss=law.loss(n_parameters, n_tokens),
            source=law.source,
        )
        for name, law in loss_laws.items()
    }
    return Tokens(
        n_tokens=n_tokens,
        per_parameter=n_tokens / n_parameters,
        rule_of_thumb=chinchilla_tokens(n_parameters),
        laws=laws,
    )


def _place(config: RunConfig, site: Site, device: Device | None, n_portions: int) -> Place:
    return Place(
        key="cpu" if device is None else device.key,
        title=processor_name() if device is None else device.title,
        precision=planned_precision(config, device),
        attention=site.attention,
        is_compiled=site.is_compiled,
        micro_batch=site.micro_batch,
        n_portions=n_portions,
        n_lanes=site.n_lanes,
        recompute=config.training.recompute,
        recompute_every=config.training.recompute_every,
    )


def _memory(trace: Trace, device: Device | None, *, finds_room: bool) -> Memory:
    at = trace.peak_at
    operation = trace.operations[at]
    kinds = sorted(trace.kinds_at(at).items(), key=lambda item: -item[1])
    largest = tuple(
        Largest(
            n_bytes=held.n_bytes,
            shape=held.shape,
            dtype=str(held.dtype).removeprefix("torch."),
            kind=held.kind,
            module=held.module,
            operation=held.operation,
        )
        for held in trace.held_at(at)[:n_largest]
    )
    return Memory(
        peak_bytes=trace.peak_bytes,
        kinds=dict(kinds),
        phase=operation.phase,
        module=operation.module,
        operation=operation.name,
        largest=largest,
        outside_bytes=0 if device is None else outside_bytes(device),
        usable_bytes=usable_bytes(device),
        finds_room=finds_room,
        reserved_bytes=None if device is None else _reserved(trace, device),
        context_bytes=0 if device is None else device.context_bytes,
    )


def _reserved(trace: Trace, device: Device) -> int:
    workspaces = library_workspaces(device.capability)
    return reserved_by(trace, workspaces=workspaces).reserved_bytes


def _disk(config: RunConfig, step: StepTrace) -> Disk:
    """Of what a step keeps to the next, which is what a checkpoint saves."""
    keep = Keep(last=config.checkpoints.keep, best=config.checkpoints.keep_best)
    return Disk(
        checkpoint_bytes=checkpoint_bytes(step.saved_bytes, 0),
        n_kept=keep.n_checkpoints,
    )
