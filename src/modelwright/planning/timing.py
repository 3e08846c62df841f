"""How long a step takes on a machine whose rates were measured.

A roofline over the operations of the followed step: each takes what its arithmetic and its traffic
took in the measured ones of about its size. On a GPU the processor hands them out and runs ahead,
until it has to wait for a number; where it cannot keep ahead, the GPU waits for it instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modelwright.accounting.rates import Host, Rates, products
from modelwright.accounting.trace import Operation, program_call, wait
from modelwright.planning.step import StepTrace
from modelwright.runtime.device import Precision

# Many tensors at once go through a few kernels on a GPU, though the trace shows one for each.
together = frozenset({"linalg_vector_norm"})


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """How long a step takes, in seconds.

    Attributes:
        step: from its beginning to its end.
        busy: the device at work.
        host: the processor handing out work, nearly all of it while the device works.
        parts: `busy` by what it is spent on.
    """

    step: float
    busy: float
    host: float
    parts: dict[str, float]

    @property
    def waits_for_host(self) -> bool:
        """Whether more time goes by for want of work than a tenth."""
        return self.busy < 0.9 * self.step


def step_time(
    step: StepTrace,
    rates: Rates,
    precision: Precision,
    *,
    looks_ahead: bool = False,
    is_recorded: bool = False,
) -> StepTime:
    """Follow the queue between processor and device through a whole step.

    Args:
        looks_ahead: whether the processor hands out the next step while the device works on this
            one, so that a step after others is what is timed; else each begins with an idle device.
        is_recorded: whether the device repeats a recording of the step, all handed out at once.
    """
    operations = whole_step(step)
    parts: dict[str, float] = {}
    seconds_of: list[float] = []
    for operation in operations:
        seconds = _device_seconds(operation, rates, precision)
        if operation.phase in ("forward", "loss", "backward"):
            seconds *= step.n_lanes
        seconds_of.append(seconds)
        part = _part(operation)
        parts[part] = parts.get(part, 0.0) + seconds
    costs = [0.0] * len(operations)
    begin = 0.0
    if (host := rates.host) is not None:
        begin = host.step
        if not is_recorded:
            costs = [_host_seconds(operation, host) for operation in operations]
    queue = Queue()
    ended = []
    for _ in range(n_until_steady if looks_ahead else 1):
        queue.processor += begin
        for operation, cost, seconds in zip(operations, costs, seconds_of, strict=True):
            if operation.name == wait:
                queue.wait()
            else:
                queue.hand_out(cost, seconds)
        ended.append(max(queue.processor, queue.device))
        if len(ended) > 1:  # the step before is looked at when this one is handed out
            queue.processor = max(queue.processor, ended[-2])
    took = ended[-1] - ended[-2] if looks_ahead else ended[-1]
    return StepTime(step=took, busy=sum(seconds_of), host=begin + sum(costs), parts=parts)


n_until_steady = 6  # steps that look ahead, after which one is as the other


@dataclass
class Queue:
    """When the processor has handed out all so far, and when the device has done it."""

    processor: float = 0.0
    device: float = 0.0

    def hand_out(self, cost: float, seconds: float) -> None:
        """Work that takes the processor `cost` seconds to hand out and the device `seconds`."""
        self.processor += cost
        self.device = max(self.device, self.processor) + seconds

    def wait(self) -> None:
        """The processor waits until the device has nothing left to do."""
        self.processor = max(self.processor, self.device)


def whole_step(step: StepTrace) -> list[Operation]:
    """The operations of all portions; of those that were not followed, the last one's again."""
    operations = step.trace.operations
    begins = [
        number
        for number, one in enumerate(operations)
        if one.phase == "forward" and (number == 0 or operations[number - 1].phase != "forward")
    ]
    ends = next((n for n, one in enumerate(operations) if one.phase == "clip"), len(operations))
    portion = operations[begins[-1] : ends]
    left_out = -(-(step.n_portions - step.n_followed) // step.n_lanes)
    return [*operations[:ends], *portion * left_out, *operations[ends:]]


def _device_seconds(operation: Operation, rates: Rates, precision: Precision) -> float:
    if operation.name == program_call:
        return 0.0
    if operation.name in together:
        return (operation.n_read + operation.n_written) / rates.bytes_per_second
    return rates.seconds(operation, precision)


def _host_seconds(operation: Operation, host: Host) -> float:
    if operation.name == program_call:
        return host.program
    if operation.name in together:
        return host.tensor
    return 0.0 if operation.in_program else host.operation


def _part(operation: Operation) -> str:
    if "attention" in operation.name and operation.n_flops:
        return "attention"
    if operation.phase == "loss":
        return "loss"
    if operation.name in products:
        return "products"
    if operation.phase in ("clip", "update"):
        return "update"
    return "the rest"


@dataclass(frozen=True)
class HandedOut:
    """What the processor of a GPU does in a step.

    Attributes:
        n_operations: of PyTorch, launched one by one.
        n_programs: compiled ones that are entered.
        n_tensors: that are clipped and updated.
    """

    n_operations: int
    n_programs: int
    n_tensors: int


def handed_out(operations: Sequence[Operation]) -> HandedOut:
    """Count it."""
    counted = [one for one in operations if one.name != wait]
    n_programs = sum(one.name == program_call for one in counted)
    n_tensors = sum(one.name in together for one in counted)
    in_programs = sum(one.in_program for one in counted)
    return HandedOut(len(counted) - n_programs - n_tensors - in_programs, n_programs, n_tensors)
