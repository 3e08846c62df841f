"""The bill of a study before it begins: what its runs will take, all together."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelwright.accounting.hardware import Device, peak_flops
from modelwright.experiments.study_config import BudgetConfig
from modelwright.planning.duration import Range
from modelwright.planning.foresight import device_here
from modelwright.planning.plan import Plan, make_plan
from modelwright.planning.stored_rates import stored_rates
from modelwright.runtime.device import choose_device, choose_precision
from modelwright.runtime.files import readable_size
from modelwright.training.config import RunConfig

# Seconds of a run that are not its steps: the model and its programs are made, and in the end the
# checkpoint and the texts are written. Taken from studies of 6 to 24 runs.
besides_on_gpu = Range(low=2.0, high=12.0)
besides_on_processor = Range(low=0.3, high=3.0)


@dataclass(frozen=True, kw_only=True)
class VariantPlan:
    """What the runs of a variant that are still to be done will take.

    Attributes:
        n_tokens: that each run learns from.
        run_seconds: of each run by itself on its device, with what its measurements of the loss
            take, its beginning and its end.
        most_runs: whether there may be fewer of them than `n_runs`.
    """

    name: str
    n_runs: int
    n_steps: int
    n_tokens: int
    n_parameters: int
    run_seconds: Range
    price_per_hour_usd: float | None
    checkpoint_bytes: int
    fits: bool
    most_runs: bool = False

    @property
    def all_seconds(self) -> Range:
        """Of all its runs, one after the other."""
        return self.run_seconds.times(self.n_runs)


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What is still to be done of a study.

    Attributes:
        n_workers: how many runs are under way at the same time.
        n_places: on how many devices.
        is_measured: whether times follow from what was measured of the device.
    """

    title: str
    variants: tuple[VariantPlan, ...]
    n_done: int
    n_workers: int
    n_places: int
    is_measured: bool

    @property
    def n_runs(self) -> int:
        """The runs that are still to be done, at most."""
        return sum(variant.n_runs for variant in self.variants)

    @property
    def device_seconds(self) -> Range:
        """Of all devices together. Runs that share a device share its time."""
        low = sum(variant.all_seconds.low for variant in self.variants)
        high = sum(variant.all_seconds.high for variant in self.variants)
        return Range(low=low, high=high)

    @property
    def seconds(self) -> Range:
        """From start to end: no less than an even share, and than the longest run."""
        longest = [variant.run_seconds for variant in self.variants if variant.n_runs]
        share = self.device_seconds.times(1 / self.n_places)
        return Range(
            low=max([share.low, *(one.low for one in longest)]),
            high=max([share.high, *(one.high for one in longest)]),
        )

    @property
    def price_usd(self) -> Range | None:
        """Of the devices' time; None where no price is known."""
        prices = {variant.price_per_hour_usd for variant in self.variants}
        price = prices.pop() if len(prices) == 1 else None
        return None if price is None else self.device_seconds.times(price / 3600)

    @property
    def disk_bytes(self) -> int:
        """What the runs' checkpoints take in the end."""
        return sum(variant.n_runs * variant.checkpoint_bytes for variant in self.variants)

    @property
    def without_room(self) -> list[str]:
        """The variants whose step does not fit into the device's memory."""
        return [variant.name for variant in self.variants if variant.n_runs and not variant.fits]


def plan_study(
    runs: Sequence[tuple[str, int, RunConfig, bool]], *, n_done: int, n_workers: int, n_places: int
) -> StudyPlan:
    """The plan of what is missing of a study on the devices that are here.

    Variants that differ in what costs nothing, such as a learning rate, share a plan.

    Args:
        runs: for each variant its name, how many runs are missing, the config of one of them, and
            whether that many is only the most.

    Raises:
        ValueError: if a config asks for what the device does not have.
    """
    plans: dict[Any, Plan] = {}
    variants: list[VariantPlan] = []
    titles: list[str] = []
    is_measured = True
    for name, n_runs, config, is_most in runs:
        device = _device_of(config)
        key = what_costs(config)
        if key not in plans:
            plans[key] = make_plan(config, device, rates=stored_rates(device))
        plan = plans[key]
        titles.append(plan.place.title)
        is_measured &= plan.time.calibrated is not None
        variants.append(
            VariantPlan(
                name=name,
                n_runs=n_runs,
                n_steps=config.training.n_steps,
                n_tokens=config.n_tokens,
                n_parameters=plan.n_parameters,
                run_seconds=_run_seconds(config, plan.time.step_seconds, device),
                price_per_hour_usd=device.price_per_hour_usd if device else None,
                checkpoint_bytes=plan.disk.checkpoint_bytes
                * (config.checkpoints.keep + config.checkpoints.keep_best),
                fits=plan.memory.fits,
                most_runs=is_most,
            )
        )
    return StudyPlan(
        title=titles[0] if titles else "",
        variants=tuple(variants),
        n_done=n_done,
        n_workers=n_workers,
        n_places=n_places,
        is_measured=is_measured,
    )


