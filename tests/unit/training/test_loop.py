import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small
from modelwright.data.loader import Batch, StoppedWaiting
from modelwright.runtime.interrupts import StopRequest
from modelwright.runtime.progress import nobody
from modelwright.training import attempt as module
from modelwright.training import loop, step
from modelwright.training.attempt import TrainingState, take_step
from modelwright.training.averaging import Average
from modelwright.training.config import RunConfig
from modelwright.training.loop import Interrupted, run_loop
from modelwright.training.optimizers import OptimizerConfig, make_optimizer
from modelwright.training.precision import LossScale, NoLossScale


class Batches:
    """A loader of random batches, of which one may take a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked: list[int] = []

    def batch(self, number: int, *, is_stopped: Any = None) -> Batch:
        self.asked.append(number)
        time.sleep(self.seconds)
        generator = torch.Generator().manual_seed(number)
        ids = torch.randint(37, (4, 11), generator=generator)
        return Batch(ids, ids.roll(-1, 1), np.arange(4 * number, 4 * number + 4))


def fresh(*, micro_batch: int = 2, scale: LossScale | None = None) -> TrainingState:
    model = small.model()
    optimizer = make_optimizer(model, OptimizerConfig())
    return TrainingState(model, optimizer, scale or NoLossScale(), micro_batch)


def weights(state: TrainingState) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


def take(state: TrainingState, config: RunConfig, loader: Any = None) -> tuple[dict, str]:
    return take_step(state, config, loader or Batches())  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.0, 0.4])
def test_the_wait_for_data_is_on_record(tmp_path: Path, seconds: float):
    metrics, _ = take(fresh(), small.run_config(tmp_path), Batches(seconds))
    assert seconds <= metrics["data_seconds"] < seconds + 0.3
    assert metrics["data_seconds"] <= metrics["step_seconds"] + 1e-3


def test_a_step_counts_itself_its_time_and_its_loss(tmp_path: Path):
    state, config = fresh(), small.run_config(tmp_path)
    first, action = take(state, config)
    second, _ = take(state, config)
    assert action == "take"
    assert (first["step"], second["step"], state.step) == (1, 2, 2)
    assert second["seconds"] == pytest.approx(state.seconds, abs=1e-3)
    assert state.seconds == pytest.approx(first["step_seconds"] + second["step_seconds"], abs=1e-5)
    assert state.recent_losses == [first["loss"], second["loss"]]
    assert not first.keys() & {"event", "loss_scale", "sample_ids"}


def test_batches_left_out_are_not_asked_for(tmp_path: Path):
    state, config, loader = fresh(), small.run_config(tmp_path), Batches()
    state.left_out = [1, 2]
    for _ in range(3):
        take(state, config, loader)
    assert loader.asked == [0, 3, 4]


class Scarce:
    """Memory that so many sequences fit into: more raise the error of PyTorch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.most = most
        self.sizes: list[int] = []
        whole = step.next_token_loss

        def loss(model: Any, inputs: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
            self.sizes.append(len(inputs))
            if len(inputs) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.\nmore")
            return whole(model, inputs, *others, **named)

        monkeypatch.setattr(step, "next_token_loss", loss)


def automatic(tmp_path: Path, *changes: str) -> RunConfig:
    return small.run_config(tmp_path, "training.micro_batch=auto", *changes)


def test_portions_halve_until_they_fit_and_the_step_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config, roomy, tight = automatic(tmp_path), fresh(micro_batch=4), fresh(micro_batch=4)
    expected = [take(roomy, config)[0] for _ in range(2)]
    memory = Scarce(monkeypatch, most=1)
    found = [take(tight, config)[0] for _ in range(2)]
    assert memory.sizes == [4, 2, *[1] * 4, *[1] * 4]
    assert tight.micro_batch == 1
    assert (found[0]["event"], found[0]["micro_batch"]) == ("out_of_memory", 1)
    assert "event" not in found[1]
    # The sum over the portions is rounded in another order.
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-5)
        assert ours["data_ids"] == theirs["data_ids"]


def test_what_a_portion_left_behind_before_it_failed_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config, roomy, tight = automatic(tmp_path), fresh(micro_batch=2), fresh(micro_batch=2)
    expected, _ = take(roomy, config)
    whole, n_calls = step.next_token_loss, []

    def loss(*arguments: Any, **named: Any) -> torch.Tensor:
        n_calls.append(1)
        if len(n_calls) == 2:  # the second portion, when the first has its gradient
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(*arguments, **named)

    monkeypatch.setattr(step, "next_token_loss", loss)
    found, _ = take(tight, config)
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-5)


