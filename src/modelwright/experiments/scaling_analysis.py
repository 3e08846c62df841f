"""What finished runs say of size, data and work: laws, valleys, optima, a checked forecast."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelwright.accounting.iso_flops import IsoFlops, fit_valleys
from modelwright.accounting.law_fit import Point, fit_law
from modelwright.accounting.law_intervals import Interval, Resampling, Uncertain, interval, resample
from modelwright.accounting.scaling import Work
from modelwright.config.loading import load_settings
from modelwright.experiments.ladder import Count
from modelwright.experiments.plots import known_at, with_number
from modelwright.training.config import RunConfig
from modelwright.training.metrics import config_file, facts_file, read_metrics

counts: dict[Count, str] = {
    "all": "all parameters",
    "non_embedding": "parameters without embedding and unembedding",
}
embeddings = ("token_embedding", "position_embedding", "unembedding")
format_version = 1
at_the_edge = 1.05  # times the range: what is rounded to whole steps is no extrapolation


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """What is read from a run's folder.

    Attributes:
        n_parameters: by each count.
        epochs: of the training text; above one, some of it was seen twice.
    """

    name: str
    folder: Path
    n_parameters: dict[Count, int]
    n_tokens: int
    flops: float
    loss: float
    seed: int
    epochs: float
    seconds: float
    tokenizer: str
    text: str

    def point(self, count: Count) -> Point:
        return Point(
            name=self.name,
            n_parameters=self.n_parameters[count],
            n_tokens=self.n_tokens,
            loss=self.loss,
            flops=self.flops,
            seed=self.seed,
        )


def read_run(folder: Path) -> FinishedRun:
    """A finished run's figures.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if it is not finished, or diverged.
    """
    if not (folder / config_file).is_file():
        raise FileNotFoundError(f"{folder} holds no {config_file}, so there is no run in it")
    config = load_settings(RunConfig, folder / config_file).config
    facts = json.loads((folder / facts_file).read_text())
    n_steps = config.training.n_steps
    records = read_metrics(folder)
    measured = with_number(records, "validation_loss")
    if not measured or measured[-1]["step"] < n_steps:
        last = records[-1]["step"] if records else 0
        raise ValueError(
            f"the run in {folder} has no loss after its last step: its record ends at step "
            f"{last:,} of {n_steps:,}"
        )
    parameters = facts["parameters"]
    without = parameters["total"] - sum(parameters[name] for name in embeddings)
    return FinishedRun(
        name=folder.resolve().name,
        folder=folder,
        n_parameters={"all": parameters["total"], "non_embedding": without},
        n_tokens=config.n_tokens,
        flops=float(facts["step_flops"]) * n_steps,
        loss=measured[-1]["validation_loss"],
        seed=config.seed,
        epochs=facts["epochs"],
        seconds=known_at(records, measured[-1:], "seconds")[0],
        tokenizer=facts["tokenizer"],
        text=json.dumps(facts["data"], sort_keys=True),
    )


def require_comparable(runs: Sequence[FinishedRun]) -> None:
    """Refuse losses that are not of the same text in the same tokens.

    Raises:
        ValueError: naming two runs that differ.
    """
    for run in runs[1:]:
        for what, one, other in (
            ("tokenizer", runs[0].tokenizer, run.tokenizer),
            ("text", runs[0].text, run.text),
        ):
            if one != other:
                raise ValueError(
                    f"{runs[0].folder} and {run.folder} were trained on another {what}, so their "
                    "losses cannot be compared; fit runs of one ladder"
                )


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best split of a budget, by the law."""

    flops: float
    n_parameters: Interval
    n_tokens: Interval
    loss: Interval
    reach: str  # how far outside of what was fitted it lies; empty if inside

    @property
    def tokens_per_parameter(self) -> float:
        return self.n_tokens.value / self.n_parameters.value


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A run outside the fit beside its forecast."""

    run: FinishedRun
    forecast: Interval
    reach: str

    @property
    def error(self) -> float:
        """Measured less forecast, in nats per token."""
        return self.run.loss - self.forecast.value

    @property
    def is_inside(self) -> bool:
        return self.forecast.low <= self.run.loss <= self.forecast.high


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """All that is said of N by one count.

    Attributes:
        law: None where the runs cannot determine one, for the reason in `law_trouble`.
        valleys: likewise.
        seed_spread: standard deviation of log losses between seeds; None with one seed each.
    """

    count: Count
    runs: tuple[FinishedRun, ...]
    work: Work
    work_error: float  # the largest relative error of `work` among the sizes
    law: Uncertain | None
    law_trouble: str
    valleys: IsoFlops | None
    valleys_trouble: str
    optima: tuple[Optimum, ...]
    checks: tuple[Checked, ...]
    seed_spread: float | None

    @property
    def points(self) -> list[Point]:
        return [run.point(self.count) for run in self.runs]


def analyse(
    runs: Sequence[FinishedRun],
    checks: Sequence[FinishedRun] = (),
    *,
    count: Count = "all",
    budgets: Iterable[float] = (),
    level: float = 0.95,
    n_draws: int = 500,
    resampling: Resampling = "residuals",
) -> Analysis:
    """Fit everything that the runs determine.

    Args:
        checks: runs outside the fit.
        budgets: in FLOPs, for which the best split is told besides those of the runs.

    Raises:
        ValueError: if losses cannot be compared.
    """
    require_comparable([*runs, *checks])
    runs, checks = with_own_names(runs), with_own_names(checks)
    points = [run.point(count) for run in runs]
    work, work_error = fit_work(points)
    law, law_trouble = None, ""
    try:
        law = resample(fit_law(points), n_draws=n_draws, level=level, resampling=resampling)
    except ValueError as error:
        law_trouble = str(error)
    valleys, valleys_trouble = None, ""
    try:
        valleys = fit_valleys(points, work, level=level)
    except ValueError as error:
        valleys_trouble = str(error)
    wanted = sorted({*budgets, *(run.flops for run in checks)})
    if valleys is not None:
        wanted = sorted({*wanted, *(valley.flops for valley in valleys.valleys)})
    return Analysis(
        count=count,
        runs=tuple(runs),
        work=work,
        work_error=work_error,
        law=law,
        law_trouble=law_trouble,
        valleys=valleys,
        valleys_trouble=valleys_trouble,
        optima=tuple(optimum(law, work, flops) for flops in wanted) if law else (),
        checks=tuple(check(law, run, count) for run in checks) if law else (),
        seed_spread=spread_between_seeds(points),
    )


def with_own_names(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """The runs, those by their folder whose name others have too, as in another ladder."""
    n_named = Counter(run.name for run in runs)
    return [
        dataclasses.replace(run, name=str(run.folder)) if n_named[run.name] > 1 else run
        for run in runs
    ]


def fit_work(points: Sequence[Point]) -> tuple[Work, float]:
    """What a token costs a model of N parameters, as a power of N through the sizes trained.

    A power, because attention, embeddings and heads are no fixed share of the parameters.

    Returns:
        The power, and its largest relative error among the sizes.
    """
    per_token = {point.n_parameters: point.flops / point.n_tokens for point in points}
    x, y = np.log(list(per_token)), np.log(list(per_token.values()))
    slope = 1.0
    if len(per_token) > 1:
        slope = float(np.polyfit(x, y, 1)[0])
    begin = float(y.mean() - slope * x.mean())
    work = Work(coefficient=math.exp(begin), exponent=slope)
    errors = [abs(work.flops_per_token(n) / flops - 1) for n, flops in per_token.items()]
    return work, max(errors)


def spread_between_seeds(points: Sequence[Point]) -> float | None:
    """Standard deviation of log losses among runs that differ in nothing but their seed."""
    alike: dict[tuple[int, int], list[float]] = {}
    for point in points:
        alike.setdefault((point.n_parameters, point.n_tokens), []).append(math.log(point.loss))
    groups = [np.array(logs) for logs in alike.values() if len(logs) > 1]
    if not groups:
        return None
    squares = sum(float(((logs - logs.mean()) ** 2).sum()) for logs in groups)
    return math.sqrt(squares / sum(len(logs) - 1 for logs in groups))


def optimum(law: Uncertain, work: Work, flops: float) -> Optimum:
    """The best split of a budget, with intervals."""
    best = law.fit.law.optimal_split(flops, work)
    splits = [one.optimal_split(flops, work) for one in law.laws()]

    def told(value: float, name: str) -> Interval:
        return interval(value, [getattr(split, name) for split in splits], law.level)

    return Optimum(
        flops=flops,
        n_parameters=told(best.n_parameters, "n_parameters"),
        n_tokens=told(best.n_tokens, "n_tokens"),
        loss=told(best.loss, "loss"),
        reach=reach(law.fit.points, best.n_parameters, best.n_tokens, flops),
    )


def check(law: Uncertain, run: FinishedRun, count: Count) -> Checked:
    """A run beside its forecast."""
    n_parameters = run.n_parameters[count]
    return Checked(
        run=run,
        forecast=law.forecast(n_parameters, run.n_tokens),
        reach=reach(law.fit.points, n_parameters, run.n_tokens, run.flops),
    )


def reach(points: Sequence[Point], n_parameters: float, n_tokens: float, flops: float) -> str:
    """How far something lies outside of what was fitted, in words; empty inside."""
    said = []
    for what, value, known in (
        ("parameters", n_parameters, [point.n_parameters for point in points]),
        ("tokens", n_tokens, [point.n_tokens for point in points]),
        ("FLOPs", flops, [point.flops for point in points]),
    ):
        above, below = value / max(known), min(known) / value
        if above > at_the_edge:
            said.append(f"{above:.1f}x the most {what} fitted")
        elif below > at_the_edge:
            said.append(f"{below:.1f}x below the fewest {what} fitted")
    return ", ".join(said)


def to_json(analyses: Sequence[Analysis], name: str) -> dict[str, Any]:
    """Plain values for `scaling.json`; `docs/formats.md` says what they are."""
    first = analyses[0]
    return {
        "format_version": format_version,
        "name": name,
        "runs": [_run_json(run) for run in first.runs],
        "checks": [_run_json(checked.run) for checked in first.checks],
        "by_count": {analysis.count: _analysis_json(analysis) for analysis in analyses},
    }


def _run_json(run: FinishedRun) -> dict[str, Any]:
    return {
        "name": run.name,
        "n_parameters": run.n_parameters,
        "n_tokens": run.n_tokens,
        "flops": run.flops,
        "loss": run.loss,
        "seed": run.seed,
        "epochs": run.epochs,
        "seconds": run.seconds,
    }


def _analysis_json(analysis: Analysis) -> dict[str, Any]:
    law = analysis.law
    return {
        "work": dataclasses.asdict(analysis.work) | {"largest_error": analysis.work_error},
        "seed_spread": analysis.seed_spread,
        "law": None
        if law is None
        else {
            "values": {
                name: dataclasses.asdict(told) for name, told in law.law_intervals().items()
            },
            "spread": law.fit.spread,
            "objective": law.fit.objective,
            "residuals": dict(
                zip((point.name for point in law.fit.points), law.fit.residuals, strict=True)
            ),
            "resampling": law.resampling,
            "n_draws": len(law.draws),
            "n_left_out": law.n_left_out,
        },
        "law_trouble": analysis.law_trouble,
        "valleys": None if analysis.valleys is None else dataclasses.asdict(analysis.valleys),
        "valleys_trouble": analysis.valleys_trouble,
        "optima": [dataclasses.asdict(optimum) for optimum in analysis.optima],
        "checks": [
            {
                "name": checked.run.name,
                "measured": checked.run.loss,
                "forecast": dataclasses.asdict(checked.forecast),
                "error": checked.error,
                "is_inside": checked.is_inside,
                "reach": checked.reach,
            }
            for checked in analysis.checks
        ],
    }
