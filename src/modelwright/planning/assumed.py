"""How fast a device is taken to be that nobody has calibrated: a hopeful guess and a doubtful one.

Both are rates like measured ones, so that a step's time is the sum of its operations either way: a
small model's step is long for the number of its operations and not for their arithmetic. The
shares are those between which steps were found whose time is on record
(docs/results/train-gpu.md): of the data sheet's peak and bandwidth on a GPU, of the peak that was
measured just now on a processor.
"""

from dataclasses import dataclass
from typing import get_args

from modelwright.accounting.hardware import Device, Peak
from modelwright.accounting.rates import Host, Rates
from modelwright.runtime.device import Machine, Precision

copied = 4096.0  # bytes of the copy that stands for the least that an operation takes


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What a device is taken to reach.

    Attributes:
        of_peak: the share of the peak that products reach.
        of_bandwidth: the share of the memory's bandwidth that the rest reaches.
        floor: seconds, the least that an operation takes.
        host: of a GPU.
    """

    of_peak: float
    of_bandwidth: float
    floor: float
    host: Host | None = None


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """The best and the worst that is expected."""

    hopeful: Guess
    doubtful: Guess


gpu_guesses = Guesses(
    hopeful=Guess(
        of_peak=0.90,
        of_bandwidth=0.95,
        floor=1.0e-6,
        host=Host(step=100e-6, operation=4e-6, program=15e-6, tensor=1e-6),
    ),
    doubtful=Guess(
        of_peak=0.48,
        of_bandwidth=0.55,
        floor=4.0e-6,
        host=Host(step=600e-6, operation=15e-6, program=60e-6, tensor=5e-6),
    ),
)
processor_bandwidth = 40e9  # bytes a second, of two channels and more; its caches are faster
processor_guesses = Guesses(
    hopeful=Guess(of_peak=0.90, of_bandwidth=1.0, floor=2e-6),
    doubtful=Guess(of_peak=0.40, of_bandwidth=0.2, floor=12e-6),
)


def guesses_for(device: Device | None) -> Guesses:
    """What is taken of a GPU, or with None of a processor."""
    return processor_guesses if device is None else gpu_guesses


def guessed_rates(guess: Guess, device: Device | None, peak: Peak) -> Rates:
    """A guess as rates: every product at one share of the peak, all else as a copy."""
    bandwidth = processor_bandwidth if device is None else device.bandwidth_bytes_per_second
    n_bytes = guess.of_bandwidth * bandwidth
    title = "a processor" if device is None else device.title
    return Rates(
        device=title,
        machine=Machine(processor=title, gpu=None, n_threads=0, python="", torch=""),
        measured="assumed",
        bytes_per_second=n_bytes,
        flops_per_second=dict.fromkeys(get_args(Precision), guess.of_peak * peak.flops_per_second),
        samples={"copy": [[copied, guess.floor + copied / n_bytes]]},
        host=guess.host,
    )


def in_words(device: Device | None) -> str:
    """What a range of times rests on."""
    best, worst = guesses_for(device).hopeful, guesses_for(device).doubtful
    whose = "the peak that was measured just now" if device is None else "the data sheet's peak"
    return (
        f"assumed: products at {worst.of_peak:.0%} to {best.of_peak:.0%} of {whose}, and "
        f"{best.floor * 1e6:g} to {worst.floor * 1e6:g} µs for the least operation"
    )