def test_a_fixed_portion_that_does_not_fit_is_said_with_the_settings_that_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Scarce(monkeypatch, most=1)
    state = fresh(micro_batch=4)
    before = weights(state)
    with pytest.raises(MemoryError) as raised:
        take(state, small.run_config(tmp_path, "training.micro_batch=4"))
    assert str(raised.value) == (
        "4 sequences of 16 tokens do not fit into memory at once (CUDA out of memory. Tried to "
        "allocate 1 GiB.); set training.micro_batch = 'auto' or a smaller number than that, "
        "training.recompute = 'blocks', or a smaller model.context"
    )
    assert torch.equal(weights(state), before)


def test_one_sequence_that_does_not_fit_ends_the_halving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    memory = Scarce(monkeypatch, most=0)
    with pytest.raises(MemoryError, match="a sequence of 16 tokens does not fit") as raised:
        take(fresh(micro_batch=4), automatic(tmp_path))
    assert memory.sizes == [4, 2, 1]
    assert "training.micro_batch" not in str(raised.value)  # it can get no smaller


def test_an_update_that_does_not_fit_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    n_tries = []

    def update(*_: Any, **__: Any) -> None:
        n_tries.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    state = fresh(micro_batch=4)
    monkeypatch.setattr(state.optimizer, "step", update)
    with pytest.raises(MemoryError, match="resume it from its newest checkpoint"):
        take(state, automatic(tmp_path))
    assert len(n_tries) == 1
    assert (state.step, state.micro_batch) == (0, 4)


def broken(monkeypatch: pytest.MonkeyPatch, *, loss: float = 1.0, gradient: float = 1.0) -> None:
    """Multiply the loss, or the gradient alone, of each step."""
    whole, measure = step.next_token_loss, step.measure_gradient

    def measured(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        norm, divisor = measure(*arguments)
        return norm * gradient, divisor

    def multiplied(*arguments: Any, **named: Any) -> torch.Tensor:
        return whole(*arguments, **named) * loss

    monkeypatch.setattr(step, "next_token_loss", multiplied)
    monkeypatch.setattr(step, "measure_gradient", measured)


@pytest.mark.parametrize("policy", ["stop", "skip", "rewind"])
@pytest.mark.parametrize(("loss", "gradient"), [(math.nan, 1.0), (1.0, math.inf)])
def test_a_step_without_numbers_moves_nothing_and_names_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, loss: float, gradient: float
):
    broken(monkeypatch, loss=loss, gradient=gradient)
    state = fresh()
    state.left_out, before = [0], weights(state)
    metrics, action = take(state, small.run_config(tmp_path, f"policies.not_finite={policy}"))
    assert action == metrics["action"] == policy
    assert metrics["event"] == "not_finite"
    assert (metrics["batch"], metrics["sample_ids"]) == (1, [4, 5, 6, 7])
    assert "nan" in metrics["found"] or "inf" in metrics["found"]
    assert not metrics.keys() & {"loss", "gradient_norm"}
    assert torch.equal(weights(state), before)
    assert state.step == (1 if policy == "skip" else 0)
    assert state.recent_losses == []


@pytest.mark.parametrize("policy", ["flag", "skip", "rewind"])
def test_a_spike_is_flagged_and_only_learned_from_where_that_is_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
):
    broken(monkeypatch, loss=10.0)
    state = fresh()
    state.recent_losses, before = [4.0] * 11, weights(state)
    metrics, action = take(state, small.run_config(tmp_path, f"policies.spike={policy}"))
    assert metrics["event"] == "spike"
    if policy == "rewind":
        assert "loss" not in metrics  # of a step that was not taken: no part of a curve
    else:
        assert metrics["loss"] > 20
    assert metrics["found"].startswith("loss 4")
    assert action == ("take" if policy == "flag" else policy)
    assert torch.equal(weights(state), before) is (policy != "flag")
    assert state.step == (0 if policy == "rewind" else 1)
    assert len(state.recent_losses) == (12 if policy == "flag" else 11)


@pytest.mark.parametrize(("n_rewinds", "expected"), [(1, "rewind"), (2, "stop")])
def test_a_run_goes_back_only_so_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_rewinds: int, expected: str
):
    broken(monkeypatch, loss=math.nan)
    state = fresh()
    state.left_out = list(range(n_rewinds))
    policies = ["policies.not_finite=rewind", "policies.most_rewinds=2"]
    assert take(state, small.run_config(tmp_path, *policies))[1] == expected


