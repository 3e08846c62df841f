from typing import Any

import pytest

import small
from modelwright.config.loading import load_settings
from modelwright.training.assembly import set_way_of_working
from modelwright.training.config import (
    CheckpointsConfig,
    EvaluationConfig,
    RunConfig,
    SamplesConfig,
    TasksConfig,
    TrainingConfig,
)


def test_no_limit_of_validation_tokens_is_a_setting():
    assert EvaluationConfig(n_tokens=0).n_tokens == 0


@pytest.mark.parametrize(
    ("cls", "wrong", "message"),
    [
        (EvaluationConfig, {"every_steps": 0}, "evaluation.every_steps is 0; the least is 1"),
        (EvaluationConfig, {"n_tokens": -1}, "n_tokens is -1; the least is 1, and 0 reads all"),
        (TrainingConfig, {"n_steps": 0}, "training.n_steps is 0; the least is 1"),
        (TrainingConfig, {"batch_tokens": 0}, "training.batch_tokens is 0; the least is 1"),
        (TrainingConfig, {"recompute_every": 0}, "training.recompute_every is 0; the least is 1"),
        (TrainingConfig, {"micro_batch": 0}, "micro_batch is 0; the least is 1, or 'auto'"),
        (TrainingConfig, {"loss_chunk": 0}, "loss_chunk is 0; the least is 1, or 'auto'"),
        (TrainingConfig, {"average_decay": 1.0}, "average_decay is 1.0; choose a number from 0"),
        (TrainingConfig, {"average_decay": -0.1}, "average_decay is -0.1; choose a number from 0"),
        (SamplesConfig, {"max_tokens": 0}, "samples.max_tokens is 0; the least is 1"),
        (TasksConfig, {"every_steps": 0}, "tasks.every_steps is 0; the least is 1"),
        (TasksConfig, {"limit": 1}, "tasks.limit is 1; the least is 2"),
        (TasksConfig, {"names": ("copa",)}, "names is copa, but tasks.data names no folder"),
        (TasksConfig, {"names": ("copa", "copa"), "data": "x"}, "lists a task twice: copa, copa"),
        (TasksConfig, {"names": ("all",), "data": "x"}, "tasks.names names all, .* wsc273$"),
        (CheckpointsConfig, {"keep": 0}, "checkpoints.keep is 0; the least is 1"),
        (CheckpointsConfig, {"every_steps": 0}, "checkpoints.every_steps is 0; the least is 1"),
    ],
)
def test_settings_out_of_range_are_refused(cls: Any, wrong: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        cls(**wrong)


def test_a_batch_is_a_whole_number_of_contexts():
    with pytest.raises(ValueError, match="the nearest that is, is 1024"):
        RunConfig(training=TrainingConfig(batch_tokens=1000))
    config = RunConfig(training=TrainingConfig(batch_tokens=1024, n_steps=7))
    assert (config.batch_size, config.n_tokens) == (4, 7 * 1024)


def test_forgetting_in_every_second_block_needs_something_to_forget():
    with pytest.raises(
        ValueError, match=r"recompute_every is 2, but training\.recompute is 'none'"
    ):
        TrainingConfig(recompute_every=2)
    assert TrainingConfig(recompute_every=2, recompute="blocks").recompute_every == 2


@pytest.mark.parametrize(("setting", "expected"), [("auto", None), (1, 1), (96, 96)])
def test_the_chunk_of_the_loss_reaches_the_model(setting: Any, expected: int | None):
    model = small.model()
    config = RunConfig(training=TrainingConfig(loss_chunk=setting))
    set_way_of_working(model, config, in_lanes=False, is_compiled=False)
    assert model.loss_chunk == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["base_width=0"], "base_width is 0; choose the width"),
        (["base_width=64", "optimizer.kind=sgd"], "choose optimizer.kind = 'adamw' or 'muon'"),
        (["base_width=64", "model.norm=none"], "choose model.tie_embeddings = false"),
        (["base_width=64", "model.placement=post"], "choose model.tie_embeddings = false"),
    ],
)
def test_a_base_width_is_refused_where_its_rule_does_not_hold(changes, message):
    with pytest.raises(ValueError, match=message):
        load_settings(RunConfig, None, changes)


def test_the_ratio_of_widths_is_one_without_a_base_width():
    assert RunConfig().width_ratio == 1.0
    config = load_settings(RunConfig, None, ["base_width=64", "model.d_model=256"]).config
    assert config.width_ratio == 0.25
