"""The bill of a step on several GPUs: for each way to share it, what a rank holds and sends.

Nothing here has been trained: each is the trace of a rank's portion, cut by the closed forms of
`accounting/sharing.py`. What NCCL takes of a GPU's memory is not in it.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from modelwright.accounting.hardware import Device
from modelwright.accounting.sharing import (
    Sharing,
    Stage,
    data_sent_bytes,
    least_seconds,
    tensor_degrees,
    tensor_part,
    tensor_sent_bytes,
)
from modelwright.accounting.trace import Trace
from modelwright.model.config import ModelConfig
from modelwright.planning.fit import outside_bytes, usable_bytes
from modelwright.planning.rank_memory import rank_lines
from modelwright.planning.render import duration
from modelwright.planning.site import first_site, planned_shape
from modelwright.planning.step import Site, trace_step
from modelwright.training.config import RunConfig

gpus_per_node = 8  # that the interconnect of the device table joins
rounding = 512  # of PyTorch's allocator on a GPU
id_bytes = 8 * 2  # of an input and its target
packed_bytes = 4 * 2  # of a position and a document's number
most_gpus = 1024
gib = 2**30
columns = {  # of the table, by the kinds that are in them; what is in none is the rest
    "weights": ("weights", "gathered"),
    "grads": ("gradients", "reduced"),
    "optim": ("optimizer",),
    "activ": ("activations",),
}


@dataclass(frozen=True, kw_only=True)
class RankPlan:
    """One way to share a step, as the rank sees it that has most.

    Attributes:
        way: in words.
        n_tensor: ranks that divide each block; the rest of them divide the batch.
        micro_batch: sequences of a rank that go through its model at once.
        peak_bytes: in tensors, at the fullest moment of a step.
        kinds: what they are held for then, the largest first; the sum is the peak.
        sent_bytes: by a rank in a step.
        seconds_at_least: that sending takes; None where the speed of the links is not known.
    """

    way: str
    n_ranks: int
    n_tensor: int
    stage: Stage
    micro_batch: int
    n_portions: int
    peak_bytes: int
    kinds: dict[str, int]
    phase: str
    module: str
    outside_bytes: int
    usable_bytes: int
    sent_bytes: int
    seconds_at_least: float | None

    @property
    def needed_bytes(self) -> int:
        """With what no tensor gets."""
        return self.peak_bytes + self.outside_bytes

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.usable_bytes


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The ways to share a step among so many GPUs.

    Attributes:
        plans: the simplest way first.
        ruled_out: why other ways cannot be.
        fewest: the simplest way on as few GPUs as can take the step; None if no number looked at
            can.
    """

    device: str
    n_gpus: int
    plans: tuple[RankPlan, ...]
    ruled_out: tuple[str, ...]
    fewest: RankPlan | None

    @property
    def simplest(self) -> RankPlan | None:
        """The first way that fits."""
        return next((plan for plan in self.plans if plan.fits), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what follows from others is there too."""
        return {
            "n_gpus": self.n_gpus,
            "plans": [_plain(plan) for plan in self.plans],
            "simplest": self.simplest and self.simplest.way,
            "ruled_out": list(self.ruled_out),
            "fewest": self.fewest and _plain(self.fewest),
        }


def require_divisible(config: RunConfig, device: Device | None, n_gpus: int) -> None:
    """Refuse what cannot be shared by so many.

    Raises:
        ValueError: if there is no GPU, or the batch does not divide among so many.
    """
    _followed(config, device)
    if not 1 <= n_gpus <= most_gpus:
        raise ValueError(f"--gpus is {n_gpus}; choose a number from 1 to {most_gpus}")
    batch, context = config.batch_size, config.model.context
    if batch % n_gpus:
        nearest = max(1, round(batch / n_gpus)) * n_gpus * context
        raise ValueError(
            f"training.batch_tokens is {config.training.batch_tokens}, which is {batch} sequences "
            f"of model.context = {context} tokens and does not divide among {n_gpus} GPUs; the "
            f"nearest that does, is {nearest}"
        )


def make_ranks(config: RunConfig, device: Device | None, n_gpus: int, *, too_few: int = 0) -> Ranks:
    """All that is said of so many GPUs.

    Args:
        too_few: a number that is known not to do, as `fewest_gpus` takes it.

    Raises:
        ValueError: as `require_divisible`.
    """
    require_divisible(config, device, n_gpus)
    followed = _followed(config, device)
    return Ranks(
        device=followed.device.key,
        n_gpus=n_gpus,
        plans=tuple(followed.plan(way) for way in ways(followed.shape, n_gpus)),
        ruled_out=tuple(ruled_out(followed.shape, n_gpus)),
        fewest=_fewest(followed, most=n_gpus, too_few=too_few),
    )


def plan_ranks(config: RunConfig, device: Device | None, n_gpus: int) -> tuple[RankPlan, ...]:
    """What each way to share a step asks of a rank, the simplest way first.

    Portions that the config leaves to us are halved until they fit.

    Raises:
        ValueError: as `require_divisible`.
    """
    require_divisible(config, device, n_gpus)
    followed = _followed(config, device)
    return tuple(followed.plan(way) for way in ways(followed.shape, n_gpus))


def fewest_gpus(
    config: RunConfig, device: Device | None, *, most: int = gpus_per_node, too_few: int = 0
) -> RankPlan | None:
    """The simplest way to share a step among as few GPUs as can take it.

    Looked at are the numbers up to those of a machine, and powers of two up to `most`; in each the
    ways for which the batch divides evenly.

    Args:
        too_few: a number that is known not to do.

    Returns:
        None if no number does.

    Raises:
        ValueError: if there is no GPU.
    """
    return _fewest(_followed(config, device), most=most, too_few=too_few)


def _fewest(followed: "_Followed", *, most: int, too_few: int) -> RankPlan | None:
    batch = followed.config.batch_size
    for n_gpus in numbers_of_gpus(most):
        if n_gpus <= too_few:
            continue
        for way in ways(followed.shape, n_gpus):
            if batch % way.n_data == 0 and followed.plan(way, smallest=True).fits:
                return followed.plan(way)
    return None


def numbers_of_gpus(most: int) -> list[int]:
    """All numbers within a machine, then powers of two up to `most`."""
    beyond = (gpus_per_node * 2**power for power in range(1, most_gpus.bit_length()))
    return [*range(1, gpus_per_node + 1), *(n for n in beyond if n <= min(most, most_gpus))]


def ways(shape: ModelConfig, n_gpus: int) -> list[Sharing]:
    """The ways to share a model's step that are possible, the simplest first.

    Blocks are divided within a machine only.
    """
    if n_gpus == 1:
        return [Sharing(stage=0, n_ranks=1)]
    stages: tuple[Stage, ...] = (0, 1, 2, 3)
    found = [Sharing(stage=stage, n_ranks=n_gpus) for stage in stages]
    for degree in reversed(_degrees(n_gpus)):
        if degree in tensor_degrees(shape):
            stage = 0 if degree == n_gpus else 3
            found.append(Sharing(stage=stage, n_ranks=n_gpus, n_tensor=degree))
    return found


def ruled_out(shape: ModelConfig, n_gpus: int) -> Iterator[str]:
    """Why some ways are not possible."""
    if n_gpus > gpus_per_node:
        yield (
            f"tensor parallel {n_gpus}: blocks are divided within a machine only, which has "
            f"{gpus_per_node}"
        )
    possible = tensor_degrees(shape)
    if obstacles := [n for n in _degrees(n_gpus) if n not in possible]:
        yield (
            f"tensor parallel {', '.join(map(str, obstacles))}: the heads and the MLP of this "
            f"model divide evenly among {', '.join(map(str, possible))}"
        )


def _degrees(n_gpus: int) -> list[int]:
    """Among how many of so many GPUs blocks might be divided."""
    return [n for n in range(2, gpus_per_node + 1) if n_gpus % n == 0]


@dataclass
class _Followed:
    """A run's portions on one kind of GPU, each followed once."""

    config: RunConfig
    device: Device
    traces: dict[tuple[int, int], Trace] = field(default_factory=dict)

    @cached_property
    def shape(self) -> ModelConfig:
        return planned_shape(self.config)[0]

    def plan(self, way: Sharing, *, smallest: bool = False) -> RankPlan:
        """What a way asks of a rank, with portions as large as fit.

        Args:
            smallest: portions of one sequence instead, if the config leaves them to us.
        """
        config = _of_rank(self.config, way.n_data)
        first = first_site(config, self.device).micro_batch
        if config.training.micro_batch != "auto":
            return self._plan(config, way, first)
        least = self._plan(config, way, 1)
        if smallest or not least.fits:
            return least
        return self._largest_that_fits(config, way, least, first)

    def _largest_that_fits(
        self, config: RunConfig, way: Sharing, least: RankPlan, first: int
    ) -> RankPlan:
        """Of portions halved from the first one down to one sequence.

        The search begins where activations, which grow with the portion, would fill the GPU.
        """
        sizes = [first]
        while sizes[-1] > 1:
            sizes.append(sizes[-1] // 2)
        spare = least.usable_bytes - least.needed_bytes
        guess = 1 + spare // max(1, least.kinds.get("activations", 0))
        at = next(number for number, size in enumerate(sizes) if size <= guess)
        plan = self._plan(config, way, sizes[at])
        while not plan.fits:
            at += 1
            plan = self._plan(config, way, sizes[at])
        while at and (larger := self._plan(config, way, sizes[at - 1])).fits:
            at -= 1
            plan = larger
        return plan

    def _plan(self, config: RunConfig, way: Sharing, micro_batch: int) -> RankPlan:
        part = tensor_part(self.shape, way.n_tensor)
        site = dataclasses.replace(first_site(config, self.device), micro_batch=micro_batch)
        n_portions = -(-config.batch_size // micro_batch)
        trace = self._trace(part, way.n_tensor, site)
        lines = rank_lines(
            trace,
            part,
            way,
            n_portions=n_portions,
            batch_bytes=_batch_bytes(config, site),
            rounding=rounding,
        )
        total = np.sum(list(lines.values()), axis=0)
        at = int(total.argmax())
        kinds = {kind: int(line[at]) for kind, line in lines.items() if line[at]}
        sent = _sent_bytes(config, part, way, site, n_portions)
        link = self.device.interconnect_bytes_per_second
        return RankPlan(
            way=way.name,
            n_ranks=way.n_ranks,
            n_tensor=way.n_tensor,
            stage=way.stage,
            micro_batch=micro_batch,
            n_portions=n_portions,
            peak_bytes=int(total[at]),
            kinds=dict(sorted(kinds.items(), key=lambda item: -item[1])),
            phase=trace.operations[at].phase,
            module=trace.operations[at].module,
            outside_bytes=outside_bytes(self.device),
            usable_bytes=usable_bytes(self.device),
            sent_bytes=sent,
            seconds_at_least=least_seconds(sent, link if way.n_ranks <= gpus_per_node else None),
        )

    def _trace(self, part: ModelConfig, n_tensor: int, site: Site) -> Trace:
        """Of one portion, whatever the batch."""
        key = (n_tensor, site.micro_batch)
        if key not in self.traces:
            config = self.config
            tokens = site.micro_batch * config.model.context
            training = dataclasses.replace(
                config.training, batch_tokens=tokens, micro_batch=site.micro_batch
            )
            portion = dataclasses.replace(config, training=training)
            self.traces[key] = trace_step(portion, part, site).trace
        return self.traces[key]


def _followed(config: RunConfig, device: Device | None) -> _Followed:
    if device is None:
        raise ValueError(
            "--gpus plans for GPUs, and the plan is for this machine's processor; name a GPU, "
            "such as --on h100"
        )
    return _Followed(config, device)


def _sent_bytes(
    config: RunConfig, part: ModelConfig, way: Sharing, site: Site, n_portions: int
) -> int:
    training = config.training
    n_again = 0
    if training.recompute == "blocks":
        n_again = -(-part.n_layers // training.recompute_every)
    return data_sent_bytes(part, way, n_portions=n_portions) + tensor_sent_bytes(
        part,
        way,
        n_tokens=training.batch_tokens,
        activation_bytes=site.dtype.itemsize,
        n_blocks_again=n_again,
    )


def _batch_bytes(config: RunConfig, site: Site) -> int:
    """Of the batches on the device, a rank's part of each."""
    packed = packed_bytes if config.training.cut == "packed" else 0
    return site.n_batches * config.training.batch_tokens * (id_bytes + packed)


def _of_rank(config: RunConfig, n_data: int) -> RunConfig:
    """The run with a rank's part of the batch."""
    tokens = config.training.batch_tokens // n_data
    training = dataclasses.replace(config.training, batch_tokens=tokens)
    return dataclasses.replace(config, training=training)


def _plain(plan: RankPlan) -> dict[str, Any]:
    return dataclasses.asdict(plan) | {"needed_bytes": plan.needed_bytes, "fits": plan.fits}


def render_ranks(ranks: Ranks) -> str:
    """A line for each way: its portions, what a rank holds in GiB, what it sends and how long."""
    width = max(len(plan.way) for plan in ranks.plans)
    header = "".join(f"{name:>8}" for name in (*columns, "rest", "whole"))
    lines = [
        f"{ranks.n_gpus} x {ranks.device}: GiB on each at its fullest moment, and GiB that each "
        "sends in a step",
        f"  {'':<{width}}{'portions':>9}{header}  {'':<5}{'sends':>7}  at least",
    ]
    lines += [f"  {plan.way:<{width}}{_figures(plan)}" for plan in ranks.plans]
    simplest = ranks.simplest
    lines.append(
        f"  simplest that fits: {simplest.way}" if simplest else "  none of these ways fits"
    )
    lines.append(f"  {fewest_line(ranks.fewest, ranks.device, most=ranks.n_gpus)}")
    lines += [f"  not possible: {reason}" for reason in ranks.ruled_out]
    return "\n".join(lines)


def fewest_line(fewest: RankPlan | None, device: str, *, most: int = gpus_per_node) -> str:
    """On how few GPUs a step fits, in a sentence."""
    if fewest is None:
        looked_at = numbers_of_gpus(most)[-1]
        return f"on {device} it fits on no number of GPUs up to {looked_at}, however it is shared"
    if fewest.n_ranks == 1:
        return f"one {device} is enough"
    return (
        f"on {fewest.n_ranks} x {device} it fits with {fewest.way}: {fewest.n_portions} x "
        f"{fewest.micro_batch} sequences, {fewest.needed_bytes / gib:.1f} GiB on each"
    )


def _figures(plan: RankPlan) -> str:
    held = [sum(plan.kinds.get(kind, 0) for kind in kinds) for kinds in columns.values()]
    amounts = [*held, plan.needed_bytes - sum(held), plan.needed_bytes]
    seconds = plan.seconds_at_least
    return (
        f"{f'{plan.n_portions} x {plan.micro_batch}':>9}"
        + "".join(f"{amount / gib:>8.1f}" for amount in amounts)
        + f"  {'fits' if plan.fits else 'no':<5}{plan.sent_bytes / gib:>7.1f}  "
        + ("unknown" if seconds is None else duration(seconds))
    )