def test_an_overflow_is_the_loss_scales_fault_until_it_cannot_fall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    broken(monkeypatch, gradient=math.inf)
    state = fresh(scale=LossScale(4.0))
    config = small.run_config(tmp_path, "policies.not_finite=stop")
    found = [take(state, config) for _ in range(3)]
    assert [action for _, action in found] == ["skip", "skip", "stop"]
    assert [metrics["event"] for metrics, _ in found] == ["overflow", "overflow", "not_finite"]
    assert state.loss_scale.value == 1.0
    assert state.step == 2


def test_a_loss_that_is_no_number_is_not_the_loss_scales_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    broken(monkeypatch, loss=math.nan)
    state = fresh(scale=LossScale(4.0))
    metrics, action = take(state, small.run_config(tmp_path))
    assert (action, metrics["event"], state.loss_scale.value) == ("stop", "not_finite", 4.0)


class Seen:
    """What a loop did, in order."""

    def __init__(self, stop: StopRequest | None = None) -> None:
        self.stop = stop or StopRequest()
        self.records: list[dict[str, Any]] = []
        self.saved: list[int] = []
        self.waited_at: list[int] = []
        self.measured: list[int] = []
        self.lacks_memory: Callable[[], bool] = lambda: False

    def run(self, state: TrainingState, config: RunConfig, loader: Any = None) -> None:
        seen = self

        class Measure:
            name = "evaluate"
            every_steps = config.evaluation.every_steps

            def __call__(self, state: TrainingState) -> dict[str, Any]:
                if seen.stop.requested:
                    return {}  # broken off
                if seen.lacks_memory():
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                seen.measured.append(state.step)
                state.validation_loss = 1.0
                return {"validation_loss": 1.0}

        class Save:
            name = "save"
            every_steps = config.checkpoints.every_steps

            def __call__(self, state: TrainingState) -> dict[str, Any]:
                seen.saved.append(state.step)
                return {}

            def wait(self) -> None:
                seen.waited_at.append(seen.saved[-1])

        run_loop(
            state,
            config,
            loader or Batches(),  # type: ignore[arg-type]
            actions=[Measure()],
            save=Save(),
            rewind=lambda _: None,
            record=self.records.append,
            on_progress=nobody,
            stop=self.stop,
            step_flops=1_000_000,
            peak_flops=1e9,
        )


def test_each_step_is_recorded_and_the_actions_have_their_turns(tmp_path: Path):
    seen = Seen()
    seen.run(fresh(), small.run_config(tmp_path, "training.n_steps=5"))
    assert [record["step"] for record in seen.records] == [0, 1, 2, 3, 4, 5]
    assert seen.measured == [0, 3, 5]
    assert seen.saved == [2, 4, 5]


class Recorded:
    """A recorded step that holds memory until it is asked for it."""

    def __init__(self, state: TrainingState) -> None:
        self.state = state
        self.holds = True

    def __call__(self, batch: Batch, **settings: Any) -> torch.Tensor:
        return step.training_step(self.state.model, self.state.optimizer, batch, **settings)

    def give_back(self) -> bool:
        held, self.holds = self.holds, False
        return held


def test_a_recorded_step_gives_its_memory_to_an_action_that_lacks_some(tmp_path: Path):
    seen, state = Seen(), fresh()
    recorded = Recorded(state)
    state.recorded = recorded  # type: ignore[assignment]
    seen.lacks_memory = lambda: recorded.holds and state.step > 0
    seen.run(state, small.run_config(tmp_path, "training.n_steps=5"))
    assert not recorded.holds
    assert seen.measured == [0, 3, 5]
    assert len(seen.records) == 6


@pytest.mark.parametrize("is_recorded", [True, False])
def test_an_action_without_memory_ends_the_run_where_there_is_none_to_give(
    tmp_path: Path, is_recorded: bool
):
    seen, state = Seen(), fresh()
    if is_recorded:
        recorded = Recorded(state)
        recorded.give_back()
        state.recorded = recorded  # type: ignore[assignment]
    seen.lacks_memory = lambda: True
    with pytest.raises(torch.OutOfMemoryError):
        seen.run(state, small.run_config(tmp_path))


def test_the_share_of_the_peak_is_the_work_over_the_time(tmp_path: Path):
    seen = Seen()
    seen.run(fresh(), small.run_config(tmp_path))
    for record in seen.records[1:]:
        assert record["mfu"] == pytest.approx(1e6 / record["step_seconds"] / 1e9, abs=1e-4)


