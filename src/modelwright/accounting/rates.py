"""What a machine was measured to do, and how long an operation takes there.

Nothing is assumed of the machine but this: an operation takes about as long as the slower of its
arithmetic and its traffic, and two operations of nearly the same sizes come equally near to that.
So how near is read off the measured ones of the same kind whose sizes are nearest.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from modelwright.accounting.trace import Operation
from modelwright.runtime.device import Machine, Precision

Rule = Literal["product", "attention", "copy"]

n_neighbours = 6
# Of the same sizes and measured twice, both count: in doublings, below which nearer is no better.
too_near = 0.05
products = frozenset({"mm", "addmm", "mm.out", "addmm_", "bmm", "baddbmm", "bmm.out"})
adds_first = frozenset({"addmm", "addmm_", "baddbmm"})
formats: Mapping[str, Precision] = {
    "torch.float32": "fp32",
    "torch.bfloat16": "bf16",
    "torch.float16": "fp16",
}


@dataclass(frozen=True, kw_only=True)
class Host:
    """How long the processor takes to hand out work, in seconds.

    Attributes:
        step: for each step, whatever is in it.
        operation: for one of PyTorch's operations.
        program: for entering one that was compiled, and all its launches.
        tensor: for each tensor that is clipped and updated, with the GPU waiting.
    """

    step: float
    operation: float
    program: float
    tensor: float


@dataclass(frozen=True)
class Kind:
    """What is comparable: a kind of operation and what it is counted by.

    Attributes:
        name: such as "product bf16 nt" or "gelu float32".
        rule: "product" has sizes (matrices, rows, inner width, columns); "attention" (heads of all
            sequences together, positions, width of a head); "copy" (bytes).
    """

    name: str
    rule: Rule


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Measured times by kind of operation.

    Attributes:
        device: its name, as PyTorch or the processor gives it.
        machine: hardware and versions, for readers.
        measured: the day.
        bytes_per_second: of a large copy, both directions counted.
        flops_per_second: the best product of each precision.
        samples: by the name of a kind, rows of its sizes and the seconds.
        host: of a GPU; a processor hands out no work.
        shares: how much longer all of a kind takes in a step than its samples say, by name.
    """

    device: str
    machine: Machine
    measured: str
    bytes_per_second: float
    flops_per_second: Mapping[str, float]
    samples: Mapping[str, Sequence[Sequence[float]]]
    host: Host | None = None
    shares: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def floor_seconds(self) -> float:
        """The least that an operation takes: the median of the smallest copies."""
        smallest = sorted(self.samples["copy"], key=lambda row: row[0])[:9]
        return float(np.median([row[-1] for row in smallest]))

    @cached_property
    def _tables(self) -> dict[str, "Table"]:
        return {}

    @cached_property
    def _known(self) -> dict[tuple[str, tuple[float, ...]], float]:
        return {}

    def seconds(self, operation: Operation, precision: Precision) -> float:
        """How long the device works on an operation.

        Args:
            precision: of the run, which tells fp32 from tf32.
        """
        kind, sizes = kind_and_sizes(operation, precision)
        if not sizes:
            return 0.0
        return self.seconds_of(kind, sizes)

    def seconds_of(self, kind: Kind, sizes: tuple[float, ...]) -> float:
        """The same for a kind of operation and its sizes."""
        key = (kind.name, sizes)
        if key not in self._known:
            share = self.shares.get(kind.name, 1.0) * self.shares.get("step", 1.0)
            self._known[key] = self._seconds_of(kind, sizes) * share
        return self._known[key]

    def _seconds_of(self, kind: Kind, sizes: tuple[float, ...]) -> float:
        name = kind.name
        if name not in self.samples:
            name = nearest_kind(kind, self.samples)
        if name not in self.samples:
            return self._ideal(kind, sizes)
        if name not in self._tables:
            rows = np.array(self.samples[name], dtype=float)
            ideal = [self._ideal(kind, tuple(row[:-1])) for row in rows]
            self._tables[name] = Table(np.log2(rows[:, :-1]), np.log(rows[:, -1] / ideal))
        return self._ideal(kind, sizes) * self._tables[name].factor(sizes)

    def _ideal(self, kind: Kind, sizes: tuple[float, ...]) -> float:
        """The slower of arithmetic and traffic, added up rather than compared: both are felt."""
        flops, n_bytes = ideal_work[kind.rule](kind, sizes)
        seconds = n_bytes / self.bytes_per_second + self.floor_seconds
        if flops:
            seconds += flops / self.flops_per_second[precision_of(kind)]
        return seconds

    def to_json(self) -> str:
        """As text: a line for each kind of operation."""
        plain = {name: getattr(self, name) for name in ("device", "measured", "bytes_per_second")}
        plain["machine"] = dataclasses.asdict(self.machine)
        plain |= {"flops_per_second": dict(self.flops_per_second), "shares": dict(self.shares)}
        plain["host"] = None if self.host is None else vars(self.host)
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in plain.items()]
        rows = [
            f"    {json.dumps(name)}: {json.dumps([[float(f'{x:.5g}') for x in row] for row in r])}"
            for name, r in self.samples.items()
        ]
        lines.append('  "samples": {\n' + ",\n".join(rows) + "\n  }")
        return "{\n" + ",\n".join(lines) + "\n}\n"


