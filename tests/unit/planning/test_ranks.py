import dataclasses
import json
from functools import cache

import numpy as np
import pytest

from modelwright.accounting.hardware import Device, device_named
from modelwright.accounting.parameters import tensor_counts
from modelwright.accounting.sharing import Sharing, Stage, sharing_units, state_bytes, tensor_part
from modelwright.accounting.trace import Trace
from modelwright.config.loading import load_settings
from modelwright.planning import ranks
from modelwright.planning.fit import outside_bytes
from modelwright.planning.plan import make_plan
from modelwright.planning.rank_memory import Lines, rank_lines, unit_runs
from modelwright.planning.ranks import (
    RankPlan,
    fewest_gpus,
    fewest_line,
    make_ranks,
    numbers_of_gpus,
    plan_ranks,
    render_ranks,
    ruled_out,
    ways,
)
from modelwright.planning.site import first_site, planned_shape
from modelwright.planning.step import trace_step
from modelwright.training.config import RunConfig

h100 = device_named("h100")
stages: tuple[Stage, ...] = (0, 1, 2, 3)
followed_once = cache(trace_step)


@pytest.fixture(autouse=True)
def follow_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests look at the same few portions again and again."""
    monkeypatch.setattr(ranks, "trace_step", followed_once)


def config(*overrides: str) -> RunConfig:
    plain = ("model.preset=laptop", "model.context=64", "training.batch_tokens=1024")
    plain += ("training.compile=false", "tokenizer.vocab_size=300")
    plain += ("model.tie_embeddings=false", "model.n_layers=3")
    return load_settings(RunConfig, None, [*plain, *overrides]).config


def with_room(n_bytes: int) -> Device:
    """An H100 that has so much for tensors."""
    whole = n_bytes + outside_bytes(h100)
    return dataclasses.replace(h100, reported_bytes=whole)


@cache
def portion(tied: bool = False, precision: str = "auto") -> tuple[Trace, RunConfig]:
    """The trace of two sequences."""
    tie = f"model.tie_embeddings={str(tied).lower()}"
    run = config(tie, "training.batch_tokens=128", f"training.precision={precision}")
    site = dataclasses.replace(first_site(run, h100), micro_batch=2)
    return trace_step(run, planned_shape(run)[0], site).trace, run


def lines(stage: Stage, *, n_ranks: int = 3, n_portions: int = 1, tied: bool = False) -> Lines:
    trace, run = portion(tied)
    return rank_lines(
        trace,
        planned_shape(run)[0],
        Sharing(stage=stage, n_ranks=n_ranks),
        n_portions=n_portions,
        batch_bytes=1000,
        rounding=512,
    )


def shared(stage: Stage, n_ranks: int = 3) -> dict[str, int]:
    shapes = [one.shape for one in tensor_counts(planned_shape(portion()[1])[0])]
    return state_bytes(shapes, Sharing(stage=stage, n_ranks=n_ranks), rounding=512)


def test_a_rank_alone_holds_what_the_trace_does():
    trace, _ = portion()
    found, expected = lines(0, n_ranks=1), trace.timeline()
    assert found.pop("batches").tolist() == [1000] * len(trace.operations)
    expected.pop("batches")
    assert found.keys() == expected.keys()
    for kind, line in expected.items():
        assert np.array_equal(found[kind], line), kind


@pytest.mark.parametrize("micro_batch, compiled", [(16, False), (4, False), (4, True)])
def test_one_gpu_takes_what_its_own_plan_says(micro_batch: int, compiled: bool):
    run = config(f"training.micro_batch={micro_batch}", f"training.compile={str(compiled).lower()}")
    (alone,) = plan_ranks(run, h100, 1)
    whole = make_plan(run, h100).memory
    # A plan follows two portions and holds the first one's loss too.
    assert 0 <= whole.peak_bytes - alone.peak_bytes <= 512
    assert alone.needed_bytes + whole.peak_bytes == whole.needed_bytes + alone.peak_bytes
    assert (alone.sent_bytes, alone.phase) == (0, whole.phase)


@pytest.mark.parametrize("stage", stages)
def test_what_lasts_is_the_share_of_the_closed_form(stage: Stage):
    trace, _ = portion()
    found, expected = lines(stage), shared(stage)
    tables = sum(
        held.n_bytes
        for held in trace.storages
        if held.kind == "weights" and held.dtype.itemsize == 8
    )
    count_of_steps = 512
    assert set(found["weights"]) == {expected["weights"] + tables}
    assert set(found["optimizer"]) == {expected["optimizer"] + count_of_steps}
    assert found["gradients"][-1] == expected["gradients"]


@pytest.mark.parametrize("stage", stages)
def test_gradients_are_there_from_the_second_portion_on(stage: Stage):
    later = lines(stage, n_portions=2)["gradients"]
    assert later[0] == later.min() == shared(stage)["gradients"]
    first = lines(stage, n_portions=1)["gradients"]
    assert first[0] == (shared(stage)["gradients"] if stage < 2 else 0)


def test_a_new_gradient_is_copied_to_its_bucket():
    trace, _ = portion()
    added = lines(0)["temporaries"] - trace.timeline()["temporaries"]
    largest = max(held.n_bytes for held in trace.storages if held.kind == "gradients")
    assert added.max() == largest
    assert added[-1] == 0


def test_a_units_gradients_are_whole_until_it_is_done():
    trace, run = portion()
    shape = planned_shape(run)[0]
    _, _, block, _, outside = sharing_units(shape)
    found = lines(2, n_portions=2)
    (back,) = (
        one
        for one in unit_runs(trace, sharing_units(shape))
        if (one.unit.name, one.phase) == (block.name, "backward")
    )
    alone = Sharing(stage=0, n_ranks=1)
    whole = state_bytes(block.shapes, alone, rounding=512)["gradients"]
    # Those of what is outside are there already, until the end.
    shares = shared(2)["gradients"]
    shares += state_bytes(outside.shapes, alone, rounding=512)["gradients"]
    assert found["gradients"][back.end - 1] == shares + whole
    assert found["gradients"][back.end] < shares + whole
    # Then they are in the buffer, until the next block is done.
    assert found["reduced"][back.end] == block.padded_bytes(3)
    assert "reduced" not in lines(1)


def test_each_unit_is_gathered_at_work_and_one_buffer_more():
    trace, run = portion()
    units = {unit.name: unit for unit in sharing_units(planned_shape(run)[0])}
    gathered = lines(3)["gathered"]
    runs = {
        (one.unit.name, one.phase): gathered[one.start : one.end]
        for one in unit_runs(trace, list(units.values()))
    }

    def expect(name: str, phase: str, whole: int, buffer: str = "") -> None:
        more = units[buffer].padded_bytes(3) if buffer else 0
        assert set(runs[name, phase]) == {whole + more}, (name, phase)

    embedding, block, outside = (
        units[name].whole_bytes for name in ("embedding", "blocks.1", "outside")
    )
    expect("embedding", "forward", outside + embedding, "embedding")
    expect("blocks.1", "forward", outside + block, "blocks.1")
    expect("outside", "forward", outside)
    expect("outside", "loss", outside)
    expect("outside", "backward", outside, "blocks.2")
    expect("blocks.1", "backward", outside + block, "blocks.0")
    expect("blocks.0", "backward", outside + block, "embedding")
    expect("embedding", "backward", outside + embedding)
    assert gathered[-1] == 0
    assert "gathered" not in lines(2)


def test_a_shared_token_matrix_stays_gathered():
    trace, run = portion(tied=True)
    block, *_, outside = sharing_units(planned_shape(run)[0])
    gathered = lines(3, tied=True)["gathered"]
    at_work = [
        number
        for number, operation in enumerate(trace.operations)
        if operation.phase in ("forward", "loss", "backward")
    ]
    assert gathered[at_work].min() == outside.whole_bytes
    assert gathered[0] == outside.whole_bytes + outside.padded_bytes(3)
    assert gathered.max() == outside.whole_bytes + max(
        outside.padded_bytes(3), block.whole_bytes + block.padded_bytes(3)
    )
    assert gathered[-1] == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_embedding_is_at_work_at_the_very_end(precision: str, tied: bool):
    trace, run = portion(tied, precision=precision)
    *_, before, last = unit_runs(trace, sharing_units(planned_shape(run)[0]))
    assert (before.unit.name, before.phase) == ("blocks.0", "backward")
    assert (last.unit.name, last.phase) == ("outside" if tied else "embedding", "backward")
    assert all(one.phase in ("clip", "update") for one in trace.operations[last.end :])


@pytest.mark.parametrize("n_portions", [1, 4])
def test_each_stage_takes_less_than_the_one_before(n_portions: int):
    run = config(f"training.micro_batch={4 // n_portions}")
    peaks = [plan.peak_bytes for plan in plan_ranks(run, h100, 4)[:4]]
    assert peaks == sorted(peaks, reverse=True)
    assert len(set(peaks)) == 4


def test_the_peak_is_the_fullest_moment_and_its_kinds_make_it_up():
    for plan in plan_ranks(config(), h100, 4):
        assert sum(plan.kinds.values()) == plan.peak_bytes
        assert plan.usable_bytes == h100.usable_bytes
        assert plan.n_portions * plan.micro_batch * (4 // plan.n_tensor) == 16
    data_parallel = plan_ranks(config("training.micro_batch=2"), h100, 8)[0]
    trace, run = portion()
    # The same, from the trace's storages one operation after the other.
    buckets = shared(0)["gradients"]
    found = 0
    back_at = [operation.phase for operation in trace.operations].index("backward")
    for number, operation in enumerate(trace.operations):
        there = operation.scratch + buckets + 4 * 2 * 64 * 16
        for held in trace.held_at(number):
            if held.kind == "gradients":
                # What the loss has made waits for the way back.
                there += held.n_bytes if number <= max(held.born, back_at) else 0
            elif held.kind != "batches":
                there += held.n_bytes
        found = max(found, there)
    assert run.model.context == 64
    assert data_parallel.peak_bytes == found


def test_a_tensor_parallel_rank_is_a_narrower_model():
    run = config("training.micro_batch=4", "training.batch_tokens=256")
    whole, part = (next(p for p in plan_ranks(run, h100, n) if p.n_tensor == n) for n in (1, 2))
    shape = planned_shape(run)[0]
    site = dataclasses.replace(first_site(run, h100), micro_batch=4)
    trace = trace_step(run, tensor_part(shape, 2), site).trace
    assert part.peak_bytes == trace.peak_bytes
    assert whole.peak_bytes / 2 < part.peak_bytes < whole.peak_bytes
    assert (part.micro_batch, part.n_portions) == (4, 1)


def test_ways_begin_with_the_simplest_and_divide_blocks_within_a_machine():
    shape = planned_shape(config())[0]  # of four heads
    names = [way.name for way in ways(shape, 16)]
    assert names == [
        "data parallel",
        "ZeRO-1",
        "ZeRO-2",
        "FSDP",
        "FSDP 4 x tensor 4",
        "FSDP 8 x tensor 2",
    ]
    assert [way.name for way in ways(shape, 4)][4:] == [
        "tensor parallel 4",
        "FSDP 2 x tensor 2",
    ]
    within, evenly = ruled_out(shape, 16)
    assert within.startswith("tensor parallel 16: blocks are divided within a machine only")
    assert evenly.startswith("tensor parallel 8: ")
    assert evenly.endswith("divide evenly among 1, 2, 4")
    assert list(ruled_out(shape, 4)) == []


def room_for(plan: RankPlan) -> Device:
    return with_room(plan.peak_bytes)


@pytest.mark.parametrize("number", [0, 3, 4])
def test_portions_are_halved_until_they_fit_and_no_further(number: int):
    settings = "training.batch_tokens=2048"  # 32 sequences: 8 for each of four ranks
    smaller = plan_ranks(config(settings, "training.micro_batch=2"), h100, 4)[number]
    found = plan_ranks(config(settings), room_for(smaller), 4)[number]
    assert found.fits
    assert (found.micro_batch, found.peak_bytes) == (2, smaller.peak_bytes)


def test_a_search_that_began_with_too_large_portions_goes_back():
    # Recomputing blocks keep so little that the rest grows faster than that.
    settings = ("training.batch_tokens=2048", "training.recompute=blocks")
    (larger,) = plan_ranks(config(*settings, "training.micro_batch=8"), h100, 1)
    (found,) = plan_ranks(config(*settings), with_room(larger.peak_bytes - 1), 1)
    assert (found.fits, found.micro_batch) == (True, 4)


def test_portions_are_whole_where_there_is_room_and_one_where_there_is_none():
    nothing = plan_ranks(config(), with_room(0), 4)
    assert not any(plan.fits for plan in nothing)
    assert {plan.micro_batch for plan in nothing} == {1}
    everything = plan_ranks(config(), h100, 4)
    assert {(plan.micro_batch * 4 // plan.n_tensor, plan.n_portions) for plan in everything} == {
        (16, 1)
    }


@pytest.mark.parametrize("n_gpus, number", [(2, 0), (2, 3), (4, 2)])
def test_the_fewest_gpus_fit_and_fewer_do_not(n_gpus: int, number: int):
    run = config("training.micro_batch=1")
    room = room_for(plan_ranks(run, h100, n_gpus)[number])
    fewest = fewest_gpus(run, room)
    assert fewest is not None
    assert fewest.fits
    for n in (1, 2, 4, 8):  # those that divide the batch
        if n > fewest.n_ranks:
            break
        plans = plan_ranks(run, room, n)
        fitting = [plan for plan in plans if plan.fits]
        if n < fewest.n_ranks:
            assert not fitting
        elif n == fewest.n_ranks:
            assert fitting[0] == fewest


def test_too_few_gpus_are_not_looked_at_and_there_may_be_none():
    run = config()
    found = [fewest_gpus(run, h100, too_few=n) for n in (0, 1, 2)]
    # Three do not divide sixteen sequences, nor the four heads.
    assert [one and one.n_ranks for one in found] == [1, 2, 4]
    assert fewest_gpus(run, with_room(0)) is None


def test_more_gpus_than_a_machine_has_are_powers_of_two():
    assert numbers_of_gpus(8) == numbers_of_gpus(3) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert numbers_of_gpus(100)[8:] == [16, 32, 64]
    assert numbers_of_gpus(1024)[-1] == 1024


def test_time_is_known_within_a_machine_with_links():
    run = config("training.batch_tokens=2048")
    plan = plan_ranks(run, h100, 8)[3]
    assert plan.seconds_at_least == plan.sent_bytes / 450e9
    assert plan_ranks(run, h100, 16)[3].seconds_at_least is None
    assert plan_ranks(run, device_named("l4"), 2)[3].seconds_at_least is None


def test_recomputing_blocks_keep_less_and_send_more_when_they_are_divided():
    usual, again = (
        plan_ranks(config(f"training.recompute={kind}", "training.micro_batch=4"), h100, 4)
        for kind in ("none", "blocks")
    )
    sent = [(a.sent_bytes, b.sent_bytes) for a, b in zip(usual, again, strict=True)]
    assert all(a == b for a, b in sent[:4])
    assert all(a < b for a, b in sent[4:])
    assert again[3].peak_bytes < usual[3].peak_bytes


def test_what_cannot_be_planned_is_an_error_that_says_what_can():
    run = config()
    with pytest.raises(ValueError, match="--gpus is 0; choose a number from 1 to 1024"):
        plan_ranks(run, h100, 0)
    with pytest.raises(ValueError, match="--gpus is 2048"):
        make_ranks(run, h100, 2048)
    with pytest.raises(ValueError, match="name a GPU, such as --on h100"):
        plan_ranks(run, None, 2)
    with pytest.raises(
        ValueError, match=r"1024, which is 16 sequences .* 3 GPUs; the nearest that does, is 960"
    ):
        plan_ranks(run, h100, 3)
    with pytest.raises(ValueError, match="the nearest that does, is 2048"):
        plan_ranks(run, h100, 32)
    plan_ranks(config("training.batch_tokens=960"), h100, 3)


def test_a_table_has_a_line_for_each_way():
    text = render_ranks(make_ranks(config("training.micro_batch=1"), h100, 8))
    head, _, *rows = text.splitlines()
    assert head.startswith("8 x h100: GiB on each")
    assert rows[0].split()[:5] == ["data", "parallel", "2", "x", "1"]
    assert rows[3].split()[:1] == ["FSDP"]
    assert "  simplest that fits: data parallel" in rows
    assert "  one h100 is enough" in rows
    assert rows[-1].startswith("  not possible: tensor parallel 8: ")
    assert max(map(len, text.splitlines())) <= 100


def test_a_table_says_that_nothing_fits_and_where_it_would():
    run = config("training.micro_batch=1")
    nowhere = render_ranks(make_ranks(run, with_room(0), 2))
    assert "none of these ways fits" in nowhere
    assert "fits on no number of GPUs up to 8" in nowhere
    room = room_for(plan_ranks(run, h100, 4)[2])
    fewest = fewest_gpus(run, room)
    assert fewest is not None
    assert fewest.n_ranks > 1
    line = fewest_line(fewest, "h100")
    assert line.startswith(f"on {fewest.n_ranks} x h100 it fits with {fewest.way}: ")


def test_the_plan_is_plain_json():
    made = make_ranks(config(), h100, 4)
    found = json.loads(json.dumps(made.to_json()))
    assert found["n_gpus"] == 4
    assert found["simplest"] == found["plans"][0]["way"] == "data parallel"
    assert found["fewest"]["n_ranks"] == 1
    assert found["plans"][3]["fits"] is True
    assert found["plans"][3]["needed_bytes"] == made.plans[3].needed_bytes