def test_a_request_to_stop_is_heard_while_waiting_for_data(tmp_path: Path):
    seen = Seen()

    class Never(Batches):
        def batch(self, number: int, *, is_stopped: Any = None) -> Batch:
            if number < 2:
                return super().batch(number)
            assert not is_stopped()
            seen.stop.signal_number = 15
            assert is_stopped()
            raise StoppedWaiting

    with pytest.raises(Interrupted, match="stopped after step 2") as raised:
        seen.run(fresh(), small.run_config(tmp_path, "checkpoints.every_steps=50"), Never())
    assert raised.value.signal_number == 15
    assert seen.saved == [2]
    assert seen.waited_at == [2]  # it is on the disk before anyone says so


def test_a_request_in_the_last_evaluation_is_no_finished_run(tmp_path: Path):
    """The evaluation is made up for when the run goes on, and not a second time."""
    config, state = small.run_config(tmp_path, "training.n_steps=3"), fresh()
    seen = Seen()

    class Third(Batches):
        def batch(self, number: int, *, is_stopped: Any = None) -> Batch:
            if number == 2:
                seen.stop.signal_number = 15
            return super().batch(number)

    with pytest.raises(Interrupted, match="stopped after step 3"):
        seen.run(state, config, Third())
    assert seen.measured == [0]
    later = Seen()
    later.run(state, config)
    assert later.records == [{"step": 3, "validation_loss": 1.0}]
    again = Seen()
    again.run(state, config)
    assert again.records == []


def test_a_run_that_may_go_back_is_saved_before_its_first_step(tmp_path: Path):
    seen = Seen()
    seen.run(fresh(), small.run_config(tmp_path, "policies.spike=rewind"))
    assert seen.saved == [0, 2, 4, 6]


def test_the_message_of_a_stop_names_the_policy_that_would_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    broken(monkeypatch, loss=math.nan)
    for changes, advice in (
        ([], "policies.not_finite = 'skip' or 'rewind' leaves such batches out"),
        (
            ["policies.not_finite=rewind", "policies.most_rewinds=0"],
            "a larger policies.most_rewinds than 0 leaves such batches out",
        ),
    ):
        seen = Seen()
        with pytest.raises(FloatingPointError, match=advice) as raised:
            seen.run(fresh(), small.run_config(tmp_path, *changes))
        assert "step 1 has loss nan and gradient norm nan, so it was not taken" in str(raised.value)
        assert seen.saved[-1] == 0
        assert seen.records[-1]["event"] == "not_finite"


def test_the_loop_says_what_dropout_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seeds: list[int | None] = []
    whole = module.training_step

    def watched(*arguments: Any, **named: Any) -> Any:
        seeds.append(named["dropout_seed"])
        return whole(*arguments, **named)

    monkeypatch.setattr(module, "training_step", watched)
    config = small.run_config(tmp_path, "model.dropout=0.1")
    for changed in (config, config, dataclasses.replace(config, seed=7)):
        state = fresh()
        take(state, changed)
        take(state, changed)
    assert seeds[:2] == seeds[2:4]  # the seed and the step
    assert len(set(seeds)) == 4
    take(fresh(), small.run_config(tmp_path))
    assert seeds[-1] is None


# Looking ahead


class Broken:
    """A loss that is multiplied at some of the batches, told by their first row."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, factors: dict[int, float]) -> None:
        whole = step.next_token_loss
        rows = {number: tuple(Batches().batch(number).inputs[0].tolist()) for number in factors}
        by_row = {rows[number]: factor for number, factor in factors.items()}

        def multiplied(model: Any, inputs: torch.Tensor, *others: Any, **named: Any) -> Any:
            factor = by_row.get(tuple(inputs[0].tolist()), 1.0)
            return whole(model, inputs, *others, **named) * factor

        monkeypatch.setattr(step, "next_token_loss", multiplied)


def timeless(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records without what no two runs have in common."""
    vague = ("seconds", "step_seconds", "data_seconds", "tokens_per_second", "mfu", "memory_bytes")
    return [{k: v for k, v in record.items() if k not in vague} for record in records]


def both_ways(config: RunConfig, *, average: bool = False) -> list[tuple[Any, ...]]:
    """What a run comes to with one step after the other, and with one started ahead."""
    found = []
    for looks_ahead in (False, True):
        state, seen = fresh(micro_batch=4), Seen()
        state.looks_ahead = looks_ahead
        state.average = Average(state.model, 0.5) if average else None
        error = None
        try:
            seen.run(state, config)
        except FloatingPointError as raised:
            error = str(raised)
        kept = [] if state.average is None else [*state.average.weights.values()]
        tensors = [*state.model.parameters(), *state.optimizer.named_state().values(), *kept]
        numbers = [tensor.tolist() for tensor in tensors]
        found.append((error, timeless(seen.records), seen.saved, seen.measured, numbers))
    return found


