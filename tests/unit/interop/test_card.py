import json
from pathlib import Path
from typing import Any

import pytest

import saving
from modelwright.checkpoint.bundle import load_bundle
from modelwright.interop.agreement import Agreement
from modelwright.interop.card import in_words, model_card, run_folder_of

agreement = Agreement("transformers 9", 1.2e-6, 6.5, 0.0, 3)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two steps with its records."""
    run = tmp_path / "run"
    for step in (1, 2):
        saving.save(run, step)
    split = {"n_documents": 638, "n_bytes": 390_857, "n_tokens": 158_333}
    facts = {"data": {"train": split}, "machine": {"gpu": None, "processor": "a chip"}}
    write(run / "run.json", facts | {"precision": "bf16"})
    lines: list[dict[str, Any]] = [
        {"step": 1, "loss": 5.5, "n_tokens": 1024, "seconds": 61.0, "validation_loss": 5.25},
        {"step": 2, "loss": 4.5, "n_tokens": 2048, "seconds": 122.0, "validation_loss": 4.25},
        {"step": 3, "loss": 99.0, "n_tokens": 3072, "action": "rewind"},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"st')
    write(run / "plan.json", {"time": {"run_seconds": {"low": 100, "high": 150}, "price_usd": 1.5}})
    compared = [{"name": "parameters", "low": 7, "high": 8, "measured": 7.5}]
    compared += [{"name": "peak memory", "low": 7, "high": 8, "measured": None}]
    write(run / "verify.json", {"comparisons": compared})
    (run / "config.toml").write_text("seed = 1\n")
    return run


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def card_of(folder: Path) -> str:
    return model_card(
        load_bundle(folder), "tiny", dtype="bf16", family="llama", agreement=agreement
    )


def test_a_card_tells_what_the_run_recorded(run: Path):
    card = card_of(run / "checkpoints" / "step-000002")
    for line in (
        "# tiny",
        "| d_model | 24 |",
        "| train | 638 | 390,857 | 158,333 |",
        "| tokens seen | 2,048 |",
        "| training loss | 4.5000 nats a token |",
        "| validation loss | 4.2500 nats a token at step 2 |",
        "| time | 122 s |",
        "| machine | a chip |",
        "| seconds | 100 to 150 |",
        "| price in US dollars | 1.5 |",
        "| parameters | 7 | 8 | 7.5 |",
        "seed = 1",
        "transformers 9 gives our logits to within 1.2e-06 on 3 random sequences",
    ):
        assert line in card, line
    assert "99" not in card
    assert "peak memory" not in card


def test_the_losses_are_those_of_the_step_that_is_exported(run: Path):
    card = card_of(run / "checkpoints" / "step-000001")
    assert "| training loss | 5.5000 nats a token |" in card
    assert "4.5000" not in card


@pytest.mark.parametrize("damage", [None, "{", "[]"])
def test_without_records_a_card_is_plain(run: Path, damage: str | None):
    for name in ("metrics.jsonl", "plan.json", "verify.json", "config.toml"):
        (run / name).unlink()
        if damage is not None and name != "config.toml":
            (run / name).write_text(damage)
    card = card_of(run / "checkpoints" / "step-000002")
    assert "## Data" in card
    assert not any(title in card for title in ("## Training", "## Plan", "## Config"))


def test_a_model_outside_of_a_run_has_none(run: Path, tmp_path: Path):
    assert run_folder_of(run / "checkpoints" / "step-000002") == run.resolve()
    assert run_folder_of(run) is None
    assert run_folder_of(tmp_path) is None
    alone = tmp_path / "alone"
    (run / "checkpoints" / "step-000002").rename(alone)
    assert "## Data" not in card_of(alone)


def test_rounding_is_told_where_there_is_some():
    assert "fewer bits" not in in_words(agreement)
    rounded = Agreement("transformers 9", 1.2e-6, 6.5, 0.0125, 3)
    assert in_words(rounded).endswith("storing fewer bits moves one by up to 0.013")
