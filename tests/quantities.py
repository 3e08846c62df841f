"""Numbers as texts write them, such as 8.508 GB, and what they stand for."""

import re
from dataclasses import dataclass

units = {
    "": 1.0,
    "%": 0.01,
    "thousand": 1e3,
    "million": 1e6,
    "billion": 1e9,
    "MB": 1e6,
    "GB": 1e9,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "GFLOPs": 1e9,
    "TFLOPs": 1e12,
    "TFLOP/s": 1e12,
    "hours": 3600.0,
    "days": 86_400.0,
    "years": 365.25 * 86_400,
}
# Not within a word: the numbers of GPT-2, fp32 and BHT² are none.
written = re.compile(
    r"(?<![\w.-])(0x[0-9A-F]+|\d+(?:,\d{3})*(?:\.\d+)?(?:e\d+)?)(?!\w)"
    rf"(?: ?({'|'.join(unit for unit in units if unit)})(?!\w))?"
)


@dataclass(frozen=True)
class Quantity:
    """A number as it is written, such as 8.508 GB."""

    digits: str
    unit: str

    @property
    def value(self) -> float:
        if self.digits.startswith("0x"):
            return int(self.digits, 16)
        return float(self.digits.replace(",", "")) * units[self.unit]

    def shows(self, value: float, *, round_figures: bool = False) -> bool:
        """Whether that value, rounded to as many digits, is written like this.

        Args:
            round_figures: whether zeros before the unit are taken for no digits, as in "about 70%".
        """
        if self.digits.startswith("0x"):
            return f"0x{int(value):X}" == self.digits
        scaled, before_exponent = value / units[self.unit], self.digits.partition("e")[0]
        decimals = len(before_exponent.partition(".")[2])
        if before_exponent != self.digits:
            return f"{scaled:.{decimals}e}".replace("+", "") == self.digits
        if round_figures and not decimals:
            digits = self.digits.replace(",", "")
            n_zeros = len(digits) - len(digits.rstrip("0"))
            return f"{round(scaled, -n_zeros):.0f}" == digits
        return f"{scaled:,.{decimals}f}" == self.digits


def quantities(text: str) -> list[Quantity]:
    return [Quantity(digits, unit) for digits, unit in written.findall(text)]