@pytest.mark.parametrize(
    ("policies", "factors"),
    [
        ([], {}),
        (["not_finite=stop"], {5: math.nan}),
        (["not_finite=skip"], {5: math.nan}),
        (["not_finite=skip"], {4: math.inf, 5: math.nan, 7: math.nan}),
        (["spike=skip", "spike_window=5"], {6: 20.0, 7: 20.0, 11: 20.0}),
        (["spike=flag", "spike_window=5"], {6: 20.0}),
    ],
    ids=str,
)
def test_looking_ahead_changes_no_number(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    policies: list[str],
    factors: dict[int, float],
):
    Broken(monkeypatch, factors)
    config = small.run_config(
        tmp_path,
        "training.n_steps=14",
        "checkpoints.every_steps=9",
        "evaluation.every_steps=50",
        *(f"policies.{policy}" for policy in policies),
    )
    one, ahead = both_ways(config, average=True)
    assert ahead == one
    events = [record["step"] for record in one[1] if "event" in record]
    assert events == [number + 1 for number in factors]


def test_a_step_ahead_is_given_up_where_the_run_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Broken(monkeypatch, {3: math.nan})
    state = fresh(micro_batch=4)
    state.looks_ahead = True
    config = small.run_config(tmp_path, "training.n_steps=20", "policies.not_finite=rewind")
    for expected in (1, 2, 3):
        take_step(state, config, Batches(), is_followed=True)  # type: ignore[arg-type]
        assert state.step == expected
        assert state.ahead is not None
    before = weights(state)
    metrics, action = take_step(state, config, Batches(), is_followed=True)  # type: ignore[arg-type]
    assert (action, metrics["batch"]) == ("rewind", 3)
    assert state.ahead is None
    assert torch.equal(weights(state), before)
    assert state.gate == 0


def test_steps_are_started_ahead_except_before_what_reads_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen_ahead: list[tuple[int, bool]] = []
    whole = loop.take_step

    def watched(state: TrainingState, *arguments: Any, **named: Any) -> Any:
        found = whole(state, *arguments, **named)
        seen_ahead.append((state.step, state.ahead is not None))
        return found

    monkeypatch.setattr(loop, "take_step", watched)
    state = fresh()
    state.looks_ahead = True
    config = small.run_config(
        tmp_path, "training.n_steps=8", "checkpoints.every_steps=4", "evaluation.every_steps=3"
    )
    Seen().run(state, config)
    assert dict(seen_ahead) == {
        1: True, 2: True, 3: False, 4: False, 5: True, 6: False, 7: True, 8: False,
    }  # fmt: skip


def undisturbed(tmp_path: Path) -> RunConfig:
    """A run of nine steps with nothing to do in between."""
    rare = ("checkpoints.every_steps=50", "evaluation.every_steps=50")
    return small.run_config(tmp_path, "training.n_steps=9", *rare)


def test_the_newest_loss_is_not_yet_part_of_what_makes_a_spike(tmp_path: Path):
    """It is not known while a step is started ahead, and what comes out must not depend on that."""
    state = fresh()
    state.recent_losses = [1.0, 1.0, 1.0, 50.0, 50.0, 50.0]
    metrics, _ = take(state, small.run_config(tmp_path, "policies.spike_window=5"))
    assert metrics["event"] == "spike"


def test_a_request_to_stop_waits_for_the_step_ahead(tmp_path: Path):
    state, seen = fresh(), Seen()
    state.looks_ahead = True

    class Third(Batches):
        def batch(self, number: int, *, is_stopped: Any = None) -> Batch:
            if number == 2:
                seen.stop.signal_number = 15  # while the second step is on its way
            return super().batch(number)

    with pytest.raises(Interrupted, match="stopped after step 3"):
        seen.run(state, undisturbed(tmp_path), Third())
    assert [record["step"] for record in seen.records] == [0, 1, 2, 3]
    assert seen.saved[-1] == 3
    assert state.ahead is None


def test_the_steps_of_a_run_that_looks_ahead_add_up_to_its_time(tmp_path: Path):
    state, seen = fresh(), Seen()
    state.looks_ahead = True
    began = time.perf_counter()
    seen.run(state, small.run_config(tmp_path, "training.n_steps=12"), Batches(0.02))
    taken = time.perf_counter() - began
    total = sum(record["step_seconds"] for record in seen.records[1:])
    assert 12 * 0.02 < total <= taken
    assert seen.records[-1]["seconds"] == pytest.approx(total, abs=1e-2)
