import dataclasses

import pytest

from modelwright.config.loading import load_settings
from modelwright.experiments.coordinates import Coordinates, growth, measure, widened
from modelwright.training.config import RunConfig

base = 16


def run_config(*changes: str) -> RunConfig:
    settings = [
        "model.vocab_size=300",
        "tokenizer.vocab_size=300",
        "model.context=16",
        f"model.d_model={base}",
        "model.n_heads=2",
        "model.n_layers=2",
        "training.batch_tokens=64",
        "schedule.peak_lr=0.01",
    ]
    return load_settings(RunConfig, None, [*settings, *changes]).config


def at_three_widths(config: RunConfig) -> list[Coordinates]:
    return [measure(widened(config, width)) for width in (128, 256, 512)]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("changes", "standard"),
    [
        ([], 0.5),
        (["model.tie_embeddings=false", "model.mlp=gelu", "model.norm=layernorm"], 0.5),
        (["optimizer.kind=muon", "schedule.peak_lr=0.05"], 0.2),
    ],
    ids=["tied", "untied", "muon"],
)
def test_what_blocks_compute_changes_as_much_at_every_width_only_with_the_rule(changes, standard):
    config = run_config(*changes)
    plain = at_three_widths(config)
    ruled = at_three_widths(dataclasses.replace(config, base_width=64))
    for part in ("attention", "mlp"):
        assert growth(plain, part) > standard, part
        # Flat but for what a few draws of small models scatter.
        assert abs(growth(ruled, part)) < 0.2, part


@pytest.mark.usefixtures("one_thread")
def test_logits_do_not_grow_with_the_width_under_the_rule():
    assert growth(at_three_widths(run_config()), "logits") > 0.2
    ruled = dataclasses.replace(run_config(), base_width=64)
    assert growth(at_three_widths(ruled), "logits") < 0.1


def test_a_wider_model_has_more_heads_of_the_same_width():
    wide = widened(run_config("model.n_kv_heads=1", "model.d_ff=48"), 64).model
    assert (wide.n_heads, wide.key_heads, wide.head_width, wide.d_hidden) == (8, 4, 8, 192)
    with pytest.raises(ValueError, match="no whole number of heads of 8; .* is 32"):
        widened(run_config(), 30)