def over_budget(plan: StudyPlan, budget: BudgetConfig) -> str | None:
    """By what the plan may be more than the budget allows, in a sentence; None if it is not.

    The upper end of each range counts.
    """
    hours = plan.seconds.high / 3600
    if budget.hours is not None and hours > budget.hours:
        return f"the plan is {hours:.3g} hours, and budget.hours is {budget.hours:g}"
    if budget.usd is not None and plan.n_runs:
        if plan.price_usd is None:
            return f"budget.usd is {budget.usd:g}, and no price of {plan.title} is known"
        if plan.price_usd.high > budget.usd:
            return f"the plan is ${plan.price_usd.high:.2f}, and budget.usd is {budget.usd:g}"
    return None


def render_study_plan(plan: StudyPlan) -> str:
    """A plan as a table for people."""
    rows = [("variant", "runs", "steps", "tokens", "parameters", "each run")]
    rows += [
        (
            variant.name,
            f"{'≤ ' * variant.most_runs}{variant.n_runs}",
            f"{variant.n_steps:,}",
            f"{variant.n_tokens / 1e6:,.2f}M",
            f"{variant.n_parameters / 1e6:,.2f}M",
            in_time(variant.run_seconds) if variant.n_runs else "done",
        )
        for variant in plan.variants
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, 5) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    at_once = f"{plan.n_workers} at once" if plan.n_workers > 1 else "one after the other"
    most = "at most " if any(variant.most_runs for variant in plan.variants) else ""
    done = f", {plan.n_done} done already" if plan.n_done else ""
    runs = "1 run" if plan.n_runs == 1 else f"{plan.n_runs} runs"
    lines += ["", f"{most}{runs} on {plan.title}, {at_once}{done}"]
    if plan.n_runs:
        source = "from measured rates" if plan.is_measured else "assumed"
        price = plan.price_usd
        told = f" · ${price.low:.2f} to ${price.high:.2f}" if price else " · no price known"
        lines.append(f"time {in_time(plan.seconds)} ({source}){told}")
        lines.append(f"disk {readable_size(plan.disk_bytes)} of checkpoints")
    for name in plan.without_room:
        lines.append(f"note: by the plan, {name} does not fit into memory")
    return "\n".join(lines)


def in_time(seconds: Range) -> str:
    """A span of time for people: "4 to 9 min"."""
    unit, length = (
        ("h", 3600)
        if seconds.high >= 2 * 3600
        else ("min", 60)
        if seconds.high >= 120
        else ("s", 1)
    )
    low, high = (f"{value / length:.2g}" for value in (seconds.low, seconds.high))
    low, high = (f"{float(value):g}" for value in (low, high))
    return f"{high} {unit}" if low == high else f"{low} to {high} {unit}"


def _device_of(config: RunConfig) -> Device | None:
    device = choose_device(config.training.device)
    precision = choose_precision(config.training.precision, device)
    return device_here(device, precision, peak_flops(device, precision))


def _run_seconds(config: RunConfig, step: Range, device: Device | None) -> Range:
    """The steps, the measurements of the loss, which only go forward (a third of the work), and
    what is before and after them."""
    n_measured = 1 + -(-config.training.n_steps // config.evaluation.every_steps)
    forward = config.evaluation.n_tokens / config.training.batch_tokens / 3
    steps = step.times(config.training.n_steps + n_measured * forward)
    besides = besides_on_processor if device is None else besides_on_gpu
    return Range(low=steps.low + besides.low, high=steps.high + besides.high)


def what_costs(config: RunConfig) -> Any:
    """What of a config a plan's step depends on."""
    training = dataclasses.replace(config.training, n_steps=1)
    return config.model, config.tokenizer, training, config.optimizer
