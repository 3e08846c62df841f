from pathlib import Path

import pytest

import small
from modelwright.config.differences import differences
from modelwright.training.same_run import require_same_run

run = Path("runs/mine")


def change(tmp_path: Path, *settings: str, before: tuple[str, ...] = ()) -> None:
    changes = differences(
        small.run_config(tmp_path, *before), small.run_config(tmp_path, *settings)
    )
    assert changes
    require_same_run(run, changes)


@pytest.mark.parametrize(
    "setting",
    [
        "training.n_steps=9",
        "schedule.peak_lr=0.1",
        "training.micro_batch=4",
        "training.precision=bf16",
        "training.recompute=blocks",
        "optimizer.weight_decay=0.2",
        "policies.not_finite=skip",
        "evaluation.every_steps=9",
        "checkpoints.keep=9",
        "model.dropout=0.1",
        "data.folder=elsewhere",
    ],
)
def test_what_leaves_model_and_text_as_they_are_may_change(tmp_path: Path, setting: str):
    change(tmp_path, setting)


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("seed=2", "seed: 1 → 2"),
        ("data.stories_seed=5", "data.stories_seed: "),
        ("data.validation_fraction=0.2", "data.validation_fraction: 0.1 → 0.2"),
        ("tokenizer.vocab_size=301", "tokenizer.vocab_size: 300 → 301"),
        ("model.d_model=32", "model.d_model: 16 → 32"),
        ("model.norm=layernorm", 'model.norm: "rmsnorm" → "layernorm"'),
        ("initial.rule=gpt2", 'initial.rule: "small" → "gpt2"'),
        ("optimizer.kind=sgd", 'optimizer.kind: "adamw" → "sgd"'),
        ("training.batch_tokens=128", "training.batch_tokens: 64 → 128"),
        ("training.cut=packed", 'training.cut: "contiguous" → "packed"'),
        ("training.init_from=other", 'training.init_from: left out → "other"'),
        ("training.average_decay=0.9", "training.average_decay: 0.0 → 0.9"),
    ],
)
def test_what_would_have_made_another_run_is_refused_and_shown(
    tmp_path: Path, setting: str, shown: str
):
    with pytest.raises(ValueError, match="cannot go on with other settings") as raised:
        change(tmp_path, setting, "training.n_steps=9")
    assert shown in str(raised.value)
    assert "n_steps" not in str(raised.value)
    assert "--set training.init_from=runs/mine --out NEW" in str(raised.value)


def test_an_average_that_is_kept_may_change_its_decay(tmp_path: Path):
    kept = ("training.average_decay=0.9",)
    change(tmp_path, "training.average_decay=0.99", before=kept)
    with pytest.raises(ValueError, match=r"training.average_decay: 0.9 → 0.0"):
        change(tmp_path, "training.average_decay=0.0", before=kept)


def test_every_refused_change_is_listed(tmp_path: Path):
    with pytest.raises(ValueError) as raised:
        change(tmp_path, "seed=2", "model.d_model=32", "training.cut=packed")
    for name in ("seed", "model.d_model", "training.cut"):
        assert f"{name}: " in str(raised.value)