class Table:
    """Measured factors at places, and what they are in between."""

    def __init__(self, places: np.ndarray, logarithms: np.ndarray) -> None:
        self.places = places
        self.logarithms = logarithms

    def factor(self, sizes: tuple[float, ...]) -> float:
        """The mean of the nearest ones, which count the more the nearer they are."""
        away = self.places - np.log2(np.array(sizes))
        distance = np.sqrt((away**2).sum(1)) + too_near
        nearest = np.argsort(distance)[:n_neighbours]
        weights = distance[nearest] ** -2
        return math.exp(float(weights @ self.logarithms[nearest] / weights.sum()))


def read_rates(path: Path) -> Rates:
    """What was stored.

    Raises:
        ValueError: if the file holds something else.
    """
    try:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        host = plain.pop("host")
        machine = Machine(**plain.pop("machine"))
        return Rates(**plain, machine=machine, host=None if host is None else Host(**host))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no measured rates of this version ({error}); delete it, or measure "
            "anew with `modelwright calibrate`"
        ) from None


def kind_and_sizes(operation: Operation, precision: Precision) -> tuple[Kind, tuple[float, ...]]:
    """What an operation is comparable to, and how large it is; no sizes, if it takes no time."""
    name, shapes = operation.name, operation.shapes
    if name in products and shapes:
        number = formats.get(str(operation.dtype), "fp32")
        number = "tf32" if (number, precision) == ("fp32", "tf32") else number
        first = 1 if name in adds_first else 0
        left, right = shapes[first], shapes[first + 1]
        layout = operation.layout[first : first + 2]
        n_matrices = math.prod(left[:-2])
        if n_matrices > 1:
            layout = "several"
        return (
            Kind(f"product {number} {layout}", "product"),
            (n_matrices, left[-2], left[-1], right[-1]),
        )
    number = str(operation.dtype).removeprefix("torch.")
    if "attention" in name and operation.n_flops and shapes:
        heads, positions, width = math.prod(shapes[0][:-2]), *shapes[0][-2:]
        return Kind(f"{name} {number}", "attention"), (heads, positions, width)
    n_bytes = operation.n_read + operation.n_written
    return Kind(f"{name} {number}", "copy"), (float(n_bytes),) if n_bytes else ()


def nearest_kind(kind: Kind, samples: Mapping[str, Any]) -> str:
    """The kind that stands for one that was not measured."""
    if kind.rule == "copy":
        return "copy"
    name = kind.name.rpartition(" ")[0]
    alike = [one for one in samples if one.startswith(name + " ")]
    if kind.rule == "attention":
        alike = alike or [one for one in samples if "attention" in one and "backward" not in one]
        if "backward" in kind.name:
            alike = [one for one in samples if "attention_backward" in one] or alike
    return alike[0] if alike else kind.name


def precision_of(kind: Kind) -> str:
    """Whose rate of products counts."""
    if kind.rule == "product":
        return kind.name.split()[1]
    return formats.get("torch." + kind.name.split()[-1], "fp32")


def _product_work(kind: Kind, sizes: tuple[float, ...]) -> tuple[float, float]:
    n_matrices, rows, inner, columns = sizes
    n_bytes = 2 if precision_of(kind) in ("bf16", "fp16") else 4
    numbers = rows * inner + inner * columns + rows * columns
    return 2 * n_matrices * rows * inner * columns, n_matrices * n_bytes * numbers


def _attention_work(kind: Kind, sizes: tuple[float, ...]) -> tuple[float, float]:
    heads, positions, width = sizes
    products = 5 if "backward" in kind.name else 2
    n_bytes = 2 if precision_of(kind) in ("bf16", "fp16") else 4
    # Half of the pairs are hidden, and kernels leave them out.
    flops = products * 2 * heads * positions * positions * width / 2
    return flops, n_bytes * heads * positions * width * (8 if products == 5 else 4)


def _copy_work(_kind: Kind, sizes: tuple[float, ...]) -> tuple[float, float]:
    return 0.0, sizes[0]


ideal_work: Mapping[Rule, Callable[[Kind, tuple[float, ...]], tuple[float, float]]] = {
    "product": _product_work,
    "attention": _attention_work,
    "copy": _copy_work,
}
