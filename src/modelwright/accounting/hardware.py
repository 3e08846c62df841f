"""What is known about the devices that people train on: speed, memory, power and price.

`hardware.toml` beside this file is the table and says what its figures mean; `docs/hardware.md`
shows it to readers. A device that is not in it, like every processor, is measured
(`measured_peak.py`).
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from modelwright.accounting.measured_peak import Peak, measured_peak
from modelwright.runtime.device import Precision

if TYPE_CHECKING:
    import torch

NumberFormat = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "int8"]

# Held outside of PyTorch by the CUDA context and the libraries' programs; that of an H100 stands
# for those on which nobody measured it.
usual_context_bytes = 768 * 2**20

# Of the memory of a device without a report: no more than any reports whose error correction has
# memory of its own. (That of the T4, A10, A10G, L4 and L40S takes a part; they have reports.)
usable_share = 0.98


@dataclass(frozen=True, kw_only=True)
class Device:
    """What is published about one kind of device; every figure has a source and a date."""

    key: str  # as typed on a command line
    title: str
    names: str  # a regular expression for the whole name that CUDA gives, less the maker's
    capability: tuple[int, int]
    # Dense matrix products in operations a second; a format that it lacks is absent.
    peaks: Mapping[NumberFormat, float] = field(hash=False)
    bandwidth_bytes_per_second: float  # of its memory
    interconnect_bytes_per_second: float | None  # both directions; None where there is only PCIe
    memory_bytes: int  # as the vendor counts it
    reported_bytes: int | None  # as PyTorch reports it; None where no report was found
    reported_source: str | None
    reported_date: str | None
    watts: float
    source: str
    source_date: str
    price_per_hour_usd: float | None  # on demand; None where none could be verified
    price_source: str | None
    price_date: str | None
    measured_context_bytes: int | None = None
    context_source: str | None = None

    @property
    def context_bytes(self) -> int:
        """What of the memory is held outside of PyTorch."""
        return self.measured_context_bytes or usual_context_bytes

    @property
    def usable_bytes(self) -> int:
        """The memory that PyTorch sees, before its context and anything else takes of it."""
        return self.reported_bytes or int(self.memory_bytes * usable_share)

    def peak(self, number_format: NumberFormat) -> Peak | None:
        """The published rate in that format; None where the device lacks it."""
        if number_format not in self.peaks:
            return None
        return Peak(
            flops_per_second=self.peaks[number_format],
            source=f"{self.source}, dense {number_format}",
        )


@cache
def devices() -> Mapping[str, Device]:
    """The table by key, in its own order: by family, older ones first."""
    text = (files("modelwright.accounting") / "hardware.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["device"]
    return MappingProxyType({row["key"]: _device(row) for row in rows})


def device_named(key: str) -> Device:
    """The device with that key, whatever the case of its letters.

    Raises:
        ValueError: if the table has none; names the nearest and lists all.
    """
    known = devices()
    wanted = key.strip().lower()
    if wanted in known:
        return known[wanted]
    longer = [one for one in known if wanted and one.startswith(wanted)]
    near = longer or difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(one) for one in near)}?" if near else ";"
    raise ValueError(f"no device is called {key!r}{hint} known are {', '.join(known)}")


def device_of(cuda_name: str) -> Device | None:
    """The device with the name that `torch.cuda.get_device_name` gives; None where not known."""
    name = re.sub(r"^(NVIDIA |Tesla |AMD )+", "", cuda_name)
    return next((one for one in devices().values() if re.fullmatch(one.names, name)), None)


def peak_flops(device: "torch.device", precision: Precision) -> Peak:
    """The published peak of a GPU that is in the table, else what a short measurement finds.

    A processor is always measured: its clock, and so its peak, is whatever its neighbours leave.
    """
    import torch

    if device.type == "cuda":
        published = published_peak(torch.cuda.get_device_name(device), precision)
        if published is not None:
            return published
    has_tf32 = device.type == "cuda"
    return measured_peak(device, "fp32" if precision == "tf32" and not has_tf32 else precision)


def published_peak(gpu: str, precision: Precision) -> Peak | None:
    """What is published for a GPU of that name in that precision; None where it is not known."""
    device = device_of(gpu)
    return device and device.peak(precision)


def device_tables() -> str:
    """The whole table in Markdown: first the figures, then where they come from."""
    known = list(devices().values())
    return "\n\n".join(
        (
            _markdown(figure_columns, [_figures(one) for one in known]),
            _markdown(source_columns, [_sources(one) for one in known]),
        )
    )


figure_columns = (
    "device",
    "what it is",
    "capability",
    *get_args(NumberFormat),
    "memory GiB",
    "usable GiB",
    "context MiB",
    "GB/s",
    "link GB/s",
    "W",
    "$/h",
)
source_columns = ("device", "figures", "usable memory", "price")


def _figures(device: Device) -> list[str]:
    gib = 2**30
    peaks = [device.peaks.get(one) for one in get_args(NumberFormat)]
    link, price = device.interconnect_bytes_per_second, device.price_per_hour_usd
    return [
        f"`{device.key}`",
        device.title,
        ".".join(str(one) for one in device.capability),
        *("–" if peak is None else f"{peak / 1e12:g}" for peak in peaks),
        f"{device.memory_bytes / gib:g}",
        f"{device.usable_bytes / gib:.2f}" + ("" if device.reported_bytes else "*"),
        f"{device.context_bytes / 2**20:g}" + ("" if device.measured_context_bytes else "*"),
        f"{device.bandwidth_bytes_per_second / 1e9:g}",
        "–" if link is None else f"{link / 1e9:g}",
        f"{device.watts:g}",
        "–" if price is None else f"{price:g}",
    ]


def _sources(device: Device) -> list[str]:
    cited = (
        (device.source, device.source_date),
        (device.reported_source, device.reported_date),
        (device.price_source, device.price_date),
    )
    return [f"`{device.key}`", *(f"{what}, {date}" if what else "–" for what, date in cited)]


def _markdown(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _device(row: dict[str, Any]) -> Device:
    """A row of the file in plain units; an unknown or missing key is an error."""
    major, minor = row.pop("capability")
    teraflops: dict[NumberFormat, float] = row.pop("teraflops")
    link = row.pop("interconnect_gb_per_second", None)
    usable_mib = row.pop("usable_mib", None)
    context_mib = row.pop("context_mib", None)
    return Device(
        capability=(major, minor),
        peaks=MappingProxyType({name: tera * 1e12 for name, tera in teraflops.items()}),
        bandwidth_bytes_per_second=row.pop("bandwidth_gb_per_second") * 1e9,
        interconnect_bytes_per_second=None if link is None else link * 1e9,
        memory_bytes=row.pop("memory_gib") * 2**30,
        reported_bytes=None if usable_mib is None else usable_mib * 2**20,
        measured_context_bytes=None if context_mib is None else context_mib * 2**20,
        reported_source=row.pop("usable_source", None),
        reported_date=row.pop("usable_date", None),
        price_per_hour_usd=row.pop("price_per_hour_usd", None),
        price_source=row.pop("price_source", None),
        price_date=row.pop("price_date", None),
        **row,
    )
