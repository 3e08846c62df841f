"""The rates that `modelwright calibrate` measured, one file a device in the user's folder."""

import re
from pathlib import Path

from modelwright.accounting.hardware import Device, device_of
from modelwright.accounting.rates import Rates, read_rates
from modelwright.runtime.device import processor_name
from modelwright.runtime.files import write_atomically
from modelwright.runtime.user_folder import user_folder


def rates_file(device: str) -> Path:
    """Where the rates of a device of that name are kept; "cpu" is the processor."""
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return user_folder() / "rates" / f"{slug}.json"


def keep_rates(rates: Rates) -> Path:
    """Store them in place of older ones; the file."""
    file = rates_file(rates.device)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, rates.to_json())
    return file


def stored_rates(device: Device | None) -> Rates | None:
    """What was measured of a kind of device, here or brought along; None where nothing was.

    Args:
        device: None is this machine's processor; rates of another one do not count.

    Raises:
        ValueError: if a file there holds something else.
    """
    if device is None:
        file = rates_file("cpu")
        rates = read_rates(file) if file.exists() else None
        return rates if rates and rates.machine.processor == processor_name() else None
    for file in sorted((user_folder() / "rates").glob("*.json")):
        if file.name != "cpu.json" and _is_of(device, rates := read_rates(file)):
            return rates
    return None


def _is_of(device: Device, rates: Rates) -> bool:
    known = device_of(rates.device)
    return rates.device == device.title if known is None else known.key == device.key
